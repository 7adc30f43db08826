-- The functions as applications and operators know them: signatures, and every error with its SQLSTATE.
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

-- Names of arguments and defaults are part of the contract: callers use pay_success => true.
CREATE TEMP TABLE signature AS
SELECT p.proname::text COLLATE "default" AS name,
       replace(replace(pg_get_function_arguments(p.oid), 'NULL::bigint', 'NULL'), 'NULL::text', 'NULL') AS arguments,
       pg_get_function_result(p.oid) AS result, p.provolatile::text COLLATE "default" AS volatility,
       p.prosecdef AS definer, p.proisstrict AS strict, p.proparallel::text COLLATE "default" AS parallel
FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
WHERE d.deptype = 'e' AND d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'payonce');
SELECT results_eq(
    $$SELECT * FROM signature WHERE result <> 'trigger' ORDER BY name COLLATE "C"$$,
    $$VALUES
    ('order_close', 'order_id text', 'boolean', 'v', true, false, 'u'),
    ('order_lock_key', 'order_id text', 'bigint', 'i', false, false, 's'),
    ('pay_callback', 'out_order_no text, pay_success boolean, paid_amount bigint DEFAULT NULL, '
     'paid_currency text DEFAULT NULL, transaction_id text DEFAULT NULL', 'boolean', 'v', true, false, 'u'),
    ('pay_callback_batch', 'out_order_no text[], pay_success boolean[]', 'TABLE(out_order_no text, outcome text)',
     'v', true, false, 'u'),
    ('pay_callback_outcome', 'out_order_no text, pay_success boolean, paid_amount bigint DEFAULT NULL, '
     'paid_currency text DEFAULT NULL, transaction_id text DEFAULT NULL', 'text', 'v', true, false, 'u'),
    ('pay_notify', 'gateway text, headers jsonb, body text, OUT http_status integer, OUT content_type text, '
     'OUT body text, OUT outcome text', 'record', 'v', true, false, 'u'),
    ('payment_resolve', 'payment_id text, action text, note text', 'text', 'v', true, false, 'u'),
    ('payonce_activate', '', 'void', 'v', true, false, 'u'),
    ('payonce_alipay_validator', 'options text[], catalog oid', 'void', 'v', false, true, 'u'),
    ('payonce_check', '', 'TABLE(kind text, id text, detail text)', 's', true, false, 'u'),
    ('payonce_dispatch_blocked_by', '', 'text', 's', true, false, 'u'),
    ('payonce_gateway_blocked_by', 'gateway text', 'text', 's', true, true, 'u'),
    ('payonce_gateway_stats', 'OUT gateway text, OUT in_flight integer, OUT concurrency integer, OUT sent bigint, '
     'OUT asked bigint, OUT succeeded bigint, OUT failed bigint, OUT retried bigint, '
     'OUT latency_avg_ms double precision, OUT latency_max_ms double precision, '
     'OUT last_answer_at timestamp with time zone', 'SETOF record', 'v', false, false, 'u'),
    ('payonce_http_validator', 'options text[], catalog oid', 'void', 'v', false, true, 'u'),
    ('payonce_prune', 'older_than interval, max_orders integer DEFAULT 1000', 'bigint', 'v', true, false, 'u'),
    ('payonce_stripe_validator', 'options text[], catalog oid', 'void', 'v', false, true, 'u'),
    ('payonce_wechat_validator', 'options text[], catalog oid', 'void', 'v', false, true, 'u'),
    ('payonce_worker_stats', 'OUT pid integer, OUT state text, OUT role text, OUT started_at timestamp with time zone, '
     'OUT claimed bigint, OUT applied bigint, OUT in_flight integer, OUT kept integer, OUT last_error text',
     'SETOF record', 'v', false, false, 'u'),
    ('refund_callback', 'refund_no text, refund_success boolean, gateway_refund_id text DEFAULT NULL',
     'boolean', 'v', true, false, 'u'),
    ('refund_request', 'payment_id text, amount bigint, reason text', 'text', 'v', true, false, 'u'),
    ('refund_resolve', 'refund_no text, refunded boolean, note text', 'void', 'v', true, false, 'u'),
    ('refund_retry', 'refund_no text', 'text', 'v', true, false, 'u')$$,
    'name, arguments, result, volatility, SECURITY DEFINER, STRICT, PARALLEL');
