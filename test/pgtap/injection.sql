-- Injection: every text argument of every function gets every hostile text, in a call that is otherwise
-- in order. It ends in an answer or in one of the errors of the contract; what was not meant stays as it
-- was; and what is kept is kept to the letter. The functions and arguments come from the catalog.
BEGIN;
SET LOCAL client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS payonce;
-- Wherever they are installed.
SELECT set_config('search_path', string_agg(DISTINCT quote_ident(n.nspname), ', '), true) AS path
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname IN ('pgtap', 'payonce') \gset
SET LOCAL payonce.late_payment = 'refund';
SELECT no_plan();

-- Rows for the calls, and bystanders in every state, of which nothing may ever change.
CREATE SERVER inj_gateway FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://pay.example', paused 'true');
INSERT INTO t_order (id, price) SELECT o, 100 FROM unnest(ARRAY['inj', 'inj-open', 'by-1', 'by-2', 'by-3']) o;
INSERT INTO t_order_pay (id, order_id, price, gateway)
VALUES ('inj-w', 'inj', 100, 'inj_gateway'), ('inj-d', 'inj', 100, 'inj_gateway'),
       ('inj-m', 'inj', 100, 'inj_gateway'), ('inj-p', 'inj-open', 100, 'inj_gateway'),
       ('by-1w', 'by-1', 100, 'inj_gateway'), ('by-1d', 'by-1', 100, 'inj_gateway'),
       ('by-1m', 'by-1', 100, 'inj_gateway'), ('by-2f', 'by-2', 100, 'inj_gateway'),
       ('by-3l', 'by-3', 100, 'inj_gateway');
SELECT pay_callback('inj-w', true), pay_callback('inj-d', true), refund_callback('inj-d-R1', false),
       pay_callback('inj-m', true, 99), pay_callback('by-1w', true), pay_callback('by-1d', true),
       pay_callback('by-1m', true, 99), pay_callback('by-2f', false), order_close('by-3'), pay_callback('by-3l', true),
       refund_callback('by-3l-R1', false) \gset
-- Digests, not rows: one that a call removes is missed too.
CREATE FUNCTION pg_temp.bystanders() RETURNS text LANGUAGE sql AS $$
    SELECT md5(string_agg(row, '|' ORDER BY row)) FROM (
        SELECT o::text FROM t_order o WHERE id LIKE 'by-%' UNION ALL
        SELECT p::text FROM t_order_pay p WHERE id LIKE 'by-%' UNION ALL
        SELECT r::text FROM t_refund r WHERE payment_id LIKE 'by-%' UNION ALL
        SELECT i::text FROM payonce_identity i UNION ALL
        SELECT oid::regclass || relnatts::text || relowner FROM pg_class
        WHERE relnamespace = (SELECT extnamespace FROM pg_extension WHERE extname = 'payonce') UNION ALL
        SELECT rolname || rolsuper FROM pg_roles UNION ALL
        SELECT srvname || srvoptions::text FROM pg_foreign_server UNION ALL
        SELECT name || coalesce(setting, '') FROM pg_settings WHERE name LIKE 'payonce.%') r (row)
$$;

-- A call of each function that is in order.
CREATE TEMP TABLE good_call (name text, arguments text[]);
INSERT INTO good_call VALUES
    ('order_lock_key', '{''inj''}'), ('pay_callback', '{''inj-p'',true,100,''CNY'',''T''}'),
    ('pay_callback_outcome', '{''inj-p'',true,100,''CNY'',''T''}'),
    ('pay_notify', ARRAY['''inj_gateway''', '''{"a":"b"}''', '''{}''']), ('order_close', '{''inj-open''}'),
    ('refund_callback', '{''inj-d-R1'',true,''G''}'), ('refund_request', '{''inj-w'',1,''why''}'),
    ('refund_retry', '{''inj-d-R1''}'), ('refund_resolve', '{''inj-d-R1'',true,''note''}'),
    ('payment_resolve', '{''inj-m'',''refund'',''note''}'), ('payonce_gateway_blocked_by', '{''inj_gateway''}'),
    ('payonce_prune', '{''2 years'',1}'),
    ('payonce_http_validator', ARRAY['''{url=https://a.example}''', '1417']),
    ('payonce_wechat_validator', ARRAY['''{url=https://a.example}''', '1417']),
    ('payonce_alipay_validator', ARRAY['''{url=https://a.example}''', '1417']),
    ('payonce_stripe_validator', ARRAY['''{url=https://a.example}''', '1417']);
