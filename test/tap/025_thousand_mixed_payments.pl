# A thousand orders, each paid by WeChat Pay and by Alipay: whichever is heard of first wins, the other
# goes back. Everything that can fail does, on both sides, while the worker is killed again and again,
# and a backend in the middle of the callbacks. In the end every fen is where it belongs.
#
# PAYONCE_TEST_SEED repeats a run's random choices.
use strict;
use warnings;

use FindBin;
use JSON::PP ();
use lib "$FindBin::RealBin/lib";
use List::Util qw(shuffle sum);
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::NotifyServer;
use Payonce::TestServer;

my $orders = 1000;
# So many of them are told by the gateways' notifications, the others by concurrent sessions.
my $notified = 150;
my $sessions = 6;
my $kills = 4;
my $seed = $ENV{PAYONCE_TEST_SEED} // 20260115;
srand $seed;
note "PAYONCE_TEST_SEED=$seed";
my $started_at = time;
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

my $server = Payonce::TestServer->new('main',
	settings => { 'payonce.lease' => '1h', max_connections => 150 });
my $application = Payonce::NotifyServer->new($server);

sub add_gateway
{
	my ($name, %options) = @_;
	my $gateway = Payonce::Gateway->new($name, protocol => $name, options =>
		[ '--seed', $seed, '--notify-url', $application->url($name), '--notify-retry-ms', 500 ]);
	$server->add_gateway($gateway, timeout => '3s', max_in_flight => 30, rate_limit => 1000,
		%options);
	return $gateway;
}

my %gateways = map { $_ => add_gateway($_) } qw(wechat alipay);
$server->wait_for_worker;

# --- Everything that can fail

my %system_error = (
	wechat => { code => 'SYSTEM_ERROR' },
	alipay => { code => '20000' },
);
my %too_often = (
	wechat => { code => 'FREQUENCY_LIMITED' },
	alipay => { code => '40005' },
);
for my $name (sort keys %gateways)
{
	$gateways{$name}->faults(
		{ fault => 'drop_before', probability => 0.04, how => 'reset' },
		{ fault => 'drop_after', probability => 0.08 },
		{ fault => '500_before', probability => 0.04 },
		{ fault => '500_after', probability => 0.05 },
		{ fault => 'provider_error', probability => 0.04, %{ $system_error{$name} } },
		{ fault => 'provider_error', probability => 0.04, %{ $system_error{$name} },
			acted => $true },
		# Early, since WeChat Pay wants a minute's patience.
		{ fault => 'provider_error', on => 'refund', probability => 0.2, count => 3,
			%{ $too_often{$name} } },
		{ fault => 'bad_signature', probability => 0.05 },
		{ fault => 'bad_signature', probability => 0.02, how => 'none' },
		{ fault => 'truncated', probability => 0.02 },
		{ fault => 'garbage', probability => 0.02, acted => $false },
		{ fault => 'hang_after', probability => 0.01 },
		# So that there is always something in flight.
		{ fault => 'delay', probability => 0.5, ms => 100, when => 'after' },
		{ fault => 'notify_early', probability => 0.05 },
		{ fault => 'notify_lost', probability => 0.1 },
		{ fault => 'notify_duplicated', probability => 0.1, times => 3, parallel => $true },
		{ fault => 'notify_reordered', probability => 0.1 },
		{ fault => 'notify_forged', probability => 0.1 });
}

# --- Orders, and what their customers paid

my (%price, %callback);
for my $number (1 .. $orders)
{
	$price{"o$number"} = 1 + int rand 100_000;
}
$server->sql('INSERT INTO t_order (id, price) VALUES '
	. join ', ', map { "('$_', $price{$_})" } keys %price);
$server->sql('INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES '
	. join ', ', map { ("('${_}_w', '$_', $price{$_}, 'wechat')",
		"('${_}_a', '$_', $price{$_}, 'alipay')") } keys %price);

