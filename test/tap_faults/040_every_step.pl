# Errors, no memory, and the end of the process, at every fault point that there is: whatever happens
# between two steps, each duplicate goes back exactly once, and nothing is left lying. Each point of
# the worker has a database of its own, so that their workers' pauses after an error or an end are
# waited for all at the same time.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../tap/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Stories;
use Payonce::TestServer;

my $gateways = Payonce::Stories::gateways();
my $server = Payonce::TestServer->new(
	'main',
	settings => {
		'max_worker_processes' => 64,
		# What a row's error puts off is found at the next look round.
		'payonce.naptime' => '2s',
	});
Payonce::Stories::prepare($server, $gateways);
my @points = Payonce::Stories::each_point($server);
# After the commit nothing can raise an error any more.
@points = grep { $_ ne 'decision_committed' } @points;

# The databases: the first for the backends' points, a copy for each of the worker's.
my @databases = ($server);
my %stories_at;
my $stories_of_backends = Payonce::Stories->new($server, $gateways);
for my $point (@points)
{
	if (Payonce::Stories::is_of_backends($point))
	{
		$stories_at{$point} = $stories_of_backends;
		next;
	}
	my $copy = Payonce::Stories::copy_of($server, "at_$point");
	push @databases, $copy;
	$stories_at{$point} = Payonce::Stories->new($copy, $gateways);
}
$_->wait_for_worker for @databases;

for my $action ('error', 'out of memory', 'exit')
{
	my (@hits, @ends);
	for my $point (@points)
	{
		my ($hit, $end) = $stories_at{$point}->begin($point, $action);
		push @hits, $hit;
		push @ends, $end;
	}
	$_->() for @hits;
	pass("$action: all " . @hits . ' points were reached');
	$_->() for @ends;
	pass("$action: all stories ended well");
}

Payonce::Stories::judge_all_ok($gateways, @databases);
my $log = slurp_file($server->node->logfile);
unlike($log, qr/PANIC|terminated by signal/, 'no error became a crash');
done_testing();
