# Gateways that are away for a while, for too long, or that hang while others work; and how much a
# gateway is sent at a time.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use List::Util qw(max);
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $wechat = Payonce::Gateway->new('wechat');
my $server = Payonce::TestServer->new('main');
$server->add_gateway($wechat);
$server->wait_for_worker;

# Queues refunds while the gateway is down; returns their numbers.
sub pay_twice_without
{
	my ($gateway, @ids) = @_;
	my @second = $server->add_double_payments($gateway, @ids);
	$gateway->kill9;
	$server->sql(join ";\n", 'BEGIN', @second, 'COMMIT');
	return map { "$_-2-R1" } @ids;
}

# Until the worker has taken over changed settings, as its limit for a gateway shows.
sub wait_concurrency
{
	my ($limit, @gateways) = @_;
	for my $gateway (map { $_->name } @gateways)
	{
		$server->wait_for(
			"SELECT concurrency = $limit FROM payonce_stat_gateway WHERE gateway = '$gateway'",
			"$gateway has a limit of $limit");
	}
	return;
}

# --- Down and back

my @refused = pay_twice_without($wechat, map { "refused$_" } 1 .. 20);
$server->wait_for("SELECT min(attempts) >= 3 FROM t_refund", 'each was tried three times');
is($server->sql("SELECT count(*) FROM payonce_refund_backlog WHERE last_error IS NULL"), 0,
	'the backlog says why they wait');
$wechat->start;
$server->wait_refunded(@refused);
is(join(' ', map { $wechat->methods($_) } @refused), join(' ', ('POST') x 20),
	'a gateway that is back is sent each refund once');

# It dies with requests in hand, some of which it has carried out.
$wechat->faults(
	{ fault => 'hang', match => '^died-before' },
	{ fault => 'hang_after', match => '^died-after' });
my @died = $server->pay_twice($wechat, map { ("died-before$_", "died-after$_") } 1 .. 5);
$wechat->wait_for(in_flight => 10);
$wechat->kill9;
$server->wait_for(<<'SQL', 'each was asked about, in vain');
SELECT count(*) >= 10 FROM t_refund WHERE refund_no LIKE 'died%' AND attempts >= 2
SQL
$wechat->start;
$server->wait_refunded(@died);
like($server->calls('died-before1-2-R1'),
	qr/^refund unknown, (?:query not_sent, )+query not_found, refund succeeded$/,
	'what it had not done is sent again');
like($server->calls('died-after1-2-R1'),
	qr/^refund unknown, (?:query not_sent, )+query succeeded$/,
	'what it had done is not');

# --- Away for too long

$server->reload_with('payonce.retry_for' => '1s');
my ($given_up) = pay_twice_without($wechat, 'given-up');
$server->wait_status(500, $given_up);
like($server->calls($given_up), qr/^refund not_sent(?:, refund not_sent)+$/,
	'when the time for retries is used up, a person is asked');
is($server->sql("SELECT count(*) FROM payonce_attention WHERE why IS NOT NULL"), 2,
	'about the refund and its payment, with the reason');
$wechat->start;
is($server->sql("SELECT refund_retry('$given_up')"), $given_up, 'who has it tried again');
$server->wait_refunded($given_up);
is($server->sql('SELECT * FROM payonce_attention'), '', 'and is not needed any more');

# The same with an outcome that stays unknown. The money went back with the first call.
$wechat->faults(
	{ fault => 'drop_after', match => '^unclear', on => 'refund' },
	{ fault => '500_before', match => '^unclear', on => 'query' });
my ($unclear) = $server->pay_twice($wechat, 'unclear');
$server->wait_status(500, $unclear);
like($server->calls($unclear), qr/^refund unknown(?:, query unknown)+$/,
	'an outcome that stays unknown is asked about until the time is used up');
$wechat->faults();
$server->sql("SELECT refund_retry('$unclear')");
$server->wait_refunded($unclear);
is($wechat->refund($unclear)->{sent_count}, 1, 'and again after refund_retry: it was sent once');

# --- Time in which payonce did not try does not count

