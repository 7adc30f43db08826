# Judges the end of a storm by what the merchant told the gateways (test/chaos/merchant.py logs each
# acknowledgement) and by the gateways' ledgers. What the tables say counts for nothing by itself.
#
# A complaint is { kind, order, text }. Kinds: lost (what was acknowledged is not so, or money is not
# where it belongs), double (paid twice, or paid out once too often), stuck (not at its end), wrong.
package Payonce::MerchantJudge;

use strict;
use warnings;

use List::Util qw(sum0);

# What a merchant of the storm can be told.
my %outcome_known = map { $_ => 1 }
  ('success paid', 'success duplicate', 'success late', 'success already_processed',
	'failure failed', 'failure already_processed', 'close closed', 'close paid');

# read_log(FILE): { orders => {ID => {...}}, acks => N, errors => {SQLSTATE => N}, open => N }
sub read_log
{
	my ($file) = @_;
	my %log = (orders => {}, payments => {}, acks => 0, errors => {});
	open my $lines, '<', $file or die "$file: $!";
	while (my $line = <$lines>)
	{
		chomp $line;
		my ($what, @fields) = split /\t/, $line;
		_read_ack(\%log, @fields) if $what eq 'ack';
		$log{orders}{ $fields[0] } = { id => $fields[0], price => $fields[1], payments => [] }
		  if $what eq 'order';
		_read_payment(\%log, @fields) if $what eq 'payment';
		$log{errors}{ $fields[0] } = $fields[1] if $what eq 'error';
		$log{open} = $fields[0] if $what eq 'open';
	}
	return \%log;
}

sub _read_payment
{
	my ($log, $id, $order, $gateway, $succeeds, $fails) = @_;
	my $payment = { id => $id, gateway => $gateway, succeeds => $succeeds, fails => $fails,
		told => {} };
	push @{ $log->{orders}{$order}{payments} }, $payment;
	$log->{payments}{$id} = $payment;
	return;
}

sub _read_ack
{
	my ($log, undef, $order, $payment, $news, $outcome) = @_;
	$log->{acks}++;
	my $told = $news eq 'close' ? $log->{orders}{$order}{told} //= {}
	  : $log->{payments}{$payment}{told};
	$told->{"$news $outcome"}++;
	return;
}

# complaints(LOG, TABLES, { GATEWAY => LEDGER }): the tables are Judge's, the ledgers Gateway's.
sub complaints
{
	my ($log, $tables, $ledgers) = @_;
	my $books = _books($tables, $ledgers);
	my @found = map { _of_order($_, $books) } sort { $a->{id} cmp $b->{id} } values %{ $log->{orders} };
	push @found, map { _complaint('stuck', _order_of($_->{payment_id}),
		"refund $_->{refund_no} ended in status $_->{status}") }
	  grep { $_->{status} != 300 } @{ $tables->{refunds} };
	push @found, _complaint('stuck', undef, "$log->{open} callbacks were never acknowledged")
	  if $log->{open};
	push @found, _complaint('wrong', undef, 'the merchant did not come to its end')
	  if !defined $log->{open};
	return @found;
}

sub _complaint
{
	my ($kind, $order, $text) = @_;
	return { kind => $kind, order => $order, text => $text };
}

