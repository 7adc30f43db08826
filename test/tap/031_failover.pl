# A failover forgets no decision on which a refund was sent: with a synchronous standby nothing leaves
# before it has the claim, however the waits for it end. An isolated old primary sends nothing, and
# says why. With an asynchronous standby a decision can get lost: what is guaranteed then.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use Payonce::Failover;
use Payonce::Gateway;
use Payonce::TestServer;

my $gateway = Payonce::Gateway->new('wechat');
my $failover =
  Payonce::Failover->new($gateway, settings => { 'payonce.request_timeout' => '600s' });
my ($old, $new) = ($failover->primary, $failover->standby);

sub times_sent
{
	my ($refund_no) = @_;
	return scalar grep { $_->{method} eq 'POST' } $gateway->requests($refund_no);
}

# --- With the standby; the last of it in flight when the standby goes

my @settled = $old->pay_twice($gateway, 'settled1', 'settled2');
$old->wait_refunded(@settled);
is($old->sql('SELECT count(*) FROM payonce_stat_worker WHERE blocked_by IS NOT NULL'), '0',
	'a standby that confirms blocks nothing');
$gateway->faults({ fault => 'hang_after', match => '^acted' }, { fault => 'hang', match => '^open' });
my @in_flight = $old->pay_twice($gateway, 'acted', 'open');
$gateway->wait_for(in_flight => 2);
$failover->prepare;
my $sent_before = $gateway->request_count;

# --- Isolated

my $tried = $failover->isolate;
is($tried->{$_}, 'held', "$_: the worker sends nothing") for sort keys %$tried;
my $blocked_by = 'waits for the synchronous standbys';
$old->wait_for(
	"SELECT bool_and(blocked_by = '$blocked_by') FROM payonce_refund_backlog", 'the backlog says why');
is($old->sql('SELECT blocked_by FROM payonce_stat_worker'), $blocked_by, 'the worker says why');
is($gateway->request_count, $sent_before, 'no byte has left the isolated primary');

# --- Promoted, while the old primary goes on

$gateway->faults();
Payonce::Failover::promote_alone($new);
my @lost = $failover->lost_decisions($new);
is("@lost", '', 'no refund was sent whose decision the new primary lacks');
diag sprintf '%d refunds sent whose decision the new primary lacks; %d decisions interrupted',
  scalar @lost, scalar keys %$tried;
$new->wait_refunded(@in_flight);
is($gateway->methods('acted-2-R1'), 'POST GET', 'in flight and paid out: the new primary asks');
is($gateway->methods('open-2-R1'), 'POST GET POST', 'in flight and not paid out: it asks, then sends');

# Nobody has acknowledged the interrupted callbacks, so the gateway repeats them.
is($failover->repeat_callback($_), 'duplicate', "$_: decided again") for sort keys %$tried;
$new->wait_refunded(map { "$_-2-R1" } keys %$tried);
is(times_sent("$_-2-R1"), 1, "$_: sent once, by the new primary") for sort keys %$tried;
$new->judge_ok($gateway);

is($old->sql('SELECT DISTINCT blocked_by FROM payonce_refund_backlog'), $blocked_by,
	'the old primary waits on');
$old->node->stop('fast');
pass('and can be shut down');

# --- An asynchronous standby: the limit

# Its gateway has to recognise a number: nobody is left who knows that it was used.
$gateway->restart('--idempotency-horizon-ms', 86_400_000);
my $third = $new->add_standby('asynchronous');
$new->wait_for('SELECT count(*) = 1 FROM pg_stat_replication', 'the asynchronous standby streams');
my ($callback) = $new->add_double_payments($gateway, 'forgotten');
$new->node->wait_for_catchup($third->node);
$third->node->stop('immediate');
is($new->sql($callback), 'duplicate', 'without a synchronous standby nobody waits');
$new->wait_refunded('forgotten-2-R1');
$new->node->stop('immediate');
Payonce::Failover::promote_alone($third);
is(join(' ', $failover->lost_decisions($third)), 'forgotten-2-R1',
	'asynchronous: the new primary knows nothing of a refund that was sent');
is($third->sql($callback), 'duplicate', 'the callback repeated is decided again');
$third->wait_refunded('forgotten-2-R1');
is(times_sent('forgotten-2-R1'), 2, 'the refund is sent again, under the same number');
is($gateway->refund('forgotten-2-R1')->{paid_out_count}, 1, 'and paid out once');
$third->judge_ok($gateway);
done_testing();
