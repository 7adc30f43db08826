-- payonce 1.0: tables, invariants, functions, views and the wrappers of the gateways.
-- The codes, names and rules are explained in docs/states.md and docs/architecture.md.
\echo Use "CREATE EXTENSION payonce" to load this file. \quit

--
-- Tables. Amounts are in the currency's minor unit (fen, cent). Rows may be inserted in any valid
-- state, so that a dump loads; what may follow what is the triggers' matter.
--

CREATE TABLE t_order (
    id text COLLATE "C" NOT NULL
        CONSTRAINT t_order_id_length CHECK (octet_length(id) BETWEEN 1 AND 128),
    price bigint NOT NULL
        CONSTRAINT t_order_price_positive CHECK (price > 0),
    currency text COLLATE "C" NOT NULL DEFAULT 'CNY',
    status integer NOT NULL DEFAULT 0
        CONSTRAINT t_order_status_known CHECK (status IN (0, 100, 400)),
    paid_by text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(),
    paid_at timestamptz,
    closed_at timestamptz,
    CONSTRAINT t_order_pkey PRIMARY KEY (id)
)
-- An order is written twice: when it is made, and when it is paid or closed. With room for the second
-- version on its page no index is touched then (HOT): a tenth less WAL for each callback that pays,
-- and the indexes do not grow by it. Payments and refunds cannot be HOT, since the columns that change
-- are those by which they are found (status, updated_at, next_attempt_at): room would gain nothing.
--
-- The share of dead rows at which VACUUM comes: at 10 million payments it takes some seconds, mostly
-- for reading the indexes, however few rows are dead. At PostgreSQL's fifth, a table of this size
-- would carry two million of them.
WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX t_order_created_at ON t_order (created_at);

COMMENT ON TABLE t_order IS 'An order: what is to be paid, once.';
COMMENT ON COLUMN t_order.id IS 'The application''s number of the order, 1 to 128 bytes.';
COMMENT ON COLUMN t_order.price IS 'What is to be paid, in the currency''s minor unit.';
COMMENT ON COLUMN t_order.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN t_order.status IS '0 unpaid, 100 paid, 400 closed.';
COMMENT ON COLUMN t_order.paid_by IS 'The winner: the payment that the order keeps. No foreign key, so that a dump loads; payonce_check() verifies it.';
COMMENT ON COLUMN t_order.created_at IS 'When the row was made.';
COMMENT ON COLUMN t_order.paid_at IS 'When the order became paid.';
COMMENT ON COLUMN t_order.closed_at IS 'When the order was closed; kept when a late payment reopened it.';
COMMENT ON INDEX t_order_created_at IS 'The oldest orders, for payonce_prune. No callback changes the column, so none touches this index unless the row''s page is full.';

CREATE TABLE t_order_pay (
    id text COLLATE "C" NOT NULL
        CONSTRAINT t_order_pay_id_form CHECK (id ~ '^[0-9A-Za-z_*|@-]{1,56}$'),
    order_id text COLLATE "C" NOT NULL
        CONSTRAINT t_order_pay_order_id_fkey REFERENCES t_order (id),
    price bigint NOT NULL
        CONSTRAINT t_order_pay_price_positive CHECK (price > 0),
    currency text COLLATE "C" NOT NULL DEFAULT 'CNY',
    status integer NOT NULL DEFAULT 0
        CONSTRAINT t_order_pay_status_known CHECK (status IN (0, 100, 200, 300, 400, 500)),
    gateway text COLLATE "C" NOT NULL DEFAULT 'manual'
        CONSTRAINT t_order_pay_gateway_length CHECK (octet_length(gateway) BETWEEN 1 AND 63),
    transaction_id text COLLATE "C"
        CONSTRAINT t_order_pay_transaction_id_length CHECK (octet_length(transaction_id) BETWEEN 1 AND 128),
    paid_amount bigint
        CONSTRAINT t_order_pay_paid_amount_positive CHECK (paid_amount > 0),
    paid_currency text COLLATE "C",
    paid_gateway text COLLATE "C"
        CONSTRAINT t_order_pay_paid_gateway_length CHECK (octet_length(paid_gateway) BETWEEN 1 AND 63),
    refund_reserved bigint NOT NULL DEFAULT 0
        CONSTRAINT t_order_pay_refund_reserved_sign CHECK (refund_reserved >= 0),
    attention text,
    note text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT t_order_pay_pkey PRIMARY KEY (id),
    CONSTRAINT t_order_pay_refund_reserved_bound
        CHECK (refund_reserved <= coalesce(paid_amount, price))
)
WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE UNIQUE INDEX t_order_pay_one_winner ON t_order_pay (order_id) WHERE status = 100;
CREATE INDEX t_order_pay_order_id ON t_order_pay (order_id);
CREATE INDEX t_order_pay_attention ON t_order_pay (updated_at)
    WHERE status = 500 OR attention IS NOT NULL;
CREATE INDEX t_order_pay_payment_intent ON t_order_pay (transaction_id)
    WHERE transaction_id ^@ 'pi_';

COMMENT ON TABLE t_order_pay IS 'A payment: one attempt to pay an order through one gateway.';
COMMENT ON COLUMN t_order_pay.id IS 'The merchant''s number at the gateway (out_trade_no): 1 to 56 of 0-9 A-Z a-z _ * | @ -.';
COMMENT ON COLUMN t_order_pay.order_id IS 'The order that this payment is to pay.';
COMMENT ON COLUMN t_order_pay.price IS 'What the gateway was told to collect, in the currency''s minor unit.';
COMMENT ON COLUMN t_order_pay.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN t_order_pay.status IS '0 paying, 100 paid (the winner), 200 refunding, 300 refunded, 400 failed, 500 attention.';
COMMENT ON COLUMN t_order_pay.gateway IS 'The foreign server through which it is paid and refunded; where no server has that name (manual), a person refunds.';
COMMENT ON COLUMN t_order_pay.transaction_id IS 'The gateway''s number of the payment, once known.';
COMMENT ON COLUMN t_order_pay.paid_amount IS 'What arrived, as the success said it; unknown until one does.';
COMMENT ON COLUMN t_order_pay.paid_currency IS 'The currency of what arrived.';
COMMENT ON COLUMN t_order_pay.paid_gateway IS 'The foreign server through which it arrived, where that is not gateway: refunds go back that way.';
COMMENT ON COLUMN t_order_pay.refund_reserved IS 'Sum of its refunds that are not cancelled; kept by a trigger on t_refund.';
COMMENT ON COLUMN t_order_pay.attention IS 'Why a person is needed; null when none is.';
COMMENT ON COLUMN t_order_pay.note IS 'What the person who resolved it wrote.';
COMMENT ON COLUMN t_order_pay.created_at IS 'When the row was made.';
COMMENT ON COLUMN t_order_pay.updated_at IS 'When payonce last changed the row.';
COMMENT ON INDEX t_order_pay_one_winner IS 'An order has one winner at most, whatever else fails.';
COMMENT ON INDEX t_order_pay_order_id IS 'The payments of an order.';
COMMENT ON INDEX t_order_pay_attention IS 'The payments that wait for a person.';
COMMENT ON INDEX t_order_pay_payment_intent IS 'Payments by their PaymentIntent: Stripe''s notifications need not name the merchant''s number.';

