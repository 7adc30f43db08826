-- refund_resolve: a person ends a refund that is in attention.
\i sql/include/begin.sql

INSERT INTO t_order (id, price) VALUES ('o', 100), ('part', 100), ('whole', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('o-1', 'o', 100, 'wechat'), ('o-2', 'o', 100, 'alipay'), ('o-3', 'o', 100, 'wechat'),
    ('part-1', 'part', 100, 'wechat'), ('whole-1', 'whole', 100, 'wechat');
SELECT pay_callback_outcome(id, true) FROM t_order_pay ORDER BY id;

-- Only what is in attention.
SELECT * FROM pg_temp.attempt($$SELECT refund_resolve('o-2-R1', true, 'in haste')$$);
SELECT * FROM pg_temp.attempt($$SELECT refund_resolve('unheard-of', true, 'whose?')$$);

-- Done by hand: the money went back.
SELECT refund_callback('o-2-R1', false);
SELECT * FROM pg_temp.story('o');
SELECT refund_resolve('o-2-R1', true, 'paid back in cash, receipt 17');
-- Cancelled: the money of a payment that the order does not keep is still with us.
SELECT refund_callback('o-3-R1', false), refund_resolve('o-3-R1', false, 'the customer cannot be found');
SELECT * FROM pg_temp.story('o');
SELECT kind, id, why, what_to_do FROM payonce_attention;
SELECT * FROM pg_temp.attempt($$SELECT refund_resolve('o-2-R1', false, 'twice')$$);
SELECT * FROM pg_temp.attempt($$SELECT refund_resolve('o-3-R1', true, 'twice')$$);

-- He was found: what was cancelled is queued again, under the next number.
SELECT payment_resolve('o-3', 'refund', 'the customer called');
SELECT * FROM pg_temp.story('o');

-- A part of a winner: its failure only asks for attention, and its cancellation leaves all as it was.
SELECT refund_request('part-1', 40, 'one of five') AS part_refund \gset
SELECT refund_callback(:'part_refund', false);
SELECT * FROM pg_temp.story('part');
SELECT refund_resolve(:'part_refund', false, 'he keeps it');
SELECT * FROM pg_temp.story('part');

-- The whole of a winner: 200, then 500, and 100 again when it was cancelled.
SELECT refund_request('whole-1', 100, 'returned') AS whole_refund \gset
SELECT refund_callback(:'whole_refund', false);
SELECT * FROM pg_temp.story('whole');
SELECT refund_resolve(:'whole_refund', false, 'he keeps it');
SELECT * FROM pg_temp.story('whole');
-- Once more, and this time by hand.
SELECT refund_request('whole-1', 100, 'returned after all') AS whole_refund \gset
SELECT refund_callback(:'whole_refund', false);
SELECT refund_resolve(:'whole_refund', true, 'paid back in cash, receipt 18');
SELECT status, refund_reserved, attention FROM t_order_pay WHERE id = 'whole-1';
SELECT status, note FROM t_refund WHERE payment_id = 'whole-1' ORDER BY status DESC;

-- Two refunds of one payment: it is settled when both are.
SELECT refund_request('part-1', 40, 'first half') AS first_refund,
       refund_request('part-1', 60, 'second half') AS second_refund \gset
SELECT refund_callback(:'first_refund', false), refund_callback(:'second_refund', false);
SELECT * FROM pg_temp.story('part');
SELECT refund_resolve(:'first_refund', true, 'by hand');
SELECT * FROM pg_temp.story('part');
SELECT refund_resolve(:'second_refund', true, 'by hand');
SELECT id, status, refund_reserved, attention FROM t_order_pay WHERE id = 'part-1';
SELECT * FROM payonce_check();

SELECT refund_resolve('o-2-R1', true, 'again');
\echo :LAST_ERROR_SQLSTATE
