-- payment_resolve: a person decides about a payment in attention.
\i sql/include/begin.sql

INSERT INTO t_order (id, price) VALUES
    ('less', 100), ('more', 100), ('late', 100), ('late-too', 100), ('won', 100), ('conflict', 100),
    ('cancelled', 100), ('calm', 100), ('partly', 100), ('unsaid', 100), ('twice', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('less-1', 'less', 100, 'wechat'), ('more-1', 'more', 100, 'wechat'),
    ('late-1', 'late', 100, 'wechat'), ('late-too-1', 'late-too', 100, 'alipay'),
    ('won-1', 'won', 100, 'wechat'), ('won-2', 'won', 100, 'alipay'),
    ('conflict-1', 'conflict', 100, 'wechat'), ('conflict-2', 'conflict', 100, 'alipay'),
    ('cancelled-1', 'cancelled', 100, 'wechat'), ('cancelled-2', 'cancelled', 100, 'alipay'),
    ('calm-1', 'calm', 100, 'wechat'), ('calm-2', 'calm', 100, 'wechat'),
    ('partly-1', 'partly', 100, 'wechat'), ('unsaid-1', 'unsaid', 100, 'wechat'),
    ('twice-1', 'twice', 100, 'wechat');

-- Nothing to resolve.
SELECT pay_callback_outcome('calm-1', true) AS winner, pay_callback_outcome('calm-2', true) AS loser;
SELECT * FROM pg_temp.attempt($$SELECT payment_resolve('calm-1', 'accept', 'why?')$$);
SELECT * FROM pg_temp.attempt($$SELECT payment_resolve('calm-2', 'refund', 'it goes back already')$$);
SELECT * FROM pg_temp.attempt($$SELECT payment_resolve('less-1', 'accept', 'nothing arrived yet')$$);
SELECT * FROM pg_temp.attempt($$SELECT payment_resolve('unheard-of', 'accept', 'whose?')$$);
SELECT * FROM pg_temp.attempt($$SELECT payment_resolve('less-1', 'keep', 'no such action')$$);

-- A mismatch, accepted: it pays the order, as far as it goes.
SELECT pay_callback_outcome('less-1', true, 99, 'CNY', 'T-less');
SELECT payment_resolve('less-1', 'accept', 'one fen is not worth a call');
SELECT * FROM pg_temp.story('less');
SELECT pay_callback_outcome('less-1', true, 99, 'CNY', 'T-less') AS repeated;

-- A mismatch, refunded: what arrived goes back, in the currency in which it arrived.
SELECT pay_callback_outcome('more-1', true, 700, 'JPY');
SELECT payment_resolve('more-1', 'refund', 'wrong shop');
SELECT * FROM pg_temp.story('more');
SELECT refund_no, amount, currency FROM payonce_refund_backlog WHERE payment_id = 'more-1';

-- Money in another currency, and nobody said how much: that cannot be refunded before a person says it.
SELECT pay_callback_outcome('unsaid-1', true, paid_currency => 'JPY');
SELECT * FROM pg_temp.attempt($$SELECT payment_resolve('unsaid-1', 'refund', 'how much?')$$);
UPDATE t_order_pay SET paid_amount = 2000 WHERE id = 'unsaid-1';
SELECT payment_resolve('unsaid-1', 'refund', '2000 yen, says the gateway''s statement');
SELECT * FROM pg_temp.story('unsaid');

-- Late, accepted: the order is reopened. Late, refunded.
SET payonce.late_payment = 'manual';
SELECT order_close('late'), order_close('late-too');
SELECT pay_callback_outcome('late-1', true), pay_callback_outcome('late-too-1', true);
SELECT payment_resolve('late-1', 'accept', 'still in stock');
SELECT payment_resolve('late-too-1', 'refund', 'sold out');
SELECT * FROM pg_temp.story('late');
SELECT * FROM pg_temp.story('late-too');
SET payonce.late_payment = 'refund';

-- Another payment has won meanwhile: it cannot be accepted, only refunded.
SELECT pay_callback_outcome('won-1', true, 90) AS mismatch, pay_callback_outcome('won-2', true) AS paid;
SELECT * FROM pg_temp.attempt($$SELECT payment_resolve('won-1', 'accept', 'first come, first served')$$);
SELECT payment_resolve('won-1', 'refund', 'the other came first');
SELECT * FROM pg_temp.story('won');

-- A conflict has no money of its own in the tables: the words are cleared, the status stays.
SELECT pay_callback_outcome('conflict-1', true, transaction_id => 'T-1') AS paid,
       pay_callback_outcome('conflict-1', true, transaction_id => 'T-2') AS conflict,
       pay_callback_outcome('conflict-2', true, transaction_id => 'T-3') AS duplicate,
       pay_callback_outcome('conflict-2', true, transaction_id => 'T-4') AS conflict_of_duplicate;
SELECT * FROM pg_temp.attempt($$SELECT payment_resolve('conflict-1', 'refund', 'not like this')$$);
SELECT payment_resolve('conflict-1', 'accept', 'T-2 was refunded at the gateway');
SELECT payment_resolve('conflict-2', 'accept', 'T-4 was refunded at the gateway');
SELECT * FROM pg_temp.story('conflict');
SELECT * FROM pg_temp.attempt($$SELECT payment_resolve('conflict-1', 'accept', 'twice')$$);

-- A mismatch and a conflict: the decision about the one leaves the other to be settled.
SELECT pay_callback_outcome('twice-1', true, 90, transaction_id => 'T-5') AS mismatch,
       pay_callback_outcome('twice-1', true, 90, transaction_id => 'T-6') AS conflict;
SELECT * FROM pg_temp.story('twice');
SELECT payment_resolve('twice-1', 'accept', 'the amount will do');
SELECT * FROM pg_temp.story('twice');
SELECT payment_resolve('twice-1', 'accept', 'T-6 was refunded at the gateway');
SELECT * FROM pg_temp.story('twice');

-- What is going back cannot be kept; once its refund is cancelled, it can where nobody else has won.
SELECT pay_callback_outcome('cancelled-1', true, 90) AS mismatch;
SELECT payment_resolve('cancelled-1', 'refund', 'wrong amount');
SELECT refund_callback('cancelled-1-R1', false);
SELECT * FROM pg_temp.attempt($$SELECT payment_resolve('cancelled-1', 'refund', 'again')$$);
SELECT * FROM pg_temp.attempt($$SELECT payment_resolve('cancelled-1', 'accept', 'after all')$$);
SELECT refund_resolve('cancelled-1-R1', false, 'the customer asked to keep it');
SELECT payment_resolve('cancelled-1', 'accept', 'after all');
SELECT * FROM pg_temp.story('cancelled');
SELECT pay_callback_outcome('cancelled-2', true) AS duplicate;

-- Partly refunded already: what is left goes back.
SELECT pay_callback_outcome('partly-1', true, 150) AS mismatch;
SELECT refund_request('partly-1', 50, 'what is too much') ~ '^partly-1-Q' AS requested;
SELECT * FROM pg_temp.attempt($$SELECT payment_resolve('partly-1', 'accept', 'the rest is right')$$);
SELECT payment_resolve('partly-1', 'refund', 'the rest too');
SELECT * FROM pg_temp.story('partly');
SELECT * FROM payonce_check();

SELECT payment_resolve('won-2', 'accept', 'nothing is wrong with it');
\echo :LAST_ERROR_SQLSTATE
