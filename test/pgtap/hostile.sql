-- Hostile calls: every function with every kind of nonsense, and every trigger function where it does
-- not belong. Each must end in an answer or in one of the errors of the contract, never in an internal
-- error, and of course not in a crash.
BEGIN;
SET LOCAL client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS payonce;
CREATE EXTENSION IF NOT EXISTS pgcrypto;
-- Wherever they are installed.
SELECT set_config('search_path', string_agg(DISTINCT quote_ident(n.nspname), ', '), true) AS path
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname IN ('pgtap', 'payonce', 'pgcrypto') \gset
SET LOCAL payonce.late_payment = 'refund';
SELECT no_plan();

-- Rows in many states, so that some of the calls get far.
INSERT INTO t_order (id, price) SELECT 'tap-' || n, 100 FROM generate_series(1, 4) n;
INSERT INTO t_order_pay (id, order_id, price, gateway)
SELECT 'tap-' || n || m, 'tap-' || n, 100, 'tap_signed'
FROM generate_series(1, 4) n, unnest(ARRAY['a', 'b', 'c', 'd']) m;
SELECT pay_callback('tap-1a', true), pay_callback('tap-1b', true), pay_callback('tap-1c', true, 99),
       pay_callback('tap-2a', false), order_close('tap-3'), pay_callback('tap-3a', true),
       refund_callback('tap-3a-R1', false) \gset

-- A gateway that signs what it says, as the generic driver's do: the headers of such a message.
CREATE SERVER tap_signed FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://pay.example');
CREATE USER MAPPING FOR CURRENT_USER SERVER tap_signed
    OPTIONS (signing_secret 'whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNoaHVzaA==');
