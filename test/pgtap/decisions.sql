-- The table "What a callback decides" of docs/states.md, over every state of payment and order, every
-- shape of news and every setting of payonce.late_payment.
--
-- Each combination is played with an order of its own, which is rolled back. The rule that applies
-- is worked out here in SQL, what the rule does is written down once in the table rule, and payonce
-- is asked. One test for each rule and aspect; one that fails lists the combinations that went wrong.
BEGIN;
SET LOCAL client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS payonce;
-- Wherever the two are installed.
SELECT set_config('search_path', string_agg(DISTINCT quote_ident(n.nspname), ', '), true) AS path
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname IN ('pgtap', 'payonce') \gset
SELECT no_plan();

-- NULL in payment_after, refund and attention: nothing of the kind.
CREATE TEMP TABLE rule (n integer, outcome text, payment_after integer, order_becomes_paid boolean,
                        refund text, attention text, takes_number text, takes_amount boolean);
INSERT INTO rule VALUES
    (1, 'conflict',          NULL, false, NULL,        'conflict: ', 'no',             false),
    (2, 'already_processed', NULL, false, NULL,        NULL,         'success, if new', false),
    (3, 'already_processed', NULL, false, NULL,        NULL,         'no',             false),
    (4, 'failed',            400,  false, NULL,        NULL,         'no',             false),
    (5, 'mismatch',          500,  false, NULL,        'mismatch: ', 'yes',            true),
    (6, 'duplicate',         200,  false, 'duplicate', NULL,         'yes',            true),
    (7, 'late',              200,  false, 'late',      NULL,         'yes',            true),
    (8, 'late',              500,  false, NULL,        'late: ',     'yes',            true),
    (9, 'mismatch',          500,  false, NULL,        'mismatch: ', 'yes',            true),
    (10, 'paid',             100,  true,  NULL,        NULL,         'yes',            true);

-- Where the payment stands, where its order stands (self: paid by this payment), in what the payment
-- differs from its order, whether the gateway's number is known, what the news says, and the setting.
CREATE TEMP TABLE combination AS
SELECT row_number() OVER () AS n, *, CASE
    WHEN payment_status IN (100, 200, 300, 500) AND success AND known_number <> number THEN 1
    WHEN payment_status IN (100, 200, 300, 500) THEN 2
    WHEN payment_status = 400 AND NOT success THEN 3
    WHEN payment_status = 0 AND NOT success THEN 4
    WHEN amount = 'other' OR currency = 'other' THEN 5
    WHEN order_state IN ('paid', 'winner_refunded') THEN 6
    WHEN order_state = 'closed' AND policy = 'refund' THEN 7
    WHEN order_state = 'closed' AND policy = 'manual' THEN 8
    WHEN differs_in <> 'nothing' THEN 9
    ELSE 10 END AS rule
FROM unnest(ARRAY[0, 100, 200, 300, 400, 500]) payment_status,
     unnest(ARRAY['unpaid', 'paid', 'winner_refunded', 'closed', 'self']) order_state,
     unnest(ARRAY['nothing', 'price', 'currency']) differs_in,
     unnest(ARRAY[NULL, 'T-1']) known_number,
     unnest(ARRAY[true, false]) success,
     unnest(ARRAY[NULL, 'same', 'other']) amount,
     unnest(ARRAY[NULL, 'same', 'other']) currency,
     unnest(ARRAY[NULL, 'T-1', 'T-2']) number,
     unnest(ARRAY['refund', 'manual', 'accept']) policy
-- A winner's order is paid by it; a payment that nobody paid has won nothing.
WHERE (payment_status <> 100 OR order_state = 'self')
  AND (payment_status NOT IN (0, 400) OR order_state <> 'self')
-- The setting is about first successes of closed orders, the difference about first successes.
  AND (policy = 'refund' OR (order_state = 'closed' AND payment_status IN (0, 400) AND success))
  AND (differs_in = 'nothing' OR (payment_status IN (0, 400) AND success));
