# The C++ part has no memory: every allocation of the engine that sends, and of what reads
# notifications, fails once, the first, the second, and so on. No refund is lost or made twice by it.
# Several databases, so that their workers' pauses are waited for at the same time.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../tap/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Stories;
use Payonce::TestServer;

my $at_a_time = 12;

my $gateways = Payonce::Stories::gateways();
my $server = Payonce::TestServer->new(
	'main',
	settings => {
		'max_worker_processes' => 32,
		'payonce.request_timeout' => '2s',
		# What could not be handed to the engine is found at the next look round.
		'payonce.naptime' => '1s',
	});
Payonce::Stories::prepare($server, $gateways);

my (@databases, @stories);
for my $number (1 .. $at_a_time)
{
	my $copy = Payonce::Stories::copy_of($server, "shop$number");
	push @databases, $copy;
	push @stories, Payonce::Stories->new($copy, $gateways);
}
$_->wait_for_worker for @databases;

for my $point (Payonce::Stories::each_allocation_point($server))
{
	my ($failed, $reached, $number) = (0, 1, 0);
	# Until there is no allocation of so high a number.
	while ($reached)
	{
		$reached = 0;
		my @ends = map { ($_->begin($point, ++$number))[1] } @stories;
		$_->() for @ends;
		for my $of_one (@stories)
		{
			$reached += !$of_one->{faults}->disarm($point);
		}
		$failed += $reached;
	}
	cmp_ok($failed, '>', 0, "$point: no memory at $failed allocations, and all ended well");
}

Payonce::Stories::judge_all_ok($gateways, @databases);
my $log = slurp_file($server->node->logfile);
unlike($log, qr/PANIC|terminated by signal/, 'no process crashed');
like($log, qr/FATAL: .*out of memory while reading answers/, 'a worker that lost answers ends');
done_testing();