CREATE FUNCTION pg_temp.signed(body text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('webhook-id', 'm', 'webhook-timestamp', t, 'webhook-signature',
        'v1,' || encode(hmac(convert_to('m.' || t || '.' || body, 'UTF8'), convert_to(repeat('hush', 7), 'UTF8'),
                             'sha256'), 'base64'))
    FROM (SELECT floor(extract(epoch FROM now()))::bigint::text) s (t)
$$;
CREATE SERVER tap_mute FOREIGN DATA WRAPPER payonce_wechat OPTIONS (url 'https://pay.example');
CREATE FOREIGN DATA WRAPPER tap_wrapper;
CREATE SERVER tap_foreign FOREIGN DATA WRAPPER tap_wrapper;

CREATE TEMP TABLE hostile_value (type text, value text);
INSERT INTO hostile_value
SELECT 'text', unnest(ARRAY[
    'NULL', '''''', ''' ''', 'E''\n''', '''tap-1''', '''tap-3''', '''tap-4''', '''tap-1a''', '''tap-1b''', '''tap-1c''',
    '''tap-1b-R1''', '''tap-3a-R1''', '''unheard-of''', '''tap_signed''', '''tap_mute''', '''tap_foreign''',
    '''CNY''', '''XXX''', '''accept''', '''refund''', '''%s%n%s''',
    '''"; DROP TABLE t_order; --''', '''../../etc/passwd''', 'repeat(''x'', 57)', 'repeat(''x'', 129)',
    'repeat(''x'', 1000000)', 'repeat(E''\u00e9'', 100000)'])
UNION ALL SELECT 'boolean', unnest(ARRAY['NULL', 'true', 'false'])
UNION ALL SELECT 'boolean[]', unnest(ARRAY[
    'NULL', '''{}''', '''{t}''', '''{f}''', '''{NULL}''', '''{{t}}''', '''{t,f}''', '''[0:0]={t}''',
    'array_fill(true, ARRAY[10000])', 'array_fill(true, ARRAY[100, 100])'])
UNION ALL SELECT 'integer', unnest(ARRAY['NULL', '0', '-1', '1', '10000', '10001', '2147483647', '''-2147483648'''])
UNION ALL SELECT 'interval', unnest(ARRAY[
    'NULL', '''0''', '''-1 year''', '''363 days''', '''1 year''', '''2 years''', '''1000 years''', '''9999999 years''',
    '''178000000 years''', '''-178000000 years''', '''2147483647 days''', '''1 year -1 day'''])
UNION ALL SELECT 'bigint', unnest(ARRAY['NULL', '0', '-1', '1', '99', '100', '9223372036854775807',
                                       '''-9223372036854775808'''])
UNION ALL SELECT 'jsonb', unnest(ARRAY[
    'NULL', '''{}''', '''[]''', '''[{}]''', '''null''', '''1''', '''"x"''', '''{"":""}''', '''{"a":null}''',
    '''{"a":1e1000}''', '''{"a":true}''', '''{"a":{}}''', '''{"a":[[[1]]]}''', '''{"a":[{"b":1}]}''',
    '''{"webhook-id":[]}''', '''{"webhook-id":"a","Webhook-Id":"b","webhook-timestamp":"","webhook-signature":"v1,"}''',
    '''{"webhook-id":"a","webhook-timestamp":99999999999999999999,"webhook-signature":"v1,AAAA"}''',
    '(SELECT jsonb_object_agg(n, n) FROM generate_series(1, 201) n)', 'jsonb_build_object(repeat(''x'', 1000000), 1)',
    'jsonb_build_object(''webhook-id'', repeat(''x'', 10000000))',
    '(repeat(''['', 5000) || repeat('']'', 5000))'])
UNION ALL SELECT 'oid', unnest(ARRAY['NULL', '0', '1', '1255', '1417', '1418', '2328', '4294967295'])
UNION ALL SELECT 'text[]', unnest(ARRAY[
    'NULL', '''{}''', '''{NULL}''', '''{x}''', '''{=}''', '''{""}''', '''{url}''', '''{url=}''',
    '''{url=https://a.example}''',
    '''{url=https://a.example,url=https://b.example}''', '''{{url=https://a.example,paused=no}}''',
    '''[7:8]={url=https://a.example,timeout=1s}''', '''{bearer_token}''', '''{bearer_token=,bearer_token_file=}''',
    '''{"url=https://a.example\n"}''', '''{timeout=99999999999999999999s}''', '''{ca_file=}''',
    '''{signing_secret=whsec_}''',
    'ARRAY[repeat(''x'', 1000000)]', 'ARRAY[''url=https://'' || repeat(''x'', 1000000)]',
    'ARRAY[''signing_secret='' || repeat(''A'', 1000000)]', 'ARRAY[''bearer_token='' || repeat(''A'', 1000000)]',
    'array_fill(''url=https://a.example''::text, ARRAY[10000])']);

-- The calls: all combinations of values where they are few, otherwise some hundred of them, the same
-- ones each time.
CREATE FUNCTION pg_temp.calls(function oid) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    calls text[] := ARRAY[''];
    argument regtype;
BEGIN
    FOR argument IN SELECT t FROM pg_proc, unnest(proargtypes::oid[]) t WHERE oid = function LOOP
        calls := ARRAY(SELECT trim(LEADING ', ' FROM c || ', ' || v.value || '::' || argument)
                       FROM unnest(calls) c, hostile_value v WHERE v.type = argument::text
                       ORDER BY md5(c || v.value) LIMIT 400);
    END LOOP;
    RETURN QUERY SELECT function::regproc || '(' || c || ')' FROM unnest(calls) c;
END
$$;
CREATE FUNCTION pg_temp.sqlstate_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RAISE EXCEPTION USING ERRCODE = 'UNDO0';
EXCEPTION
    WHEN SQLSTATE 'UNDO0' THEN RETURN '00000';
    WHEN OTHERS THEN RETURN SQLSTATE;
END
$$;
CREATE TEMP TABLE called AS
SELECT p.proname::text COLLATE "default" AS name, c.call, pg_temp.sqlstate_of('SELECT ' || c.call) AS sqlstate
FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid, pg_temp.calls(p.oid) AS c (call)
WHERE d.deptype = 'e' AND d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'payonce') AND p.prorettype <> 'trigger'::regtype;
SELECT cmp_ok(count(*), '>', 2000::bigint, 'there were calls enough') FROM called;
SELECT is_empty(format($$SELECT left(call, 200), sqlstate FROM called
                         WHERE name = %L AND NOT sqlstate = ANY (%L) LIMIT 3$$, name,
                       CASE WHEN name LIKE '%\_validator' THEN '{00000,22004,42601,HV00D,HV00J,HV024}'
                            WHEN name = 'pay_notify' THEN '{00000,22004,22023,42704,42809}'
                            WHEN name = 'payonce_prune' THEN '{00000,22004,22008,22023}'
                            WHEN name = 'pay_callback_batch' THEN '{00000,22004,2202E}'
                                 ELSE '{00000,22004,22023,P0002,55000}' END::text[]),
                name || ' answers, or refuses in its own words')
