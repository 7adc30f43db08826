-- Everything in one statement, so with one snapshot, which is older than the lock's grant: what is
-- to be written is read again by FOR NO KEY UPDATE, which goes on to the newest version of a row. A
-- payment that has succeeded never leaves those statuses, so for it the snapshot is good enough.
WITH seen AS MATERIALIZED (
    SELECT order_id,
           CASE WHEN {success} THEN status IN (0, 400)
                    OR ({transaction_id} IS NOT NULL AND transaction_id IS DISTINCT FROM {transaction_id})
                ELSE status = 0 END AS matters
    FROM t_order_pay WHERE id = {id}
), granted AS MATERIALIZED (
    SELECT order_id, matters, pg_advisory_xact_lock(order_lock_key(order_id)) FROM seen
), the_order AS MATERIALIZED (
    SELECT o.id, o.status, o.price, o.currency
    FROM granted g JOIN t_order o ON o.id = g.order_id
    WHERE g.matters
    FOR NO KEY UPDATE OF o
), payment AS MATERIALIZED (
    SELECT p.id, p.order_id, p.status, p.price, p.currency, p.transaction_id, p.attention, p.gateway,
           p.created_at, o.status AS o_status, o.price AS o_price, o.currency AS o_currency
    FROM the_order o JOIN t_order_pay p ON p.id = {id} AND p.order_id = o.id
    FOR NO KEY UPDATE OF p
), decision AS MATERIALIZED (
    SELECT *,
           CASE WHEN status NOT IN (0, 400) THEN
                    CASE WHEN NOT {success} OR {transaction_id} IS NULL
                              OR transaction_id = {transaction_id} THEN 'already_processed'
                         WHEN transaction_id IS NULL THEN 'filled'
                         ELSE 'conflict' END
                WHEN NOT {success} THEN CASE WHEN status = 0 THEN 'failed' ELSE 'already_processed' END
                WHEN {amount} <> price OR {currency} <> currency THEN 'mismatch'
                WHEN o_status = 100 THEN 'duplicate'
                WHEN o_status = 400 THEN 'late'
                WHEN price <> o_price OR currency <> o_currency THEN 'mismatch'
                ELSE 'paid' END AS outcome
    FROM payment
), order_paid AS (
    UPDATE t_order o SET status = 100, paid_by = d.id, paid_at = now()
    FROM decision d
    WHERE o.id = d.order_id AND d.outcome = 'paid'
), payment_written AS (
    UPDATE t_order_pay p
    SET status = CASE d.outcome WHEN 'paid' THEN 100 WHEN 'duplicate' THEN 200 WHEN 'late' THEN 200
                     WHEN 'mismatch' THEN 500 WHEN 'failed' THEN 400 ELSE d.status END,
        transaction_id = CASE WHEN d.outcome IN ('failed', 'conflict') THEN p.transaction_id
                              ELSE coalesce({transaction_id}, p.transaction_id) END,
        paid_amount = CASE WHEN d.outcome IN ('failed', 'conflict', 'filled') THEN p.paid_amount
                           ELSE coalesce({amount}, p.paid_amount) END,
        paid_currency = CASE WHEN d.outcome IN ('failed', 'conflict', 'filled') THEN p.paid_currency
                             ELSE coalesce({currency}, p.paid_currency) END,
        attention = CASE
            WHEN d.outcome NOT IN ('mismatch', 'conflict') THEN d.attention
            WHEN d.outcome = 'conflict' THEN CASE
                WHEN format('conflict: paid as transaction %s and again as %s', d.transaction_id,
                            {transaction_id}) = ANY (string_to_array(d.attention, '; ')) THEN d.attention
                ELSE concat_ws('; ', d.attention,
                               format('conflict: paid as transaction %s and again as %s',
                                      d.transaction_id, {transaction_id})) END
            ELSE concat_ws('; ', d.attention, CASE
                WHEN {amount} IS NULL AND {currency} <> d.currency
                THEN format('mismatch: money in %s arrived, %s %s was asked for', {currency}, d.price,
                            d.currency)
                WHEN {amount} <> d.price OR {currency} <> d.currency
                THEN format('mismatch: %s %s arrived, %s %s was asked for', {amount},
                            coalesce({currency}, d.currency), d.price, d.currency)
                ELSE format('mismatch: the payment is of %s %s, its order of %s %s', d.price,
                            d.currency, d.o_price, d.o_currency) END) END,
        updated_at = now()
    FROM decision d
    WHERE p.id = d.id AND d.outcome <> 'already_processed'
), refund AS (
    INSERT INTO t_refund (refund_no, payment_id, amount, reason, gateway, window_from)
    SELECT id || '-R1', id, coalesce({amount}, price), outcome, gateway, created_at
    FROM decision WHERE outcome IN ('duplicate', 'late')
)
SELECT CASE WHEN d.outcome IS NULL OR d.outcome = 'filled' THEN 'already_processed'
            ELSE d.outcome END AS outcome
FROM granted LEFT JOIN decision d ON true{record}
