-- pay_notify: raw notifications of the generic gateway, signed here as Standard Webhooks says. The
-- providers' notifications are the matter of test/tap/021_notification_vectors.pl.
\i sql/include/begin.sql
CREATE EXTENSION IF NOT EXISTS pgcrypto;

CREATE SERVER shop FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://pay.example');
CREATE SERVER other FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://pay.example');
CREATE SERVER mute FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://pay.example');
CREATE USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (signing_secret 'whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=');
CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (signing_secret 'whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=');

-- The headers of a message, signed with the servers' secret.
CREATE FUNCTION signed(body text, sent_at timestamptz = now()) RETURNS jsonb LANGUAGE sql
SET search_path FROM CURRENT AS $$
    SELECT jsonb_build_object(
        'Webhook-Id', 'msg-1', 'WEBHOOK-TIMESTAMP', t, 'webhook-signature',
        'v1,' || encode(hmac(convert_to('msg-1.' || t || '.' || body, 'UTF8'),
                             decode('MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=', 'base64'), 'sha256'), 'base64'))
    FROM (SELECT floor(extract(epoch FROM sent_at))::bigint::text AS t) s $$;
CREATE FUNCTION notify(gateway text, body text) RETURNS TABLE (http_status int, content_type text, reply text, outcome text)
LANGUAGE sql SET search_path FROM CURRENT AS
$$ SELECT * FROM pay_notify(gateway, signed(body), body) $$;

INSERT INTO t_order (id, price) VALUES ('o1', 3200), ('o2', 3200), ('o3', 3200);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('p1', 'o1', 3200, 'shop'), ('p2', 'o1', 3200, 'shop'),
    ('p3', 'o2', 3200, 'other'), ('p4', 'o3', 3200, 'shop');

-- Success, its repetition, a duplicate, a failure.
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p1","amount":3200,"currency":"CNY","transaction_id":"T1"}');
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p1","amount":3200,"currency":"CNY","transaction_id":"T1"}');
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p2","amount":3200,"currency":"CNY","transaction_id":"T2"}');
SELECT * FROM notify('shop', '{"type":"payment.failed","payment_id":"p4"}');
SELECT id, status, transaction_id, paid_amount, paid_currency, paid_gateway FROM t_order_pay ORDER BY id;
SELECT refund_no, gateway, amount, reason, status FROM t_refund;

-- The same number and another transaction: the money was taken twice.
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p1","amount":3200,"currency":"CNY","transaction_id":"T9"}');
SELECT id, attention FROM t_order_pay WHERE id = 'p1';

-- Another gateway than the payment's: bad news mean nothing, good news are a mismatch, and the money
-- would go back the way it came.
SELECT * FROM notify('shop', '{"type":"payment.failed","payment_id":"p3"}');
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p3","amount":3200,"currency":"CNY","transaction_id":"T3"}');
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p3","amount":3200,"currency":"CNY","transaction_id":"T3"}');
SELECT id, status, gateway, paid_gateway, attention FROM t_order_pay WHERE id = 'p3';
-- And then its own gateway has the money, too.
SELECT * FROM notify('other', '{"type":"payment.succeeded","payment_id":"p3","amount":3200,"currency":"CNY","transaction_id":"T4"}');
SELECT id, status, attention FROM t_order_pay WHERE id = 'p3';
SELECT payment_resolve('p3', 'refund', 'it came the wrong way');
SELECT refund_no, gateway, reason FROM t_refund WHERE payment_id = 'p3';

-- Another amount.
INSERT INTO t_order (id, price) VALUES ('o5', 3200);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('p5', 'o5', 3200, 'shop');
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p5","amount":1,"currency":"CNY","transaction_id":"T5"}');
SELECT id, status, attention FROM t_order_pay WHERE id = 'p5';

