# A thousand refunds through a gateway that drops a third of its answers, while the worker is killed
# again and again. A number sent a second time without a question before is not forgiven here
# (Payonce::Gateway).
#
# PAYONCE_TEST_SEED repeats a run's random choices.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $refunds = 1000;
my $kills = 6;
my $seed = $ENV{PAYONCE_TEST_SEED} // time;
srand $seed;
note "PAYONCE_TEST_SEED=$seed";

my $wechat = Payonce::Gateway->new('wechat', options => [ '--seed', $seed ]);
my $server = Payonce::TestServer->new('main', settings => { 'payonce.lease' => '1h' });
$server->add_gateway($wechat, max_in_flight => 20);
$server->wait_for_worker;

$wechat->faults(
	{ fault => 'drop_after', probability => 0.33 },
	# So that there is always something in flight.
	{ fault => 'delay', ms => 80, when => 'after' });
$server->pay_twice($wechat, map { "order$_" } 1 .. $refunds);
for (1 .. $kills)
{
	# Each worker is killed some requests after it was seen to run.
	my $worker = $server->worker_pid;
	my $moment = $wechat->wait_for(requests => 0) + int rand 100;
	$wechat->wait_for(requests => $moment);
	$server->crash_process($worker);
	note "killed after $moment requests";
}
cmp_ok($server->sql('SELECT count(*) FROM t_refund WHERE status = 300'),
	'<', $refunds, 'there was work left at the last kill');
$server->wait_for("SELECT count(*) = $refunds FROM t_refund WHERE status = 300",
	'every refund is refunded');
cmp_ok($server->sql("SELECT count(*) FROM t_refund_attempt WHERE verdict = 'lost'"),
	'>=', $kills, 'the kills met requests in flight');

my $ledger = $wechat->summary;
cmp_ok($ledger->{faults}{drop_after}, '>', $refunds / 5, 'many answers were dropped');
is($ledger->{succeeded}, $refunds, 'the gateway paid every refund');
is($ledger->{duplicates}, 0, 'none twice');
is($ledger->{total_refunded}{CNY}, 3200 * $refunds, 'and nothing else');
is($ledger->{max_sent}, 1, 'nothing was sent again that the gateway knew');
$server->judge_ok($wechat);
done_testing();
