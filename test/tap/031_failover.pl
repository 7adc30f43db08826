# With a synchronous standby no byte leaves before the standby has the claim, and with it the
# decision: neither when the wait for it is cancelled, nor when the primary crashes in it, nor when
# the primary does not know that it has been replaced. So whatever was sent, the new primary knows.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use Payonce::Failover;

my $story = Payonce::Failover->new;
my ($gateway, $primary, $standby) = ($story->gateway, $story->primary, $story->standby);
$story->cut_off;

# nothing_sent_ok(ORDER, WHAT): the worker has claimed its refund, and nothing left.
sub nothing_sent_ok
{
	my ($order, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$story->free_worker(sub { $story->is_at_barrier }, 'the worker is at the barrier');
	like($primary->refund_status("$order-2-R1"), qr/^(?:0|100)$/, "$what: the refund is visible");
	is($gateway->methods("$order-2-R1"), '', "$what: nothing is sent");
	return;
}

$story->cancel_callback('cancelled');
nothing_sent_ok('cancelled', 'the wait was cancelled');
$story->crash_during_callback('crashed');
nothing_sent_ok('crashed', 'the primary crashed in the wait');
is($gateway->methods('cancelled-2-R1'), '', 'nor does a new worker send what an earlier one claimed');
is($primary->sql('SELECT DISTINCT blocked_by FROM payonce_refund_backlog'),
	'the synchronous standbys have not confirmed it', 'the backlog says what it waits for');

$story->promote_standby;
$standby->wait_refunded($story->in_flight);
is($gateway->methods($story->in_flight), 'POST GET POST',
	'the new primary asks about what the old one had sent');

# Two primaries: the old one has nobody who could tell it.
$story->cancel_callback('isolated');
nothing_sent_ok('isolated', 'the primary is isolated');
$standby->wait_refunded($standby->pay_twice($gateway, 'after'));
pass('the new primary sends');
is(join(' ', $story->sent_but_forgotten), '', 'whatever was sent, the new primary knows');

# The old one is not waited for.
$primary->node->stop('fast');
pass('a worker at the barrier does not hold up a shutdown');

# The gateways repeat what nobody acknowledged.
my @orders = qw(cancelled crashed isolated);
is($standby->callback("$_-2"), 'duplicate', "$_: the gateway's repetition is decided") for @orders;
$standby->wait_refunded(map { "$_-2-R1" } @orders);
$standby->judge_ok($gateway);
done_testing();
