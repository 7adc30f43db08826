# Processes that end in the middle of their work, in every way there is: what was in flight is asked
# about at once by the next worker, and the money leaves once. A lease lasts an hour here, so that
# nothing is found by waiting for its end.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run ();
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $wechat = Payonce::Gateway->new('wechat');
my $server = Payonce::TestServer->new(
	'main',
	settings => { 'payonce.lease' => '1h', 'payonce.request_timeout' => '60s' });
$server->add_gateway($wechat);
$server->wait_for_worker;

# Ends the worker while ten requests are in flight, of which the gateway has carried out five.
sub survives_ok
{
	my ($name, $way, $end) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$wechat->faults(
		{ fault => 'hang', match => "^$name-before", count => 5 },
		{ fault => 'hang_after', match => "^$name-after", count => 5 });
	my @before = $server->pay_twice($wechat, map { "$name-before$_" } 1 .. 5);
	my @after = $server->pay_twice($wechat, map { "$name-after$_" } 1 .. 5);
	$wechat->wait_for(in_flight => 10);
	my $worker = $server->worker_pid;
	$end->($worker);
	$server->wait_for_worker($worker);
	$server->wait_refunded(@before, @after);
	is(join("\n", map { $server->calls($_) } @before),
		join("\n", ('refund lost, query not_found, refund succeeded') x 5),
		"$way: what had not been done was asked about, then sent again");
	is(join("\n", map { $server->calls($_) } @after),
		join("\n", ('refund lost, query succeeded') x 5),
		"$way: what had been done was asked about, and not sent again");
	return;
}

sub end_backend
{
	my ($pid) = @_;
	$server->sql("SELECT pg_terminate_backend($pid)");
	return;
}

# --- The worker

survives_ok('killed', 'kill -9 of the worker', sub { $server->crash_process($_[0]) });
survives_ok('ended', 'pg_terminate_backend of the worker', \&end_backend);

# --- The launcher

my ($launcher, $worker) = ($server->launcher_pid, $server->worker_pid);
end_backend($launcher);
$server->wait_for(<<"SQL", 'there is a new launcher');
SELECT EXISTS (SELECT FROM pg_stat_activity
  WHERE backend_type = 'payonce launcher' AND pid <> $launcher)
SQL
is($server->worker_pid, $worker, 'the worker outlives its launcher');
end_backend($worker);
$server->wait_for_worker($worker);
$server->wait_refunded($server->pay_twice($wechat, 'new-launcher'));
pass('a new launcher takes care of the workers');
survives_ok('launcher', 'kill -9 of the launcher',
	sub { $server->crash_process($server->launcher_pid) });

# --- The server

survives_ok('fast', 'fast restart', sub { $server->node->restart });
# Fewer at a time than there are leases to take over.
$server->write_settings('payonce.batch_size' => 3);
survives_ok(
	'immediate',
	'immediate stop',
	sub { $server->node->stop('immediate'); $server->node->start; });
survives_ok('postmaster', 'kill -9 of the postmaster',
	sub { $server->node->kill9; $server->start_again; });

# --- A backend in the middle of pay_callback

# Does the rest of its work in another connection, which ends with the server's crash.
sub leave
{
	my ($session) = @_;
	eval { $session->quit };
	return;
}

my ($callback) = $server->add_double_payments($wechat, 'uncommitted');
my $session = $server->session;
my $backend = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe("BEGIN; $callback");
$server->crash_process($backend);
leave($session);
is($server->sql("SELECT status FROM t_order_pay WHERE id = 'uncommitted-2'"), 0,
	'kill -9 before the commit: nothing was decided');
is($server->sql($callback), 'duplicate', 'the gateway repeats its callback, and it is decided');
$server->wait_refunded('uncommitted-2-R1');

($callback) = $server->add_double_payments($wechat, 'waiting');
my $holder = $server->session;
$holder->query_safe("BEGIN; SELECT pg_advisory_xact_lock(order_lock_key('waiting'))");
$session = $server->session;
$backend = $session->query_safe('SELECT pg_backend_pid()');
$session->query_until(qr/begun/, "\\echo begun\n$callback;\n");
$server->wait_for("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $backend",
	'pay_callback waits for the order');
$server->crash_process($backend);
leave($_) for $session, $holder;
is($server->sql($callback), 'duplicate', 'kill -9 while it waits for its order: the same');
$server->wait_refunded('waiting-2-R1');

# Eight connections deliver callbacks; one of their backends is killed while they do.
my @stormy = map { "storm$_" } 1 .. 50;
$server->add_orders(
	map { { id => $_, payments => [ [ "$_-1", $wechat ], [ "$_-2", $wechat ] ] } } @stormy);
my $script = "$PostgreSQL::Test::Utils::tmp_check/storm.sql";
append_to_file($script, <<'PGBENCH');
\set order random(1, 50)
\set payment random(1, 2)
SELECT pay_callback(format('storm%s-%s', :order, :payment), true);
PGBENCH
my $pgbench = IPC::Run::start(
	[
		'pgbench', '--no-vacuum', '--client=8', '--time=600', '--file', $script,
		$server->node->connstr($server->database) . ' application_name=storm'
	],
	'>', \my $printed, '2>&1');
$server->wait_for(
	"SELECT count(*) >= 30 FROM t_order WHERE id LIKE 'storm%' AND status = 100", 'it is stormy');
my ($victim) = split /\n/, $server->sql(<<'SQL');
SELECT pid FROM pg_stat_activity WHERE application_name = 'storm' ORDER BY random()
SQL
$server->crash_process($victim);
$pgbench->finish;
$server->sql(join ";\n",
	map { "SELECT pay_callback('$_', true)" } map { ("$_-1", "$_-2") } @stormy);
$server->wait_for(<<'SQL', 'all of the storm is settled');
SELECT count(*) = 50 FROM t_refund WHERE refund_no LIKE 'storm%' AND status = 300
SQL
is($server->sql("SELECT count(*) FROM t_order_pay WHERE id LIKE 'storm%' AND status = 100"), 50,
	'kill -9 in a storm of callbacks: each order has its winner');

$server->judge_ok($wechat);
done_testing();
