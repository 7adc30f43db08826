# The story of test/tap/031_failover.pl on a build in which the barrier can be left out: its judgement
# is a different one. So that test would see a barrier that does not hold.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../tap/lib";
use Test::More;

use Payonce::Failover;

my $story = Payonce::Failover->new('payonce.test_fault' => 'barrier=skip');
my $gateway = $story->gateway;
$story->cut_off;
$story->cancel_callback('cancelled');
$story->crash_during_callback('crashed');
for my $refund_no (qw(cancelled-2-R1 crashed-2-R1))
{
	$story->free_worker(sub { $gateway->methods($refund_no) =~ /POST/ }, "$refund_no was sent");
	pass("$refund_no: sent, though no standby has its decision");
}
$story->promote_standby;
is(join(' ', $story->sent_but_forgotten), 'cancelled-2-R1 crashed-2-R1',
	'the new primary does not know what was sent');
done_testing();