SELECT set_eq($$SELECT name, arguments FROM signature WHERE result = 'trigger'$$,
    $$VALUES ('payonce_append_only', ''), ('payonce_currency_guard', ''), ('payonce_refund_complete', ''),
             ('payonce_refund_fixed', ''), ('payonce_refund_reserve', ''), ('payonce_refund_wake', ''),
             ('payonce_status_guard', '')$$,
    'and the trigger functions');

-- A shop with an order for each case.
INSERT INTO t_order (id, price)
SELECT 'tap-' || name, 100 FROM unnest(ARRAY['plain', 'won', 'closed', 'odd', 'refund', 'dead', 'conflict']) name;
INSERT INTO t_order_pay (id, order_id, price, gateway)
SELECT 'tap-' || name || '-' || n, 'tap-' || name, 100, 'tap_gateway'
FROM unnest(ARRAY['plain', 'won', 'closed', 'odd', 'refund', 'dead', 'conflict']) name, generate_series(1, 2) n;

-- The answers, by type and by name of the arguments.
SELECT is(pay_callback('tap-plain-1', false), true, 'pay_callback answers a failure with true');
SELECT is(pay_callback(out_order_no => 'tap-plain-1', pay_success => true, paid_amount => 100, paid_currency => 'CNY',
                       transaction_id => 'T-1'), true, 'and a success, by the names of the arguments');
SELECT is(pay_callback('tap-plain-1', true), true, 'and what it knows already');
SELECT is(pay_callback_outcome('tap-won-1', true), 'paid', 'outcome paid');
SELECT is(pay_callback_outcome('tap-won-2', true), 'duplicate', 'outcome duplicate');
SELECT is(pay_callback_outcome('tap-won-2', true), 'already_processed', 'outcome already_processed');
SELECT is(pay_callback_outcome('tap-odd-1', true, 99), 'mismatch', 'outcome mismatch');
SELECT is(pay_callback_outcome('tap-odd-2', false), 'failed', 'outcome failed');
SELECT results_eq($$SELECT outcome FROM pay_callback_batch(
                      out_order_no => ARRAY['tap-won-2', 'tap-x', '', 'tap-odd-2'], pay_success => '{f,t,t,f}')$$,
                  ARRAY['already_processed', 'unknown', 'invalid', 'already_processed'], 'pay_callback_batch');
SELECT is(order_close('tap-closed'), true, 'order_close: closed now');
SELECT is(order_close('tap-closed'), true, 'order_close: closed already');
SELECT is(order_close(order_id => 'tap-won'), false, 'order_close: paid');
SELECT is(pay_callback_outcome('tap-closed-1', true), 'late', 'outcome late');
SELECT is(pay_callback_outcome('tap-conflict-1', true, transaction_id => 'T-1'), 'paid', 'a payment with a number');
SELECT is(pay_callback_outcome('tap-conflict-1', true, transaction_id => 'T-2'), 'conflict', 'outcome conflict');
SELECT is(pay_callback_outcome('tap-refund-1', true), 'paid', 'a payment to refund');
SELECT matches(refund_request('tap-refund-1', 30, 'a part'), '^tap-refund-1-Q[0-9a-z]{6}$',
               'refund_request returns the number');
SELECT is(refund_callback('tap-won-2-R1', true, 'G-1'), true, 'refund_callback answers with true');
SELECT is(refund_callback(refund_no => 'tap-closed-1-R1', refund_success => false, gateway_refund_id => NULL), true,
          'also to a failure');
