// payonce_prune: retention. Deletes what is settled and old, in batches that a caller bounds.
//
// The candidates are read by age, without a lock. Each order is judged, taken in hand without
// waiting (its advisory lock, then its rows in the order of locks), judged again as it is now, and
// deleted with all that belongs to it. Whoever holds any of it comes first: the order is passed
// over.
#include "pg/prune.h"

#include "core/gateway.h"

#include <algorithm>
#include <string_view>

#include "pg/arguments.h"
#include "pg/lock.h"
#include "pg/pg.h"
#include "pg/statement.h"

namespace payonce::pg {
namespace {

// Each order holds an advisory lock until the end of the transaction; the server's table of locks
// has some thousand places.
constexpr int max_orders_at_once = 10'000;
constexpr long candidates_at_once = 100;
// '1 year' can be an hour less than 365 days, where clocks are changed.
constexpr std::int64_t slack_s = 24LL * 3600;

bool pruning = false;

// What is unpaid, or was paid or closed too lately, is passed over before it is looked at.
Statement select_candidates = {
    "SELECT id FROM {s}.t_order WHERE created_at < $1 AND status IN (100, 400)"
    " AND coalesce(greatest(paid_at, closed_at), created_at) < $1 ORDER BY created_at",
    1,
    {TIMESTAMPTZOID}};

// $1 order, $2 before when everything about it must have been settled. A row where it is: how many
// payments and refunds it has.
//
// Each payment is the winner, wholly refunded, or failed, and its refunds are done or cancelled and
// sum up to what it says: an order with which payonce_check() finds anything wrong stays.
Statement select_settled = {
    "WITH payment AS MATERIALIZED (SELECT id, status, attention, refund_reserved, paid_amount,"
    " coalesce(paid_amount, price) AS arrived, greatest(created_at, updated_at) AS last_at"
    " FROM {s}.t_order_pay WHERE order_id = $1),"
    " refund AS MATERIALIZED (SELECT r.refund_no, r.payment_id, r.status, r.amount, r.lease_owner,"
    " greatest(r.created_at, r.updated_at, r.finished_at) AS last_at"
    " FROM payment p JOIN {s}.t_refund r ON r.payment_id = p.id)"
    " SELECT (SELECT count(*) FROM payment), (SELECT count(*) FROM refund) FROM {s}.t_order o"
    " WHERE o.id = $1 AND o.created_at < $2"
    " AND coalesce(greatest(o.paid_at, o.closed_at), o.created_at) < $2"
    " AND (o.status = 100 AND EXISTS (SELECT FROM payment p WHERE p.id = o.paid_by AND p.status IN"
    " (100, 300)) OR o.status = 400 AND o.paid_by IS NULL)"
    " AND NOT EXISTS (SELECT FROM payment p WHERE NOT coalesce("
    "p.attention IS NULL AND p.last_at < $2 AND p.refund_reserved ="
    " (SELECT coalesce(sum(r.amount), 0) FROM refund r WHERE r.payment_id = p.id AND r.status = "
    "300)"
    " AND CASE p.status WHEN 100 THEN p.id = o.paid_by AND p.refund_reserved < p.arrived"
    " WHEN 300 THEN p.refund_reserved = p.arrived"
    " WHEN 400 THEN p.refund_reserved = 0 AND p.paid_amount IS NULL END, false))"
    " AND NOT EXISTS (SELECT FROM refund r WHERE NOT (r.status IN (300, 400)"
    " AND r.lease_owner IS NULL AND r.last_at < $2))"
    " AND NOT EXISTS (SELECT FROM refund r JOIN {s}.t_refund_attempt a ON a.refund_no = r.refund_no"
    " WHERE a.recorded_at >= $2)"
    " AND NOT EXISTS (SELECT FROM {s}.t_stray_notification s WHERE s.handled_at IS NULL"
    " AND s.number IN (SELECT id FROM payment UNION ALL SELECT refund_no FROM refund))",
    2,
    {TEXTOID, TIMESTAMPTZOID}};

Statement lock_order_row = {
    "SELECT FROM {s}.t_order WHERE id = $1 FOR UPDATE SKIP LOCKED", 1, {TEXTOID}};
Statement lock_payments = {
    "SELECT FROM {s}.t_order_pay WHERE order_id = $1 ORDER BY id FOR UPDATE SKIP LOCKED",
    1,
    {TEXTOID}};
Statement lock_refunds = {
    "SELECT FROM {s}.t_refund WHERE payment_id IN (SELECT id FROM {s}.t_order_pay"
    " WHERE order_id = $1) ORDER BY refund_no FOR UPDATE SKIP LOCKED",
    1,
    {TEXTOID}};

// One statement, at whose end the foreign keys are looked at; and the sum of a payment's refunds
// need not be kept any more.
Statement delete_order = {
    "WITH payment AS MATERIALIZED (SELECT id FROM {s}.t_order_pay WHERE order_id = $1),"
    " attempts AS (DELETE FROM {s}.t_refund_attempt WHERE refund_no IN"
    " (SELECT refund_no FROM {s}.t_refund WHERE payment_id IN (SELECT id FROM payment))),"
    " refunds AS (DELETE FROM {s}.t_refund WHERE payment_id IN (SELECT id FROM payment)),"
    " payments AS (DELETE FROM {s}.t_order_pay WHERE order_id = $1)"
    " DELETE FROM {s}.t_order WHERE id = $1",
    1,
    {TEXTOID}};

Statement delete_handled_strays = {
    "DELETE FROM {s}.t_stray_notification WHERE ctid = ANY (ARRAY(SELECT ctid"
    " FROM {s}.t_stray_notification WHERE handled_at < $1 ORDER BY handled_at LIMIT $2"
    " FOR UPDATE SKIP LOCKED))",
    2,
    {TIMESTAMPTZOID, INT8OID}};

struct Pruner {
    const char* schema;
    TimestampTz before;
};

struct Belongings {
    std::int64_t payments;
    std::int64_t refunds;
};

bool is_settled(const Pruner& pruner, std::string_view order_id, Belongings* belongings) {
    Parameters parameters;
    parameters.add(order_id).add_time(pruner.before);
    if (run(select_settled, pruner.schema, parameters) != 1) {
        return false;
    }
    belongings->payments = int64_column(0, 1);
    belongings->refunds = int64_column(0, 2);
    return true;
}

bool locks(Statement& statement, const Pruner& pruner, std::string_view order_id,
           std::int64_t rows) {
    Parameters parameters;
    parameters.add(order_id);
    return run(statement, pruner.schema, parameters) == static_cast<std::uint64_t>(rows);
}

bool take_in_hand(const Pruner& pruner, std::string_view order_id, const Belongings& belongings) {
    return try_lock_order(order_id) && locks(lock_order_row, pruner, order_id, 1) &&
           locks(lock_payments, pruner, order_id, belongings.payments) &&
           locks(lock_refunds, pruner, order_id, belongings.refunds);
}

void delete_with_evidence(const Pruner& pruner, std::string_view order_id) {
    Parameters parameters;
    parameters.add(order_id);
    PG_TRY();
    {
        pruning = true;
        write_row(delete_order, pruner.schema, parameters);
    }
    PG_FINALLY();
    { pruning = false; }
    PG_END_TRY();
}

// False: it is not settled, or somebody holds it.
bool prune_order(const Pruner& pruner, std::string_view order_id) {
    Belongings seen = {};
    Belongings held = {};
    if (!is_settled(pruner, order_id, &seen) || !take_in_hand(pruner, order_id, seen) ||
        !is_settled(pruner, order_id, &held) || held.payments != seen.payments ||
        held.refunds != seen.refunds) {
        return false;
    }
    delete_with_evidence(pruner, order_id);
    return true;
}

std::int64_t prune_orders(const Pruner& pruner, int max_orders) {
    Parameters parameters;
    parameters.add_time(pruner.before);
    Portal candidates = open_cursor(select_candidates, pruner.schema, parameters);
    std::int64_t pruned = 0;
    do {
        SPI_cursor_fetch(candidates, true, candidates_at_once);
        SPITupleTable* found = SPI_tuptable;
        const std::uint64_t rows = SPI_processed;
        for (std::uint64_t row = 0; row < rows && pruned < max_orders; ++row) {
            SPI_tuptable = found;
            const std::string_view order_id = text_column(row, 1);
            with_memory_of_its_own([&] { pruned += prune_order(pruner, order_id) ? 1 : 0; });
        }
        SPI_freetuptable(found);
        if (rows == 0) {
            break;
        }
    } while (pruned < max_orders);
    SPI_cursor_close(candidates);
    return pruned;
}

// As long as any gateway may refund a payment, or tell of its refunds, both are needed.
std::int64_t shortest_retention_s() {
    std::int64_t longest = 0;
    for (const core::Driver* driver : core::drivers()) {
        longest = std::max(
            {longest, driver->traits.refund_window_s, driver->traits.idempotency_horizon_s});
    }
    return longest;
}

TimestampTz before_when(FunctionCallInfo fcinfo) {
    require_value(fcinfo, 0, "older_than");
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    const TimestampTz before = DatumGetTimestampTz(
        DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(now), PG_GETARG_DATUM(0)));
    const std::int64_t shortest_s = shortest_retention_s();
    if (before > now - (shortest_s - slack_s) * USECS_PER_SEC) {
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("older_than is too short"),
                 errdetail("Within %lld days a gateway may still refund a payment, or tell of its "
                           "refund, and then both must be found. Nothing was deleted.",
                           static_cast<long long>(shortest_s / (24LL * 3600))),
                 errhint("Pass a year or more, and more than customers have time to dispute a "
                         "payment: the evidence is deleted too.")));
    }
    return before;
}

int bound_of_orders(FunctionCallInfo fcinfo) {
    require_value(fcinfo, 1, "max_orders");
    const int max_orders = PG_GETARG_INT32(1);
    if (max_orders < 1 || max_orders > max_orders_at_once) {
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("max_orders must be 1 to %d, not %d", max_orders_at_once, max_orders),
                 errdetail("Nothing was deleted."), errhint("Call it again until it returns 0.")));
    }
    return max_orders;
}

}  // namespace

bool is_pruning() {
    return pruning;
}

}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_prune);

Datum payonce_prune(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    const TimestampTz before = before_when(fcinfo);
    const int max_orders = bound_of_orders(fcinfo);
    const Pruner pruner = {schema_of_function(fcinfo->flinfo->fn_oid), before};
    PreventCommandIfReadOnly("payonce_prune");
    SPI_connect();
    const std::int64_t pruned = prune_orders(pruner, max_orders);
    Parameters of_strays;
    of_strays.add_time(before).add(static_cast<std::int64_t>(max_orders));
    run(delete_handled_strays, pruner.schema, of_strays);
    SPI_finish();
    PG_RETURN_INT64(pruned);
}
}
