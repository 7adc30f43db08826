#include "pg/store.h"

#include <algorithm>
#include <span>

#include "core/identifiers.h"
#include "pg/arguments.h"
#include "pg/pg.h"
#include "pg/statement.h"

namespace payonce::pg {
namespace {

constexpr std::size_t max_attention_bytes = std::size_t{64} * 1024;
constexpr int max_suffix_tries = 20;

namespace orders {
enum { id, status, price, currency, paid_by };
}
namespace payments {
enum {
    id,
    order_id,
    price,
    currency,
    status,
    gateway,
    transaction_id,
    paid_amount,
    paid_currency,
    refund_reserved,
    attention,
    paid_gateway,
    created_at
};
}
namespace refunds {
enum {
    refund_no,
    payment_id,
    amount,
    reason,
    status,
    gateway,
    attempts,
    failed_attempts,
    retry_since,
    accepted_at,
    ask_first,
    number_dead,
    lease_owner,
    lease_until,
    updated_at,
    sent_at,
    key_sent_at,
    key_generation,
    when_unknown,
    gateway_refund_id
};
}

}  // namespace

Table order_table = {"t_order",
                     5,
                     {{"id", TEXTOID},
                      {"status", INT4OID},
                      {"price", INT8OID},
                      {"currency", TEXTOID},
                      {"paid_by", TEXTOID}}};
Table payment_table = {"t_order_pay",
                       13,
                       {{"id", TEXTOID},
                        {"order_id", TEXTOID},
                        {"price", INT8OID},
                        {"currency", TEXTOID},
                        {"status", INT4OID},
                        {"gateway", TEXTOID},
                        {"transaction_id", TEXTOID},
                        {"paid_amount", INT8OID},
                        {"paid_currency", TEXTOID},
                        {"refund_reserved", INT8OID},
                        {"attention", TEXTOID},
                        {"paid_gateway", TEXTOID},
                        {"created_at", TIMESTAMPTZOID}}};
Table refund_table = {"t_refund",
                      20,
                      {{"refund_no", TEXTOID},
                       {"payment_id", TEXTOID},
                       {"amount", INT8OID},
                       {"reason", TEXTOID},
                       {"status", INT4OID},
                       {"gateway", TEXTOID},
                       {"attempts", INT4OID},
                       {"failed_attempts", INT4OID},
                       {"retry_since", TIMESTAMPTZOID},
                       {"accepted_at", TIMESTAMPTZOID},
                       {"ask_first", BOOLOID},
                       {"number_dead", BOOLOID},
                       {"lease_owner", INT8OID},
                       {"lease_until", TIMESTAMPTZOID},
                       {"updated_at", TIMESTAMPTZOID},
                       {"sent_at", TIMESTAMPTZOID},
                       {"key_sent_at", TIMESTAMPTZOID},
                       {"key_generation", INT4OID},
                       {"when_unknown", TEXTOID},
                       {"gateway_refund_id", TEXTOID}},
                      refunds::payment_id};

namespace {

RowWrite update_order_paid = {
    &order_table,
    CMD_UPDATE,
    3,
    {{"status", INT4OID}, {"paid_by", TEXTOID}, {"paid_at", TIMESTAMPTZOID}}};
RowWrite update_order_closed = {
    &order_table, CMD_UPDATE, 2, {{"status", INT4OID}, {"closed_at", TIMESTAMPTZOID}}};
RowWrite update_payment = {&payment_table,
                           CMD_UPDATE,
                           7,
                           {{"status", INT4OID},
                            {"transaction_id", TEXTOID},
                            {"paid_amount", INT8OID},
                            {"paid_currency", TEXTOID},
                            {"attention", TEXTOID},
                            {"paid_gateway", TEXTOID},
                            {"updated_at", TIMESTAMPTZOID}}};
RowWrite update_reserved = {&payment_table, CMD_UPDATE, 1, {{"refund_reserved", INT8OID}}};
RowWrite insert_refund = {&refund_table,
                          CMD_INSERT,
                          7,
                          {{"refund_no", TEXTOID},
                           {"payment_id", TEXTOID},
                           {"amount", INT8OID},
                           {"reason", TEXTOID},
                           {"gateway", TEXTOID},
                           {"window_from", TIMESTAMPTZOID},
                           {"note", TEXTOID}}};

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

// Reads one row of a table.
bool find_one(Table& table, const char* schema, std::string_view key, RowLock lock, Row* row) {
    TableUse use = begin_use(table, schema);
    begin_view();
    const bool found = find_row(use, key, lock, row);
    end_view();
    end_use(use);
    return found;
}

std::span<const Row> refunds_of(const char* schema, std::string_view payment_id) {
    TableUse use = begin_use(refund_table, schema);
    begin_view();
    const std::span<const Row> rows = find_group(use, payment_id);
    end_view();
    end_use(use);
    return rows;
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

OrderRow order_in(const Row& row) {
    OrderRow order;
    order.status = static_cast<core::OrderStatus>(int_of(row, orders::status));
    order.price = int64_of(row, orders::price);
    order.currency = text_of(row, orders::currency);
    order.paid_by = optional_text_of(row, orders::paid_by);
    return order;
}

PaymentRow payment_in(const Row& row) {
    PaymentRow payment;
    payment.id = text_of(row, payments::id);
    payment.order_id = text_of(row, payments::order_id);
    payment.price = int64_of(row, payments::price);
    payment.currency = text_of(row, payments::currency);
    payment.status = static_cast<core::PaymentStatus>(int_of(row, payments::status));
    payment.gateway = text_of(row, payments::gateway);
    payment.transaction_id = optional_text_of(row, payments::transaction_id);
    payment.paid_amount = optional_int64_of(row, payments::paid_amount);
    payment.paid_currency = optional_text_of(row, payments::paid_currency);
    payment.refund_reserved = int64_of(row, payments::refund_reserved);
    payment.attention = optional_text_of(row, payments::attention);
    payment.paid_gateway = optional_text_of(row, payments::paid_gateway);
    payment.created_at = optional_time_of(row, payments::created_at).value_or(0);
    return payment;
}

namespace {

RefundRow refund_in(const Row& row) {
    RefundRow refund;
    refund.refund_no = text_of(row, refunds::refund_no);
    refund.payment_id = text_of(row, refunds::payment_id);
    refund.amount = int64_of(row, refunds::amount);
    refund.reason = text_of(row, refunds::reason);
    refund.status = static_cast<core::RefundStatus>(int_of(row, refunds::status));
    refund.gateway = text_of(row, refunds::gateway);
    refund.attempts = int_of(row, refunds::attempts);
    refund.failed_attempts = int_of(row, refunds::failed_attempts);
    refund.retry_since = optional_time_of(row, refunds::retry_since);
    refund.accepted_at = optional_time_of(row, refunds::accepted_at);
    refund.ask_first = bool_of(row, refunds::ask_first);
    refund.number_dead = bool_of(row, refunds::number_dead);
    refund.lease_owner = optional_int64_of(row, refunds::lease_owner);
    refund.lease_until = optional_time_of(row, refunds::lease_until);
    refund.updated_at = optional_time_of(row, refunds::updated_at).value_or(0);
    refund.sent_at = optional_time_of(row, refunds::sent_at);
    refund.key_sent_at = optional_time_of(row, refunds::key_sent_at);
    refund.key_generation = int_of(row, refunds::key_generation);
    refund.when_unknown = core::when_unknown_of(text_of(row, refunds::when_unknown));
    refund.gateway_refund_id = optional_text_of(row, refunds::gateway_refund_id);
    return refund;
}

}  // namespace

bool read_order(const char* schema, std::string_view id, RowLock lock, OrderRow* row) {
    Row found;
    if (!find_one(order_table, schema, id, lock, &found)) {
        return false;
    }
    *row = order_in(found);
    return true;
}

bool read_payment(const char* schema, std::string_view id, RowLock lock, PaymentRow* row) {
    Row found;
    if (!find_one(payment_table, schema, id, lock, &found)) {
        return false;
    }
    *row = payment_in(found);
    return true;
}

bool read_refund(const char* schema, std::string_view refund_no, RowLock lock, RefundRow* row) {
    Row found;
    if (!find_one(refund_table, schema, refund_no, lock, &found)) {
        return false;
    }
    *row = refund_in(found);
    return true;
}

RefundRow refund_at(std::uint64_t row, int first) {
    return refund_in(row_at(refund_table, row, first));
}

namespace {

// The values of a write begin with the row's key.
Parameters paid_values(std::string_view order_id, std::string_view payment_id) {
    Parameters values;
    values.add(order_id)
        .add(static_cast<int>(core::OrderStatus::paid))
        .add(payment_id)
        .add_time(GetCurrentTransactionStartTimestamp());
    return values;
}

Parameters payment_values(const PaymentRow& payment) {
    Parameters values;
    values.add(payment.id)
        .add(static_cast<int>(payment.status))
        .add(payment.transaction_id)
        .add(payment.paid_amount)
        .add(payment.paid_currency)
        .add(payment.attention)
        .add(payment.paid_gateway)
        .add_time(GetCurrentTransactionStartTimestamp());
    return values;
}

}  // namespace

void mark_order_paid(TableUse& orders_in_use, Row* order, std::string_view payment_id) {
    Parameters values = paid_values(text_of(*order, orders::id), payment_id);
    update_row(update_order_paid, orders_in_use, order, values);
}

void mark_order_paid(const char* schema, std::string_view order_id, std::string_view payment_id) {
    Parameters values = paid_values(order_id, payment_id);
    update_by_key(update_order_paid, schema, order_id, values);
}

void mark_order_closed(const char* schema, std::string_view order_id) {
    Parameters values;
    values.add(order_id)
        .add(static_cast<int>(core::OrderStatus::closed))
        .add_time(GetCurrentTransactionStartTimestamp());
    update_by_key(update_order_closed, schema, order_id, values);
}

void write_payment(TableUse& payments_in_use, Row* row, const PaymentRow& payment) {
    Parameters values = payment_values(payment);
    update_row(update_payment, payments_in_use, row, values);
}

void write_payment(const char* schema, const PaymentRow& payment) {
    Parameters values = payment_values(payment);
    update_by_key(update_payment, schema, payment.id, values);
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
    insert_row(insert_refund, schema, parameters);
    return refund_no;
}

namespace {

// Of the refunds that are not cancelled.
std::int64_t sum_of_refunds(const char* schema, std::string_view payment_id) {
    std::int64_t sum = 0;
    for (const Row& row : refunds_of(schema, payment_id)) {
        const std::int64_t amount = int64_of(row, refunds::amount);
        if (int_of(row, refunds::status) != static_cast<int>(core::RefundStatus::cancelled) &&
            pg_add_s64_overflow(sum, amount, &sum)) {
            ereport(ERROR,
                    (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("bigint out of range")));
        }
    }
    return sum;
}

}  // namespace

void write_reserved(const char* schema, std::string_view payment_id) {
    TableUse use = begin_use(payment_table, schema);
    Row payment;
    begin_view();
    const bool found = find_row(use, payment_id, RowLock::wait, &payment);
    end_view();
    if (found) {  // not deleted by the same statement
        // After the lock, in a view of its own: so it sees what the lock's last holder wrote.
        Parameters values;
        values.add(payment_id).add(sum_of_refunds(schema, payment_id));
        update_row(update_reserved, use, &payment, values);
    }
    end_use(use);
}

std::string_view next_automatic_refund_no(const char* schema, std::string_view payment_id) {
    std::int32_t highest = 0;
    for (const Row& row : refunds_of(schema, payment_id)) {
        highest = std::max(highest,
                           core::refund_generation(text_of(row, refunds::refund_no), payment_id));
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