SELECT is(refund_retry(refund_no => 'tap-closed-1-R1'), 'tap-closed-1-R1', 'refund_retry returns the number');
SELECT is(refund_callback('tap-closed-1-R1', false), true, 'which fails again');
SELECT lives_ok($$SELECT refund_resolve(refund_no => 'tap-closed-1-R1', refunded => false, note => 'no')$$,
                'refund_resolve returns nothing');
SELECT is(payment_resolve(payment_id => 'tap-closed-1', action => 'refund', note => 'yes'), 'tap-closed-1-R2',
          'payment_resolve refund returns the number');
SELECT is(payment_resolve('tap-odd-1', 'accept', 'near enough'), 'accepted', 'payment_resolve accept returns accepted');
SELECT is(payment_resolve('tap-conflict-1', 'accept', 'settled'), 'cleared', 'or cleared');
SELECT is_empty($$SELECT * FROM payonce_check() WHERE id LIKE 'tap-%'$$, 'payonce_check finds nothing');

-- pay_notify answers with a row: what the gateway is to be told, and what was decided.
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
CREATE SERVER tap_mute FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://pay.example');
CREATE FOREIGN DATA WRAPPER tap_wrapper;
CREATE SERVER tap_foreign FOREIGN DATA WRAPPER tap_wrapper;
INSERT INTO t_order (id, price) VALUES ('tap-notified', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway)
SELECT 'tap-notified-' || n, 'tap-notified', 100, 'tap_signed' FROM generate_series(1, 4) n;
CREATE TEMP TABLE message (n serial, body text, status integer, outcome text);
INSERT INTO message (body, status, outcome) VALUES
    ('{"type":"payment.failed","payment_id":"tap-notified-4"}', 200, 'failed'),
    ('{"type":"payment.succeeded","payment_id":"tap-notified-1","amount":100,"currency":"CNY","transaction_id":"N-1"}',
     200, 'paid'),
    ('{"type":"payment.succeeded","payment_id":"tap-notified-1","amount":100,"currency":"CNY","transaction_id":"N-1"}',
     200, 'already_processed'),
    ('{"type":"payment.succeeded","payment_id":"tap-notified-1","amount":100,"currency":"CNY","transaction_id":"N-9"}',
     200, 'conflict'),
    ('{"type":"payment.succeeded","payment_id":"tap-notified-2","amount":100,"currency":"CNY","transaction_id":"N-2"}',
     200, 'duplicate'),
    ('{"type":"payment.succeeded","payment_id":"tap-notified-3","amount":99,"currency":"CNY","transaction_id":"N-3"}',
     200, 'mismatch'),
    ('{"type":"payment.succeeded","payment_id":"tap-nobody","amount":100,"currency":"CNY","transaction_id":"N-4"}',
     500, 'unknown'),
    ('{"type":"refund.succeeded","refund_no":"tap-notified-2-R1","amount":99,"refund_id":"G-2"}', 200, 'mismatch'),
    ('{"type":"refund.succeeded","refund_no":"tap-notified-2-R1","amount":100,"refund_id":"G-2"}', 200, 'refunded'),
    ('{"type":"refund.failed","refund_no":"tap-notified-2-R1","error":"no"}', 200, 'refund_failed'),
    ('{"type":"refund.succeeded","refund_no":"tap-notified-2-R1","amount":100,"refund_id":"G-2"}', 200, 'conflict'),
    ('{"type":"refund.succeeded","refund_no":"tap-nobody-R1","amount":100,"refund_id":"G-3"}', 200, 'unknown'),
    ('{"type":"customer.created"}', 200, 'ignored');
