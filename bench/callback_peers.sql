-- What the peers of pay_callback need in a database that has payonce: see peers/ and README.md. They
-- decide on payonce's own tables, with its constraints, indexes and triggers, and under the same
-- advisory lock, so that what decides is all that differs. The policy for late payments is the
-- default one.
CREATE SCHEMA bench;

-- Where an equality check writes down what was decided.
CREATE TABLE bench.outcome (outcome text);

-- The twin in plpgsql. It reads plainly after the lock and guards its writes by what it has read,
-- which costs less than SELECT ... FOR UPDATE and refuses what hand-written SQL did meanwhile.
CREATE FUNCTION bench.pay_callback(
    payment_id text, success boolean, amount bigint = NULL, currency_paid text = NULL,
    transaction_no text = NULL) RETURNS text
    LANGUAGE plpgsql
AS $$
DECLARE
    the_order text;
    o_status integer;
    o_price bigint;
    o_currency text;
    p_status integer;
    p_price bigint;
    p_currency text;
    p_transaction text;
    p_attention text;
    p_gateway text;
    p_created_at timestamptz;
    new_status integer;
    words text;
    outcome text;
BEGIN
    SELECT order_id INTO the_order FROM t_order_pay WHERE id = payment_id;
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = 'unknown payment';
    END IF;
    PERFORM pg_advisory_xact_lock(order_lock_key(the_order));
    SELECT o.status, o.price, o.currency, p.status, p.price, p.currency, p.transaction_id,
           p.attention, p.gateway, p.created_at
    INTO o_status, o_price, o_currency, p_status, p_price, p_currency, p_transaction,
         p_attention, p_gateway, p_created_at
    FROM t_order_pay p JOIN t_order o ON o.id = p.order_id
    WHERE p.id = payment_id AND o.id = the_order;

    outcome := 'already_processed';
    new_status := p_status;
    IF p_status NOT IN (0, 400) THEN
        IF NOT success OR transaction_no IS NULL OR transaction_no = p_transaction THEN
            RETURN outcome;
        ELSIF p_transaction IS NOT NULL THEN
            outcome := 'conflict';
            words := format('conflict: paid as transaction %s and again as %s', p_transaction,
                            transaction_no);
        END IF;
        amount := NULL;
        currency_paid := NULL;
        transaction_no := coalesce(p_transaction, transaction_no);
    ELSIF NOT success THEN
        IF p_status = 400 THEN
            RETURN outcome;
        END IF;
        outcome := 'failed';
        new_status := 400;
        amount := NULL;
        currency_paid := NULL;
        transaction_no := NULL;
    ELSIF amount <> p_price OR currency_paid <> p_currency THEN
        outcome := 'mismatch';
        new_status := 500;
        words := CASE WHEN amount IS NULL
            THEN format('mismatch: money in %s arrived, %s %s was asked for', currency_paid,
                        p_price, p_currency)
            ELSE format('mismatch: %s %s arrived, %s %s was asked for', amount,
                        coalesce(currency_paid, p_currency), p_price, p_currency) END;
    ELSIF o_status = 100 THEN
        outcome := 'duplicate';
        new_status := 200;
    ELSIF o_status = 400 THEN
        outcome := 'late';
        new_status := 200;
    ELSIF p_price <> o_price OR p_currency <> o_currency THEN
        outcome := 'mismatch';
        new_status := 500;
        words := format('mismatch: the payment is of %s %s, its order of %s %s', p_price,
                        p_currency, o_price, o_currency);
    ELSE
        outcome := 'paid';
        new_status := 100;
        UPDATE t_order SET status = 100, paid_by = payment_id, paid_at = now()
        WHERE id = the_order AND status = 0 AND price = o_price AND currency = o_currency;
        IF NOT FOUND THEN
            RAISE serialization_failure;
        END IF;
    END IF;

    UPDATE t_order_pay
    SET status = new_status, transaction_id = coalesce(transaction_no, transaction_id),
        paid_amount = coalesce(amount, paid_amount),
        paid_currency = coalesce(currency_paid, paid_currency),
        attention = CASE WHEN words IS NULL OR words = ANY (string_to_array(attention, '; '))
                         THEN attention ELSE concat_ws('; ', attention, words) END,
        updated_at = now()
    WHERE id = payment_id AND status = p_status AND price = p_price AND currency = p_currency
      AND attention IS NOT DISTINCT FROM p_attention;
    IF NOT FOUND THEN
        RAISE serialization_failure;
    END IF;
    IF new_status = 200 AND p_status IN (0, 400) THEN
        INSERT INTO t_refund (refund_no, payment_id, amount, reason, gateway, window_from)
        VALUES (payment_id || '-R1', payment_id, coalesce(amount, p_price), outcome, p_gateway,
                p_created_at);
    END IF;
    RETURN outcome;
END
$$;
