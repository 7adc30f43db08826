-- The tables as integrators know them: columns, keys, CHECKs, indexes, triggers, comments, and what
-- a dump takes along.
BEGIN;
SET LOCAL client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS payonce;
-- Wherever the two are installed.
SELECT set_config('search_path', string_agg(DISTINCT quote_ident(n.nspname), ', '), true) AS path
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname IN ('pgtap', 'payonce') \gset
SELECT no_plan();

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid FROM pg_depend d
WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'payonce');
CREATE TEMP VIEW member_table AS
SELECT c.oid, c.relname::text COLLATE "default" AS relname, c.relkind::text AS relkind
FROM member m JOIN pg_class c ON c.oid = m.objid
WHERE m.classid = 'pg_class'::regclass;

SELECT results_eq(
    $$SELECT relname, relkind FROM member_table ORDER BY relname COLLATE "C"$$,
    $$VALUES ('payonce_attention', 'v'), ('payonce_identity', 'r'), ('payonce_refund_backlog', 'v'),
             ('payonce_stat_gateway', 'v'), ('payonce_stat_worker', 'v'), ('t_order', 'r'), ('t_order_pay', 'r'),
             ('t_refund', 'r'), ('t_refund_attempt', 'r'), ('t_stray_notification', 'r')$$,
    'the tables and views, and no sequence');

-- Column, type, NOT NULL, default. Every text that is a number or a name of something sorts and
-- compares by its bytes; only prose has the database's collation.
CREATE FUNCTION pg_temp.columns(of_table text) RETURNS TABLE (
    name text, type text, required boolean, by_default text, collation_name text)
LANGUAGE sql AS $$
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           pg_get_expr(d.adbin, d.adrelid), c.collname::text
    FROM pg_attribute a
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN pg_collation c ON c.oid = a.attcollation
    WHERE a.attrelid = of_table::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
