\set ECHO none
-- Every file of the suite begins with this one: empty tables, gateways that a worker, if the server
-- has one, leaves alone, and two helpers that print what the tables and the errors say.
DO $$
BEGIN
    IF current_database() !~ 'regress' THEN
        RAISE WARNING 'these tests delete all orders: nothing will be written here, use make installcheck';
        SET default_transaction_read_only = on;
    END IF;
END
$$;
SET client_min_messages = warning;
SET payonce.late_payment = 'refund';
DELETE FROM t_refund;
DELETE FROM t_order_pay;
DELETE FROM t_order;
DELETE FROM t_stray_notification;
DROP SERVER IF EXISTS wechat CASCADE;
DROP SERVER IF EXISTS alipay CASCADE;
CREATE SERVER wechat FOREIGN DATA WRAPPER payonce_http
    OPTIONS (url 'https://wechat.example', paused 'true');
CREATE SERVER alipay FOREIGN DATA WRAPPER payonce_http
    OPTIONS (url 'https://alipay.example', paused 'true');

-- An order with all that belongs to it. A requested refund's number is random, so it is masked.
CREATE FUNCTION pg_temp.story(about text) RETURNS TABLE (what text, id text, status text, notes text)
LANGUAGE sql AS $$
    SELECT 'order', o.id,
           CASE o.status WHEN 0 THEN '0 unpaid' WHEN 100 THEN '100 paid' WHEN 400 THEN '400 closed' END,
           nullif(concat_ws(', ', 'paid by ' || o.paid_by,
                     CASE WHEN o.paid_at IS NOT NULL THEN 'paid_at' END,
                     CASE WHEN o.closed_at IS NOT NULL THEN 'closed_at' END), '')
    FROM t_order o WHERE o.id = about
    UNION ALL
    (SELECT 'payment', p.id,
            CASE p.status WHEN 0 THEN '0 paying' WHEN 100 THEN '100 paid' WHEN 200 THEN '200 refunding'
                 WHEN 300 THEN '300 refunded' WHEN 400 THEN '400 failed' WHEN 500 THEN '500 attention' END,
            nullif(concat_ws(', ', 'transaction ' || p.transaction_id,
                      'arrived ' || nullif(concat_ws(' ', p.paid_amount, p.paid_currency), ''),
                      'refunds ' || nullif(p.refund_reserved, 0),
                      '"' || regexp_replace(p.attention, '-Q[0-9a-z]{6}', '-Q......', 'g') || '"',
                      'note: ' || p.note), '')
     FROM t_order_pay p WHERE p.order_id = about ORDER BY p.id)
    UNION ALL
    (SELECT 'refund', regexp_replace(r.refund_no, '-Q[0-9a-z]{6}$', '-Q......'),
            CASE r.status WHEN 0 THEN '0 queued' WHEN 100 THEN '100 sending' WHEN 150 THEN '150 unconfirmed'
                 WHEN 200 THEN '200 processing' WHEN 300 THEN '300 refunded' WHEN 400 THEN '400 cancelled'
                 WHEN 500 THEN '500 attention' END,
            concat_ws(', ', r.amount || ' by ' || r.gateway, r.reason,
                      'gateway''s ' || r.gateway_refund_id,
                      CASE WHEN r.ask_first THEN 'ask first' END,
                      CASE WHEN r.number_dead THEN 'number dead' END,
                      'superseded by ' || regexp_replace(r.superseded_by, '-Q[0-9a-z]{6}$', '-Q......'),
                      '"' || r.last_error || '"', 'note: ' || r.note,
                      CASE WHEN r.finished_at IS NOT NULL THEN 'finished' END)
     FROM t_refund r JOIN t_order_pay p ON p.id = r.payment_id
     WHERE p.order_id = about ORDER BY p.id, r.created_at, r.amount, r.refund_no)
$$;

-- Runs each statement in a subtransaction and says how it ended. PostgreSQL's own detail of a failing
-- row is left out: it has times in it.
CREATE FUNCTION pg_temp.attempt(VARIADIC statements text[]) RETURNS TABLE (attempt text)
LANGUAGE plpgsql AS $$
DECLARE
    statement text;
    message text;
    detail text;
    hint text;
BEGIN
    FOREACH statement IN ARRAY statements LOOP
        attempt := regexp_replace(statement, '\s+', ' ', 'g');
        RETURN NEXT;
        BEGIN
            EXECUTE statement;
            attempt := '    done';
            RETURN NEXT;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
                hint = PG_EXCEPTION_HINT;
            RETURN QUERY SELECT '    ' || line FROM unnest(ARRAY[SQLSTATE || ' ' || message, detail, hint]) line
                WHERE line <> '' AND line NOT LIKE 'Failing row contains%';
        END;
    END LOOP;
END
$$;
\set ECHO all
