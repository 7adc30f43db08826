-- refund_callback: the result of a refund that the application verified itself, in each status.
\i sql/include/begin.sql

-- One order for each status of a refund. Its first payment wins, the second and third are refunded:
-- the second will hear of a success, the third of a failure.
INSERT INTO t_order (id, price)
SELECT 's' || status, 100 FROM unnest(ARRAY[0, 100, 150, 200, 300, 400, 500]) status;
INSERT INTO t_order_pay (id, order_id, price, gateway)
SELECT o.id || '-' || n, o.id, 100, 'wechat' FROM t_order o, generate_series(1, 3) n;
SELECT outcome, count(*)
FROM (SELECT pay_callback_outcome(id, true) AS outcome FROM t_order_pay ORDER BY id) decided
GROUP BY outcome ORDER BY outcome;

-- Settled ones through payonce's functions, the others as a worker leaves them.
SELECT refund_callback(refund_no, true, 'G-first') FROM t_refund WHERE refund_no ~ '^s300';
SELECT refund_callback(refund_no, false) FROM t_refund WHERE refund_no ~ '^s[45]00';
SELECT refund_resolve(refund_no, false, 'cancelled') FROM t_refund WHERE refund_no ~ '^s400';
BEGIN;
UPDATE t_refund SET status = 100, attempts = 1, lease_owner = 1, lease_until = now() + interval '1 hour'
WHERE refund_no ~ '^s(100|150|200)';
UPDATE t_refund SET status = 150, lease_owner = NULL, lease_until = NULL WHERE refund_no ~ '^s150';
UPDATE t_refund SET status = 200, lease_owner = NULL, lease_until = NULL, accepted_at = now()
WHERE refund_no ~ '^s200';

SELECT substr(refund_no, 2, length(refund_no) - 6)::int AS status_before,
       refund_callback(refund_no, true, 'G-news') AS success
FROM t_refund WHERE payment_id ~ '-2$' ORDER BY 1;
SELECT substr(r.refund_no, 2, length(r.refund_no) - 6)::int AS status_before, r.status,
       p.status AS payment, r.gateway_refund_id, r.lease_owner, r.finished_at IS NOT NULL AS finished,
       p.attention
FROM t_refund r JOIN t_order_pay p ON p.id = r.payment_id WHERE r.payment_id ~ '-2$' ORDER BY 1;

SELECT substr(refund_no, 2, length(refund_no) - 6)::int AS status_before,
       refund_callback(refund_no, false) AS failure
FROM t_refund WHERE payment_id ~ '-3$' ORDER BY 1;
SELECT substr(r.refund_no, 2, length(r.refund_no) - 6)::int AS status_before, r.status,
       p.status AS payment, r.lease_owner, r.finished_at IS NOT NULL AS finished, r.last_error, p.attention
FROM t_refund r JOIN t_order_pay p ON p.id = r.payment_id WHERE r.payment_id ~ '-3$' ORDER BY 1;

-- The winners and the orders are left alone.
SELECT DISTINCT o.status AS order_status, o.paid_by = p.id AS winner, p.status
FROM t_order o JOIN t_order_pay p ON p.order_id = o.id AND p.id ~ '-1$';
SELECT * FROM payonce_check();
ROLLBACK;

-- Repeated news changes nothing more.
SELECT refund_callback('s0-2-R1', true, 'G-1') AS first, refund_callback('s0-2-R1', true, 'G-2') AS again;
SELECT * FROM pg_temp.story('s0');
-- A success of a cancelled refund: a person must know, lest it be sent once more.
SELECT refund_callback('s400-2-R1', true, 'G-late') AS first, refund_callback('s400-2-R1', true, 'G-late') AS again;
SELECT * FROM pg_temp.story('s400');
SELECT kind, id, why FROM payonce_attention WHERE id = 's400-2';
-- A refund that failed after all: 300 → 500, and with it the payment.
SELECT refund_callback('s300-2-R1', false) AS first, refund_callback('s300-2-R1', false) AS again;
SELECT * FROM pg_temp.story('s300');
-- The way on from there.
SELECT refund_retry('s300-2-R1');
SELECT refund_callback('s300-2-R1', true);
SELECT * FROM pg_temp.story('s300');
-- News of success while it is in attention: a person settles it.
SELECT refund_callback('s500-2-R1', true, 'G-after');
SELECT refund_resolve('s500-2-R1', true, 'the gateway says so');
SELECT * FROM pg_temp.story('s500');

SELECT * FROM payonce_check();
SELECT refund_callback('unheard-of', true);
\echo :LAST_ERROR_SQLSTATE
