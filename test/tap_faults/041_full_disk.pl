# The disk is full: for callbacks, for the worker before it sends, for the worker when the money has
# left, and for the WAL. Nothing is acknowledged that is not recorded, the worker says what is wrong
# and goes on once there is room, and no money leaves twice.
#
# A process is told that by a limit on the size of its files, which ends a write as a full disk does.
# The WAL's files are smaller than the limit, the tables in question are made larger.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../tap/lib";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Payonce::Stories;
use Payonce::TestServer;

my $room_bytes = 2 * 1024 * 1024;
# More than fit into a page.
my $many = 100;

my $gateways = Payonce::Stories::gateways();
my $prompt = $gateways->{prompt};
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => ['--wal-segsize=1']);
my $server = Payonce::TestServer->on_node($node);
$server->write_settings(
	'shared_preload_libraries' => 'payonce',
	'payonce.naptime' => '1s',
	'payonce.retry_delay' => '50ms',
	'restart_after_crash' => 'on',
	'autovacuum' => 'off');
$node->start;
$server->create_database;
Payonce::Stories::prepare($server, $gateways);
$server->wait_for_worker;
my $stories = Payonce::Stories->new($server, $gateways);
$server->wait_refunded($server->pay_twice($prompt, 'before'));

# The soft limit alone, so that it can be lifted again.
sub limit
{
	my ($pid, $bytes) = @_;
	system_or_bail('prlimit', '--pid', $pid, "--fsize=$bytes:");
	return;
}

# Rows that nobody sees: the table is larger than the limit, and gets no further page. They are
# smaller than real ones, so that what they leave of a page is of no use; but a few may fit into the
# last one, so there are always many.
sub fill
{
	my ($table, $columns, $row) = @_;
	$server->sql(<<"SQL");
BEGIN;
ALTER TABLE $table DISABLE TRIGGER USER;
INSERT INTO $table ($columns) SELECT $row FROM generate_series(1, 30000) i;
ROLLBACK;
SQL
	cmp_ok($server->sql("SELECT pg_relation_size('$table')"), '>', $room_bytes, "$table is large");
	return;
}

sub fill_refunds
{
	fill('t_refund', 'refund_no, payment_id, amount, reason, gateway',
		"i, 'before-2', 1, 'late', 'prompt'");
	return;
}

# The calls of these refunds, each way once.
sub calls_of
{
	my %ways = map { $server->calls($_) => 1 } @_;
	return join ' | ', sort keys %ways;
}

sub says_why
{
	my ($what) = @_;
	$server->wait_for(<<'SQL', "$what: it says why");
SELECT bool_or(blocked_by LIKE 'the worker fails: could not extend file%')
FROM payonce_refund_backlog
SQL
	pass("$what: the worker says why");
	return;
}

# --- The worker, when the money has left: first, since its other table is still small

fill('t_refund_attempt',
	'refund_no, gateway, attempt, call, started_at, verdict, applied',
	"'before-2-R1', 'prompt', 100 + i, 'query', now(), 'lost', false");
my $worker = $server->worker_pid;
limit($worker, $room_bytes);
my @unrecorded = $server->pay_twice($prompt, map { "unrecorded$_" } 1 .. $many);
$prompt->wait_for(requests => 1, refund_no => $_) for @unrecorded;
says_why('no room for answers');
$server->wait_for('SELECT kept > 0 AND in_flight = 0 FROM payonce_stat_worker', 'answers are kept');
limit($worker, 'unlimited');
$server->wait_refunded(@unrecorded);
is(calls_of(@unrecorded), 'refund succeeded', 'with room again all are recorded');
is($prompt->methods($unrecorded[-1]), 'POST', 'and the gateway was not asked again');

# --- A callback