FROM called GROUP BY name ORDER BY name;
SELECT isnt_empty(format($$SELECT FROM called WHERE name = %L AND sqlstate = '00000'$$, name),
                  name || ' did answer something')
FROM called
WHERE name NOT IN ('order_close', 'pay_callback', 'pay_callback_outcome', 'refund_request', 'payment_resolve')
GROUP BY name ORDER BY name;

-- What a gateway with the right key may say: anything. A statement for each, undone.
CREATE TEMP TABLE signed_body (n serial, body text);
INSERT INTO signed_body (body) VALUES
    (''), (' '), ('null'), ('[]'), ('{}'), ('"x"'), ('{"type":'), ('{"type":null}'), ('{"type":["payment.succeeded"]}'),
    ('{"type":"payment.succeeded"}'), ('{"type":"payment.succeeded","payment_id":{}}'),
    ('{"type":"payment.succeeded","payment_id":"tap-4b"}'),
    ('{"type":"payment.succeeded","payment_id":"tap-4b","amount":"100","currency":"CNY"}'),
    ('{"type":"payment.succeeded","payment_id":"tap-4b","amount":100.0,"currency":"CNY"}'),
    ('{"type":"payment.succeeded","payment_id":"tap-4b","amount":0,"currency":"CNY"}'),
    ('{"type":"payment.succeeded","payment_id":"tap-4b","amount":-100,"currency":"CNY"}'),
    ('{"type":"payment.succeeded","payment_id":"tap-4b","amount":99999999999999999999,"currency":"CNY"}'),
    ('{"type":"payment.succeeded","payment_id":"tap-4b","amount":9223372036854775807,"currency":"CNY"}'),
    ('{"type":"payment.succeeded","payment_id":"tap-4b","amount":100}'),
    ('{"type":"payment.succeeded","payment_id":"tap-4b","amount":100,"currency":"cny"}'),
    ('{"type":"payment.succeeded","payment_id":"tap-4b","amount":100,"currency":"XXX"}'),
    ('{"type":"payment.succeeded","payment_id":"tap-4b","amount":100,"currency":"CNY","transaction_id":"a b"}'),
    ('{"type":"payment.succeeded","payment_id":"tap-4b","amount":100,"currency":"CNY","transaction_id":"a\u0000b"}'),
    ('{"type":"payment.succeeded","payment_id":"tap-4b\u0000","amount":100,"currency":"CNY"}'),
    ('{"type":"payment.succeeded","payment_id":"a/b","amount":100,"currency":"CNY"}'),
    ('{"type":"payment.succeeded","payment_id":"' || repeat('x', 100000) || '","amount":100,"currency":"CNY"}'),
    ('{"type":"payment.succeeded","payment_id":"nobody","amount":100,"currency":"CNY","transaction_id":"'
     || repeat('x', 100000) || '"}'),
    ('{"type":"payment.succeeded","payment_id":"nobody","amount":100,"currency":"CNY","x":"'
     || repeat(E'\u4ed8\u6b3e', 150000) || '"}'),
    ('{"type":"payment.succeeded","type":"payment.failed","payment_id":"tap-4b","amount":100,"currency":"CNY"}'),
    ('{"type":"payment.failed","payment_id":"' || repeat('x', 100000) || '"}'),
    ('{"type":"refund.succeeded","refund_no":"tap-1b-R1","amount":-1}'),
    ('{"type":"refund.succeeded","refund_no":"tap-1b-R1","amount":100,"refund_id":"\ud800"}'),
    ('{"type":"refund.succeeded","refund_no":"\u0000"}'), ('{"type":"refund.succeeded","refund_no":""}'),
    ('{"type":"refund.succeeded","refund_no":"' || repeat('x', 100000) || '"}'),
    (E'{"type":"refund.failed","refund_no":"\\ud83d\\ude00\u00e9","error":"' || repeat('%n', 100000) || '"}'),
    ('{"type":"refund.failed","refund_no":"tap-1b-R1","error":"' || repeat('\n\u001b[31m', 10000) || '"}'),
    ('{"type":"' || repeat('x', 1000000) || '"}'),
    (repeat('[', 1000000)), (repeat('[', 500000) || repeat(']', 500000)),
    (repeat('{"a":', 100000) || '1' || repeat('}', 100000)),
    ('{"type":"payment.succeeded","x":' || repeat('[', 400000) || repeat(']', 400000) || '}'),
    ('{"type":"customer.created","x":' || repeat('9', 1000000) || '}'),
    (repeat(' ', 1048576)), (repeat(' ', 1048577)), ('{"type":"customer.created"}' || repeat(' ', 20000000));
