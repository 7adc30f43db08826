# The extension and its servers come and go under a worker: nothing waits for a gateway that hangs,
# the worker neither spins nor fills the log, and a refund whose server is gone waits for a person.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $count = 8;
my $wechat = Payonce::Gateway->new('wechat');
my $server = Payonce::TestServer->new('main', settings => { 'payonce.request_timeout' => '600s' });
$server->add_gateway($wechat);
$server->wait_for_worker;

# Gone, and not for a moment: the launcher starts none where the extension is missing.
sub worker_goes_ok
{
	my ($what) = @_;
	$server->wait_for(<<'SQL', "the worker goes after $what");
SELECT NOT EXISTS (SELECT FROM pg_stat_activity
  WHERE backend_type = 'payonce worker' AND datname = current_database())
SQL
	pass("$what: the worker goes");
	return;
}

# A new start in a schema of this name, up to a refund that is sent, with a gateway whose books are
# new as well.
my $lives = 1;

sub works_again_ok
{
	my ($schema) = @_;
	my $gateway = Payonce::Gateway->new('gateway' . ++$lives);
	$server->sql("ALTER DATABASE shop SET search_path = $schema");
	$server->add_gateway($gateway);
	$server->wait_refunded($server->pay_twice($gateway, "life$lives"));
	pass("created again in $schema: refunds are sent");
	$server->judge_ok($gateway);
	return $gateway;
}

# --- What is rolled back

my @refund_nos = $server->pay_twice_hanging($wechat, map { "kept$_" } 1 .. $count);
my $worker = $server->worker_pid;
like($server->sql_error('DROP EXTENSION payonce'), qr/2BP01/, 'its servers hold the extension');
$server->prompt_ok("BEGIN;\nDROP EXTENSION payonce CASCADE;\nROLLBACK", 'DROP EXTENSION, rolled back');
$server->prompt_ok(<<'SQL', 'DROP EXTENSION and CREATE EXTENSION, rolled back');
BEGIN;
DROP EXTENSION payonce CASCADE;
CREATE SCHEMA pay;
CREATE EXTENSION payonce SCHEMA pay;
ROLLBACK
SQL
$server->sql('ALTER EXTENSION payonce UPDATE');
like($server->sql_error('ALTER EXTENSION payonce SET SCHEMA pg_temp'), qr/0A000/,
	'the extension stays in its schema');
$server->sql('ALTER EXTENSION payonce DROP VIEW payonce_attention');
$server->sql('ALTER EXTENSION payonce ADD VIEW payonce_attention');
is($server->worker_pid, $worker, 'none of this ends the worker');
$server->wait_in_flight($count);
$wechat->restart;
$server->wait_refunded(@refund_nos);
pass('the refunds are settled when the gateway no longer hangs');

# --- DROP SERVER

$server->sql("ALTER SERVER wechat OPTIONS (ADD paused 'true')");
my @queued = $server->pay_twice($wechat, 'queued1', 'queued2');
$server->sql("ALTER SERVER wechat OPTIONS (SET paused 'false', ADD max_in_flight '1')");
$server->wait_refunded(@queued);
my @hanging = $server->pay_twice_hanging($wechat, 'sent');
@queued = $server->pay_twice($wechat, 'queued3', 'queued4');
$server->prompt_ok('DROP SERVER wechat', 'DROP SERVER');
$server->wait_status(500, @queued);
is($server->sql("SELECT DISTINCT last_error FROM t_refund WHERE status = 500"),
	'there is no server "wechat": refund by hand and call refund_resolve, or create the server and'
	  . ' call refund_retry',
	'a queued refund without a server waits for a person, and says why');
is($server->sql("SELECT status FROM t_order_pay WHERE id = 'queued3-2'"), '500', 'so does its payment');
is($server->sql("SELECT count(*) FROM payonce_attention WHERE kind = 'refund'"), '2',
	'both are listed in payonce_attention');
$server->wait_in_flight(1);
$wechat->restart;
$server->wait_status(500, @hanging);
is($server->calls($hanging[0]), 'refund unknown', 'what was in flight is kept as unknown first');
$server->add_gateway($wechat);
$server->sql("SELECT refund_retry('$_')") for @queued, @hanging;
$server->wait_refunded(@queued, @hanging);
# A connection that was kept since before the restart may be found dead only by writing to it.
like($server->calls($queued[0]),
	qr/^refund (?:unknown, query not_found, refund )?succeeded$/,
	'created again, what was queued is sent');
is($wechat->methods($hanging[0]), 'POST GET POST', 'and what had been sent is asked about');
is($server->worker_pid, $worker, 'by the same worker');
$server->judge_ok($wechat);

# --- DROP EXTENSION

$server->pay_twice_hanging($wechat, map { "dropped$_" } 1 .. $count);
$server->prompt_ok('DROP EXTENSION payonce CASCADE', 'DROP EXTENSION');
worker_goes_ok('DROP EXTENSION');
$server->sql('CREATE SCHEMA pay; CREATE EXTENSION payonce SCHEMA pay');
my $gateway = works_again_ok('pay');

$worker = $server->worker_pid;
$server->pay_twice_hanging($gateway, map { "moved$_" } 1 .. $count);
$server->prompt_ok(<<'SQL', 'DROP EXTENSION and CREATE EXTENSION in one transaction');
BEGIN;
DROP EXTENSION payonce CASCADE;
CREATE SCHEMA "Pay Again";
CREATE EXTENSION payonce SCHEMA "Pay Again";
COMMIT
SQL
$gateway->restart;
$gateway = works_again_ok('"Pay Again"');
$server->wait_in_flight(0);
is($server->sql("SELECT count(*) FROM t_refund_attempt WHERE refund_no LIKE 'moved%' AND NOT applied"),
	$count, 'answers about refunds that are gone are evidence, and nothing else');
is($server->worker_pid, $worker, 'dropped and created in one transaction, the worker stays');

$server->pay_twice_hanging($gateway, map { "schema$_" } 1 .. $count);
$server->prompt_ok('DROP SCHEMA "Pay Again" CASCADE', 'DROP SCHEMA CASCADE');
worker_goes_ok('DROP SCHEMA CASCADE');

$server->sql('CREATE ROLE keeper SUPERUSER; GRANT CREATE, USAGE ON SCHEMA pay TO keeper');
$server->sql("SET ROLE keeper; CREATE EXTENSION payonce SCHEMA pay");
$gateway = works_again_ok('pay');
$server->pay_twice_hanging($gateway, map { "owned$_" } 1 .. $count);
$server->prompt_ok('DROP OWNED BY keeper CASCADE', 'DROP OWNED');
worker_goes_ok('DROP OWNED');

$server->sql('CREATE EXTENSION payonce SCHEMA public');
works_again_ok('public');

# --- The log

my $log = slurp_file($server->node->logfile);
my @starts = $log =~ /payonce: worker started for database "shop"/g;
is(scalar @starts, 4, 'a worker was started once for each time the extension was away');
# A line of a process that is no session has no name of an application after its pid.
my @complaints = $log =~ /^\S+ \S+ \S+ \[\d+\] (?:WARNING|ERROR|FATAL|PANIC): .*$/mg;
is(join("\n", @complaints), '', 'no worker complained');
done_testing();
