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
    // The gateway's habits (GatewayTraits).
    Microseconds query_delay = 0;          // a query is no use sooner after a request
    Microseconds idempotency_horizon = 0;  // 0: numbers are never forgotten
};

// The refund's row as locked when the event is applied.
struct RefundFacts {
    RefundStatus status = RefundStatus::queued;
    std::int32_t failed_attempts = 0;  // calls in a row that settled nothing
    // When the first attempt began, moved forward by the time in which payonce itself did not try
    // (paused, switched off, server down): that time does not count.
    Microseconds retry_since = 0;
    Microseconds accepted_at = 0;  // when it became processing; meaningful only in that status
    // When the last request to refund was claimed; unset: none ever was.
    std::optional<Microseconds> sent_at;
    // When the first one under the current idempotency key was: from then on the horizon counts.
    std::optional<Microseconds> key_sent_at;
    WhenUnknown when_unknown = WhenUnknown::resend;
};

// Why the payment's attention is set although the refund itself goes on, or has ended otherwise.
enum class Flag : std::uint8_t {
    none,
    overdue,        // processing for longer than processing_alarm_us
    contradiction,  // verified success of a refund that is cancelled or in attention
    balance,        // the merchant's balance is too small
    unverifiable,   // the gateway's answers cannot be verified, again and again
    customer,       // the customer has to do something
    not_told,       // the gateway accepted it, and now refuses to say what became of it
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
    WhenUnknown when_unknown = WhenUnknown::resend;
    // The next request carries the next idempotency key.
    bool new_key = false;
    // The request did not leave: under the current key nothing was sent by it.
    bool unsent = false;
    Flag flag = Flag::none;
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
RefundStep after_lost_lease(const RefundFacts& facts, const RetryPolicy& policy,
                            Moment moment) noexcept;

// Verified news of the refund (refund_callback, a gateway's notification): succeeded, failed (the
// number is dead), abnormal, processing, or unknown: something happened, so ask now.
RefundStep after_news(const RefundFacts& facts, Verdict verdict, const RetryPolicy& policy,
                      Moment moment) noexcept;

// Whether the gateway may have forgotten the current idempotency key: then the refund must not be
// sent under it, however sure it seems that it was not (rule 6 of docs/states.md).
bool is_beyond_horizon(const RefundFacts& facts, const RetryPolicy& policy,
                       Microseconds now) noexcept;

// delay · 2^(failed_attempts-1), at most the maximum, times a factor from [0.5, 1).
Microseconds backoff_delay(std::int32_t failed_attempts, const RetryPolicy& policy,
                           std::uint64_t random) noexcept;

}  // namespace payonce::core
