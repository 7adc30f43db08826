-- wrk's request: the one that payonce's generic driver sends.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json"
wrk.headers["Idempotency-Key"] = "bench-1-R1"
wrk.body = '{"amount":3200,"currency":"CNY","order_id":"bench","payment_id":"bench-1",' ..
    '"reason":"duplicate","refund_no":"bench-1-R1","transaction_id":null}'
