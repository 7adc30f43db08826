#include "pg/store.h"

#include <algorithm>

#include "core/identifiers.h"
#include "pg/arguments.h"
#include "pg/pg.h"
#include "pg/statement.h"

namespace payonce::pg {
namespace {

constexpr std::size_t max_attention_bytes = std::size_t{64} * 1024;
constexpr int max_suffix_tries = 20;

#define PAYONCE_ORDER_COLUMNS \
    "SELECT status, price, currency, paid_by FROM {s}.t_order WHERE id = $1"
#define PAYONCE_PAYMENT_COLUMNS                                                           \
    "SELECT id, order_id, price, currency, status, gateway, transaction_id, paid_amount," \
    " paid_currency, refund_reserved, attention, paid_gateway, created_at"                \
    " FROM {s}.t_order_pay WHERE id = $1"
#define PAYONCE_REFUND_COLUMNS                                                          \
    "SELECT refund_no, payment_id, amount, reason, status, gateway, attempts,"          \
    " failed_attempts, retry_since, accepted_at, ask_first, number_dead, lease_owner, " \
    "lease_until, updated_at, sent_at, key_sent_at, key_generation, when_unknown,"      \
    " gateway_refund_id"                                                                \
    " FROM {s}.t_refund WHERE refund_no = $1"
#define PAYONCE_LOCK_WAIT " FOR NO KEY UPDATE"
#define PAYONCE_LOCK_SKIP " FOR NO KEY UPDATE SKIP LOCKED"

Statement select_order[] = {
    {PAYONCE_ORDER_COLUMNS, 1, {TEXTOID}},
    {PAYONCE_ORDER_COLUMNS PAYONCE_LOCK_WAIT, 1, {TEXTOID}},
    {PAYONCE_ORDER_COLUMNS PAYONCE_LOCK_SKIP, 1, {TEXTOID}},
};
Statement select_payment[] = {
    {PAYONCE_PAYMENT_COLUMNS, 1, {TEXTOID}},
    {PAYONCE_PAYMENT_COLUMNS PAYONCE_LOCK_WAIT, 1, {TEXTOID}},
    {PAYONCE_PAYMENT_COLUMNS PAYONCE_LOCK_SKIP, 1, {TEXTOID}},
};
Statement select_refund[] = {
    {PAYONCE_REFUND_COLUMNS, 1, {TEXTOID}},
    {PAYONCE_REFUND_COLUMNS PAYONCE_LOCK_WAIT, 1, {TEXTOID}},
    {PAYONCE_REFUND_COLUMNS PAYONCE_LOCK_SKIP, 1, {TEXTOID}},
};

Statement update_order_paid = {
    "UPDATE {s}.t_order SET status = 100, paid_by = $2, paid_at = now() WHERE id = $1",
    2,
    {TEXTOID, TEXTOID}};
Statement update_payment = {
    "UPDATE {s}.t_order_pay SET status = $2, transaction_id = $3, paid_amount = $4,"
    " paid_currency = $5, attention = $6, paid_gateway = $7, updated_at = now() WHERE id = $1",
    7,
    {TEXTOID, INT4OID, TEXTOID, INT8OID, TEXTOID, TEXTOID, TEXTOID}};
Statement update_standing = {
    "UPDATE {s}.t_order_pay SET status = $2, attention = $3, updated_at = now() WHERE id = $1",
    3,
    {TEXTOID, INT4OID, TEXTOID}};
Statement insert_refund = {
    "INSERT INTO {s}.t_refund (refund_no, payment_id, amount, reason, gateway, window_from, note)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7)",
    7,
    {TEXTOID, TEXTOID, INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID}};
Statement select_refund_numbers = {
    "SELECT refund_no FROM {s}.t_refund WHERE payment_id = $1", 1, {TEXTOID}};
Statement select_sums = {
    "SELECT coalesce(sum(amount) FILTER (WHERE status IN (0, 100, 150, 200)), 0)::bigint,"
    " coalesce(sum(amount) FILTER (WHERE status = 300), 0)::bigint,"
    " coalesce(sum(amount) FILTER (WHERE status = 500), 0)::bigint"
    " FROM {s}.t_refund WHERE payment_id = $1",
    1,
    {TEXTOID}};
Statement begin_sending = {
    "UPDATE {s}.t_refund SET status = 100, updated_at = now() WHERE refund_no = $1", 1, {TEXTOID}};
Statement update_refund = {
    "UPDATE {s}.t_refund SET status = $2, failed_attempts = $3, next_attempt_at = $4,"
    " ask_first = $5, number_dead = $6, accepted_at = $7, finished_at = $8, retry_since = $9,"
    " gateway_refund_id = coalesce($10, gateway_refund_id),"
    " last_error = CASE WHEN $2 IN (200, 300) THEN $11 ELSE coalesce($11, last_error) END,"
    " note = coalesce($12, note), superseded_by = coalesce($13, superseded_by),"
    " when_unknown = $14, key_sent_at = $15, key_generation = $16,"
    " lease_owner = NULL, lease_until = NULL, updated_at = now() WHERE refund_no = $1",
    16,
    {TEXTOID, INT4OID, INT4OID, TIMESTAMPTZOID, BOOLOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
     TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID}};

template <std::size_t count>
bool select_one(Statement (&statements)[count], const char* schema, std::string_view id,
                RowLock lock) {
    Parameters parameters;
    parameters.add(id);
    return run(statements[static_cast<std::size_t>(lock)], schema, parameters) == 1;
}

}  // namespace

core::RefundFacts RefundRow::facts(TimestampTz now) const {
    core::RefundFacts facts;
    facts.status = status;
    facts.failed_attempts = failed_attempts;
    facts.retry_since = retry_since.value_or(now);
    facts.accepted_at = accepted_at.value_or(now);
    facts.sent_at = sent_at;
    facts.key_sent_at = key_sent_at;
    facts.when_unknown = when_unknown;
    return facts;
}

bool read_order(const char* schema, std::string_view id, RowLock lock, OrderRow* row) {
    if (!select_one(select_order, schema, id, lock)) {
        return false;
    }
    row->status = static_cast<core::OrderStatus>(int_column(0, 1));
    row->price = int64_column(0, 2);
    row->currency = text_column(0, 3);
    row->paid_by = optional_text_column(0, 4);
    return true;
}

bool read_payment(const char* schema, std::string_view id, RowLock lock, PaymentRow* row) {
    if (!select_one(select_payment, schema, id, lock)) {
        return false;
    }
    row->id = text_column(0, 1);
    row->order_id = text_column(0, 2);
    row->price = int64_column(0, 3);
    row->currency = text_column(0, 4);
    row->status = static_cast<core::PaymentStatus>(int_column(0, 5));
    row->gateway = text_column(0, 6);
    row->transaction_id = optional_text_column(0, 7);
    row->paid_amount = optional_int64_column(0, 8);
    row->paid_currency = optional_text_column(0, 9);
    row->refund_reserved = int64_column(0, 10);
    row->attention = optional_text_column(0, 11);
    row->paid_gateway = optional_text_column(0, 12);
    row->created_at = optional_time_column(0, 13).value_or(0);
    return true;
}

bool read_refund(const char* schema, std::string_view refund_no, RowLock lock, RefundRow* row) {
    if (!select_one(select_refund, schema, refund_no, lock)) {
        return false;
    }
    row->refund_no = text_column(0, 1);
    row->payment_id = text_column(0, 2);
    row->amount = int64_column(0, 3);
    row->reason = text_column(0, 4);
    row->status = static_cast<core::RefundStatus>(int_column(0, 5));
    row->gateway = text_column(0, 6);
    row->attempts = int_column(0, 7);
    row->failed_attempts = int_column(0, 8);
    row->retry_since = optional_time_column(0, 9);
    row->accepted_at = optional_time_column(0, 10);
    row->ask_first = bool_column(0, 11);
    row->number_dead = bool_column(0, 12);
    row->lease_owner = optional_int64_column(0, 13);
    row->lease_until = optional_time_column(0, 14);
    row->updated_at = optional_time_column(0, 15).value_or(0);
    row->sent_at = optional_time_column(0, 16);
    row->key_sent_at = optional_time_column(0, 17);
    row->key_generation = int_column(0, 18);
    row->when_unknown = core::when_unknown_of(text_column(0, 19));
    row->gateway_refund_id = optional_text_column(0, 20);
    return true;
}

void mark_order_paid(const char* schema, std::string_view order_id, std::string_view payment_id) {
    Parameters parameters;
    parameters.add(order_id).add(payment_id);
    write_row(update_order_paid, schema, parameters);
}

void write_payment(const char* schema, const PaymentRow& row) {
    Parameters parameters;
    parameters.add(row.id)
        .add(static_cast<int>(row.status))
        .add(row.transaction_id)
        .add(row.paid_amount)
        .add(row.paid_currency)
        .add(row.attention)
        .add(row.paid_gateway);
    write_row(update_payment, schema, parameters);
}

std::string_view queue_refund(const char* schema, const PaymentRow& payment,
                              std::string_view refund_no, std::int64_t amount,
                              core::RefundReason reason, std::string_view note) {
    Parameters parameters;
    parameters.add(refund_no)
        .add(payment.id)
        .add(amount)
        .add(core::name_of(reason))
        .add(payment.arrived_through())
        .add_time(payment.created_at);
    if (note.empty()) {
        parameters.add_null();
    } else {
        parameters.add(note);
    }
    write_row(insert_refund, schema, parameters);
    return refund_no;
}

std::string_view next_automatic_refund_no(const char* schema, std::string_view payment_id) {
    Parameters parameters;
    parameters.add(payment_id);
    const std::uint64_t rows = run(select_refund_numbers, schema, parameters);
    std::int32_t highest = 0;
    for (std::uint64_t row = 0; row < rows; ++row) {
        highest = std::max(highest, core::refund_generation(text_column(row, 1), payment_id));
    }
    if (highest >= core::max_refund_generation) {
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("payment \"%.*s\" has no refund number left",
                               static_cast<int>(payment_id.size()), payment_id.data()),
                        errdetail("%d generations of refunds were used up.", highest),
                        errhint("Settle it at the gateway and with refund_resolve.")));
    }
    return psprintf("%.*s-R%d", static_cast<int>(payment_id.size()), payment_id.data(),
                    highest + 1);
}

