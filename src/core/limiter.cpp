#include "core/limiter.h"

#include <algorithm>

namespace payonce::core {

void Limiter::configure(std::int32_t max_in_flight, std::int32_t rate_limit_per_s,
                        Microseconds now) noexcept {
    const bool first_time = limit_ == 0;
    const bool rate_changed = rate_limit_per_s != rate_limit_per_s_;
    // At full speed a raised maximum takes effect at once; while lowered, successes earn it.
    const bool at_full_speed = limit_ >= max_in_flight_;
    max_in_flight_ = std::max(max_in_flight, 1);
    limit_ =
        first_time || at_full_speed ? max_in_flight_ : std::min<double>(limit_, max_in_flight_);
    rate_limit_per_s_ = rate_limit_per_s;
    if (first_time || rate_changed) {
        // One token, not a full second's worth: a restart must not double the rate.
        tokens_ = 1;
        refilled_at_ = now;
    }
}

void Limiter::refill(Microseconds now) noexcept {
    const Microseconds elapsed = std::max<Microseconds>(now - refilled_at_, 0);
    const double earned = static_cast<double>(elapsed) / us_per_s * rate_limit_per_s_;
    tokens_ = std::min<double>(tokens_ + earned, std::max(1, rate_limit_per_s_));
    refilled_at_ = now;
}

std::int32_t Limiter::allowance(std::int32_t in_flight, Microseconds now) noexcept {
    std::int32_t free = std::max(static_cast<std::int32_t>(limit_) - in_flight, 0);
    if (rate_limit_per_s_ > 0) {
        refill(now);
        free = std::min(free, static_cast<std::int32_t>(std::max(tokens_, 0.0)));
    }
    return free;
}

Microseconds Limiter::next_token_at(Microseconds now) const noexcept {
    if (rate_limit_per_s_ == 0 || tokens_ >= 1) {
        return now;
    }
    return now + static_cast<Microseconds>((1 - tokens_) / rate_limit_per_s_ * us_per_s) + 1;
}

void Limiter::started(std::int32_t requests) noexcept {
    if (rate_limit_per_s_ > 0) {
        tokens_ -= requests;
    }
}

void Limiter::answered(bool told_to_wait, Microseconds now) noexcept {
    if (!told_to_wait) {
        limit_ = std::min<double>(limit_ + 1 / limit_, max_in_flight_);
        return;
    }
    // All that were in flight together are told the same: halve once for them, not once for each.
    if (lowered_at_ == 0 || now - lowered_at_ >= us_per_s) {
        limit_ = std::max(limit_ / 2, 1.0);
        lowered_at_ = now;
    }
}

}  // namespace payonce::core
