-- Hostile surroundings: every function among the caller's operators, functions, types and temporary
-- tables that are found first; triggers that others put on the tables; row security; and an owner
-- who is no superuser.
BEGIN;
SET LOCAL client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS payonce;
-- Wherever they are installed.
SELECT set_config('search_path', string_agg(DISTINCT quote_ident(n.nspname), ', '), true) AS path
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname IN ('pgtap', 'payonce') \gset
SELECT quote_ident(n.nspname) AS schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'payonce' \gset
SET LOCAL payonce.late_payment = 'refund';
SELECT no_plan();

CREATE SERVER sur_gateway FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://pay.example', paused 'true');
INSERT INTO t_order (id, price) VALUES ('sur', 100), ('sur-open', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway)
VALUES ('sur-w', 'sur', 100, 'sur_gateway'), ('sur-d', 'sur', 100, 'sur_gateway'),
       ('sur-m', 'sur', 100, 'sur_gateway'), ('sur-p', 'sur-open', 100, 'sur_gateway');
SELECT pay_callback('sur-w', true), pay_callback('sur-d', true), refund_callback('sur-d-R1', false),
       pay_callback('sur-m', true, 99) \gset

CREATE TEMP TABLE member AS
SELECT d.classid, d.objid FROM pg_depend d
WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'payonce');

-- Calls that are in order, and statements that set off every trigger of payonce's. No name and no
-- operator of their own is left to the search_path.
CREATE TEMP TABLE sur_call (name text, statement text);
INSERT INTO sur_call
SELECT name, replace(statement, '{s}', :'schema') FROM (VALUES
    ('order_lock_key', 'SELECT {s}.order_lock_key(''sur'')'),
    ('pay_callback', 'SELECT {s}.pay_callback(''sur-p'', true, 100, ''CNY'', ''T'')'),
    ('pay_callback_outcome', 'SELECT {s}.pay_callback_outcome(''sur-p'', true, 100, ''CNY'', ''T'')'),
    ('pay_callback_outcome', 'SELECT {s}.pay_callback_outcome(''sur-p'', true, 99)'),
    ('pay_notify', 'SELECT {s}.pay_notify(''sur_gateway'', ''{}'', ''{}'')'),
    ('order_close', 'SELECT {s}.order_close(''sur-open'')'),
    ('refund_callback', 'SELECT {s}.refund_callback(''sur-d-R1'', true, ''G'')'),
    ('refund_request', 'SELECT pg_catalog.length({s}.refund_request(''sur-w'', 1, ''why''))'),
    ('refund_retry', 'SELECT {s}.refund_retry(''sur-d-R1'')'),
    ('refund_resolve', 'SELECT {s}.refund_resolve(''sur-d-R1'', true, ''note'')'),
    ('payment_resolve', 'SELECT {s}.payment_resolve(''sur-m'', ''refund'', ''note'')'),
    ('payonce_activate', 'SELECT {s}.payonce_activate()'),
    ('payonce_prune', 'SELECT {s}.payonce_prune(''2 years'')'),
    ('payonce_check', 'SELECT pg_catalog.count(*) FROM {s}.payonce_check()'),
    ('payonce_dispatch_blocked_by', 'SELECT {s}.payonce_dispatch_blocked_by()'),
    ('payonce_gateway_blocked_by', 'SELECT {s}.payonce_gateway_blocked_by(''sur_gateway'')'),
    ('payonce_worker_stats', 'SELECT pg_catalog.count(*) FROM {s}.payonce_worker_stats()'),
    ('payonce_gateway_stats', 'SELECT pg_catalog.count(*) FROM {s}.payonce_gateway_stats()'),
    ('payonce_http_validator', 'SELECT {s}.payonce_http_validator(''{url=https://a.example}'', 1417)'),
    ('payonce_wechat_validator', 'SELECT {s}.payonce_wechat_validator(''{url=https://a.example}'', 1417)'),
    ('payonce_alipay_validator', 'SELECT {s}.payonce_alipay_validator(''{url=https://a.example}'', 1417)'),
    ('payonce_stripe_validator', 'SELECT {s}.payonce_stripe_validator(''{url=https://a.example}'', 1417)'),
    ('payonce_currency_guard', 'INSERT INTO {s}.t_order (id, price, currency) VALUES (''sur-2'', 1, ''XXQ'')'),
    ('payonce_status_guard', 'UPDATE {s}.t_order SET status = 0 WHERE id OPERATOR(pg_catalog.=) ''sur'''),
    ('payonce_refund_complete', 'INSERT INTO {s}.t_refund (refund_no, payment_id, amount, reason)'
                                ' VALUES (''sur-w-R7'', ''sur-w'', 1, ''request'') RETURNING gateway'),
    ('payonce_refund_reserve', 'INSERT INTO {s}.t_refund (refund_no, payment_id, amount, reason)'
                               ' VALUES (''sur-w-R7'', ''sur-w'', 101, ''request'')'),
    ('payonce_refund_wake', 'UPDATE {s}.t_refund SET status = 0'
                            ' WHERE refund_no OPERATOR(pg_catalog.=) ''sur-d-R1'' RETURNING status'),
    ('payonce_refund_fixed', 'UPDATE {s}.t_refund SET attempts = 1'
                             ' WHERE refund_no OPERATOR(pg_catalog.=) ''sur-d-R1'' RETURNING attempts'),
    ('payonce_append_only', 'DELETE FROM {s}.t_refund_attempt; TRUNCATE {s}.t_refund_attempt')
) c (name, statement)
UNION ALL
-- In versions that have it.
SELECT proname::text COLLATE "default",
       format('SELECT pg_catalog.count(*) FROM %s.pay_callback_batch(''{sur-p,sur-w}'', ''{true,true}'')', :'schema')
