-- Hostile calls: every function with every kind of nonsense, and every trigger function where it does
-- not belong. Each must end in an answer or in one of the errors of the contract, never in an internal
-- error, and of course not in a crash.
BEGIN;
SET LOCAL client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS payonce;
-- Wherever the two are installed.
SELECT set_config('search_path', string_agg(DISTINCT quote_ident(n.nspname), ', '), true) AS path
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname IN ('pgtap', 'payonce') \gset
SET LOCAL payonce.late_payment = 'refund';
SELECT no_plan();

-- Rows in many states, so that some of the calls get far.
INSERT INTO t_order (id, price) SELECT 'tap-' || n, 100 FROM generate_series(1, 4) n;
INSERT INTO t_order_pay (id, order_id, price, gateway)
SELECT 'tap-' || n || m, 'tap-' || n, 100, 'tap_gateway'
FROM generate_series(1, 4) n, unnest(ARRAY['a', 'b', 'c', 'd']) m;
SELECT pay_callback('tap-1a', true), pay_callback('tap-1b', true), pay_callback('tap-1c', true, 99),
       pay_callback('tap-2a', false), order_close('tap-3'), pay_callback('tap-3a', true),
       refund_callback('tap-3a-R1', false) \gset

CREATE TEMP TABLE hostile_value (type text, value text);
INSERT INTO hostile_value
SELECT 'text', unnest(ARRAY[
    'NULL', '''''', ''' ''', 'E''\n''', '''tap-1''', '''tap-3''', '''tap-4''', '''tap-1a''', '''tap-1b''', '''tap-1c''',
    '''tap-1b-R1''', '''tap-3a-R1''', '''unheard-of''', '''CNY''', '''XXX''', '''accept''', '''refund''', '''%s%n%s''',
    '''"; DROP TABLE t_order; --''', '''../../etc/passwd''', 'repeat(''x'', 57)', 'repeat(''x'', 129)',
    'repeat(''x'', 1000000)', 'repeat(E''\u00e9'', 100000)'])
UNION ALL SELECT 'boolean', unnest(ARRAY['NULL', 'true', 'false'])
UNION ALL SELECT 'bigint', unnest(ARRAY['NULL', '0', '-1', '1', '99', '100', '9223372036854775807',
                                       '''-9223372036854775808'''])
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
                                 ELSE '{00000,22004,22023,P0002,55000}' END::text[]),
                name || ' answers, or refuses in its own words')
FROM called GROUP BY name ORDER BY name;
SELECT isnt_empty(format($$SELECT FROM called WHERE name = %L AND sqlstate = '00000'$$, name),
                  name || ' did answer something')
FROM called
WHERE name NOT IN ('order_close', 'pay_callback', 'pay_callback_outcome', 'refund_request', 'payment_resolve')
GROUP BY name ORDER BY name;

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
