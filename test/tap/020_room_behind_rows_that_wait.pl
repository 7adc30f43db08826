# What cannot be recorded or claimed gives way: a gateway whose list of unrecorded answers was full
# goes on once it is recorded, and refunds behind more unwritable rows than one batch holds have
# their turn, without a line in the log for each row at each look. The naptime is an hour.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $gateway = Payonce::Gateway->new('shared');
my $server = Payonce::TestServer->new('main', settings => { 'payonce.batch_size' => '10' });
$server->add_gateway($gateway);
$server->wait_for_worker;

# --- More locked orders than the list of unrecorded answers holds.

my $count = 1300;
$server->sql(q{ALTER SERVER shared OPTIONS (ADD paused 'true')});
my @locked = $server->pay_twice($gateway, map { "locked$_" } 1 .. $count);
my $session = $server->session;
$session->query_safe('BEGIN');
$session->query_safe("SELECT count(pg_advisory_xact_lock(order_lock_key('locked' || i)))"
	. " FROM generate_series(1, $count) i");
$server->sql('ALTER SERVER shared OPTIONS (DROP paused)');
$server->wait_for('SELECT kept >= 1000 AND in_flight = 0 FROM payonce_stat_worker', 'the list is full');
cmp_ok($server->sql('SELECT count(*) FROM t_refund WHERE status = 0'),
	'>', 0, 'a full list takes no more calls');
$session->query_safe('COMMIT');
$session->quit;
$server->wait_refunded(@locked);
pass('and goes on when it is recorded');

# --- More rows that cannot be written than one batch holds.

$server->sql(q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
	CREATE TRIGGER refuse BEFORE UPDATE ON t_refund FOR EACH ROW
		WHEN (NEW.refund_no LIKE 'refused%' AND NEW.status = 100) EXECUTE FUNCTION refuse()});
my @refused = $server->pay_twice($gateway, map { "refused$_" } 1 .. 25);
$server->wait_refunded($server->pay_twice($gateway, map { "behind$_" } 1 .. 25));
pass('refunds behind more unwritable rows than a batch have their turn');
$server->sql('DROP TRIGGER refuse ON t_refund');
$server->wait_refunded(@refused);

$server->judge_ok($gateway);
done_testing();