FROM member JOIN pg_proc p ON p.oid = objid WHERE classid = 'pg_proc'::regclass AND proname = 'pay_callback_batch'
UNION ALL
SELECT c.relname::text COLLATE "default", format('SELECT pg_catalog.count(*) FROM %s.%I', :'schema', c.relname)
FROM member m JOIN pg_class c ON c.oid = m.objid WHERE m.classid = 'pg_class'::regclass AND c.relkind = 'v';
SELECT set_eq('SELECT DISTINCT name FROM sur_call',
              $$SELECT proname::text COLLATE "default" FROM member JOIN pg_proc p ON p.oid = objid
                WHERE classid = 'pg_proc'::regclass
                UNION SELECT relname::text COLLATE "default" FROM member JOIN pg_class c ON c.oid = objid
                WHERE classid = 'pg_class'::regclass AND relkind = 'v'$$,
              'every function, trigger function and view is called');

-- Traps: whatever is found by its bare name raises.
CREATE SCHEMA sur_traps;
CREATE FUNCTION sur_traps.spring() RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'a trap was sprung' USING ERRCODE = 'EVIL0'; END $$;
SELECT format('CREATE FUNCTION sur_traps.spring(%1$s, %1$s) RETURNS boolean LANGUAGE sql'
              ' AS ''SELECT sur_traps.spring()''', t)
FROM unnest(ARRAY['text', 'integer', 'bigint', 'timestamptz', 'boolean', 'name', 'oid']) t \gexec
SELECT format('CREATE OPERATOR sur_traps.%1$s (LEFTARG = %2$s, RIGHTARG = %2$s, FUNCTION = sur_traps.spring)', o, t)
FROM unnest(ARRAY['=', '<>', '<', '<=', '>', '>=', '+', '-', '||', '^@', '~', '~~']) o,
     unnest(ARRAY['text', 'integer', 'bigint', 'timestamptz', 'boolean', 'name', 'oid']) t \gexec
SELECT format('CREATE FUNCTION sur_traps.%1$I(%2$s) RETURNS %3$s LANGUAGE sql'
              ' AS ''SELECT sur_traps.spring()::text::%3$s''',
              f, a, r)
