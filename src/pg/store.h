// The rows of orders, payments and refunds: read, locked and written. Views in rows live in the
// memory context that was the current one: inside an SPI connection until SPI_finish.
//
// Locks are taken in one order everywhere: the order's advisory lock, then t_order, t_order_pay,
// t_refund. Rows that a decision rests on are read after the advisory lock was granted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/payment_standing.h"
#include "core/refund.h"
#include "core/states.h"
#include "pg/pg.h"
#include "pg/row_access.h"

namespace payonce::pg {

struct OrderRow {
    core::OrderStatus status = core::OrderStatus::unpaid;
    std::int64_t price = 0;
    std::string_view currency;
    std::optional<std::string_view> paid_by;
};

struct PaymentRow {
    std::string_view id;
    std::string_view order_id;
    std::int64_t price = 0;
    std::string_view currency;
    core::PaymentStatus status = core::PaymentStatus::paying;
    std::string_view gateway;
    std::optional<std::string_view> transaction_id;
    std::optional<std::int64_t> paid_amount;
    std::optional<std::string_view> paid_currency;
    std::optional<std::string_view> paid_gateway;  // where it is not `gateway`
    std::int64_t refund_reserved = 0;
    std::optional<std::string_view> attention;
    TimestampTz created_at = 0;

    std::int64_t arrived() const { return paid_amount.value_or(price); }
    std::string_view arrived_currency() const { return paid_currency.value_or(currency); }
    std::string_view arrived_through() const { return paid_gateway.value_or(gateway); }
};

struct RefundRow {
    std::string_view refund_no;
    std::string_view payment_id;
    std::int64_t amount = 0;
    std::string_view reason;
    core::RefundStatus status = core::RefundStatus::queued;
    std::string_view gateway;
    int attempts = 0;
    int failed_attempts = 0;
    std::optional<TimestampTz> retry_since;
    std::optional<TimestampTz> accepted_at;
    bool ask_first = false;
    bool number_dead = false;
    std::optional<TimestampTz> sent_at;
    std::optional<TimestampTz> key_sent_at;
    int key_generation = 1;
    core::WhenUnknown when_unknown = core::WhenUnknown::resend;
    std::optional<std::string_view> gateway_refund_id;
    std::optional<std::int64_t> lease_owner;
    std::optional<TimestampTz> lease_until;
    TimestampTz updated_at = 0;

    core::RefundFacts facts(TimestampTz now) const;
};

extern Table order_table;
extern Table payment_table;
extern Table refund_table;

// What is in a row of order_table or payment_table.
OrderRow order_in(const Row& row);
PaymentRow payment_in(const Row& row);

// Each returns false when there is no such row (or, with RowLock::skip, when it is held).
bool read_order(const char* schema, std::string_view id, RowLock lock, OrderRow* row);
bool read_payment(const char* schema, std::string_view id, RowLock lock, PaymentRow* row);
bool read_refund(const char* schema, std::string_view refund_no, RowLock lock, RefundRow* row);

// The columns of refund_table, for statements of others, and the refund in them; `first` is the
// number of the first of them.
#define PAYONCE_REFUND_COLUMNS(R)                                                              \
    R "refund_no, " R "payment_id, " R "amount, " R "reason, " R "status, " R "gateway, " R    \
      "attempts, " R "failed_attempts, " R "retry_since, " R "accepted_at, " R "ask_first, " R \
      "number_dead, " R "lease_owner, " R "lease_until, " R "updated_at, " R "sent_at, " R     \
      "key_sent_at, " R "key_generation, " R "when_unknown, " R "gateway_refund_id"
RefundRow refund_at(std::uint64_t row, int first);

// Of a row that is locked, or of the row with this key.
void mark_order_paid(TableUse& orders_in_use, Row* order, std::string_view payment_id);
void mark_order_paid(const char* schema, std::string_view order_id, std::string_view payment_id);
void mark_order_closed(const char* schema, std::string_view order_id);

// Sets every column that a decision may change; `attention` unset clears it.
void write_payment(TableUse& payments_in_use, Row* row, const PaymentRow& payment);
void write_payment(const char* schema, const PaymentRow& payment);

// Queues a refund and returns its number. The payment's row must be locked.
std::string_view queue_refund(const char* schema, const PaymentRow& payment,
                              std::string_view refund_no, std::int64_t amount,
                              core::RefundReason reason, std::string_view note);
// Sets the payment's refund_reserved to the sum of its refunds that are not cancelled, on the
// locked row.
void write_reserved(const char* schema, std::string_view payment_id);
// `<payment id>-R<generation>` with the generation after the highest so far.
std::string_view next_automatic_refund_no(const char* schema, std::string_view payment_id);
// `<payment id>-Q<6 random>`, not in use.
std::string_view new_requested_refund_no(const char* schema, std::string_view payment_id);

// What came along with a step of a refund: unset members leave the columns as they are.
struct RefundNews {
    std::optional<std::string_view> gateway_refund_id;
    std::optional<std::string_view> last_error;
    std::optional<std::string_view> note;
    std::optional<std::string_view> superseded_by;
};

// A step of a locked refund.
struct RefundChange {
    RefundRow row;
    core::RefundStep step;
    RefundNews news;
};

// Writes each step on its row, ends its lease, and clears or sets what follows from the status. Of
// a refund at most one step is written at a time.
void write_refund_steps(const char* schema, const RefundChange* changes, std::size_t count,
                        TimestampTz now);
void write_refund_step(const char* schema, const RefundRow& row, const core::RefundStep& step,
                       const RefundNews& news, TimestampTz now);

// Where a locked payment stands.
struct Standing {
    core::PaymentStatus status = core::PaymentStatus::paying;
    std::int64_t arrived = 0;
    bool is_winner = false;
    std::optional<std::string_view> attention;
    core::RefundSums sums;
};

// What a refund's step means for its payment, whose row is locked.
struct StandingChange {
    std::string_view payment_id;
    std::string_view refund_no;
    std::optional<std::string_view> reason;
    // With the sums after the step, where the caller knows it; it is read otherwise.
    std::optional<Standing> known;
};

// Brings the status of each payment in line with its refunds. What its attention said about the
// refund is replaced by the reason, or removed where that is unset. Of a payment at most one change
// is made at a time.
void update_payment_standings(const char* schema, const StandingChange* changes, std::size_t count);
void update_payment_standing(const char* schema, std::string_view payment_id,
                             std::string_view refund_no, std::optional<std::string_view> reason);

// t_order_pay.attention holds reasons separated by "; ". One about a refund begins "refund
// <refund_no> ".
std::string_view with_attention(std::optional<std::string_view> old, std::string_view reason);
std::optional<std::string_view> without_attention(std::optional<std::string_view> old,
                                                  std::string_view refund_no);
// What is left when a person has decided about a payment in status 500: the conflicts, since the
// money taken twice has no row of its own.
std::optional<std::string_view> conflicts_in(std::optional<std::string_view> attention);

}  // namespace payonce::pg
