// A refund's life as pure functions: what follows from an answer, from a lost lease, from verified
// news. Time and randomness are passed in; the caller holds the row's lock and writes what comes
// back. The rules are those of docs/states.md.
#pragma once

#include <cstdint>
#include <optional>

#include "core/gateway_answer.h"
#include "core/states.h"

namespace payonce::core {

using Microseconds = std::int64_t;  // since whatever epoch the caller uses, the same for all

inline constexpr Microseconds us_per_s = 1'000'000;
// A gateway that asks for more patience than this is asked again all the same.
inline constexpr std::int64_t max_retry_after_s = 24LL * 3600;
// An accepted refund that is not settled after this long is shown to a person, and polled on.
inline constexpr Microseconds processing_alarm_us = 30LL * 24 * 3600 * us_per_s;

struct RetryPolicy {
    Microseconds retry_delay = 0;      // first delay
    Microseconds retry_delay_max = 0;  // no delay grows above
    Microseconds retry_for = 0;        // since retry_since; then a person is asked
};

// The refund's row as locked when the event is applied.
struct RefundFacts {
    RefundStatus status = RefundStatus::queued;
    std::int32_t failed_attempts = 0;  // calls in a row that settled nothing
    // When the first attempt began, moved forward by the time in which payonce itself did not try
    // (paused, switched off, server down): that time does not count.
    Microseconds retry_since = 0;
    Microseconds accepted_at = 0;  // when it became processing; meaningful only in that status
};

// What becomes of the row. Statuses may need a step between them that the database insists on:
// `via_sending` says to pass through sending first.
struct RefundStep {
    RefundStatus status = RefundStatus::queued;
    bool via_sending = false;
    Microseconds next_attempt_at = 0;  // unless settled: when the worker looks again
    std::int32_t failed_attempts = 0;
    bool ask_first = false;    // the next attempt from queued asks before it sends
    bool number_dead = false;  // the gateway verifiably declared this number dead
    // Verified news that contradicts what a person or an earlier answer decided, or a refund that
    // is overdue at the gateway: the payment's attention is set, the refund's status stays.
    bool flag_payment = false;
    bool changes_nothing = false;  // record the call, leave the row
};

constexpr bool is_settled(RefundStatus status) noexcept {
    return status == RefundStatus::refunded || status == RefundStatus::cancelled ||
           status == RefundStatus::attention;
}

struct Moment {
    Microseconds now = 0;
    std::uint64_t random = 0;  // uniform; spreads the retries
};

// The answer to a call. `holds_lease`: the attempt that made the call is the row's current one;
// otherwise only a success still counts (fencing).
RefundStep after_answer(const RefundFacts& facts, CallKind kind, const AnswerFacts& answer,
                        bool holds_lease, const RetryPolicy& policy, Moment moment) noexcept;

// The holder of the lease is gone and its answer with it: ask before anything is sent again. A row
// that was put back to queued or settled by hand meanwhile keeps its status.
RefundStep after_lost_lease(const RefundFacts& facts, Moment moment) noexcept;

// News of the refund's result that was verified elsewhere (refund_callback).
RefundStep after_news(const RefundFacts& facts, bool success) noexcept;

// delay · 2^(failed_attempts-1), at most the maximum, times a factor from [0.5, 1).
Microseconds backoff_delay(std::int32_t failed_attempts, const RetryPolicy& policy,
                           std::uint64_t random) noexcept;

}  // namespace payonce::core
