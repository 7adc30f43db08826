-- refund_request: the whole or a part of any successful payment goes back.
\i sql/include/begin.sql

INSERT INTO t_order (id, price) VALUES ('r', 3200), ('two', 100), ('odd', 100), ('open', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('r-1', 'r', 3200, 'wechat'), ('r-2', 'r', 3200, 'alipay'),
    ('two-1', 'two', 100, 'wechat'), ('odd-1', 'odd', 100, 'wechat'),
    ('open-1', 'open', 100, 'wechat'), ('open-2', 'open', 100, 'wechat');
SELECT pay_callback_outcome('r-1', true) AS winner, pay_callback_outcome('r-2', true) AS loser,
       pay_callback_outcome('two-1', true) AS two, pay_callback_outcome('odd-1', true, 250, 'USD') AS odd,
       pay_callback_outcome('open-2', false) AS failed;

-- A part: the order keeps the rest, so the payment stays the winner.
SELECT regexp_replace(refund_request('r-1', 200, 'one item was sold out'), '-Q[0-9a-z]{6}$', '-Q......');
SELECT * FROM pg_temp.story('r');

-- Nothing left over: more than that is refused, and says how much is left.
SELECT * FROM pg_temp.attempt($$SELECT refund_request('r-1', 3001, 'too much')$$);
SELECT * FROM pg_temp.attempt($$SELECT refund_request('r-2', 1, 'all of it is under way')$$);
SELECT * FROM pg_temp.attempt($$SELECT refund_request('r-1', 9223372036854775807, 'overflow?')$$);

-- The rest: now the whole payment goes back, 100 → 200. The order stays paid.
SELECT refund_request('r-1', 3000, 'the customer changed his mind') ~ '^r-1-Q[0-9a-z]{6}$' AS requested;
SELECT * FROM pg_temp.story('r');
SELECT refund_callback(refund_no, true) FROM t_refund WHERE payment_id = 'r-1' AND amount = 200;
SELECT * FROM pg_temp.story('r');
SELECT refund_callback(refund_no, true) FROM t_refund WHERE payment_id = 'r-1' AND amount = 3000;
SELECT * FROM pg_temp.story('r');

-- Each request has a number of its own, so a second one is a second refund.
SELECT refund_request('two-1', 10, 'same') <> refund_request('two-1', 10, 'same') AS two_numbers;
SELECT count(*), sum(amount), min(status) FROM t_refund WHERE payment_id = 'two-1';

-- A payment in attention: what arrived can be sent back, not what was asked for. An empty reason
-- is none.
SELECT refund_request('odd-1', 250, '') ~ '^odd-1-Q' AS requested;
SELECT * FROM pg_temp.story('odd');

-- No money, no refund.
SELECT * FROM pg_temp.attempt($$SELECT refund_request('open-1', 1, 'nothing arrived yet')$$);
SELECT * FROM pg_temp.attempt($$SELECT refund_request('open-2', 1, 'it failed')$$);
SELECT * FROM payonce_check();

-- As an application sees an error.
SELECT refund_request('two-1', 81, 'too much');
\echo :LAST_ERROR_SQLSTATE
SELECT refund_request('open-1', 1, 'nothing arrived yet');
\echo :LAST_ERROR_SQLSTATE
SELECT refund_request('unheard-of', 1, 'whose?');
\echo :LAST_ERROR_SQLSTATE
