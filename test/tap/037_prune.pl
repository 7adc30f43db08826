# payonce_prune in a loop, several times at once, beside callbacks: of young orders, whose money the
# ledgers account for, and of the very orders that it removes. Whoever was told that a callback is
# recorded finds it; whose order was gone was told so.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;

use PostgreSQL::Test::Utils;
use Payonce::Gateway;
use Payonce::TestServer;

my @gateways = map { Payonce::Gateway->new($_) } 'wechat', 'alipay';
my $server = Payonce::TestServer->new('main');
$server->add_gateway($_) for @gateways;
$server->wait_for_worker;

# Young orders with three payments each, all of which succeed.
my $young = 40;
$server->add_orders(
	map {
		my $id = "young$_";
		{ id => $id, payments => [ map { [ "$id-$_", $gateways[ $_ % 2 ] ] } 1 .. 3 ] }
	} 1 .. $young);

# Old ones: each has a winner, a refund that was sent long ago, and an attempt that had failed and of
# which a success may come now. There is no server for them, so that a person refunds.
my $old = 400;
$server->sql(<<"SQL");
INSERT INTO t_order (id, price, status, paid_by, created_at, paid_at)
SELECT 'old' || n, 100, 100, 'old' || n || '-1', t, t
FROM generate_series(1, $old) n, (SELECT now() - interval '2 years') v (t);
INSERT INTO t_order_pay (id, order_id, price, status, created_at, updated_at)
SELECT id || '-' || n, id, 100, CASE n WHEN 1 THEN 100 WHEN 2 THEN 300 ELSE 400 END, created_at, created_at
FROM t_order, generate_series(1, 3) n WHERE id LIKE 'old%';
INSERT INTO t_refund (refund_no, payment_id, amount, reason, status, attempts, created_at, updated_at, finished_at)
SELECT id || '-R1', id, 100, 'duplicate', 300, 1, created_at, created_at, created_at
FROM t_order_pay WHERE status = 300 AND id LIKE 'old%';
INSERT INTO t_refund_attempt (refund_no, attempt, call, gateway, started_at, verdict, applied, recorded_at)
SELECT refund_no, 1, 'refund', gateway, created_at, 'succeeded', true, created_at FROM t_refund WHERE refund_no LIKE 'old%';
CREATE TABLE told (payment_id text, outcome text);
CREATE FUNCTION tell(payment_id text) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    LOOP
        BEGIN
            INSERT INTO told VALUES (payment_id, pay_callback_outcome(payment_id, true));
            RETURN;
        EXCEPTION
            WHEN serialization_failure THEN NULL;
            WHEN no_data_found THEN
                INSERT INTO told VALUES (payment_id, 'unknown');
                RETURN;
        END;
    END LOOP;
END
\$\$;
SQL
is($server->sql('SELECT * FROM payonce_check()'), '', 'the old orders are in order');

my $folder = $PostgreSQL::Test::Utils::tmp_check;
my %script = (
	prune => "SELECT payonce_prune('18 months', 3);",
	old => "\\set n random(1, $old)\nSELECT tell('old' || :n || '-3');",
	young => "\\set n random(1, $young)\n\\set p random(1, 3)\n"
	  . "SELECT pay_callback('young' || :n || '-' || :p, true);");
append_to_file("$folder/$_.sql", "$script{$_}\n") for keys %script;
command_ok(
	[
		'pgbench', '--no-vacuum', '--client=8', '--jobs=2', '--transactions=100',
		(map { "--file=$folder/$_.sql" } sort keys %script),
		$server->node->connstr($server->database)
	],
	'nobody meets an error');
$server->sql("SELECT pay_callback('young$_-1', true), pay_callback('young$_-2', true),"
	  . " pay_callback('young$_-3', true)")
  for 1 .. $young;
$server->wait_for('SELECT payonce_prune(\'18 months\') = 0', 'what can go is gone');

is($server->sql(<<'SQL'), '', 'whose callback was recorded finds it, and who was told that it is unknown does not');
SELECT t.payment_id, t.outcome FROM told t LEFT JOIN t_order_pay p ON p.id = t.payment_id
WHERE (t.outcome = 'unknown') <> (p.id IS NULL) OR p.status IN (0, 400)
SQL
cmp_ok($server->sql("SELECT count(*) FROM told WHERE outcome = 'duplicate'"), '>', 0, 'some came first');
cmp_ok($server->sql("SELECT count(*) FROM told WHERE outcome = 'unknown'"), '>', 0, 'some came too late');
is($server->sql(<<'SQL'), '', 'of every order all is there, or nothing');
SELECT id FROM t_order o WHERE id LIKE 'old%'
  AND NOT EXISTS (SELECT FROM t_refund_attempt a WHERE a.refund_no = o.id || '-2-R1')
UNION ALL
SELECT refund_no FROM t_refund_attempt a WHERE NOT EXISTS (SELECT FROM t_refund r WHERE r.refund_no = a.refund_no)
SQL
is($server->sql(<<'SQL'), '', 'what is left is not settled');
SELECT o.id FROM t_order o WHERE id LIKE 'old%'
  AND NOT EXISTS (SELECT FROM told t WHERE t.payment_id = o.id || '-3' AND t.outcome = 'duplicate')
SQL
is($server->sql('SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'), 0,
	'there was no deadlock');
$server->wait_for('SELECT count(*) = ' . 2 * $young . " FROM t_refund WHERE refund_no LIKE 'young%' AND status = 300",
	'what is young goes back');
# The old orders' money is in no ledger.
$server->sql(<<'SQL');
DELETE FROM t_refund WHERE refund_no LIKE 'old%';
DELETE FROM t_order_pay WHERE id LIKE 'old%';
DELETE FROM t_order WHERE id LIKE 'old%';
SQL
$server->judge_ok(@gateways);
done_testing();