CREATE TEMP TABLE notified (n integer, sqlstate text, http_status integer, outcome text, stray text);
CREATE FUNCTION pg_temp.notify(message signed_body) RETURNS notified LANGUAGE plpgsql AS $$
DECLARE
    result notified;
BEGIN
    result.n := message.n;
    result.sqlstate := '00000';
    SELECT r.http_status, r.outcome INTO result.http_status, result.outcome
    FROM pay_notify('tap_signed', pg_temp.signed(message.body), message.body) r;
    SELECT string_agg(s::text, ' ') INTO result.stray FROM t_stray_notification s WHERE s.gateway = 'tap_signed';
    RAISE EXCEPTION USING ERRCODE = 'UNDO0';
EXCEPTION
    WHEN SQLSTATE 'UNDO0' THEN RETURN result;
    WHEN OTHERS THEN
        result.sqlstate := SQLSTATE;
        RETURN result;
END
$$;
INSERT INTO notified SELECT n.* FROM signed_body b, pg_temp.notify(b) n;
SELECT is_empty($$SELECT n, sqlstate, http_status, outcome, left(body, 100) FROM notified JOIN signed_body USING (n)
                  WHERE sqlstate <> '00000' OR outcome = 'error' OR http_status NOT IN (200, 400, 500)$$,
                'whatever is signed is answered');
SELECT is_empty($$SELECT n, outcome, left(body, 100) FROM notified JOIN signed_body USING (n)
                  WHERE outcome NOT IN ('forged', 'ignored', 'unknown', 'mismatch', 'conflict', 'failed', 'paid',
                                        'already_processed', 'refunded', 'refund_failed')$$, 'in words of the contract');
SELECT is_empty($$SELECT n, outcome, left(body, 100) FROM notified JOIN signed_body USING (n)
                  WHERE outcome = 'paid' AND body !~ '"amount":100,"currency":"CNY"'$$,
                'and nothing is paid by an amount or currency that cannot be read');
SELECT is_empty($$SELECT n, outcome, length(stray) FROM notified WHERE octet_length(stray) > 10000$$,
                'a stray notification has its bounds');
SELECT isnt_empty($$SELECT FROM notified WHERE outcome = 'paid'$$, 'some of them are in order, though');