-- payonce_check reads whole tables, so it is asked once for each kind of combination.
ALTER TABLE combination ADD checked boolean;
UPDATE combination c SET checked = true FROM (
    SELECT min(n) AS n FROM combination
    GROUP BY rule, payment_status, order_state, differs_in, amount, success) first
WHERE c.n = first.n;

-- What was there before and after, all rows of the order as JSON.
CREATE TEMP TABLE played (n bigint, outcome text, before jsonb, after jsonb, wrote_payment boolean,
                          outcome_again text, after_again jsonb, broken text);
CREATE FUNCTION pg_temp.rows() RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('order', (SELECT to_jsonb(o) FROM t_order o WHERE o.id = 'tap-o'),
        'payment', (SELECT to_jsonb(p) FROM t_order_pay p WHERE p.id = 'tap-p'),
        'other_payment', (SELECT to_jsonb(p) FROM t_order_pay p WHERE p.id = 'tap-w'),
        'refunds', (SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.refund_no), '[]') FROM t_refund r
                    JOIN t_order_pay p ON p.id = r.payment_id WHERE p.order_id = 'tap-o'))
$$;
-- Rows may be inserted in any valid state.
CREATE FUNCTION pg_temp.prepare(c combination) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    price bigint := CASE c.differs_in WHEN 'price' THEN 90 ELSE 100 END;
BEGIN
    INSERT INTO t_order (id, price, status, paid_by, paid_at, closed_at)
    VALUES ('tap-o', 100, CASE c.order_state WHEN 'unpaid' THEN 0 WHEN 'closed' THEN 400 ELSE 100 END,
            CASE WHEN c.order_state IN ('paid', 'winner_refunded') THEN 'tap-w'
                 WHEN c.order_state = 'self' THEN 'tap-p' END,
            CASE WHEN c.order_state IN ('paid', 'winner_refunded', 'self') THEN timestamptz '2020-01-01' END,
            CASE WHEN c.order_state = 'closed' THEN timestamptz '2020-01-01' END);
    INSERT INTO t_order_pay (id, order_id, price, currency, status, gateway, transaction_id)
    VALUES ('tap-p', 'tap-o', price, CASE c.differs_in WHEN 'currency' THEN 'HKD' ELSE 'CNY' END,
            c.payment_status, 'tap_gateway', c.known_number);
    IF c.payment_status IN (200, 300) THEN
        INSERT INTO t_refund (refund_no, payment_id, amount, reason, status)
        VALUES ('tap-p-R1', 'tap-p', price, 'duplicate', CASE c.payment_status WHEN 200 THEN 0 ELSE 300 END);
    END IF;
    IF c.order_state IN ('paid', 'winner_refunded') THEN
        INSERT INTO t_order_pay (id, order_id, price, status, gateway)
        VALUES ('tap-w', 'tap-o', 100, CASE c.order_state WHEN 'paid' THEN 100 ELSE 300 END, 'tap_gateway');
    END IF;
    IF c.order_state = 'winner_refunded' THEN
        INSERT INTO t_refund (refund_no, payment_id, amount, reason, status)
        VALUES ('tap-w-Qaaaaaa', 'tap-w', 100, 'request', 300);
    END IF;
END
$$;
CREATE FUNCTION pg_temp.deliver(c combination) RETURNS text LANGUAGE sql AS $$
    SELECT pay_callback_outcome('tap-p', c.success,
        CASE c.amount WHEN 'same' THEN CASE c.differs_in WHEN 'price' THEN 90 ELSE 100 END
                      WHEN 'other' THEN 77 END,
        CASE c.currency WHEN 'same' THEN CASE c.differs_in WHEN 'currency' THEN 'HKD' ELSE 'CNY' END
                        WHEN 'other' THEN 'USD' END, c.number)
$$;
CREATE FUNCTION pg_temp.play(c combination) RETURNS played LANGUAGE plpgsql AS $$
DECLARE
    result played;
    place tid;