FROM (VALUES ('now', '', 'timestamptz'), ('clock_timestamp', '', 'timestamptz'), ('octet_length', 'text', 'integer'),
             ('length', 'text', 'integer'), ('lower', 'text', 'text'), ('md5', 'text', 'text'),
             ('count', '', 'bigint'), ('order_lock_key', 'text', 'bigint'), ('current_database', '', 'name'),
             ('pg_advisory_xact_lock', 'bigint', 'text'), ('payonce_dispatch_blocked_by', '', 'text'),
             ('format', 'text, text', 'text'), ('quote_ident', 'text', 'text'), ('nullif', 'text, text', 'text'))
     v (f, a, r) \gexec
CREATE AGGREGATE sur_traps.sum(bigint) (SFUNC = int8pl, STYPE = bigint, INITCOND = '1000000');
SELECT format('CREATE TABLE sur_traps.%1$I (LIKE %2$s.%1$I)', c.relname, :'schema')
FROM member m JOIN pg_class c ON c.oid = m.objid WHERE m.classid = 'pg_class'::regclass AND c.relkind = 'r' \gexec
SELECT format('CREATE TEMP TABLE %1$I (LIKE sur_traps.%1$I)', c.relname)
FROM member m JOIN pg_class c ON c.oid = m.objid WHERE m.classid = 'pg_class'::regclass AND c.relkind = 'r' \gexec
SELECT format('CREATE TEMP TABLE %1$I (LIKE pg_catalog.%1$I)', t)
FROM unnest(ARRAY['pg_foreign_server', 'pg_user_mapping', 'pg_extension', 'pg_class', 'pg_proc']) t \gexec
SELECT format('CREATE DOMAIN sur_traps.%I AS pg_catalog.%s CHECK (false)', d, b)
FROM (VALUES ('text', 'text'), ('int4', 'int4'), ('int8', 'int8'), ('bool', 'bool'), ('timestamptz', 'timestamptz'))
     v (d, b) \gexec

-- What a statement comes to, under a search_path. It is undone.
CREATE FUNCTION pg_temp.tried(statement pg_catalog.text, path pg_catalog.text) RETURNS pg_catalog.text
LANGUAGE plpgsql AS $$
DECLARE
    answer pg_catalog.text;
    own_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
    PERFORM pg_catalog.set_config('search_path', path, true);
    EXECUTE statement INTO answer;
    RAISE EXCEPTION USING ERRCODE = 'UNDO0';
EXCEPTION
    WHEN SQLSTATE 'UNDO0' THEN RETURN pg_catalog.concat('answer ', answer);
    WHEN OTHERS THEN RETURN pg_catalog.concat('error ', SQLSTATE);
END
$$;
-- Without traps first: of a plan that was cached then, the traps must not be found either.
CREATE TEMP TABLE sur_tried AS
SELECT name, statement, pg_temp.tried(statement, pg_catalog.current_setting('search_path')) AS calm,
       pg_temp.tried(statement, 'sur_traps, pg_catalog') AS trapped,
       pg_temp.tried(statement, 'pg_temp, sur_traps, pg_catalog') AS trapped_by_temp,
       pg_temp.tried(statement, '') AS bare
FROM sur_call;
SELECT is(pg_temp.tried('SELECT ''a''::pg_catalog.text = ''a''', 'sur_traps, pg_catalog'), 'error EVIL0',
          'the traps do spring');
SELECT is(ARRAY[trapped, trapped_by_temp, bare], array_fill(calm, ARRAY[3]), name || ' looks at none of them: ' || calm)
FROM sur_tried ORDER BY name, statement;
SELECT is_empty(format('SELECT FROM pg_temp.%1$I UNION ALL SELECT FROM sur_traps.%1$I', relname),
                'nothing was written to another ' || relname)