-- The bounds of headers and body.
SELECT is((pay_notify('tap_signed', pg_temp.signed('{"type":"x"}') ||
                      (SELECT jsonb_object_agg('x-' || n, 'y') FROM generate_series(1, 197) n),
                      '{"type":"x"}')).outcome, 'ignored', '200 headers are taken');
SELECT throws_ok($$SELECT pay_notify('tap_signed', jsonb_object_agg('x-' || n, 'y'), '{}')
                   FROM generate_series(1, 201) n$$, '22023', 'headers are malformed', '201 are not');
SELECT throws_ok($$SELECT pay_notify('tap_signed', jsonb_build_object('x', jsonb_agg(n)), '{}')
                   FROM generate_series(1, 100000) n$$, '22023', 'headers are malformed', 'nor in one array');
SELECT is((pay_notify('tap_signed', pg_temp.signed(body), body)).outcome, expected, what)
FROM (VALUES (rpad('{"type":"x"}', 1048576), 'ignored', 'a body of 1 MiB is read'),
             (rpad('{"type":"x"}', 1048577), 'forged', 'a longer one is not')) b (body, expected, what);
-- No name is cut to one that fits.
SELECT format('CREATE SERVER %I FOREIGN DATA WRAPPER payonce_http OPTIONS (url ''https://pay.example'')',
              repeat('g', 63)) \gexec
SELECT throws_ok($$SELECT pay_notify(repeat('g', 64), '{}', '{}')$$, '42704', NULL, 'a longer name is another name');

-- Objects of the caller's that are found before payonce's and PostgreSQL's: pay_notify looks at none of
-- them. Temporary tables come first in every search_path that does not say otherwise.
SELECT current_setting('search_path') AS good_path \gset
CREATE SCHEMA payonce_tap_evil;
CREATE FUNCTION payonce_tap_evil.tell() RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the caller''s function was called' USING ERRCODE = 'EVIL0'; END $$;
CREATE FUNCTION payonce_tap_evil.equal(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT payonce_tap_evil.tell()';
CREATE FUNCTION payonce_tap_evil.equal(integer, integer) RETURNS boolean LANGUAGE sql
AS 'SELECT payonce_tap_evil.tell()';
CREATE FUNCTION payonce_tap_evil.now() RETURNS timestamptz LANGUAGE sql
AS 'SELECT payonce_tap_evil.tell()::text::timestamptz';
CREATE FUNCTION payonce_tap_evil.order_lock_key(text) RETURNS bigint LANGUAGE sql
AS 'SELECT payonce_tap_evil.tell()::integer::bigint';
CREATE FUNCTION payonce_tap_evil.octet_length(text) RETURNS integer LANGUAGE sql
AS 'SELECT payonce_tap_evil.tell()::integer';
CREATE OPERATOR payonce_tap_evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = payonce_tap_evil.equal);
CREATE OPERATOR payonce_tap_evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = payonce_tap_evil.equal);
CREATE OPERATOR payonce_tap_evil.^@ (LEFTARG = text, RIGHTARG = text, FUNCTION = payonce_tap_evil.equal);
CREATE OPERATOR payonce_tap_evil.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = payonce_tap_evil.equal);
CREATE DOMAIN payonce_tap_evil.text AS pg_catalog.text CHECK (false);
SELECT format('CREATE TABLE payonce_tap_evil.%1$I (LIKE %2$I.%1$I)', t, n.nspname)
FROM unnest(ARRAY['t_order', 't_order_pay', 't_refund', 't_stray_notification']) t,
     pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'payonce' \gexec