-- In versions that have it.
INSERT INTO good_call SELECT 'pay_callback_batch', ARRAY['''{inj-p}''', '''{true}''']
WHERE to_regproc('pay_callback_batch') IS NOT NULL;
CREATE TEMP TABLE argument AS
SELECT p.oid::regproc::text AS function, p.proname::text COLLATE "default" AS name, a.n::integer, a.t::regtype AS type
FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid, unnest(p.proargtypes::oid[]) WITH ORDINALITY a (t, n)
WHERE d.deptype = 'e' AND d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'payonce');
SELECT set_eq('SELECT DISTINCT name FROM argument', 'SELECT name FROM good_call',
              'every function with arguments is called');
SELECT is_empty($$SELECT name, type FROM argument
                  WHERE type NOT IN ('text'::regtype, 'text[]'::regtype, 'jsonb'::regtype, 'boolean'::regtype,
                                     'boolean[]'::regtype, 'bigint'::regtype, 'integer'::regtype,
                                     'interval'::regtype, 'oid'::regtype)$$,
                'with types that are known here');

CREATE TEMP TABLE hostile (text text);
INSERT INTO hostile SELECT unnest(ARRAY[
    $$'; DROP TABLE t_order; --$$, $$' OR '1'='1$$, $$'||(SELECT pay_callback('by-2f',true))||'$$,
    $$"; DROP TABLE t_order; --$$,
    $$x' UNION SELECT secret FROM x --$$, $$\'; DELETE FROM t_refund; --$$, $$\$$, $$'$$, $$''$$, $$"$$, $$`id`$$,
    $$$(id)$$,
    '$$; DELETE FROM t_refund; $$', '$1', '$body$', ':id', ':''id''', '/*', '--', ';', '{s}.t_order', '{s}', '{}',
    '%s%s%s%n', '%n%n%n', '%1$n', '%999999999d', '%*.*s', '%', '%%', '%_', 'by-%', 'inj-_', '.*', '^', '(',
    '[[:alpha:]',
    'NULL', 'null', 'true', '0', '-1', '1e999', 'pg_temp', 'pg_catalog', 'inj-w ', ' inj-w', 'INJ-W', 'inj-w/../by-2f',
    'inj-w/refunds?x=1', 'inj-w#', '../../etc/passwd', 'file:///etc/passwd', '%00', '%0d%0a', '\u0000', '\x00', '\000',
    E'\x01', E'\x7f', E'a\r\nX-Injected: 1', E'a\nb', E'a\tb', E'\u202e', E'\ufeff', E'e\u0301', E'\u00e9', E'\uff07',
    E'\U0001F600', E'\u00a0', E'\u2028', E'\uffff', E'\u0130', '<script>alert(1)</script>', '{"a":"b"}', '","x":"y',
    '=cmd|''/c calc''!A0', repeat('''', 10000), repeat('\', 10000), repeat('%s', 10000), repeat('x', 1048576)]);
CREATE FUNCTION pg_temp.given(type regtype, hostile text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT quote_literal(hostile) || '::text' WHERE type = 'text'::regtype
    UNION ALL SELECT quote_literal(jsonb_build_object(hostile, 'x')) || '::jsonb' WHERE type = 'jsonb'::regtype
    UNION ALL SELECT quote_literal(jsonb_build_object('webhook-id', hostile)) || '::jsonb' WHERE type = 'jsonb'::regtype
    UNION ALL SELECT quote_literal(ARRAY[hostile]) || '::text[]' WHERE type = 'text[]'::regtype
    UNION ALL SELECT quote_literal(ARRAY['url=' || hostile]) || '::text[]' WHERE type = 'text[]'::regtype
    UNION ALL SELECT quote_literal(ARRAY['url=https://a.example', 'timeout=' || hostile]) || '::text[]'
    WHERE type = 'text[]'::regtype
    UNION ALL SELECT quote_literal(ARRAY['url=https://a.example', hostile || '=x']) || '::text[]'
    WHERE type = 'text[]'::regtype
$$;

-- What a call came to. It is undone.
CREATE TEMP TABLE injected (name text, n integer, hostile text, sqlstate text, said integer, harmed boolean,
                            kept text[]);
CREATE FUNCTION pg_temp.inject(call text, OUT state text, OUT said integer, OUT harmed boolean,
                               OUT kept text[]) LANGUAGE plpgsql AS $$
DECLARE
    before text := pg_temp.bystanders();
    message text; detail text; hint text;
BEGIN
    said := 0; harmed := false;
    EXECUTE call;
    harmed := pg_temp.bystanders() <> before;
    kept := ARRAY(SELECT t FROM (SELECT unnest(ARRAY[transaction_id, note]) FROM t_order_pay
                                 WHERE id LIKE 'inj%' UNION ALL
                                 SELECT unnest(ARRAY[gateway_refund_id, note]) FROM t_refund
                                 WHERE payment_id LIKE 'inj%') k (t)
                  WHERE t IS NOT NULL AND t NOT IN ('T', 'G', 'note', 'why'));
    RAISE EXCEPTION USING ERRCODE = 'UNDO0';
EXCEPTION
    WHEN SQLSTATE 'UNDO0' THEN state := '00000';
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        state := SQLSTATE;
        said := octet_length(message) + octet_length(detail) + octet_length(hint);
END
$$;
INSERT INTO injected
SELECT a.name, a.n, h.text, i.*
FROM argument a JOIN good_call g USING (name) CROSS JOIN hostile h, pg_temp.given(a.type, h.text) v,
     pg_temp.inject(format('SELECT %s(%s)', a.function,
                           array_to_string(g.arguments[:a.n - 1] || v || g.arguments[a.n + 1:], ', '))) i;
SELECT is_empty(format($$SELECT left(hostile, 60), sqlstate FROM injected WHERE name = %L AND n = %s
                         AND NOT sqlstate = ANY (%L) LIMIT 5$$, name, n,
                       CASE WHEN name LIKE '%\_validator' THEN '{00000,42601,HV00D,HV00J,HV024}'
                            WHEN name = 'pay_notify' THEN '{00000,22023,42704,42809}'
                            WHEN name = 'pay_callback_batch' THEN '{00000,2202E}'
                            ELSE '{00000,22023,P0002,55000}' END::text[]),
                format('%s, argument %s: %s texts are answered or refused in its own words', name, n, count(*)))
FROM injected GROUP BY name, n ORDER BY name, n;
SELECT is_empty('SELECT name, n, left(hostile, 60) FROM injected WHERE harmed', 'nothing else is ever touched');
SELECT is_empty($$SELECT name, n, left(hostile, 60), left(kept::text, 60) FROM injected WHERE kept <> ARRAY[hostile]
                  AND kept <> '{}'$$, 'what is kept is kept to the letter');
SELECT isnt_empty($$SELECT FROM injected WHERE kept = ARRAY[hostile] AND hostile LIKE '%DROP TABLE%'$$,
                  'as a note, any text is');
-- 42601 is the server's own, for an option without a value, which no DDL can hand to a validator.
SELECT is_empty($$SELECT name, n, left(hostile, 60), said FROM injected WHERE said > 2000 AND sqlstate <> '42601'$$,
                'and no error repeats a megabyte');

-- What is no text in the database's encoding does not get as far.
SELECT throws_ok(format('SELECT pay_callback(convert_from(%L, ''UTF8''), true)', bytes), '22021', NULL,
                 bytes || ' is no text')
FROM unnest(ARRAY['\x00', '\xff', '\xc0af', '\xeda080', '\xf4908080', '\x696e6ac3']) bytes;

SELECT is_empty('SELECT * FROM payonce_check()', 'every invariant is in place');
SELECT * FROM finish();
ROLLBACK;
