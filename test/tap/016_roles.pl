# As whom the worker works, what that role needs, and what cannot be done to it: by settings, by who
# owns a server, by triggers on its tables.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $wechat = Payonce::Gateway->new('wechat', options => [ '--bearer-token', 'sesame' ]);
my $server = Payonce::TestServer->new('main');
my $node = $server->node;
$server->add_gateway($wechat);
$server->sql("CREATE USER MAPPING FOR CURRENT_USER SERVER wechat OPTIONS (bearer_token 'sesame')");
$server->wait_for_worker;
$server->wait_refunded($server->pay_twice($wechat, 'owner'));
is($server->sql('SELECT role FROM payonce_stat_worker'), 'postgres', 'by default the owner works');

# --- payonce.role

$server->reload_with('payonce.role' => 'nobody');
$server->wait_for('SELECT blocked_by IS NOT NULL FROM payonce_stat_worker', 'the reload');
my ($refund_no) = $server->pay_twice($wechat, 'nobody');
is($server->sql('SELECT blocked_by FROM payonce_refund_backlog'),
	'the role in payonce.role does not exist', 'a role that does not exist is named');

# What README says that the role needs.
my $grants = <<'SQL';
GRANT SELECT ON payonce_identity, t_order TO refunder;
GRANT SELECT, UPDATE ON t_order_pay, t_refund TO refunder;
GRANT INSERT ON t_refund_attempt TO refunder;
SQL
$server->sql("CREATE ROLE refunder NOLOGIN; $grants");
$server->sql("CREATE USER MAPPING FOR refunder SERVER wechat OPTIONS (bearer_token 'sesame')");
$server->sql("ALTER USER MAPPING FOR CURRENT_USER SERVER wechat OPTIONS (SET bearer_token 'wrong')");
$server->sql("CREATE USER MAPPING FOR PUBLIC SERVER wechat OPTIONS (bearer_token 'wrong')");
$server->reload_with('payonce.role' => 'refunder');
$server->wait_refunded($refund_no);
pass('a role without login, with the grants of README, is enough');
is($wechat->summary->{bearer_failures}, 0, 'its user mapping is used, not PUBLIC\'s');
$server->wait_for("SELECT role = 'refunder' FROM payonce_stat_worker", 'the view shows the role');
$server->sql('DROP USER MAPPING FOR refunder SERVER wechat');
$server->sql("ALTER USER MAPPING FOR PUBLIC SERVER wechat OPTIONS (SET bearer_token 'sesame')");
$server->wait_refunded($server->pay_twice($wechat, 'public'));
is($wechat->summary->{bearer_failures}, 0, 'without one of its own, PUBLIC\'s is');

# --- Who owns the server

$server->sql('CREATE ROLE stranger; ALTER SERVER wechat OWNER TO stranger');
($refund_no) = $server->pay_twice($wechat, 'stranger');
$server->wait_status(500, $refund_no);
is($server->sql("SELECT last_error FROM t_refund WHERE refund_no = '$refund_no'"),
	q(server "wechat" is owned by neither a superuser nor the worker's role),
	'a server of a stranger is not used, and the refund says why');
is($wechat->methods($refund_no), '', 'nothing is sent to it');
$server->sql('ALTER SERVER wechat OWNER TO refunder');
$server->sql("SELECT refund_retry('$refund_no')");
$server->wait_refunded($refund_no);
pass('a server of the worker\'s role is used');

# --- Settings of roles and databases

$server->sql(<<'SQL');
CREATE SCHEMA evil;
CREATE TABLE evil.t_refund (LIKE t_refund);
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS
  $$ BEGIN RAISE 'evil.now'; END $$;
CREATE FUNCTION evil.fails(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql AS
  $$ BEGIN RAISE 'evil.fails'; END $$;
CREATE OPERATOR evil.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.fails);
GRANT USAGE ON SCHEMA evil TO PUBLIC;
SQL
my %evil_settings = (
	statement_timeout => '1',
	lock_timeout => '1',
	idle_in_transaction_session_timeout => '1',
	default_transaction_read_only => 'on',
	default_transaction_deferrable => 'on',
	default_transaction_isolation => 'serializable',
	search_path => 'evil, pg_catalog',
	session_replication_role => 'replica',
	synchronous_commit => 'off',
	row_security => 'off',
	role => 'stranger',
	application_name => 'somebody else',
	DateStyle => 'German',
	TimeZone => 'Asia/Shanghai',
	extra_float_digits => '-15',
	bytea_output => 'escape',
);
for my $name (sort keys %evil_settings)
{
	my $value = $name eq 'search_path' ? $evil_settings{$name} : "'$evil_settings{$name}'";
	$node->safe_psql('postgres',
		"ALTER DATABASE shop SET $name = $value; ALTER ROLE refunder SET $name = $value;"
		  . "ALTER ROLE ALL IN DATABASE shop SET $name = $value");
}
{
	# What a client asks for comes before what its role and database say.
	local $ENV{PGOPTIONS} = '-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0'
	  . ' -c default_transaction_read_only=off -c default_transaction_deferrable=off'
	  . ' -c default_transaction_isolation=read\ committed -c search_path=public'
	  . ' -c session_replication_role=origin -c role=none -c DateStyle=ISO -c TimeZone=UTC';
	my $worker = $server->worker_pid;
	my $started_at = $server->sql('SELECT started_at FROM payonce_stat_worker');
	$server->sql("SELECT pg_terminate_backend($worker)");
	$server->wait_for_worker($worker);
	my @refund_nos = $server->pay_twice($wechat, map { "settings$_" } 1 .. 4);
	$server->wait_refunded(@refund_nos);
	pass('settings of roles and databases do not change what the worker does');
	is($server->sql("SELECT min(updated_at) > '$started_at' FROM t_refund WHERE refund_no LIKE 'settings%'"),
		't', 'times are what they were');
	is($server->sql('SELECT * FROM evil.t_refund'), '', 'it found its own tables');
	is($server->sql("SELECT application_name FROM pg_stat_activity WHERE pid = " . $server->worker_pid),
		'payonce worker', 'and has its own name');
}
$node->safe_psql('postgres', join ';', 'ALTER DATABASE shop RESET ALL', 'ALTER ROLE refunder RESET ALL',
	'ALTER ROLE ALL IN DATABASE shop RESET ALL');

# --- Triggers

$server->sql(<<'SQL');
CREATE TABLE witness (refund_no text, who text, attempt text, result text);
GRANT INSERT ON witness TO refunder;
CREATE FUNCTION climb() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  attempt text;
BEGIN
  FOREACH attempt IN ARRAY '{SET ROLE postgres,SET LOCAL ROLE postgres,RESET ROLE,
    SET SESSION AUTHORIZATION postgres,SET LOCAL SESSION AUTHORIZATION postgres,
    RESET SESSION AUTHORIZATION,SET SESSION AUTHORIZATION DEFAULT,SET ROLE NONE,RESET ALL}'::text[]
  LOOP
    BEGIN
      EXECUTE attempt;
      INSERT INTO public.witness VALUES (NEW.refund_no, current_user, attempt, 'done');
    EXCEPTION WHEN OTHERS THEN
      INSERT INTO public.witness VALUES (NEW.refund_no, current_user, attempt, sqlstate);
    END;
  END LOOP;
  RETURN NULL;
