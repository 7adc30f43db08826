-- pay_callback_batch: many callbacks, one transaction. Each has its outcome, in the order in which they
-- were passed; what is no payment of ours does not undo the others, and any error undoes all of them.
\i sql/include/begin.sql

INSERT INTO t_order (id, price) SELECT 'o-' || n, 100 FROM generate_series(1, 6) n;
INSERT INTO t_order_pay (id, order_id, price, gateway)
SELECT 'p-' || n || letter, 'o-' || n, CASE WHEN n = 5 THEN 99 ELSE 100 END, 'wechat'
FROM generate_series(1, 6) n, unnest(ARRAY['a', 'b', 'c']) letter;
SELECT order_close('o-4');
CREATE TEMP VIEW decided AS
SELECT p.order_id, o.status AS order_status, o.paid_by, p.id, p.status, r.refund_no
FROM t_order o JOIN t_order_pay p ON p.order_id = o.id LEFT JOIN t_refund r ON r.payment_id = p.id
WHERE p.status <> 0 ORDER BY p.id;

-- Every outcome; of two payments of an order the first in the array wins, wherever the other is.
SELECT * FROM pay_callback_batch(
    ARRAY['p-3b', 'p-1a', 'unheard-of', 'p-3a', 'p-1a', NULL, 'no blanks', '', 'p-2a', 'p-2a', 'p-2b', 'p-4a', 'p-5a',
          'p-2c', 'p-3b', repeat('x', 57)],
    ARRAY[true, true, true, true, true, true, true, true, false, true, NULL, true, true, false, false, true]);
SELECT * FROM decided;
SELECT * FROM payonce_check();

-- An order is decided in the order of the array, not of the ids.
SELECT * FROM pay_callback_batch('{p-6c,p-6a,p-6b,p-6a}', '{f,t,t,f}');
SELECT * FROM decided WHERE order_id = 'o-6';

-- Repeated: nothing changes.
SELECT DISTINCT outcome FROM pay_callback_batch('{p-1a,p-3b,p-3a,p-2a,p-4a,p-5a,p-6a}', '{t,t,t,t,t,t,f}');
SELECT count(*), count(DISTINCT refund_no) FROM decided;

-- The arrays' bounds do not matter, nor how much of the result is read, nor its place in the query.
DELETE FROM t_refund;
DELETE FROM t_order_pay;
DELETE FROM t_order;
INSERT INTO t_order (id, price) VALUES ('o', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) SELECT 'p' || n, 'o', 100, 'wechat' FROM generate_series(1, 4) n;
SELECT * FROM pay_callback_batch('[7:8]={p1,p2}', '[-1:0]={f,t}');
SELECT outcome FROM pay_callback_batch('{p1,p3}', '{t,t}') LIMIT 1;
SELECT pay_callback_batch(pay_success => '{t}', out_order_no => '{p4}');
SELECT id, status FROM t_order_pay ORDER BY id;
SELECT * FROM pay_callback_batch('{}', '{}');
PREPARE batch(text[], boolean[]) AS SELECT count(*), min(outcome) FROM pay_callback_batch($1, $2);
EXECUTE batch(array_fill('unheard-of'::text, ARRAY[10000]), array_fill(true, ARRAY[10000]));

-- What the whole batch is refused for.
SELECT pg_temp.attempt(
    'SELECT pay_callback_batch(NULL, ''{}'')', 'SELECT pay_callback_batch(''{}'', NULL)',
    'SELECT pay_callback_batch(''{p1}'', ''{}'')', 'SELECT pay_callback_batch(''{p1}'', ''{t,t}'')',
    'SELECT pay_callback_batch(''{{p1},{p2}}'', ''{t,t}'')', 'SELECT pay_callback_batch(''{p1,p2}'', ''{{t},{t}}'')',
    'SELECT pay_callback_batch(array_fill(''x''::text, ARRAY[10001]), array_fill(true, ARRAY[10001]))',
    'SET LOCAL transaction_read_only = on; SELECT pay_callback_batch(''{}'', ''{}'')');

