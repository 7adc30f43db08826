# The story of test/tap/031_failover.pl on a server whose worker does not wait for the standby: the
# same check must find the refunds that the new primary knows nothing of. So it is the wait that keeps
# them from being sent, and the check is able to tell.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../tap/lib";
use Test::More;

use Payonce::Failover;
use Payonce::Gateway;
use Payonce::TestServer;

my $gateway = Payonce::Gateway->new('wechat');
my $failover =
  Payonce::Failover->new($gateway, settings => { 'payonce.test_fault' => 'barrier=skip' });
$failover->prepare;
my $tried = $failover->isolate;
is($tried->{$_}, 'sent', "$_: sent without the standby") for sort keys %$tried;
$failover->primary->node->stop('immediate');
Payonce::Failover::promote_alone($failover->standby);
is(
	join(' ', $failover->lost_decisions($failover->standby)),
	join(' ', map { "$_-2-R1" } sort keys %$tried),
	'the new primary lacks the decision of every one of them');
done_testing();
