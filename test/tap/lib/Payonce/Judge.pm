# The judge: holds the tables of an ended test against the ledgers of its gateways, which payonce
# has no hand in. Knows nothing of how payonce works, only what must be true of the money.
package Payonce::Judge;

use strict;
use warnings;

# Numbers of a ledger that are 0 unless payonce sent something that it must not send, or sent it too
# soon, or took a forgery for news. `refused_requests` has all that the gateway's protocol forbids.
my @must_be_zero = qw(duplicates unknown_payment refused_requests redirects_followed
  spacing_refused forged_notifications_acknowledged);

# One JSON object with all that is to be judged.
sub tables_query
{
	return <<'SQL';
SELECT json_build_object(
  'orders', (SELECT coalesce(json_agg(json_build_object(
      'id', id, 'status', status, 'paid_by', paid_by)), '[]') FROM t_order),
  'payments', (SELECT coalesce(json_agg(json_build_object(
      'id', id, 'order_id', order_id, 'status', status, 'gateway', gateway,
      'amount', coalesce(paid_amount, price))), '[]') FROM t_order_pay),
  'refunds', (SELECT coalesce(json_agg(json_build_object(
      'refund_no', r.refund_no, 'payment_id', r.payment_id, 'status', r.status,
      'gateway', r.gateway, 'amount', r.amount,
      'currency', coalesce(p.paid_currency, p.currency))), '[]')
    FROM t_refund r JOIN t_order_pay p ON p.id = r.payment_id))
SQL
}

# complaints(TABLES, GATEWAY...): what does not agree, in words; none when all is well.
sub complaints
{
	my ($tables, @gateways) = @_;
	my @found;
	my %kept;    # payment id => what its gateway still has of it
	for my $gateway (@gateways)
	{
		my $name = $gateway->name;
		my $ledger = $gateway->ledger('payments', 'refunds');
		my @refunds = grep { $_->{gateway} eq $name } @{ $tables->{refunds} };
		my @payments = grep { $_->{gateway} eq $name } @{ $tables->{payments} };
		push @found, map { "$name: $_" } _faulty_traffic($gateway),
		  _wrong_refunds(\@refunds, $ledger), _wrong_payments(\@payments, $ledger, \%kept);
	}
	my %judged = map { $_->name => 1 } @gateways;
	push @found, map { "no ledger of gateway $_" }
	  grep { !$judged{$_} } map { $_->{gateway} } @{ $tables->{refunds} };
	push @found, _wrong_orders($tables, \%kept);
	return @found;
}

sub _faulty_traffic
{
	my ($gateway) = @_;
	my $summary = $gateway->summary;
	my $counters = $summary->{counters};
	# What the script had it refuse is not payonce's fault.
	$summary->{refused_requests} -= $counters->{$_} // 0 for $gateway->provoked;
	my %counted = (%$counters, %$summary);
	my $all = join ', ', map { "$_ $counters->{$_}" } sort keys %$counters;
	my @found = map { "$_ is $counted{$_} (counted: $all)" }
	  grep { $counted{$_} // 0 } @must_be_zero;
	push @found, map { "the script provokes no $_" } grep { !$counters->{$_} } $gateway->provoked;
	push @found, map { "payment $_ was refunded beyond what came in" }
	  @{ $summary->{payments_over_refunded} };
	return @found;
}

# Each refund that counts as done was paid out once, as ordered; no other was paid out at all.
sub _wrong_refunds
{
	my ($refunds, $ledger) = @_;
	my %paid_out = map { $_->{refund_no} => $_ } @{ $ledger->{refunds} };
	my @found;
	for my $refund (@$refunds)
	{
		my $number = $refund->{refund_no};
		my $row = delete $paid_out{$number};
		my $count = $row ? $row->{paid_out_count} : 0;
		my $expected = $refund->{status} == 300 ? 1 : 0;
		push @found, "$number has status $refund->{status}, but was paid out $count times"
		  if $count != $expected;
		push @found, map { "$number: $_ is $refund->{$_}, at the gateway $row->{$_}" }
		  grep { $row && $row->{$_} ne $refund->{$_} } qw(payment_id amount currency);
	}
	push @found, map { "$_ was accepted, but there is no such refund" } sort keys %paid_out;
	return @found;
}

# What came in of each payment is what payonce believes. Notes what the gateway keeps of it.
sub _wrong_payments
{
	my ($payments, $ledger, $kept) = @_;
	my (%in, @found);
	$in{ $_->{payment_id} } += $_->{amount} for @{ $ledger->{payments} };
	my %left = %in;
	$left{ $_->{payment_id} } -= $_->{amount} * $_->{paid_out_count} for @{ $ledger->{refunds} };
	for my $payment (@$payments)
	{
		my ($id, $arrived) = ($payment->{id}, $payment->{status} =~ /^(?:100|200|300|500)$/);
		push @found, "payment $id: $payment->{amount} arrived, at the gateway " . ($in{$id} // 0)
		  if $arrived && ($in{$id} // 0) != $payment->{amount};
		push @found, "payment $id has status $payment->{status}, but money of it went back"
		  if !$arrived && ($left{$id} // 0) != ($in{$id} // 0);
		push @found, "payment $id has status 300, but the gateway keeps $left{$id} of it"
		  if $payment->{status} == 300 && $left{$id} != 0;
		$kept->{$id} = $left{$id} // 0;
	}
	return @found;
}

# Of each paid order nothing is kept but its winner, once everything has come to its end.
sub _wrong_orders
{
	my ($tables, $kept) = @_;
	my %payments_of;
	push @{ $payments_of{ $_->{order_id} } }, $_ for @{ $tables->{payments} };
	my @found;
	for my $order (@{ $tables->{orders} })
	{
		my @payments = @{ $payments_of{ $order->{id} } // [] };
		my @winners = grep { $_->{status} == 100 } @payments;
		push @found, "order $order->{id} has " . @winners . ' winners' if @winners > 1;
		push @found, map { "order $order->{id}: winner $_->{id} is not its paid_by" }
		  grep { $_->{id} ne ($order->{paid_by} // '') } @winners;
		push @found, map { "order $order->{id}: nothing is left of its winner $_->{id}" }
		  grep { defined $kept->{ $_->{id} } && $kept->{ $_->{id} } == 0 } @winners;
	}
	return @found;
}

1;
