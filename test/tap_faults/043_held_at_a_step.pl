# A process is held between two steps, and meanwhile the world goes on: other callbacks, persons,
# news, administrators who want the database for themselves, time itself. Then it goes on too.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../tap/lib";
use IPC::Run ();
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Stories;
use Payonce::TestServer;

my $gateways = Payonce::Stories::gateways();
my $server = Payonce::TestServer->new('main', settings => { 'payonce.lease' => '1h' });
Payonce::Stories::prepare($server, $gateways);
$server->wait_for_worker;
my $stories = Payonce::Stories->new($server, $gateways);
my $faults = $stories->{faults};
my ($prompt, $slow) = @$gateways{qw(prompt slow)};
my $admin = $server->in_database('postgres');

# Begins a statement in a connection of its own. Returns what waits for its end and gives its output.
sub begin_statement
{
	my ($sql) = @_;
	my ($stdout, $stderr) = ('', '');
	my $psql = IPC::Run::start(
		[
			$server->node->installed_command('psql'), '--no-psqlrc', '-Atq',
			'-d', $server->node->connstr($server->database), '-c', $sql
		],
		'<', '/dev/null', '>', \$stdout, '2>', \$stderr);
	return sub { $psql->finish; chomp $stdout; return $stdout . $stderr; };
}

sub wait_for_waiting
{
	my ($count) = @_;
	$server->wait_for("SELECT count(*) = $count FROM pg_stat_activity"
		. " WHERE datname = current_database() AND wait_event = 'advisory'",
		"$count callbacks wait for the order");
	return;
}

# hold(POINT, DO): who comes by is stopped there. Returns the first of what DO returns.
sub hold
{
	my ($point, $do) = @_;
	$faults->arm($point, 'stop');
	my ($done) = $do->();
	$faults->wait_hit($point);
	return $done;
}

sub evidence
{
	my ($refund_no) = @_;
	return $server->sql("SELECT string_agg(call || ' ' || verdict || ' ' || applied, ', '"
		. " ORDER BY attempt, recorded_at) FROM t_refund_attempt WHERE refund_no = '$refund_no'");
}

# --- Two phones at the same moment, the first one at each step of its callback

# Before the lock the other one passes.
$stories->add_order($prompt, 'overtaken', 2);
my $first = hold('callback_begun',
	sub { begin_statement($server->callback_sql('overtaken-1')) });
is($server->callback('overtaken-2'), 'paid', 'who holds no lock yet is overtaken');
$faults->let_go('callback_begun');
is($first->(), 'duplicate', 'and is the duplicate');
$server->wait_refunded('overtaken-1-R1');

for my $point (qw(callback_locked callback_reread callback_order_paid callback_payment_written
	callback_decided decision_committing decision_committed))
{
	$stories->add_order($prompt, $point, 2);
	$first = hold($point, sub { begin_statement($server->callback_sql("$point-1")) });
	my @others = map { begin_statement($server->callback_sql($_)) } "$point-2", "$point-1";
	# The last point is behind the release of the locks.
	wait_for_waiting(2) if $point ne 'decision_committed';
	my @early = $point eq 'decision_committed' ? map { $_->() } @others : ();
	$faults->let_go($point);
	is(join(' ', $first->(), @early ? @early : map { $_->() } @others),
		'paid duplicate already_processed', "held at $point: the others wait, and it wins");
	$server->wait_refunded("$point-2-R1");
}

# A callback that was cancelled while it was held has decided nothing.
$stories->add_order($prompt, 'cancelled', 2);
$first = hold('callback_payment_written',
	sub { begin_statement($server->callback_sql('cancelled-1')) });
$server->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%cancelled-1%'"
	. ' AND pid <> pg_backend_pid()');
like($first->(), qr/canceling statement/, 'a callback is cancelled between its writes');
is($server->callback('cancelled-2'), 'paid', 'and has decided nothing');
is($server->callback('cancelled-1'), 'duplicate', 'it is repeated, and comes second');
$server->wait_refunded('cancelled-1-R1');

# --- The worker, and those who want its database for themselves

my $rename = "ALTER DATABASE shop RENAME TO bazaar;\nALTER DATABASE bazaar RENAME TO shop";
for my $point (grep { !Payonce::Stories::is_of_backends($_) } Payonce::Stories::each_point($server))
{
	my ($hit, $end) = $stories->begin($point, 'stop');
	$hit->();
	$admin->prompt_ok($rename, "RENAME, held at $point,");
	$end->();
}

for my $point (qw(claim_collected claim_committed call_started answer_recorded answers_committed))
{
	my ($hit, $end) = $stories->begin($point, 'stop');
	$hit->();
	$server->node->restart;
	$end->();
	pass("a fast shutdown, held at $point");
}

$server->wait_for_worker;
$server->node->safe_psql('postgres', 'CREATE DATABASE doomed TEMPLATE shop');
my $doomed = $server->in_database('doomed');
$doomed->sql('SELECT payonce_activate()');
$doomed->wait_for_worker;
my $doomed_faults = Payonce::Faults->new($doomed);
$doomed_faults->arm('claim_begun', 'stop');
$doomed->sql('SELECT payonce_activate()');    # wakes it
$doomed_faults->wait_hit('claim_begun');
$admin->prompt_ok('DROP DATABASE doomed', 'DROP DATABASE, held in a transaction,');