FROM pg_catalog.pg_class WHERE relnamespace = 'sur_traps'::regnamespace AND relkind = 'r' ORDER BY relname;
SELECT format('DROP TABLE pg_temp.%I', relname) FROM pg_catalog.pg_class
WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'
  AND relname IN ('t_order', 't_order_pay', 't_refund', 't_refund_attempt', 't_stray_notification', 'payonce_identity',
                  'pg_foreign_server', 'pg_user_mapping', 'pg_extension', 'pg_class', 'pg_proc') \gexec

-- An owner who is no superuser: everything of the extension is handed to one.
CREATE ROLE sur_owner;
CREATE ROLE sur_shop;
CREATE ROLE sur_stranger;
SELECT format('GRANT USAGE ON SCHEMA %s TO sur_owner, sur_shop, sur_stranger', :'schema') \gexec
SELECT format('GRANT USAGE ON SCHEMA %I TO sur_shop, sur_stranger', n.nspname)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pgtap' \gexec
SELECT format('ALTER FUNCTION %s OWNER TO sur_owner', p.oid::regprocedure)
FROM member m JOIN pg_proc p ON p.oid = m.objid WHERE m.classid = 'pg_proc'::regclass \gexec
SELECT format('ALTER TABLE %s OWNER TO sur_owner', c.oid::regclass)
FROM member m JOIN pg_class c ON c.oid = m.objid WHERE m.classid = 'pg_class'::regclass \gexec
GRANT EXECUTE ON FUNCTION pay_callback_outcome, order_close TO sur_shop;

-- Triggers that others put on the tables run as whoever writes: the owner, when a function of payonce
-- does. So TRIGGER on them is as good as the owner's rights, and nobody is given it.
SELECT is_empty($$SELECT relname, a.grantee::regrole FROM member JOIN pg_class c ON c.oid = objid, aclexplode(relacl) a
                  WHERE classid = 'pg_class'::regclass AND a.privilege_type = 'TRIGGER' AND a.grantee <> relowner$$,
                'nobody but the owner may put triggers on the tables');
CREATE TEMP TABLE sur_witness (what text, who text COLLATE "default");
GRANT INSERT ON sur_witness TO PUBLIC;
CREATE FUNCTION pg_temp.as_invoker() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO pg_temp.sur_witness VALUES ('invoker', current_user); RETURN NULL; END $$;
CREATE FUNCTION pg_temp.as_definer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
$$ BEGIN INSERT INTO pg_temp.sur_witness VALUES ('definer', current_user); RETURN NULL; END $$;
ALTER FUNCTION pg_temp.as_invoker() OWNER TO sur_stranger;
ALTER FUNCTION pg_temp.as_definer() OWNER TO sur_stranger;
SET LOCAL ROLE sur_stranger;
SELECT throws_ok($$CREATE TRIGGER spy AFTER UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION pg_temp.as_invoker()$$,
                 '42501', NULL, 'a stranger may not');
RESET ROLE;
GRANT TRIGGER ON t_order_pay TO sur_stranger;
SET LOCAL ROLE sur_stranger;
CREATE TRIGGER spy_1 AFTER UPDATE ON t_order_pay FOR EACH ROW EXECUTE FUNCTION pg_temp.as_invoker();
CREATE TRIGGER spy_2 AFTER UPDATE ON t_order_pay FOR EACH ROW EXECUTE FUNCTION pg_temp.as_definer();
RESET ROLE;
SET LOCAL ROLE sur_shop;
SELECT is(pay_callback_outcome('sur-p', true), 'paid', 'an owner without special rights decides');
RESET ROLE;
SELECT set_eq('SELECT what, who FROM sur_witness', $$VALUES ('invoker', 'sur_owner'), ('definer', 'sur_stranger')$$,
              'a trigger runs as payonce''s owner, or as its own definer, never as the caller');
DROP TRIGGER spy_1 ON t_order_pay;
DROP TRIGGER spy_2 ON t_order_pay;
REVOKE TRIGGER ON t_order_pay FROM sur_stranger;

