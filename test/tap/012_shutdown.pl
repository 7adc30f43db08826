# The server stops at once, in each way of stopping, while requests hang: in the middle of an answer,
# in connecting, and behind a name that cannot be resolved. What was in flight is asked about after
# the start, and paid out once.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use IO::Socket::INET;
use Socket qw(SOMAXCONN);
use Test::More;
use Time::HiRes qw(time);

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $count = 16;
my $wechat = Payonce::Gateway->new('wechat');
my $deaf = Payonce::Gateway->new('deaf');
my $nameless = Payonce::Gateway->new('nameless');
my $server = Payonce::TestServer->new('main', settings => { 'payonce.request_timeout' => '600s' });
my $node = $server->node;
$server->add_gateway($wechat, max_in_flight => $count);
$server->wait_for_worker;

# Seconds that something took. Asserted generously: the requests would hang for ten minutes.
sub prompt
{
	my ($what, $action) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $started_at = time;
	$action->();
	my $took_s = time - $started_at;
	note sprintf '%s: %.3f s', $what, $took_s;
	cmp_ok($took_s, '<', 10, "$what does not wait for a gateway");
	return;
}

sub stop_and_start
{
	my ($mode, $while) = @_;
	prompt("$mode shutdown while $while", sub { $node->stop($mode) });
	$node->start;
	$server->wait_for_worker;
	return;
}

# Until the worker's process is gone, seen from where no worker is.
sub terminate_worker
{
	my ($while) = @_;
	my $pid = $server->worker_pid;
	prompt(
		"SIGTERM to the worker while $while",
		sub {
			$server->sql("SELECT pg_terminate_backend($pid)");
			$server->in_database('postgres')->wait_for(
				"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)",
				'the worker is gone');
		});
	$server->wait_for_worker($pid);
	return;
}

# --- While gateways do not answer

# Half of the requests are acted on although no answer comes.
$wechat->faults({ fault => 'hang_after', on => 'refund', match => '^acted' }, { fault => 'hang' });
my @acted = map { "acted$_" } 1 .. $count / 2;
my @ignored = map { "ignored$_" } 1 .. $count / 2;
my @refund_nos = $server->pay_twice($wechat, @acted, @ignored);
$server->wait_in_flight($count);

for my $mode ('fast', 'smart', 'immediate')
{
	stop_and_start($mode, "$count requests hang");
	$server->wait_in_flight($count);
}
is($wechat->methods($refund_nos[0]), 'POST GET GET GET', 'after each start a sent refund is asked about');
terminate_worker("$count requests hang");
$server->wait_in_flight($count);

$wechat->restart;
$server->wait_refunded(@refund_nos);
is($wechat->methods('acted1-2-R1') =~ s/( GET)+$/ GET.../r, 'POST GET...',
	'what the gateway had acted on is not sent again');
is($wechat->methods('ignored1-2-R1') =~ s/( GET)+ / GET... /r, 'POST GET... POST',
	'what it had not is sent again after it said so');

# --- Without synchronous_commit

# A claim is on disk before its request leaves, whatever the operator has set: a crash at once after
# that forgets no request.
$server->reload_with(synchronous_commit => 'off', wal_writer_delay => '10s');
$wechat->faults({ fault => 'hang_after', on => 'refund' });
my @crashed;
for my $turn (1 .. 3)
{
	my ($refund_no) = $server->pay_twice($wechat, "crash$turn");
	$wechat->wait_for(in_flight => 1, refund_no => $refund_no);
	$node->stop('immediate');
	$node->start;
	push @crashed, $refund_no;
}
$server->wait_refunded(@crashed);
is(join(', ', map { $wechat->methods($_) =~ s/( GET)+$/ GET.../r } @crashed),
	join(', ', ('POST GET...') x @crashed),
	'what was sent at the moment of a crash is asked about, not sent again');
$server->reload_with(synchronous_commit => 'on');
$wechat->faults();

# --- While connecting hangs

# Once the backlog is full the system answers no further connection.
my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die "listen: $!";
my @queue;
while (@queue < SOMAXCONN)
{
	my $waiting = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $socket->sockport,
		Timeout => 1);
	last unless $waiting;
	push @queue, $waiting;
}
cmp_ok(scalar @queue, '<', SOMAXCONN, 'a gateway whose backlog is full');
$server->add_gateway($deaf, url => 'http://127.0.0.1:' . $socket->sockport);
@refund_nos = $server->pay_twice($deaf, map { "deaf$_" } 1 .. 4);
$server->wait_in_flight(4);
my ($other) = $server->pay_twice($wechat, 'beside_deaf');
$server->wait_refunded($other);
pass('another gateway is served meanwhile');
stop_and_start('fast', 'connecting hangs');
$server->wait_in_flight(4);
terminate_worker('connecting hangs');
$server->wait_in_flight(4);
is($server->sql("SELECT count(*) >= 8 FROM t_refund_attempt WHERE gateway = 'deaf' AND verdict = 'lost'"),
	't', 'of a process that ended nobody knows whether it had sent');
$server->sql("ALTER SERVER deaf OPTIONS (SET url '" . $deaf->url . "')");
close $_ for @queue, $socket;
$server->wait_refunded(@refund_nos);
is($deaf->methods($refund_nos[0]), 'GET POST', 'then it is asked about, and sent once');

# --- Without an address

$server->add_gateway($nameless, url => 'https://gateway.invalid');
@refund_nos = $server->pay_twice($nameless, map { "nameless$_" } 1 .. 4);
$server->wait_for(
	"SELECT count(DISTINCT refund_no) = 4 FROM t_refund_attempt WHERE gateway = 'nameless'",
	'each was tried');
is($server->sql("SELECT DISTINCT verdict FROM t_refund_attempt WHERE gateway = 'nameless'"),
	'not_sent', 'without an address nothing was sent, and the worker knows it');
like($server->sql("SELECT last_error FROM t_refund WHERE refund_no = 'nameless1-2-R1'"),
	qr/resolve/i, 'and says why');
($other) = $server->pay_twice($wechat, 'beside_nameless');
$server->wait_refunded($other);
stop_and_start('fast', 'names are looked up');
$server->sql("ALTER SERVER nameless OPTIONS (SET url '" . $nameless->url . "')");
$server->wait_refunded(@refund_nos);
pass('with an address they are sent');

unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC/, 'no process crashed');
$server->judge_ok($wechat, $deaf, $nameless);
done_testing();
