# No refund waits in silence, and no row holds up another: whatever hand-written SQL, a slow gateway, a
# locked order, a missing file or an odd encoding does. Each case once stopped a queue.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my $slow = Payonce::Gateway->new('slow');
my $quick = Payonce::Gateway->new('quick');
my $server = Payonce::TestServer->new('main',
	settings => { 'payonce.request_timeout' => '1s', 'payonce.lease' => '1s' });
$server->add_gateway($slow);
$server->add_gateway($quick, max_in_flight => 2);
$server->wait_for_worker;

# --- A gateway that hangs with much in flight, beside a quick one with a small limit. Nothing but its own
# answers leads to the quick one's next claim: the naptime is an hour.

$slow->faults({ fault => 'hang' });
$server->sql(q{ALTER SERVER slow OPTIONS (timeout '1min')});
my @hanging = $server->pay_twice($slow, map { "hanging$_" } 1 .. 60);
$slow->wait_for(in_flight => 60);
$server->wait_refunded($server->pay_twice($quick, map { "quick$_" } 1 .. 40));
pass('a small limit is kept busy beside a gateway that hangs');
$slow->restart;
$slow->faults();
$server->sql('ALTER SERVER slow OPTIONS (DROP timeout)');
$server->wait_refunded(@hanging);

# --- Answers that cannot be recorded take none of the gateway's places.

my ($kept) = $server->add_double_payments($quick, 'kept');
my $session = $server->node->background_psql('shop');
$quick->faults({ fault => 'delay', ms => 300, when => 'after', match => '^kept' });
$server->sql($kept);
$quick->wait_for(in_flight => 1, refund_no => 'kept-2-R1');
$session->query_safe('BEGIN');
$session->query_safe(q{SELECT pg_advisory_xact_lock(order_lock_key('kept'))});
$quick->wait_for(in_flight => 0);
$quick->faults();
$server->sql(q{ALTER SERVER quick OPTIONS (SET max_in_flight '1')});
$server->wait_refunded($server->pay_twice($quick, map { "beside$_" } 1 .. 5));
is($server->refund_status('kept-2-R1'), 100, 'the answer of the locked order waits');
$session->query_safe('COMMIT');
$session->quit;
$server->wait_refunded('kept-2-R1');
is($quick->methods('kept-2-R1'), 'POST', 'and was asked for once');

# --- Hand-written SQL. From here on the safety sweep runs each second.

$server->reload_with('payonce.naptime' => '1s');

$slow->faults({ fault => 'hang' });
my ($ended) = $server->pay_twice($slow, 'ended');
$slow->wait_for(in_flight => 1, refund_no => $ended);
$server->sql("UPDATE t_refund SET status = 500 WHERE refund_no = '$ended'");
$server->wait_for("SELECT lease_owner IS NULL FROM t_refund WHERE refund_no = '$ended'",
	'the lease of a refund that a person ended is over');
$server->wait_refunded($server->pay_twice($quick, 'after_ended'));
is($server->refund_status($ended), 500, 'what a person ended stays ended');
# Tried again while its first call still hangs: the gateway sees no second one until that has ended.
$server->sql(q{ALTER SERVER slow OPTIONS (ADD timeout '1min')});
my ($joined) = $server->pay_twice($slow, 'joined');
$slow->wait_for(in_flight => 1, refund_no => $joined);
$server->sql("UPDATE t_refund SET status = 500 WHERE refund_no = '$joined'");
$server->sql("SELECT refund_retry('$joined')");
$server->wait_for("SELECT last_error = 'an earlier call is still in flight' FROM t_refund"
		. " WHERE refund_no = '$joined'", 'the second call is given back');
is($slow->methods($joined), 'POST', 'a refund never has two calls at a time');
$slow->restart;
$slow->faults();
$server->sql('ALTER SERVER slow OPTIONS (DROP timeout)');
$server->sql("SELECT refund_retry('$ended')");
$server->wait_refunded($ended, $joined);

$server->reload_with('payonce.dispatch' => 'off');
my ($unleased) = $server->pay_twice($quick, 'unleased');
$server->sql("UPDATE t_refund SET status = 100 WHERE refund_no = '$unleased'");
$server->reload_with('payonce.dispatch' => 'on');
$server->wait_refunded($unleased);
pass('sending without a lease is taken in hand');

$server->add_orders({ id => 'whole', payments => [ [ 'whole-1', $quick ] ] });
$server->callback('whole-1');
$server->sql(q{INSERT INTO t_refund (refund_no, payment_id, amount, reason)
	VALUES ('whole-1-R1', 'whole-1', 3200, 'request')});
$server->wait_refunded('whole-1-R1');
is($server->sql(q{SELECT status FROM t_order_pay WHERE id = 'whole-1'}),
	300, 'a whole refund of the winner that SQL inserted is recorded');

