\set id :base + :client_id * :share + :n
\set n :n + :size
SELECT bench.pay_callback((:id::bigint + i)::text, true) FROM generate_series(0, :size::integer - 1) i;