-- A statement for each: what one decides the next one sees.
SELECT format('SELECT results_eq(%L, %L, %L)',
              format('SELECT * FROM pay_notify(%L, %L, %L)', 'tap_signed', pg_temp.signed(body), body),
              format('VALUES (%s, ''application/json'', %L, %L)', status,
                     CASE status WHEN 200 THEN '{"received":true}' ELSE '{"error":"try again"}' END, outcome),
              'pay_notify ' || outcome)
FROM message ORDER BY n \gexec
SELECT results_eq($$SELECT http_status, content_type, body, outcome
                    FROM pay_notify(gateway => 'tap_signed', headers => '{}', body => '{}')$$,
                  $$VALUES (400, 'application/json', '{"error":"refused"}', 'forged')$$, 'pay_notify forged');
SELECT results_eq($$SELECT http_status, outcome FROM pay_notify('tap_mute', '{}', '{}')$$,
                  $$VALUES (500, 'error')$$, 'pay_notify error: a gateway without keys judges nothing');
SELECT results_eq($$SELECT kind COLLATE "default", number COLLATE "default", gateway_number COLLATE "default"
                    FROM t_stray_notification WHERE gateway = 'tap_signed' ORDER BY kind$$,
                  $$VALUES ('payment', 'tap-nobody', 'N-4'), ('refund', 'tap-nobody-R1', 'G-3')$$,
                  'what matches nothing is kept');

