-- Rows are found, locked and written without a statement where that comes to the same, and by one
-- where it might not: what the application sees is the same either way (the suite by-statements
-- runs this file too).
\i sql/include/begin.sql

INSERT INTO t_order (id, price) SELECT 'o-' || n, 100 FROM generate_series(1, 20) n;
INSERT INTO t_order_pay (id, order_id, price, gateway)
SELECT 'p-' || n || letter, 'o-' || n, 100, 'wechat' FROM generate_series(1, 20) n, unnest(ARRAY['a', 'b']) letter;

-- AFTER triggers of all kinds, for the columns that are written, at the time they ask for.
CREATE TABLE fired (n serial, what text);
CREATE FUNCTION log_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.fired (what) VALUES (format('%s of %s: %s', TG_NAME, TG_TABLE_NAME,
        CASE WHEN TG_OP = 'UPDATE' THEN format('%s → %s', to_jsonb(OLD) ->> TG_ARGV[0], to_jsonb(NEW) ->> TG_ARGV[0])
             ELSE to_jsonb(NEW) ->> TG_ARGV[0] END));
    RETURN NULL;
END
$$;
CREATE TRIGGER a_row AFTER INSERT OR UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION log_row('status');
CREATE TRIGGER b_of_paid_by AFTER UPDATE OF paid_by ON t_order FOR EACH ROW EXECUTE FUNCTION log_row('paid_by');
CREATE TRIGGER b_of_price AFTER UPDATE OF price ON t_order FOR EACH ROW EXECUTE FUNCTION log_row('price');
CREATE TRIGGER c_of_attention AFTER UPDATE OF attention ON t_order_pay FOR EACH ROW EXECUTE FUNCTION log_row('attention');
CREATE TRIGGER c_of_gateway AFTER UPDATE OF gateway ON t_order_pay FOR EACH ROW EXECUTE FUNCTION log_row('gateway');
CREATE TRIGGER c_of_reserved AFTER UPDATE OF refund_reserved ON t_order_pay FOR EACH ROW
    EXECUTE FUNCTION log_row('refund_reserved');
CREATE TRIGGER d_when AFTER UPDATE ON t_order_pay FOR EACH ROW
    WHEN (OLD.status = 0 AND NEW.status = 200) EXECUTE FUNCTION log_row('status');
