#include "pg/claim.h"

#include <algorithm>
#include <cstring>

#include "core/refund.h"
#include "pg/dispatch_bridge.h"
#include "pg/evidence.h"
#include "pg/lock.h"
#include "pg/pg.h"
#include "pg/refund_result.h"
#include "pg/settings.h"
#include "pg/statement.h"
#include "pg/store.h"

namespace payonce::pg {
namespace {

constexpr int lease_margin_ms = 15'000;
constexpr int locked_retry_ms = 100;

// Only rows nobody holds: a locked one is being decided about. While leased, a refund's
// next_attempt_at is the lease's end, which keeps it out of here; ended leases are recovered first.
// retry_since moves forward by the time that went by after the refund was due: payonce did not try
// then.
Statement claim_due = {
    "WITH due AS MATERIALIZED ("
    " SELECT refund_no, status FROM {s}.t_refund"
    " WHERE gateway = $1 AND status IN (0, 150, 200) AND next_attempt_at <= now()"
    " AND lease_owner IS NULL"
    " ORDER BY next_attempt_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)"
    " UPDATE {s}.t_refund r SET status = CASE r.status WHEN 0 THEN 100 ELSE r.status END,"
    " attempts = r.attempts + 1,"
    " retry_since = coalesce(r.retry_since + (now() - r.next_attempt_at), now()),"
    " next_attempt_at = $3, lease_until = $3, lease_owner = $4, updated_at = now()"
    " FROM due, {s}.t_order_pay p WHERE r.refund_no = due.refund_no AND p.id = r.payment_id"
    " RETURNING r.refund_no, r.payment_id, p.order_id, coalesce(p.transaction_id, ''),"
    " coalesce(p.paid_currency, p.currency), r.reason, r.amount, r.attempts,"
    " due.status <> 0 OR r.ask_first",
    4,
    {TEXTOID, INT8OID, TIMESTAMPTZOID, INT8OID}};

Statement select_next_due = {
    "SELECT next_attempt_at FROM {s}.t_refund WHERE gateway = $1"
    " AND status IN (0, 150, 200) AND lease_owner IS NULL ORDER BY next_attempt_at LIMIT 1",
    1,
    {TEXTOID}};

// The distinct gateways of the queue, one index descent for each.
Statement select_queue_gateways = {
    "WITH RECURSIVE g AS ((SELECT gateway FROM {s}.t_refund WHERE status IN (0, 100, 150, 200)"
    " ORDER BY gateway LIMIT 1) UNION ALL SELECT (SELECT r.gateway FROM {s}.t_refund r"
    " WHERE r.status IN (0, 100, 150, 200) AND r.gateway > g.gateway ORDER BY r.gateway LIMIT 1)"
    " FROM g WHERE g.gateway IS NOT NULL) SELECT gateway FROM g WHERE gateway IS NOT NULL",
    0,
    {}};

Statement select_of_gateway = {
    "SELECT r.refund_no, r.payment_id, p.order_id FROM {s}.t_refund r"
    " JOIN {s}.t_order_pay p ON p.id = r.payment_id"
    " WHERE r.gateway = $1 AND r.status IN (0, 150, 200) AND r.lease_owner IS NULL LIMIT $2",
    2,
    {TEXTOID, INT8OID}};

Statement select_lost = {
    "SELECT refund_no FROM {s}.t_refund WHERE lease_owner IS NOT NULL"
    " AND (lease_until < now() OR lease_owner <> $1) ORDER BY lease_until LIMIT $2"
    " FOR NO KEY UPDATE SKIP LOCKED",
    2,
    {INT8OID, INT8OID}};

char* utf8_column(std::uint64_t row, int column, MemoryContext context) {
    const std::string_view value = text_column(row, column);
    char* converted = pg_server_to_any(pnstrdup(value.data(), value.size()),
                                       static_cast<int>(value.size()), PG_UTF8);
    return MemoryContextStrdup(context, converted);
}

void collect_claimed(std::uint64_t rows, const GatewayConfig& gateway, MemoryContext context,
                     List** calls) {
    for (std::uint64_t row = 0; row < rows; ++row) {
        auto* call =
            static_cast<ClaimedCall*>(MemoryContextAllocZero(context, sizeof(ClaimedCall)));
        call->gateway = gateway.name;
        call->refund_no = utf8_column(row, 1, context);
        call->payment_id = utf8_column(row, 2, context);
        call->order_id = utf8_column(row, 3, context);
        call->transaction_id = utf8_column(row, 4, context);
        call->currency = utf8_column(row, 5, context);
        call->reason = utf8_column(row, 6, context);
        call->amount = int64_column(row, 7);
        call->attempt = int_column(row, 8);
        call->query = bool_column(row, 9);
        call->claimed_at = GetCurrentTransactionStartTimestamp();
        const MemoryContext previous = MemoryContextSwitchTo(context);
        *calls = lappend(*calls, call);
        MemoryContextSwitchTo(previous);
    }
}

// The lease outlasts the request and the recording of its answer.
TimestampTz lease_end(const GatewayConfig& gateway) {
    const int lease_ms = std::max(effective_lease_ms(), gateway.timeout_ms + lease_margin_ms);
    return TimestampTzPlusMilliseconds(GetCurrentTransactionStartTimestamp(), lease_ms);
}

TimestampTz next_due_of(const char* schema, const GatewayConfig& gateway) {
    Parameters parameters;
    parameters.add(gateway.name);
    return run(select_next_due, schema, parameters) == 0
               ? never
               : optional_time_column(0, 1).value_or(never);
}

void claim_of_gateway(const char* schema, std::int64_t lease_owner, const GatewayConfig& gateway,
                      int room, MemoryContext context, ClaimResult* result, List** calls) {
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    const int allowance = std::min(room, bridge::allowance(gateway.name, now));
    std::uint64_t rows = 0;
    if (allowance > 0) {
        Parameters parameters;
        parameters.add(gateway.name)
            .add(static_cast<std::int64_t>(allowance))
            .add_time(lease_end(gateway))
            .add(lease_owner);
        rows = run(claim_due, schema, parameters);
        collect_claimed(rows, gateway, context, calls);
        result->claimed += static_cast<int>(rows);
    }
    if (rows < static_cast<std::uint64_t>(allowance)) {
        // What is due and yet was not claimed is locked by somebody: no reason to spin.
        const TimestampTz locked_until = TimestampTzPlusMilliseconds(now, locked_retry_ms);
        const TimestampTz due = next_due_of(schema, gateway);
        result->next_due = std::min(result->next_due, due <= now ? locked_until : due);
        return;
    }
    const TimestampTz due = next_due_of(schema, gateway);
    if (due <= now && (rows > 0 || room == 0)) {
        // Perhaps only the batch is full. The limits tell once what was claimed has been started.
        result->next_due = now;
        return;
    }
    // The limit was reached: by concurrency (an answer makes room) or by the rate (time does).
    const TimestampTz next_token = bridge::next_token_at(gateway.name, now);
    if (due <= now && next_token <= now) {
        result->more_due = true;
    } else {
        result->next_due = std::min(result->next_due, std::max(due, next_token));
    }
}

bool is_usable(const GatewayConfig* gateways, int gateway_count, std::string_view name) {
    return std::any_of(gateways, gateways + gateway_count, [=](const GatewayConfig& gateway) {
        return name == gateway.name && gateway.problem == nullptr;
    });
}

const char* why_unreachable(const GatewayConfig* gateways, int gateway_count, const char* name) {
    for (int i = 0; i < gateway_count; ++i) {
        if (std::strcmp(gateways[i].name, name) == 0) {
            return gateways[i].problem;
        }
    }
    return psprintf(
        "there is no server \"%s\": refund by hand and call refund_resolve, or create the "
        "server and call refund_retry",
        name);
}

bool give_up(const char* schema, std::string_view refund_no, std::string_view payment_id,
             std::string_view order_id, const char* reason) {
    PaymentRow payment;
    RefundRow refund;
    if (!try_lock_order(order_id) || !read_payment(schema, payment_id, RowLock::skip, &payment) ||
        !read_refund(schema, refund_no, RowLock::skip, &refund) ||
        core::is_settled(refund.status)) {
        return false;
    }
    core::RefundStep step;
    step.status = core::RefundStatus::attention;
    step.failed_attempts = refund.failed_attempts;
    RefundNews news;
    news.last_error = reason;
    apply_refund_step(schema, refund, step, news, GetCurrentTransactionStartTimestamp());
    return true;
}

int give_up_gateway(const char* schema, const char* name, const char* reason, int limit) {
    Parameters parameters;
    parameters.add(name).add(static_cast<std::int64_t>(limit));
    const std::uint64_t rows = run(select_of_gateway, schema, parameters);
    SPITupleTable* found = SPI_tuptable;
    int given_up = 0;
    for (std::uint64_t row = 0; row < rows; ++row) {
        SPI_tuptable = found;
        given_up +=
            give_up(schema, text_column(row, 1), text_column(row, 2), text_column(row, 3), reason);
    }
    return given_up;
}

void recover(const char* schema, std::string_view refund_no) {
    RefundRow refund;
    if (!read_refund(schema, refund_no, RowLock::skip, &refund)) {
        return;
    }
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    core::Moment moment;
    moment.now = now;
    Evidence evidence;
    evidence.refund_no = refund.refund_no;
    evidence.gateway = refund.gateway;
    evidence.attempt = refund.attempts;
    evidence.call = refund.status == core::RefundStatus::sending && !refund.ask_first
                        ? core::CallKind::refund
                        : core::CallKind::query;
    evidence.started_at = refund.updated_at;  // the claim was the row's last change
    evidence.verdict = "lost";
    evidence.error = "the worker ended, or its lease ran out, before the answer was recorded";
    evidence.applied = true;
    write_evidence(schema, evidence);
    write_refund_step(schema, refund, core::after_lost_lease(refund.facts(now), moment), {}, now);
}

}  // namespace

ClaimResult claim(const char* schema, std::int64_t lease_owner, const GatewayConfig* gateways,
                  int gateway_count, List** calls) {
    const MemoryContext context = CurrentMemoryContext;
    ClaimResult result = {0, false, never};
    SPI_connect();
    // A different one first each time, or a full batch for the first would starve the last.
    static std::uint32_t turn = 0;  // wraps round; a negative one would index before the array
    ++turn;
    const auto count = static_cast<std::uint32_t>(gateway_count);
    for (std::uint32_t i = 0; i < count; ++i) {
        const GatewayConfig& gateway = gateways[(turn + i) % count];
        if (!gateway.paused && gateway.problem == nullptr) {
            claim_of_gateway(schema, lease_owner, gateway, settings.batch_size - result.claimed,
                             context, &result, calls);
        }
    }
    SPI_finish();
    return result;
}

int give_up_unreachable(const char* schema, const GatewayConfig* gateways, int gateway_count) {
    SPI_connect();
    Parameters none;
    const std::uint64_t rows = run(select_queue_gateways, schema, none);
    SPITupleTable* found = SPI_tuptable;
    int given_up = 0;
    for (std::uint64_t row = 0; row < rows && given_up < settings.batch_size; ++row) {
        SPI_tuptable = found;
        const std::string_view gateway = text_column(row, 1);
        if (is_usable(gateways, gateway_count, gateway)) {
            continue;
        }
        const char* name = pnstrdup(gateway.data(), gateway.size());
        given_up += give_up_gateway(schema, name, why_unreachable(gateways, gateway_count, name),
                                    settings.batch_size - given_up);
    }
    SPI_finish();
    return given_up;
}

int recover_lost_leases(const char* schema, std::int64_t lease_owner) {
    SPI_connect();
    Parameters parameters;
    parameters.add(lease_owner).add(static_cast<std::int64_t>(settings.batch_size));
    const std::uint64_t rows = run(select_lost, schema, parameters);
    SPITupleTable* found = SPI_tuptable;
    for (std::uint64_t row = 0; row < rows; ++row) {
        SPI_tuptable = found;
        recover(schema, text_column(row, 1));
    }
    SPI_finish();
    return static_cast<int>(rows);
}

}  // namespace payonce::pg