BEGIN
    result.n := c.n;
    PERFORM pg_temp.prepare(c);
    PERFORM set_config('payonce.late_payment', c.policy, true);
    result.before := pg_temp.rows();
    SELECT ctid INTO place FROM t_order_pay WHERE id = 'tap-p';
    result.outcome := pg_temp.deliver(c);
    result.after := pg_temp.rows();
    SELECT ctid <> place INTO result.wrote_payment FROM t_order_pay WHERE id = 'tap-p';
    IF c.checked THEN
        SELECT string_agg(kind || ' ' || id || ': ' || detail, '; ') INTO result.broken
        FROM payonce_check() WHERE id LIKE 'tap-%';
    END IF;
    result.outcome_again := pg_temp.deliver(c);
    result.after_again := pg_temp.rows();
    RAISE EXCEPTION USING ERRCODE = 'PLAYD';
EXCEPTION WHEN SQLSTATE 'PLAYD' THEN
    RETURN result;
END
$$;
DO $$
DECLARE
    c combination;
BEGIN
    FOR c IN SELECT * FROM combination LOOP
        INSERT INTO played SELECT p.* FROM pg_temp.play(c) p;
    END LOOP;
END
$$;

CREATE TEMP TABLE happened AS
SELECT c.*, p.outcome, p.outcome_again, p.wrote_payment, p.broken, p.before, p.after, p.after_again,
       format('payment %s, order %s, %s differs, number %s; ', c.payment_status, c.order_state,
              c.differs_in, coalesce(c.known_number, 'unknown'))
       || format('%s amount %s currency %s number %s; ',
                 CASE WHEN c.success THEN 'success' ELSE 'failure' END,
                 coalesce(c.amount, '-'), coalesce(c.currency, '-'), coalesce(c.number, '-'))
       || format('%s → %s', c.policy, p.outcome) AS story,
       p.after->'payment' AS payment, p.after->'payment'->>'attention' AS attention,
       p.after->'payment'->>'transaction_id' AS number_after, new.refunds AS new_refunds,
       -- What of the payment is the application's.
       (p.before->'payment') - own.columns AS others_before,
       (p.after->'payment') - own.columns AS others_after
FROM combination c
JOIN played p USING (n)
CROSS JOIN (SELECT ARRAY['status', 'transaction_id', 'paid_amount', 'paid_currency', 'refund_reserved',
                         'attention', 'updated_at']) own (columns)
CROSS JOIN LATERAL (SELECT coalesce(jsonb_agg(r), '[]') FROM jsonb_array_elements(p.after->'refunds') r
                    WHERE NOT p.before->'refunds' @> jsonb_build_array(r)) new (refunds);

SELECT cmp_ok(count(c.n), '>', 0::bigint, format('rule %s (%s) applies to some combinations', r.n, r.outcome))
FROM rule r LEFT JOIN combination c ON c.rule = r.n GROUP BY r.n, r.outcome ORDER BY r.n;

-- No combination h of the rule r may fulfil the condition; NULL counts as fulfilled.
CREATE FUNCTION pg_temp.never(rule_n integer, condition text, what text) RETURNS text LANGUAGE sql AS $$
    SELECT is_empty(
        format('SELECT h.story, h.payment, h.new_refunds FROM happened h JOIN rule r ON r.n = h.rule'
               ' WHERE h.rule = %s AND (%s) IS NOT FALSE LIMIT 3', rule_n, condition),
        format('rule %s: %s', rule_n, what))
$$;

SELECT pg_temp.never(n, 'h.outcome IS DISTINCT FROM r.outcome', 'the outcome is ' || outcome)
FROM rule ORDER BY n;

SELECT pg_temp.never(n, $$(h.payment->>'status')::integer <> coalesce(r.payment_after, h.payment_status)$$,
                     'the payment ' || coalesce('becomes ' || payment_after, 'keeps its status'))
FROM rule ORDER BY n;

SELECT pg_temp.never(n, $$h.after->'order' <> h.before->'order'$$, 'the order is left alone')
FROM rule WHERE NOT order_becomes_paid ORDER BY n;
SELECT pg_temp.never(n, $$h.after->'order' <> (h.before->'order') ||
                        jsonb_build_object('status', 100, 'paid_by', 'tap-p', 'paid_at', now())$$,
                     'the order becomes paid by it')
