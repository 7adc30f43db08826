-- What is wrong is said so, with its SQLSTATE, and nothing is recorded: never a silent true.
\i sql/include/begin.sql

INSERT INTO t_order (id, price) VALUES ('o', 100);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('p', 'o', 100, 'wechat'), ('q', 'o', 100, 'wechat');
CREATE TEMP TABLE before_all AS SELECT * FROM t_order_pay;

-- As an application sees it.
SELECT pay_callback('unheard-of', true);
\echo :LAST_ERROR_SQLSTATE
SELECT pay_callback(NULL, true);
\echo :LAST_ERROR_SQLSTATE
SELECT pay_callback('no blanks, please', true);
\echo :LAST_ERROR_SQLSTATE
SELECT pay_callback('p', true, -1);
\echo :LAST_ERROR_SQLSTATE
SELECT pay_callback('p', true, 100, 'RMB');
\echo :LAST_ERROR_SQLSTATE
SELECT pay_callback('p', true, 100, 'CNY', 'T 1');
\echo :LAST_ERROR_SQLSTATE

CREATE TEMP TABLE input (n serial, call text);
INSERT INTO input (call) VALUES
    -- Unknown.
    ('pay_callback(''unheard-of'', true)'), ('pay_callback_outcome(''unheard-of'', false)'),
    ('order_close(''unheard-of'')'), ('refund_request(''unheard-of'', 1, ''why'')'),
    ('refund_callback(''unheard-of'', true)'), ('refund_retry(''unheard-of'')'),
    ('refund_resolve(''unheard-of'', true, ''why'')'), ('payment_resolve(''unheard-of'', ''accept'', ''why'')'),
    -- NULL.
    ('pay_callback(NULL, true)'), ('pay_callback(''p'', NULL)'), ('pay_callback_outcome(NULL, NULL)'),
    ('order_close(NULL)'), ('order_lock_key(NULL)'),
    ('refund_request(NULL, 1, ''why'')'), ('refund_request(''p'', NULL, ''why'')'), ('refund_request(''p'', 1, NULL)'),
    ('refund_callback(NULL, true)'), ('refund_callback(''p-R1'', NULL)'), ('refund_retry(NULL)'),
    ('refund_resolve(NULL, true, ''why'')'), ('refund_resolve(''p-R1'', NULL, ''why'')'),
    ('refund_resolve(''p-R1'', true, NULL)'), ('payment_resolve(NULL, ''accept'', ''why'')'),
    ('payment_resolve(''p'', NULL, ''why'')'), ('payment_resolve(''p'', ''accept'', NULL)'),
    -- Empty.
    ('pay_callback('''', true)'), ('pay_callback(''p'', true, 100, '''')'),
    ('pay_callback(''p'', true, 100, ''CNY'', '''')'),
    ('order_close('''')'), ('refund_request('''', 1, ''why'')'), ('refund_callback('''', true)'),
    ('refund_callback(''p-R1'', true, '''')'), ('refund_retry('''')'), ('refund_resolve('''', true, ''why'')'),
    ('payment_resolve('''', ''accept'', ''why'')'), ('payment_resolve(''p'', '''', ''why'')'),
    -- Too long, by one and by far.
    ('pay_callback(repeat(''x'', 57), true)'), ('pay_callback(repeat(''x'', 1000000), true)'),
    ('pay_callback(''p'', true, 100, repeat(''CNY'', 2))'),
    ('pay_callback(''p'', true, 100, ''CNY'', repeat(''T'', 129))'),
    ('order_close(repeat(''x'', 129))'), ('order_close(repeat(''订'', 43))'),
    ('refund_request(''p'', 1, repeat(''x'', 2001))'), ('refund_callback(repeat(''x'', 65), true)'),
    ('refund_callback(''p-R1'', true, repeat(''x'', 129))'), ('refund_retry(repeat(''x'', 65))'),
    ('refund_resolve(''p-R1'', true, repeat(''x'', 2001))'),
    ('payment_resolve(''p'', ''accept'', repeat(''x'', 2001))'),
    -- Characters that no gateway takes.
    ('pay_callback(''a b'', true)'), ('pay_callback(''a/b'', true)'), ('pay_callback(''a.b'', true)'),
    ('pay_callback(''订单'', true)'), ('pay_callback(E''p\n'', true)'), ('pay_callback('' p'', true)'),
    ('pay_callback(''p; DROP TABLE t_order'', true)'), ('pay_callback(''p'''' OR true --'', true)'),
    ('pay_callback(''p'', true, 100, ''CNY'', ''T 1'')'), ('pay_callback(''p'', true, 100, ''CNY'', E''T\t1'')'),
    ('pay_callback(''p'', true, 100, ''CNY'', ''交易'')'), ('refund_request(''a b'', 1, ''why'')'),
    ('payment_resolve(''a b'', ''accept'', ''why'')'),
    -- Amounts.
    ('pay_callback(''p'', true, 0)'), ('pay_callback(''p'', true, -1)'), ('pay_callback(''p'', false, 0)'),
    ('pay_callback(''p'', true, -9223372036854775808)'), ('pay_callback(''p'', true, ''9223372036854775808'')'),
    ('refund_request(''p'', 0, ''why'')'), ('refund_request(''p'', -1, ''why'')'),
    -- Currencies.
    ('pay_callback(''p'', true, 100, ''RMB'')'), ('pay_callback(''p'', true, 100, ''cny'')'),
    ('pay_callback(''p'', true, 100, ''CN'')'), ('pay_callback(''p'', true, 100, ''XXX'')'),
    ('pay_callback(''p'', true, 100, ''XAU'')'), ('pay_callback(''p'', true, 100, ''CNY '')'),
    -- Not text at all: invalid UTF-8, half a character, a surrogate, a NUL.
    ('pay_callback(E''\xff'', true)'), ('pay_callback(convert_from(''\xe8aea2e5'', ''UTF8''), true)'),
    ('pay_callback(convert_from(''\xeda080'', ''UTF8''), true)'), ('pay_callback(''p'' || chr(0), true)'),
    ('pay_callback(''p'', true, 100, ''CNY'', E''T\xc3\x28'')'), ('order_close(E''\xfe'')'),
    -- An action that does not exist.
    ('payment_resolve(''p'', ''ACCEPT'', ''why'')');