SELECT format('CREATE TEMP TABLE %1$I (LIKE payonce_tap_evil.%1$I)', t)
FROM unnest(ARRAY['t_order', 't_order_pay', 't_refund', 't_stray_notification']) t \gexec
CREATE TEMP TABLE pg_foreign_server AS SELECT * FROM pg_catalog.pg_foreign_server LIMIT 0;
CREATE TEMP TABLE message AS
SELECT id, body, pg_temp.signed(body) AS headers
FROM (SELECT id, format('{"type":"payment.succeeded","payment_id":"%s","amount":100,"currency":"CNY",'
                        '"transaction_id":"%s"}', id, id) AS body
      FROM unnest(ARRAY['tap-5a', 'tap-5b', 'pi_nobody']) id) m;
SELECT format('INSERT INTO %I.t_order (id, price) VALUES (''tap-5'', 100)', n.nspname),
       format('INSERT INTO %I.t_order_pay (id, order_id, price, gateway)'
              ' SELECT id, ''tap-5'', 100, ''tap_signed'' FROM unnest(ARRAY[''tap-5a'', ''tap-5b'']) id', n.nspname)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'payonce' \gexec
SELECT format('CREATE FUNCTION pg_temp.pass_on(which text) RETURNS text LANGUAGE plpgsql AS %L',
              format('DECLARE said record; BEGIN'
                     ' SELECT n.* INTO said FROM pg_temp.message m, %I.pay_notify(''tap_signed'', m.headers, m.body) n'
                     ' WHERE m.id OPERATOR(pg_catalog.=) which; RETURN said.outcome; END', n.nspname))
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'payonce' \gexec
CREATE TEMP TABLE passed_on (id text, outcome text, sqlstate text);
CREATE FUNCTION pg_temp.pass_all_on() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    id pg_catalog.text;
BEGIN
    FOREACH id IN ARRAY ARRAY['tap-5a', 'tap-5b', 'pi_nobody']::pg_catalog.text[] LOOP
        INSERT INTO pg_temp.passed_on VALUES (id, pg_temp.pass_on(id), '00000');
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    INSERT INTO pg_temp.passed_on VALUES (id, NULL, SQLSTATE);
END
$$;
SET LOCAL search_path = payonce_tap_evil, pg_catalog;
SELECT pg_temp.sqlstate_of('SELECT ''a''::pg_catalog.text = ''a''') AS trap \gset
SELECT pg_temp.pass_all_on();
SELECT pg_catalog.set_config('search_path', :'good_path', true) \gset
SELECT is(:'trap'::text, 'EVIL0', 'the caller''s own statements fall into the trap');
SELECT results_eq('SELECT * FROM passed_on', $$VALUES ('tap-5a', 'paid', '00000'), ('tap-5b', 'duplicate', '00000'),
                                                     ('pi_nobody', 'unknown', '00000')$$,
                  'what the caller puts in front is not looked at');
SELECT is_empty($$SELECT FROM pg_temp.t_order_pay UNION ALL SELECT FROM pg_temp.t_refund
                  UNION ALL SELECT FROM pg_temp.t_stray_notification
                  UNION ALL SELECT FROM payonce_tap_evil.t_refund
                  UNION ALL SELECT FROM payonce_tap_evil.t_stray_notification$$, 'nor written to');
DROP TABLE pg_temp.t_order, pg_temp.t_order_pay, pg_temp.t_refund, pg_temp.t_stray_notification,
    pg_temp.pg_foreign_server;
SELECT results_eq($$SELECT status FROM t_order_pay WHERE id LIKE 'tap-5%' ORDER BY id$$, ARRAY[100, 200],
                  'it is all in payonce''s own tables');
SELECT isnt_empty($$SELECT FROM t_refund WHERE refund_no = 'tap-5b-R1'$$, 'the refund too');
SELECT isnt_empty($$SELECT FROM t_stray_notification WHERE number = 'pi_nobody'$$, 'and what matched nothing');

-- Trigger functions where no trigger of payonce's is: on a table with columns of other types, on one
-- with the same names and types, on a view; for rows and statements; with arguments and without.
CREATE TEMP TABLE strange (status text, currency integer, payment_id integer, gateway integer);
CREATE TEMP TABLE alike (status integer, currency text, payment_id text, gateway text);
CREATE TEMP TABLE bare (x integer);
CREATE TEMP VIEW seen AS SELECT * FROM alike;
CREATE FUNCTION pg_temp.misuse(function text, on_table text, event text, level text, arguments text) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    sqlstates text[] := '{}';
    statement text;
