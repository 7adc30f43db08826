\set id :base + :client_id * :share + :n
\set n :n + :size
SELECT * FROM pay_callback_batch(
    ARRAY(SELECT (:id::bigint + i)::text FROM generate_series(0, :size::integer - 1) i),
    array_fill(true, ARRAY[:size::integer]));