-- An error in the middle undoes all of it, and says which callback it was.
INSERT INTO t_order (id, price) SELECT 'q-' || n, 100 FROM generate_series(1, 3) n;
INSERT INTO t_order_pay (id, order_id, price, gateway)
SELECT 'q-' || n || letter, 'q-' || n, 100, 'wechat' FROM generate_series(1, 3) n, unnest(ARRAY['a', 'b']) letter;
CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the shop does not want it' USING ERRCODE = 'SHOP1';
END
$$;
CREATE TRIGGER refuse BEFORE UPDATE ON t_order_pay FOR EACH ROW WHEN (NEW.id = 'q-2b') EXECUTE FUNCTION pg_temp.refuse();
DO $$
DECLARE
    context text;
BEGIN
    PERFORM pay_callback_batch('{q-3a,q-2a,q-2b,q-1a}', '{t,t,t,t}');
EXCEPTION WHEN SQLSTATE 'SHOP1' THEN
    GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
    RAISE WARNING '% (%)', SQLERRM, substring(context FROM 'callback .* of the batch[^\n]*');
END
$$;
SELECT * FROM decided WHERE order_id LIKE 'q%';
DROP TRIGGER refuse ON t_order_pay;
-- So does a write that a trigger suppresses.
CREATE FUNCTION pg_temp.suppress() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER suppress BEFORE INSERT ON t_refund FOR EACH ROW WHEN (NEW.payment_id = 'q-2b')
EXECUTE FUNCTION pg_temp.suppress();
\set VERBOSITY terse
SELECT * FROM pay_callback_batch('{q-3a,q-2a,q-2b,q-1a}', '{t,t,t,t}');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM decided WHERE order_id LIKE 'q%';
DROP TRIGGER suppress ON t_refund;
SELECT * FROM pay_callback_batch('{q-3a,q-2a,q-2b,q-1a}', '{t,t,t,t}');

-- The locks of all its orders are held until the transaction ends, whatever it decided.
BEGIN;
SELECT outcome FROM pay_callback_batch('{q-3a,q-1b,q-3b,q-2a,unheard-of}', '{t,f,f,t,t}');
SELECT o.id FROM pg_locks l JOIN t_order o
    ON l.locktype = 'advisory' AND l.objsubid = 1 AND l.pid = pg_backend_pid()
    AND (l.classid::bigint << 32 | l.objid::bigint) = order_lock_key(o.id) ORDER BY o.id;
SHOW synchronous_commit;
SET LOCAL synchronous_commit = off;
SELECT outcome FROM pay_callback_batch('{q-3a}', '{t}');
SHOW synchronous_commit;
COMMIT;
SELECT * FROM payonce_check();

-- Its memory does not grow with its length.
INSERT INTO t_order (id, price) SELECT 'm-' || n, 100 FROM generate_series(1, 2000) n;
INSERT INTO t_order_pay (id, order_id, price, gateway) SELECT 'm-' || n, 'm-' || n, 100, 'wechat'
FROM generate_series(1, 2000) n;
CREATE TEMP TABLE used (n integer, bytes bigint);
CREATE FUNCTION pg_temp.note_memory() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO used SELECT split_part(NEW.id, '-', 2)::integer, sum(total_bytes) FROM pg_backend_memory_contexts
    WHERE name LIKE 'SPI%';
    RETURN NULL;
END
$$;
CREATE TRIGGER note_memory AFTER UPDATE ON t_order FOR EACH ROW WHEN (NEW.id LIKE 'm-%00')
EXECUTE FUNCTION pg_temp.note_memory();
SELECT outcome, count(*) FROM pay_callback_batch(ARRAY(SELECT id FROM t_order_pay WHERE id LIKE 'm-%' ORDER BY id),
                                                 array_fill(true, ARRAY[2000])) GROUP BY outcome;
SELECT count(*), max(bytes) < 1000000 AS little FROM used;
DROP TRIGGER note_memory ON t_order;
DELETE FROM t_order_pay WHERE id LIKE 'm-%';
DELETE FROM t_order WHERE id LIKE 'm-%';
DROP VIEW decided;
