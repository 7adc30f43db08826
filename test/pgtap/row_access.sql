-- Which way the rows of a callback go: by the executor's row operations, or by a statement wherever the
-- table is unusual; and that the statistics count the same either way.
BEGIN;
SET LOCAL client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS payonce;
-- Wherever they are installed.
SELECT set_config('search_path', string_agg(DISTINCT quote_ident(n.nspname), ', '), true) AS path
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname IN ('pgtap', 'payonce') \gset
-- The foreign keys' own checks, which are statements, count as well.
SET LOCAL enable_seqscan = off;
SELECT no_plan();

-- A trigger on an order knows by its context whether a statement set it off. One is always there, so
-- that search_path is pinned, too.
CREATE TEMP TABLE way (name text);
CREATE FUNCTION pg_temp.note_way() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    context text;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    INSERT INTO pg_temp.way VALUES (CASE WHEN context ~ 'UPDATE [^ ]*\.t_order ' THEN 'statement' ELSE 'rows' END);
    RETURN NULL;
END
$$;
CREATE TRIGGER note_way AFTER UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION pg_temp.note_way();
CREATE FUNCTION pg_temp.pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;

-- The way of a callback after some DDL, which is undone.
CREATE FUNCTION pg_temp.way_after(ddl text, call text DEFAULT $$pay_callback('row-1', true)$$) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE ddl;
    EXECUTE 'SELECT ' || call;
    SELECT string_agg(name, ', ') INTO answer FROM pg_temp.way;
    RAISE EXCEPTION USING ERRCODE = 'UNDO0';
EXCEPTION
    WHEN SQLSTATE 'UNDO0' THEN RETURN answer;
END
$$;
INSERT INTO t_order (id, price) VALUES ('row-1', 100), ('row-2', 100);
INSERT INTO t_order_pay (id, order_id, price)
VALUES ('row-1', 'row-1', 100), ('row-2', 'row-2', 100), ('row-3', 'row-2', 100);
CREATE FUNCTION pg_temp.yes(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN true; END';
CREATE ROLE row_user;

SELECT is(pg_temp.way_after(ddl), way, way || ': ' || ddl) FROM (VALUES
    ('SELECT', 'rows'),
    ('CREATE TRIGGER t AFTER UPDATE OF status ON t_order FOR EACH ROW EXECUTE FUNCTION pg_temp.pass()', 'rows'),
    ('CREATE TRIGGER t AFTER DELETE ON t_order FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.pass()', 'rows'),
    ('CREATE INDEX t ON t_order (status)', 'rows'),
    ('ALTER TABLE t_order ADD COLUMN more text DEFAULT ''more''', 'rows'),
    ('ALTER TABLE t_order ADD CHECK (price < 1000000)', 'rows'),
    ('ALTER TABLE t_order ENABLE ROW LEVEL SECURITY', 'rows'),
    ('ALTER TABLE t_order ALTER COLUMN closed_at TYPE text', 'rows'),
    ('CREATE TRIGGER t BEFORE UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION pg_temp.pass()', 'statement'),
    ('CREATE TRIGGER t AFTER UPDATE ON t_order FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.pass()', 'statement'),
    ('CREATE TRIGGER t AFTER UPDATE ON t_order REFERENCING NEW TABLE AS n FOR EACH STATEMENT'
     ' EXECUTE FUNCTION pg_temp.pass()', 'statement'),
    ('CREATE RULE t AS ON UPDATE TO t_order DO ALSO SELECT 1', 'statement'),
    ('CREATE TABLE pg_temp.child () INHERITS (t_order)', 'statement'),
    ('ALTER TABLE t_order FORCE ROW LEVEL SECURITY, ENABLE ROW LEVEL SECURITY', 'statement'),
    ('ALTER TABLE t_order ALTER COLUMN paid_at TYPE timestamp', 'statement'),
    ('ALTER TABLE t_order ADD COLUMN doubled bigint GENERATED ALWAYS AS (price * 2) STORED', 'statement'),
    ('ALTER TABLE t_order ADD CHECK (pg_temp.yes(id))', 'statement'),
    ('CREATE INDEX t ON t_order (pg_temp.yes(id))', 'statement'),
    ('CREATE INDEX t ON t_order (price) WHERE pg_temp.yes(id)', 'statement'),
    ('CREATE INDEX t ON t_order USING hash (id)', 'statement'),
    ('CREATE INDEX t ON t_order USING brin (created_at)', 'statement')) c (ddl, way);

-- The rights on the table decide, for whom the function belongs to.
SELECT is(pg_temp.way_after(
    'ALTER FUNCTION pay_callback OWNER TO row_user; GRANT SELECT, UPDATE ON t_order, t_order_pay TO row_user;'
    ' GRANT INSERT ON way TO row_user'), 'rows', 'rows: rights on the tables');
SELECT is(pg_temp.way_after(
    'ALTER FUNCTION pay_callback OWNER TO row_user; GRANT SELECT, UPDATE ON t_order_pay TO row_user;'
    ' GRANT SELECT, UPDATE (status, paid_by, paid_at) ON t_order TO row_user; GRANT INSERT ON way TO row_user'),
    'statement', 'statement: rights on some columns');
SELECT throws_ok($$SELECT pg_temp.way_after(
    'ALTER FUNCTION pay_callback OWNER TO row_user; GRANT SELECT, UPDATE ON t_order_pay TO row_user;'
    ' GRANT SELECT ON t_order TO row_user; GRANT INSERT ON way TO row_user')$$, '42501', NULL, 'and without: refused');

-- What the statistics of the transaction count. Everything is kept that was counted before.
CREATE TEMP TABLE counted AS SELECT relid, idx_scan, idx_tup_fetch, n_tup_ins, n_tup_upd, seq_scan FROM pg_stat_xact_user_tables;
CREATE FUNCTION pg_temp.counted_since() RETURNS TABLE (relation text, ins bigint, upd bigint, seq bigint, idx boolean)
LANGUAGE sql AS $$
    SELECT s.relname::text COLLATE "default", s.n_tup_ins - coalesce(c.n_tup_ins, 0), s.n_tup_upd - coalesce(c.n_tup_upd, 0),
           s.seq_scan - coalesce(c.seq_scan, 0), s.idx_scan > coalesce(c.idx_scan, 0)
    FROM pg_stat_xact_user_tables s LEFT JOIN counted c USING (relid)
    WHERE s.relname IN ('t_order', 't_order_pay', 't_refund')
$$;
SELECT pay_callback('row-2', true), pay_callback('row-3', true) \gset
SELECT set_eq('SELECT * FROM pg_temp.counted_since()',
              $$VALUES ('t_order', 0::bigint, 1::bigint, 0::bigint, true), ('t_order_pay', 0, 3, 0, true),
                       ('t_refund', 1, 0, 0, true)$$,
              'a winner and a duplicate: two updates of payments, one of a sum, one of an order, one refund');
SELECT * FROM finish();
ROLLBACK;
