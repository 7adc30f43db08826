# While the worker waits for the synchronous standbys, in its commit or, that wait cancelled, behind it:
# the backlog says so, nothing that wants the worker to go is held up, and whatever ends the need to
# wait ends the wait. Quorums count as the server counts them.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run ();
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Failover;
use Payonce::Gateway;
use Payonce::TestServer;

my $blocked_by = 'waits for the synchronous standbys';
my $gateway = Payonce::Gateway->new('wechat');
my $server =
  Payonce::TestServer->new('main', settings => { max_wal_senders => 4, wal_level => 'replica' });
my @dropped = map { $server->in_database("dropped_$_") } qw(in_commit behind_commit);
$_->create_database for @dropped;
for my $database ($server, @dropped)
{
	$database->add_gateway($gateway);
	$database->wait_for_worker;
}

# --- Standbys: pg_receivewal flushes and confirms what it receives.

my %receivers;

sub start_receiver
{
	my ($name) = @_;
	my $connection = $server->node->connstr('postgres') . " application_name=$name";
	$receivers{$name} = IPC::Run::start(
		[
			'pg_receivewal', '-D', PostgreSQL::Test::Utils::tempdir(), '-d', $connection,
			'--synchronous', '--no-loop'
		],
		'<', '/dev/null', '>', \my $said, '2>', \my $complained);
	return;
}

sub freeze { $receivers{$_}->signal('STOP') for @_; return; }
sub thaw { $receivers{$_}->signal('CONT') for @_; return; }

# Those that are frozen, too.
sub end_receivers
{
	$_->signal('KILL') for values %receivers;
	$_->finish for values %receivers;
	%receivers = ();
	return;
}

END
{
	local $? = $?;
	end_receivers();
}

# Both of them.
sub wait_for_standbys_of
{
	my ($names) = @_;
	$server->set_synchronous_standbys($names);
	$server->wait_for(
		"SELECT count(*) = 2 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')",
		"$names: both are synchronous");
	return;
}

# --- Waits

sub cancel
{
	my ($pid) = @_;
	$server->sql("SELECT pg_cancel_backend($pid)");
	return;
}

sub wait_for_sync_rep
{
	my ($database) = @_;
	$database->wait_for(<<'SQL', 'the worker waits in its commit');
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'payonce worker'
  AND datname = current_database() AND wait_event = 'SyncRep')
SQL
	return;
}

# The worker waits in the commit of its claim.
sub wait_in_commit
{
	my ($database, $callback) = @_;
	Payonce::Failover::interrupted($database, $callback, \&cancel);
	wait_for_sync_rep($database);
	return;
}

# That wait is cancelled: it waits behind its commit.
sub wait_behind_commit
{
	my ($database, $callback, $refund_no) = @_;
	wait_in_commit($database, $callback);
	is(Payonce::Failover::interrupt_worker($database, $gateway, $refund_no),
		'held', "$refund_no: the worker waits behind its commit");
	return;
}

