-- Who may do what: PUBLIC nothing, an application what it was granted, monitoring the state of
-- things but no secret.
BEGIN;
SET LOCAL client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS payonce;
CREATE EXTENSION IF NOT EXISTS pgcrypto;
-- Wherever they are installed.
SELECT set_config('search_path', string_agg(DISTINCT quote_ident(n.nspname), ', '), true) AS path
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname IN ('pgtap', 'payonce', 'pgcrypto') \gset
SELECT n.nspname AS schema, e.extowner::regrole AS owner
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'payonce' \gset
SELECT no_plan();

CREATE TEMP TABLE member AS
SELECT d.classid, d.objid FROM pg_depend d
WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'payonce');
CREATE TEMP TABLE member_function AS
SELECT p.oid, p.oid::regprocedure::text COLLATE "default" AS signature, p.proname::text COLLATE "default" AS name,
       p.prosecdef, p.proconfig, p.proowner, p.prorettype,
       -- No NULL: a strict function would not be called at all.
       'SELECT ' || p.oid::regproc || '(' || coalesce((
           SELECT string_agg(CASE WHEN t = 'boolean'::regtype THEN 'false'
                             WHEN format_type(t, NULL) LIKE '%[]' THEN '''{}''::' || format_type(t, NULL)
                             ELSE '''0''::' || format_type(t, NULL) END, ', ' ORDER BY n)
           FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY a (t, n)), '') || ')' AS call
FROM member m JOIN pg_proc p ON p.oid = m.objid WHERE m.classid = 'pg_proc'::regclass;
CREATE TEMP TABLE member_table AS
SELECT c.oid, c.oid::regclass::text COLLATE "default" AS name, c.relkind, c.relowner
FROM member m JOIN pg_class c ON c.oid = m.objid WHERE m.classid = 'pg_class'::regclass;

-- PUBLIC.
SELECT cmp_ok(count(*), '>=', 28::bigint, 'there are functions to look at') FROM member_function;
SELECT is(has_function_privilege('public', oid, 'EXECUTE'), false, 'PUBLIC may not execute ' || signature)
FROM member_function ORDER BY signature;
SELECT is(has_table_privilege('public', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
          OR has_any_column_privilege('public', oid, 'SELECT, INSERT, UPDATE, REFERENCES'), false,
          'PUBLIC may do nothing with ' || name)
FROM member_table ORDER BY name;
SELECT is(has_foreign_data_wrapper_privilege('public', w.oid, 'USAGE'), false,
          'PUBLIC may make no server of ' || fdwname)
FROM member JOIN pg_foreign_data_wrapper w ON w.oid = objid
WHERE classid = 'pg_foreign_data_wrapper'::regclass ORDER BY fdwname;
SELECT is(count(*), 4::bigint, 'of none of the four') FROM member WHERE classid = 'pg_foreign_data_wrapper'::regclass;

-- Objects of a kind that is not looked at here would go unseen. The row types of tables are objects
-- too, and usable by PUBLIC as any table's are.
SELECT is_empty($$SELECT pg_describe_object(classid, objid, 0) FROM member
                  WHERE classid NOT IN ('pg_proc'::regclass, 'pg_class'::regclass,
                                        'pg_foreign_data_wrapper'::regclass)
                    AND NOT (classid = 'pg_type'::regclass
                             AND (SELECT typrelid <> 0 OR typelem <> 0 FROM pg_type WHERE oid = objid))$$,
                'the extension consists of functions, relations and wrappers');
SELECT is_empty($$SELECT FROM pg_default_acl d, aclexplode(d.defaclacl) a
                  WHERE a.grantee = 0 AND d.defaclnamespace = (SELECT extnamespace FROM pg_extension
                                                               WHERE extname = 'payonce')$$,
                'nor is PUBLIC given what is made later');

-- Who else was granted something: monitoring, and nobody more.
SELECT set_eq(
    $$SELECT f.signature || ' to ' || a.grantee::regrole FROM member_function f JOIN pg_proc p ON p.oid = f.oid,
             aclexplode(p.proacl) a WHERE a.grantee <> p.proowner
      UNION ALL
      SELECT a.privilege_type || ' on ' || t.name || ' to ' || a.grantee::regrole FROM member_table t
             JOIN pg_class c ON c.oid = t.oid, aclexplode(c.relacl) a WHERE a.grantee <> c.relowner$$,
    $$VALUES ('payonce_check() to pg_monitor'), ('payonce_dispatch_blocked_by() to pg_monitor'),
             ('payonce_gateway_blocked_by(text) to pg_monitor'), ('payonce_gateway_stats() to pg_monitor'),
             ('payonce_worker_stats() to pg_monitor'), ('SELECT on payonce_attention to pg_monitor'),
             ('SELECT on payonce_refund_backlog to pg_monitor'), ('SELECT on payonce_stat_gateway to pg_monitor'),
             ('SELECT on payonce_stat_worker to pg_monitor')$$, 'only pg_monitor was granted anything');

-- SECURITY DEFINER only with a pinned search_path, in which pg_temp comes last. The two that are called
-- most pin it themselves: what code of others sees in them is looked at below.
SELECT is(proconfig, ARRAY['search_path=pg_catalog, pg_temp'], 'search_path is pinned for ' || signature)
FROM member_function WHERE prosecdef AND name NOT IN ('pay_callback', 'pay_callback_outcome') ORDER BY signature;
CREATE TEMP TABLE path_seen (way text, path text);
CREATE FUNCTION pg_temp.note_path() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pg_temp.path_seen VALUES (TG_ARGV[0], current_setting('search_path'));
    RETURN NEW;
END
$$;
INSERT INTO t_order (id, price) VALUES ('path-1', 100), ('path-2', 100), ('path-3', 100);
INSERT INTO t_order_pay (id, order_id, price)
SELECT 'path-' || n, 'path-' || n, 100 FROM generate_series(1, 3) n;
CREATE TRIGGER note_path AFTER UPDATE ON t_order_pay FOR EACH ROW EXECUTE FUNCTION pg_temp.note_path('row');
SELECT pay_callback('path-1', true) \gset
DROP TRIGGER note_path ON t_order_pay;
CREATE TRIGGER note_path BEFORE UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION pg_temp.note_path('before');
SELECT pay_callback('path-2', true) \gset
DROP TRIGGER note_path ON t_order;
CREATE TRIGGER note_path AFTER UPDATE ON t_order FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.note_path('statement');
SELECT pay_callback_outcome('path-3', true) \gset
DROP TRIGGER note_path ON t_order;
SELECT set_eq('SELECT way, path FROM path_seen',
              $$VALUES ('row', 'pg_catalog, pg_temp'), ('before', 'pg_catalog, pg_temp'),
                       ('statement', 'pg_catalog, pg_temp')$$, 'triggers see the pinned search_path in them');
SELECT is(current_setting('search_path'), :'path', 'and the caller has his own again');
SELECT set_eq(
    $$SELECT name FROM member_function WHERE prosecdef$$,
    $$VALUES ('order_close'), ('pay_callback'), ('pay_callback_batch'), ('pay_callback_outcome'), ('pay_notify'),
             ('payment_resolve'), ('payonce_activate'), ('payonce_check'), ('payonce_dispatch_blocked_by'), ('payonce_gateway_blocked_by'),
             ('payonce_prune'), ('payonce_refund_complete'), ('payonce_refund_reserve'), ('refund_callback'),
             ('refund_request'), ('refund_resolve'), ('refund_retry')$$, 'these run with the rights of their owner');
SELECT is_empty(format($$SELECT signature FROM member_function WHERE proowner <> %1$L::regrole
                         UNION ALL SELECT name FROM member_table WHERE relowner <> %1$L::regrole$$, :'owner'),
                'who owns the extension owns all of it');

-- A shop that may call pay_callback, and nothing else.
CREATE ROLE payonce_tap_shop;
SELECT format('GRANT USAGE ON SCHEMA %I TO payonce_tap_shop', :'schema') \gexec
SELECT format('GRANT USAGE ON SCHEMA %I TO payonce_tap_shop', n.nspname)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pgtap' \gexec
GRANT EXECUTE ON FUNCTION pay_callback TO payonce_tap_shop;
GRANT SELECT ON member_function, member_table TO payonce_tap_shop;
INSERT INTO t_order (id, price) VALUES ('tap', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('tap-1', 'tap', 100, 'tap_gateway'), ('tap-2', 'tap', 100, 'tap_gateway'), ('tap-3', 'tap', 100, 'tap_gateway');
SET LOCAL ROLE payonce_tap_shop;
SELECT is(pay_callback('tap-1', true), true, 'the shop may pass on a success');
SELECT is(pay_callback('tap-2', true, 100, 'CNY', 'T-2'), true, 'and a second one, which queues a refund');
SELECT is(pay_callback('tap-3', false), true, 'and a failure');
SELECT throws_ok(call, '42501', NULL, 'the shop may not execute ' || signature)
FROM member_function WHERE name <> 'pay_callback' AND prorettype <> 'trigger'::regtype ORDER BY signature;
SELECT throws_ok(format(statement, t.name), '42501', NULL, format('the shop may not: ' || statement, t.name))
FROM member_table t, unnest(ARRAY['SELECT 1 FROM %s', 'DELETE FROM %s', 'TRUNCATE %s']) statement
WHERE t.relkind = 'r' OR statement LIKE 'SELECT%' ORDER BY t.name, statement;
SELECT throws_ok($$INSERT INTO t_order (id, price) VALUES ('mine', 1)$$, '42501', NULL,
                 'the shop may not insert orders');
SELECT throws_ok($$UPDATE t_order_pay SET status = 100$$, '42501', NULL, 'the shop may not update payments');
SELECT throws_ok($$CREATE SERVER mine FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://mine.example')$$,
                 '42501', NULL, 'the shop may not make a gateway');
SELECT throws_ok(format('CREATE TRIGGER mine BEFORE UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION'
                        ' payonce_append_only()', name), '42501', NULL, 'the shop may not hang a trigger on ' || name)
FROM member_table WHERE relkind = 'r' ORDER BY name;
CREATE TEMP TABLE mine (status integer);
SELECT throws_ok('CREATE TRIGGER mine BEFORE UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION ' || call, '42501', NULL,
                 'the shop may not attach ' || call)
FROM (SELECT name || '()' FROM member_function WHERE prorettype = 'trigger'::regtype ORDER BY name) f (call);
-- Nor decide what becomes of money by a setting.
SELECT throws_ok($$SET payonce.late_payment = 'accept'$$, '42501', NULL, 'late_payment is for superusers');
SELECT throws_ok(format('SET %s = 1', name), '55P02', NULL, name || ' belongs to the configuration file')
FROM pg_settings WHERE name LIKE 'payonce.%' AND name <> 'payonce.late_payment' AND context = 'sighup' ORDER BY name;
SELECT throws_ok($$SET payonce.anything = 1$$, '42602', NULL, 'the prefix is reserved');
RESET ROLE;
SELECT results_eq($$SELECT id COLLATE "default", status FROM t_order_pay WHERE order_id = 'tap' ORDER BY id$$,
                  $$VALUES ('tap-1', 100), ('tap-2', 200), ('tap-3', 400)$$, 'what the shop passed on was recorded');
SELECT set_eq($$SELECT name FROM pg_settings WHERE name LIKE 'payonce.%' AND context = 'superuser'$$,
              ARRAY['payonce.late_payment'], 'one setting is for superusers, the others for the configuration file');
SELECT is_empty($$SELECT name FROM pg_settings WHERE name LIKE 'payonce.%'
                  AND (context NOT IN ('sighup', 'superuser') OR coalesce(short_desc, '') = '')$$,
                'and each says what it is');

-- A doorman that may pass on notifications, and nothing else: what is verified is booked with the rights
-- of payonce's owner, and the secrets that verify it are not to be seen.
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
CREATE USER MAPPING FOR PUBLIC SERVER tap_signed OPTIONS (bearer_token 'hush-hush');
CREATE SERVER tap_mute FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://pay.example');
CREATE USER MAPPING FOR CURRENT_USER SERVER tap_mute OPTIONS (bearer_token 'hush-hush');
INSERT INTO t_order (id, price) VALUES ('tap-n', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('tap-n1', 'tap-n', 100, 'tap_signed'), ('tap-n2', 'tap-n', 100, 'tap_signed');
CREATE TEMP TABLE message AS
SELECT id, body, pg_temp.signed(body) AS headers
FROM (SELECT id, format('{"type":"payment.succeeded","payment_id":"%s","amount":100,"currency":"CNY"}', id) AS body
      FROM unnest(ARRAY['tap-n1', 'tap-n2', 'tap-n3']) id) m;
CREATE TEMP TABLE writer (name text COLLATE "default");
CREATE TEMP TABLE said (answer text);
CREATE FUNCTION pg_temp.note_writer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pg_temp.writer VALUES (current_user);
    RETURN NULL;
END
$$;
CREATE TRIGGER note_writer AFTER UPDATE ON t_order_pay FOR EACH ROW EXECUTE FUNCTION pg_temp.note_writer();
CREATE ROLE payonce_tap_doorman;
SELECT format('GRANT USAGE ON SCHEMA %I TO payonce_tap_doorman', n.nspname)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname IN ('pgtap', 'payonce') \gexec
GRANT SELECT ON message, member_function, member_table TO payonce_tap_doorman;
GRANT INSERT ON said TO payonce_tap_doorman;
SET LOCAL ROLE payonce_tap_doorman;
SELECT throws_ok($$SELECT pay_notify('tap_signed', '{}', '{}')$$, '42501', NULL,
                 'without the right to it the doorman passes on no notification');
RESET ROLE;
GRANT EXECUTE ON FUNCTION pay_notify TO payonce_tap_doorman;
SET LOCAL ROLE payonce_tap_doorman;
SELECT is((pay_notify('tap_signed', headers, body)).outcome, 'paid', 'the doorman has a payment booked')
FROM message WHERE id = 'tap-n1';
SELECT is((pay_notify('tap_signed', headers, body)).outcome, 'duplicate', 'and a second one, which queues a refund')
FROM message WHERE id = 'tap-n2';
SELECT is((pay_notify('tap_signed', headers, body)).outcome, 'unknown', 'and one that matches nothing')
FROM message WHERE id = 'tap-n3';
SELECT is((pay_notify('tap_signed', '{}', body)).outcome, 'forged', 'but nothing that is not signed')
FROM message WHERE id = 'tap-n1';
SELECT is((pay_notify('tap_signed', headers, body || ' ')).outcome, 'forged', 'nor what is signed otherwise')
FROM message WHERE id = 'tap-n1';
SELECT is((pay_notify('tap_mute', headers, body)).outcome, 'error', 'nor what cannot be judged')
FROM message WHERE id = 'tap-n1';
INSERT INTO said SELECT pay_notify(gateway, h, body)::text
FROM message m, unnest(ARRAY['tap_signed', 'tap_mute']) gateway, unnest(ARRAY[m.headers, '{}']) h;
SELECT throws_ok(call, '42501', NULL, 'the doorman may not execute ' || signature)
FROM member_function WHERE name <> 'pay_notify' AND prorettype <> 'trigger'::regtype ORDER BY signature;
SELECT throws_ok('SELECT 1 FROM ' || name, '42501', NULL, 'the doorman does not read ' || name)
FROM member_table ORDER BY name;
SELECT is_empty($$SELECT srvname FROM pg_user_mappings WHERE srvname LIKE 'tap%' AND umoptions IS NOT NULL$$,
                'nor a secret in PostgreSQL''s own view');
SELECT throws_ok('SELECT umoptions FROM pg_user_mapping', '42501', NULL, 'nor behind it');
SELECT throws_ok($$ALTER SERVER tap_signed OPTIONS (SET url 'https://doorman.example')$$, '42501', NULL,
                 'and points no gateway elsewhere');
SELECT throws_ok($$CREATE USER MAPPING FOR CURRENT_USER SERVER tap_signed OPTIONS (bearer_token 'x')$$, '42501', NULL,
                 'nor gives it keys of his own');
RESET ROLE;
SELECT cmp_ok(count(*), '=', 12::bigint, 'what the doorman is told') FROM said;
SELECT is_empty($$SELECT answer FROM said WHERE answer ~ 'hush|aHVza|whsec'$$, 'has no secret in it');
SELECT results_eq($$SELECT id COLLATE "default", status FROM t_order_pay WHERE order_id = 'tap-n' ORDER BY id$$,
                  $$VALUES ('tap-n1', 100), ('tap-n2', 200)$$, 'what he passed on was recorded');
SELECT isnt_empty($$SELECT FROM t_stray_notification WHERE number = 'tap-n3'$$, 'the money without a payment too');
SELECT set_eq('SELECT name FROM writer', ARRAY[:'owner'], 'all of it by payonce''s owner');
DROP TRIGGER note_writer ON t_order_pay;

-- Monitoring.
CREATE ROLE payonce_tap_monitor;
GRANT pg_monitor TO payonce_tap_monitor;
SELECT format('GRANT USAGE ON SCHEMA %I TO payonce_tap_monitor', n.nspname)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname IN ('pgtap', 'payonce') \gexec
GRANT SELECT ON member_function, member_table TO payonce_tap_monitor;
CREATE SERVER tap_gateway FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://tap.example', paused 'true');
CREATE USER MAPPING FOR CURRENT_USER SERVER tap_gateway
    OPTIONS (bearer_token 'hush-hush', signing_secret 'whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNoaHVzaA==');
CREATE USER MAPPING FOR PUBLIC SERVER tap_gateway OPTIONS (bearer_token 'hush-hush');
SELECT refund_callback('tap-2-R1', false), refund_retry('tap-2-R1'), pay_callback('tap-1', true, NULL, NULL, 'T-1'),
       pay_callback('tap-1', true, NULL, NULL, 'T-9') \gset
SET LOCAL ROLE payonce_tap_monitor;
SELECT lives_ok('SELECT * FROM ' || name, 'monitoring sees ' || name)
FROM member_table WHERE relkind = 'v' ORDER BY name;
SELECT lives_ok('SELECT * FROM payonce_check()', 'monitoring may run the check');
SELECT throws_ok('SELECT * FROM ' || name, '42501', NULL, 'monitoring does not read ' || name)
FROM member_table WHERE relkind = 'r' ORDER BY name;
SELECT throws_ok(call, '42501', NULL, 'monitoring may not execute ' || signature)
FROM member_function
WHERE prorettype <> 'trigger'::regtype
  AND name NOT IN ('payonce_check', 'payonce_dispatch_blocked_by', 'payonce_gateway_blocked_by',
                   'payonce_gateway_stats', 'payonce_worker_stats') ORDER BY signature;
SELECT isnt_empty($$SELECT FROM payonce_refund_backlog WHERE refund_no = 'tap-2-R1'$$, 'it sees what waits');
SELECT isnt_empty($$SELECT FROM payonce_attention WHERE id = 'tap-1'$$, 'and who needs a person');
SELECT isnt_empty($$SELECT FROM payonce_stat_gateway WHERE gateway = 'tap_gateway'$$, 'and the gateway');
SELECT is_empty(format('SELECT FROM %s v WHERE v::text ~ ''hush|aHVza|whsec''', name), 'but no secret in ' || name)
FROM member_table WHERE relkind = 'v' ORDER BY name;
SELECT is_empty($$SELECT FROM pg_user_mappings WHERE srvname = 'tap_gateway' AND umoptions IS NOT NULL$$,
                'nor in PostgreSQL''s own view');
SELECT throws_ok('SELECT umoptions FROM pg_user_mapping', '42501', NULL, 'nor behind it');
SELECT is_empty($$SELECT option_name FROM information_schema.user_mapping_options WHERE option_value IS NOT NULL$$,
                'nor in the standard''s');
SELECT throws_ok($$ALTER USER MAPPING FOR PUBLIC SERVER tap_gateway OPTIONS (SET bearer_token 'x')$$, '42501', NULL,
                 'monitoring changes no secret either');
SELECT throws_ok($$SELECT pg_read_file('payonce.key')$$, '42501', NULL, 'and reads no file of the server');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