-- The errors.
CREATE TEMP TABLE bad (n serial, sqlstate text, message text, call text);
INSERT INTO bad (sqlstate, message, call) VALUES
    ('P0002', 'payment "tap-x" is unknown', $$pay_callback('tap-x', true)$$),
    ('P0002', 'payment "tap-x" is unknown', $$pay_callback_outcome('tap-x', false)$$),
    ('P0002', 'order "tap-x" is unknown', $$order_close('tap-x')$$),
    ('P0002', 'payment "tap-x" is unknown', $$refund_request('tap-x', 1, 'r')$$),
    ('P0002', 'refund "tap-x" is unknown', $$refund_callback('tap-x', true)$$),
    ('P0002', 'refund "tap-x" is unknown', $$refund_retry('tap-x')$$),
    ('P0002', 'refund "tap-x" is unknown', $$refund_resolve('tap-x', true, 'n')$$),
    ('P0002', 'payment "tap-x" is unknown', $$payment_resolve('tap-x', 'accept', 'n')$$),
    ('22004', 'out_order_no must not be null', $$pay_callback(NULL, true)$$),
    ('22004', 'pay_success must not be null', $$pay_callback('tap-won-1', NULL)$$),
    ('22004', 'out_order_no must not be null', $$pay_callback_outcome(NULL, true)$$),
    ('22004', 'pay_success must not be null', $$pay_callback_outcome('tap-won-1', NULL)$$),
    ('22004', 'out_order_no must not be null', $$pay_callback_batch(NULL, '{}')$$),
    ('22004', 'pay_success must not be null', $$pay_callback_batch('{tap-won-1}', NULL)$$),
    ('2202E', 'out_order_no and pay_success must be equally long', $$pay_callback_batch('{tap-won-1}', '{}')$$),
    ('2202E', 'out_order_no must have one dimension, not 2', $$pay_callback_batch('{{tap-won-1}}', '{t}')$$),
    ('54000', 'a batch of 10001 callbacks is too large',
     $$pay_callback_batch(array_fill('tap-won-1'::text, ARRAY[10001]), array_fill(true, ARRAY[10001]))$$),
    ('22004', 'gateway must not be null', $$pay_notify(NULL, '{}', '{}')$$),
    ('22004', 'headers must not be null', $$pay_notify('tap_signed', NULL, '{}')$$),
    ('22004', 'body must not be null', $$pay_notify('tap_signed', '{}', NULL)$$),
    ('42704', 'gateway "tap-x" does not exist', $$pay_notify('tap-x', '{}', '{}')$$),
    ('42704', 'gateway "" does not exist', $$pay_notify('', '{}', '{}')$$),
    ('42704', 'gateway "TAP_SIGNED" does not exist', $$pay_notify('TAP_SIGNED', '{}', '{}')$$),
    ('42704', 'gateway "' || repeat('x', 80) || '" does not exist', $$pay_notify(repeat('x', 100000), '{}', '{}')$$),
    ('42809', 'server "tap_foreign" is no gateway', $$pay_notify('tap_foreign', '{}', '{}')$$),
    ('22023', 'headers are malformed', $$pay_notify('tap_signed', '[]', '{}')$$),
    ('22023', 'headers are malformed', $$pay_notify('tap_signed', 'null', '{}')$$),
    ('22023', 'headers are malformed', $$pay_notify('tap_signed', '"webhook-id"', '{}')$$),
    ('22023', 'headers are malformed', $$pay_notify('tap_signed', '{"webhook-id": true}', '{}')$$),
    ('22023', 'headers are malformed', $$pay_notify('tap_signed', '{"webhook-id": {"a": "b"}}', '{}')$$),
    ('22023', 'headers are malformed', $$pay_notify('tap_signed', '{"webhook-id": [{"a": "b"}]}', '{}')$$),
    ('22P02', 'invalid input syntax for type json', $$pay_notify('tap_signed', 'webhook-id: 1', '{}')$$),
    ('42883', 'function pay_notify(unknown, json, unknown) does not exist',
     $$pay_notify('tap_signed', '{}'::json, '{}')$$),
    ('42883', 'function pay_notify(unknown, unknown, bytea) does not exist',
     $$pay_notify('tap_signed', '{}', '\x7b7d'::bytea)$$),
    ('42883', 'function pay_notify(integer, unknown, unknown) does not exist', $$pay_notify(1, '{}', '{}')$$),
    ('22004', 'older_than must not be null', $$payonce_prune(NULL)$$),
    ('22004', 'max_orders must not be null', $$payonce_prune('2 years', NULL)$$),
    ('22023', 'older_than is too short', $$payonce_prune('0')$$),
    ('22023', 'older_than is too short', $$payonce_prune('-2 years')$$),
    ('22023', 'older_than is too short', $$payonce_prune('363 days')$$),
    ('22023', 'max_orders must be 1 to 10000, not 0', $$payonce_prune('2 years', 0)$$),
    ('22023', 'max_orders must be 1 to 10000, not 10001', $$payonce_prune('2 years', 10001)$$),
    ('22008', 'timestamp out of range', $$payonce_prune('9999999 years')$$),
    ('22004', 'order_id must not be null', $$order_close(NULL)$$),
    ('22004', 'order_id must not be null', $$order_lock_key(NULL)$$),
    ('22004', 'payment_id must not be null', $$refund_request(NULL, 1, 'r')$$),
    ('22004', 'amount must not be null', $$refund_request('tap-won-1', NULL, 'r')$$),
    ('22004', 'reason must not be null', $$refund_request('tap-won-1', 1, NULL)$$),
    ('22004', 'refund_no must not be null', $$refund_callback(NULL, true)$$),
    ('22004', 'refund_success must not be null', $$refund_callback('tap-won-2-R1', NULL)$$),
    ('22004', 'refund_no must not be null', $$refund_retry(NULL)$$),
    ('22004', 'refund_no must not be null', $$refund_resolve(NULL, true, 'n')$$),
    ('22004', 'refunded must not be null', $$refund_resolve('tap-won-2-R1', NULL, 'n')$$),
    ('22004', 'note must not be null', $$refund_resolve('tap-won-2-R1', true, NULL)$$),
    ('22004', 'payment_id must not be null', $$payment_resolve(NULL, 'accept', 'n')$$),
    ('22004', 'action must not be null', $$payment_resolve('tap-won-1', NULL, 'n')$$),
    ('22004', 'note must not be null', $$payment_resolve('tap-won-1', 'accept', NULL)$$),
    ('22023', 'out_order_no is malformed: ""', $$pay_callback('', true)$$),
    ('22023', 'out_order_no is malformed: "a b"', $$pay_callback('a b', true)$$),
    ('22023', 'out_order_no is malformed: "' || repeat('x', 57) || '"', $$pay_callback(repeat('x', 57), true)$$),
    ('22023', 'out_order_no is malformed: "' || repeat('x', 80) || '"',
     $$pay_callback_outcome(repeat('x', 100000), true)$$),
    ('22023', 'paid_amount must be positive, not 0', $$pay_callback('tap-won-1', true, 0)$$),
    ('22023', 'paid_amount must be positive, not -100', $$pay_callback('tap-won-1', false, -100)$$),
    ('22023', 'paid_currency is malformed: "RMB"', $$pay_callback('tap-won-1', true, 1, 'RMB')$$),
    ('22023', 'paid_currency is malformed: ""', $$pay_callback('tap-won-1', true, 1, '')$$),
    ('22023', 'transaction_id is malformed: ""', $$pay_callback('tap-won-1', true, 1, 'CNY', '')$$),
    ('22023', 'transaction_id is malformed: "T 1"', $$pay_callback('tap-won-1', true, 1, 'CNY', 'T 1')$$),
    ('22023', 'order_id is malformed: ""', $$order_close('')$$),
    ('22023', 'order_id is malformed: "' || repeat('x', 80) || '"', $$order_close(repeat('x', 129))$$),
    ('22023', 'payment_id is malformed: "a/b"', $$refund_request('a/b', 1, 'r')$$),
    ('22023', 'amount must be positive, not 0', $$refund_request('tap-won-1', 0, 'r')$$),
    ('22023', 'amount must be positive, not -1', $$refund_request('tap-won-1', -1, 'r')$$),
    ('22023', 'amount 101 is more than what is left of the payment', $$refund_request('tap-won-1', 101, 'r')$$),
    ('22023', 'amount 71 is more than what is left of the payment', $$refund_request('tap-refund-1', 71, 'r')$$),
    ('22023', 'reason is malformed: "' || repeat('x', 80) || '"',
     $$refund_request('tap-won-1', 1, repeat('x', 2001))$$),
    ('22023', 'refund_no is malformed: ""', $$refund_callback('', true)$$),
    ('22023', 'refund_no is malformed: "' || repeat('x', 65) || '"', $$refund_retry(repeat('x', 65))$$),
    ('22023', 'gateway_refund_id is malformed: ""', $$refund_callback('tap-won-2-R1', true, '')$$),
    ('22023', 'note is malformed: "' || repeat('x', 80) || '"',
     $$refund_resolve('tap-won-2-R1', true, repeat('x', 2001))$$),
    ('22023', 'action "keep" is unknown', $$payment_resolve('tap-won-1', 'keep', 'n')$$),
    ('22023', 'action "" is unknown', $$payment_resolve('tap-won-1', '', 'n')$$),
    ('22021', 'invalid byte sequence for encoding "UTF8": 0xff', $$pay_callback(convert_from('\xff', 'UTF8'), true)$$),
    ('55000', 'the payment cannot be refunded', $$refund_request('tap-odd-2', 1, 'r')$$),
    ('55000', 'the payment cannot be refunded', $$refund_request('tap-dead-1', 1, 'r')$$),
    ('55000', 'the refund is not in attention', $$refund_retry('tap-won-2-R1')$$),
    ('55000', 'the refund is not in attention', $$refund_retry('tap-closed-1-R1')$$),
    ('55000', 'the refund is not in attention', $$refund_retry('tap-closed-1-R2')$$),
    ('55000', 'the refund is not in attention', $$refund_resolve('tap-won-2-R1', false, 'n')$$),
    ('55000', 'the payment is not in attention', $$payment_resolve('tap-won-1', 'accept', 'n')$$),
    ('55000', 'the payment is not in attention', $$payment_resolve('tap-dead-1', 'refund', 'n')$$);
