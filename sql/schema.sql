-- payonce in a schema of its own: whatever is on the search_path, whatever the schema is called.
\i sql/include/begin.sql

\set VERBOSITY terse
DROP EXTENSION payonce;
\set VERBOSITY default
DROP EXTENSION payonce CASCADE;
CREATE SCHEMA pay;
-- The warning about preloading, where it is due, is not this suite's matter.
SET client_min_messages = error;
CREATE EXTENSION payonce SCHEMA pay;
SET client_min_messages = warning;
CREATE SERVER wechat FOREIGN DATA WRAPPER payonce_http OPTIONS (url 'https://wechat.example', paused 'true');
SELECT DISTINCT c.relnamespace::regnamespace FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'payonce');

CREATE FUNCTION pg_temp.shop(schema name, prefix text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($sql$
        INSERT INTO %1$I.t_order (id, price) VALUES (%2$L, 100);
        INSERT INTO %1$I.t_order_pay (id, order_id, price, gateway)
        SELECT %2$L || '-' || n, %2$L, 100, 'wechat' FROM pg_catalog.generate_series(1, 3) n
    $sql$, schema, prefix);
END
$$;
-- Calls each function by its full name ({s}: the schema, {o}: the order). A requested refund's number
-- is random, so only its length counts.
CREATE FUNCTION pg_temp.use(schema name, order_id text) RETURNS TABLE (answer text) LANGUAGE plpgsql AS $$
DECLARE
    call text;
BEGIN
    FOREACH call IN ARRAY ARRAY[
        $call${s}.pay_callback_outcome('{o}-1', true)$call$,
        $call${s}.pay_callback_outcome('{o}-2', true)$call$,
        $call${s}.pay_callback('{o}-3', false)$call$,
        $call${s}.refund_callback('{o}-2-R1', false)$call$,
        $call${s}.refund_retry('{o}-2-R1')$call$,
        $call${s}.refund_callback('{o}-2-R1', false)$call$,
        $call${s}.refund_resolve('{o}-2-R1', false, 'by hand')$call$,
        $call${s}.payment_resolve('{o}-2', 'refund', 'again')$call$,
        $call$pg_catalog.length({s}.refund_request('{o}-1', 10, 'a part'))$call$,
        $call${s}.order_close('{o}')$call$,
        $call$(SELECT count(*) FROM {s}.payonce_check())$call$,
        $call$(SELECT string_agg(id || ' ' || status || ' ' || refund_reserved, ', ' ORDER BY id)
               FROM {s}.t_order_pay WHERE order_id = '{o}')$call$
    ] LOOP
        EXECUTE 'SELECT ' || replace(replace(call, '{s}', quote_ident(schema)), '{o}', order_id) INTO answer;
        RETURN NEXT;
    END LOOP;
END
$$;

-- Found without a search_path.
SELECT pg_temp.shop('pay', 'plain');
SET search_path = pg_catalog;
SELECT * FROM pg_temp.use('pay', 'plain');

-- A search_path full of traps changes nothing: neither tables nor functions nor operators nor types
-- of an attacker are used, by the functions, the triggers, the views or the CHECKs.
CREATE SCHEMA trap;
CREATE FUNCTION trap.spring() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE FUNCTION trap.trapped(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT trap.spring()';
CREATE FUNCTION trap.trapped(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT trap.spring()';
CREATE FUNCTION trap.trapped(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT trap.spring()';
CREATE OPERATOR trap.= (leftarg = text, rightarg = text, function = trap.trapped);
CREATE OPERATOR trap.<> (leftarg = text, rightarg = text, function = trap.trapped);
CREATE OPERATOR trap.= (leftarg = integer, rightarg = integer, function = trap.trapped);
CREATE OPERATOR trap.<> (leftarg = integer, rightarg = integer, function = trap.trapped);
CREATE OPERATOR trap.<> (leftarg = bigint, rightarg = bigint, function = trap.trapped);
CREATE OPERATOR trap.> (leftarg = bigint, rightarg = bigint, function = trap.trapped);
CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE FUNCTION trap.order_lock_key(text) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE FUNCTION trap.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE FUNCTION trap.octet_length(text) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE DOMAIN trap.bigint AS pg_catalog.int8 CHECK (trap.spring());
CREATE DOMAIN trap.text AS pg_catalog.text CHECK (trap.spring());
CREATE TABLE trap.t_order AS SELECT * FROM pay.t_order;
CREATE TABLE trap.t_order_pay AS SELECT * FROM pay.t_order_pay;
CREATE TABLE trap.t_refund AS SELECT * FROM pay.t_refund;
CREATE TABLE trap.payonce_identity AS SELECT * FROM pay.payonce_identity;
CREATE TEMP TABLE t_order AS SELECT * FROM pay.t_order;
CREATE TEMP TABLE t_order_pay AS SELECT * FROM pay.t_order_pay;
CREATE TEMP TABLE t_refund AS SELECT * FROM pay.t_refund;
CREATE TEMP TABLE seen AS SELECT md5(string_agg(t::pg_catalog.text, '' ORDER BY id)) FROM trap.t_order_pay t;
INSERT INTO pay.t_order (id, price) VALUES ('trapped', 100);
INSERT INTO pay.t_order_pay (id, order_id, price, gateway)
SELECT 'trapped-' || n, 'trapped', 100, 'wechat' FROM generate_series(1, 3) n;
SET search_path = trap, pg_temp, pg_catalog;
SELECT pay.pay_callback_outcome('trapped-1', true) AS first, pay.pay_callback_outcome('trapped-2', true) AS second;
SELECT pay.refund_callback('trapped-2-R1', false), pay.refund_retry('trapped-2-R1');
SELECT pay.refund_callback('trapped-2-R1', false), pay.refund_resolve('trapped-2-R1', false, 'by hand');
SELECT pay.payment_resolve('trapped-2', 'refund', 'again'), pay.order_close('trapped');
SELECT pay.refund_request('trapped-1', 10, 'a part') IS NOT NULL AS requested;
SELECT count(*) FROM pay.payonce_check();
SELECT count(*) FROM pay.payonce_refund_backlog;
SELECT count(*) FROM pay.payonce_attention;
SELECT count(*) FROM pay.payonce_stat_worker;
SELECT count(*) FROM pay.payonce_stat_gateway;
-- Hand-written SQL under the same path: the triggers and CHECKs still hold.
INSERT INTO pay.t_refund (refund_no, payment_id, amount, reason) VALUES ('by-hand', 'trapped-1', 5, 'request');
UPDATE pay.t_refund SET status = 300 FROM (VALUES (1)) one WHERE refund_no OPERATOR(pg_catalog.=) 'by-hand';
SET search_path = pg_catalog;
SELECT id, status, refund_reserved FROM pay.t_order_pay WHERE order_id = 'trapped' ORDER BY id;
SELECT count(*) AS untouched
FROM pg_temp.seen, (SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM trap.t_order_pay t) now
WHERE seen.md5 = now.md5;
DROP TABLE pg_temp.t_order, pg_temp.t_order_pay, pg_temp.t_refund, pg_temp.seen;
SET client_min_messages = error;
DROP SCHEMA trap CASCADE;
SET client_min_messages = warning;

-- Renamed in mid-session, even to a name that needs quotes, and with an impostor under the old name.
ALTER SCHEMA pay RENAME TO "Pay ""Once""";
CREATE SCHEMA pay;
CREATE TABLE pay.t_order (LIKE "Pay ""Once""".t_order);
CREATE TABLE pay.t_order_pay (LIKE "Pay ""Once""".t_order_pay);
CREATE TABLE pay.t_refund (LIKE "Pay ""Once""".t_refund);
SELECT pg_temp.shop('Pay "Once"', 'renamed');
SELECT * FROM pg_temp.use('Pay "Once"', 'renamed');
SELECT (SELECT count(*) FROM pay.t_order) + (SELECT count(*) FROM pay.t_refund) AS impostors;
DROP TABLE pay.t_order, pay.t_order_pay, pay.t_refund;
DROP SCHEMA pay;
ALTER SCHEMA "Pay ""Once""" RENAME TO pay;
SELECT pg_temp.shop('pay', 'back');
SELECT * FROM pg_temp.use('pay', 'back') LIMIT 2;
-- It is moved by renaming its schema, not by this.
ALTER EXTENSION payonce SET SCHEMA public;

-- Dropped by another function of the same query, under pay_callback's feet.
CREATE FUNCTION pg_temp.drop_payonce() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    DROP EXTENSION IF EXISTS payonce CASCADE;
    RETURN true;
END
$$;
BEGIN;
SELECT pay.pay_callback('back-3', true), pg_temp.drop_payonce() FROM generate_series(1, 2);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
-- A column of another type is not read as if it were the old one.
BEGIN;
DROP INDEX pay.t_order_pay_payment_intent;
ALTER TABLE pay.t_order_pay DROP CONSTRAINT t_order_pay_transaction_id_length,
    ALTER transaction_id TYPE bigint USING 1;
SELECT pay.pay_callback('back-3', true);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN;
ALTER TABLE pay.t_order_pay ALTER transaction_id TYPE varchar(128);
SELECT pay.pay_callback_outcome('back-3', true, transaction_id => 'T-1') AS still_decides;
ROLLBACK;

-- Dropped and created again in the same session: first in the same schema, then in another.
DROP SERVER wechat;
DROP EXTENSION payonce;
\set VERBOSITY terse
SELECT pay.pay_callback('back-1', true);
\set VERBOSITY default
SET client_min_messages = error;
CREATE EXTENSION payonce SCHEMA pay;
SELECT pg_temp.shop('pay', 'again');
SELECT * FROM pg_temp.use('pay', 'again');
DROP EXTENSION payonce;
-- Not over tables that are somebody else's.
CREATE TABLE pay.t_order (id pg_catalog.text);
CREATE EXTENSION payonce SCHEMA pay;
\echo :LAST_ERROR_SQLSTATE
DROP SCHEMA pay CASCADE;
CREATE EXTENSION payonce SCHEMA public;
SELECT pg_temp.shop('public', 'public');
SELECT * FROM pg_temp.use('public', 'public');
RESET client_min_messages;
RESET search_path;
-- Found on the search_path, as an application calls it.
SELECT pay_callback('public-1', true, 100);