-- Money that matches nothing is kept, once, and the gateway repeats it; until its payment is there.
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p6","amount":3200,"currency":"CNY","transaction_id":"T6"}');
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p6","amount":3200,"currency":"CNY","transaction_id":"T6"}');
SELECT kind, id, gateway, why FROM payonce_attention WHERE kind = 'stray_notification';
INSERT INTO t_order (id, price) VALUES ('o6', 3200);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('p6', 'o6', 3200, 'shop');
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p6","amount":3200,"currency":"CNY","transaction_id":"T6"}');
SELECT kind, number, gateway_number, handled_at IS NOT NULL AS handled, note FROM t_stray_notification;
-- A failure of nothing is no money.
SELECT * FROM notify('shop', '{"type":"payment.failed","payment_id":"p7"}');
SELECT count(*) FROM t_stray_notification;

-- Refunds: another amount is a person's matter, then the result, its repetition, and an end that was
-- none.
UPDATE t_refund SET status = 100, attempts = 1 WHERE refund_no = 'p2-R1';
UPDATE t_refund SET status = 200 WHERE refund_no = 'p2-R1';
SELECT * FROM notify('shop', '{"type":"refund.succeeded","refund_no":"p2-R1","amount":3100,"refund_id":"r1"}');
SELECT id, status, attention FROM t_order_pay WHERE id = 'p2';
SELECT * FROM notify('shop', '{"type":"refund.succeeded","refund_no":"p2-R1","amount":3200,"refund_id":"r1"}');
SELECT * FROM notify('shop', '{"type":"refund.succeeded","refund_no":"p2-R1","amount":3200,"refund_id":"r1"}');
SELECT p.status AS payment, p.attention, r.status AS refund, r.gateway_refund_id FROM t_order_pay p JOIN t_refund r ON r.payment_id = p.id WHERE p.id = 'p2';
SELECT * FROM notify('shop', '{"type":"refund.failed","refund_no":"p2-R1","error":"the account is closed"}');
SELECT p.status AS payment, p.attention, r.status AS refund, r.number_dead, r.last_error FROM t_order_pay p JOIN t_refund r ON r.payment_id = p.id WHERE p.id = 'p2';
SELECT * FROM notify('shop', '{"type":"refund.succeeded","refund_no":"p2-R1","amount":3200,"refund_id":"r1"}');
SELECT id, attention FROM t_order_pay WHERE id = 'p2';
-- Another gateway's refund, and one that nobody here asked for.
SELECT * FROM notify('other', '{"type":"refund.succeeded","refund_no":"p2-R1","amount":3200,"refund_id":"r1"}');
SELECT * FROM notify('shop', '{"type":"refund.succeeded","refund_no":"console-1","amount":3200,"refund_id":"r2"}');
SELECT kind, number, gateway, gateway_number FROM t_stray_notification WHERE kind = 'refund' ORDER BY number;

-- Another refund of the gateway under our number: a dead one says nothing about ours, a live one is
-- money that went back twice.
INSERT INTO t_order (id, price) VALUES ('o10', 3200);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('p10', 'o10', 3200, 'shop'), ('p11', 'o10', 3200, 'shop');
SELECT pay_callback('p10', true), pay_callback('p11', true);
SELECT outcome FROM notify('shop', '{"type":"refund.succeeded","refund_no":"p11-R1","amount":3200,"refund_id":"r-good"}');
SELECT outcome FROM notify('shop', '{"type":"refund.failed","refund_no":"p11-R1","amount":3200,"refund_id":"r-other"}');
SELECT status, number_dead, gateway_refund_id FROM t_refund WHERE refund_no = 'p11-R1';
SELECT outcome FROM notify('shop', '{"type":"refund.succeeded","refund_no":"p11-R1","amount":3200,"refund_id":"r-other"}');
SELECT id, status, attention FROM t_order_pay WHERE id = 'p11';