sub _order_of { return $_[0] =~ s/-\d+\z//r; }

# All that is compared, by its key. `in` and `out` are the gateways' own.
sub _books
{
	my ($tables, $ledgers) = @_;
	my %books = (
		order => { map { $_->{id} => $_ } @{ $tables->{orders} } },
		payment => { map { $_->{id} => $_ } @{ $tables->{payments} } },
		in => {},
		out => {},
		out_count => {});
	for my $name (keys %$ledgers)
	{
		$books{in}{ $_->{payment_id} }{$name} += $_->{amount} for @{ $ledgers->{$name}{payments} };
		for my $refund (@{ $ledgers->{$name}{refunds} })
		{
			my ($id, $count) = @$refund{qw(payment_id paid_out_count)};
			$books{out}{$id}{$name} += $refund->{amount} * $count;
			$books{out_count}{$id} += $count;
		}
	}
	return \%books;
}

sub _of_order
{
	my ($order, $books) = @_;
	my $id = $order->{id};
	my $row = $books->{order}{$id} // { status => 'missing' };
	my %told_of_close = %{ $order->{told} // {} };
	my @found = map { _of_payment($order, $_, $row, $books) } @{ $order->{payments} };
	my @arrived = grep { _told_success($_) } @{ $order->{payments} };
	push @found, _complaint('wrong', $id, "order $id was told '$_'")
	  for grep { !$outcome_known{$_} } sort keys %told_of_close;
	push @found, _complaint('lost', $id, "order $id was acknowledged as closed, and has status $row->{status}")
	  if $told_of_close{'close closed'} && $row->{status} ne '400';
	push @found, _complaint('lost', $id, "order $id was acknowledged as paid, and has status $row->{status}")
	  if $told_of_close{'close paid'} && $row->{status} ne '100';
	push @found, _complaint('lost', $id, "order $id was paid by $arrived[0]{id}, and has status $row->{status}")
	  if @arrived && $row->{status} ne '100' && $row->{status} ne '400';
	return (@found, _of_order_money($order, $row, \@arrived, $books));
}

# Of all that its customers paid, its price stays, once, or nothing if it was closed.
sub _of_order_money
{
	my ($order, $row, $arrived, $books) = @_;
	my $id = $order->{id};
	my @winners = grep { ($books->{payment}{ $_->{id} }{status} // '') eq '100' }
	  @{ $order->{payments} };
	my $stays = $row->{status} eq '100' ? 1 : 0;
	my @found;
	push @found, _complaint(@winners > $stays ? 'double' : 'lost', $id,
		"order $id has " . @winners . " winners and status $row->{status}")
	  if @winners != $stays;
	push @found, _complaint('double', $id, "order $id: two payments were told 'paid'")
	  if (sum0 map { $_->{told}{'success paid'} // 0 } @{ $order->{payments} }) > 1;
	my $kept = sum0 map { _kept($_, $books) } @{ $order->{payments} };
	my $expected = @$arrived && $stays ? $order->{price} : 0;
	push @found, _complaint($kept < $expected ? 'double' : 'lost', $id,
		"order $id: the gateways keep $kept of what was paid, not $expected")
	  if $kept != $expected;
	return @found;
}

# What its gateway has of a payment.
sub _kept
{
	my ($payment, $books) = @_;
	my ($id, $gateway) = @$payment{qw(id gateway)};
	return ($books->{in}{$id}{$gateway} // 0) - ($books->{out}{$id}{$gateway} // 0);
}

sub _told_success
{
	my ($payment) = @_;
	return scalar grep { /^success / } keys %{ $payment->{told} };
}

sub _of_payment
{
	my ($order, $payment, $row, $books) = @_;
	my ($id, $told) = @$payment{qw(id told)};
	my $status = $books->{payment}{$id}{status} // 'missing';
	my $out_count = $books->{out_count}{$id} // 0;
	my $is_winner = $status eq '100' && ($row->{paid_by} // '') eq $id;
	my @found;
	my $say = sub { push @found, _complaint($_[0], $order->{id}, "payment $id $_[1]"); };

	$say->('wrong', "was told '$_'") for grep { !$outcome_known{$_} } sort keys %$told;
	$say->('double', "was paid out $out_count times") if $out_count > 1;
	$say->('double', "was paid out by another gateway than $payment->{gateway}")
	  if grep { $_ ne $payment->{gateway} } keys %{ $books->{out}{$id} // {} };
	$say->('double', 'won, and its money went back') if $is_winner && $out_count != 0;
	if (!_told_success($payment))
	{
		$say->('stuck', 'succeeded, and nobody was told') if $payment->{succeeds};
		my $expected = $payment->{fails} ? 400 : 0;
		$say->('wrong', "has status $status, not $expected: no success of it was acknowledged")
		  if !$payment->{succeeds} && $status ne $expected;
		return @found;
	}
	my $is_waiting = $status =~ /^(?:200|500)$/;
	$say->($is_waiting ? 'stuck' : 'lost',
		"was acknowledged, and has status $status, paid out $out_count times")
	  if !$is_winner && !($status eq '300' && $out_count == 1);
	$say->('lost', 'was told that it won, and did not') if $told->{'success paid'} && !$is_winner;
	$say->('wrong', 'won, and was told that it did not')
	  if $is_winner && grep { $told->{"success $_"} } qw(duplicate late);
	return @found;
}

1;
