# 64 connections deliver the callbacks of 200 orders with 8 payments each, in random order, those of
# an order at about the same time, some of them repeatedly and some after a failure: at each
# isolation level every order keeps one payment, and the ledgers show one refund of each other one
# that succeeded.
#
# PAYONCE_TEST_SEED repeats a run's random choices, though not what happens first.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use List::Util qw(max shuffle);
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my ($orders, $payments_each, $connections) = (200, 8, 64);
my $seed = $ENV{PAYONCE_TEST_SEED} // time;
srand $seed;
note "PAYONCE_TEST_SEED=$seed";

my @gateways = map { Payonce::Gateway->new($_) } 'wechat', 'alipay';
my $server = Payonce::TestServer->new('main');
$server->add_gateway($_) for @gateways;
$server->sql(<<'SQL');
CREATE TABLE delivery (
    client integer, step integer, payment_id text, success boolean, made boolean DEFAULT false,
    PRIMARY KEY (client, step))
SQL
$server->wait_for_worker;

# pgbench counts the steps of each client; a step that has to be repeated is counted once.
my $script = "$PostgreSQL::Test::Utils::tmp_check/deliver.sql";
append_to_file($script, <<'PGBENCH');
BEGIN;
SELECT pay_callback(payment_id, success)
FROM delivery WHERE client = :client_id AND step = :step + 1;
UPDATE delivery SET made = true WHERE client = :client_id AND step = :step + 1;
COMMIT;
\set step :step + 1
PGBENCH

# Prices differ by order, so that an amount sent back for another order would show.
sub add_orders_of
{
	my ($round) = @_;
	my (@new, @payments);
	for my $number (1 .. $orders)
	{
		my $id = "$round$number";
		my @of_order = map { [ "$id-$_", $gateways[ $_ % 2 ] ] } 1 .. $payments_each;
		push @new, { id => $id, price => 1000 + $number, payments => \@of_order };
		push @payments, map { $_->[0] } @of_order;
	}
	$server->add_orders(@new);
	return @payments;
}

# Which news there are of a payment, in their order: true for a success. An order's first payment
# always succeeds.
sub news_of
{
	my ($payment) = @_;
	my $dice = $payment =~ /-1$/ ? rand 0.9 : rand;
	return
	    $dice < 0.4 ? (1)
	  : $dice < 0.7 ? (1, 1, 1)
	  : $dice < 0.9 ? (0, 1, 1)
	  :               (0, 0);
}

# Spreads the news over the connections; each of a payment goes to another connection but the first
# two, whose order is kept. Returns who succeeds, and the number of steps.
sub plan_deliveries
{
	my %payments_of;
	push @{ $payments_of{ s/-\d$//r } }, $_ for @_;
	my (%queues, %succeeds);
	for my $payment (map { shuffle @$_ } shuffle values %payments_of)
	{
		my @news = news_of($payment);
		$succeeds{$payment} = 1 if grep { $_ } @news;
		my $client = int rand $connections;
		push @{ $queues{$client} }, map { [ $payment, $_ ] } splice @news, 0, 2;
		push @{ $queues{ int rand $connections } }, [ $payment, $_ ] for @news;
	}
	my @rows;
	for my $client (keys %queues)
	{
		my $step = 0;
		push @rows,
		  map { sprintf "(%d, %d, '%s', %d::boolean)", $client, ++$step, @$_ }
		  @{ $queues{$client} };
	}
	$server->sql('INSERT INTO delivery (client, step, payment_id, success) VALUES '
		  . join(', ', @rows));
	return (\%succeeds, max(map { scalar @$_ } values %queues));
}

sub deliver
{
	my ($isolation, $steps, $tries) = @_;
	local $ENV{PGOPTIONS} = '-c default_transaction_isolation=' . $isolation =~ s/ /\\ /r;
	my $database = $server->node->connstr($server->database);
	command_ok(
		[
			'pgbench', '--no-vacuum', "--client=$connections", '--jobs=2', "--transactions=$steps",
			"--max-tries=$tries", '--define=step=0', '--file', $script, $database
		],
		"$isolation: every callback is acknowledged");
	is($server->sql('SELECT count(*) FROM delivery WHERE NOT made'), 0,
		"$isolation: every callback was delivered");
	$server->sql('TRUNCATE delivery');
	return;
}

# How often a delivery may have to be repeated, on 40001.
my %tries = ('read committed' => 1, 'repeatable read' => 1000, 'serializable' => 1000);
for my $isolation (sort keys %tries)
{
	my $round = substr $isolation, 0, 3;
	my @payments = add_orders_of($round);
	my ($succeeds, $steps) = plan_deliveries(@payments);
	deliver($isolation, $steps, $tries{$isolation});
	my $refunds = keys(%$succeeds) - $orders;
	$server->wait_for(
		"SELECT count(*) = $refunds FROM t_refund WHERE refund_no LIKE '$round%' AND status = 300",
		'all duplicates are refunded');
	is($server->sql("SELECT count(*) FROM t_order WHERE id LIKE '$round%' AND status <> 100"),
		0, "$isolation: every order is paid");
	is($server->sql(<<"SQL"), $orders, "$isolation: each has one winner");
SELECT count(DISTINCT order_id) FROM t_order_pay WHERE status = 100 AND id LIKE '$round%'
SQL
	my @failed = grep { !$succeeds->{$_} } sort @payments;
	is($server->sql(<<"SQL"), join("\n", @failed), "$isolation: those failed that only failed");
SELECT id FROM t_order_pay WHERE status = 400 AND id LIKE '$round%' ORDER BY id
SQL
	is($server->sql("SELECT count(*) FROM t_refund WHERE refund_no LIKE '$round%'"),
		$refunds, "$isolation: nothing else is refunded");
}

is($server->sql('SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'), 0,
	'there was no deadlock');
$server->judge_ok(@gateways);
done_testing();
