-- An application's own triggers on the three tables fire as for any UPDATE or INSERT. They run inside
-- payonce's functions, whose search_path is pinned, so they name their tables with the schema.
\i sql/include/begin.sql

CREATE TABLE fired (n serial, what text);
CREATE FUNCTION log_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.fired (what) VALUES (format('%s %s %s row of %s: %s', TG_NAME, TG_WHEN, TG_OP, TG_TABLE_NAME,
        CASE WHEN TG_OP = 'UPDATE' AND OLD.status <> NEW.status THEN format('%s → %s', OLD.status, NEW.status)
             ELSE NEW.status::text END));
    RETURN NEW;
END
$$;
CREATE FUNCTION log_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.fired (what) VALUES (format('%s %s %s of %s', TG_NAME, TG_WHEN, TG_OP, TG_TABLE_NAME));
    RETURN NULL;
END
$$;
CREATE FUNCTION log_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.fired (what) SELECT format('%s saw %s as %s', TG_NAME, id, status) FROM changed;
    RETURN NULL;
END
$$;
CREATE TRIGGER b_row BEFORE INSERT OR UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER b_row BEFORE INSERT OR UPDATE ON t_order_pay FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER b_row BEFORE INSERT OR UPDATE ON t_refund FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER c_row AFTER INSERT OR UPDATE ON t_order FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER c_row AFTER INSERT OR UPDATE ON t_refund FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER d_of_status AFTER UPDATE OF status ON t_order FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER d_of_paid_by AFTER UPDATE OF paid_by ON t_order FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER d_of_price AFTER UPDATE OF price ON t_order FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER d_of_status AFTER UPDATE OF status ON t_order_pay FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER d_of_gateway AFTER UPDATE OF gateway ON t_order_pay FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER d_of_reserved AFTER UPDATE OF refund_reserved ON t_order_pay FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER e_statement BEFORE UPDATE ON t_order FOR EACH STATEMENT EXECUTE FUNCTION log_statement();
CREATE TRIGGER e_statement AFTER UPDATE ON t_order_pay FOR EACH STATEMENT EXECUTE FUNCTION log_statement();
CREATE TRIGGER e_statement AFTER INSERT ON t_refund FOR EACH STATEMENT EXECUTE FUNCTION log_statement();
CREATE TRIGGER f_transition AFTER UPDATE ON t_order REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION log_transition();
CREATE TRIGGER g_when AFTER UPDATE ON t_order FOR EACH ROW
    WHEN (OLD.status = 0 AND NEW.status = 100) EXECUTE FUNCTION log_row();
CREATE CONSTRAINT TRIGGER h_deferred AFTER UPDATE ON t_order DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION log_row();

INSERT INTO t_order (id, price) VALUES ('o', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('p-1', 'o', 100, 'wechat'), ('p-2', 'o', 100, 'alipay');
TRUNCATE fired;

-- A winner.
SELECT pay_callback('p-1', true, 100, 'CNY', 'T-1');
SELECT what FROM fired ORDER BY n;
TRUNCATE fired;
-- A duplicate.
SELECT pay_callback('p-2', true, 100, 'CNY', 'T-2');
SELECT what FROM fired ORDER BY n;
TRUNCATE fired;
-- Nothing to write, nothing to fire.
SELECT pay_callback('p-2', true, 100, 'CNY', 'T-2'), pay_callback('p-1', false);
SELECT what FROM fired ORDER BY n;
-- A refund's result.
SELECT refund_callback('p-2-R1', true);
SELECT what FROM fired WHERE what ~ '^(b_row|d_of_status)' ORDER BY n;

-- A trigger that changes the row is heeded.
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.note := 'stamped';
    RETURN NEW;
END
$$;
CREATE TRIGGER a_stamp BEFORE UPDATE ON t_order_pay FOR EACH ROW EXECUTE FUNCTION stamp();
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('p-3', 'o', 100, 'wechat'), ('p-4', 'o', 100, 'wechat');
SELECT pay_callback('p-3', false);
SELECT id, status, note FROM t_order_pay WHERE id = 'p-3';
DROP TRIGGER a_stamp ON t_order_pay;

-- One may call payonce itself: here the winner's trigger passes on the news of the others.
CREATE FUNCTION pass_on() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    next_payment text := 'chain-' || right(NEW.id, 1)::integer + 1;
BEGIN
    IF EXISTS (SELECT FROM public.t_order_pay WHERE id = next_payment) THEN
        PERFORM public.pay_callback(next_payment, true);
    END IF;
    RETURN NULL;
END
$$;
INSERT INTO t_order (id, price) VALUES ('chain', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway)
SELECT 'chain-' || n, 'chain', 100, 'wechat' FROM generate_series(1, 4) n;
CREATE TRIGGER z_pass_on AFTER UPDATE OF status ON t_order_pay FOR EACH ROW EXECUTE FUNCTION pass_on();
SELECT pay_callback('chain-1', true);
DROP TRIGGER z_pass_on ON t_order_pay;
SELECT * FROM pg_temp.story('chain');

-- One that refuses is passed on, with its own SQLSTATE.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'not on a Sunday' USING ERRCODE = 'SHOP2';
END
$$;
CREATE TRIGGER a_refuse BEFORE INSERT ON t_refund FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT * FROM pg_temp.attempt($$SELECT pay_callback('p-4', true)$$);
DROP TRIGGER a_refuse ON t_refund;

-- One that swallows the row must not make a silent true of the answer.
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RETURN NULL;
END
$$;
CREATE FUNCTION pg_temp.swallowed(on_table text, event text, call text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER a_swallow BEFORE %s ON %I FOR EACH ROW EXECUTE FUNCTION swallow()', event, on_table);
    RETURN QUERY SELECT regexp_replace(a.attempt, 'suppressed: .*', 'suppressed: …')
                 FROM pg_temp.attempt('SELECT ' || call) a;
    EXECUTE format('DROP TRIGGER a_swallow ON %I', on_table);
END
$$;
INSERT INTO t_order (id, price) VALUES ('o-5', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('p-5', 'o-5', 100, 'wechat');
SELECT * FROM pg_temp.swallowed('t_order', 'UPDATE', 'pay_callback(''p-5'', true)');
SELECT * FROM pg_temp.swallowed('t_order_pay', 'UPDATE', 'pay_callback(''p-5'', true)');
SELECT * FROM pg_temp.swallowed('t_refund', 'INSERT', 'pay_callback(''p-4'', true)');
SELECT * FROM pg_temp.swallowed('t_order', 'UPDATE', 'order_close(''o-5'')');
SELECT * FROM pg_temp.swallowed('t_refund', 'UPDATE', 'refund_callback(''p-2-R1'', false)');
SELECT id, status FROM t_order_pay WHERE id IN ('p-4', 'p-5') ORDER BY id;
SELECT * FROM payonce_check();

SELECT format('DROP TRIGGER %I ON %I', tgname, tgrelid::regclass) FROM pg_trigger
WHERE tgfoid IN ('log_row'::regproc, 'log_statement'::regproc, 'log_transition'::regproc) ORDER BY 1 \gexec
DROP FUNCTION log_row, log_statement, log_transition, stamp, pass_on, refuse, swallow;
DROP TABLE fired;