$server->reload_with('payonce.retry_for' => '4s');
my ($paused) = pay_twice_without($wechat, 'paused');
$server->wait_for("SELECT attempts > 0 FROM t_refund WHERE refund_no = '$paused'", 'it was tried');
$server->sql("ALTER SERVER wechat OPTIONS (ADD paused 'true')");
$server->wait_for(<<"SQL", 'the pause is longer than the time for retries');
SELECT retry_since + interval '5s' < clock_timestamp() AND lease_owner IS NULL
FROM t_refund WHERE refund_no = '$paused'
SQL
$wechat->start('--fault', '{"fault":"429","retry_after_s":null,"count":2,"match":"^paused"}');
$server->sql("ALTER SERVER wechat OPTIONS (SET paused 'false')");
$server->wait_refunded($paused);
like($server->calls($paused),
	qr/^(?:refund not_sent, )+refund wait, refund wait, refund succeeded$/,
	'after a pause the time for retries goes on where it was');
$server->reload_with('payonce.retry_for' => '7d');

# --- One hangs, the others work on

my $alipay = Payonce::Gateway->new('alipay');
$server->add_gateway($alipay);
# Two gateways, so each has a share of 4.
$server->reload_with('payonce.max_in_flight' => 8, 'payonce.request_timeout' => '60s');
wait_concurrency(4, $wechat);
$wechat->faults({ fault => 'hang' });
my @hanging = $server->pay_twice($wechat, map { "hanging$_" } 1 .. 40);
$wechat->wait_for(in_flight => 4);
my @flowing = $server->pay_twice($alipay, map { "flowing$_" } 1 .. 40);
$server->wait_refunded(@flowing);
is($server->sql("SELECT count(*) FROM t_refund WHERE gateway = 'wechat' AND status <> 300"), 40,
	'a gateway serves all of its refunds while another hangs');
is($wechat->connections->{max_in_flight}, 4, 'the one that hangs has its share of requests');
$wechat->faults();
$wechat->restart;
$server->wait_refunded(@hanging);

# --- How much at a time

$server->sql("ALTER SERVER alipay OPTIONS (ADD max_in_flight '3')");
$server->reload_with('payonce.max_in_flight' => 256);
wait_concurrency(3, $alipay);
$alipay->restart;
$alipay->faults({ fault => 'delay', ms => 50 });
$server->wait_refunded($server->pay_twice($alipay, map { "narrow$_" } 1 .. 30));
is($alipay->connections->{max_in_flight}, 3, 'max_in_flight of a server is used and kept');

$server->reload_with('payonce.max_in_flight' => 4);
$server->sql("ALTER SERVER alipay OPTIONS (DROP max_in_flight)");
for my $gateway ($wechat, $alipay)
{
	$gateway->restart;
	$gateway->faults({ fault => 'delay', ms => 50 });
}
wait_concurrency(2, $wechat, $alipay);
$server->wait_refunded($server->pay_twice($wechat, map { "half$_" } 1 .. 15),
	$server->pay_twice($alipay, map { "other-half$_" } 1 .. 15));
is($wechat->connections->{max_in_flight}, 2, 'payonce.max_in_flight is shared out');
is($alipay->connections->{max_in_flight}, 2, 'in equal parts');
$server->reload_with('payonce.max_in_flight' => 256);

my $rate = 10;
my $measured = Payonce::Gateway->new('measured');
$server->add_gateway($measured, rate_limit => $rate);
$server->wait_refunded($server->pay_twice($measured, map { "measured$_" } 1 .. 25));
my @at = sort { $a <=> $b } map { $_->{at} } $measured->requests;
is(scalar @at, 25, '25 requests were counted');
my $most_above = 0;
for my $last (0 .. $#at)
{
	my @above = map { $last - $_ + 1 - $rate * ($at[$last] - $at[$_]) } 0 .. $last;
	$most_above = max($most_above, @above);
}
# A second's worth at most at once; one more, since requests do not arrive as evenly as they leave.
cmp_ok($most_above, '<=', $rate + 1, 'rate_limit holds over every span of time');
# Time makes room for more, not only answers.
$measured->faults({ fault => 'delay', ms => 4000 });
my @slow = $server->pay_twice($measured, map { "slow$_" } 1 .. 15);
$measured->wait_for(in_flight => 15);
$server->wait_refunded(@slow);
pass('a gateway that answers slowly gets its rate all the same');

$server->judge_ok($wechat, $alipay, $measured);
done_testing();
