# A worker lives for months: what it needs in memory depends on what it has in hand, not on what it
# has done. Thousands of refunds, with answers that fail in different ways, thousands of wake-ups
# for nothing, and gateways that come and go; halfway and at the end it holds as much.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

# Of one lap. What is forgotten with each refund, be it a string, is then more than the allowances
# below.
my $refunds = 1000;
my $wakeups = 300;
my $changes = 20;
my $warm_laps = 2;
my $laps = 3;
# PostgreSQL's caches keep a few hundred bytes of each server that was dropped, and the C library
# cuts pages as it likes.
my $allowed_used = 64 * 1024;
my $allowed_resident = 512 * 1024;

my $wechat = Payonce::Gateway->new('wechat');
my $server = Payonce::TestServer->new('main');
$server->add_gateway($wechat, max_in_flight => 20);
$server->wait_for_worker;
my $worker = $server->worker_pid;
$wechat->faults(
	{ fault => 'drop_after', probability => 0.1 },
	{ fault => 'drop_before', probability => 0.1 });

# What only a worker without work holds: it waits, and has nothing in hand.
sub memory
{
	my $log = $server->node->logfile;
	my $from = -s $log;
	$server->sql("SELECT pg_log_backend_memory_contexts($worker)");
	$server->wait_for("SELECT pg_read_file('$log', $from, 10000000) LIKE '%Grand total: % used%'",
		'the worker tells of its memory');
	my ($used) = slurp_file($log, $from) =~ /Grand total: .* (\d+) used/;
	my ($resident) = slurp_file("/proc/$worker/status") =~ /^RssAnon:\s+(\d+) kB/m;
	return { used => $used, resident => $resident * 1024 };
}

sub lap
{
	my ($number) = @_;
	$server->pay_twice($wechat, map { "lap$number-$_" } 1 .. $refunds);
	$server->wait_for('SELECT NOT EXISTS (SELECT FROM t_refund WHERE status <> 300)',
		"lap $number: every refund is refunded");
	# Each makes the worker read its gateways anew.
	$server->wake_and_wait(join ";\n",
		map { "ALTER SERVER wechat OPTIONS (SET max_in_flight '" . (20 + $_ % 2) . "')" } 1 .. $wakeups);
	for my $change (1 .. $changes)
	{
		$server->wake_and_wait("CREATE SERVER passing FOREIGN DATA WRAPPER payonce_http"
			. " OPTIONS (url 'http://127.0.0.1:$change')");
		$server->wake_and_wait('DROP SERVER passing');
	}
	my $memory = memory();
	note "lap $number: $memory->{used} bytes used in contexts, $memory->{resident} resident";
	return $memory;
}

lap($_) for 1 .. $warm_laps;
my $halfway = memory();
my $end;
$end = lap($_) for $warm_laps + 1 .. $warm_laps + $laps;
is($server->worker_pid, $worker, 'it is the same worker');
cmp_ok($end->{used} - $halfway->{used},
	'<=', $allowed_used, 'its memory contexts did not grow');
cmp_ok($end->{resident} - $halfway->{resident},
	'<=', $allowed_resident, 'its resident memory did not grow');
$server->judge_ok($wechat);
done_testing();