# --- The worker, and what happens to a refund meanwhile

# Held with the claim: nobody else may touch the refund.
my ($refund_no) = hold('claim_committed', sub { $server->pay_twice($prompt, 'in-hand') });
is($server->callback('in-hand-2'), 'already_processed', 'a claimed refund: its callback again');
like($server->sql_error("SELECT refund_$_"), qr/55000/, "a claimed refund: refund_$_ is refused")
  for "resolve('$refund_no', false, 'by hand')", "retry('$refund_no')";
$faults->let_go('claim_committed');
$server->wait_refunded($refund_no);
is($server->calls($refund_no), 'refund succeeded', 'it was sent once');

# Held for longer than a claim is good for.
($refund_no) = hold('claim_committed', sub { $server->pay_twice($prompt, 'too-long') });
$server->wait_for("SELECT updated_at < clock_timestamp() - interval '5500 ms' FROM t_refund"
	. " WHERE refund_no = '$refund_no'", 'the claim is old');
is($prompt->refund($refund_no), undef, 'nothing was sent meanwhile');
$faults->let_go('claim_committed');
$server->wait_refunded($refund_no);
is($server->calls($refund_no), 'refund not_sent, refund succeeded', 'a claim that is too old is given back');

# Held with a question about what the gateway then announces by itself.
$slow->mode({ mode => 'immediate' });
$slow->faults({ fault => 'drop_after', on => 'refund', match => '^announced', count => 1 });
$faults->arm('answer_released', 'stop');
($refund_no) = $server->pay_twice($slow, 'announced');
$faults->wait_hit('answer_released');    # of the call whose outcome is unknown
$faults->arm('claim_committed', 'stop');    # of the question
$faults->let_go('answer_released');
$faults->wait_hit('claim_committed');
$stories->insist($stories->notify_sql($slow, "outcome = 'refunded'", kind => 'refund',
	refund_no => $refund_no));
$faults->let_go('claim_committed');
$server->wait_for("SELECT count(*) = 2 FROM t_refund_attempt WHERE refund_no = '$refund_no'",
	'the answer is recorded');
is(evidence($refund_no), 'refund unknown true, query succeeded false',
	'news settle a refund that is just being asked about');
is($server->refund_status($refund_no), 300, 'and it stays settled');

# Held with an answer that is not recorded yet; the news come first.
($refund_no) = hold('answers_due', sub { $server->pay_twice($slow, 'outrun') });
$stories->insist($stories->notify_sql($slow, "outcome = 'refunded'", kind => 'refund',
	refund_no => $refund_no));
$faults->let_go('answers_due');
$server->wait_for("SELECT count(*) = 1 FROM t_refund_attempt WHERE refund_no = '$refund_no'",
	'the answer is recorded');
is(evidence($refund_no), 'refund succeeded false', 'an answer that comes after the news is evidence only');

# Held while its order is locked: a callback waits, and nothing is lost.
($refund_no) = hold('answer_applied', sub { $server->pay_twice($prompt, 'locked') });
my $again = begin_statement($server->callback_sql('locked-2'));
wait_for_waiting(1);
$faults->let_go('answer_applied');
is($again->(), 'already_processed', 'a callback waits for an answer that is being recorded');
$server->wait_refunded($refund_no);

# Held between the answer's commit and its release: the refund fails after all, and a person has it
# tried again.
($refund_no) = hold('answers_committed', sub { $server->pay_twice($prompt, 'after-all') });
is($server->refund_status($refund_no), 300, 'the answer is recorded');
$prompt->settle($refund_no, 'failed', 'the account is closed');
$server->sql("SELECT refund_callback('$refund_no', false)");
is($server->sql("SELECT refund_retry('$refund_no')"), $refund_no,
	'it failed after all, and is tried again');
$faults->let_go('answers_committed');
$server->wait_for("SELECT status = 500 FROM t_refund WHERE refund_no = '$refund_no'",
	'the gateway has been asked');
is($server->calls($refund_no), 'refund succeeded, query failed', 'the gateway is asked first');
is($server->sql("SELECT refund_retry('$refund_no')"), 'after-all-2-R2', 'its number is dead');
$server->wait_refunded('after-all-2-R2');

# Held until the request's time is over, with the answer waiting in the socket.
$server->sql(q{ALTER SERVER prompt OPTIONS (ADD timeout '1s')});
($refund_no) = hold('calls_started', sub { $server->pay_twice($prompt, 'slept') });
$server->wait_for("SELECT updated_at < clock_timestamp() - interval '1500 ms' FROM t_refund"
	. " WHERE refund_no = '$refund_no'", "the request's time is over");
$faults->let_go('calls_started');
$server->wait_refunded($refund_no);
is($prompt->refund($refund_no)->{paid_out_count}, 1, 'a worker that slept over the timeout');

# Held with the claim while its gateway goes away and comes back.
($refund_no) = hold('claim_confirmed', sub { $server->pay_twice($slow, 'no-server') });
$server->sql('SET client_min_messages = warning; DROP SERVER slow CASCADE');
$faults->let_go('claim_confirmed');
$server->wait_refunded($refund_no);
is($server->calls($refund_no), 'refund succeeded', 'what was claimed is sent, though its server was dropped');

$server->judge_ok(values %$gateways);
done_testing();
