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

// `current` is a status of a payment that succeeded (has_succeeded). `arrived` is what the customer
// paid. The answer is `current` itself or one that may follow it: where a winner would have to go
// from paid to attention, it goes to refunding first and to attention with the next event.
PaymentStatus payment_status_after(PaymentStatus current, bool is_winner, std::int64_t arrived,
                                   const RefundSums& sums) noexcept;

}  // namespace payonce::core