std::string_view new_requested_refund_no(const char* schema, std::string_view payment_id) {
    for (int tries = 0; tries < max_suffix_tries; ++tries) {
        std::uint64_t random = 0;
        if (!pg_strong_random(&random, sizeof random)) {
            break;
        }
        char suffix[6];
        core::request_suffix(random, suffix);
        const std::string_view refund_no =
            psprintf("%.*s-Q%.6s", static_cast<int>(payment_id.size()), payment_id.data(), suffix);
        RefundRow taken;
        if (!read_refund(schema, refund_no, RowLock::none, &taken)) {
            return refund_no;
        }
    }
    ereport(ERROR,
            (errcode(ERRCODE_INTERNAL_ERROR), errmsg("no free refund number was found"),
             errdetail("%d random numbers were taken or could not be made.", max_suffix_tries),
             errhint("Try again.")));
    pg_unreachable();
}

void write_refund_step(const char* schema, const RefundRow& row, const core::RefundStep& step,
                       const RefundNews& news, TimestampTz now) {
    if (step.via_sending) {
        Parameters parameters;
        parameters.add(row.refund_no);
        write_row(begin_sending, schema, parameters);
    }
    const bool finished =
        step.status == core::RefundStatus::refunded || step.status == core::RefundStatus::cancelled;
    std::optional<TimestampTz> accepted_at = row.accepted_at;
    if (step.status == core::RefundStatus::processing && !accepted_at) {
        accepted_at = now;
    } else if (step.status == core::RefundStatus::queued) {
        accepted_at = std::nullopt;  // what is sent again is accepted anew
    }
    Parameters parameters;
    parameters.add(row.refund_no)
        .add(static_cast<int>(step.status))
        .add(static_cast<int>(step.failed_attempts))
        .add_time(core::is_settled(step.status) ? now : step.next_attempt_at)
        .add(step.ask_first)
        .add(row.number_dead || step.number_dead)
        .add_time(accepted_at)
        .add_time(finished ? std::optional(now) : std::nullopt)
        .add_time(row.retry_since)
        .add(news.gateway_refund_id)
        .add(news.last_error)
        .add(news.note)
        .add(news.superseded_by)
        .add(core::name_of(step.when_unknown))
        .add_time(step.new_key ? std::nullopt : row.key_sent_at)
        .add(row.key_generation + (step.new_key ? 1 : 0));
    write_row(update_refund, schema, parameters);
}

