# A short storm (scripts/chaos runs it for longer): a merchant's many connections deliver callbacks
# through three gateways, one with a clock that lies, while backends, worker, launcher, postmaster and
# gateways are killed, stopped, terminated and cancelled. Once the faults end, whatever was
# acknowledged is so, by the gateways' own ledgers: nothing is lost, nothing twice, nothing stuck.
#
# PAYONCE_TEST_SEED repeats a run's schedule, PAYONCE_CHAOS_SECONDS says for how long.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use List::Util qw(first);
use Storable qw(dclone);
use Test::More;

use Payonce::Chaos;
use Payonce::MerchantJudge;

my $seconds = $ENV{PAYONCE_CHAOS_SECONDS} // 15;
my $seed = $ENV{PAYONCE_TEST_SEED} // 20260130;
diag "PAYONCE_TEST_SEED=$seed PAYONCE_CHAOS_SECONDS=$seconds";

my $chaos = Payonce::Chaos->new(
	seconds => $seconds,
	seed => $seed,
	progress => $ENV{PAYONCE_CHAOS_PROGRESS} // 0);
$chaos->run;

# --- The judgement

my @complaints = $chaos->complaints;
for my $kind (qw(lost double stuck wrong))
{
	my @of_kind = map { $_->{text} } grep { $_->{kind} eq $kind } @complaints;
	is(join("\n", splice @of_kind, 0, 20), '', "nothing is $kind, by the merchant's log and the ledgers");
}
$chaos->server->judge_ok($chaos->gateways);
is($chaos->server->sql('SELECT * FROM payonce_attention'), '', 'nobody is needed');

cmp_ok($chaos->done($_), '>=', 1, "done: $_") for $chaos->kinds;
cmp_ok($chaos->evidence->{log}{acks}, '>=', 10 * $seconds, 'many callbacks were acknowledged');

# --- That the judge would have found it: the same evidence, with one thing of it changed.

my %log_payments = %{ $chaos->evidence->{log}{payments} };

# Of a payment that satisfies the condition, the row in the tables or in its gateway's ledger.
sub table_row
{
	my ($evidence, $id) = @_;
	return first { $_->{id} eq $id } @{ $evidence->{tables}{payments} };
}

sub ledger_row
{
	my ($evidence, $id) = @_;
	my $refunds = $evidence->{ledgers}{ $log_payments{$id}{gateway} }{refunds};
	return first { $_->{payment_id} eq $id } @$refunds;
}

my @ids = sort keys %log_payments;
my $winner = first { $log_payments{$_}{told}{'success paid'} } @ids;
my $duplicate = first { $log_payments{$_}{told}{'success duplicate'} } @ids;
my $failed = first { $log_payments{$_}{told}{'failure failed'} && !$log_payments{$_}{succeeds} } @ids;

sub found_ok
{
	my ($what, $kind, $id, $doctor) = @_;
	my $evidence = dclone($chaos->evidence);
	$doctor->($evidence);
	my $order = $id =~ s/-\d+$//r;
	my @found = grep { $_->{kind} eq $kind && ($_->{order} // '') eq $order }
	  $chaos->complaints($evidence);
	cmp_ok(scalar @found, '>=', 1, "the judge finds $what");
	return;
}

found_ok('a refund that the ledger does not have', 'lost', $duplicate, sub {
	ledger_row($_[0], $duplicate)->{paid_out_count} = 0;
});
found_ok('a refund that was paid out twice', 'double', $duplicate, sub {
	ledger_row($_[0], $duplicate)->{paid_out_count} = 2;
});
found_ok('an acknowledged duplicate that the tables do not know', 'lost', $duplicate, sub {
	table_row($_[0], $duplicate)->{status} = 0;
});
found_ok('a second winner', 'double', $duplicate, sub {
	table_row($_[0], $duplicate)->{status} = 100;
});
found_ok('an acknowledged winner that lost', 'lost', $winner, sub {
	my ($order) = grep { $_->{paid_by} && $_->{paid_by} eq $winner } @{ $_[0]{tables}{orders} };
	$order->{paid_by} = 'another';
});
found_ok('a winner whose money went back', 'double', $winner, sub {
	push @{ $_[0]{ledgers}{ $log_payments{$winner}{gateway} }{refunds} },
	  { payment_id => $winner, amount => table_row($_[0], $winner)->{amount}, paid_out_count => 1 };
});
found_ok('a refund that is stuck', 'stuck', $duplicate, sub {
	(first { $_->{payment_id} eq $duplicate } @{ $_[0]{tables}{refunds} })->{status} = 150;
});
found_ok('an order that was acknowledged as paid', 'lost', $winner, sub {
	(first { ($_->{paid_by} // '') eq $winner } @{ $_[0]{tables}{orders} })->{status} = 0;
});
found_ok('a success that nobody told', 'wrong', $failed, sub {
	table_row($_[0], $failed)->{status} = 300;
});

# --- For people

my $is_passing = Test::More->builder->is_passing;
$chaos->write_report($is_passing ? () : ('See what failed in the output of the test.'));
diag $_ for $chaos->figures;
diag 'The report is ' . $chaos->report_file if !$is_passing;
done_testing();
