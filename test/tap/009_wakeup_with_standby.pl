# With a synchronous standby each of the worker's commits waits, and PostgreSQL's wait resets the latch by
# which callbacks wake the worker. A wake-up that falls into it must not be lost: the naptime is an hour.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run;
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $gateway = Payonce::Gateway->new('wechat');
my $server = Payonce::TestServer->new('main', settings => { 'max_wal_senders' => 4, 'wal_level' => 'replica' });
$server->add_gateway($gateway);
$server->wait_for_worker;

# pg_receivewal flushes and confirms what it receives: the smallest standby there is.
my $wal = PostgreSQL::Test::Utils::tempdir();
my $standby = IPC::Run::start(
	[ 'pg_receivewal', '-D', $wal, '-d', $server->node->connstr('postgres'), '--synchronous', '--no-loop' ],
	'>', \my $said, '2>', \my $complained);
$server->wait_for(q{SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'},
	'the standby streams');
$server->reload_with('synchronous_standby_names' => '*');
$server->wait_for(q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'},
	'the standby is synchronous');

# Many connections, one callback each: their commits fall into the worker's.
my $rounds = 6;
my $callers = 12;
for my $round (1 .. $rounds)
{
	my @ids = map { "round$round-$_" } 1 .. $callers;
	my @calls = $server->add_double_payments($gateway, @ids);
	my @running = map {
		IPC::Run::start([ 'psql', '-XAtq', '-d', $server->node->connstr('shop'), '-c', $_ ],
			'>', \my $out, '2>', \my $err)
	} @calls;
	$_->finish for @running;
	$server->wait_refunded(map { "$_-2-R1" } @ids);
}
pass("no wake-up was lost in $rounds rounds of $callers callbacks");

$standby->signal('TERM');
$standby->finish;
$server->reload_with('synchronous_standby_names' => '');
$server->judge_ok($gateway);
done_testing();
