// Where a payment stands once money has arrived for it: its status follows from whether its order
// keeps it and from its refunds, and from nothing else.
#pragma once

#include <cstdint>

#include "core/states.h"

namespace payonce::core {

// Minor units, over all refunds of one payment that are not cancelled.
struct RefundSums {
    std::int64_t pending = 0;  // queued, sending, unconfirmed, processing
    std::int64_t refunded = 0;
    std::int64_t attention = 0;

    std::int64_t reserved() const noexcept { return pending + refunded + attention; }
};

// Where a payment that succeeded (has_succeeded) stands. `arrived` is what the customer paid.
PaymentStatus payment_status_after(bool is_winner, std::int64_t arrived,
                                   const RefundSums& sums) noexcept;

// The next status on the way from `current` to `target`, both of a payment that succeeded: `target`
// itself, or one that the database insists on in between. Repeated, it arrives.
PaymentStatus payment_step_towards(PaymentStatus current, PaymentStatus target) noexcept;

}  // namespace payonce::core
