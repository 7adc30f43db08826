-- Callbacks inside the caller's own transactions: what is undone, what is kept, and for how long a
-- commit is durable.
\i sql/include/begin.sql

INSERT INTO t_order (id, price) SELECT 'o-' || n, 100 FROM generate_series(1, 12) n;
INSERT INTO t_order_pay (id, order_id, price, gateway)
SELECT 'p-' || n || letter, 'o-' || n, 100, 'wechat' FROM generate_series(1, 12) n, unnest(ARRAY['a', 'b']) letter;
CREATE TABLE goods (order_id text, sent boolean DEFAULT false);
CREATE VIEW decided AS
SELECT p.order_id, o.status AS order_status, o.paid_by, p.id, p.status, r.refund_no
FROM t_order o JOIN t_order_pay p ON p.order_id = o.id LEFT JOIN t_refund r ON r.payment_id = p.id
WHERE p.status <> 0 OR o.status <> 0 ORDER BY p.id;

-- The payment and what the application does because of it: both or neither.
BEGIN;
SELECT pay_callback_outcome('p-1a', true) AS first, pay_callback_outcome('p-1b', true) AS second;
INSERT INTO goods VALUES ('o-1');
ROLLBACK;
SELECT *, (SELECT count(*) FROM goods) AS goods FROM decided;
BEGIN;
INSERT INTO goods VALUES ('o-1');
SELECT pay_callback_outcome('p-1b', true) AS first, pay_callback_outcome('p-1a', true) AS second;
COMMIT;
SELECT *, (SELECT count(*) FROM goods) AS goods FROM decided;

-- An error undoes all of it.
BEGIN;
SELECT pay_callback_outcome('p-2a', true) AS paid;
SELECT pay_callback('unheard-of', true);
SELECT pay_callback_outcome('p-2b', true);
COMMIT;
SELECT * FROM decided WHERE order_id = 'o-2';

-- The lock of the decision lasts until the transaction ends.
CREATE FUNCTION pg_temp.order_locks() RETURNS TABLE (order_id text) LANGUAGE sql AS $$
    SELECT o.id FROM pg_locks l JOIN t_order o
        ON l.locktype = 'advisory' AND l.objsubid = 1 AND l.pid = pg_backend_pid()
        AND (l.classid::bigint << 32 | l.objid::bigint) = order_lock_key(o.id)
    ORDER BY o.id
$$;
BEGIN;
SELECT pay_callback_outcome('p-2a', true), pay_callback_outcome('p-3a', true);
SELECT * FROM pg_temp.order_locks();
COMMIT;
SELECT * FROM pg_temp.order_locks();

-- ROLLBACK TO releases what was decided after the savepoint, and its lock; what was before stays.
BEGIN;
SELECT pay_callback_outcome('p-4a', true) AS before;
SAVEPOINT s;
SELECT pay_callback_outcome('p-5a', true) AS after, pay_callback_outcome('p-4b', true) AS duplicate;
SELECT * FROM pg_temp.order_locks();
ROLLBACK TO s;
SELECT * FROM pg_temp.order_locks();
SELECT pay_callback_outcome('p-5b', true) AS after_rollback;
SAVEPOINT t;
SELECT pay_callback_outcome('p-5a', true) AS now_duplicate;
RELEASE t;
COMMIT;
SELECT * FROM decided WHERE order_id IN ('o-4', 'o-5');

-- A plpgsql EXCEPTION block is a savepoint.
DO $$
DECLARE
    outcome text;
BEGIN
    BEGIN
        outcome := pay_callback_outcome('p-6a', true);
        RAISE EXCEPTION 'out of stock' USING ERRCODE = 'SHOP1';
    EXCEPTION WHEN SQLSTATE 'SHOP1' THEN
        RAISE WARNING '%: % was undone', SQLERRM, outcome;
    END;
    BEGIN
        PERFORM pay_callback('unheard-of', true);
    EXCEPTION WHEN no_data_found THEN
        RAISE WARNING 'no_data_found: %', SQLERRM;
    END;
    RAISE WARNING 'then %', pay_callback_outcome('p-6b', true);
END
$$;
SELECT * FROM decided WHERE order_id = 'o-6';