core::RefundSums refund_sums(const char* schema, std::string_view payment_id) {
    Parameters parameters;
    parameters.add(payment_id);
    run(select_sums, schema, parameters);
    core::RefundSums sums;
    sums.pending = int64_column(0, 1);
    sums.refunded = int64_column(0, 2);
    sums.attention = int64_column(0, 3);
    return sums;
}

void update_payment_standing(const char* schema, std::string_view payment_id,
                             std::string_view refund_no, std::optional<std::string_view> reason) {
    PaymentRow payment;
    OrderRow order;
    if (!read_payment(schema, payment_id, RowLock::wait, &payment) ||
        !read_order(schema, payment.order_id, RowLock::none, &order)) {
        return;
    }
    if (!core::has_succeeded(payment.status)) {
        return;
    }
    const bool is_winner = order.paid_by && *order.paid_by == payment.id;
    const core::PaymentStatus target =
        core::payment_status_after(is_winner, payment.arrived(), refund_sums(schema, payment_id));
    std::optional<std::string_view> attention = without_attention(payment.attention, refund_no);
    if (reason) {
        attention = with_attention(attention, *reason);
    }
    if (target == payment.status && attention == payment.attention) {
        return;
    }
    core::PaymentStatus status = payment.status;
    do {
        status = core::payment_step_towards(status, target);
        Parameters parameters;
        parameters.add(payment.id).add(static_cast<int>(status)).add(attention);
        write_row(update_standing, schema, parameters);
    } while (status != target);
}