-- Row security: the owner is exempt, also without a policy; applications see what policies show them.
SELECT format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', c.oid::regclass)
FROM member m JOIN pg_class c ON c.oid = m.objid WHERE m.classid = 'pg_class'::regclass AND c.relkind = 'r' \gexec
INSERT INTO t_order (id, price) SELECT 'rls-' || n, 100 FROM generate_series(1, 4) n;
INSERT INTO t_order_pay (id, order_id, price, gateway)
SELECT 'rls-' || n || m, 'rls-' || n, 100, 'sur_gateway' FROM generate_series(1, 4) n, unnest(ARRAY['a', 'b']) m;
GRANT SELECT ON t_order TO sur_shop;
CREATE POLICY mine ON t_order FOR SELECT TO sur_shop USING (id = 'rls-1');
SET LOCAL ROLE sur_shop;
SELECT is(pay_callback_outcome('rls-1a', true), 'paid', 'with row security on, a callback is decided');
SELECT is(pay_callback_outcome('rls-1b', true), 'duplicate', 'and a second one, which queues a refund');
SELECT is(pay_callback_outcome('rls-2a', true), 'paid', 'also of an order that the caller does not see');
SELECT is(order_close('rls-3'), true, 'and closed');
SELECT set_eq('SELECT id FROM t_order', ARRAY['rls-1']::text[], 'the caller sees what his policy shows');
RESET ROLE;
SELECT set_eq('SELECT status FROM t_refund WHERE refund_no = ''rls-1b-R1''', ARRAY[0], 'the refund is queued');

-- Forced upon the owner too, without a policy for it: refused in words, nothing recorded. A decision
-- on rows that are not all seen would be worse.
SELECT format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', c.oid::regclass)
FROM member m JOIN pg_class c ON c.oid = m.objid WHERE m.classid = 'pg_class'::regclass AND c.relkind = 'r' \gexec
SET LOCAL ROLE sur_shop;
SELECT throws_ok($$SELECT pay_callback_outcome('rls-4a', true)$$, 'P0002', NULL, 'what a policy hides is unknown');
SELECT throws_ok($$SELECT order_close('rls-4')$$, 'P0002', NULL, 'an order too');
RESET ROLE;
CREATE POLICY owners_order ON t_order TO sur_owner USING (true);
CREATE POLICY owners_payment ON t_order_pay TO sur_owner USING (true);
CREATE POLICY hides_refunds ON t_refund TO sur_owner USING (true) WITH CHECK (false);
SET LOCAL ROLE sur_shop;
SELECT is(pay_callback_outcome('rls-4a', true), 'paid', 'with policies for the owner, a callback is decided');
SELECT throws_ok($$SELECT pay_callback_outcome('rls-4b', true)$$, '42501', NULL,
                 'no duplicate is recorded whose refund a policy refuses');
RESET ROLE;
CREATE POLICY shows_all ON t_refund AS PERMISSIVE TO sur_owner USING (true) WITH CHECK (true);
SET LOCAL ROLE sur_shop;
SELECT is(pay_callback_outcome('rls-4b', true), 'duplicate', 'until none does');
RESET ROLE;
-- Rows that can be read but not changed: an UPDATE that finds no row is no decision.
CREATE POLICY freezes ON t_order AS RESTRICTIVE FOR UPDATE TO sur_owner USING (false);
SET LOCAL ROLE sur_shop;
SELECT isnt(pg_temp.tried($$SELECT pay_callback_outcome('rls-3a', true)$$, :'path'), 'answer paid',
            'a frozen order is not paid');
RESET ROLE;
SELECT set_eq($$SELECT id, status FROM t_order_pay WHERE id LIKE 'rls-4%'$$,
              $$VALUES ('rls-4a' COLLATE "C", 100), ('rls-4b', 200)$$, 'what was decided was recorded');
SELECT is_empty('SELECT * FROM payonce_check()', 'every invariant is in place');

SELECT * FROM finish();
ROLLBACK;
