# One worker for each database that has the extension, whenever it got it; none, and no connection,
# for the others; and what happens when the server has too few slots for workers.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $wechat = Payonce::Gateway->new('wechat');
my $alipay = Payonce::Gateway->new('alipay');
my $shop = Payonce::TestServer->new(
	'main',
	settings => {
		max_worker_processes => 16,
		max_logical_replication_workers => 0,
		max_prepared_transactions => 5,
	});
my $node = $shop->node;
my $admin = $shop->in_database('postgres');

# Databases that have a worker, in order.
my $with_worker = "SELECT coalesce(string_agg(datname, ' ' ORDER BY datname COLLATE \"C\"), '')"
  . " FROM pg_stat_activity WHERE backend_type = 'payonce worker'";

# --- Each its own worker

my $store = $shop->in_database('store');
$store->create_database;
$admin->sql('CREATE DATABASE plain');
$shop->add_gateway($wechat);
$store->add_gateway($alipay);
my @in_shop = $shop->pay_twice($wechat, map { "shop$_" } 1 .. 20);
my @in_store = $store->pay_twice($alipay, map { "store$_" } 1 .. 20);
$shop->wait_refunded(@in_shop);
$store->wait_refunded(@in_store);
isnt($shop->worker_pid, $store->worker_pid, 'two databases have two workers');
$admin->wait_for("SELECT ($with_worker) = 'shop store'", 'no other database has a worker');
$shop->judge_ok($wechat);
$store->judge_ok($alipay);

# A gateway that hangs in one database is nothing to the other; nor is the end of its worker.
$shop->pay_twice_hanging($wechat, map { "hang$_" } 1 .. 4);
$store->wait_refunded($store->pay_twice($alipay, 'beside_hang'));
my $worker = $store->worker_pid;
$shop->sql("SELECT pg_terminate_backend($_)") for $shop->worker_pid;
$store->wait_refunded($store->pay_twice($alipay, 'beside_end'));
is($store->worker_pid, $worker, 'what happens in one database is nothing to the other');
$wechat->faults();

# --- Databases that come and go

# CREATE EXTENSION meets the launcher's own look at the new database at any moment.
my @late = map { $shop->in_database("late$_") } 1 .. 5;
for my $late (@late)
{
	my $name = $late->database;
	$node->safe_psql('postgres', "CREATE DATABASE $name;\n\\c $name\nCREATE EXTENSION payonce");
	# Far less than the 15 s after which the launcher gives a start up as lost.
	my $started_at = time;
	$late->wait_for_worker;
	cmp_ok(time - $started_at, '<', 10, "$name gets a worker without a restart");
}
$admin->sql('DROP DATABASE ' . $_->database) for @late;
my $last = pop @late;
$last->create_database;
$last->wait_for_worker;
pass('a database of the same name gets a worker again');
$admin->sql('DROP DATABASE ' . $last->database);
$shop->wait_for_worker;
$admin->wait_for("SELECT ($with_worker) = 'shop store'", 'the others are gone');

my $plain = $shop->in_database('plain');
$plain->sql("BEGIN;\nCREATE EXTENSION payonce;\nROLLBACK");
like($plain->sql_error("BEGIN;\nCREATE EXTENSION payonce;\nPREPARE TRANSACTION 'later'"), qr/0A000/,
	'CREATE EXTENSION cannot be prepared: its COMMIT PREPARED would start no worker');
$plain->sql('CREATE EXTENSION payonce');
$plain->wait_for_worker;
pass('CREATE EXTENSION gets a worker in a database that was without for long');
$plain->sql('DROP EXTENSION payonce');

$shop->wait_refunded(map { "hang$_-2-R1" } 1 .. 4);
$shop->judge_ok($wechat);

# --- Another launcher

my $launcher = $shop->launcher_pid;
$worker = $shop->worker_pid;
$admin->sql("SELECT pg_terminate_backend($launcher)");
my $newest = $shop->in_database('newest');
$newest->create_database;
$newest->wait_for_worker;
isnt($shop->launcher_pid, $launcher, 'a launcher that ends is followed by another');
is($shop->worker_pid, $worker, 'which leaves the workers alone');
$admin->sql('DROP DATABASE newest');

# --- Too few slots

# One for the launcher, one for a worker.
$shop->write_settings(max_worker_processes => 2);
$node->restart;
my $log_start = -s $node->logfile;
$admin->wait_for("SELECT ($with_worker) IN ('shop', 'store')", 'one database has a worker');
my ($served, $waiting, $gateway) = $admin->sql($with_worker) eq 'shop'
  ? ($shop, $store, $alipay) : ($store, $shop, $wechat);
my @refund_nos = $waiting->pay_twice($gateway, map { "slot$_" } 1 .. 4);
# Where the launcher tries again at this moment, it is being started.
$waiting->wait_for(<<'SQL', 'the backlog and the state say that there is no slot');
SELECT state = 'no worker slot' AND NOT EXISTS (SELECT FROM payonce_refund_backlog
  WHERE blocked_by IS DISTINCT FROM 'no worker slot is free: raise max_worker_processes')
FROM payonce_stat_worker
SQL
pass('the backlog and the state say that there is no slot');
my $warning = 'payonce: no background worker slot is free';
$node->wait_for_log(qr/$warning/, $log_start);
$served->sql('DROP EXTENSION payonce CASCADE');
$waiting->wait_refunded(@refund_nos);
pass('a slot that is freed is taken');
is($waiting->sql('SELECT blocked_by IS NULL FROM payonce_stat_worker'), 't', 'nothing is in the way');
my @warnings = slurp_file($node->logfile, $log_start) =~ /$warning/g;
is(scalar @warnings, 1, 'the want was logged once');
$waiting->judge_ok($gateway);
done_testing();
