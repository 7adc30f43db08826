# What wakes the worker, what must not, and what it holds while it waits. payonce.naptime is an
# hour: whatever arrives at the gateway was announced by a commit.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

# One refund goes out without the token that the gateway has come to want.
my $wechat = Payonce::Gateway->new('wechat', provokes => ['bearer_failures']);
my $server = Payonce::TestServer->new(
	'main',
	settings => {
		max_prepared_transactions => 10,
		'payonce.request_timeout' => '60s',
	});
$server->add_gateway($wechat);
$server->wait_for_worker;

# Something that was queued later has arrived; these have not.
my $marks = 0;

sub not_sent_ok
{
	my ($what, @refund_nos) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$server->wait_refunded($server->pay_twice($wechat, 'mark' . ++$marks));
	is(join(' ', map { $wechat->requests($_) } @refund_nos), '', "$what: nothing is sent");
	return;
}

# --- Commit and rollback

my ($refund_no) = $server->pay_twice($wechat, 'commit');
$server->wait_refunded($refund_no);
is($wechat->methods($refund_no), 'POST', 'a commit wakes the worker');

my ($callback) = $server->add_double_payments($wechat, 'rollback');
$server->sql("BEGIN; $callback; ROLLBACK");
not_sent_ok('ROLLBACK', 'rollback-2-R1');

my ($first, $second) = $server->add_double_payments($wechat, 'kept', 'undone');
$server->sql("BEGIN; $first; SAVEPOINT s; $second; ROLLBACK TO SAVEPOINT s; COMMIT");
$server->wait_refunded('kept-2-R1');
not_sent_ok('ROLLBACK TO SAVEPOINT', 'undone-2-R1');
$server->sql($_) for $second, $callback;
$server->wait_refunded('undone-2-R1', 'rollback-2-R1');
is($wechat->methods('undone-2-R1'), 'POST', 'called back again, it is sent');

($first, $second) = $server->add_double_payments($wechat, 'exception', 'caught');
$server->sql(<<"SQL");
DO \$\$ BEGIN
  BEGIN PERFORM ($second); RAISE 'no'; EXCEPTION WHEN raise_exception THEN END;
  PERFORM ($first);
END \$\$
SQL
$server->wait_refunded('exception-2-R1');
not_sent_ok('an exception block', 'caught-2-R1');

my @several = $server->pay_twice($wechat, map { "several$_" } 1 .. 20);
$server->wait_refunded(@several);
is(join(' ', map { $wechat->methods($_) } @several), join(' ', ('POST') x @several),
	'20 refunds of one transaction are each sent once');

# --- Two-phase commit

($first, $second) = $server->add_double_payments($wechat, 'prepared', 'refused');
$server->sql("BEGIN; $first; PREPARE TRANSACTION 'first'");
$server->sql("BEGIN; $second; PREPARE TRANSACTION 'second'");
not_sent_ok('PREPARE TRANSACTION', 'prepared-2-R1', 'refused-2-R1');
$server->sql("COMMIT PREPARED 'first'");
$server->wait_refunded('prepared-2-R1');
is($wechat->methods('prepared-2-R1'), 'POST', 'COMMIT PREPARED wakes the worker');
$server->sql("ROLLBACK PREPARED 'second'");
not_sent_ok('ROLLBACK PREPARED', 'refused-2-R1');

# --- Hand-written SQL

$server->sql(<<'SQL');
INSERT INTO t_refund (refund_no, payment_id, amount, reason)
VALUES ('by-hand-R1', 'commit-1', 200, 'request')
SQL
$server->wait_refunded('by-hand-R1');
is($wechat->refund('by-hand-R1')->{amount}, 200, 'a hand-written INSERT is found');

$wechat->faults({ fault => '4xx', match => '^again', count => 1 });
($refund_no) = $server->pay_twice($wechat, 'again');
$server->wait_status(500, $refund_no);
$server->sql("UPDATE t_refund SET status = 0, next_attempt_at = now(), retry_since = NULL"
	  . " WHERE refund_no = '$refund_no'");
$server->wait_refunded($refund_no);
pass('an UPDATE to 0 wakes the worker');

# --- Gateways that change

$server->sql("ALTER SERVER wechat OPTIONS (ADD paused 'true')");
my @paused = $server->while_worker_looks_round(
	sub { $server->pay_twice($wechat, 'paused1', 'paused2') });
like($server->sql("SELECT DISTINCT blocked_by FROM payonce_refund_backlog"),
	qr/"wechat" is paused/, 'the backlog says that the gateway is paused');
my $worker = $server->worker_pid;
is(join('', map { $wechat->requests($_) } @paused), '', 'a paused gateway is sent nothing');
$server->sql("ALTER SERVER wechat OPTIONS (SET paused 'false')");
$server->wait_refunded(@paused);
is($server->worker_pid, $worker, 'unpaused, it is served by the same worker');
# The wake-up must not come before the news that the server was changed.
for my $turn (1 .. 10)
{
	$server->sql("ALTER SERVER wechat OPTIONS (SET paused 'true')");
	my ($refund_no) = $server->pay_twice($wechat, "turn$turn");
	$server->sql("ALTER SERVER wechat OPTIONS (SET paused 'false')");
	$server->wait_refunded($refund_no);
}
pass('ten times in a row');

