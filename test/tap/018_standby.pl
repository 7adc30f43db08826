# A standby answers nothing and sends nothing, until it is promoted. With a synchronous standby that
# does not confirm, nothing is acknowledged and nothing is sent.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $wechat = Payonce::Gateway->new('wechat');
my $primary = Payonce::TestServer->new(
	'primary',
	settings => {
		wal_level => 'replica',
		max_wal_senders => 5,
		hot_standby => 'on',
		'payonce.request_timeout' => '600s',
	});
$primary->add_gateway($wechat);
$primary->wait_for_worker;

my $standby = $primary->add_standby('standby');
my $standby_node = $standby->node;

# --- A standby

my @refund_nos = $primary->pay_twice($wechat, 'settled1', 'settled2');
$primary->wait_refunded(@refund_nos);
$primary->add_orders({ id => 'open', payments => [ [ 'open-1', $wechat ] ] });
my @hanging = $primary->pay_twice_hanging($wechat, 'hang1', 'hang2');
$primary->sql("ALTER SERVER wechat OPTIONS (ADD paused 'true')");
my @queued = $primary->pay_twice($wechat, 'queued1', 'queued2');
$primary->node->wait_for_catchup($standby_node);

for my $call (
	"pay_callback('open-1', true)",
	"pay_callback('settled1-1', true)",
	"pay_callback('open-1', false)",
	"order_close('open')",
	"refund_callback('$hanging[0]', true)",
	"refund_request('settled1-1', 100, 'because')",
	"refund_retry('$queued[0]')",
	"refund_resolve('$queued[0]', true, 'by hand')",
	"payment_resolve('settled1-2', 'accept', 'by hand')",
	'payonce_activate()')
{
	like($standby->sql_error("SELECT $call"), qr/ERROR:  25006:/, "standby: $call");
}
is($standby->sql('SELECT DISTINCT blocked_by FROM payonce_refund_backlog'),
	'this server is a standby', 'standby: the backlog says why it sends nothing');
is($standby->sql('SELECT count(*) FROM payonce_refund_backlog'), '4', 'standby: it shows what waits');
is($standby->sql('SELECT pid, state, blocked_by FROM payonce_stat_worker'), '||this server is a standby',
	'standby: it has no worker');
is($standby->sql("SELECT gateway, depth, in_flight FROM payonce_stat_gateway"), 'wechat|4|0',
	'standby: it shows the gateways');
is($standby->sql('SELECT * FROM payonce_attention'), '', 'standby: and what waits for a person');
is($standby->sql('SELECT * FROM payonce_check()'), '', 'standby: payonce_check() finds nothing');
is($standby->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'payonce%'"), '0',
	'standby: it has no launcher');

# --- Promoted

$primary->node->stop('immediate');
$wechat->restart;
$standby_node->promote;
$standby->wait_for_worker;
$standby->sql("ALTER SERVER wechat OPTIONS (SET paused 'false')");
$standby->wait_refunded(@hanging, @queued);
is($wechat->methods($hanging[0]), 'POST GET POST', 'promoted: it asks about what the primary had sent');
is(scalar(grep { $_->{method} eq 'POST' } $wechat->requests($queued[0])), 1,
	'promoted: what waited is sent once');
$standby->judge_ok($wechat);

# --- A synchronous standby that is down

my $second_node = $standby->add_standby('second')->node;
$standby->make_synchronous('second');
my ($synced) = $standby->pay_twice($wechat, 'synced');
$standby->wait_refunded($synced);
pass('with the standby, refunds are sent');

my ($callback) = $standby->add_double_payments($wechat, 'alone');
$second_node->stop;

# The caller waits for the standby and is cancelled: what is said then.
sub cancelled
{
	my ($sql) = @_;
	my $session = $standby_node->background_psql('shop');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_until(qr/^sent$/m, "\\echo sent\n$sql;\n");
	$standby->wait_for("SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $pid",
		'the caller waits for the standby');
	$standby->sql("SELECT pg_cancel_backend($pid)");
	$session->query('SELECT');
	my $said = $session->{stderr};
	$session->quit;
	return $said;
}

sub worker_waits_for_standby
{
	$standby->wait_for(<<'SQL', 'the worker waits for the standby');
SELECT EXISTS (SELECT FROM pg_stat_activity
  WHERE backend_type = 'payonce worker' AND wait_event = 'SyncRep')
SQL
	return;
}

like(cancelled($callback), qr/WARNING:  canceling wait for synchronous replication/,
	'without the standby pay_callback waits');
like(cancelled($callback), qr/WARNING:  canceling wait for synchronous replication/,
	'also when it is already processed');
is($standby->refund_status('alone-2-R1') =~ /^(0|100)$/ ? 'visible' : 'not visible', 'visible',
	'the refund is visible all the same');

# The worker has seen it, and waits as well.
worker_waits_for_standby();
is($wechat->methods('alone-2-R1'), '', 'the worker sends nothing');

# A worker whose wait is interrupted has committed its claim all the same; the next one must not send
# either.
my $worker = $standby->worker_pid;
$standby->sql("SELECT pg_terminate_backend($worker)");
$standby->wait_for_worker($worker);
worker_waits_for_standby();
$standby->wait_for(<<'SQL', 'the cancelled worker waits on, by itself');
SELECT (state = 'active' AND wait_event = 'Extension') OR NOT pg_cancel_backend(pid)
FROM pg_stat_activity WHERE backend_type = 'payonce worker'
SQL
is($wechat->methods('alone-2-R1'), '', 'interrupted or cancelled, it sends nothing');

$second_node->start;
$standby->wait_refunded('alone-2-R1');
is(scalar(grep { $_->{method} eq 'POST' } $wechat->requests('alone-2-R1')), 1,
	'with the standby it is sent once');
is($standby->callback('alone-2'), 'already_processed', 'and callbacks are answered');

# Fast shutdown does not wait for the standby.
($callback) = $standby->add_double_payments($wechat, 'shutdown');
$second_node->stop;
cancelled($callback);
worker_waits_for_standby();
$standby_node->stop('fast');
pass('a worker that waits for the standby does not hold up a shutdown');
$standby->write_settings(synchronous_standby_names => '');
$standby_node->start;
$standby->wait_refunded('shutdown-2-R1');
$standby->judge_ok($wechat);
done_testing();