CREATE TRIGGER e_refund AFTER INSERT ON t_refund FOR EACH ROW EXECUTE FUNCTION log_row('refund_no');
CREATE TRIGGER f_replica AFTER UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION log_row('status');
ALTER TABLE t_order ENABLE REPLICA TRIGGER f_replica;
CREATE CONSTRAINT TRIGGER g_deferred AFTER UPDATE ON t_order DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION log_row('status');
BEGIN;
SELECT pay_callback('p-1a', true, 100, 'CNY', 'T-1');
SELECT what FROM fired ORDER BY n;
COMMIT;
SELECT pay_callback('p-1b', true);
SELECT order_close('o-2');
SELECT what FROM fired WHERE n > 4 ORDER BY n;
-- A trigger that comes or goes between two calls is heeded, also within a transaction.
TRUNCATE fired RESTART IDENTITY;
BEGIN;
DROP TRIGGER a_row ON t_order;
ALTER TABLE t_order DISABLE TRIGGER b_of_paid_by;
SELECT pay_callback('p-3a', true);
CREATE TRIGGER h_new AFTER UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION log_row('id');
SELECT pay_callback('p-4a', true);
ROLLBACK;
SELECT pay_callback('p-3b', true);
SELECT what FROM fired ORDER BY n;
-- So is a function that changes, although its old body may have become part of a condition.
TRUNCATE fired;
CREATE FUNCTION is_of_interest(status integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE TRIGGER i_when AFTER UPDATE ON t_order FOR EACH ROW WHEN (is_of_interest(NEW.status))
    EXECUTE FUNCTION log_row('id');
SELECT order_close('o-19');
CREATE OR REPLACE FUNCTION is_of_interest(status integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
SELECT order_close('o-20');
SELECT what FROM fired WHERE what ~ '^i' ORDER BY n;
DROP TRIGGER i_when ON t_order;
DROP FUNCTION is_of_interest;
SELECT format('DROP TRIGGER %I ON %I', tgname, tgrelid::regclass) FROM pg_trigger
WHERE tgfoid = 'log_row'::regproc ORDER BY 1 \gexec

-- The order's trigger changes the payment before the decision is written to it, or takes it away.
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('%s WHERE order_id = %L', TG_ARGV[0], NEW.id);
    RETURN NULL;
END
$$;
CREATE TRIGGER meddle AFTER UPDATE ON t_order FOR EACH ROW
    EXECUTE FUNCTION meddle('UPDATE public.t_order_pay SET note = ''seen''');
SELECT pay_callback('p-4a', true);
SELECT id, status, note FROM t_order_pay WHERE order_id = 'o-4' ORDER BY id;
DROP TRIGGER meddle ON t_order;
CREATE TRIGGER meddle AFTER UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION meddle('DELETE FROM public.t_order_pay');
SELECT attempt FROM pg_temp.attempt($$SELECT pay_callback('p-5a', true)$$) WHERE attempt NOT LIKE '%suppressed%';
DROP TRIGGER meddle ON t_order;

-- A BEFORE trigger changes the row itself.
CREATE FUNCTION meddle_before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.t_order_pay SET note = 'mine' WHERE id = OLD.id;
    RETURN NEW;
END
$$;
CREATE TRIGGER meddle BEFORE UPDATE OF status ON t_order_pay FOR EACH ROW EXECUTE FUNCTION meddle_before();
SELECT * FROM pg_temp.attempt($$SELECT pay_callback('p-5a', true)$$);
DROP TRIGGER meddle ON t_order_pay;
SELECT id, status FROM t_order_pay WHERE order_id = 'o-5' ORDER BY id;

-- One of payonce's own, put where it does not belong, keeps the row from being written.
CREATE TRIGGER a_guard BEFORE UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION payonce_status_guard('order');
SELECT attempt FROM pg_temp.attempt($$SELECT pay_callback('p-5a', true)$$) WHERE attempt NOT LIKE '%suppressed%';
DROP TRIGGER a_guard ON t_order;
SELECT id, status FROM t_order WHERE id = 'o-5';

-- An attention too long for the row: kept out of line, read when words are added, else left alone.
UPDATE t_order_pay SET attention = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 1000) n)
WHERE id = 'p-6a';
SELECT pg_column_size(attention) > 8000 AS out_of_line FROM t_order_pay WHERE id = 'p-6a';
SELECT pay_callback_outcome('p-6a', true, 100, 'CNY', 'T-1') AS paid, pay_callback_outcome('p-6a', true, 100, 'CNY', 'T-2') AS conflict;
SELECT length(attention), right(attention, 50) AS ends, left(attention, 32) = md5('1') AS begins FROM t_order_pay WHERE id = 'p-6a';
SELECT refund_request('p-6a', 10, 'a part') ~ '^p-6a-Q' AS requested;
SELECT length(attention), refund_reserved FROM t_order_pay WHERE id = 'p-6a';

-- Columns that come and go.
ALTER TABLE t_order ADD COLUMN gone text DEFAULT 'gone', ADD COLUMN shop text NOT NULL DEFAULT 'shop 1';
ALTER TABLE t_order_pay ADD COLUMN gone text DEFAULT repeat('gone', 1000), ADD COLUMN shop text NOT NULL DEFAULT 'shop 1';
ALTER TABLE t_refund ADD COLUMN gone text DEFAULT 'gone', ADD COLUMN shop text NOT NULL DEFAULT 'shop 1',
    ADD COLUMN made_by name DEFAULT current_user;