$wechat->move;
($refund_no) = $server->pay_twice($wechat, 'moved');
$server->wait_for("SELECT attempts > 0 FROM t_refund WHERE refund_no = '$refund_no'",
	'it was tried at the old address');
$server->sql("ALTER SERVER wechat OPTIONS (SET url '" . $wechat->url . "')");
$server->wait_refunded($refund_no);
is($server->worker_pid, $worker, 'a changed url is used by the same worker');

$wechat->restart('--bearer-token', 'sesame');
($refund_no) = $server->pay_twice($wechat, 'token');
$server->wait_status(500, $refund_no);
$server->sql(
	"CREATE USER MAPPING FOR CURRENT_USER SERVER wechat OPTIONS (bearer_token 'sesame')");
$server->sql("SELECT refund_retry('$refund_no')");
$server->wait_refunded($refund_no);
is($server->worker_pid, $worker, 'a new bearer_token is used by the same worker');

# --- The kill switch

$server->while_worker_looks_round(sub { $server->reload_with('payonce.dispatch' => 'off') });
my @held = $server->while_worker_looks_round(sub { $server->pay_twice($wechat, 'held1', 'held2') });
like($server->sql('SELECT DISTINCT blocked_by FROM payonce_refund_backlog'),
	qr/dispatch/, 'the backlog says that dispatch is off');
is(join('', map { $wechat->requests($_) } @held), '', 'dispatch off: nothing is sent');
$server->reload_with('payonce.dispatch' => 'on');
$server->wait_refunded(@held);
is($server->worker_pid, $worker, 'dispatch on: the reload wakes the same worker');

# --- While a request is in flight

$wechat->faults({ fault => 'hang', match => '^slow' });
($refund_no) = $server->pay_twice($wechat, 'slow');
$wechat->wait_for(in_flight => 1, refund_no => $refund_no);
$server->wait_for(<<"SQL", 'the worker has no transaction');
SELECT xact_start IS NULL AND backend_xid IS NULL AND backend_xmin IS NULL AND state = 'idle'
FROM pg_stat_activity WHERE pid = $worker
SQL
is($server->sql("SELECT count(*) FROM pg_locks WHERE pid = $worker"), '0',
	'while a gateway hangs the worker holds no transaction, snapshot or lock');
$server->sql(<<'SQL');
BEGIN;
LOCK TABLE t_order, t_order_pay, t_refund, t_refund_attempt IN ACCESS EXCLUSIVE MODE NOWAIT;
ROLLBACK
SQL
pass('and the tables can be locked');

# Voluntary context switches of the worker, and commits in its database, in two seconds. Seen from
# another database, so that looking does not count.
sub doings
{
	my ($switches) = slurp_file("/proc/$worker/status") =~ /^voluntary_ctxt_switches:\s+(\d+)$/m;
	my $commits = $server->node->safe_psql('postgres',
		"SELECT xact_commit FROM pg_stat_database WHERE datname = '" . $server->database . "'");
	return ($switches, $commits);
}

sub rests_ok
{
	my ($what) = @_;
	my @before = doings();
	sleep 2;
	my @after = doings();
	cmp_ok($after[0] - $before[0], '<=', 10, "$what: the worker sleeps");
	cmp_ok($after[1] - $before[1], '<=', 2, "$what: it does not look into its tables");
	return;
}

rests_ok('while a gateway hangs');
$wechat->faults();
$wechat->restart('--bearer-token', 'sesame');
$server->wait_refunded($refund_no);
like($server->calls($refund_no),
	qr/^refund unknown, (?:query not_sent, )*query not_found, refund succeeded$/,
	'the request that the dying gateway dropped was asked about');
rests_ok('without work');

# --- Many at once

$server->sql("ALTER SERVER wechat OPTIONS (ADD max_in_flight '50')");
$wechat->faults({ fault => 'delay', ms => 3000, match => '^many' });
my @many = $server->pay_twice($wechat, map { "many$_" } 1 .. 50);
$wechat->wait_for(in_flight => 50);
$server->wait_refunded(@many);
is($wechat->connections->{max_in_flight}, 50, '50 requests are in flight at the same time');

my $accepted = $wechat->connections->{accepted};
$server->sql("ALTER SERVER wechat OPTIONS (SET max_in_flight '4')");
my @steady = $server->pay_twice($wechat, map { "steady$_" } 1 .. 200);
$server->wait_refunded(@steady);
cmp_ok($wechat->connections->{accepted} - $accepted, '<=', 4,
	'200 refunds go over connections that were there');

$server->judge_ok($wechat);
done_testing();