CREATE TEMP TABLE rows_before AS
SELECT md5(string_agg(t::text, '' ORDER BY id)) AS payments FROM t_order_pay t WHERE id LIKE 'tap-%';
SELECT throws_ok('SELECT ' || call, sqlstate::char(5), message, call) FROM bad ORDER BY n;
SELECT is((SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM t_order_pay t WHERE id LIKE 'tap-%'), payments,
          'none of these left a trace') FROM rows_before;

-- Two more states of attention that have errors of their own.
SELECT is(pay_callback_outcome('tap-dead-1', true, 90), 'mismatch', 'a mismatch');
SELECT is(pay_callback_outcome('tap-dead-2', true), 'paid', 'and another payment that wins');
SELECT throws_ok($$SELECT payment_resolve('tap-dead-1', 'accept', 'n')$$, '55000',
                 'the order has another winner', 'cannot both be kept');
SELECT is(payment_resolve('tap-dead-1', 'refund', 'n'), 'tap-dead-1-R1', 'so it is refunded');
SELECT is(refund_callback('tap-dead-1-R1', false), true, 'which fails');
SELECT throws_ok($$SELECT payment_resolve('tap-dead-1', 'refund', 'n')$$, '55000',
                 'nothing is left to refund', 'and is not queued twice');
UPDATE t_refund SET number_dead = true WHERE refund_no = 'tap-dead-1-R1';
SELECT is(refund_retry('tap-dead-1-R1'), 'tap-dead-1-R2', 'a dead number is superseded');
SELECT is(superseded_by, 'tap-dead-1-R2', 'and says so') FROM t_refund WHERE refund_no = 'tap-dead-1-R1';
SELECT throws_ok($$SELECT payment_resolve('tap-conflict-1', 'refund', 'n')$$, '55000',
                 'the payment is not in attention', 'a payment that was cleared is not in attention');
