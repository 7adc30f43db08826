// How many requests a gateway may be sent now: its limit of requests in flight, lowered for a while
// when it answers "wait" and raised again by its successes, and its rate. Time is passed in.
#pragma once

#include <cstdint>

#include "core/refund.h"

namespace payonce::core {

class Limiter {
  public:
    // max_in_flight ≥ 1; rate_limit_per_s 0: none. Keeps what was learnt when called again.
    void configure(std::int32_t max_in_flight, std::int32_t rate_limit_per_s,
                   Microseconds now) noexcept;

    // How many requests may start now; never negative.
    std::int32_t allowance(std::int32_t in_flight, Microseconds now) noexcept;
    // When the rate allows the next one; `now` unless the rate is what holds.
    Microseconds next_token_at(Microseconds now) const noexcept;

    void started(std::int32_t requests) noexcept;
    void answered(bool told_to_wait, Microseconds now) noexcept;
    // The limit in force, rounded down: for the statistics.
    std::int32_t current_limit() const noexcept { return static_cast<std::int32_t>(limit_); }

  private:
    void refill(Microseconds now) noexcept;

    std::int32_t max_in_flight_ = 1;
    std::int32_t rate_limit_per_s_ = 0;
    double limit_ = 0;
    double tokens_ = 0;
    Microseconds refilled_at_ = 0;
    Microseconds lowered_at_ = 0;
};

}  // namespace payonce::core