END
$$;
CREATE TRIGGER climb AFTER UPDATE ON t_refund FOR EACH ROW EXECUTE FUNCTION climb();
CREATE CONSTRAINT TRIGGER climb_late AFTER UPDATE ON t_refund DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION climb();
SQL
$server->wait_refunded($server->pay_twice($wechat, 'climb'));
is($server->sql('SELECT DISTINCT who FROM witness'), 'refunder',
	'triggers run as the worker\'s role, deferred ones too, and remain so');
is($server->sql(<<'SQL'), 'RESET ALL', 'and no way leads up from there');
SELECT string_agg(DISTINCT attempt, ', ') FROM witness WHERE result = 'done'
SQL
$server->sql('DROP TRIGGER climb ON t_refund; DROP TRIGGER climb_late ON t_refund');

# --- A trigger that refuses

$server->sql(<<'SQL');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
SQL

# refuse(REFUND_NO, CHANGE): a trigger raises at this change of this refund.
sub refuse
{
	my ($number, $change) = @_;
	$server->sql('CREATE TRIGGER refuse BEFORE UPDATE ON t_refund FOR EACH ROW'
		  . " WHEN (OLD.refund_no = '$number' AND $change) EXECUTE FUNCTION refuse()");
	return;
}

# Others are sent, now and later.
my $beside = 0;

sub holds_up_no_other_ok
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$server->wait_refunded($server->pay_twice($wechat, map { 'beside' . ++$beside } 1 .. 4)) for 1, 2;
	pass("a trigger that refuses $what of one refund holds up no other");
	return;
}

# As an administrator would have it in the end: lost leases and refused rows are looked at every
# second.
$server->reload_with('payonce.naptime' => '1s');

refuse('claim-2-R1', 'NEW.status = 100');
$server->pay_twice($wechat, 'claim');
holds_up_no_other_ok('the claim');
$server->sql('DROP TRIGGER refuse ON t_refund');
$server->wait_refunded('claim-2-R1');
is($wechat->methods('claim-2-R1'), 'POST', 'without the trigger it is sent, once');

refuse('answer-2-R1', 'NEW.status = 300');
$server->pay_twice($wechat, 'answer');
holds_up_no_other_ok('the answer');
$server->sql('DROP TRIGGER refuse ON t_refund');
$server->wait_refunded('answer-2-R1');
is($wechat->methods('answer-2-R1'), 'POST', 'without the trigger the answer is recorded');

$server->reload_with('payonce.request_timeout' => '600s');
$server->pay_twice_hanging($wechat, 'lost');
refuse('lost-2-R1', 'NEW.status = 150');
$wechat->faults();
my $worker = $server->worker_pid;
$server->sql("SELECT pg_terminate_backend($worker)");
$server->wait_for_worker($worker);
holds_up_no_other_ok('the recovery');
$server->sql('DROP TRIGGER refuse ON t_refund');
$server->wait_refunded('lost-2-R1');
is($wechat->methods('lost-2-R1'), 'POST GET POST', 'without the trigger it is asked about');

my $nowhere = Payonce::Gateway->new('nowhere');
refuse('unreachable-2-R1', 'NEW.status = 500');
$server->pay_twice($nowhere, 'unreachable');
holds_up_no_other_ok('the giving up');
$server->sql('DROP TRIGGER refuse ON t_refund');
$server->wait_status(500, 'unreachable-2-R1');
$server->add_gateway($nowhere);
$server->sql("SELECT refund_retry('unreachable-2-R1')");
$server->wait_refunded('unreachable-2-R1');
is($nowhere->methods('unreachable-2-R1'), 'POST', 'without the trigger a person decides');

$server->judge_ok($wechat, $nowhere);
done_testing();