namespace {

// Calls `visit` with each reason of an attention text.
template <typename Visit>
void for_each_reason(std::string_view attention, Visit visit) {
    constexpr std::string_view separator = "; ";
    while (!attention.empty()) {
        const std::size_t end = std::min(attention.find(separator), attention.size());
        visit(attention.substr(0, end));
        attention.remove_prefix(std::min(end + separator.size(), attention.size()));
    }
}

template <typename Keep>
std::optional<std::string_view> kept_reasons(std::optional<std::string_view> old, Keep keep) {
    StringInfoData kept;
    initStringInfo(&kept);
    for_each_reason(old.value_or(std::string_view()), [&](std::string_view reason) {
        if (keep(reason)) {
            appendStringInfo(&kept, "%s%.*s", kept.len > 0 ? "; " : "",
                             static_cast<int>(reason.size()), reason.data());
        }
    });
    return kept.len > 0 ? std::optional(std::string_view(kept.data)) : std::nullopt;
}

}  // namespace

std::string_view with_attention(std::optional<std::string_view> old, std::string_view reason) {
    if (!old) {
        return reason;
    }
    bool said = false;
    for_each_reason(*old, [&](std::string_view known) { said = said || known == reason; });
    if (said) {
        return *old;
    }
    if (old->size() + reason.size() > max_attention_bytes) {
        // Nothing is dropped in silence: the caller, or the gateway, will come again.
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("a payment has too many reasons for attention"),
                        errdetail("They would be longer than %zu bytes.", max_attention_bytes),
                        errhint("Settle them, and call payment_resolve.")));
    }
    return psprintf("%.*s; %.*s", static_cast<int>(old->size()), old->data(),
                    static_cast<int>(reason.size()), reason.data());
}

std::optional<std::string_view> without_attention(std::optional<std::string_view> old,
                                                  std::string_view refund_no) {
    const std::string_view prefix =
        psprintf("refund %.*s ", static_cast<int>(refund_no.size()), refund_no.data());
    return kept_reasons(old, [=](std::string_view reason) { return !reason.starts_with(prefix); });
}

std::optional<std::string_view> conflicts_in(std::optional<std::string_view> attention) {
    return kept_reasons(attention,
                        [](std::string_view reason) { return reason.starts_with("conflict: "); });
}

}  // namespace payonce::pg
