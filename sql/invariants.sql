-- What the database holds by itself, against hand-written SQL.
\i sql/include/begin.sql

INSERT INTO t_order (id, price) VALUES ('o', 100), ('other', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('p-1', 'o', 100, 'wechat'), ('p-2', 'o', 100, 'alipay'), ('p-3', 'o', 100, 'alipay');
SELECT pay_callback_outcome('p-1', true) AS winner, pay_callback_outcome('p-2', true) AS duplicate;

-- One winner an order, by UPDATE and by INSERT.
UPDATE t_order_pay SET status = 100 WHERE id = 'p-3';
\echo :LAST_ERROR_SQLSTATE
INSERT INTO t_order_pay (id, order_id, price, status) VALUES ('p-4', 'o', 100, 100);
\echo :LAST_ERROR_SQLSTATE

-- Unknown codes, wrong signs, currencies that are none.
\pset format unaligned
\pset tuples_only on
SELECT * FROM pg_temp.attempt(
    $$INSERT INTO t_order (id, price, status) VALUES ('x', 1, 200)$$,
    $$UPDATE t_order SET status = 500 WHERE id = 'o'$$,
    $$INSERT INTO t_order_pay (id, order_id, price, status) VALUES ('x', 'o', 1, 150)$$,
    $$INSERT INTO t_refund (refund_no, payment_id, amount, reason, status) VALUES ('x', 'p-1', 1, 'request', 600)$$,
    $$INSERT INTO t_refund (refund_no, payment_id, amount, reason) VALUES ('x', 'p-1', 1, 'mistake')$$,
    $$INSERT INTO t_order (id, price) VALUES ('x', 0)$$,
    $$INSERT INTO t_order (id, price) VALUES ('x', -1)$$,
    $$INSERT INTO t_order_pay (id, order_id, price) VALUES ('x', 'o', 0)$$,
    $$UPDATE t_order_pay SET paid_amount = 0 WHERE id = 'p-1'$$,
    $$UPDATE t_order_pay SET refund_reserved = -1 WHERE id = 'p-1'$$,
    $$INSERT INTO t_refund (refund_no, payment_id, amount, reason) VALUES ('x', 'p-1', 0, 'request')$$,
    $$UPDATE t_refund SET attempts = -1 WHERE refund_no = 'p-2-R1'$$,
    $$INSERT INTO t_order (id, price, currency) VALUES ('x', 1, 'RMB')$$,
    $$UPDATE t_order SET currency = 'cny' WHERE id = 'o'$$,
    $$INSERT INTO t_order_pay (id, order_id, price, currency) VALUES ('x', 'o', 1, '')$$,
    $$INSERT INTO t_order (id, price, currency) VALUES ('x', 1, NULL)$$,
    $$INSERT INTO t_order (id, price) VALUES ('', 1)$$,
    $$INSERT INTO t_order (id, price) VALUES (repeat('x', 129), 1)$$,
    $$INSERT INTO t_order_pay (id, order_id, price) VALUES ('with space', 'o', 1)$$,
    $$INSERT INTO t_order_pay (id, order_id, price) VALUES (repeat('x', 57), 'o', 1)$$,
    $$INSERT INTO t_order_pay (id, order_id, price) VALUES ('x', 'nobody', 1)$$,
    $$INSERT INTO t_refund (refund_no, payment_id, amount, reason, gateway)
      VALUES ('x', 'nobody', 1, 'request', 'wechat')$$,
    $$DELETE FROM t_order WHERE id = 'o'$$,
    $$DELETE FROM t_order_pay WHERE id = 'p-2'$$);

\pset format aligned
\pset tuples_only off

-- refund_reserved follows the refunds, whoever writes them, and never exceeds what arrived.
INSERT INTO t_refund (refund_no, payment_id, amount, reason) VALUES ('r-1', 'p-1', 60, 'request');
SELECT refund_no, gateway, status FROM t_refund WHERE refund_no = 'r-1';
SELECT * FROM pg_temp.attempt(
    $$INSERT INTO t_refund (refund_no, payment_id, amount, reason) VALUES ('r-2', 'p-1', 41, 'request')$$);
INSERT INTO t_refund (refund_no, payment_id, amount, reason)
VALUES ('r-2', 'p-1', 20, 'request'), ('r-3', 'p-1', 20, 'request');
SELECT id, refund_reserved FROM t_order_pay WHERE id = 'p-1';
SELECT * FROM pg_temp.attempt($$UPDATE t_refund SET amount = 21 WHERE refund_no = 'r-2'$$);
UPDATE t_refund SET amount = 5 WHERE refund_no = 'r-2';
SELECT id, refund_reserved FROM t_order_pay WHERE id = 'p-1';
UPDATE t_refund SET status = 400 WHERE refund_no = 'r-3';
SELECT id, refund_reserved FROM t_order_pay WHERE id = 'p-1';
-- Moved to another payment, it counts there.
UPDATE t_refund SET payment_id = 'p-3' WHERE refund_no = 'r-2';
SELECT id, refund_reserved FROM t_order_pay ORDER BY id;
DELETE FROM t_refund WHERE refund_no = 'r-1';
SELECT id, refund_reserved FROM t_order_pay ORDER BY id;
-- What arrived is the bound, where it is known. It cannot fall below what goes back.
UPDATE t_order_pay SET paid_amount = 300 WHERE id = 'p-3';
INSERT INTO t_refund (refund_no, payment_id, amount, reason) VALUES ('r-4', 'p-3', 295, 'request');
SELECT * FROM pg_temp.attempt($$UPDATE t_order_pay SET paid_amount = 299 WHERE id = 'p-3'$$);
-- A sum beyond a bigint is an error, not a negative number.
UPDATE t_order_pay SET paid_amount = 9223372036854775807 WHERE id = 'p-3';
SELECT * FROM pg_temp.attempt(
    $$INSERT INTO t_refund (refund_no, payment_id, amount, reason)
      VALUES ('r-5', 'p-3', 9223372036854775807, 'request')$$);

-- What a gateway was asked to do keeps its number, payment, amount and gateway; before that, and for
-- all other columns, hand-written SQL is free.
SELECT * FROM pg_temp.attempt(
    $$UPDATE t_refund SET refund_no = 'p-2-R7', gateway = 'wechat' WHERE refund_no = 'p-2-R1'$$,
    $$UPDATE t_refund SET refund_no = 'p-2-R1', gateway = 'alipay' WHERE refund_no = 'p-2-R7'$$,
    $$UPDATE t_refund SET attempts = 1 WHERE refund_no = 'p-2-R1'$$,
    $$UPDATE t_refund SET refund_no = 'p-2-R7' WHERE refund_no = 'p-2-R1'$$,
    $$UPDATE t_refund SET payment_id = 'p-1' WHERE refund_no = 'p-2-R1'$$,
    $$UPDATE t_refund SET amount = 50 WHERE refund_no = 'p-2-R1'$$,
    $$UPDATE t_refund SET gateway = 'wechat' WHERE refund_no = 'p-2-R1'$$,
    $$UPDATE t_refund SET note = 'asked at the bank' WHERE refund_no = 'p-2-R1'$$);

-- Every change of status that the contract does not list is refused.
CREATE FUNCTION pg_temp.change(subject text, from_status int, to_status int) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    CASE subject
        WHEN 't_order' THEN
            INSERT INTO t_order (id, price, status) VALUES ('change', 1, from_status);
            UPDATE t_order SET status = to_status WHERE id = 'change';
        WHEN 't_order_pay' THEN
            INSERT INTO t_order (id, price) VALUES ('change', 1);
            INSERT INTO t_order_pay (id, order_id, price, status) VALUES ('change', 'change', 1, from_status);
            UPDATE t_order_pay SET status = to_status WHERE id = 'change';
        WHEN 't_refund' THEN
            INSERT INTO t_order (id, price) VALUES ('change', 1);
            INSERT INTO t_order_pay (id, order_id, price) VALUES ('change', 'change', 1);
            INSERT INTO t_refund (refund_no, payment_id, amount, reason, status)
            VALUES ('change', 'change', 1, 'request', from_status);
            UPDATE t_refund SET status = to_status WHERE refund_no = 'change';
    END CASE;
    RAISE EXCEPTION USING ERRCODE = 'CHNGD';
EXCEPTION
    WHEN SQLSTATE 'CHNGD' THEN RETURN NULL;
    WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
CREATE TEMP TABLE change AS
SELECT subject, from_status, to_status, pg_temp.change(subject, from_status, to_status) AS error
FROM (VALUES ('t_order', ARRAY[0, 100, 400]), ('t_order_pay', ARRAY[0, 100, 200, 300, 400, 500]),
             ('t_refund', ARRAY[0, 100, 150, 200, 300, 400, 500])) codes (subject, code),
     unnest(code) from_status, unnest(code) to_status;
-- The same status again is no change.
SELECT subject, from_status, string_agg(to_status::text, ', ' ORDER BY to_status) AS may_become
FROM change WHERE error IS NULL GROUP BY subject, from_status ORDER BY subject, from_status;
SELECT error FROM change WHERE error IS NOT NULL ORDER BY subject, from_status, to_status;
-- In full, and in the form of an upsert.
UPDATE t_order SET status = 0, paid_by = NULL WHERE id = 'o';
INSERT INTO t_refund (refund_no, payment_id, amount, reason, status) VALUES ('p-2-R1', 'p-2', 100, 'duplicate', 300)
ON CONFLICT (refund_no) DO UPDATE SET status = 300;
\echo :LAST_ERROR_SQLSTATE
-- Also when a BEFORE trigger, whatever its name, is who changes it.
CREATE FUNCTION pg_temp.sneak() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.status := 0;
    RETURN NEW;
END
$$;
CREATE TRIGGER zzz_sneak BEFORE UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION pg_temp.sneak();
UPDATE t_order SET price = 101 WHERE id = 'o';
DROP TRIGGER zzz_sneak ON t_order;

-- A dump loads: rows may be inserted in any valid state, in one go.
BEGIN;
COPY t_order (id, price, status, paid_by) FROM stdin;
restored	100	100	restored-1
\.
COPY t_order_pay (id, order_id, price, status, refund_reserved) FROM stdin;
restored-1	restored	100	100	0
restored-2	restored	100	300	100
\.
COPY t_refund (refund_no, payment_id, amount, reason, status, gateway) FROM stdin;
restored-2-R1	restored-2	100	duplicate	300	wechat
\.
SELECT * FROM pg_temp.story('restored');
SELECT * FROM payonce_check() WHERE id LIKE 'restored%';
ROLLBACK;

-- The evidence stays as it was written, whether there is any or not.
BEGIN;
INSERT INTO t_refund_attempt (refund_no, attempt, call, gateway, started_at, verdict, applied)
VALUES ('p-2-R1', 1, 'refund', 'alipay', now(), 'unknown', true);
SELECT * FROM pg_temp.attempt(
    $$UPDATE t_refund_attempt SET verdict = 'succeeded'$$,
    $$DELETE FROM t_refund_attempt$$,
    $$TRUNCATE t_refund_attempt$$,
    $$INSERT INTO t_refund_attempt (refund_no, attempt, call, gateway, started_at, verdict, applied)
      VALUES ('p-2-R1', 1, 'guess', 'alipay', now(), 'unknown', true)$$);
ROLLBACK;

-- payonce's trigger functions are of use on payonce's tables only.
SELECT * FROM pg_temp.attempt('SELECT payonce_status_guard()');
CREATE TEMP TABLE mine (status text, currency integer, payment_id text);
CREATE TRIGGER guard AFTER UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION payonce_status_guard('order');
CREATE TRIGGER currency BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION payonce_currency_guard();
INSERT INTO mine VALUES ('0', 1, NULL);
DROP TRIGGER currency ON mine;
INSERT INTO mine VALUES ('0', 1, NULL);
UPDATE mine SET status = '100';
\echo :LAST_ERROR_SQLSTATE