BEGIN
    -- Rows to update and delete, also one of nulls, are there before the trigger is.
    IF on_table = 'bare' THEN
        INSERT INTO bare VALUES (1), (NULL);
    ELSE
        EXECUTE format('INSERT INTO %I VALUES (''1'', ''1'', ''1'', ''1''), (NULL, NULL, NULL, NULL)', on_table);
    END IF;
    EXECUTE format('CREATE TRIGGER misused %s ON %I FOR EACH %s EXECUTE FUNCTION %s(%s)',
                   event, on_table, level, function, arguments);
    FOREACH statement IN ARRAY CASE WHEN on_table = 'bare'
        THEN ARRAY['INSERT INTO bare VALUES (1)', 'UPDATE bare SET x = 2', 'DELETE FROM bare', 'TRUNCATE bare']
        ELSE ARRAY['INSERT INTO %1$I VALUES (''1'', ''1'', ''1'', ''1'')',
                   'INSERT INTO %1$I VALUES (NULL, NULL, NULL, NULL)',
                   'UPDATE %1$I SET status = ''2'', currency = ''2''',
                   'UPDATE %1$I SET status = NULL, currency = NULL, payment_id = NULL',
                   'DELETE FROM %1$I', 'TRUNCATE %1$I'] END LOOP
        sqlstates := sqlstates || pg_temp.sqlstate_of(format(statement, on_table));
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'UNDO0';
EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
    RETURN sqlstates;
WHEN OTHERS THEN
    RETURN ARRAY['not made: ' || SQLSTATE];
END
$$;
CREATE TEMP TABLE misused AS
SELECT f.name, t.on_table, e.event, l.level, a.arguments,
       pg_temp.misuse(f.name, t.on_table, e.event, l.level, a.arguments) AS sqlstates
FROM unnest(ARRAY['payonce_status_guard', 'payonce_currency_guard', 'payonce_refund_complete', 'payonce_refund_reserve',
                  'payonce_refund_wake', 'payonce_refund_fixed', 'payonce_append_only']) f (name),
     unnest(ARRAY['strange', 'alike', 'bare', 'seen']) t (on_table),
     unnest(ARRAY['BEFORE INSERT', 'AFTER INSERT', 'BEFORE UPDATE', 'AFTER UPDATE', 'BEFORE DELETE',
                  'AFTER DELETE', 'BEFORE TRUNCATE', 'AFTER TRUNCATE', 'INSTEAD OF INSERT',
                  'INSTEAD OF UPDATE', 'INSTEAD OF DELETE']) e (event),
     unnest(ARRAY['ROW', 'STATEMENT']) l (level),
     unnest(ARRAY['', '''order''', '''x'', ''y''']) a (arguments);
DELETE FROM misused WHERE sqlstates[1] LIKE 'not made%';
SELECT cmp_ok(count(*), '>', 500::bigint, 'there were triggers enough') FROM misused;
-- 42P01: no t_order_pay is beside the table with the trigger. 42809: a view cannot be truncated.
SELECT is_empty(format($$SELECT on_table, event, level, arguments, sqlstates FROM misused WHERE name = %L
                         AND NOT sqlstates <@ '{00000,23514,39P01,42809,42P01,55000}'$$, name),
                name || ' refuses to be misused')
FROM misused GROUP BY name ORDER BY name;

-- After all of this the session still works, and nothing was changed.
SELECT is(pay_callback_outcome('tap-4a', true), 'paid', 'and payonce still decides');
SELECT is_empty($$SELECT * FROM payonce_check() WHERE id LIKE 'tap-%'$$, 'with every invariant in place');

SELECT * FROM finish();
ROLLBACK;
