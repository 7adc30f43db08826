-- Not a peer but the floor: the two row updates of a first payment and nothing around them.
WITH paid AS (
    UPDATE t_order SET status = 100, paid_by = {id}, paid_at = now() WHERE id = {id}
)
UPDATE t_order_pay
SET status = 100, transaction_id = {transaction_id}, paid_amount = {amount},
    paid_currency = {currency}, updated_at = now()
WHERE id = {id};
