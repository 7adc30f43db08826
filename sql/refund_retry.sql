-- refund_retry: a refund in attention again, under the number that can still succeed.
\i sql/include/begin.sql

INSERT INTO t_order (id, price) VALUES ('o', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('winner', 'o', 100, 'wechat'), ('same', 'o', 100, 'wechat'), ('dead', 'o', 100, 'alipay');
SELECT pay_callback_outcome('winner', true) AS winner, pay_callback_outcome('same', true) AS same,
       pay_callback_outcome('dead', true) AS dead;

-- Only what is in attention.
SELECT * FROM pg_temp.attempt($$SELECT refund_retry('same-R1')$$);
SELECT * FROM pg_temp.attempt($$SELECT refund_retry('unheard-of')$$);

-- Failed for a reason that says nothing about the number: the same number again. It was sent
-- before, so the gateway is asked first.
UPDATE t_refund SET attempts = 1, failed_attempts = 1, retry_since = now() - interval '8 days'
WHERE refund_no = 'same-R1';
SELECT refund_callback('same-R1', false);
SELECT * FROM pg_temp.story('o');
SELECT refund_retry('same-R1');
SELECT * FROM pg_temp.story('o');
-- The time for retries begins anew, and it is due at once.
SELECT attempts, failed_attempts, retry_since, next_attempt_at = updated_at AS due, lease_owner
FROM t_refund WHERE refund_no = 'same-R1';
SELECT * FROM pg_temp.attempt($$SELECT refund_retry('same-R1')$$);

-- Never sent: nothing to ask about.
SELECT refund_callback('dead-R1', false);
SELECT refund_retry('dead-R1');
SELECT refund_no, status, ask_first FROM t_refund WHERE refund_no = 'dead-R1';

-- The gateway declared the number dead: the next generation takes its place.
SELECT refund_callback('dead-R1', false);
UPDATE t_refund SET number_dead = true, attempts = 3 WHERE refund_no = 'dead-R1';
SELECT refund_retry('dead-R1');
SELECT * FROM pg_temp.story('o');
SELECT * FROM pg_temp.attempt($$SELECT refund_retry('dead-R1')$$);
SELECT refund_callback('dead-R2', false);
UPDATE t_refund SET number_dead = true WHERE refund_no = 'dead-R2';
SELECT refund_retry('dead-R2');
SELECT refund_callback('dead-R3', true, 'G-3');
SELECT * FROM pg_temp.story('o');

-- A requested refund gets another random number; the note stays with the old row.
SELECT refund_request('winner', 30, 'scratched') AS requested \gset
SELECT refund_callback(:'requested', false);
SELECT * FROM pg_temp.story('o');
UPDATE t_refund SET number_dead = true WHERE refund_no = :'requested';
SELECT refund_retry(:'requested') AS again \gset
SELECT :'again' ~ '^winner-Q[0-9a-z]{6}$' AS form, :'again' <> :'requested' AS another;
SELECT status, reason, note, amount, superseded_by = :'again' AS superseded
FROM t_refund WHERE payment_id = 'winner' ORDER BY status;
SELECT * FROM pg_temp.story('o');

-- One number is settled and one is cancelled for good.
SELECT * FROM pg_temp.attempt($$SELECT refund_retry('dead-R3')$$);
SELECT * FROM payonce_check();

SELECT refund_retry('same-R1');
\echo :LAST_ERROR_SQLSTATE
