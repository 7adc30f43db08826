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
#define PAYONCE_SELECT_REFUND \
    "SELECT " PAYONCE_REFUND_COLUMNS("") " FROM {s}.t_refund WHERE refund_no = $1"
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
    {PAYONCE_SELECT_REFUND, 1, {TEXTOID}},
    {PAYONCE_SELECT_REFUND PAYONCE_LOCK_WAIT, 1, {TEXTOID}},
    {PAYONCE_SELECT_REFUND PAYONCE_LOCK_SKIP, 1, {TEXTOID}},
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
Statement insert_refund = {
    "INSERT INTO {s}.t_refund (refund_no, payment_id, amount, reason, gateway, window_from, note)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7)",
    7,
    {TEXTOID, TEXTOID, INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID}};
Statement select_refund_numbers = {
    "SELECT refund_no FROM {s}.t_refund WHERE payment_id = $1", 1, {TEXTOID}};
Statement begin_sending = {
    "UPDATE {s}.t_refund SET status = 100, updated_at = now() WHERE refund_no = ANY ($1)",
    1,
    {TEXTARRAYOID}};
Statement update_refunds = {
    "UPDATE {s}.t_refund r SET status = u.status, failed_attempts = u.failed_attempts,"
    " next_attempt_at = u.next_attempt_at, ask_first = u.ask_first, number_dead = u.number_dead,"
    " accepted_at = u.accepted_at, finished_at = u.finished_at, retry_since = u.retry_since,"
    " gateway_refund_id = coalesce(u.gateway_refund_id, r.gateway_refund_id),"
    " last_error = CASE WHEN u.status IN (200, 300) THEN u.last_error"
    " ELSE coalesce(u.last_error, r.last_error) END,"
    " note = coalesce(u.note, r.note), superseded_by = coalesce(u.superseded_by, r.superseded_by),"
    " when_unknown = u.when_unknown, key_sent_at = u.key_sent_at,"
    " key_generation = u.key_generation,"
    " lease_owner = NULL, lease_until = NULL, updated_at = now()"
    " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
    " u (refund_no, status, failed_attempts, next_attempt_at, ask_first, number_dead, accepted_at,"
    " finished_at, retry_since, gateway_refund_id, last_error, note, superseded_by, when_unknown,"
    " key_sent_at, key_generation) WHERE r.refund_no = u.refund_no",
    16,
    {TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, BOOLARRAYOID, BOOLARRAYOID,
     TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
     TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID}};

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
    take_refund(0, 1, row);
    return true;
}

void take_refund(std::uint64_t row, int first, RefundRow* refund) {
    refund->refund_no = text_column(row, first);
    refund->payment_id = text_column(row, first + 1);
    refund->amount = int64_column(row, first + 2);
    refund->reason = text_column(row, first + 3);
    refund->status = static_cast<core::RefundStatus>(int_column(row, first + 4));
    refund->gateway = text_column(row, first + 5);
    refund->attempts = int_column(row, first + 6);
    refund->failed_attempts = int_column(row, first + 7);
    refund->retry_since = optional_time_column(row, first + 8);
    refund->accepted_at = optional_time_column(row, first + 9);
    refund->ask_first = bool_column(row, first + 10);
    refund->number_dead = bool_column(row, first + 11);
    refund->lease_owner = optional_int64_column(row, first + 12);
    refund->lease_until = optional_time_column(row, first + 13);
    refund->updated_at = optional_time_column(row, first + 14).value_or(0);
    refund->sent_at = optional_time_column(row, first + 15);
    refund->key_sent_at = optional_time_column(row, first + 16);
    refund->key_generation = int_column(row, first + 17);
    refund->when_unknown = core::when_unknown_of(text_column(row, first + 18));
    refund->gateway_refund_id = optional_text_column(row, first + 19);
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

namespace {

// What news may do to a queued refund leads through sending: the database insists on it.
void pass_through_sending(const char* schema, const RefundChange* changes, std::size_t count) {
    ParameterRows rows(begin_sending, count);
    for (std::size_t i = 0; i < count; ++i) {
        if (changes[i].step.via_sending) {
            Parameters row;
            row.add(changes[i].row.refund_no);
            rows.add(row);
        }
    }
    write_rows(begin_sending, schema, rows);
}

std::optional<TimestampTz> accepted_after(const RefundChange& change, TimestampTz now) {
    switch (change.step.status) {
        case core::RefundStatus::processing:
            return change.row.accepted_at.value_or(now);
        case core::RefundStatus::queued:
            return std::nullopt;  // what is sent again is accepted anew
        default:
            return change.row.accepted_at;
    }
}

Parameters row_of(const RefundChange& change, TimestampTz now) {
    const auto& [row, step, news] = change;
    const bool finished =
        step.status == core::RefundStatus::refunded || step.status == core::RefundStatus::cancelled;
    Parameters parameters;
    parameters.add(row.refund_no)
        .add(static_cast<int>(step.status))
        .add(static_cast<int>(step.failed_attempts))
        .add_time(core::is_settled(step.status) ? now : step.next_attempt_at)
        .add(step.ask_first)
        .add(row.number_dead || step.number_dead)
        .add_time(accepted_after(change, now))
        .add_time(finished ? std::optional(now) : std::nullopt)
        .add_time(row.retry_since)
        .add(news.gateway_refund_id)
        .add(news.last_error)
        .add(news.note)
        .add(news.superseded_by)
        .add(core::name_of(step.when_unknown))
        .add_time(step.new_key ? std::nullopt : row.key_sent_at)
        .add(row.key_generation + (step.new_key ? 1 : 0));
    return parameters;
}

}  // namespace

void write_refund_steps(const char* schema, const RefundChange* changes, std::size_t count,
                        TimestampTz now) {
    pass_through_sending(schema, changes, count);
    ParameterRows rows(update_refunds, count);
    for (std::size_t i = 0; i < count; ++i) {
        Parameters row = row_of(changes[i], now);
        rows.add(row);
    }
    write_rows(update_refunds, schema, rows);
}

void write_refund_step(const char* schema, const RefundRow& row, const core::RefundStep& step,
                       const RefundNews& news, TimestampTz now) {
    const RefundChange change = {row, step, news};
    write_refund_steps(schema, &change, 1, now);
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
