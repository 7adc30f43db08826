// What a callback decides: the table of the contract ("What a callback decides", docs/states.md) as
// a pure function. The caller holds the order's lock, gives rows that were read after the lock was
// granted, and writes what comes back.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/states.h"

namespace payonce::core {

// The views point into the caller's memory and are not kept.
struct OrderFacts {
    OrderStatus status = OrderStatus::unpaid;
    std::int64_t price = 0;  // minor units
    std::string_view currency;
};

struct PaymentFacts {
    PaymentStatus status = PaymentStatus::paying;
    std::int64_t price = 0;  // minor units
    std::string_view currency;
    std::optional<std::string_view> transaction_id;  // unset: the gateway's number is not known yet
};

struct PaymentNews {
    bool success = false;
    std::optional<std::int64_t> paid_amount;  // minor units
    std::optional<std::string_view> paid_currency;
    std::optional<std::string_view> transaction_id;
    // A second number that the gateway has for the same money; unset: none.
    std::optional<std::string_view> other_transaction_id;
    // It came through another gateway than the payment's (before a success), or than its money
    // (after one): its failures say nothing about this
    // payment, its success is money that arrived another way.
    bool other_gateway = false;
};

// payonce.late_payment: what happens to a payment that succeeds after its order was closed.
enum class LatePolicy : std::uint8_t { refund, manual, accept };

enum class Outcome : std::uint8_t {
    paid,
    duplicate,
    late,
    mismatch,
    conflict,
    failed,
    already_processed,
};

const char* name_of(Outcome outcome) noexcept;

// Why a person is needed; the store puts the numbers into the words.
enum class AttentionReason : std::uint8_t {
    none,
    second_transaction,  // success again, under another number of the gateway
    amount_differs,      // what arrived is not what the payment asked for
    gateway_differs,     // it arrived through another gateway than the payment's
    order_differs,       // the payment's price or currency is not the order's
    late_payment,        // the order was closed and payonce.late_payment is 'manual'
};

struct Decision {
    Outcome outcome = Outcome::already_processed;
    // Set: the payment changes to this status. Unset: it keeps its own.
    std::optional<PaymentStatus> payment_status;
    bool order_becomes_paid = false;     // with this payment as paid_by
    std::optional<RefundReason> refund;  // queue a refund of the whole of what arrived
    AttentionReason attention = AttentionReason::none;
    bool fill_transaction_id = false;  // the news brings a number that was unknown
    bool fill_paid_amount = false;     // the news is the success whose amount and currency count

    bool writes_nothing() const noexcept {
        return !payment_status && !order_becomes_paid && !refund &&
               attention == AttentionReason::none && !fill_transaction_id;
    }
};

Decision decide(const OrderFacts& order, const PaymentFacts& payment, const PaymentNews& news,
                LatePolicy late_policy) noexcept;

}  // namespace payonce::core
