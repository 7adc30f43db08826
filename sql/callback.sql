-- What a callback decides: each row of the table in docs/states.md by example.
\i sql/include/begin.sql

-- Two phones, two gateways, one order of 32.00 yuan.
INSERT INTO t_order (id, price) VALUES ('two-phones', 3200);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('phone-1', 'two-phones', 3200, 'wechat'), ('phone-2', 'two-phones', 3200, 'alipay');

-- The first success wins; the second payment's money goes back through its own gateway.
SELECT pay_callback('phone-2', true, 3200, 'CNY', 'A-2001');
SELECT pay_callback('phone-1', true, 3200, 'CNY', 'W-1001');
SELECT * FROM pg_temp.story('two-phones');

-- Gateways repeat themselves. Nothing happens twice, and a failure never undoes a success.
SELECT pay_callback_outcome('phone-2', true, 3200, 'CNY', 'A-2001') AS winner_again,
       pay_callback_outcome('phone-1', true, 3200, 'CNY', 'W-1001') AS duplicate_again,
       pay_callback_outcome('phone-2', false) AS winner_failed,
       pay_callback_outcome('phone-1', false) AS duplicate_failed;
SELECT * FROM pg_temp.story('two-phones');
SELECT * FROM payonce_check();

-- The outcomes of an order's ordinary life, in the bare form of two arguments.
INSERT INTO t_order (id, price) VALUES ('plain', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('plain-1', 'plain', 100, 'wechat'), ('plain-2', 'plain', 100, 'alipay');
SELECT pay_callback_outcome('plain-1', false) AS first,
       pay_callback_outcome('plain-1', false) AS failure_again,
       pay_callback_outcome('plain-2', true) AS then_paid;

-- Success after failure counts, also when another payment has won meanwhile: the money did arrive.
SELECT pay_callback_outcome('plain-1', true) AS success_after_failure;
SELECT * FROM pg_temp.story('plain');

INSERT INTO t_order (id, price) VALUES ('second-try', 100);
INSERT INTO t_order_pay (id, order_id, price) VALUES ('second-try-1', 'second-try', 100);
SELECT pay_callback_outcome('second-try-1', false, transaction_id => 'T-failed') AS first,
       pay_callback_outcome('second-try-1', true, transaction_id => 'T-succeeded') AS then;
SELECT * FROM pg_temp.story('second-try');

-- A gateway's number that was unknown is filled in by the repetition that brings it.
INSERT INTO t_order (id, price) VALUES ('number', 100);
INSERT INTO t_order_pay (id, order_id, price) VALUES ('number-1', 'number', 100);
SELECT pay_callback_outcome('number-1', true) AS first;
SELECT * FROM pg_temp.story('number');
SELECT pay_callback_outcome('number-1', true, transaction_id => 'T-1') AS filled_in;
SELECT * FROM pg_temp.story('number');

-- Success under another number: the gateway took the money twice under one of ours.
SELECT pay_callback_outcome('number-1', true, transaction_id => 'T-2') AS second_taking,
       pay_callback_outcome('number-1', true, transaction_id => 'T-2') AS repeated,
       pay_callback_outcome('number-1', true, transaction_id => 'T-3') AS third_taking,
       pay_callback_outcome('number-1', false, transaction_id => 'T-4') AS failure_of_another,
       pay_callback_outcome('number-1', true) AS without_number;
SELECT * FROM pg_temp.story('number');
-- The same of a payment that is refunding; amount and currency no longer matter.
SELECT pay_callback_outcome('phone-1', true, 1, 'USD', 'W-9999') AS refunding,
       pay_callback_outcome('phone-1', true, 1, 'USD', 'W-1001') AS only_the_amount;
SELECT * FROM pg_temp.story('two-phones');

-- What arrived is not what was asked for: a person decides, the order is left alone.
INSERT INTO t_order (id, price) VALUES ('amounts', 3200), ('prices', 3200);
INSERT INTO t_order_pay (id, order_id, price, currency) VALUES
    ('amounts-less', 'amounts', 3200, 'CNY'), ('amounts-more', 'amounts', 3200, 'CNY'),
    ('amounts-currency', 'amounts', 3200, 'CNY'), ('amounts-both', 'amounts', 3200, 'CNY'),
    ('prices-price', 'prices', 3100, 'CNY'), ('prices-currency', 'prices', 3200, 'HKD'),
    ('prices-paid', 'prices', 3200, 'CNY'), ('prices-late', 'prices', 3100, 'CNY');
UPDATE t_order_pay SET gateway = 'wechat' WHERE id = 'prices-late';
SELECT pay_callback_outcome('amounts-less', true, 3199) AS less,
       pay_callback_outcome('amounts-more', true, 3201, 'CNY') AS more,
       pay_callback_outcome('amounts-currency', true, paid_currency => 'USD') AS currency,
       pay_callback_outcome('amounts-both', true, 1, 'USD') AS both;
SELECT * FROM pg_temp.story('amounts');

-- The payment is not what the order costs. Where the order is paid anyway, it is a duplicate.
SELECT pay_callback_outcome('prices-price', true, 3100) AS price,
       pay_callback_outcome('prices-currency', true) AS currency,
       pay_callback_outcome('prices-paid', true) AS paid,
       pay_callback_outcome('prices-late', true) AS duplicate_of_another_price;
SELECT * FROM pg_temp.story('prices');

-- A mismatch is a mismatch also after a failure, and of an order that is paid or closed.
INSERT INTO t_order (id, price) VALUES ('after', 100), ('shut', 100);
INSERT INTO t_order_pay (id, order_id, price) VALUES
    ('after-1', 'after', 100), ('after-2', 'after', 100), ('shut-1', 'shut', 100);
SELECT pay_callback_outcome('after-1', true) AS paid,
       pay_callback_outcome('after-2', false) AS failed,
       pay_callback_outcome('after-2', true, 99) AS mismatch,
       order_close('shut') AS closed,
       pay_callback_outcome('shut-1', true, 99) AS mismatch_of_closed;
SELECT * FROM pg_temp.story('after');
SELECT * FROM pg_temp.story('shut');

-- The winner was refunded since; the order stays paid, so the next success is a duplicate.
INSERT INTO t_order (id, price) VALUES ('gone', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('gone-1', 'gone', 100, 'wechat'), ('gone-2', 'gone', 100, 'alipay');
SELECT pay_callback_outcome('gone-1', true) AS paid;
SELECT refund_request('gone-1', 100, 'returned') ~ '^gone-1-Q[0-9a-z]{6}$' AS requested;
SELECT refund_callback(refund_no, true) FROM t_refund WHERE payment_id = 'gone-1';
SELECT pay_callback_outcome('gone-2', true) AS after_refund,
       pay_callback_outcome('gone-1', true) AS refunded_again;
SELECT * FROM pg_temp.story('gone');

-- Late: paid after the order was closed. The setting says what happens; by default it goes back.
SELECT boot_val FROM pg_settings WHERE name = 'payonce.late_payment';
INSERT INTO t_order (id, price) VALUES ('late-r', 100), ('late-m', 100), ('late-a', 100), ('late-x', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('late-r-1', 'late-r', 100, 'wechat'), ('late-r-2', 'late-r', 100, 'wechat'),
    ('late-m-1', 'late-m', 100, 'wechat'), ('late-a-1', 'late-a', 100, 'wechat'),
    ('late-a-2', 'late-a', 100, 'alipay'), ('late-x-1', 'late-x', 99, 'wechat');
SELECT order_close(id) FROM t_order WHERE id LIKE 'late-%';
SELECT pay_callback_outcome('late-r-1', true) AS refund,
       pay_callback_outcome('late-r-2', false) AS failure_of_closed;
SELECT * FROM pg_temp.story('late-r');
SET payonce.late_payment = 'manual';
SELECT pay_callback_outcome('late-m-1', true) AS manual,
       pay_callback_outcome('late-m-1', true) AS repeated;
SELECT * FROM pg_temp.story('late-m');
-- Accepted, it reopens and pays the order: decided as for an unpaid one.
SET payonce.late_payment = 'accept';
SELECT pay_callback_outcome('late-a-1', true) AS accept,
       pay_callback_outcome('late-a-2', true) AS then_duplicate,
       pay_callback_outcome('late-x-1', true) AS of_another_price;
SELECT * FROM pg_temp.story('late-a');
SELECT * FROM pg_temp.story('late-x');

-- Names of arguments are part of the contract, as an application calls them.
SELECT pay_callback(out_order_no => 'late-a-2', pay_success => true, paid_amount => 100,
                    paid_currency => 'CNY', transaction_id => NULL);
SELECT * FROM payonce_check();