sub blocked_ok
{
	my ($database, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$database->wait_for("SELECT blocked_by = '$blocked_by' FROM payonce_stat_worker",
		'it is said that the worker waits');
	is($database->sql('SELECT DISTINCT blocked_by FROM payonce_refund_backlog'),
		$blocked_by, "$what: the backlog says why");
	return;
}

sub released_ok
{
	my ($refund_no, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$server->wait_refunded($refund_no);
	is(scalar(grep { $_->{method} eq 'POST' } $gateway->requests($refund_no)), 1, "$what: sent once");
	return;
}

start_receiver($_) for qw(one other);
my @ids = qw(any_1 all_commit all_behind recording none_commit none_behind shutdown);
my %callback;
@callback{@ids} = $server->add_double_payments($gateway, @ids);
my @lost = map { ($_->add_double_payments($gateway, $_->database))[0] } @dropped;

# --- Quorums

wait_for_standbys_of('ANY 1 (one, other)');
freeze('one');
is($server->sql($callback{any_1}), 'duplicate', 'one of two confirms: the callback is answered');
released_ok('any_1-2-R1', 'one of two confirms');
thaw('one');

wait_for_standbys_of('ANY 2 (one, other)');
freeze('other');
wait_in_commit($server, $callback{all_commit});
blocked_ok($server, 'one of two is missing');
is($gateway->methods('all_commit-2-R1'), '', 'one of two is missing: nothing is sent');
thaw('other');
released_ok('all_commit-2-R1', 'both confirm');

wait_for_standbys_of('FIRST 2 (one, other)');
freeze('one');
wait_behind_commit($server, $callback{all_behind}, 'all_behind-2-R1');
blocked_ok($server, 'the first of two is missing');
is($gateway->methods('all_behind-2-R1'), '', 'the first of two is missing: nothing is sent');

# --- What must not wait with it

wait_in_commit($dropped[0], $lost[0]);
wait_behind_commit($dropped[1], $lost[1], $dropped[1]->database . '-2-R1');
for my $database (@dropped)
{
	my $name = $database->database;
	$server->prompt_ok("SET synchronous_commit = local;\nDROP DATABASE $name", "DROP DATABASE $name");
}
my $worker = $server->worker_pid;
$server->prompt_ok("SELECT pg_terminate_backend($worker, 4000)", 'pg_terminate_backend');
$server->wait_for_worker($worker);
is($gateway->methods('all_behind-2-R1'), '', 'its successor sends nothing either');
thaw('one');
released_ok('all_behind-2-R1', 'the first is back');

# With an answer recorded there is nothing more to do. The order is locked until the standby is gone, so
# that it is this commit which waits.
$server->sql("ALTER SERVER wechat OPTIONS (ADD paused 'true')");
$server->sql($callback{recording});
my $holder = $server->session;
$holder->query_safe("BEGIN;\nSELECT pg_advisory_xact_lock(order_lock_key('recording'))");
$server->sql('ALTER SERVER wechat OPTIONS (DROP paused)');
$server->wait_for('SELECT kept = 1 FROM payonce_stat_worker', 'the answer cannot be recorded');
freeze('one');
$holder->query_safe('COMMIT');
$holder->quit;
wait_for_sync_rep($server);
blocked_ok($server, 'an answer is being recorded');
$worker = $server->worker_pid;
$server->prompt_ok("SELECT pg_terminate_backend($worker, 4000)",
	'pg_terminate_backend, while an answer is recorded');
$server->wait_for_worker($worker);
thaw('one');
released_ok('recording-2-R1', 'recorded');

# --- Nobody to wait for any more

end_receivers();
wait_in_commit($server, $callback{none_commit});
blocked_ok($server, 'both are gone');
$server->set_synchronous_standbys('');
released_ok('none_commit-2-R1', 'waiting in the commit, no standbys are configured any more');

$server->set_synchronous_standbys('one');
wait_behind_commit($server, $callback{none_behind}, 'none_behind-2-R1');
blocked_ok($server, 'configured again');
is($gateway->methods('none_behind-2-R1'), '', 'configured again: nothing is sent');
$server->set_synchronous_standbys('');
released_ok('none_behind-2-R1', 'waiting behind the commit, no standbys are configured any more');
$server->wait_for('SELECT blocked_by IS NULL FROM payonce_stat_worker', 'nothing blocks it');

# --- A shutdown

$server->set_synchronous_standbys('one');
wait_behind_commit($server, $callback{shutdown}, 'shutdown-2-R1');
$server->node->stop('fast');
is($gateway->methods('shutdown-2-R1'), '', 'a fast shutdown is not held up, and sends nothing');
$server->write_settings(synchronous_standby_names => '');
$server->node->start;
released_ok('shutdown-2-R1', 'after the restart');
$server->judge_ok($gateway);
done_testing();