CREATE TABLE t_refund (
    refund_no text COLLATE "C" NOT NULL
        CONSTRAINT t_refund_refund_no_length CHECK (octet_length(refund_no) BETWEEN 1 AND 64),
    payment_id text COLLATE "C" NOT NULL
        CONSTRAINT t_refund_payment_id_fkey REFERENCES t_order_pay (id),
    amount bigint NOT NULL
        CONSTRAINT t_refund_amount_positive CHECK (amount > 0),
    reason text COLLATE "C" NOT NULL
        CONSTRAINT t_refund_reason_known CHECK (reason IN ('duplicate', 'late', 'request', 'mismatch')),
    status integer NOT NULL DEFAULT 0
        CONSTRAINT t_refund_status_known CHECK (status IN (0, 100, 150, 200, 300, 400, 500)),
    gateway text COLLATE "C" NOT NULL,
    attempts integer NOT NULL DEFAULT 0
        CONSTRAINT t_refund_attempts_sign CHECK (attempts >= 0),
    failed_attempts integer NOT NULL DEFAULT 0
        CONSTRAINT t_refund_failed_attempts_sign CHECK (failed_attempts >= 0),
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    retry_since timestamptz,
    accepted_at timestamptz,
    sent_at timestamptz,
    key_sent_at timestamptz,
    key_generation integer NOT NULL DEFAULT 1
        CONSTRAINT t_refund_key_generation_positive CHECK (key_generation >= 1),
    window_from timestamptz,
    ask_first boolean NOT NULL DEFAULT false,
    when_unknown text COLLATE "C" NOT NULL DEFAULT 'resend'
        CONSTRAINT t_refund_when_unknown_known CHECK (when_unknown IN ('resend', 'new_key', 'give_up')),
    number_dead boolean NOT NULL DEFAULT false,
    lease_owner bigint,
    lease_until timestamptz,
    gateway_refund_id text COLLATE "C",
    superseded_by text COLLATE "C",
    last_error text,
    note text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT t_refund_pkey PRIMARY KEY (refund_no)
)
WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX t_refund_payment_id ON t_refund (payment_id);
CREATE INDEX t_refund_unsettled ON t_refund (gateway, next_attempt_at)
    WHERE status IN (0, 100, 150, 200);
CREATE INDEX t_refund_window ON t_refund (gateway, window_from)
    WHERE status IN (0, 150);
CREATE INDEX t_refund_in_hand ON t_refund (lease_until)
    WHERE lease_owner IS NOT NULL OR status = 100;
CREATE INDEX t_refund_attention ON t_refund (updated_at) WHERE status = 500;

COMMENT ON TABLE t_refund IS 'A refund: money to send back through the gateway it came from.';
COMMENT ON COLUMN t_refund.refund_no IS 'Its number at the gateway, the same on every repetition: <payment id>-R<generation>, or <payment id>-Q<6 random> when requested.';
COMMENT ON COLUMN t_refund.payment_id IS 'The payment whose money goes back.';
COMMENT ON COLUMN t_refund.amount IS 'How much, in the minor unit of what arrived.';
COMMENT ON COLUMN t_refund.reason IS 'duplicate, late, request or mismatch.';
COMMENT ON COLUMN t_refund.status IS '0 queued, 100 sending, 150 unconfirmed, 200 processing, 300 refunded, 400 cancelled by a person, 500 attention.';
COMMENT ON COLUMN t_refund.gateway IS 'The foreign server it is sent through: its payment''s when it was queued.';
COMMENT ON COLUMN t_refund.attempts IS 'Calls to the gateway begun for it; the number of the current one is the fence against late results.';
COMMENT ON COLUMN t_refund.failed_attempts IS 'Calls in a row that settled nothing; the delay doubles with it.';
COMMENT ON COLUMN t_refund.next_attempt_at IS 'When the worker looks at it next; while leased, when the lease ends.';
COMMENT ON COLUMN t_refund.retry_since IS 'Start of the time that payonce.retry_for bounds: the first attempt, moved forward by the time in which payonce did not try.';
COMMENT ON COLUMN t_refund.accepted_at IS 'When the gateway accepted it for processing.';
COMMENT ON COLUMN t_refund.sent_at IS 'When a request to refund was last claimed. Gateways want refunds of one payment apart, and queries not too soon.';
COMMENT ON COLUMN t_refund.key_sent_at IS 'When the first request under the current idempotency key was claimed: the gateway''s horizon counts from here. Null: nothing was sent under it.';
COMMENT ON COLUMN t_refund.key_generation IS 'Counts its idempotency keys, where the gateway has keys beside numbers (Stripe).';
COMMENT ON COLUMN t_refund.window_from IS 'From when the time in which the gateway refunds counts: when its payment was made.';
COMMENT ON COLUMN t_refund.ask_first IS 'The next attempt asks the gateway before it sends.';
COMMENT ON COLUMN t_refund.when_unknown IS 'What it leads to if the gateway, asked, does not know the number: resend, new_key (its idempotency key holds a stored error), or give_up (the request was refused).';
COMMENT ON COLUMN t_refund.number_dead IS 'The gateway declared that this number will never succeed: a retry takes a new one.';
COMMENT ON COLUMN t_refund.lease_owner IS 'Which worker has it in hand.';
COMMENT ON COLUMN t_refund.lease_until IS 'For how long it is claimed: longer than the call and the recording of its answer may take.';
COMMENT ON COLUMN t_refund.gateway_refund_id IS 'The gateway''s number of the refund, once known.';
COMMENT ON COLUMN t_refund.superseded_by IS 'The refund that took its place when its number was dead.';
COMMENT ON COLUMN t_refund.last_error IS 'What last went wrong, in words.';
COMMENT ON COLUMN t_refund.note IS 'What the person who requested or resolved it wrote.';
COMMENT ON COLUMN t_refund.created_at IS 'When it was queued.';
COMMENT ON COLUMN t_refund.updated_at IS 'When payonce last changed the row.';
COMMENT ON COLUMN t_refund.finished_at IS 'When it ended in 300 or 400.';
COMMENT ON INDEX t_refund_payment_id IS 'The refunds of a payment.';
COMMENT ON INDEX t_refund_unsettled IS 'The queue: what a worker has still to do, by gateway and time. Settled refunds leave it, so it does not grow with history.';
COMMENT ON INDEX t_refund_window IS 'What is to be sent, by age of the payment: what can soon no longer be refunded goes first. Its condition is narrower than that of t_refund_unsettled, so that the planner, which knows little of a queue that is long for an hour, cannot take it instead and sort.';
COMMENT ON INDEX t_refund_in_hand IS 'What a worker has in hand: as many as requests are in flight. Found again when the worker is gone.';
COMMENT ON INDEX t_refund_attention IS 'The refunds that wait for a person.';

