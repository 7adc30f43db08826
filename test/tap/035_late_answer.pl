# The answer of an attempt that does not hold the refund any more is evidence, and nothing else. Who
# has claimed it meanwhile is played by hand here: one database has one worker.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use Payonce::Gateway;
use Payonce::TestServer;

my $wechat = Payonce::Gateway->new('wechat');
my $server = Payonce::TestServer->new('main', settings => { 'payonce.request_timeout' => '3s' });
$server->add_gateway($wechat);
$server->wait_for_worker;

# Of each an answer, a timeout, is on its way.
my ($attempt, $owner, $both) = $server->pay_twice_hanging($wechat, qw(attempt owner both));
$server->sql(<<"SQL");
UPDATE t_refund SET attempts = attempts + 1 WHERE refund_no IN ('$attempt', '$both');
UPDATE t_refund SET lease_owner = lease_owner + 1 WHERE refund_no IN ('$owner', '$both');
SQL
$server->wait_for('SELECT count(*) = 3 FROM t_refund_attempt', 'the answers are recorded');
is( $server->sql(
		'SELECT DISTINCT attempt, verdict, applied FROM t_refund_attempt'),
	'1|unknown|f',
	'as what they are');
is( $server->sql(<<'SQL'), '100|0|t', 'they change no refund');
SELECT DISTINCT status, failed_attempts, lease_owner IS NOT NULL FROM t_refund
SQL

$wechat->faults();
$server->crash_process($server->worker_pid);
$server->wait_refunded($attempt, $owner, $both);
is($wechat->methods($_), 'POST GET POST', "$_ is asked about before it is sent again")
  for $attempt, $owner, $both;
$server->judge_ok($wechat);
done_testing();
