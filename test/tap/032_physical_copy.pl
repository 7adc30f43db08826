# A physical copy (a base backup, a snapshot of the disk) that is started beside its original has the
# same identity: it cannot be told from a standby that was promoted, so it would send. What the manual
# says to do keeps it from that; and if nobody did, the gateways know the numbers.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Cluster;
use Payonce::Gateway;
use Payonce::TestServer;

my $wechat = Payonce::Gateway->new('wechat', forgets => 0);
my $original = Payonce::TestServer->new(
	'original',
	settings => {
		wal_level => 'replica',
		max_wal_senders => 5,
		'payonce.request_timeout' => '600s',
	});
$original->add_gateway($wechat);
$original->wait_for_worker;
$original->wait_refunded($original->pay_twice($wechat, 'settled'));
my ($flight) = $original->pay_twice_hanging($wechat, 'flight');
$original->sql("ALTER SERVER wechat OPTIONS (ADD paused 'true')");
my ($queued) = $original->pay_twice($wechat, 'queued');
$original->node->backup('base');

# Once as the manual says, once as it warns.
sub start_copy
{
	my ($name, $dispatch) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init_from_backup($original->node, 'base');
	$node->append_conf('postgresql.conf', "payonce.dispatch = $dispatch");
	$node->start;
	my $copy = Payonce::TestServer->on_node($node);
	$copy->wait_for_worker;
	return $copy;
}

my $careful = start_copy('careful', 'off');
is($careful->sql('SELECT DISTINCT blocked_by FROM payonce_refund_backlog'),
	'payonce.dispatch is off', 'with dispatch off, a copy says why it sends nothing');
$careful->wake_and_wait("ALTER SERVER wechat OPTIONS (SET paused 'false')");
is($wechat->methods($queued), '', 'and sends nothing');
is($careful->refund_status($queued), 0, 'its refund stays queued');
$careful->node->stop;

$wechat->restart;
$wechat->faults();
$original->sql("ALTER SERVER wechat OPTIONS (SET paused 'false')");
$original->wait_refunded($flight, $queued);
is($wechat->methods($queued), 'POST', 'the original sends');

my $careless = start_copy('careless', 'on');
is($careless->sql('SELECT coalesce(payonce_dispatch_blocked_by(), $$nothing$$)'), 'nothing',
	'with dispatch on, a copy takes itself for the original');
$careless->sql("ALTER SERVER wechat OPTIONS (SET paused 'false')");
$careless->wait_refunded($flight, $queued);
like($wechat->methods($flight), qr/ GET$/, 'what the original had sent, it asks about');
is($wechat->methods($queued), 'POST POST', 'what was queued when it was made, it sends again');
is($wechat->refund($queued)->{paid_out_count}, 1, 'and the gateway knows the number');
$careless->node->stop;
$original->judge_ok($wechat);
done_testing();