CREATE TABLE t_refund_attempt (
    refund_no text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    call text COLLATE "C" NOT NULL
        CONSTRAINT t_refund_attempt_call_known CHECK (call IN ('refund', 'query')),
    gateway text COLLATE "C" NOT NULL,
    started_at timestamptz NOT NULL,
    duration_ms double precision,
    http_status integer,
    verdict text COLLATE "C" NOT NULL,
    gateway_refund_id text COLLATE "C",
    error text,
    applied boolean NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX t_refund_attempt_refund_no ON t_refund_attempt (refund_no, attempt);

COMMENT ON TABLE t_refund_attempt IS 'The evidence in a dispute: one row for each call to a gateway. Append-only.';
COMMENT ON COLUMN t_refund_attempt.refund_no IS 'The refund that the call was about.';
COMMENT ON COLUMN t_refund_attempt.attempt IS 'The number of the attempt: t_refund.attempts when it began.';
COMMENT ON COLUMN t_refund_attempt.call IS 'refund (money is to be sent) or query (what became of it).';
COMMENT ON COLUMN t_refund_attempt.gateway IS 'The foreign server called.';
COMMENT ON COLUMN t_refund_attempt.started_at IS 'When the attempt was claimed, before any byte left.';
COMMENT ON COLUMN t_refund_attempt.duration_ms IS 'From handing the request to the network to the end of the answer; null when the answer was lost.';
COMMENT ON COLUMN t_refund_attempt.http_status IS 'Null when there was no answer.';
COMMENT ON COLUMN t_refund_attempt.verdict IS 'succeeded, processing, failed, abnormal, rejected, not_found, wait, not_sent, unknown, or lost (the worker ended before the answer came).';
COMMENT ON COLUMN t_refund_attempt.gateway_refund_id IS 'The number that the gateway''s answer gave.';
COMMENT ON COLUMN t_refund_attempt.error IS 'What went wrong, in words.';
COMMENT ON COLUMN t_refund_attempt.applied IS 'Whether it changed the refund: a late answer is only recorded.';
COMMENT ON COLUMN t_refund_attempt.recorded_at IS 'When this row was written.';
COMMENT ON INDEX t_refund_attempt_refund_no IS 'The calls of a refund.';

CREATE TABLE t_stray_notification (
    received_at timestamptz NOT NULL DEFAULT now(),
    gateway text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL DEFAULT 'payment'
        CONSTRAINT t_stray_notification_kind_known CHECK (kind IN ('payment', 'refund')),
    number text COLLATE "C" NOT NULL DEFAULT '',
    gateway_number text COLLATE "C" NOT NULL DEFAULT '',
    body text NOT NULL,
    note text,
    handled_at timestamptz
);

CREATE UNIQUE INDEX t_stray_notification_once
    ON t_stray_notification (gateway, kind, number, gateway_number)
    WHERE number <> '' OR gateway_number <> '';

CREATE INDEX t_stray_notification_open ON t_stray_notification (received_at)
    WHERE handled_at IS NULL;

CREATE INDEX t_stray_notification_handled ON t_stray_notification (handled_at)
    WHERE handled_at IS NOT NULL;

COMMENT ON TABLE t_stray_notification IS 'Verified news of money that matches no payment or refund: kept until a person has set handled_at.';
COMMENT ON COLUMN t_stray_notification.received_at IS 'When it came.';
COMMENT ON COLUMN t_stray_notification.gateway IS 'The foreign server that sent it.';
COMMENT ON COLUMN t_stray_notification.kind IS 'payment or refund.';
COMMENT ON COLUMN t_stray_notification.number IS 'The merchant''s number that it names; empty when it names none.';
COMMENT ON COLUMN t_stray_notification.gateway_number IS 'The gateway''s number that it names; empty when it names none.';
COMMENT ON COLUMN t_stray_notification.body IS 'What it said, deciphered.';
COMMENT ON COLUMN t_stray_notification.note IS 'What the person who handled it wrote.';
COMMENT ON COLUMN t_stray_notification.handled_at IS 'When a person had dealt with it, or a repetition found its payment.';
COMMENT ON INDEX t_stray_notification_once IS 'Gateways repeat what is not acknowledged: one row for each number.';
COMMENT ON INDEX t_stray_notification_open IS 'The stray notifications that wait for a person.';
COMMENT ON INDEX t_stray_notification_handled IS 'Those that are dealt with, for payonce_prune.';

-- No key, on purpose: a restored copy then holds its own pair and the original's, and does not dispatch.
CREATE TABLE payonce_identity (
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL,
    activated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE payonce_identity IS 'The database that may send refunds: unless every row is the current database, it is a copy, and dispatch waits for payonce_activate().';
COMMENT ON COLUMN payonce_identity.system_identifier IS 'As in pg_control_system().';
COMMENT ON COLUMN payonce_identity.database_oid IS 'As in pg_database.';
COMMENT ON COLUMN payonce_identity.activated_at IS 'When this database was made the one that sends.';

SELECT pg_catalog.pg_extension_config_dump('t_order', '');
SELECT pg_catalog.pg_extension_config_dump('t_order_pay', '');
SELECT pg_catalog.pg_extension_config_dump('t_refund', '');
SELECT pg_catalog.pg_extension_config_dump('t_refund_attempt', '');
SELECT pg_catalog.pg_extension_config_dump('t_stray_notification', '');
SELECT pg_catalog.pg_extension_config_dump('payonce_identity', '');

--
-- The decisions. Each runs with its owner's rights; PUBLIC may execute none of them. The two that
-- are called most pin search_path themselves, when anything is to run that could ask for it: SET
-- costs several microseconds a call.
--

CREATE FUNCTION order_lock_key(order_id text) RETURNS bigint
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payonce_order_lock_key';
COMMENT ON FUNCTION order_lock_key(text) IS
'The advisory-lock key of an order. payonce decides under pg_advisory_xact_lock(order_lock_key(order_id)); an application may take the same lock.';

CREATE FUNCTION pay_callback(
    out_order_no text, pay_success boolean, paid_amount bigint = NULL, paid_currency text = NULL,
    transaction_id text = NULL) RETURNS boolean
    LANGUAGE c VOLATILE SECURITY DEFINER
    AS 'MODULE_PATHNAME', 'payonce_pay_callback';
COMMENT ON FUNCTION pay_callback(text, boolean, bigint, text, text) IS
'Decides one callback of a gateway. true: recorded, acknowledge it to the gateway. An error: nothing was recorded; on 40001 and 40P01 call again, otherwise let the gateway repeat. Amounts are in minor units. Errors: no_data_found (unknown payment), 22004 (NULL), 22023 (malformed).';

CREATE FUNCTION pay_callback_outcome(
    out_order_no text, pay_success boolean, paid_amount bigint = NULL, paid_currency text = NULL,
    transaction_id text = NULL) RETURNS text
    LANGUAGE c VOLATILE SECURITY DEFINER
    AS 'MODULE_PATHNAME', 'payonce_pay_callback_outcome';
COMMENT ON FUNCTION pay_callback_outcome(text, boolean, bigint, text, text) IS
'As pay_callback, and says what was decided: paid, duplicate, late, mismatch, conflict, failed or already_processed.';

CREATE FUNCTION pay_callback_batch(out_order_no text[], pay_success boolean[])
    RETURNS TABLE (out_order_no text, outcome text)
    LANGUAGE c VOLATILE ROWS 100 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_pay_callback_batch';
COMMENT ON FUNCTION pay_callback_batch(text[], boolean[]) IS
'Decides many callbacks in one transaction, and returns the outcome of each, in the arrays'' order: those of pay_callback_outcome; unknown (there is no such payment) and invalid (NULL or malformed), of which nothing is recorded, and which do not undo the others. Any error undoes the whole batch. Errors: 22004 (a NULL array), 2202E (arrays of different lengths or of several dimensions), 54000 (more than 10000 callbacks).';

CREATE FUNCTION pay_notify(
    gateway text, headers jsonb, body text,
    OUT http_status integer, OUT content_type text, OUT body text, OUT outcome text)
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_pay_notify';
COMMENT ON FUNCTION pay_notify(text, jsonb, text) IS
'Takes a gateway''s raw notification: its headers as an object, its body byte for byte. Verifies and applies it, and returns the response for the gateway, to be sent once the transaction is committed. outcome: those of pay_callback_outcome; refunded, refund_failed, refund_processing, refund_asked; unknown (kept in t_stray_notification), ignored, forged, error. Errors: 42704 (no such gateway), 22004 (NULL), 22023 (headers are no object).';

CREATE FUNCTION order_close(order_id text) RETURNS boolean
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_order_close';
COMMENT ON FUNCTION order_close(text) IS
'Closes an unpaid order under its lock. true: it is closed now; false: it is paid. Unknown order: no_data_found.';

CREATE FUNCTION refund_callback(
    refund_no text, refund_success boolean, gateway_refund_id text = NULL) RETURNS boolean
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_refund_callback';
COMMENT ON FUNCTION refund_callback(text, boolean, text) IS
'An asynchronous result of a refund that the application verified itself. true: recorded. Unknown refund: no_data_found.';

CREATE FUNCTION refund_request(payment_id text, amount bigint, reason text) RETURNS text
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_refund_request';
COMMENT ON FUNCTION refund_request(text, bigint, text) IS
'Queues a refund of the whole or a part of a successful payment and returns its refund_no; the reason is kept as the refund''s note. 22023: more than what is left of the payment; 55000: no money arrived.';

CREATE FUNCTION refund_retry(refund_no text) RETURNS text
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_refund_retry';
COMMENT ON FUNCTION refund_retry(text) IS
'Tries a refund in attention again: under the same number, unless the gateway declared that number dead; then under the next. Returns the number. 55000: it is not in attention.';

CREATE FUNCTION refund_resolve(refund_no text, refunded boolean, note text) RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_refund_resolve';
COMMENT ON FUNCTION refund_resolve(text, boolean, text) IS
'Ends a refund in attention by hand: refunded true: the money went back (300); false: it will not be sent (400). The note is kept. 55000: it is not in attention.';

CREATE FUNCTION payment_resolve(payment_id text, action text, note text) RETURNS text
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_payment_resolve';
COMMENT ON FUNCTION payment_resolve(text, text, text) IS
'Resolves a payment in attention. accept: it becomes the winner (reopening a closed order), or its conflict is cleared; refund: what arrived is queued to go back. Returns accepted, cleared or the refund_no. 55000: there is another winner, or nothing to resolve.';

CREATE FUNCTION payonce_activate() RETURNS void
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_activate';
COMMENT ON FUNCTION payonce_activate() IS
'Makes this database the one that sends refunds: after a restore, a promoted copy or pg_upgrade, once it is certain that no other copy sends.';

CREATE FUNCTION payonce_prune(older_than interval, max_orders integer = 1000) RETURNS bigint
    LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_prune';
COMMENT ON FUNCTION payonce_prune(interval, integer) IS
'Deletes orders that are paid or closed and of which everything has been settled for longer than older_than, with their payments, refunds and evidence; and stray notifications that were handled before. Nothing unsettled, in attention or in doubt. At most max_orders in a call; returns how many orders are gone: call it again until that is 0. Orders that somebody holds are passed over. Errors: 22004 (NULL), 22023 (older_than is less than a year, max_orders is not 1 to 10000).';

--
-- The invariants that CHECKs cannot express
--

CREATE FUNCTION payonce_status_guard() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'payonce_status_guard';
COMMENT ON FUNCTION payonce_status_guard() IS
'Refuses every change of status that the contract does not list (docs/states.md).';

CREATE FUNCTION payonce_currency_guard() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'payonce_currency_guard';
COMMENT ON FUNCTION payonce_currency_guard() IS 'Refuses what is not an ISO 4217 currency.';

CREATE FUNCTION payonce_refund_complete() RETURNS trigger
    LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_refund_complete';
COMMENT ON FUNCTION payonce_refund_complete() IS
'Gives a new refund its payment''s gateway and window_from, where the INSERT names none.';

CREATE FUNCTION payonce_refund_reserve() RETURNS trigger
    LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_refund_reserve';
COMMENT ON FUNCTION payonce_refund_reserve() IS
'Recomputes t_order_pay.refund_reserved on the locked payment row, so that concurrent refunds of one payment collide.';

CREATE FUNCTION payonce_refund_wake() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'payonce_refund_wake';
COMMENT ON FUNCTION payonce_refund_wake() IS 'Has the commit set the worker''s latch.';

CREATE FUNCTION payonce_refund_fixed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'payonce_refund_fixed';
COMMENT ON FUNCTION payonce_refund_fixed() IS
'Refuses to change what was sent to a gateway: a refund''s number, payment, amount and gateway.';

CREATE FUNCTION payonce_append_only() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'payonce_append_only';
COMMENT ON FUNCTION payonce_append_only() IS 'Refuses to change or delete evidence, but for payonce_prune.';

-- AFTER, so that they see what other BEFORE triggers made of the row.
CREATE TRIGGER payonce_status_guard AFTER UPDATE ON t_order
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION payonce_status_guard('order');
CREATE TRIGGER payonce_status_guard AFTER UPDATE ON t_order_pay
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION payonce_status_guard('payment');
CREATE TRIGGER payonce_status_guard AFTER UPDATE ON t_refund
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION payonce_status_guard('refund');
CREATE TRIGGER payonce_currency_guard BEFORE INSERT OR UPDATE OF currency ON t_order
    FOR EACH ROW EXECUTE FUNCTION payonce_currency_guard();
CREATE TRIGGER payonce_currency_guard BEFORE INSERT OR UPDATE OF currency ON t_order_pay
    FOR EACH ROW EXECUTE FUNCTION payonce_currency_guard();
CREATE TRIGGER payonce_refund_complete BEFORE INSERT ON t_refund
    FOR EACH ROW WHEN (NEW.gateway IS NULL OR NEW.window_from IS NULL)
    EXECUTE FUNCTION payonce_refund_complete();
CREATE TRIGGER payonce_refund_reserve_change AFTER UPDATE ON t_refund
    FOR EACH ROW WHEN (OLD.amount IS DISTINCT FROM NEW.amount
                       OR OLD.payment_id IS DISTINCT FROM NEW.payment_id
                       OR (OLD.status = 400) IS DISTINCT FROM (NEW.status = 400))
    EXECUTE FUNCTION payonce_refund_reserve();
CREATE TRIGGER payonce_refund_reserve_row AFTER INSERT OR DELETE ON t_refund
    FOR EACH ROW EXECUTE FUNCTION payonce_refund_reserve();
CREATE TRIGGER payonce_refund_wake AFTER INSERT OR UPDATE ON t_refund
    FOR EACH ROW WHEN (NEW.status = 0 OR (NEW.status IN (150, 200) AND NEW.next_attempt_at <= now()))
    EXECUTE FUNCTION payonce_refund_wake();
CREATE TRIGGER payonce_refund_fixed AFTER UPDATE ON t_refund
    FOR EACH ROW WHEN (OLD.attempts > 0
                       AND (OLD.refund_no IS DISTINCT FROM NEW.refund_no
                            OR OLD.payment_id IS DISTINCT FROM NEW.payment_id
                            OR OLD.amount IS DISTINCT FROM NEW.amount
                            OR OLD.gateway IS DISTINCT FROM NEW.gateway))
    EXECUTE FUNCTION payonce_refund_fixed();
CREATE TRIGGER payonce_append_only BEFORE UPDATE OR DELETE ON t_refund_attempt
    FOR EACH ROW EXECUTE FUNCTION payonce_append_only();
CREATE TRIGGER payonce_append_only_truncate BEFORE TRUNCATE ON t_refund_attempt
    FOR EACH STATEMENT EXECUTE FUNCTION payonce_append_only();

COMMENT ON TRIGGER payonce_status_guard ON t_order IS 'Only the changes of status that docs/states.md lists.';
COMMENT ON TRIGGER payonce_status_guard ON t_order_pay IS 'Only the changes of status that docs/states.md lists.';
COMMENT ON TRIGGER payonce_status_guard ON t_refund IS 'Only the changes of status that docs/states.md lists.';
COMMENT ON TRIGGER payonce_currency_guard ON t_order IS 'Only ISO 4217 currencies.';
COMMENT ON TRIGGER payonce_currency_guard ON t_order_pay IS 'Only ISO 4217 currencies.';
COMMENT ON TRIGGER payonce_refund_complete ON t_refund IS 'A refund goes through its payment''s gateway.';
COMMENT ON TRIGGER payonce_refund_reserve_change ON t_refund IS 'Keeps t_order_pay.refund_reserved.';
COMMENT ON TRIGGER payonce_refund_reserve_row ON t_refund IS 'Keeps t_order_pay.refund_reserved.';
COMMENT ON TRIGGER payonce_refund_wake ON t_refund IS 'Wakes the worker at commit.';
COMMENT ON TRIGGER payonce_refund_fixed ON t_refund IS 'What was sent to a gateway keeps its number: under another it would be sent twice.';
COMMENT ON TRIGGER payonce_append_only ON t_refund_attempt IS 'Evidence stays as it was written.';
COMMENT ON TRIGGER payonce_append_only_truncate ON t_refund_attempt IS 'Evidence stays as it was written.';

--
-- Gateways
--

-- The validator's name tells it which driver's options to check.
CREATE FUNCTION payonce_http_validator(options text[], catalog oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'payonce_gateway_validator';
COMMENT ON FUNCTION payonce_http_validator(text[], oid) IS
'Checks the options of servers and user mappings of payonce_http when the DDL runs.';
CREATE FOREIGN DATA WRAPPER payonce_http NO HANDLER VALIDATOR payonce_http_validator;
COMMENT ON FOREIGN DATA WRAPPER payonce_http IS
'The generic gateway: JSON over HTTP (docs/gateways/http.md). Its servers are gateways, not tables.';

CREATE FUNCTION payonce_wechat_validator(options text[], catalog oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'payonce_gateway_validator';
COMMENT ON FUNCTION payonce_wechat_validator(text[], oid) IS
'Checks the options of servers and user mappings of payonce_wechat when the DDL runs.';
CREATE FOREIGN DATA WRAPPER payonce_wechat NO HANDLER VALIDATOR payonce_wechat_validator;
COMMENT ON FOREIGN DATA WRAPPER payonce_wechat IS
'WeChat Pay, API v3 (docs/gateways/wechat.md). Its servers are gateways, not tables.';

CREATE FUNCTION payonce_alipay_validator(options text[], catalog oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'payonce_gateway_validator';
COMMENT ON FUNCTION payonce_alipay_validator(text[], oid) IS
'Checks the options of servers and user mappings of payonce_alipay when the DDL runs.';
CREATE FOREIGN DATA WRAPPER payonce_alipay NO HANDLER VALIDATOR payonce_alipay_validator;
COMMENT ON FOREIGN DATA WRAPPER payonce_alipay IS
'Alipay, gateway.do with RSA2 (docs/gateways/alipay.md). Its servers are gateways, not tables.';

CREATE FUNCTION payonce_stripe_validator(options text[], catalog oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'payonce_gateway_validator';
COMMENT ON FUNCTION payonce_stripe_validator(text[], oid) IS
'Checks the options of servers and user mappings of payonce_stripe when the DDL runs.';
CREATE FOREIGN DATA WRAPPER payonce_stripe NO HANDLER VALIDATOR payonce_stripe_validator;
COMMENT ON FOREIGN DATA WRAPPER payonce_stripe IS
'Stripe, API v1 (docs/gateways/stripe.md). Its servers are gateways, not tables.';

--
-- Operation: what waits, what needs a person, what the workers do
--

CREATE FUNCTION payonce_dispatch_blocked_by() RETURNS text
    LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_dispatch_blocked_by';
COMMENT ON FUNCTION payonce_dispatch_blocked_by() IS
'Why this database sends no refunds at present; null when it does.';

CREATE FUNCTION payonce_gateway_blocked_by(gateway text) RETURNS text
    LANGUAGE c STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payonce_gateway_blocked_by';
COMMENT ON FUNCTION payonce_gateway_blocked_by(text) IS
'Why this gateway is sent no refunds at present; null when it is.';

CREATE FUNCTION payonce_worker_stats(
    OUT pid integer, OUT state text, OUT role text, OUT started_at timestamptz, OUT claimed bigint,
    OUT applied bigint, OUT in_flight integer, OUT kept integer, OUT last_error text) RETURNS SETOF record
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'payonce_worker_stats';
COMMENT ON FUNCTION payonce_worker_stats() IS 'What shared memory knows of this database''s worker.';

CREATE FUNCTION payonce_gateway_stats(
    OUT gateway text, OUT in_flight integer, OUT concurrency integer, OUT sent bigint, OUT asked bigint,
    OUT succeeded bigint, OUT failed bigint, OUT retried bigint, OUT latency_avg_ms double precision,
    OUT latency_max_ms double precision, OUT last_answer_at timestamptz) RETURNS SETOF record
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'payonce_gateway_stats';
COMMENT ON FUNCTION payonce_gateway_stats() IS
'What shared memory knows of this database''s gateways since the server started.';

CREATE VIEW payonce_refund_backlog AS
WITH dispatch AS MATERIALIZED (
    SELECT payonce_dispatch_blocked_by() AS blocked_by
), gateway AS MATERIALIZED (
    SELECT waiting.gateway, payonce_gateway_blocked_by(waiting.gateway) AS blocked_by
    FROM (SELECT DISTINCT gateway FROM t_refund WHERE status IN (0, 100, 150, 200)) waiting
)
SELECT r.refund_no, r.payment_id, p.order_id, r.gateway, r.amount,
       coalesce(p.paid_currency, p.currency) AS currency, r.reason, r.status, r.attempts,
       r.next_attempt_at, r.last_error, r.created_at,
       coalesce(dispatch.blocked_by, gateway.blocked_by,
                CASE WHEN r.status = 0 AND r.next_attempt_at > now()
                THEN 'waits for its next attempt' END) AS blocked_by
FROM t_refund r
JOIN t_order_pay p ON p.id = r.payment_id
JOIN gateway ON gateway.gateway = r.gateway
CROSS JOIN dispatch
WHERE r.status IN (0, 100, 150, 200);
COMMENT ON VIEW payonce_refund_backlog IS
'Every refund that is not settled, and what holds it up (blocked_by; null: it is on its way).';
COMMENT ON COLUMN payonce_refund_backlog.refund_no IS 'The refund that is not settled.';
COMMENT ON COLUMN payonce_refund_backlog.payment_id IS 'The payment whose money goes back.';
COMMENT ON COLUMN payonce_refund_backlog.order_id IS 'Its order.';
COMMENT ON COLUMN payonce_refund_backlog.gateway IS 'The foreign server it is sent through.';
COMMENT ON COLUMN payonce_refund_backlog.amount IS 'How much, in the minor unit of currency.';
COMMENT ON COLUMN payonce_refund_backlog.currency IS 'The currency of what arrived.';
COMMENT ON COLUMN payonce_refund_backlog.reason IS 'duplicate, late, request or mismatch.';
COMMENT ON COLUMN payonce_refund_backlog.status IS '0 queued, 100 sending, 150 unconfirmed, 200 processing.';
COMMENT ON COLUMN payonce_refund_backlog.attempts IS 'Calls to the gateway begun for it.';
COMMENT ON COLUMN payonce_refund_backlog.next_attempt_at IS 'When the worker looks at it next; while leased, when the lease ends.';
COMMENT ON COLUMN payonce_refund_backlog.last_error IS 'What last went wrong, in words.';
COMMENT ON COLUMN payonce_refund_backlog.created_at IS 'When it was queued.';
COMMENT ON COLUMN payonce_refund_backlog.blocked_by IS 'What holds it up; null: it is on its way.';

CREATE VIEW payonce_attention AS
SELECT 'payment' AS kind, p.id, p.order_id, p.gateway, coalesce(p.paid_amount, p.price) AS amount,
       coalesce(p.paid_currency, p.currency) AS currency,
       coalesce(p.attention, 'the money is with us and no refund is under way') AS why,
       p.updated_at AS since,
       CASE WHEN EXISTS (SELECT FROM t_refund r WHERE r.payment_id = p.id AND r.status = 500)
            THEN 'resolve its refund: refund_retry or refund_resolve'
            WHEN p.status = 500 THEN 'payment_resolve(id, accept | refund, note)'
            WHEN p.attention LIKE '%the merchant''s balance%'
            THEN 'top up the balance at the gateway: the refund goes on by itself'
            WHEN p.attention LIKE '%cannot be verified%'
            THEN 'check the keys in the gateway''s user mapping: the refund goes on by itself'
            WHEN p.attention LIKE '%waits for the customer%' OR p.attention LIKE '%refuses to say%'
            THEN 'look at the refund at the gateway: it goes on by itself'
            ELSE 'settle it at the gateway, then payment_resolve(id, accept, note)' END AS what_to_do
FROM t_order_pay p
WHERE p.status = 500 OR p.attention IS NOT NULL
UNION ALL
SELECT 'refund', r.refund_no, p.order_id, r.gateway, r.amount,
       coalesce(p.paid_currency, p.currency),
       coalesce(r.last_error, 'no reason was recorded'), r.updated_at,
       'refund_retry(id), or refund_resolve(id, refunded, note)'
FROM t_refund r JOIN t_order_pay p ON p.id = r.payment_id
WHERE r.status = 500
UNION ALL
SELECT 'stray_notification', coalesce(nullif(s.number, ''), nullif(s.gateway_number, '')), NULL,
       s.gateway, NULL, NULL, s.body, s.received_at,
       'find out whose money it is, then set handled_at'
FROM t_stray_notification s
WHERE s.handled_at IS NULL;
COMMENT ON VIEW payonce_attention IS 'Every case that waits for a person, why, and what to call.';
COMMENT ON COLUMN payonce_attention.kind IS 'payment, refund or stray_notification.';
COMMENT ON COLUMN payonce_attention.id IS 'The payment or the refund; of a stray notification the number that it names.';
COMMENT ON COLUMN payonce_attention.order_id IS 'Its order, where there is one.';
COMMENT ON COLUMN payonce_attention.gateway IS 'The foreign server it concerns.';
COMMENT ON COLUMN payonce_attention.amount IS 'How much money it is about, in the minor unit of currency.';
COMMENT ON COLUMN payonce_attention.currency IS 'The currency of what arrived.';
COMMENT ON COLUMN payonce_attention.why IS 'Why a person is needed, in words.';
COMMENT ON COLUMN payonce_attention.since IS 'When it last changed.';
COMMENT ON COLUMN payonce_attention.what_to_do IS 'What to call, with id.';

CREATE VIEW payonce_stat_worker AS
SELECT current_database() AS database, s.pid, s.state, s.role, s.started_at, s.claimed, s.applied,
       s.in_flight, s.kept, s.last_error, payonce_dispatch_blocked_by() AS blocked_by
FROM (SELECT) one LEFT JOIN payonce_worker_stats() s ON true;
COMMENT ON VIEW payonce_stat_worker IS
'This database''s worker: one row, with blocked_by when it sends nothing.';
COMMENT ON COLUMN payonce_stat_worker.database IS 'This database.';
COMMENT ON COLUMN payonce_stat_worker.pid IS 'The process; null when there is none.';
COMMENT ON COLUMN payonce_stat_worker.state IS 'running, starting, stopped, no worker slot or absent; null when the launcher does not know this database.';
COMMENT ON COLUMN payonce_stat_worker.role IS 'The role that it runs as.';
COMMENT ON COLUMN payonce_stat_worker.started_at IS 'When it started.';
COMMENT ON COLUMN payonce_stat_worker.claimed IS 'Calls claimed since the server started.';
COMMENT ON COLUMN payonce_stat_worker.applied IS 'Answers recorded since the server started.';
COMMENT ON COLUMN payonce_stat_worker.in_flight IS 'Requests under way.';
COMMENT ON COLUMN payonce_stat_worker.kept IS 'Answers that came while their order was locked, and wait to be recorded.';
COMMENT ON COLUMN payonce_stat_worker.last_error IS 'The last error that it met.';
COMMENT ON COLUMN payonce_stat_worker.blocked_by IS 'Why this database sends no refunds at present; null when it does.';

CREATE VIEW payonce_stat_gateway AS
SELECT g.gateway, coalesce(q.depth, 0) AS depth, q.oldest, coalesce(q.attention, 0) AS attention,
       coalesce(s.in_flight, 0) AS in_flight, s.concurrency, coalesce(s.sent, 0) AS sent,
       coalesce(s.asked, 0) AS asked, coalesce(s.succeeded, 0) AS succeeded,
       coalesce(s.failed, 0) AS failed, coalesce(s.retried, 0) AS retried,
       s.latency_avg_ms, s.latency_max_ms, s.last_answer_at,
       payonce_gateway_blocked_by(g.gateway) AS blocked_by
FROM (SELECT w.srvname::text COLLATE "C" AS gateway
      FROM pg_catalog.pg_foreign_server w
      JOIN pg_catalog.pg_foreign_data_wrapper f ON f.oid = w.srvfdw
      JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_foreign_data_wrapper'::regclass
           AND d.objid = f.oid AND d.deptype = 'e'
      JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'payonce'
      UNION
      SELECT gateway FROM t_refund WHERE status IN (0, 100, 150, 200)) g
LEFT JOIN (SELECT gateway, count(*) FILTER (WHERE status <> 500) AS depth,
                  min(created_at) FILTER (WHERE status <> 500) AS oldest,
                  count(*) FILTER (WHERE status = 500) AS attention
           FROM (SELECT gateway, status, created_at FROM t_refund WHERE status IN (0, 100, 150, 200)
                 UNION ALL
                 SELECT gateway, status, created_at FROM t_refund WHERE status = 500) unsettled
           GROUP BY gateway) q ON q.gateway = g.gateway
LEFT JOIN payonce_gateway_stats() s ON s.gateway COLLATE "C" = g.gateway;
COMMENT ON VIEW payonce_stat_gateway IS
'Each gateway: what waits (depth, oldest), what is in flight, and counters since the server started. Reads only the queue''s partial indexes, so finished refunds cost nothing.';
COMMENT ON COLUMN payonce_stat_gateway.gateway IS 'A foreign server of payonce, or a gateway that refunds wait for although there is none.';
COMMENT ON COLUMN payonce_stat_gateway.depth IS 'Refunds that are not settled.';
COMMENT ON COLUMN payonce_stat_gateway.oldest IS 'When the oldest of them was queued.';
COMMENT ON COLUMN payonce_stat_gateway.attention IS 'Refunds that wait for a person.';
COMMENT ON COLUMN payonce_stat_gateway.in_flight IS 'Requests under way.';
COMMENT ON COLUMN payonce_stat_gateway.concurrency IS 'How many requests may be under way at present; null before the first.';
COMMENT ON COLUMN payonce_stat_gateway.sent IS 'Refunds sent, repetitions included.';
COMMENT ON COLUMN payonce_stat_gateway.asked IS 'Queries sent.';
COMMENT ON COLUMN payonce_stat_gateway.succeeded IS 'Answers that the money went back.';
COMMENT ON COLUMN payonce_stat_gateway.failed IS 'Answers that it never will, or that the request was refused for good.';
COMMENT ON COLUMN payonce_stat_gateway.retried IS 'Answers, or their absence, after which the refund is tried again.';
COMMENT ON COLUMN payonce_stat_gateway.latency_avg_ms IS 'Mean time from handing a request to the network to the end of its answer.';
COMMENT ON COLUMN payonce_stat_gateway.latency_max_ms IS 'The longest such time.';
COMMENT ON COLUMN payonce_stat_gateway.last_answer_at IS 'When it last answered.';
COMMENT ON COLUMN payonce_stat_gateway.blocked_by IS 'Why it is sent no refunds at present; null when it is.';

CREATE FUNCTION payonce_check() RETURNS TABLE (kind text, id text, detail text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
WITH refund_sums AS (
    SELECT r.payment_id,
           coalesce(sum(r.amount) FILTER (WHERE r.status <> 400), 0) AS reserved,
           coalesce(sum(r.amount) FILTER (WHERE r.status IN (0, 100, 150, 200)), 0) AS pending,
           coalesce(sum(r.amount) FILTER (WHERE r.status = 300), 0) AS refunded,
           coalesce(sum(r.amount) FILTER (WHERE r.status = 500), 0) AS attention
    FROM t_refund r
    GROUP BY r.payment_id
), payment AS (
    SELECT p.id, p.order_id, p.status, p.paid_amount, p.refund_reserved,
           (o.paid_by IS NOT NULL AND o.paid_by = p.id) AS is_winner,
           coalesce(p.paid_amount, p.price) AS arrived,
           coalesce(s.reserved, 0) AS reserved, coalesce(s.pending, 0) AS pending,
           coalesce(s.refunded, 0) AS refunded, coalesce(s.attention, 0) AS attention
    FROM t_order_pay p
    JOIN t_order o ON o.id = p.order_id
    LEFT JOIN refund_sums s ON s.payment_id = p.id
)
SELECT 'paid_order_without_winner', o.id,
       format('the order is paid, but paid_by is %s', coalesce(o.paid_by, 'null'))
FROM t_order o
WHERE o.status = 100
  AND NOT EXISTS (SELECT FROM t_order_pay p
                  WHERE p.id = o.paid_by AND p.order_id = o.id AND p.status IN (100, 200, 300, 500))
UNION ALL
SELECT 'winner_of_unpaid_order', o.id,
       format('paid_by is %s, but the order''s status is %s', o.paid_by, o.status)
FROM t_order o
WHERE o.status <> 100 AND o.paid_by IS NOT NULL
UNION ALL
SELECT 'paid_payment_not_kept', p.id,
       format('the payment is paid, but its order %s keeps another or none', p.order_id)
FROM payment p
WHERE p.status = 100 AND NOT p.is_winner
UNION ALL
SELECT 'refund_reserved_wrong', p.id,
       format('refund_reserved is %s, its refunds sum up to %s', p.refund_reserved, p.reserved)
FROM payment p
WHERE p.refund_reserved <> p.reserved
UNION ALL
SELECT 'refunds_above_payment', p.id,
       format('%s arrived, its refunds sum up to %s', p.arrived, p.reserved)
FROM payment p
WHERE p.reserved > p.arrived
UNION ALL
SELECT 'refund_of_no_money', p.id,
       format('the payment''s status is %s, but its refunds sum up to %s', p.status, p.reserved)
FROM payment p
WHERE p.status IN (0, 400) AND p.reserved > 0
UNION ALL
-- Of what arrived, each part must be kept, refunding, refunded or in attention.
SELECT 'money_unaccounted', p.id,
       format('%s arrived; status %s; refunding %s, refunded %s, refund in attention %s',
              p.arrived, p.status, p.pending, p.refunded, p.attention)
FROM payment p
WHERE (p.status = 200 AND (p.reserved <> p.arrived OR p.pending + p.attention = 0))
   OR (p.status = 300 AND p.refunded <> p.arrived)
   OR (p.status = 100 AND p.reserved = p.arrived)
   OR (p.status IN (0, 400) AND p.paid_amount IS NOT NULL)
UNION ALL
SELECT 'sending_without_lease', r.refund_no, 'the refund''s status is 100, but no worker has it in hand'
FROM t_refund r
WHERE r.status = 100 AND r.lease_owner IS NULL
UNION ALL
SELECT 'payment_without_order', p.id, format('there is no order %s', p.order_id)
FROM t_order_pay p
WHERE NOT EXISTS (SELECT FROM t_order o WHERE o.id = p.order_id)
UNION ALL
SELECT 'refund_without_payment', r.refund_no, format('there is no payment %s', r.payment_id)
FROM t_refund r
WHERE NOT EXISTS (SELECT FROM t_order_pay p WHERE p.id = r.payment_id)
UNION ALL
SELECT 'status_unknown', o.id, format('order status %s', o.status)
FROM t_order o WHERE o.status NOT IN (0, 100, 400)
UNION ALL
SELECT 'status_unknown', p.id, format('payment status %s', p.status)
FROM t_order_pay p WHERE p.status NOT IN (0, 100, 200, 300, 400, 500)
UNION ALL
SELECT 'status_unknown', r.refund_no, format('refund status %s', r.status)
FROM t_refund r WHERE r.status NOT IN (0, 100, 150, 200, 300, 400, 500);
END;
COMMENT ON FUNCTION payonce_check() IS
'Every broken invariant: kind, the row''s id, and what is wrong. No row when all is well. Reads all tables.';

--
-- Rights. PUBLIC may execute nothing; monitoring sees the state of things, and no secret is in it.
--

REVOKE ALL ON FUNCTION order_lock_key(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION pay_callback(text, boolean, bigint, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION pay_callback_outcome(text, boolean, bigint, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION pay_callback_batch(text[], boolean[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION pay_notify(text, jsonb, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION order_close(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION refund_callback(text, boolean, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION refund_request(text, bigint, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION refund_retry(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION refund_resolve(text, boolean, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION payment_resolve(text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_activate() FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_prune(interval, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_status_guard() FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_currency_guard() FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_refund_complete() FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_refund_reserve() FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_refund_wake() FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_refund_fixed() FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_append_only() FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_http_validator(text[], oid) FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_wechat_validator(text[], oid) FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_alipay_validator(text[], oid) FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_stripe_validator(text[], oid) FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_dispatch_blocked_by() FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_gateway_blocked_by(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_worker_stats() FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_gateway_stats() FROM PUBLIC;
REVOKE ALL ON FUNCTION payonce_check() FROM PUBLIC;

-- A view's functions are executed as whoever reads it.
GRANT EXECUTE ON FUNCTION payonce_dispatch_blocked_by() TO pg_monitor;
GRANT EXECUTE ON FUNCTION payonce_gateway_blocked_by(text) TO pg_monitor;
GRANT EXECUTE ON FUNCTION payonce_worker_stats() TO pg_monitor;
GRANT EXECUTE ON FUNCTION payonce_gateway_stats() TO pg_monitor;
GRANT EXECUTE ON FUNCTION payonce_check() TO pg_monitor;
GRANT SELECT ON payonce_refund_backlog, payonce_attention, payonce_stat_worker, payonce_stat_gateway
    TO pg_monitor;

-- The first row of payonce_identity; it also says when the library is not preloaded.
SELECT payonce_activate();
