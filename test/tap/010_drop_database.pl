# What wants a database for itself (DROP, RENAME, SET TABLESPACE, being a template) gets it from the
# worker at once, also while a gateway hangs; and the worker comes back wherever the database is left.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $count = 8;
# The original and its copies send under the same numbers: only a gateway that remembers them can
# tell that this is one refund.
my $wechat = Payonce::Gateway->new('wechat', forgets => 0);
my $server = Payonce::TestServer->new('main', settings => { 'payonce.request_timeout' => '600s' });
my $admin = $server->in_database('postgres');
$server->add_gateway($wechat);
$server->wait_for_worker;
my @refund_nos = $server->pay_twice_hanging($wechat, map { "hang$_" } 1 .. $count);

# The worker of the database, now under this name, has come back and hangs again.
sub comes_back_ok
{
	my ($back, $what, $not_pid) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$back->wait_for_worker($not_pid);
	$back->wait_in_flight($count);
	pass("$what: the worker comes back and asks");
	return;
}

# --- What fails

my $worker = $server->worker_pid;
$admin->sql('CREATE ROLE mallory CREATEDB');
for my $statement ('DROP DATABASE shop', 'DROP DATABASE shop WITH (FORCE)',
	'ALTER DATABASE shop RENAME TO mine', 'ALTER DATABASE shop SET TABLESPACE pg_default',
	'CREATE DATABASE mine TEMPLATE shop')
{
	like($admin->sql_error("SET ROLE mallory;\n$statement"),
		qr/42501/, "another's database: $statement");
}
is($server->worker_pid, $worker, 'who does not own the database does not stop its worker');
$server->wait_in_flight($count);

like($admin->sql_error("BEGIN;\nDROP DATABASE shop"), qr/25001/, 'DROP in a transaction block');
comes_back_ok($server, 'after DROP in a transaction block');

my $session = $server->node->background_psql('shop');
$worker = $server->worker_pid;
like($admin->sql_error('DROP DATABASE shop'), qr/55006/, 'DROP while another session is connected');
comes_back_ok($server, 'after a DROP that failed', $worker);
$worker = $server->worker_pid;
like($admin->sql_error("SET statement_timeout = '1s';\nALTER DATABASE shop RENAME TO bazaar"),
	qr/57014/, 'RENAME while another session is connected, cancelled');
comes_back_ok($server, 'after a RENAME that was cancelled', $worker);
$session->quit;

# --- What leaves the database there

$worker = $server->worker_pid;
$admin->prompt_ok('ALTER DATABASE shop RENAME TO bazaar', 'RENAME');
my $bazaar = $server->in_database('bazaar');
comes_back_ok($bazaar, 'after RENAME', $worker);

my $directory = PostgreSQL::Test::Utils::tempdir_short();
$admin->sql("CREATE TABLESPACE elsewhere LOCATION '$directory'");
$worker = $bazaar->worker_pid;
$admin->prompt_ok('ALTER DATABASE bazaar SET TABLESPACE elsewhere', 'SET TABLESPACE');
comes_back_ok($bazaar, 'after SET TABLESPACE', $worker);
$worker = $bazaar->worker_pid;
$admin->prompt_ok('ALTER DATABASE bazaar SET TABLESPACE pg_default', 'SET TABLESPACE and back');
comes_back_ok($bazaar, 'after SET TABLESPACE', $worker);

for my $strategy ('wal_log', 'file_copy')
{
	$worker = $bazaar->worker_pid;
	$admin->prompt_ok("CREATE DATABASE copy_$strategy TEMPLATE bazaar STRATEGY $strategy",
		"CREATE DATABASE ... TEMPLATE with $strategy");
	comes_back_ok($bazaar, "after being a template with $strategy", $worker);
}

# Two names in one transaction: both are kept away, and both are let go.
my $second = $server->in_database('second');
$second->create_database;
$second->wait_for_worker;
$worker = $bazaar->worker_pid;
my $second_worker = $second->worker_pid;
$admin->sql('BEGIN; ALTER DATABASE bazaar RENAME TO shop; ALTER DATABASE second RENAME TO third; COMMIT');
comes_back_ok($server, 'after RENAME of two in one transaction: the first', $worker);
my $third = $server->in_database('third');
$third->wait_for_worker($second_worker);
$worker = $server->worker_pid;
like(
	$admin->sql_error(
		"BEGIN;\nALTER DATABASE third RENAME TO fourth;\nSAVEPOINT s;\n"
		  . "ALTER DATABASE shop RENAME TO fifth;\nROLLBACK TO s;\nDROP DATABASE third"),
	qr/25001/, 'RENAMEs rolled back');