-- A second success without a number: through the payment's gateway it is a repetition, through another
-- it is other money. So it is when the first came another way.
SELECT outcome FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p10","amount":3200,"currency":"CNY"}');
SELECT outcome FROM notify('other', '{"type":"payment.succeeded","payment_id":"p10","amount":3200,"currency":"CNY"}');
SELECT id, attention FROM t_order_pay WHERE id = 'p10';
INSERT INTO t_order (id, price) VALUES ('o12', 3200);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('p12', 'o12', 3200, 'other');
SELECT outcome FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p12","amount":3200,"currency":"CNY"}');
SELECT outcome FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p12","amount":3200,"currency":"CNY"}');
SELECT outcome FROM notify('other', '{"type":"payment.succeeded","payment_id":"p12","amount":3200,"currency":"CNY"}');
SELECT id, attention FROM t_order_pay WHERE id = 'p12';

-- Money that came twice before its payment was there: only what is decided is no case any more.
SELECT outcome FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p13","amount":3200,"currency":"CNY","transaction_id":"T13a"}');
SELECT outcome FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p13","amount":3200,"currency":"CNY","transaction_id":"T13b"}');
INSERT INTO t_order (id, price) VALUES ('o13', 3200);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('p13', 'o13', 3200, 'shop');
SELECT outcome FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p13","amount":3200,"currency":"CNY","transaction_id":"T13a"}');
SELECT number, gateway_number, handled_at IS NOT NULL AS handled FROM t_stray_notification WHERE number = 'p13' ORDER BY 2;
SELECT outcome FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p13","amount":3200,"currency":"CNY","transaction_id":"T13b"}');
SELECT number, gateway_number, handled_at IS NOT NULL AS handled FROM t_stray_notification WHERE number = 'p13' ORDER BY 2;

-- What payonce has no use for.
SELECT * FROM notify('shop', '{"type":"customer.created"}');

-- Forged, in each way: nothing is recorded, and the answer is the same.
CREATE TABLE before_forgery AS SELECT * FROM t_order_pay;
SELECT o.* FROM (VALUES ('{"type":"payment.succeeded","payment_id":"p4","amount":3200,"currency":"CNY","transaction_id":"T7"}')) m (body),
LATERAL (VALUES ('no header', '{}'::jsonb), ('other body', signed(body || ' ')), ('too old', signed(body, now() - interval '301 s')),
                ('too new', signed(body, now() + interval '400 s')), ('no id', signed(body) - 'Webhook-Id'),
                ('given twice', signed(body) || jsonb_build_object('webhook-id', 'msg-1')),
                ('two values', signed(body) || jsonb_build_object('webhook-signature', jsonb_build_array('v1,x', 'v1,y'))),
                ('a null', signed(body) || '{"webhook-signature":null}')) h (what, headers),
LATERAL (SELECT h.what, n.* FROM pay_notify('shop', h.headers, m.body) n) o;
SELECT count(*) AS changed FROM (TABLE t_order_pay EXCEPT TABLE before_forgery) c;
DROP TABLE before_forgery;
SELECT outcome FROM pay_notify('shop', '{}', repeat('x', 1048577));

-- A value may come in an array, and as a number.
SELECT n.outcome FROM (VALUES ('{"type":"customer.created"}')) m (body), LATERAL pay_notify('shop',
    jsonb_build_object('webhook-id', jsonb_build_array('msg-1'), 'webhook-timestamp', (signed(body) ->> 'WEBHOOK-TIMESTAMP')::bigint,
                       'webhook-signature', signed(body) -> 'webhook-signature'), m.body) n;

-- What cannot be judged is not acknowledged.
SELECT * FROM notify('mute', '{"type":"customer.created"}');
-- A new secret is in force at once.
ALTER USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (SET signing_secret 'whsec_ODEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=');
SELECT outcome FROM notify('other', '{"type":"customer.created"}');
ALTER USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (SET signing_secret 'whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=');
SELECT outcome FROM notify('other', '{"type":"customer.created"}');