# The money comes in; the gateway tells of it, if asked to.
sub pay
{
	my ($name, $is_told, @ids) = @_;
	my $added = $gateways{$name}->add_payments(
		map {
			{ payment_id => $_, amount => $price{ s/_\w$//r }, currency => 'CNY',
				notify => $is_told ? $true : $false }
		} @ids);
	for my $i (0 .. $#ids)
	{
		my $amount = $price{ $ids[$i] =~ s/_\w$//r };
		$callback{ $ids[$i] } = "SELECT pay_callback('$ids[$i]', true, $amount, 'CNY',"
		  . " '$added->{transaction_ids}[$i]');\n";
	}
	return;
}

my @told = map { "o$_" } 1 .. $notified;
my @called = map { "o$_" } $notified + 1 .. $orders;
pay('wechat', 0, map { "${_}_w" } @called);
pay('alipay', 0, map { "${_}_a" } @called);

# --- Callbacks by concurrent sessions, each of them twice

sub start_session
{
	my ($number, @ids) = @_;
	my $script = "$PostgreSQL::Test::Utils::tmp_check/callbacks$number.sql";
	append_to_file($script, join '', @callback{@ids});
	my @psql = ($server->node->installed_command('psql'), '--no-psqlrc', '--quiet',
		'-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', $script, '-d',
		$server->node->connstr($server->database) . ' application_name=callbacks');
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $pid = fork() // die "fork: $!";
	return $pid if $pid != 0;
	open STDERR, '>', "$PostgreSQL::Test::Utils::log_path/callbacks$number.log";
	# Until all of them are acknowledged: a gateway would repeat them one by one.
	while (system(@psql) != 0)
	{
		POSIX::_exit(1) if time > $deadline;
		sleep 0.1;
	}
	POSIX::_exit(0);
}

# Some orders are in somebody's hand: no session gets far before the first kill.
my $holder = $server->session;
$holder->query_safe("BEGIN; SELECT count(pg_advisory_xact_lock(order_lock_key('o' || n)))"
	. " FROM generate_series($notified + 1, $orders, 40) n");
my @payments = map { ("${_}_w", "${_}_a") } @called;
my @turns = shuffle(@payments, @payments);
my @pids = map {
	my $session = $_;
	start_session($session, @turns[ grep { $_ % $sessions == $session } 0 .. $#turns ])
} 0 .. $sessions - 1;
pay('wechat', 1, map { "${_}_w" } @told);
pay('alipay', 1, map { "${_}_a" } @told);

# --- Kills

sub crash
{
	my ($pid) = @_;
	$server->crash_process($pid);
	note sprintf '%.1f s: killed', time - $started_at;
	return;
}

$server->wait_for(<<"SQL", 'every session is in the middle of a callback');
SELECT count(*) = $sessions FROM pg_stat_activity
WHERE application_name = 'callbacks' AND wait_event_type = 'Lock'
SQL
my ($victim) = split /\n/, $server->sql(<<'SQL');
SELECT pid FROM pg_stat_activity WHERE application_name = 'callbacks' ORDER BY random()
SQL
cmp_ok($server->sql('SELECT count(*) FROM t_order_pay WHERE status = 0'), '>', $orders / 2,
	'a backend dies in the middle of the callbacks');
crash($victim);
# It has ended with the others.
eval { $holder->quit };
for (1 .. $kills)
{
	my $worker = $server->worker_pid;
	my ($gateway) = shuffle(values %gateways);
	$gateway->wait_for(requests => $gateway->wait_for(requests => 0) + 1 + int rand 40);
	crash($worker);
}
cmp_ok($server->sql('SELECT count(*) FROM t_refund WHERE status = 300'),
	'<', $orders, 'there was work left at the last kill');
my @statuses = map { waitpid($_, 0); $? } @pids;
is_deeply([ grep { $_ != 0 } @statuses ], [], 'every callback was acknowledged in the end');

# --- To the end

# News that was lost: the application asks the gateway for what it misses, and finds the money.
$server->wait_for("SELECT count(*) >= $notified FROM t_order_pay p"
	. " WHERE status <> 0 AND substr(order_id, 2)::int <= $notified", 'most news has arrived');
my @missing = split /\n/, $server->sql("SELECT id FROM t_order_pay WHERE status = 0");
$server->sql(join '', @callback{@missing});
is($server->sql('SELECT count(*) FROM t_refund'), $orders, 'one payment of each order goes back');
$server->wait_for("SELECT count(*) >= $orders * 0.95 FROM t_refund WHERE status = 300",
	'nearly all are refunded');
note sprintf '%.1f s: nearly all are refunded', time - $started_at;
$_->faults() for values %gateways;
$server->wait_for("SELECT count(*) = $orders FROM t_refund WHERE status = 300",
	'every refund is refunded');

# --- Every fen

my %summary = map { $_ => $gateways{$_}->summary } keys %gateways;
my $total = sum(values %price);
is(sum(map { $_->{total_in}{CNY} } values %summary), 2 * $total, 'every order was paid twice');
is(sum(map { $_->{total_refunded}{CNY} } values %summary), $total, 'and refunded once');
is(sum(map { $_->{kept}{CNY} } values %summary), $total, 'its price is kept');
for my $name (sort keys %gateways)
{
	my $ledger = $summary{$name};
	is($ledger->{total_refunded}{CNY},
		$server->sql("SELECT sum(amount) FROM t_refund WHERE gateway = '$name'"),
		"$name sent back what the tables say");
	is($ledger->{kept}{CNY},
		$server->sql("SELECT sum(price) FROM t_order_pay WHERE gateway = '$name' AND status = 100"),
		"$name: and keeps what they say");
	is($ledger->{refused_requests}, 0, "$name had nothing to refuse");
	cmp_ok($ledger->{max_sent}, '>', 1, "$name: what was not done was sent again");
	cmp_ok($ledger->{succeeded}, '>', $orders / 5, "$name: many of its payments lost");
}
is($server->sql('SELECT count(*) FROM t_order WHERE status = 100'), $orders,
	'every order has its winner');
is($server->sql("SELECT count(*) FROM payonce_attention WHERE kind <> 'stray_notification'"), 0,
	'nobody is needed');

my %calls = map { /^(\w+ \w+)\|(\d+)$/ } split /\n/,
  $server->sql("SELECT call || ' ' || verdict, count(*) FROM t_refund_attempt GROUP BY 1");
cmp_ok($calls{'refund lost'} // 0, '>=', 1, 'the kills met requests in flight');
diag sprintf '%d refunds in %.0f s of %s; %s', $orders, time - $started_at,
  join(' and ', map { my $s = $summary{$_};
	"$_: $s->{succeeded} refunds, $s->{requests} requests, " . sum(values %{ $s->{faults} })
	  . ' faults' } sort keys %summary),
  join(', ', map { "$_ $calls{$_}" } sort keys %calls);
$server->judge_ok(values %gateways);
done_testing();