my @full = map { "full$_" } 1 .. $many;
my $callbacks = join ";\n", 'BEGIN', $server->add_double_payments($prompt, @full), 'COMMIT';
fill_refunds();
my $session = $node->background_psql('shop', on_error_stop => 0);
my $backend = $session->query_safe('SELECT pg_backend_pid()');
limit($backend, $room_bytes);
$session->query($callbacks);
$session->{stderr} = '';    # as expected
limit($backend, 'unlimited');
like(slurp_file($node->logfile), qr/ERROR: .*could not extend file .*: File too large/,
	'there is no room for the refunds of callbacks');
is($server->sql("SELECT count(*) FROM t_order_pay WHERE id LIKE 'full%-2' AND status <> 0"), 0,
	'nothing of them is recorded');
is($session->query_safe($callbacks), join("\n", ('duplicate') x $many),
	'with room again they are decided, in the same session');
$session->quit;
$server->wait_refunded(map { "$_-2-R1" } @full);

# As the system says it when the disk itself is full.
my ($callback) = $server->add_double_payments($prompt, 'told');
$stories->{faults}->arm('callback_payment_written', 'disk full');
like($server->sql_error($callback), qr/53100/, 'a callback during a full disk: its SQLSTATE');
my $news = sub {
	my ($what) = @_;
	return $server->sql($stories->notify_sql($prompt, $what, kind => 'payment', payment_id => 'told-2'));
};
$stories->{faults}->arm('callback_refund_queued', 'disk full');
is($news->('http_status'), 500, 'a notification during a full disk is to be repeated');
is($server->sql("SELECT status FROM t_order_pay WHERE id = 'told-2'"), 0, 'nothing was recorded');
is($news->('outcome'), 'duplicate', 'repeated, it is decided');
$server->wait_refunded('told-2-R1');

# --- The worker, before it sends

$server->reload_with('payonce.dispatch' => 'off');
$server->wait_for("SELECT payonce_dispatch_blocked_by() IS NOT NULL", 'nothing is sent');
my @unsent = $server->pay_twice($prompt, map { "unsent$_" } 1 .. $many);
fill_refunds();
limit($worker, $room_bytes);
$server->reload_with('payonce.dispatch' => 'on');
says_why('no room for claims');
my @waiting = split /\n/, $server->sql("SELECT refund_no FROM t_refund WHERE status = 0");
cmp_ok(scalar @waiting, '>', 0, 'refunds wait');
is(scalar(grep { $prompt->refund($_) } @waiting[ 0 .. 2 ]), 0, 'what could not be claimed was not sent');
limit($worker, 'unlimited');
$server->wait_refunded(@unsent);
is(calls_of(@unsent), 'refund succeeded', 'with room again all are sent, once');
is($server->worker_pid, $worker, 'all the time it was the same worker');

# --- The WAL: the server restarts its processes, for which there is room again

sub survives_panic
{
	my ($what, $pid, $provoke) = @_;
	my $read_up_to = -s $node->logfile;
	limit($pid, 0);
	$provoke->();
	# The PANIC itself cannot be written to the log by this process.
	$node->wait_for_log(qr/was terminated by signal 6.*all server processes terminated/s,
		$read_up_to);
	$stories->insist('SELECT true');
	pass("$what: no room for the WAL");
	return;
}

$server->add_double_payments($prompt, 'wal');
survives_panic('the worker', $worker, sub { $stories->call_back('wal-2') });
$server->wait_refunded('wal-2-R1');

($callback) = $server->add_double_payments($prompt, 'wal-callback');
$session = $node->background_psql('shop', on_error_stop => 0);
$backend = $session->query_safe('SELECT pg_backend_pid()');
survives_panic('a callback', $backend, sub { eval { $session->query($callback) } });
eval { $session->quit };
is($server->sql("SELECT status FROM t_order_pay WHERE id = 'wal-callback-2'"), 0,
	'it has decided nothing');
is($server->callback('wal-callback-2'), 'duplicate', 'and is repeated');
$server->wait_refunded('wal-callback-2-R1');

$server->judge_ok(values %$gateways);
done_testing();
