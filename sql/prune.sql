-- payonce_prune: what is settled and old goes, with all that belongs to it; whatever is unsettled, in
-- attention, in doubt or young stays.
\i sql/include/begin.sql

-- An order of each kind, all of them two years old.
CREATE FUNCTION pg_temp.make(name text, payments integer DEFAULT 2) RETURNS boolean LANGUAGE sql AS $$
    INSERT INTO t_order (id, price) VALUES (name, 100);
    INSERT INTO t_order_pay (id, order_id, price, gateway)
    SELECT name || '-' || n, name, 100, 'wechat' FROM generate_series(1, payments) n;
    SELECT true;
$$;
CREATE FUNCTION pg_temp.grow_old(age interval DEFAULT '2 years') RETURNS void LANGUAGE sql AS $$
    UPDATE t_order SET created_at = created_at - age, paid_at = paid_at - age, closed_at = closed_at - age;
    UPDATE t_order_pay SET created_at = created_at - age, updated_at = updated_at - age;
    UPDATE t_refund SET created_at = created_at - age, updated_at = updated_at - age, finished_at = finished_at - age;
    UPDATE t_stray_notification SET received_at = received_at - age, handled_at = handled_at - age;
$$;
CREATE FUNCTION pg_temp.evidence(about text, age interval DEFAULT '2 years') RETURNS boolean LANGUAGE sql AS $$
    INSERT INTO t_refund_attempt (refund_no, attempt, call, gateway, started_at, verdict, applied, recorded_at)
    VALUES (about, 1, 'refund', 'wechat', now() - age, 'succeeded', true, now() - age);
    SELECT true;
$$;
CREATE TEMP VIEW kept AS
SELECT o.id, string_agg(DISTINCT p.status::text, ' ' ORDER BY p.status::text) AS payments,
       string_agg(DISTINCT r.status::text, ' ' ORDER BY r.status::text) AS refunds,
       count(DISTINCT a.ctid) AS evidence
FROM t_order o LEFT JOIN t_order_pay p ON p.order_id = o.id LEFT JOIN t_refund r ON r.payment_id = p.id
     LEFT JOIN t_refund_attempt a ON a.refund_no = r.refund_no
GROUP BY o.id ORDER BY o.id;

-- What is settled.
SELECT bool_and(pg_temp.make('go-' || name, n)) FROM (VALUES ('paid', 1), ('duplicate', 2), ('failed', 2), ('closed', 1),
    ('late', 1), ('bare', 0), ('part', 1), ('whole', 1), ('cancelled', 1)) v (name, n);
SELECT pay_callback('go-paid-1', true), pay_callback('go-duplicate-1', true), pay_callback('go-duplicate-2', true),
       refund_callback('go-duplicate-2-R1', true), pay_callback('go-failed-1', true), pay_callback('go-failed-2', false),
       pay_callback('go-closed-1', false), order_close('go-closed'), order_close('go-late'), order_close('go-bare'),
       pay_callback('go-late-1', true), refund_callback('go-late-1-R1', true), pay_callback('go-part-1', true),
       pay_callback('go-whole-1', true), pay_callback('go-cancelled-1', true) \gset
SELECT refund_callback(refund_request('go-part-1', 40, 'one'), true),
       refund_callback(refund_request('go-whole-1', 100, 'all'), true) \gset
SELECT refund_request('go-cancelled-1', 100, 'none') AS cancelled \gset
SELECT refund_callback(:'cancelled', false), refund_resolve(:'cancelled', false, 'kept') \gset
SELECT bool_and(pg_temp.evidence(refund_no)) FROM t_refund WHERE status = 300;
-- What is not.
SELECT bool_and(pg_temp.make('stay-' || name)) FROM unnest(ARRAY['unpaid', 'paying', 'queued', 'refund-attention', 'mismatch',
    'conflict', 'leased', 'reserved', 'other-winner', 'no-winner', 'closed-won', 'stray', 'young-payment', 'young-refund',
    'young-evidence', 'young-paid', 'young-closed', 'young']) name;
SELECT bool_and(pay_callback('stay-' || name || '-1', true) AND pay_callback('stay-' || name || '-2', false))
FROM unnest(ARRAY['mismatch', 'conflict', 'other-winner', 'no-winner', 'closed-won', 'stray', 'young-payment',
                  'young-paid', 'young']) name;
SELECT bool_and(pay_callback('stay-' || name || '-1', true) AND pay_callback('stay-' || name || '-2', true))
FROM unnest(ARRAY['queued', 'refund-attention', 'leased', 'reserved', 'young-refund', 'young-evidence']) name;
SELECT bool_and(refund_callback('stay-' || name || '-2-R1', true))
FROM unnest(ARRAY['leased', 'reserved', 'young-refund', 'young-evidence']) name;
SELECT pay_callback('stay-paying-1', true), refund_callback('stay-refund-attention-2-R1', false),
       pay_callback('stay-mismatch-2', true, 99), pay_callback('stay-conflict-1', true, NULL, NULL, 'T-1'),
       pay_callback('stay-conflict-1', true, NULL, NULL, 'T-2'), pay_callback('stay-young-closed-1', false),
       pay_callback('stay-young-closed-2', false), order_close('stay-young-closed') \gset