my ($returned) = $server->pay_twice($quick, 'returned');
$server->wait_refunded($returned);
$server->sql("SELECT refund_callback('$returned', false)");
is($server->sql("SELECT refund_retry('$returned')"), $returned, 'a refund that failed after all is tried again');
$server->wait_refunded($returned);

like($server->sql_error("UPDATE t_refund SET refund_no = 'other' WHERE refund_no = '$returned'"),
	qr/23514/, 'what was sent keeps its number');
like($server->sql_error("UPDATE t_refund SET amount = 1 WHERE refund_no = '$returned'"),
	qr/23514/, 'and its amount');

$server->add_orders({ id => 'unpaid', payments => [ [ 'unpaid-1', $quick ] ] });
$server->sql(q{INSERT INTO t_refund (refund_no, payment_id, amount, reason)
	VALUES ('unpaid-1-R1', 'unpaid-1', 3200, 'request')});
$server->wait_status(500, 'unpaid-1-R1');
is($quick->methods('unpaid-1-R1'), '', 'a refund for which no money arrived is not sent');
$server->sql(q{SELECT refund_resolve('unpaid-1-R1', false, 'inserted by mistake')});

# --- A trigger of the application that refuses one refund.

$server->sql(q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
	CREATE TRIGGER refuse BEFORE UPDATE ON t_refund FOR EACH ROW
		WHEN (NEW.refund_no = 'refused-2-R1' AND NEW.status = 100) EXECUTE FUNCTION refuse()});
my ($refused) = $server->pay_twice($quick, 'refused');
$server->wait_refunded($server->pay_twice($quick, 'after_refused1', 'after_refused2'));
is($server->refund_status($refused), 0, 'a refund that cannot be claimed holds up no other');
$server->wait_for("SELECT blocked_by = 'the worker fails: not this one' FROM payonce_refund_backlog"
		. " WHERE refund_no = '$refused'", 'and the backlog says what refuses it');
$server->sql('DROP TRIGGER refuse ON t_refund');
$server->wait_refunded($refused);

# --- A file of secrets that is not there yet.

my $token_file = PostgreSQL::Test::Utils::tempdir() . '/token';
$server->sql("CREATE USER MAPPING FOR CURRENT_USER SERVER quick OPTIONS (bearer_token_file '$token_file')");
my ($without) = $server->pay_twice($quick, 'without_file');
$server->wait_for("SELECT blocked_by LIKE '%cannot be read%' FROM payonce_refund_backlog"
		. " WHERE refund_no = '$without'", 'the backlog names the file');
is($server->refund_status($without), 0, 'and the refund waits for it');
PostgreSQL::Test::Utils::append_to_file($token_file, "s3cr3t-t0ken\n");
$server->reload_with('payonce.batch_size' => '100');
$server->wait_refunded($without);
is(($quick->requests($without))[0]->{headers}{authorization}, 'Bearer s3cr3t-t0ken', 'it is sent with the token');

$quick->faults({ fault => '4xx', status => 401, error => 'unknown token s3cr3t-t0ken', match => '^loud' });
my ($loud) = $server->pay_twice($quick, 'loud');
$server->wait_status(500, $loud);
is($server->sql("SELECT last_error FROM t_refund WHERE refund_no = '$loud'"),
	'HTTP 401: unknown token ***', 'a token that the gateway repeats is masked');
$quick->faults();
$server->sql("SELECT refund_retry('$loud')");
$server->wait_refunded($loud);

# --- A database that says nothing about its bytes.

$server->node->safe_psql('postgres',
	q{CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'});
my $bytes = $server->in_database('bytes');
my $plain = Payonce::Gateway->new('plain');
$bytes->sql('CREATE EXTENSION payonce');
$bytes->add_gateway($plain);
$plain->add_payments(
	map { { payment_id => "bytes-$_", amount => 100, currency => 'CNY', transaction_id => "T-bytes-$_" } } 1, 2);
$bytes->sql(q{INSERT INTO t_order (id, price) VALUES (E'order-\351', 100)});
$bytes->sql(qq{INSERT INTO t_order_pay (id, order_id, price, gateway)
	VALUES ('bytes-$_', E'order-\\351', 100, 'plain')}) for 1, 2;
$bytes->callback("bytes-$_") for 1, 2;
$bytes->wait_refunded('bytes-2-R1');
pass('an order number that is not UTF-8 is no obstacle');

$server->judge_ok($slow, $quick);
# The judge reads JSON, which is UTF-8.
is($plain->refund('bytes-2-R1')->{paid_out_count}, 1, 'and its refund was paid out once');
is($bytes->sql('SELECT * FROM payonce_check()'), '', 'payonce_check() finds nothing there');
done_testing();
