#include "core/payment_standing.h"

namespace payonce::core {
namespace {

PaymentStatus settled_by(const RefundSums& sums) noexcept {
    if (sums.attention > 0) {
        return PaymentStatus::attention;
    }
    return sums.pending > 0 ? PaymentStatus::refunding : PaymentStatus::refunded;
}

}  // namespace

PaymentStatus payment_status_after(PaymentStatus current, bool is_winner, std::int64_t arrived,
                                   const RefundSums& sums) noexcept {
    const bool whole = sums.reserved() >= arrived;
    PaymentStatus next = PaymentStatus::attention;
    if (whole) {
        next = settled_by(sums);
    } else if (is_winner) {
        next = PaymentStatus::paid;
    }
    if (current == PaymentStatus::paid && next == PaymentStatus::attention) {
        return PaymentStatus::refunding;
    }
    return next;
}

}  // namespace payonce::core
