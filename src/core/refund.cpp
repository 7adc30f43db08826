#include "core/refund.h"

#include <algorithm>
#include <limits>

namespace payonce::core {
namespace {

RefundStep keep(const RefundFacts& facts) noexcept {
    RefundStep step;
    step.status = facts.status;
    step.failed_attempts = facts.failed_attempts;
    step.changes_nothing = true;
    return step;
}

RefundStep settle(const RefundFacts& facts, RefundStatus status) noexcept {
    RefundStep step;
    step.status = status;
    step.failed_attempts = facts.failed_attempts;
    return step;
}

RefundStep flag(const RefundFacts& facts) noexcept {
    RefundStep step = keep(facts);
    step.changes_nothing = false;
    step.flag_payment = true;
    return step;
}

// The money went back, whoever says so and however late: an unsettled refund is settled by it; one
// that a person cancelled or that counted as failed is shown to a person, lest it be sent again.
RefundStep after_success(const RefundFacts& facts) noexcept {
    switch (facts.status) {
        case RefundStatus::refunded:
            return keep(facts);
        case RefundStatus::cancelled:
        case RefundStatus::attention:
            return flag(facts);
        case RefundStatus::queued:
        case RefundStatus::sending:
        case RefundStatus::unconfirmed:
        case RefundStatus::processing:
            break;
    }
    RefundStep step = settle(facts, RefundStatus::refunded);
    step.via_sending = facts.status == RefundStatus::queued;
    return step;
}

// `duration` is not negative. At the end of time instead of past it: retry_since may be 'infinity'.
Microseconds later(Microseconds time, Microseconds duration) noexcept {
    constexpr Microseconds end = std::numeric_limits<Microseconds>::max();
    return time > end - duration ? end : time + duration;
}

// A duration from [full/2, full).
Microseconds jittered(Microseconds full, std::uint64_t random) noexcept {
    const Microseconds half = full / 2;
    const auto share = static_cast<Microseconds>(random % 1024);
    // In two parts, so that no product overflows.
    return half + half / 1024 * share + half % 1024 * share / 1024;
}

Microseconds retry_after_delay(const AnswerFacts& answer, std::uint64_t random) noexcept {
    if (!answer.retry_after_s) {
        return 0;
    }
    const std::int64_t asked_s =
        std::clamp<std::int64_t>(*answer.retry_after_s, 0, max_retry_after_s);
    // Never earlier than asked; up to a tenth later, so that those told the same do not return at
    // once.
    const Microseconds asked = asked_s * us_per_s;
    return asked + asked / 10 * static_cast<Microseconds>(random % 1024) / 1024;
}

// Not settled yet: `status` again later, or to a person when the time for retries is used up.
RefundStep try_later(const RefundFacts& facts, RefundStatus status, const AnswerFacts& answer,
                     const RetryPolicy& policy, Moment moment) noexcept {
    const Microseconds deadline = later(facts.retry_since, policy.retry_for);
    if (moment.now >= deadline) {
        return settle(facts, RefundStatus::attention);
    }
    RefundStep step;
    step.status = status;
    step.failed_attempts =
        std::min(facts.failed_attempts, std::numeric_limits<std::int32_t>::max() - 1) + 1;
    const Microseconds delay = std::max(backoff_delay(step.failed_attempts, policy, moment.random),
                                        retry_after_delay(answer, moment.random));
    // The last attempt falls on the deadline itself.
    step.next_attempt_at = std::min(later(moment.now, delay), deadline);
    return step;
}

// Accepted, and polled ever more rarely for as long as it takes: banks take days.
RefundStep poll_later(const RefundFacts& facts, const AnswerFacts& answer,
                      const RetryPolicy& policy, Moment moment) noexcept {
    RefundStep step;
    step.status = RefundStatus::processing;
    const Microseconds age = facts.status == RefundStatus::processing
                                 ? std::max<Microseconds>(moment.now - facts.accepted_at, 0)
                                 : 0;
    const Microseconds spread =
        std::min(std::max(age / 2, policy.retry_delay), policy.retry_delay_max);
    const Microseconds delay =
        std::max(jittered(spread, moment.random), retry_after_delay(answer, moment.random));
    step.next_attempt_at = later(moment.now, delay);
    step.flag_payment = age >= processing_alarm_us;
    return step;
}

RefundStep after_sending(const RefundFacts& facts, const AnswerFacts& answer,
                         const RetryPolicy& policy, Moment moment) noexcept {
    switch (answer.verdict) {
        case Verdict::wait:
        case Verdict::not_sent:
            return try_later(facts, RefundStatus::queued, answer, policy, moment);
        case Verdict::rejected:
            return settle(facts, RefundStatus::attention);
        default:
            return try_later(facts, RefundStatus::unconfirmed, answer, policy, moment);
    }
}

RefundStep after_asking(const RefundFacts& facts, const AnswerFacts& answer,
                        const RetryPolicy& policy, Moment moment) noexcept {
    const bool accepted = facts.status == RefundStatus::processing;
    if (answer.verdict == Verdict::not_found) {
        // The gateway does not know the number, so the same number may be sent. Where it had
        // accepted it before, it contradicts itself: give it time, and ask once more.
        RefundStep step = try_later(facts, RefundStatus::queued, answer, policy, moment);
        step.ask_first = accepted && step.status == RefundStatus::queued;
        if (!accepted && step.status == RefundStatus::queued) {
            step.failed_attempts = facts.failed_attempts;
            step.next_attempt_at = moment.now;
        }
        return step;
    }
    if (accepted) {
        return poll_later(facts, answer, policy, moment);
    }
    if (answer.verdict == Verdict::rejected) {
        return settle(facts, RefundStatus::attention);
    }
    // A refund that was claimed from the queue to be asked about goes back there and is still to be
    // asked.
    const bool from_queue = facts.status == RefundStatus::sending;
    RefundStep step =
        try_later(facts, from_queue ? RefundStatus::queued : RefundStatus::unconfirmed, answer,
                  policy, moment);
    step.ask_first = step.status == RefundStatus::queued;
    return step;
}

}  // namespace

const char* name_of(CallKind kind) noexcept {
    return kind == CallKind::refund ? "refund" : "query";
}

const char* name_of(Verdict verdict) noexcept {
    switch (verdict) {
        case Verdict::succeeded:
            return "succeeded";
        case Verdict::processing:
            return "processing";
        case Verdict::failed:
            return "failed";
        case Verdict::rejected:
            return "rejected";
        case Verdict::not_found:
            return "not_found";
        case Verdict::wait:
            return "wait";
        case Verdict::not_sent:
            return "not_sent";
        case Verdict::unknown:
            return "unknown";
    }
    return "unknown";
}

Microseconds backoff_delay(std::int32_t failed_attempts, const RetryPolicy& policy,
                           std::uint64_t random) noexcept {
    // 63 doublings take every delay past every maximum.
    const std::int32_t doublings = std::clamp(failed_attempts, 1, 64) - 1;
    const bool fits = policy.retry_delay <= policy.retry_delay_max >> doublings;
    return jittered(fits ? policy.retry_delay << doublings : policy.retry_delay_max, random);
}

RefundStep after_answer(const RefundFacts& facts, CallKind kind, const AnswerFacts& answer,
                        bool holds_lease, const RetryPolicy& policy, Moment moment) noexcept {
    if (answer.verdict == Verdict::succeeded) {
        return after_success(facts);
    }
    // Nobody holds a row that is queued or settled.
    if (!holds_lease || facts.status == RefundStatus::queued || is_settled(facts.status)) {
        return keep(facts);
    }
    if (answer.verdict == Verdict::failed) {
        RefundStep step = settle(facts, RefundStatus::attention);
        step.number_dead = true;
        return step;
    }
    if (answer.verdict == Verdict::processing) {
        return poll_later(facts, answer, policy, moment);
    }
    // In the other statuses an earlier call may have got through, whatever this one was.
    const bool only_sent = kind == CallKind::refund && facts.status == RefundStatus::sending;
    return only_sent ? after_sending(facts, answer, policy, moment)
                     : after_asking(facts, answer, policy, moment);
}

RefundStep after_lost_lease(const RefundFacts& facts, Moment moment) noexcept {
    if (is_settled(facts.status)) {
        return keep(facts);
    }
    RefundStep step;
    step.status = facts.status == RefundStatus::sending ? RefundStatus::unconfirmed : facts.status;
    step.failed_attempts = facts.failed_attempts;
    step.next_attempt_at = moment.now;
    step.ask_first = facts.status == RefundStatus::queued;
    return step;
}

RefundStep after_news(const RefundFacts& facts, bool success) noexcept {
    if (success) {
        return after_success(facts);
    }
    if (facts.status == RefundStatus::cancelled || facts.status == RefundStatus::attention) {
        return keep(facts);
    }
    return settle(facts, RefundStatus::attention);
}

}  // namespace payonce::core