SELECT pay_callback('p-7a', true), pay_callback('p-7b', true);
ALTER TABLE t_order DROP COLUMN gone;
ALTER TABLE t_order_pay DROP COLUMN gone;
ALTER TABLE t_refund DROP COLUMN gone;
SELECT pay_callback('p-8a', true), pay_callback('p-8b', true), refund_callback('p-7b-R1', true);
SELECT o.id, o.status, o.shop, p.id, p.status, p.shop, r.status, r.shop, r.made_by = current_user AS made_by
FROM t_order o JOIN t_order_pay p ON p.order_id = o.id LEFT JOIN t_refund r ON r.payment_id = p.id
WHERE o.id IN ('o-7', 'o-8') ORDER BY p.id;
ALTER TABLE t_refund ALTER COLUMN shop SET DEFAULT 'shop 2';
SELECT pay_callback('p-6b', true);
SELECT shop FROM t_refund WHERE refund_no = 'p-6b-R1';
ALTER TABLE t_refund ALTER COLUMN shop DROP DEFAULT;
SELECT attempt FROM pg_temp.attempt($$SELECT pay_callback('p-4b', true)$$);
ALTER TABLE t_order DROP COLUMN shop;
ALTER TABLE t_order_pay DROP COLUMN shop;
ALTER TABLE t_refund DROP COLUMN shop, DROP COLUMN made_by;

-- Generated ones.
ALTER TABLE t_order_pay ADD COLUMN paid boolean GENERATED ALWAYS AS (status = 100) STORED;
CREATE INDEX t_order_pay_paid ON t_order_pay (paid);
SELECT pay_callback('p-9a', true);
SELECT id, paid FROM t_order_pay WHERE order_id = 'o-9' ORDER BY id;
ALTER TABLE t_order_pay DROP COLUMN paid;

-- Constraints and indexes of the application, with functions of its own, which find their names where
-- they always do; what they refuse leaves nothing behind.
CREATE FUNCTION is_calm(status integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
$$ BEGIN RETURN status < 500 OR current_setting('search_path') <> 'pg_catalog, pg_temp'; END $$;
ALTER TABLE t_order_pay ADD CONSTRAINT calm CHECK (is_calm(status));
CREATE UNIQUE INDEX once ON t_order_pay (lower(transaction_id)) WHERE lower(transaction_id) = 'once';
SELECT * FROM pg_temp.attempt($$SELECT pay_callback('p-10a', true, 99)$$, $$SELECT pay_callback('p-10a', true, 100, 'CNY', 'ONCE')$$,
    $$SELECT pay_callback('p-11a', true, 100, 'CNY', 'Once')$$, $$SELECT pay_callback('p-11a', true, 100, 'CNY', 'Twice')$$);
CREATE OR REPLACE FUNCTION is_calm(status integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
SELECT pay_callback_outcome('p-12a', true, 99);
ALTER TABLE t_order_pay DROP CONSTRAINT calm;
DROP INDEX once;
DROP FUNCTION is_calm;
ALTER TABLE t_order_pay ADD CONSTRAINT no_13 CHECK (id !~ '^p-13' OR status = 0);
SELECT * FROM pg_temp.attempt($$SELECT pay_callback('p-13a', true)$$, $$SELECT pay_callback('p-14a', true)$$);
ALTER TABLE t_order_pay DROP CONSTRAINT no_13;
SELECT o.id, o.status, o.paid_by FROM t_order o WHERE id IN ('o-13', 'o-14') ORDER BY 1;
CREATE TABLE parcel (payment_id text COLLATE "C" REFERENCES t_order_pay ON UPDATE CASCADE);
INSERT INTO parcel VALUES ('p-15a');
SELECT pay_callback('p-15a', true);
SELECT * FROM parcel;
DROP TABLE parcel;

-- Subtransactions and cursors: what was undone is not seen, and a cursor keeps its view.
BEGIN;
DECLARE looks CURSOR FOR SELECT id, status FROM t_order_pay WHERE order_id = 'o-16' ORDER BY id;
SAVEPOINT s;
SELECT pay_callback_outcome('p-16a', true);
ROLLBACK TO s;
SELECT pay_callback_outcome('p-16b', true), pay_callback_outcome('p-16a', true), pay_callback_outcome('p-16a', true);
FETCH ALL FROM looks;
COMMIT;
SELECT * FROM pg_temp.story('o-16');

-- One statement, many callbacks: each sees what the one before has done.
SELECT id, pay_callback_outcome(id, true) FROM (SELECT id FROM t_order_pay WHERE order_id IN ('o-17', 'o-18') ORDER BY id) p;
SELECT n, pay_callback_outcome('p-3a', true, 99) FROM generate_series(1, 3) n;
SELECT * FROM payonce_check();

DROP FUNCTION log_row, meddle, meddle_before;
DROP TABLE fired;
