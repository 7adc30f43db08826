-- payonce_check: every broken invariant, each brought about by a superuser who switches the guards off.
\i sql/include/begin.sql

INSERT INTO t_order (id, price) VALUES ('o', 100), ('late', 100), ('open', 100), ('part', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    ('o-1', 'o', 100, 'wechat'), ('o-2', 'o', 100, 'alipay'), ('o-3', 'o', 100, 'alipay'), ('o-4', 'o', 100, 'alipay'),
    ('late-1', 'late', 100, 'wechat'), ('open-1', 'open', 100, 'wechat'), ('open-2', 'open', 100, 'wechat'),
    ('part-1', 'part', 100, 'wechat');
SELECT pay_callback_outcome('o-1', true) AS winner, pay_callback_outcome('o-2', true) AS refunding,
       pay_callback_outcome('o-3', true) AS refunded, pay_callback_outcome('o-4', false) AS failed,
       order_close('late') AS closed, pay_callback_outcome('late-1', true) AS late,
       pay_callback_outcome('open-2', true, 90) AS attention, pay_callback_outcome('part-1', true) AS partly;
SELECT refund_callback('o-3-R1', true), refund_request('part-1', 30, 'a part') IS NOT NULL AS requested;
-- In every state that payonce itself makes, all is well.
SELECT * FROM payonce_check();

CREATE FUNCTION pg_temp.broken(VARIADIC statements text[]) RETURNS TABLE (broken text) LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOREACH statement IN ARRAY statements LOOP
        broken := statement;
        RETURN NEXT;
        EXECUTE statement;
    END LOOP;
    SET LOCAL session_replication_role = origin;
    RETURN QUERY SELECT format('    %s %s: %s', c.kind, c.id, c.detail)
                 FROM payonce_check() c ORDER BY c.kind, c.id, c.detail;
END
$$;
\pset format unaligned
\pset tuples_only on
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order SET paid_by = NULL WHERE id = 'o'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order SET paid_by = 'nobody' WHERE id = 'o'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order SET paid_by = 'part-1' WHERE id = 'o'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order_pay SET status = 400 WHERE id = 'o-1'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order SET status = 0 WHERE id = 'o'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order SET paid_by = 'late-1' WHERE id = 'late'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order_pay SET status = 100 WHERE id = 'open-1'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$DROP INDEX t_order_pay_one_winner$$,
                                    $$UPDATE t_order_pay SET status = 100 WHERE id = 'o-4'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order_pay SET refund_reserved = 0 WHERE id = 'o-2'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_refund SET amount = 40 WHERE payment_id = 'part-1'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_refund SET amount = 101 WHERE refund_no = 'o-2-R1'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order_pay SET status = 0 WHERE id = 'late-1'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order_pay SET status = 400 WHERE id = 'late-1'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order_pay SET status = 400 WHERE id = 'open-2'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order_pay SET status = 200 WHERE id = 'open-2'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order_pay SET status = 300 WHERE id = 'o-2'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order_pay SET status = 200 WHERE id = 'o-3'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_order_pay SET status = 200 WHERE id = 'part-1'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$DELETE FROM t_refund WHERE refund_no = 'o-3-R1'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_refund SET status = 400 WHERE refund_no = 'o-2-R1'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$UPDATE t_refund SET status = 100 WHERE refund_no = 'o-2-R1'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$DELETE FROM t_order WHERE id = 'late'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$DELETE FROM t_order_pay WHERE id = 'late-1'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$ALTER TABLE t_order DROP CONSTRAINT t_order_status_known$$,
                                    $$UPDATE t_order SET status = 200 WHERE id = 'open'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$ALTER TABLE t_order_pay DROP CONSTRAINT t_order_pay_status_known$$,
                                    $$UPDATE t_order_pay SET status = 50 WHERE id = 'open-1'$$); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.broken($$ALTER TABLE t_refund DROP CONSTRAINT t_refund_status_known$$,
                                    $$UPDATE t_refund SET status = 250 WHERE refund_no = 'o-2-R1'$$); ROLLBACK;
\pset format aligned
\pset tuples_only off

-- As hand-written SQL can do without any such power: what is cancelled behind payonce's back is seen.
BEGIN;
UPDATE t_refund SET status = 400 WHERE refund_no = 'o-2-R1';
SELECT * FROM payonce_check();
ROLLBACK;
SELECT * FROM payonce_check();
