# Answers that come at an awkward moment, or together: the worker sleeps over none, and of a payment
# it records one after the other.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../tap/lib";
use Test::More;
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Utils;
use Payonce::Stories;
use Payonce::TestServer;

my $gateways = Payonce::Stories::gateways();
# Nothing is found by a look round.
my $server = Payonce::TestServer->new('main',
	settings => { 'payonce.naptime' => '1h', 'payonce.lease' => '1h' });
Payonce::Stories::prepare($server, $gateways);
$server->wait_for_worker;
my $stories = Payonce::Stories->new($server, $gateways);
my $faults = $stories->{faults};
my $prompt = $gateways->{prompt};

sub wait_until_paid_out
{
	my (@refund_nos) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	until (@refund_nos == grep { $prompt->refund($_) } @refund_nos)
	{
		die "the gateway was not sent @refund_nos" if time > $deadline;
		sleep 0.01;
	}
	return;
}

# --- The answer that makes room comes in while the worker looks for room in vain

$server->sql(q{ALTER SERVER prompt OPTIONS (ADD max_in_flight '1')});
$faults->arm('claim_begun', 'stop');
my ($first) = $server->pay_twice($prompt, 'first');
$faults->wait_hit('claim_begun');
my ($second) = $server->pay_twice($prompt, 'second');
# This claim takes the first alone; the next finds no room, and is held until there is an answer.
$faults->arm('claim_begun', 'stop');
$faults->wait_hit('claim_begun');
$server->wait_for("SELECT status = 100 FROM t_refund WHERE refund_no = '$first'",
	'the first is being sent');
wait_until_paid_out($first);
$faults->let_go('claim_begun');
$server->wait_refunded($first, $second);
pass('the second is sent as soon as the first is answered');

# --- Two refunds of one payment are answered together

$server->sql(q{ALTER SERVER prompt OPTIONS (SET max_in_flight '10')});
$stories->add_order($prompt, 'parts', 1);
is($server->callback('parts-1'), 'paid', 'an order is paid');
my $price = $server->sql("SELECT price FROM t_order_pay WHERE id = 'parts-1'");
$faults->arm('calls_started', 'stop');
my @parts = split /\n/, $server->sql("SELECT refund_request('parts-1', part, 'in two parts')"
	. " FROM unnest(ARRAY[1, $price - 1]) part");
$faults->wait_hit('calls_started');
# They leave, and both answers come before the worker looks for any.
$faults->arm('network_moved', 'stop');
$faults->let_go('calls_started');
$faults->wait_hit('network_moved');
wait_until_paid_out(@parts);
$faults->let_go('network_moved');
$server->wait_refunded(@parts);
is($server->sql("SELECT status FROM t_order_pay WHERE id = 'parts-1'"), 300,
	'all of the payment went back');
is($server->calls($_), 'refund succeeded', 'it was sent once') for @parts;
unlike(slurp_file($server->node->logfile), qr/ERROR: /, 'no batch failed');

$server->judge_ok(values %$gateways);
done_testing();