FROM rule WHERE order_becomes_paid ORDER BY n;

SELECT pg_temp.never(n, $$h.new_refunds <> '[]'$$, 'no refund is queued')
FROM rule WHERE refund IS NULL ORDER BY n;
SELECT pg_temp.never(n, $$jsonb_array_length(h.new_refunds) <> 1
                          OR h.payment->'refund_reserved' <> h.payment->'price'
                          OR NOT h.new_refunds->0 @> jsonb_build_object(
                              'refund_no', 'tap-p-R1', 'payment_id', 'tap-p', 'amount', h.payment->'price',
                              'reason', r.refund, 'status', 0, 'gateway', 'tap_gateway', 'attempts', 0)$$,
                     'a refund of the whole is queued, reason ' || refund)
FROM rule WHERE refund IS NOT NULL ORDER BY n;

SELECT pg_temp.never(n, 'h.attention IS NOT NULL', 'nobody is needed')
FROM rule WHERE attention IS NULL ORDER BY n;
SELECT pg_temp.never(n, 'h.attention IS NULL OR NOT starts_with(h.attention, r.attention)',
                     'attention says ' || attention)
FROM rule WHERE attention IS NOT NULL ORDER BY n;

SELECT pg_temp.never(n, $$h.number_after IS DISTINCT FROM CASE r.takes_number
                          WHEN 'yes' THEN coalesce(h.number, h.known_number)
                          WHEN 'no' THEN h.known_number
                          ELSE coalesce(h.known_number, CASE WHEN h.success THEN h.number END) END$$,
                     'takes the gateway''s number: ' || takes_number)
FROM rule ORDER BY n;

SELECT pg_temp.never(n, $$h.payment->'paid_amount' <> 'null' OR h.payment->'paid_currency' <> 'null'$$,
                     'says nothing about what arrived')
FROM rule WHERE NOT takes_amount ORDER BY n;
SELECT pg_temp.never(n, $$h.payment->'paid_amount' <> CASE h.amount
                              WHEN 'same' THEN h.payment->'price' WHEN 'other' THEN '77' ELSE 'null' END
                          OR h.payment->'paid_currency' <> CASE h.currency
                              WHEN 'same' THEN h.payment->'currency'
                              WHEN 'other' THEN '"USD"' ELSE 'null' END$$,
                     'keeps what arrived, where the news says it')
FROM rule WHERE takes_amount ORDER BY n;

-- Nothing to say, nothing to write: not even the same row again.
SELECT pg_temp.never(n, 'h.wrote_payment <> (h.number_after IS DISTINCT FROM h.known_number)',
                     'writes no row unless a number is filled in')
FROM rule WHERE outcome = 'already_processed' ORDER BY n;

-- The same news once more.
SELECT pg_temp.never(n, format('h.outcome_again IS DISTINCT FROM %L', again),
                     'repeated, the outcome is ' || again)
FROM rule, LATERAL (SELECT CASE n WHEN 1 THEN 'conflict' ELSE 'already_processed' END) o (again) ORDER BY n;
SELECT pg_temp.never(n, 'h.after_again <> h.after', 'repeated, nothing changes') FROM rule ORDER BY n;

-- What no rule does.
SELECT pg_temp.never(n, $$h.after->'other_payment' <> h.before->'other_payment'$$, 'touches no other payment')
FROM rule ORDER BY n;
SELECT pg_temp.never(n, $$NOT h.after->'refunds' @> (h.before->'refunds')$$, 'touches no older refund')
FROM rule ORDER BY n;
SELECT pg_temp.never(n, 'h.others_after <> h.others_before', 'changes nothing that the application wrote')
FROM rule ORDER BY n;
SELECT pg_temp.never(n, 'h.broken IS NOT NULL', 'keeps every invariant') FROM rule ORDER BY n;

SELECT * FROM finish();
ROLLBACK;
