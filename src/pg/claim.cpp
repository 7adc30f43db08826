#include "pg/claim.h"

#include <algorithm>
#include <cstring>

#include "core/refund.h"
#include "pg/dispatch_bridge.h"
#include "pg/encoding.h"
#include "pg/fault_point.h"
#include "pg/pace.h"
#include "pg/pg.h"
#include "pg/settings.h"
#include "pg/statement.h"
#include "pg/store.h"
#include "pg/subtransaction.h"

namespace payonce::pg {
namespace {

constexpr int locked_retry_ms = 100;
// Rows that cannot be claimed are left alone for at least so long, and so much longer for each of
// them: every one is an error in the log.
constexpr int failed_row_retry_ms = 10'000;
constexpr int failed_row_more_ms = 100;
// With more waiting than a limit allows, claims come in handfuls, not for every single answer: room
// for one in sixteen may stand empty meanwhile.
constexpr int handful = 64;
constexpr int handfuls_in_flight = 16;

// The spacing is counted from claim to claim, but the gateway counts from arrival to arrival: a
// first request that is longer on its way, over a new connection, must not bring the two too close.
constexpr double spacing_margin_s = 1;

// How long it takes from the start of a transaction that queues a refund to its commit, but for
// few.
constexpr int usual_delay_ms = 100;
constexpr TimestampTz before_all = DT_NOBEGIN;

// What goes first: an idle refund window is not worth the money that can no longer be sent back.
constexpr std::int64_t urgent_s = 7LL * 24 * 3600;

// Only rows nobody holds: a locked one is being decided about. While leased, a refund's
// next_attempt_at is the lease's end, which keeps it out of here; ended leases are recovered first.
//
// $1 gateway, $2 limit, $3 end of the lease, $4 its owner, $5 when a first request must have been
// claimed to be within the gateway's idempotency horizon: what is older is asked about, never sent;
// $6 seconds between two refunds of one payment.
#define PAYONCE_CANDIDATE(CONDITION, ORDER)                                           \
    "WITH candidate AS MATERIALIZED ("                                                \
    " SELECT refund_no, payment_id, status, ask_first, key_sent_at, next_attempt_at"  \
    " FROM {s}.t_refund"                                                              \
    " WHERE gateway = $1 AND status IN (0, 150, 200) AND next_attempt_at <= now()"    \
    " AND lease_owner IS NULL" CONDITION " ORDER BY " ORDER                           \
    " LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED),"                                       \
    " judged AS MATERIALIZED (SELECT refund_no, payment_id, status, next_attempt_at," \
    " status <> 0 OR ask_first OR coalesce(key_sent_at <= $5, false) AS is_query FROM candidate)"

#define PAYONCE_EVERY_DUE ", due AS (SELECT refund_no, status, is_query FROM judged)"

// Where the gateway wants the refunds of a payment apart: one that comes too soon after another is
// put off to its time. What was sent last is seen in sent_at, also of refunds in this same batch.
#define PAYONCE_SPACED_DUE                                                                     \
    ", timed AS MATERIALIZED (SELECT refund_no, status, is_query, CASE WHEN NOT is_query THEN" \
    " coalesce((SELECT max(s.sent_at) + make_interval(secs => $6) FROM {s}.t_refund s"         \
    " WHERE s.payment_id = j.payment_id AND s.refund_no <> j.refund_no), '-infinity')"         \
    " END AS free_at, row_number() OVER (PARTITION BY payment_id, is_query"                    \
    " ORDER BY next_attempt_at, refund_no) AS turn FROM judged j),"                            \
    " put_off AS (UPDATE {s}.t_refund h SET next_attempt_at ="                                 \
    " greatest(t.free_at, now()) + (t.turn - 1) * make_interval(secs => $6)"                   \
    " FROM timed t WHERE h.refund_no = t.refund_no AND NOT t.is_query"                         \
    " AND (t.free_at > now() OR t.turn > 1)),"                                                 \
    " due AS (SELECT refund_no, status, is_query FROM timed"                                   \
    " WHERE is_query OR (free_at <= now() AND turn = 1))"

// retry_since moves forward by the time that went by after the refund was due: payonce did not try
// then.
#define PAYONCE_TAKE                                                                         \
    " UPDATE {s}.t_refund r SET status = CASE r.status WHEN 0 THEN 100 ELSE r.status END,"   \
    " attempts = r.attempts + 1,"                                                            \
    " retry_since = CASE WHEN r.retry_since IS NULL THEN now()"                              \
    " WHEN isfinite(r.retry_since) AND isfinite(r.next_attempt_at)"                          \
    " THEN r.retry_since + (now() - r.next_attempt_at) ELSE r.retry_since END,"              \
    " ask_first = due.status = 0 AND due.is_query,"                                          \
    " sent_at = CASE WHEN due.is_query THEN r.sent_at ELSE now() END,"                       \
    " key_sent_at = CASE WHEN due.is_query THEN r.key_sent_at"                               \
    " ELSE coalesce(r.key_sent_at, now()) END,"                                              \
    " when_unknown = CASE WHEN due.is_query THEN r.when_unknown ELSE 'resend' END,"          \
    " next_attempt_at = $3, lease_until = $3, lease_owner = $4, updated_at = now()"          \
    " FROM due, {s}.t_order_pay p WHERE r.refund_no = due.refund_no AND p.id = r.payment_id" \
    " RETURNING r.refund_no, r.payment_id, p.order_id, coalesce(p.transaction_id, ''),"      \
    " coalesce(p.paid_currency, p.currency), r.reason, r.amount, r.attempts,"                \
    " due.is_query, p.status, coalesce(r.gateway_refund_id, ''),"                            \
    " coalesce(p.paid_amount, p.price), r.key_generation"

#define PAYONCE_PARAMETERS_AND(TYPE) \
    { TEXTOID, INT8OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, FLOAT8OID, TYPE }

// Each in two forms: for gateways that do not care how close refunds of one payment are, and for
// those that do.
struct ClaimStatement {
    Statement plain;
    Statement spaced;
};

// $7: what is known to lie before it is settled, and its entries in the index may still be there.
#define PAYONCE_FROM " AND next_attempt_at >= $7"
ClaimStatement claim_due = {
    {PAYONCE_CANDIDATE(PAYONCE_FROM, "next_attempt_at") PAYONCE_EVERY_DUE PAYONCE_TAKE, 7,
     PAYONCE_PARAMETERS_AND(TIMESTAMPTZOID)},
    {PAYONCE_CANDIDATE(PAYONCE_FROM, "next_attempt_at") PAYONCE_SPACED_DUE PAYONCE_TAKE, 7,
     PAYONCE_PARAMETERS_AND(TIMESTAMPTZOID)},
};
#define PAYONCE_ONE " AND refund_no = $7"
ClaimStatement claim_one = {
    {PAYONCE_CANDIDATE(PAYONCE_ONE, "next_attempt_at") PAYONCE_EVERY_DUE PAYONCE_TAKE, 7,
     PAYONCE_PARAMETERS_AND(TEXTOID)},
    {PAYONCE_CANDIDATE(PAYONCE_ONE, "next_attempt_at") PAYONCE_SPACED_DUE PAYONCE_TAKE, 7,
     PAYONCE_PARAMETERS_AND(TEXTOID)},
};
// Of payments made before $7; what is accepted needs no hurry.
// The condition of the index t_refund_window, which no other statement can use.
#define PAYONCE_URGENT " AND window_from < $7 AND status IN (0, 150)"
ClaimStatement claim_urgent = {
    {PAYONCE_CANDIDATE(PAYONCE_URGENT, "window_from") PAYONCE_EVERY_DUE PAYONCE_TAKE, 7,
     PAYONCE_PARAMETERS_AND(TIMESTAMPTZOID)},
    {PAYONCE_CANDIDATE(PAYONCE_URGENT, "window_from") PAYONCE_SPACED_DUE PAYONCE_TAKE, 7,
     PAYONCE_PARAMETERS_AND(TIMESTAMPTZOID)},
};

Statement select_due = {
    "SELECT refund_no FROM {s}.t_refund WHERE gateway = $1 AND status IN (0, 150, 200)"
    " AND next_attempt_at <= now() AND lease_owner IS NULL ORDER BY next_attempt_at, refund_no"
    " LIMIT $2 OFFSET $3",
    3,
    {TEXTOID, INT8OID, INT8OID}};

Statement select_put_off = {
    "SELECT 1 FROM {s}.t_refund WHERE refund_no = $1 AND next_attempt_at > now()", 1, {TEXTOID}};

Statement select_next_due = {
    "SELECT next_attempt_at FROM {s}.t_refund WHERE gateway = $1"
    " AND status IN (0, 150, 200) AND lease_owner IS NULL AND next_attempt_at >= $3"
    " ORDER BY next_attempt_at LIMIT 1 OFFSET $2",
    3,
    {TEXTOID, INT8OID, TIMESTAMPTZOID}};

const char* kept_utf8(std::uint64_t row, int column, MemoryContext context) {
    const std::string_view text = to_utf8(text_column(row, column));
    return text_copy(context, text);
}

// A refund of a payment for which no money arrived: somebody inserted it by hand. It was never
// sent.
void refuse_unfounded(const char* schema, std::uint64_t row, SPITupleTable* claimed) {
    RefundRow refund;
    if (read_refund(schema, text_column(row, 1), RowLock::wait, &refund)) {
        core::RefundStep step;
        step.status = core::RefundStatus::attention;
        RefundNews news;
        news.last_error = "no money arrived for its payment: nothing was sent";
        write_refund_step(schema, refund, step, news, GetCurrentTransactionStartTimestamp());
    }
    SPI_tuptable = claimed;
}

void collect(std::uint64_t row, const GatewayConfig& gateway, MemoryContext context, List** calls) {
    auto* call = static_cast<ClaimedCall*>(MemoryContextAllocZero(context, sizeof(ClaimedCall)));
    call->gateway = gateway.name;
    call->refund_no = kept_utf8(row, 1, context);
    call->payment_id = kept_utf8(row, 2, context);
    call->order_id = kept_utf8(row, 3, context);
    call->transaction_id = kept_utf8(row, 4, context);
    call->currency = kept_utf8(row, 5, context);
    call->reason = kept_utf8(row, 6, context);
    call->amount = int64_column(row, 7);
    call->attempt = int_column(row, 8);
    call->query = bool_column(row, 9);
    call->gateway_refund_id = kept_utf8(row, 11, context);
    call->payment_amount = int64_column(row, 12);
    call->key_generation = int_column(row, 13);
    call->claimed_at = GetCurrentTransactionStartTimestamp();
    const MemoryContext previous = MemoryContextSwitchTo(context);
    *calls = lappend(*calls, call);
    MemoryContextSwitchTo(previous);
    fault_point(FaultPoint::claim_collected);
}

void collect_claimed(const char* schema, std::uint64_t rows, const GatewayConfig& gateway,
                     MemoryContext context, List** calls) {
    SPITupleTable* claimed = SPI_tuptable;
    for (std::uint64_t row = 0; row < rows; ++row) {
        const auto payment_status = static_cast<core::PaymentStatus>(int_column(row, 10));
        const bool first_attempt = !bool_column(row, 9) && int_column(row, 8) == 1;
        if (first_attempt && !core::has_succeeded(payment_status)) {
            refuse_unfounded(schema, row, claimed);
        } else {
            collect(row, gateway, context, calls);
        }
    }
}

TimestampTz lease_end(const GatewayConfig& gateway) {
    return TimestampTzPlusMilliseconds(GetCurrentTransactionStartTimestamp(),
                                       lease_ms(gateway.timeout_ms));
}

// While claiming one by one: how many of a gateway's rows, the longest due, failed in this round
// and are passed over until the next. However many there are, what is behind them has its turn.
struct Round {
    std::int64_t failed = 0;
    TimestampTz next_at = 0;
};

// Where a gateway's part of the queue begins. What is added later may be due before that, if its
// transaction took long: so the whole of it is looked through again and again.
struct Queue {
    TimestampTz from = 0;
    Pace whole;
};

struct Remembered {
    NameData gateway = {};
    Round round;
    Queue queue;
};

Remembered& remembered(const GatewayConfig& gateway) {
    static List* all = NIL;  // one for each gateway ever claimed from
    ListCell* cell = nullptr;
    foreach (cell, all) {
        auto* known = static_cast<Remembered*>(lfirst(cell));
        if (std::strcmp(NameStr(known->gateway), gateway.name) == 0) {
            return *known;
        }
    }
    const MemoryContext previous = MemoryContextSwitchTo(TopMemoryContext);
    auto* added = static_cast<Remembered*>(palloc0(sizeof(Remembered)));
    namestrcpy(&added->gateway, gateway.name);
    all = lappend(all, added);
    MemoryContextSwitchTo(previous);
    return *added;
}

Round& round_of(const GatewayConfig& gateway, TimestampTz now) {
    Round* round = &remembered(gateway).round;
    const TimestampTz first_end = TimestampTzPlusMilliseconds(now, failed_row_retry_ms);
    const TimestampTz latest_end =
        TimestampTzPlusMilliseconds(first_end, round->failed * failed_row_more_ms);
    if (round->next_at <= now || round->next_at > latest_end) {  // or the clock was set back
        round->failed = 0;
        round->next_at = first_end;
    }
    return *round;
}

TimestampTz next_due_of(const char* schema, const GatewayConfig& gateway, std::int64_t skipped,
                        TimestampTz from) {
    Parameters parameters;
    parameters.add(gateway.name).add(skipped).add_time(from);
    return run(select_next_due, schema, parameters) == 0
               ? never
               : optional_time_column(0, 1).value_or(never);
}

struct Claimant {
    const char* schema;
    std::int64_t lease_owner;
    MemoryContext context;  // of the calls
    bool one_by_one;
};

Parameters claim_parameters(const Claimant& claimant, const GatewayConfig& gateway, int limit) {
    const core::GatewayTraits& traits = gateway.driver->traits;
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    Parameters parameters;
    parameters.add(gateway.name)
        .add(static_cast<std::int64_t>(limit))
        .add_time(lease_end(gateway))
        .add(claimant.lease_owner)
        .add_time(traits.idempotency_horizon_s == 0
                      ? std::nullopt
                      : std::optional(now - traits.idempotency_horizon_s * USECS_PER_SEC))
        .add(traits.payment_spacing_s + spacing_margin_s);
    return parameters;
}

Statement& form_for(ClaimStatement& statement, const GatewayConfig& gateway) {
    return gateway.driver->traits.payment_spacing_s > 0 ? statement.spaced : statement.plain;
}

enum class ClaimedAlone : std::uint8_t {
    claimed,
    put_off,  // for the gateway's spacing: no longer due
    failed,   // by an error, which is reported and undone; or locked
};

// In a subtransaction.
ClaimedAlone claim_alone(const Claimant& claimant, const GatewayConfig& gateway,
                         std::string_view refund_no, List** calls) {
    std::uint64_t rows = 0;
    List* claimed = NIL;
    const bool done = run_alone([&] {
        Parameters parameters = claim_parameters(claimant, gateway, 1);
        parameters.add(refund_no);
        rows = run(form_for(claim_one, gateway), claimant.schema, parameters);
        collect_claimed(claimant.schema, rows, gateway, claimant.context, &claimed);
    });
    if (!done) {
        return ClaimedAlone::failed;
    }
    if (rows == 0) {
        Parameters parameters;
        parameters.add(refund_no);
        const bool put_off = run(select_put_off, claimant.schema, parameters) > 0;
        return put_off ? ClaimedAlone::put_off : ClaimedAlone::failed;
    }
    const MemoryContext previous = MemoryContextSwitchTo(claimant.context);
    *calls = list_concat(*calls, claimed);
    MemoryContextSwitchTo(previous);
    return ClaimedAlone::claimed;
}

std::uint64_t claim_one_by_one(const Claimant& claimant, const GatewayConfig& gateway, int limit,
                               Round* round, List** calls) {
    Parameters parameters;
    parameters.add(gateway.name)
        .add(static_cast<std::int64_t>(settings.batch_size))
        .add(round->failed);
    const std::uint64_t due = run(select_due, claimant.schema, parameters);
    SPITupleTable* found = SPI_tuptable;
    std::uint64_t claimed = 0;
    for (std::uint64_t row = 0; row < due && claimed < static_cast<std::uint64_t>(limit); ++row) {
        SPI_tuptable = found;
        const ClaimedAlone ended = claim_alone(claimant, gateway, text_column(row, 1), calls);
        claimed += ended == ClaimedAlone::claimed ? 1 : 0;
        if (ended == ClaimedAlone::failed) {
            ++round->failed;
            round->next_at = TimestampTzPlusMilliseconds(round->next_at, failed_row_more_ms);
        }
    }
    return claimed;
}

// What the gateway will soon refuse to refund goes first, by age; then what is due, by time.
std::uint64_t claim_batch(const Claimant& claimant, const GatewayConfig& gateway, int limit,
                          TimestampTz from, List** calls) {
    const std::int64_t window_s = gateway.driver->traits.refund_window_s;
    std::uint64_t urgent = 0;
    if (window_s > 0) {
        Parameters parameters = claim_parameters(claimant, gateway, limit);
        parameters.add_time(GetCurrentTransactionStartTimestamp() -
                            (window_s - urgent_s) * USECS_PER_SEC);
        urgent = run(form_for(claim_urgent, gateway), claimant.schema, parameters);
        collect_claimed(claimant.schema, urgent, gateway, claimant.context, calls);
    }
    const int left = limit - static_cast<int>(urgent);
    if (left <= 0) {
        return urgent;
    }
    Parameters parameters = claim_parameters(claimant, gateway, left);
    parameters.add_time(from);
    const std::uint64_t rows = run(form_for(claim_due, gateway), claimant.schema, parameters);
    collect_claimed(claimant.schema, rows, gateway, claimant.context, calls);
    return urgent + rows;
}

std::uint64_t claim_up_to(const Claimant& claimant, const GatewayConfig& gateway, int limit,
                          TimestampTz from, Round* round, List** calls) {
    if (limit <= 0) {
        return 0;
    }
    return round != nullptr ? claim_one_by_one(claimant, gateway, limit, round, calls)
                            : claim_batch(claimant, gateway, limit, from, calls);
}

// Looks from where the queue begins, and learns where it does now.
TimestampTz next_due_in(const char* schema, const GatewayConfig& gateway, Queue* queue,
                        bool whole) {
    queue->whole.begin();
    const TimestampTz due = next_due_of(schema, gateway, 0, whole ? before_all : queue->from);
    if (whole) {
        queue->whole.end();
    }
    queue->from = std::min(
        due, TimestampTzPlusMilliseconds(GetCurrentTransactionStartTimestamp(), -usual_delay_ms));
    return due;
}

void claim_of_gateway(const Claimant& claimant, const GatewayConfig& gateway, int room,
                      ClaimResult* result, List** calls) {
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    const int allowance = std::min(room, bridge::allowance(gateway.name, now));
    Round* round = claimant.one_by_one ? &round_of(gateway, now) : nullptr;
    Queue* queue = &remembered(gateway).queue;
    const bool whole = round != nullptr || queue->whole.is_due(now);
    const std::uint64_t rows =
        claim_up_to(claimant, gateway, allowance, whole ? before_all : queue->from, round, calls);
    result->claimed += static_cast<int>(rows);
    const bool skips = round != nullptr && round->failed > 0;
    const TimestampTz due = skips ? next_due_of(claimant.schema, gateway, round->failed, before_all)
                                  : next_due_in(claimant.schema, gateway, queue, whole);
    if (!whole) {
        result->next_due = std::min(result->next_due, queue->whole.next_at());
    }
    if (skips) {
        result->next_due = std::min(result->next_due, round->next_at);
    }
    if (rows < static_cast<std::uint64_t>(allowance)) {
        // What is due and yet was not claimed is locked by somebody: no reason to spin. One by one
        // it comes after the rows that failed, and is next.
        const TimestampTz again_at =
            round != nullptr ? now : TimestampTzPlusMilliseconds(now, locked_retry_ms);
        result->next_due = std::min(result->next_due, due <= now ? again_at : due);
        return;
    }
    if (due <= now && (rows > 0 || room == 0)) {
        // Perhaps only the batch is full. The limits tell once what was claimed has been started.
        result->next_due = now;
        return;
    }
    // The limit was reached: by concurrency (an answer makes room) or by the rate (time does).
    const TimestampTz next_token = bridge::next_token_at(gateway.name, now);
    if (due > now || next_token > now) {
        result->next_due = std::min(result->next_due, std::max(due, next_token));
        return;
    }
    // Of the gateway that needs the fewest: a slow one must not hold up another. One that is full
    // gets room from the next answer that is recorded, whether any is under way or not.
    const int enough =
        bridge::is_full(gateway.name)
            ? 1
            : std::min(handful, bridge::in_flight(gateway.name) / handfuls_in_flight + 1);
    result->answers_awaited =
        result->answers_awaited == 0 ? enough : std::min(result->answers_awaited, enough);
}

}  // namespace

ClaimResult claim(const char* schema, std::int64_t lease_owner, const GatewayConfig* gateways,
                  int gateway_count, bool one_by_one, List** calls) {
    const Claimant claimant = {schema, lease_owner, CurrentMemoryContext, one_by_one};
    ClaimResult result = {0, 0, never};
    SPI_connect();
    // A different one first each time, or a full batch for the first would starve the last.
    static std::uint32_t turn = 0;  // wraps round; a negative one would index before the array
    ++turn;
    const auto count = static_cast<std::uint32_t>(gateway_count);
    for (std::uint32_t i = 0; i < count; ++i) {
        const GatewayConfig& gateway = gateways[(turn + i) % count];
        if (!gateway.paused && gateway.is_ready()) {
            claim_of_gateway(claimant, gateway, settings.batch_size - result.claimed, &result,
                             calls);
        }
    }
    SPI_finish();
    return result;
}

}  // namespace payonce::pg
