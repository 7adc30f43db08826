-- What an operator looks at: what waits and why, who needs a person, what the gateways do.
\i sql/include/begin.sql

-- Within a transaction, so that a worker does not move what it sees.
BEGIN;
CREATE ROLE regress_payonce_shop;
GRANT USAGE ON FOREIGN DATA WRAPPER payonce_http TO regress_payonce_shop;
CREATE SERVER open FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://open.example');
CREATE FOREIGN DATA WRAPPER other;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER other;
SET ROLE regress_payonce_shop;
CREATE SERVER theirs FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://theirs.example');
RESET ROLE;
INSERT INTO t_order (id, price) VALUES ('o', 3200);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('p-0', 'o', 3200, 'open'), ('p-1', 'o', 3200, 'open'), ('p-2', 'o', 3200, 'wechat'),
    ('p-3', 'o', 3200, 'manual'), ('p-4', 'o', 3200, 'elsewhere'), ('p-5', 'o', 3200, 'theirs');
SELECT outcome, count(*) FROM (SELECT pay_callback_outcome(id, true, 3200) AS outcome FROM t_order_pay ORDER BY id) d
GROUP BY outcome ORDER BY outcome;

-- Nothing waits in silence.
SELECT refund_no, payment_id, order_id, gateway, amount, currency, reason, status, attempts, last_error,
       payonce_gateway_blocked_by(gateway) AS gateway_blocked_by
FROM payonce_refund_backlog ORDER BY refund_no;
-- blocked_by adds what holds up all of this database, which depends on the server, and the delay.
UPDATE t_refund SET attempts = 1, next_attempt_at = now() + interval '1 hour' WHERE payment_id = 'p-1';
SELECT refund_no, blocked_by IS NOT DISTINCT FROM
       coalesce(payonce_dispatch_blocked_by(), payonce_gateway_blocked_by(gateway),
                CASE refund_no WHEN 'p-1-R1' THEN 'waits for its next attempt' END) AS right
FROM payonce_refund_backlog ORDER BY refund_no;
ALTER SERVER wechat OPTIONS (SET paused 'false');
ALTER SERVER theirs OWNER TO CURRENT_USER;
SELECT gateway, payonce_gateway_blocked_by(gateway) AS gateway_blocked_by
FROM payonce_refund_backlog ORDER BY refund_no;
SELECT payonce_gateway_blocked_by(NULL), payonce_gateway_blocked_by(''), payonce_gateway_blocked_by(repeat('x', 64));
-- Settled ones leave the backlog, also those that a person must look at.
SELECT refund_callback('p-1-R1', true), refund_callback('p-2-R1', false);
SELECT refund_no FROM payonce_refund_backlog ORDER BY refund_no;

-- One row for each server of payonce's and for each gateway that refunds wait for.
SELECT gateway, depth, oldest = now() AS oldest_now, attention, in_flight, sent, asked, succeeded, failed, retried,
       latency_avg_ms, latency_max_ms, last_answer_at, blocked_by
FROM payonce_stat_gateway ORDER BY gateway;
-- One row for the worker, also where there is none.
SELECT count(*), min(database) = current_database() AS this_database,
       bool_and(blocked_by IS NOT DISTINCT FROM payonce_dispatch_blocked_by()) AS blocked_by FROM payonce_stat_worker;
ROLLBACK;

-- Every case for a person, and what to call.
BEGIN;
INSERT INTO t_order (id, price) VALUES ('a', 100), ('b', 100), ('c', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('a-1', 'a', 100, 'wechat'), ('a-2', 'a', 100, 'alipay'), ('b-1', 'b', 100, 'wechat'), ('c-1', 'c', 100, 'wechat');
SELECT pay_callback_outcome('a-1', true, 100, 'CNY', 'T-1') AS paid, pay_callback_outcome('a-2', true) AS duplicate,
       pay_callback_outcome('a-1', true, 100, 'CNY', 'T-2') AS conflict,
       pay_callback_outcome('b-1', true, 5000, 'JPY') AS mismatch, pay_callback_outcome('c-1', true) AS paid_too;
SELECT refund_callback('a-2-R1', false);
INSERT INTO t_stray_notification (gateway, body) VALUES ('wechat', '{"payment_id": "unheard-of"}');
SELECT kind, id, order_id, gateway, amount, currency, why, since = now() AS now, what_to_do
FROM payonce_attention ORDER BY kind, id;
-- They go when they are dealt with.
SELECT refund_resolve('a-2-R1', true, 'by hand'), payment_resolve('a-1', 'accept', 'settled'),
       payment_resolve('b-1', 'refund', 'wrong shop');
UPDATE t_stray_notification SET handled_at = now(), note = 'another shop''s';
SELECT * FROM payonce_attention;
ROLLBACK;

-- Monitoring sees all of this, and nothing else.
CREATE ROLE regress_payonce_monitor;
GRANT pg_monitor TO regress_payonce_monitor;
SET ROLE regress_payonce_monitor;
SELECT count(*) FROM payonce_refund_backlog;
SELECT count(*) FROM payonce_attention;
SELECT count(*) FROM payonce_stat_worker;
SELECT count(*) FROM payonce_stat_gateway;
SELECT count(*) FROM payonce_check();
SELECT * FROM t_order;
SELECT pay_callback('p', true);
SELECT payonce_activate();
RESET ROLE;
DROP ROLE regress_payonce_monitor;
