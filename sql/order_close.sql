-- order_close: closes what is unpaid, and says whether it is closed now.
\i sql/include/begin.sql

INSERT INTO t_order (id, price) VALUES ('open', 100), ('paid', 100), ('waiting', 100), ('订单-1', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('open-1', 'open', 100, 'wechat'), ('paid-1', 'paid', 100, 'wechat'),
    ('waiting-1', 'waiting', 100, 'wechat');

SELECT order_close('open') AS closed, order_close('open') AS closed_already;
SELECT * FROM pg_temp.story('open');

SELECT pay_callback('paid-1', true);
SELECT order_close('paid') AS paid;
SELECT * FROM pg_temp.story('paid');

-- Money that a person still decides about does not keep an order open.
SELECT pay_callback_outcome('waiting-1', true, 99);
SELECT order_close('waiting') AS closed;
SELECT * FROM pg_temp.story('waiting');
SELECT payment_resolve('waiting-1', 'refund', 'one fen short');
SELECT * FROM pg_temp.story('waiting');

-- An order's id is the application's own.
SELECT order_close('订单-1') AS closed;

-- Reopened by a person, it can be paid again.
UPDATE t_order SET status = 0, closed_at = NULL WHERE id = 'open';
SELECT pay_callback_outcome('open-1', true) AS paid, order_close('open') AS closed;
SELECT * FROM pg_temp.story('open');

-- A refund in full leaves the order paid: it cannot be closed.
SELECT refund_request('open-1', 100, 'returned') ~ '^open-1-Q' AS requested;
SELECT order_close('open') AS closed;
SELECT * FROM payonce_check();

SELECT order_close('nobody''s');
\echo :LAST_ERROR_SQLSTATE
