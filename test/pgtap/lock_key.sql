-- order_lock_key: applications take the same lock, and during an update two versions of the library
-- run side by side. So the key of an order must never change.
BEGIN;
SET LOCAL client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS payonce;
-- Wherever the two are installed.
SELECT set_config('search_path', string_agg(DISTINCT quote_ident(n.nspname), ', '), true) AS path
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname IN ('pgtap', 'payonce') \gset
SELECT plan(10);

SELECT is(order_lock_key('order-1'), 3207994479703783604, 'the key of order-1');
SELECT is(order_lock_key('order-2'), order_lock_key('order-' || 2), 'the same id, the same key');
SELECT is(order_lock_key('order-1'), hashtextextended('order-1', x'7061796f6e6365'::bigint),
          'it is PostgreSQL''s own hash of the id, with a seed that says payonce');
SELECT is(order_lock_key(''), -7556420988895060899, 'any text has one');
SELECT isnt(order_lock_key('order-1'), hashtextextended('order-1', 0),
            'who hashes ids without the seed does not meet payonce');
SELECT isnt(order_lock_key('order-1'), order_lock_key('Order-1'), 'case counts');
SELECT isnt(order_lock_key('order-1'), order_lock_key('order-1 '), 'blanks count');
SELECT is(count(DISTINCT order_lock_key('order-' || n)), 100000::bigint, '100,000 orders have 100,000 keys')
FROM generate_series(1, 100000) n;
SELECT throws_ok('SELECT order_lock_key(NULL)', '22004', 'order_id must not be null', 'NULL has none');

-- It is the key that is in fact taken.
INSERT INTO t_order (id, price) VALUES ('tap-lock', 1);
INSERT INTO t_order_pay (id, order_id, price) VALUES ('tap-lock-1', 'tap-lock', 1);
SELECT pay_callback('tap-lock-1', true) AS done \gset
SELECT is(count(*), 1::bigint, 'pay_callback holds it until the transaction ends') FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND pid = pg_backend_pid() AND mode = 'ExclusiveLock' AND granted
  AND (classid::bigint << 32 | objid::bigint) = order_lock_key('tap-lock');

SELECT * FROM finish();
ROLLBACK;