INSERT INTO t_stray_notification (gateway, number, body) VALUES ('wechat', 'stay-stray-2', 'open');
INSERT INTO t_stray_notification (gateway, number, body, handled_at)
VALUES ('wechat', 'go-paid-1', 'old', now()), ('wechat', 'nobody', 'old, too', now());
SELECT pg_temp.grow_old();
UPDATE t_refund SET lease_owner = 1 WHERE payment_id = 'stay-leased-2';
UPDATE t_order_pay SET updated_at = now() - interval '1 month' WHERE id = 'stay-young-payment-2';
UPDATE t_refund SET updated_at = now() - interval '1 month' WHERE payment_id = 'stay-young-refund-2';
SELECT pg_temp.evidence('stay-young-evidence-2-R1', '1 month');
UPDATE t_order SET paid_at = now() - interval '1 month' WHERE id = 'stay-young-paid';
UPDATE t_order SET closed_at = now() - interval '1 month' WHERE id = 'stay-young-closed';
UPDATE t_order SET created_at = now() - interval '1 month' WHERE id = 'stay-young';
INSERT INTO t_stray_notification (gateway, number, body, handled_at) VALUES ('wechat', 'young', 'handled', now());
-- Orders in doubt, which only somebody can make who switches the triggers off.
BEGIN;
SET LOCAL session_replication_role = replica;
UPDATE t_order_pay SET refund_reserved = 99 WHERE id = 'stay-reserved-2';
UPDATE t_order SET paid_by = 'stay-other-winner-2' WHERE id = 'stay-other-winner';
UPDATE t_order SET paid_by = NULL WHERE id = 'stay-no-winner';
UPDATE t_order SET status = 400 WHERE id = 'stay-closed-won';
COMMIT;
SELECT kind, id FROM payonce_check() ORDER BY 1, 2;

SELECT payonce_prune('3 years') AS none_is_so_old;
SELECT payonce_prune('18 months', 4) AS first_four, payonce_prune('18 months', 4) AS next_four;
SELECT payonce_prune('18 months') AS what_is_left, payonce_prune('18 months') AS nothing_is_left;
SELECT * FROM kept;
SELECT refund_no FROM t_refund_attempt ORDER BY 1;
SELECT number, handled_at IS NOT NULL AS handled FROM t_stray_notification ORDER BY 1;

-- What comes in about what is gone is an error, or kept: never a silent true.
SELECT pay_callback('go-paid-1', true);
\echo :LAST_ERROR_SQLSTATE
SELECT refund_callback('go-duplicate-2-R1', false);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM pay_callback_batch('{go-paid-1,stay-unpaid-1}', '{t,f}');

-- What is refused.
SELECT pg_temp.attempt(
    'SELECT payonce_prune(NULL)', 'SELECT payonce_prune(''1 year'', NULL)', 'SELECT payonce_prune(''-1 year'')',
    'SELECT payonce_prune(''0'')', 'SELECT payonce_prune(''363 days'')', 'SELECT payonce_prune(''1 year'')',
    'SELECT payonce_prune(''1 year'', 0)', 'SELECT payonce_prune(''1 year'', -1)',
    'SELECT payonce_prune(''1 year'', 10001)', 'SELECT payonce_prune(''9999999 years'')',
    'SET LOCAL transaction_read_only = on; SELECT payonce_prune(''1 year'')');
-- Evidence is as append-only as before.
SELECT pg_temp.attempt('DELETE FROM t_refund_attempt', 'TRUNCATE t_refund_attempt');

-- Triggers of the application see what goes, and may refuse it: then nothing goes.
SELECT bool_and(pg_temp.make('shop-' || n, 1)) FROM generate_series(1, 2) n;
SELECT pay_callback('shop-1-1', true), pay_callback('shop-2-1', true),
       refund_callback(refund_request('shop-2-1', 40, 'part'), true) \gset
SELECT pg_temp.grow_old();
CREATE TABLE archive (id text);
CREATE FUNCTION pg_temp.archive() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.archive SELECT id FROM gone;
    RETURN NULL;
END
$$;
CREATE TRIGGER archive AFTER DELETE ON t_order REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.archive();
CREATE FUNCTION pg_temp.suppress() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER suppress BEFORE DELETE ON t_order FOR EACH ROW WHEN (OLD.id = 'shop-2')
EXECUTE FUNCTION pg_temp.suppress();
\set VERBOSITY terse
SELECT payonce_prune('18 months');
\echo :LAST_ERROR_SQLSTATE
SELECT id FROM t_order WHERE id LIKE 'shop%' ORDER BY 1;
SELECT pg_temp.attempt('DELETE FROM t_refund_attempt');
DROP TRIGGER suppress ON t_order;
BEGIN;
SELECT payonce_prune('18 months');
ROLLBACK;
SELECT payonce_prune('18 months');
SELECT * FROM archive ORDER BY 1;
DROP TABLE archive;

UPDATE t_order SET status = 100, paid_by = 'stay-closed-won-1' WHERE id = 'stay-closed-won';
UPDATE t_order SET paid_by = 'stay-other-winner-1' WHERE id = 'stay-other-winner';
UPDATE t_order SET paid_by = 'stay-no-winner-1' WHERE id = 'stay-no-winner';
UPDATE t_order_pay SET refund_reserved = 100 WHERE id = 'stay-reserved-2';
SELECT * FROM payonce_check();
DROP VIEW kept;
