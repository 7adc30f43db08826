// The status codes of the three tables and the changes of status that are allowed.
// The triggers of the database and the pure decisions both stand on these functions.
#pragma once

#include <cstdint>

namespace payonce::core {

enum class OrderStatus : std::int16_t { unpaid = 0, paid = 100, closed = 400 };

enum class PaymentStatus : std::int16_t {
    paying = 0,
    paid = 100,  // the winner
    refunding = 200,
    refunded = 300,
    failed = 400,
    attention = 500,
};

enum class RefundStatus : std::int16_t {
    queued = 0,
    sending = 100,      // leased to the worker
    unconfirmed = 150,  // sent, outcome unknown
    processing = 200,   // the gateway accepted it
    refunded = 300,
    cancelled = 400,  // by a person
    attention = 500,
};

enum class RefundReason : std::uint8_t { duplicate, late, request, mismatch };

const char* name_of(RefundReason reason) noexcept;

// True where the contract lists from → to. A status that stays as it is is no change: not asked
// here.
bool order_may_change(std::int16_t from, std::int16_t to) noexcept;
bool payment_may_change(std::int16_t from, std::int16_t to) noexcept;
bool refund_may_change(std::int16_t from, std::int16_t to) noexcept;

// The gateway said at least once that this payment's money arrived.
constexpr bool has_succeeded(PaymentStatus status) noexcept {
    return status == PaymentStatus::paid || status == PaymentStatus::refunding ||
           status == PaymentStatus::refunded || status == PaymentStatus::attention;
}

}  // namespace payonce::core
