# A worker lives for months: what it needs in memory depends on what it has in hand, not on what it
# has done. Laps of hundreds of refunds with lost answers, of hundreds of changed gateways, and of
# gateways that come and go: what the worker holds after each lap is told to the byte, so that what
# is forgotten with each refund is seen even if it is a word.
#
# Two numbers, since two kinds of memory can leak: what is used in PostgreSQL's memory contexts, and
# what else is taken from the heap (C++, libcurl, OpenSSL). A leak grows in every lap. PostgreSQL's
# own caches do not: they shrink by tens of kilobytes when more has been invalidated than a process
# keeps up with, and fill again. So the median of the laps is judged.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::HeapTeller;
use Payonce::TestServer;

my $warm_laps = 2;
my $laps = 5;
# What a lap does, how often, and how many bytes each may leave behind in the median.
my @kinds = (
	{ name => 'refund', count => 400, run => \&refund, contexts => 16, heap => 16 },
	{ name => 'change of a gateway', count => 200, run => \&change_gateway, contexts => 16, heap => 16 },
	# PostgreSQL remembers for good, of each server that ever was, that it has no user mapping for the
	# worker's role and none for PUBLIC: 310 bytes.
	{ name => 'gateway', count => 10, run => \&come_and_go, contexts => 512, heap => 64 });

my $wechat = Payonce::Gateway->new('wechat');
my $teller = Payonce::HeapTeller->new;
# New statistics of a table would grow the caches in any lap.
my $server = $teller->while_preloaded(
	sub { Payonce::TestServer->new('main', settings => { autovacuum => 'off' }) });
# One at a time: each kept connection has buffers, and how many of them the faults leave is chance.
$server->add_gateway($wechat, max_in_flight => 1);
$server->wait_for_worker;
my $worker = $server->worker_pid;
$wechat->faults(
	{ fault => 'drop_after', probability => 0.1 },
	{ fault => 'drop_before', probability => 0.1 });

sub refund
{
	my ($lap, $count) = @_;
	$server->pay_twice($wechat, map { "lap$lap-$_" } 1 .. $count);
	$server->wait_for('SELECT NOT EXISTS (SELECT FROM t_refund WHERE status <> 300)',
		"lap $lap: every refund is refunded");
	return;
}

# Each makes the worker read its gateways anew.
sub change_gateway
{
	my ($lap, $count) = @_;
	$server->wake_and_wait(join ";\n",
		map { "ALTER SERVER wechat OPTIONS (SET max_in_flight '" . (1 + $_ % 2) . "')" } 1 .. $count);
	return;
}

sub come_and_go
{
	my ($lap, $count) = @_;
	for my $number (1 .. $count)
	{
		$server->wake_and_wait("CREATE SERVER passing FOREIGN DATA WRAPPER payonce_http"
			. " OPTIONS (url 'http://127.0.0.1:$number')");
		$server->wake_and_wait('DROP SERVER passing');
	}
	return;
}

# What only a worker without work holds: it waits, and has nothing in hand.
sub memory
{
	my $log = $server->node->logfile;
	my $from = -s $log;
	$server->while_worker_looks_round(
		sub { $server->sql("SELECT pg_log_backend_memory_contexts($worker)") });
	my ($total, $used) = slurp_file($log, $from) =~ /Grand total: (\d+) bytes .* (\d+) used/
	  or die 'the worker did not tell of its memory contexts';
	return { contexts => $used, heap => $teller->bytes_in_use($worker) - $total };
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return $sorted[ $#sorted / 2 ];
}

my %growth;
my $before = memory();
for my $lap (1 .. $warm_laps + $laps)
{
	for my $kind (@kinds)
	{
		$kind->{run}->($lap, $kind->{count});
		my $after = memory();
		my %grown = map { $_ => $after->{$_} - $before->{$_} } keys %$after;
		note sprintf 'lap %d, %d times a %s: contexts %+d to %d, heap %+d to %d', $lap, $kind->{count},
		  $kind->{name}, map { ($grown{$_}, $after->{$_}) } qw(contexts heap);
		$before = $after;
		next if $lap <= $warm_laps;
		push @{ $growth{ $kind->{name} }{$_} }, $grown{$_} for keys %grown;
	}
}
is($server->worker_pid, $worker, 'it is the same worker');
for my $kind (@kinds)
{
	for my $part (qw(contexts heap))
	{
		my $grown = median(@{ $growth{ $kind->{name} }{$part} });
		cmp_ok($grown, '<=', $kind->{$part} * $kind->{count},
			"$part: $kind->{count} times a $kind->{name} leaves no more than $kind->{$part} bytes each");
	}
}
$server->judge_ok($wechat);
done_testing();