SELECT is(pay_callback_outcome('tap-conflict-1', true, transaction_id => 'T-3'), 'conflict', 'a conflict again');
SELECT throws_ok($$SELECT payment_resolve('tap-conflict-1', 'refund', 'n')$$, '55000',
                 'the payment is not in status attention', 'a conflict is not refunded');

-- The numbers run out loudly, and an amount of many digits is no overflow.
INSERT INTO t_refund (refund_no, payment_id, amount, reason, status, gateway)
VALUES ('tap-plain-2-R99999', 'tap-plain-2', 1, 'duplicate', 400, 'tap_gateway');
SELECT throws_ok($$SELECT pay_callback('tap-plain-2', true)$$, '54000',
                 'payment "tap-plain-2" has no refund number left', 'after 99999 generations');
INSERT INTO t_order (id, price) VALUES ('tap-rich', 9223372036854775807);
INSERT INTO t_order_pay (id, order_id, price, gateway)
SELECT 'tap-rich-' || n, 'tap-rich', 9223372036854775807, 'tap_gateway' FROM generate_series(1, 2) n;
SELECT is(pay_callback_outcome('tap-rich-1', true, 9223372036854775807), 'paid', 'the largest amount there is');
SELECT is(pay_callback_outcome('tap-rich-2', true), 'duplicate', 'goes back whole');
SELECT is(refund_reserved, 9223372036854775807, 'as it came') FROM t_order_pay WHERE id = 'tap-rich-2';
SELECT throws_ok($$SELECT refund_request('tap-rich-2', 1, 'r')$$, '22023',
                 'amount 1 is more than what is left of the payment', 'and not a fen more');

-- Trigger functions are no functions to call.
SELECT throws_ok(format('SELECT %I()', name), '39P01', 'this function can only be called as a trigger',
                 name || ' is not to be called')
FROM signature WHERE result = 'trigger' ORDER BY name;

SELECT * FROM finish();
ROLLBACK;