-- In a loop with COMMIT, each for itself.
DO $$
DECLARE
    payment record;
BEGIN
    FOR payment IN SELECT id FROM t_order_pay WHERE order_id = 'o-7' ORDER BY id LOOP
        RAISE WARNING '% %', payment.id, pay_callback_outcome(payment.id, true);
        COMMIT;
    END LOOP;
END
$$;
SELECT * FROM decided WHERE order_id = 'o-7';

-- The answer inside a REPEATABLE READ or SERIALIZABLE transaction, where nobody else interferes.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pay_callback_outcome('p-8a', true) AS paid, pay_callback_outcome('p-8b', true) AS duplicate;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT pay_callback_outcome('p-9a', false) AS failed, pay_callback_outcome('p-9b', true) AS paid,
       pay_callback_outcome('p-9a', true) AS duplicate;
COMMIT;
SELECT * FROM decided WHERE order_id IN ('o-8', 'o-9');

-- Nothing can be recorded here, so nothing is acknowledged.
BEGIN READ ONLY;
SELECT pay_callback('p-9b', false);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

-- An acknowledged callback is durable whatever the session has set: until the end of the
-- transaction, and not beyond.
CREATE FUNCTION pg_temp.commit_after(call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE call;
    RETURN current_setting('synchronous_commit');
END
$$;
SET synchronous_commit = off;
BEGIN;
SELECT pay_callback('p-1a', true);
SHOW synchronous_commit;
COMMIT;
SHOW synchronous_commit;
SET synchronous_commit = local;
BEGIN;
SELECT pay_callback('p-1a', true);
SHOW synchronous_commit;
ROLLBACK;
SHOW synchronous_commit;
SET synchronous_commit = remote_write;
SELECT pg_temp.commit_after('SELECT pay_callback(''p-1a'', true)');
SHOW synchronous_commit;
-- Never lowered.
SET synchronous_commit = remote_apply;
SELECT pg_temp.commit_after('SELECT pay_callback(''p-1a'', true)');
-- Every function that decides about money, each in a transaction of its own.
SET synchronous_commit = off;
SELECT pg_temp.commit_after('SELECT pay_callback_outcome(''p-1a'', true)');
SELECT pg_temp.commit_after('SELECT order_close(''o-1'')');
SELECT pg_temp.commit_after('SELECT refund_request(''p-1b'', 1, ''a part'')');
SELECT pg_temp.commit_after('SELECT refund_callback(''p-1a-R1'', false)');
SELECT pg_temp.commit_after('SELECT refund_retry(''p-1a-R1'')');
SELECT refund_callback('p-1a-R1', false);
SELECT pg_temp.commit_after('SELECT refund_resolve(''p-1a-R1'', false, ''by hand'')');
SELECT pg_temp.commit_after('SELECT payment_resolve(''p-1a'', ''refund'', ''again'')');
-- What is undone need not be durable; what is released is.
BEGIN;
SAVEPOINT s;
SELECT pay_callback('p-1a', true);
ROLLBACK TO s;
SHOW synchronous_commit;
SELECT pay_callback('p-1a', true);
RELEASE s;
SHOW synchronous_commit;
COMMIT;
SHOW synchronous_commit;

-- Not even the end of a function with a setting of its own, or a SET LOCAL, takes it back: what the
-- decision wrote is on disk when COMMIT returns.
CREATE FUNCTION pg_temp.careless(payment text) RETURNS text LANGUAGE sql
SET synchronous_commit = off
AS 'SELECT pay_callback_outcome(payment, true)';
BEGIN;
SELECT pg_temp.careless('p-10a');
SHOW synchronous_commit;
SELECT pg_current_wal_insert_lsn() AS written \gset
COMMIT;
SELECT pg_current_wal_flush_lsn() >= :'written' AS on_disk;
BEGIN;
SELECT pay_callback_outcome('p-11a', true);
SET LOCAL synchronous_commit = off;
SELECT pg_current_wal_insert_lsn() AS written \gset
COMMIT;
SELECT pg_current_wal_flush_lsn() >= :'written' AS on_disk;
SHOW synchronous_commit;
RESET synchronous_commit;

DROP VIEW decided;
DROP TABLE goods;
SELECT * FROM payonce_check();