comes_back_ok($server, 'after a RENAME that was rolled back', $worker);
$third->wait_for_worker;

# --- A copy

my @copies = map { $server->in_database("copy_$_") } 'wal_log', 'file_copy';
my $asked = $wechat->summary->{requests};
for my $copy (@copies)
{
	$copy->wait_for_worker;
	$copy->wake_and_wait("ALTER SERVER wechat OPTIONS (ADD rate_limit '1000')");
	is($copy->sql('SELECT DISTINCT blocked_by FROM payonce_refund_backlog'),
		'this database is a copy: see payonce_activate()', 'the copy says why it sends nothing');
}
is($wechat->summary->{requests}, $asked, 'no copy sends anything');

$wechat->restart;
$server->wait_refunded(@refund_nos);
pass('the original settles when the gateway no longer hangs');
for my $copy (@copies)
{
	isnt($copy->refund_status($refund_nos[0]), '300', 'the copy has not heard of it');
	$copy->sql('SELECT payonce_activate()');
	$copy->wait_refunded(@refund_nos);
	is($copy->calls($refund_nos[0]) =~ s/.*, //r, 'query succeeded',
		'activated, the copy asks before it sends');
	$copy->judge_ok($wechat);
}
$server->judge_ok($wechat);

# --- Databases that nobody may connect to

$admin->sql('ALTER DATABASE third IS_TEMPLATE true ALLOW_CONNECTIONS false');
# As a DROP that was interrupted leaves its database.
$admin->sql('CREATE DATABASE broken');
$admin->sql("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'broken'");
$server->node->restart;
$server->wait_for_worker;
my $absent = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'third'";
is($admin->sql($absent), '0', 'no worker in a database without connections');
$admin->sql('ALTER DATABASE third ALLOW_CONNECTIONS true');
$third->wait_for_worker;
pass('but when they are allowed again');
$admin->sql('DROP DATABASE broken');

# --- The extension in the template of every new database

my $template = $server->in_database('template1');
$template->sql('CREATE EXTENSION payonce');
$template->wait_for_worker;
$admin->prompt_ok("SET ROLE mallory;\nCREATE DATABASE heir", 'CREATE DATABASE from template1');
my $heir = $server->in_database('heir');
$heir->wait_for_worker;
is($heir->sql('SELECT blocked_by FROM payonce_stat_worker'),
	'this database is a copy: see payonce_activate()', 'a database made from template1 is a copy');
$admin->prompt_ok('DROP DATABASE heir', 'DROP of the copy');
$template->wait_for_worker;
$template->sql('DROP EXTENSION payonce');

# --- DROP

@refund_nos = $server->pay_twice_hanging($wechat, map { "drop$_" } 1 .. $count);
$admin->prompt_ok('DROP DATABASE shop', 'DROP');
@refund_nos = $copies[0]->pay_twice_hanging($wechat, map { "force$_" } 1 .. $count);
$session = $server->node->background_psql('copy_wal_log', on_error_stop => 0);
$admin->prompt_ok('DROP DATABASE copy_wal_log WITH (FORCE)', 'DROP ... WITH (FORCE)');
$session->{run}->kill_kill;

# An owner may not end a superuser's session: the worker must have gone before.
$copies[1]->pay_twice_hanging($wechat, map { "owner$_" } 1 .. $count);
$admin->sql('CREATE ROLE owner; ALTER DATABASE copy_file_copy OWNER TO owner');
$admin->prompt_ok("SET ROLE owner;\nDROP DATABASE copy_file_copy WITH (FORCE)",
	'DROP ... WITH (FORCE) by an owner who is no superuser');

$admin->wait_for(<<'SQL', 'one worker is left');
SELECT string_agg(datname, ' ') = 'third' FROM pg_stat_activity WHERE backend_type = 'payonce worker'
SQL
my $log = slurp_file($server->node->logfile);
unlike($log, qr/not currently accepting connections|cannot connect to invalid database/,
	'no worker knocked where none may enter');
unlike($log, qr/terminated by signal|PANIC/, 'no process crashed');
done_testing();