\pset format unaligned
\pset tuples_only on
SELECT * FROM pg_temp.attempt(VARIADIC (SELECT array_agg('SELECT ' || call ORDER BY n) FROM input));
\pset format aligned
\pset tuples_only off

-- Nothing of it was recorded.
SELECT (SELECT count(*) FROM (TABLE t_order_pay EXCEPT TABLE before_all) changed) AS changed,
       (SELECT count(*) FROM t_refund) AS refunds, status AS order_status FROM t_order;

-- The longest that is allowed is.
SELECT pay_callback('p', true, 100, 'CNY', repeat('T', 128)) AS paid,
       length(refund_request('p', 1, repeat('x', 2000))) AS refund_no_length;
INSERT INTO t_order (id, price) VALUES (repeat('x', 128), 1);
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES
    (repeat('x', 56), repeat('x', 128), 1, 'wechat'), ('0aZ_*|@-', 'o', 100, 'wechat');
SELECT order_close(repeat('x', 128)) AS closed;
SELECT pay_callback_outcome(repeat('x', 56), true) AS longest,
       pay_callback_outcome('0aZ_*|@-', true) AS every_character;
SELECT length(refund_no) FROM t_refund WHERE payment_id = repeat('x', 56);
-- A refund of a gateway that does not exist is queued, and the backlog says what is wrong.
BEGIN;
INSERT INTO t_order_pay (id, order_id, price, gateway) VALUES ('lost', 'o', 100, 'nowhere');
SELECT pay_callback_outcome('lost', true);
SELECT refund_no, gateway, status, payonce_gateway_blocked_by(gateway) FROM t_refund WHERE payment_id = 'lost';
ROLLBACK;
SELECT * FROM payonce_check();
