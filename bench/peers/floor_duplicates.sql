-- Not a peer but the floor: the row update and the insertion of a duplicate, nothing around them.
WITH refunding AS (
    UPDATE t_order_pay
    SET status = 200, transaction_id = {transaction_id}, paid_amount = {amount},
        paid_currency = {currency}, updated_at = now()
    WHERE id = {id}
)
INSERT INTO t_refund (refund_no, payment_id, amount, reason, gateway, window_from)
VALUES ({id} || '-R1', {id}, {amount}, 'duplicate', 'manual', now());