-- An internal error: nothing is recorded, and the gateway repeats.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the books are closed' USING HINT = 'Open them.'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION refuse();
INSERT INTO t_order (id, price) VALUES ('o8', 3200);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('p8', 'o8', 3200, 'shop');
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p8","amount":3200,"currency":"CNY","transaction_id":"T8"}');
SELECT id, status FROM t_order_pay WHERE id = 'p8';
DROP TRIGGER refuse ON t_order;
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p8","amount":3200,"currency":"CNY","transaction_id":"T8"}');
-- But not what callers retry or end by.
CREATE FUNCTION collide() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'collision' USING ERRCODE = TG_ARGV[0]; END $$;
INSERT INTO t_order (id, price) VALUES ('o9', 3200);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('p9', 'o9', 3200, 'shop');
CREATE TRIGGER collide BEFORE UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION collide('40001');
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p9","amount":3200,"currency":"CNY","transaction_id":"T9"}');
\echo :LAST_ERROR_SQLSTATE
DROP TRIGGER collide ON t_order;
CREATE TRIGGER collide BEFORE UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION collide('57014');
SELECT * FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p9","amount":3200,"currency":"CNY","transaction_id":"T9"}');
\echo :LAST_ERROR_SQLSTATE
DROP TRIGGER collide ON t_order;
-- A trigger that calls pay_notify itself: what the outer call was told is not mixed up.
CREATE FUNCTION nested() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM outcome FROM notify('shop', '{"type":"payment.failed","payment_id":"nobody","amount":1,"currency":"CNY","transaction_id":"a-number-that-is-somebody-elses-and-long"}');
    RETURN NEW;
END $$;
CREATE TRIGGER nested BEFORE UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION nested();
INSERT INTO t_order (id, price) VALUES ('o14', 3200);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('p14', 'o14', 3200, 'shop');
SELECT outcome FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p14","amount":3200,"currency":"CNY","transaction_id":"the-rightful-number-of-this-payment"}');
SELECT id, status, transaction_id FROM t_order_pay WHERE id = 'p14';
DROP TRIGGER nested ON t_order;
-- In a transaction that goes on after an error, and in one that cannot write.
BEGIN;
CREATE TRIGGER refuse BEFORE UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT outcome FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p9","amount":3200,"currency":"CNY","transaction_id":"T9"}');
DROP TRIGGER refuse ON t_order;
SELECT outcome FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p9","amount":3200,"currency":"CNY","transaction_id":"T9"}');
COMMIT;
SELECT id, status FROM t_order_pay WHERE id = 'p9';
BEGIN READ ONLY;
SELECT http_status, outcome FROM notify('shop', '{"type":"payment.succeeded","payment_id":"p4","amount":3200,"currency":"CNY","transaction_id":"T7"}');
COMMIT;

-- Mistakes of the application are errors.
SELECT pay_notify('nobody', '{}', '');
\echo :LAST_ERROR_SQLSTATE
CREATE FOREIGN DATA WRAPPER elsewhere;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER elsewhere;
SELECT pay_notify('elsewhere', '{}', '');
\echo :LAST_ERROR_SQLSTATE
DROP FOREIGN DATA WRAPPER elsewhere CASCADE;
SELECT pay_notify(NULL, '{}', '');
\echo :LAST_ERROR_SQLSTATE
SELECT pay_notify('shop', NULL, '');
\echo :LAST_ERROR_SQLSTATE
SELECT pay_notify('shop', '{}', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT pay_notify('shop', '[]', '');
\echo :LAST_ERROR_SQLSTATE
SELECT pay_notify('shop', '{"a":{"b":"c"}}', '');
\echo :LAST_ERROR_SQLSTATE
SELECT pay_notify('shop', '{"a":true}', '');
\echo :LAST_ERROR_SQLSTATE
SELECT pay_notify('shop', (SELECT jsonb_object_agg('h' || i, 'x') FROM generate_series(1, 201) i), '');
\echo :LAST_ERROR_SQLSTATE

SELECT * FROM payonce_check();
DROP SERVER shop, other, mute CASCADE;
DROP FUNCTION notify(text, text), signed(text, timestamptz), refuse(), collide(), nested();
DROP EXTENSION pgcrypto;