$$;
SELECT results_eq($$SELECT * FROM pg_temp.columns('t_order')$$, $$VALUES
    ('id', 'text', true, NULL, 'C'),
    ('price', 'bigint', true, NULL, NULL),
    ('currency', 'text', true, '''CNY''::text', 'C'),
    ('status', 'integer', true, '0', NULL),
    ('paid_by', 'text', false, NULL, 'C'),
    ('created_at', 'timestamp with time zone', true, 'now()', NULL),
    ('paid_at', 'timestamp with time zone', false, NULL, NULL),
    ('closed_at', 'timestamp with time zone', false, NULL, NULL)$$, 'columns of t_order');
SELECT results_eq($$SELECT * FROM pg_temp.columns('t_order_pay')$$, $$VALUES
    ('id', 'text', true, NULL, 'C'),
    ('order_id', 'text', true, NULL, 'C'),
    ('price', 'bigint', true, NULL, NULL),
    ('currency', 'text', true, '''CNY''::text', 'C'),
    ('status', 'integer', true, '0', NULL),
    ('gateway', 'text', true, '''manual''::text', 'C'),
    ('transaction_id', 'text', false, NULL, 'C'),
    ('paid_amount', 'bigint', false, NULL, NULL),
    ('paid_currency', 'text', false, NULL, 'C'),
    ('paid_gateway', 'text', false, NULL, 'C'),
    ('refund_reserved', 'bigint', true, '0', NULL),
    ('attention', 'text', false, NULL, 'default'),
    ('note', 'text', false, NULL, 'default'),
    ('created_at', 'timestamp with time zone', true, 'now()', NULL),
    ('updated_at', 'timestamp with time zone', true, 'now()', NULL)$$, 'columns of t_order_pay');
SELECT results_eq($$SELECT * FROM pg_temp.columns('t_refund')$$, $$VALUES
    ('refund_no', 'text', true, NULL, 'C'),
    ('payment_id', 'text', true, NULL, 'C'),
    ('amount', 'bigint', true, NULL, NULL),
    ('reason', 'text', true, NULL, 'C'),
    ('status', 'integer', true, '0', NULL),
    ('gateway', 'text', true, NULL, 'C'),
    ('attempts', 'integer', true, '0', NULL),
    ('failed_attempts', 'integer', true, '0', NULL),
    ('next_attempt_at', 'timestamp with time zone', true, 'now()', NULL),
    ('retry_since', 'timestamp with time zone', false, NULL, NULL),
    ('accepted_at', 'timestamp with time zone', false, NULL, NULL),
    ('sent_at', 'timestamp with time zone', false, NULL, NULL),
    ('key_sent_at', 'timestamp with time zone', false, NULL, NULL),
    ('key_generation', 'integer', true, '1', NULL),
    ('window_from', 'timestamp with time zone', false, NULL, NULL),
    ('ask_first', 'boolean', true, 'false', NULL),
    ('when_unknown', 'text', true, '''resend''::text', 'C'),
    ('number_dead', 'boolean', true, 'false', NULL),
    ('lease_owner', 'bigint', false, NULL, NULL),
    ('lease_until', 'timestamp with time zone', false, NULL, NULL),
    ('gateway_refund_id', 'text', false, NULL, 'C'),
    ('superseded_by', 'text', false, NULL, 'C'),
    ('last_error', 'text', false, NULL, 'default'),
    ('note', 'text', false, NULL, 'default'),
    ('created_at', 'timestamp with time zone', true, 'now()', NULL),
    ('updated_at', 'timestamp with time zone', true, 'now()', NULL),
    ('finished_at', 'timestamp with time zone', false, NULL, NULL)$$, 'columns of t_refund');
SELECT results_eq($$SELECT * FROM pg_temp.columns('t_refund_attempt')$$, $$VALUES
    ('refund_no', 'text', true, NULL, 'C'),
    ('attempt', 'integer', true, NULL, NULL),
    ('call', 'text', true, NULL, 'C'),
    ('gateway', 'text', true, NULL, 'C'),
    ('started_at', 'timestamp with time zone', true, NULL, NULL),
    ('duration_ms', 'double precision', false, NULL, NULL),
    ('http_status', 'integer', false, NULL, NULL),
    ('verdict', 'text', true, NULL, 'C'),
    ('gateway_refund_id', 'text', false, NULL, 'C'),
    ('error', 'text', false, NULL, 'default'),
    ('applied', 'boolean', true, NULL, NULL),
    ('recorded_at', 'timestamp with time zone', true, 'now()', NULL)$$, 'columns of t_refund_attempt');
SELECT results_eq($$SELECT * FROM pg_temp.columns('t_stray_notification')$$, $$VALUES
    ('received_at', 'timestamp with time zone', true, 'now()', NULL),
    ('gateway', 'text', true, NULL, 'C'),
    ('kind', 'text', true, '''payment''::text', 'C'),
    ('number', 'text', true, '''''::text', 'C'),
    ('gateway_number', 'text', true, '''''::text', 'C'),
    ('body', 'text', true, NULL, 'default'),
    ('note', 'text', false, NULL, 'default'),
    ('handled_at', 'timestamp with time zone', false, NULL, NULL)$$, 'columns of t_stray_notification');
SELECT results_eq($$SELECT * FROM pg_temp.columns('payonce_identity')$$, $$VALUES
    ('system_identifier', 'bigint', true, NULL, NULL),
    ('database_oid', 'oid', true, NULL, NULL),
    ('activated_at', 'timestamp with time zone', true, 'now()', NULL)$$, 'columns of payonce_identity');

-- An integrator's INSERT names four columns.
SELECT lives_ok($$INSERT INTO t_order (id, price, currency, status) VALUES ('tap', 100, 'CNY', 0)$$,
                'an order needs id, price, currency and status only');
SELECT lives_ok($$INSERT INTO t_order_pay (id, order_id, price, currency) VALUES ('tap-1', 'tap', 100, 'CNY')$$,
                'a payment needs id, order_id, price and currency only');
SELECT results_eq($$SELECT status, gateway COLLATE "default", refund_reserved, paid_amount
                    FROM t_order_pay WHERE id = 'tap-1'$$,
                  $$VALUES (0, 'manual', 0::bigint, NULL::bigint)$$, 'and starts as paying, by hand');

-- Keys and CHECKs. paid_by has none, so that a dump loads; payonce_identity has none, so that a
-- copy shows.
SELECT results_eq(
    $$SELECT t.relname || ' ' || c.conname COLLATE "default" ||
             CASE c.contype WHEN 'c' THEN '' ELSE ' ' || regexp_replace(
                 pg_get_constraintdef(c.oid), 'REFERENCES .*(t_order|t_order_pay)\(', 'REFERENCES \1(') END
      FROM pg_constraint c JOIN member_table t ON t.oid = c.conrelid
      WHERE c.contype IN ('c', 'f', 'p', 'u', 'x') ORDER BY (t.relname || ' ' || c.conname) COLLATE "C"$$,
    $$VALUES ('t_order t_order_id_length'),
             ('t_order t_order_pkey PRIMARY KEY (id)'),
             ('t_order t_order_price_positive'),
             ('t_order t_order_status_known'),
             ('t_order_pay t_order_pay_gateway_length'),
             ('t_order_pay t_order_pay_id_form'),
             ('t_order_pay t_order_pay_order_id_fkey FOREIGN KEY (order_id) REFERENCES t_order(id)'),
             ('t_order_pay t_order_pay_paid_amount_positive'),
             ('t_order_pay t_order_pay_paid_gateway_length'),
             ('t_order_pay t_order_pay_pkey PRIMARY KEY (id)'),
             ('t_order_pay t_order_pay_price_positive'),
             ('t_order_pay t_order_pay_refund_reserved_bound'),
             ('t_order_pay t_order_pay_refund_reserved_sign'),
             ('t_order_pay t_order_pay_status_known'),
             ('t_order_pay t_order_pay_transaction_id_length'),
             ('t_refund t_refund_amount_positive'),
             ('t_refund t_refund_attempts_sign'),
             ('t_refund t_refund_failed_attempts_sign'),
             ('t_refund t_refund_key_generation_positive'),
             ('t_refund t_refund_payment_id_fkey FOREIGN KEY (payment_id) REFERENCES t_order_pay(id)'),
             ('t_refund t_refund_pkey PRIMARY KEY (refund_no)'),
             ('t_refund t_refund_reason_known'),
             ('t_refund t_refund_refund_no_length'),
             ('t_refund t_refund_status_known'),
             ('t_refund t_refund_when_unknown_known'),
             ('t_refund_attempt t_refund_attempt_call_known'),
             ('t_stray_notification t_stray_notification_kind_known')$$, 'keys and CHECKs');
SELECT is_empty($$SELECT c.conname FROM pg_constraint c JOIN member_table t ON t.oid = c.conrelid
                  WHERE NOT c.convalidated OR c.condeferrable$$, 'all of them valid, none deferrable');

SELECT results_eq(
    $$SELECT i.indexrelid::regclass::text || CASE WHEN i.indisunique THEN ' unique' ELSE '' END || ' ('
             || (SELECT string_agg(pg_get_indexdef(i.indexrelid, k, true), ', ' ORDER BY k)
                 FROM generate_series(1, i.indnkeyatts) k) || ')'
             || coalesce(' where ' || pg_get_expr(i.indpred, i.indrelid, true) COLLATE "default", '')
      FROM pg_index i JOIN member_table t ON t.oid = i.indrelid ORDER BY i.indexrelid::regclass::text COLLATE "C"$$,
    $$VALUES ('t_order_created_at (created_at)'),
             ('t_order_pay_attention (updated_at) where status = 500 OR attention IS NOT NULL'),
             ('t_order_pay_one_winner unique (order_id) where status = 100'),
             ('t_order_pay_order_id (order_id)'),
             ('t_order_pay_payment_intent (transaction_id) where transaction_id ^@ ''pi_''::text'),
             ('t_order_pay_pkey unique (id)'),
             ('t_order_pkey unique (id)'),
             ('t_refund_attempt_refund_no (refund_no, attempt)'),
             ('t_refund_attention (updated_at) where status = 500'),
             ('t_refund_in_hand (lease_until) where lease_owner IS NOT NULL OR status = 100'),
             ('t_refund_payment_id (payment_id)'),
             ('t_refund_pkey unique (refund_no)'),
             ('t_refund_unsettled (gateway, next_attempt_at) where status = ANY (ARRAY[0, 100, 150, 200])'),
             ('t_refund_window (gateway, window_from) where status = ANY (ARRAY[0, 150])'),
             ('t_stray_notification_handled (handled_at) where handled_at IS NOT NULL'),
             ('t_stray_notification_once unique (gateway, kind, number, gateway_number) '
              'where number <> ''''::text OR gateway_number <> ''''::text'),
             ('t_stray_notification_open (received_at) where handled_at IS NULL')$$, 'indexes');

SELECT results_eq(
    $$SELECT t.oid::regclass::text COLLATE "default", c.reloptions::text COLLATE "default"
      FROM member_table t JOIN pg_class c ON c.oid = t.oid
      WHERE c.reloptions IS NOT NULL ORDER BY c.relname$$,
    $$VALUES ('t_order', '{fillfactor=50,autovacuum_vacuum_scale_factor=0.05}'),
             ('t_order_pay', '{autovacuum_vacuum_scale_factor=0.05}'),
             ('t_refund', '{autovacuum_vacuum_scale_factor=0.05}')$$, 'storage parameters');
-- An order that is paid touches no index: nothing that a callback writes is in one.
SELECT is_empty($$SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid
                  AND (a.attnum = ANY (i.indkey) OR pg_get_expr(i.indpred, i.indrelid) ~ ('\m' || a.attname || '\M'))
                  WHERE i.indrelid = 't_order'::regclass
                    AND a.attname IN ('status', 'paid_by', 'paid_at', 'closed_at')$$,
                'the columns of an order that change are in no index');

-- What the new columns refuse, and what a row that says nothing of them becomes.
CREATE TEMP TABLE refused_value (statement text, sqlstate text, message text);
INSERT INTO refused_value VALUES
    ($$UPDATE t_order_pay SET paid_gateway = '' WHERE id = 'tap-1'$$, '23514', 't_order_pay_paid_gateway_length'),
    ($$UPDATE t_order_pay SET paid_gateway = repeat('x', 64) WHERE id = 'tap-1'$$, '23514',
     't_order_pay_paid_gateway_length'),
    ($$INSERT INTO t_refund (refund_no, payment_id, amount, reason, key_generation)
       VALUES ('tap-1-R1', 'tap-1', 1, 'request', 0)$$, '23514', 't_refund_key_generation_positive'),
    ($$INSERT INTO t_refund (refund_no, payment_id, amount, reason, when_unknown)
       VALUES ('tap-1-R1', 'tap-1', 1, 'request', 'forget')$$, '23514', 't_refund_when_unknown_known'),
    ($$INSERT INTO t_stray_notification (gateway, kind, body) VALUES ('g', 'order', '{}')$$, '23514',
     't_stray_notification_kind_known');
SELECT throws_like(statement, '%' || message || '%', message) FROM refused_value ORDER BY statement;
SELECT lives_ok($$INSERT INTO t_refund (refund_no, payment_id, amount, reason)
                  VALUES ('tap-1-R1', 'tap-1', 1, 'request')$$, 'a refund needs four columns');
SELECT results_eq($$SELECT gateway COLLATE "default", window_from, key_generation, when_unknown COLLATE "default",
                           sent_at, key_sent_at FROM t_refund WHERE refund_no = 'tap-1-R1'$$,
                  $$SELECT 'manual', created_at, 1, 'resend', NULL::timestamptz, NULL::timestamptz
                    FROM t_order_pay WHERE id = 'tap-1'$$,
                  'and takes its payment''s gateway and the beginning of its refund window');
SELECT lives_ok($$INSERT INTO t_refund (refund_no, payment_id, amount, reason, gateway, window_from)
                  VALUES ('tap-1-R2', 'tap-1', 1, 'request', 'elsewhere', '2020-01-01 00:00Z')$$,
                'a dump says both');
SELECT results_eq($$SELECT gateway COLLATE "default", window_from FROM t_refund WHERE refund_no = 'tap-1-R2'$$,
                  $$VALUES ('elsewhere', '2020-01-01 00:00Z'::timestamptz)$$, 'which stay as they are');
SELECT lives_ok($$INSERT INTO t_refund (refund_no, payment_id, amount, reason, gateway)
                  VALUES ('tap-1-R3', 'tap-1', 1, 'request', 'elsewhere')$$, 'one of the two may be said');
SELECT results_eq($$SELECT gateway COLLATE "default", window_from FROM t_refund WHERE refund_no = 'tap-1-R3'$$,
                  $$SELECT 'elsewhere', created_at FROM t_order_pay WHERE id = 'tap-1'$$,
                  'and only the other is filled in');
UPDATE t_order_pay SET paid_gateway = 'the_other_way' WHERE id = 'tap-1';
INSERT INTO t_refund (refund_no, payment_id, amount, reason) VALUES ('tap-1-R4', 'tap-1', 1, 'request');
SELECT is(gateway, 'the_other_way', 'money goes back the way it came')
FROM t_refund WHERE refund_no = 'tap-1-R4';

-- A stray notification is kept once; one that names nothing, each time.
SELECT lives_ok($$INSERT INTO t_stray_notification (gateway, kind, number, gateway_number, body) VALUES
                      ('g', 'payment', 'p', 't', '{}'), ('g', 'refund', 'p', 't', '{}'),
                      ('h', 'payment', 'p', 't', '{}'), ('g', 'payment', 'p', '', '{}'),
                      ('g', 'payment', '', 't', '{}'), ('g', 'payment', 'p', 'u', '{}'),
                      ('g', 'payment', '', '', '{}'), ('g', 'payment', '', '', '{}')$$, 'stray notifications');
SELECT throws_ok($$INSERT INTO t_stray_notification (gateway, number, gateway_number, body)
                   VALUES ('g', 'p', 't', 'in other words')$$, '23505', NULL, 'but not the same one twice');

-- Type bits of pg_trigger: 1 row, 2 before, 4 insert, 8 delete, 16 update, 32 truncate.
SELECT results_eq(
    $$SELECT t.relname || ' ' || g.tgname COLLATE "default", g.tgfoid::regproc::text,
             g.tgtype::integer, g.tgenabled::text
      FROM pg_trigger g JOIN member_table t ON t.oid = g.tgrelid WHERE NOT g.tgisinternal
      ORDER BY (t.relname || ' ' || g.tgname) COLLATE "C"$$,
    $$VALUES ('t_order payonce_currency_guard', 'payonce_currency_guard', 1+2+4+16, 'O'),
             ('t_order payonce_status_guard', 'payonce_status_guard', 1+16, 'O'),
             ('t_order_pay payonce_currency_guard', 'payonce_currency_guard', 1+2+4+16, 'O'),
             ('t_order_pay payonce_status_guard', 'payonce_status_guard', 1+16, 'O'),
             ('t_refund payonce_refund_complete', 'payonce_refund_complete', 1+2+4, 'O'),
             ('t_refund payonce_refund_fixed', 'payonce_refund_fixed', 1+16, 'O'),
             ('t_refund payonce_refund_reserve_change', 'payonce_refund_reserve', 1+16, 'O'),
             ('t_refund payonce_refund_reserve_row', 'payonce_refund_reserve', 1+4+8, 'O'),
             ('t_refund payonce_refund_wake', 'payonce_refund_wake', 1+4+16, 'O'),
             ('t_refund payonce_status_guard', 'payonce_status_guard', 1+16, 'O'),
             ('t_refund_attempt payonce_append_only', 'payonce_append_only', 1+2+8+16, 'O'),
             ('t_refund_attempt payonce_append_only_truncate', 'payonce_append_only', 2+32, 'O')$$, 'triggers');

-- Where a trigger is not needed it does not fire: of an update on the hot path only the guards are left.
SELECT results_eq(
    $$SELECT t.relname || ' ' || g.tgname COLLATE "default",
             (regexp_match(pg_get_triggerdef(g.oid, true), 'WHEN \((.*)\) EXECUTE'))[1]
      FROM pg_trigger g JOIN member_table t ON t.oid = g.tgrelid WHERE NOT g.tgisinternal AND g.tgqual IS NOT NULL
      ORDER BY (t.relname || ' ' || g.tgname) COLLATE "C"$$,
    $$VALUES ('t_order payonce_status_guard', 'old.status IS DISTINCT FROM new.status'),
             ('t_order_pay payonce_status_guard', 'old.status IS DISTINCT FROM new.status'),
             ('t_refund payonce_refund_complete', 'new.gateway IS NULL OR new.window_from IS NULL'),
             ('t_refund payonce_refund_fixed', 'old.attempts > 0 AND (old.refund_no IS DISTINCT FROM new.refund_no'
              ' OR old.payment_id IS DISTINCT FROM new.payment_id OR old.amount IS DISTINCT FROM new.amount'
              ' OR old.gateway IS DISTINCT FROM new.gateway)'),
             ('t_refund payonce_refund_reserve_change', 'old.amount IS DISTINCT FROM new.amount'
              ' OR old.payment_id IS DISTINCT FROM new.payment_id'
              ' OR (old.status = 400) IS DISTINCT FROM (new.status = 400)'),
             ('t_refund payonce_refund_wake', 'new.status = 0'
              ' OR (new.status = ANY (ARRAY[150, 200])) AND new.next_attempt_at <= now()'),
             ('t_refund payonce_status_guard', 'old.status IS DISTINCT FROM new.status')$$,
    'when the triggers fire');

-- COMMENT on every object.
SELECT cmp_ok((SELECT count(*) FROM member)::integer, '>=', 30, 'the extension has members to look at');
SELECT is_empty($$SELECT pg_describe_object(classid, objid, 0) FROM member
                  WHERE coalesce(obj_description(objid, classid::regclass::name), '') = ''$$,
                'every member has a comment');
SELECT is_empty($$SELECT t.relname, a.attname FROM member_table t JOIN pg_attribute a ON a.attrelid = t.oid
                  WHERE a.attnum > 0 AND NOT a.attisdropped AND coalesce(col_description(t.oid, a.attnum), '') = ''$$,
                'every column has a comment');
SELECT is_empty($$SELECT i.indexrelid::regclass FROM pg_index i JOIN member_table t ON t.oid = i.indrelid
                  WHERE NOT i.indisprimary AND coalesce(obj_description(i.indexrelid, 'pg_class'), '') = ''$$,
                'every index has a comment');
SELECT is_empty($$SELECT g.tgname FROM pg_trigger g JOIN member_table t ON t.oid = g.tgrelid
                  WHERE NOT g.tgisinternal AND coalesce(obj_description(g.oid, 'pg_trigger'), '') = ''$$,
                'every trigger has a comment');
SELECT isnt(obj_description(oid, 'pg_extension'), NULL, 'the extension has a comment')
FROM pg_extension WHERE extname = 'payonce';

-- pg_dump takes the rows of every table along, all of them.
SELECT set_eq($$SELECT unnest(extconfig)::regclass::text FROM pg_extension WHERE extname = 'payonce'$$,
              $$SELECT relname FROM member_table WHERE relkind IN ('r', 'S')$$, 'every table is dumped');
SELECT is_empty($$SELECT condition FROM pg_extension, unnest(extcondition) condition
                  WHERE extname = 'payonce' AND condition <> ''$$, 'with all of its rows');
SELECT is(extrelocatable, false, 'payonce is not relocatable') FROM pg_extension WHERE extname = 'payonce';

SELECT * FROM finish();
ROLLBACK;
