# kill -9 at every fault point that there is, which takes the whole server through crash recovery:
# each duplicate goes back exactly once, and nothing is left lying.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../tap/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Stories;
use Payonce::TestServer;

my $gateways = Payonce::Stories::gateways();
# Nothing is found by looking round: a new worker has to find all of it.
my $server = Payonce::TestServer->new('main', settings => { 'payonce.lease' => '1h' });
Payonce::Stories::prepare($server, $gateways);
$server->wait_for_worker;
my $stories = Payonce::Stories->new($server, $gateways);
my @points = Payonce::Stories::each_point($server);
my $started_at = 'SELECT pg_postmaster_start_time()';
my $postmaster = $server->sql($started_at);

my ($crashes, $read_up_to) = (0, 0);
for my $point (@points)
{
	my ($hit, $end) = $stories->begin($point, 'crash');
	$hit->();
	# What the process committed before can be seen until the server goes down.
	$read_up_to = $server->node->wait_for_log(qr/all server processes terminated/, $read_up_to);
	++$crashes;
	$stories->insist('SELECT true');
	$end->();
}
my $log = slurp_file($server->node->logfile);
is(scalar(() = $log =~ /was terminated by signal 9/g), $crashes, "$crashes points, as many crashes");
is($server->sql($started_at), $postmaster, 'and the server recovered by itself');
is($server->sql(<<'SQL'), '', 'nobody is needed, and nothing is left lying');
SELECT kind, id FROM payonce_attention
UNION ALL SELECT 'unsettled', refund_no FROM t_refund WHERE status <> 300 OR lease_owner IS NOT NULL
SQL
$server->judge_ok(values %$gateways);
done_testing();
