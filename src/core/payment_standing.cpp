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

PaymentStatus payment_status_after(bool is_winner, std::int64_t arrived,
                                   const RefundSums& sums) noexcept {
    if (sums.reserved() >= arrived) {
        return settled_by(sums);
    }
    return is_winner ? PaymentStatus::paid : PaymentStatus::attention;
}

PaymentStatus payment_step_towards(PaymentStatus current, PaymentStatus target) noexcept {
    const bool direct = current == target || payment_may_change(static_cast<std::int16_t>(current),
                                                                static_cast<std::int16_t>(target));
    if (direct) {
        return target;
    }
    return current == PaymentStatus::paid ? PaymentStatus::refunding : PaymentStatus::attention;
}

}  // namespace payonce::core
