-- The application decides: every statement is a round trip. pgbench cannot compare texts, so those
-- comparisons that a program would make by itself are columns of what it reads. Like the twin in
-- plpgsql it guards its writes by what it has read; a write of no row ends it with an error.
BEGIN;
SELECT order_id AS the_order FROM t_order_pay WHERE id = {id} \gset
SELECT pg_advisory_xact_lock(order_lock_key(:the_order));
SELECT status AS o_status, price AS o_price, currency AS o_currency
FROM t_order WHERE id = :the_order \gset
SELECT status AS p_status, price AS p_price, currency AS p_currency, gateway AS p_gateway,
       created_at AS p_created_at,
       coalesce({amount} <> price OR {currency} <> currency, false) AS differs,
       price <> :o_price OR currency <> :o_currency AS is_of_other_order,
       coalesce(transaction_id <> {transaction_id}, false) AS conflicts,
       {transaction_id} IS NOT NULL AND transaction_id IS NULL AS fills
FROM t_order_pay WHERE id = {id} \gset
\set outcome 1
\if {success} and :p_status <> 0 and :p_status <> 400
\if :conflicts
\set outcome 2
UPDATE t_order_pay
SET attention = CASE
        WHEN format('conflict: paid as transaction %s and again as %s', transaction_id,
                    {transaction_id}) = ANY (string_to_array(attention, '; ')) THEN attention
        ELSE concat_ws('; ', attention,
                       format('conflict: paid as transaction %s and again as %s', transaction_id,
                              {transaction_id})) END,
    updated_at = now()
WHERE id = {id} AND status = :p_status RETURNING 1 AS written \gset
\elif :fills
UPDATE t_order_pay SET transaction_id = {transaction_id}, updated_at = now()
WHERE id = {id} AND status = :p_status AND transaction_id IS NULL RETURNING 1 AS written \gset
\endif
\elif not {success} and :p_status = 0
\set outcome 3
UPDATE t_order_pay SET status = 400, updated_at = now()
WHERE id = {id} AND status = 0 RETURNING 1 AS written \gset
\elif {success} and :differs
\set outcome 4
UPDATE t_order_pay
SET status = 500, transaction_id = coalesce({transaction_id}, transaction_id),
    paid_amount = coalesce({amount}, paid_amount),
    paid_currency = coalesce({currency}, paid_currency),
    attention = concat_ws('; ', attention, CASE
        WHEN {amount} IS NULL
        THEN format('mismatch: money in %s arrived, %s %s was asked for', {currency}, price, currency)
        ELSE format('mismatch: %s %s arrived, %s %s was asked for', {amount},
                    coalesce({currency}, currency), price, currency) END),
    updated_at = now()
WHERE id = {id} AND status = :p_status AND price = :p_price AND currency = :p_currency
RETURNING 1 AS written \gset
\elif {success} and :o_status <> 0
\set outcome case when :o_status = 100 then 5 else 6 end
UPDATE t_order_pay
SET status = 200, transaction_id = coalesce({transaction_id}, transaction_id),
    paid_amount = coalesce({amount}, paid_amount),
    paid_currency = coalesce({currency}, paid_currency), updated_at = now()
WHERE id = {id} AND status = :p_status AND price = :p_price AND currency = :p_currency
RETURNING 1 AS written \gset
INSERT INTO t_refund (refund_no, payment_id, amount, reason, gateway, window_from)
VALUES ({id} || '-R1', {id}, coalesce({amount}, :p_price),
        CASE :outcome::integer WHEN 5 THEN 'duplicate' ELSE 'late' END, :p_gateway, :p_created_at);
\elif {success} and :is_of_other_order
\set outcome 4
UPDATE t_order_pay
SET status = 500, transaction_id = coalesce({transaction_id}, transaction_id),
    paid_amount = coalesce({amount}, paid_amount),
    paid_currency = coalesce({currency}, paid_currency),
    attention = concat_ws('; ', attention,
        format('mismatch: the payment is of %s %s, its order of %s %s', price, currency,
               :o_price::bigint, :o_currency::text)),
    updated_at = now()
WHERE id = {id} AND status = :p_status AND price = :p_price AND currency = :p_currency
RETURNING 1 AS written \gset
\elif {success}
\set outcome 7
UPDATE t_order SET status = 100, paid_by = {id}, paid_at = now()
WHERE id = :the_order AND status = 0 AND price = :o_price AND currency = :o_currency
RETURNING 1 AS written \gset
UPDATE t_order_pay
SET status = 100, transaction_id = coalesce({transaction_id}, transaction_id),
    paid_amount = coalesce({amount}, paid_amount),
    paid_currency = coalesce({currency}, paid_currency), updated_at = now()
WHERE id = {id} AND status = :p_status AND price = :p_price AND currency = :p_currency
RETURNING 1 AS written \gset
\endif
COMMIT;
{record}
