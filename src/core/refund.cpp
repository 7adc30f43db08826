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

RefundStep contradict(const RefundFacts& facts) noexcept {
    RefundStep step = keep(facts);
    step.changes_nothing = false;
    step.flag = Flag::contradiction;
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
            return contradict(facts);
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

RefundStep after_failure(const RefundFacts& facts, Verdict verdict) noexcept {
    RefundStep step = settle(facts, RefundStatus::attention);
    step.number_dead = verdict == Verdict::failed;
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

// What a person should know although the refund goes on. An answer that cannot be verified is one
// of a gateway's probes now and then: only the second in a row tells of a wrong key.
Flag flag_of(const RefundFacts& facts, const AnswerFacts& answer) noexcept {
    switch (answer.concern) {
        case Concern::none:
            break;
        case Concern::balance:
            return Flag::balance;
        case Concern::customer:
            return Flag::customer;
        case Concern::unverifiable:
            return facts.failed_attempts > 0 ? Flag::unverifiable : Flag::none;
    }
    return Flag::none;
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
    // Counted while it cannot be verified, so that the second in a row is told from a probe.
    step.failed_attempts = answer.concern == Concern::unverifiable ? 1 : 0;
    if (age >= processing_alarm_us) {
        step.flag = Flag::overdue;
    } else if (answer.verdict == Verdict::rejected) {
        step.flag = Flag::not_told;
    } else {
        step.flag = flag_of(facts, answer);
    }
    return step;
}

// Anything can have happened, or the gateway said no and may not mean it: ask, once there is
// something to find.
RefundStep ask_later(const RefundFacts& facts, const AnswerFacts& answer, WhenUnknown when_unknown,
                     const RetryPolicy& policy, Moment moment) noexcept {
    RefundStep step = try_later(facts, RefundStatus::unconfirmed, answer, policy, moment);
    if (step.status == RefundStatus::unconfirmed) {
        step.when_unknown = when_unknown;
        step.next_attempt_at =
            std::max(step.next_attempt_at, later(moment.now, policy.query_delay));
        step.flag = flag_of(facts, answer);
    }
    return step;
}

RefundStep after_sending(const RefundFacts& facts, const AnswerFacts& answer,
                         const RetryPolicy& policy, Moment moment) noexcept {
    switch (answer.verdict) {
        case Verdict::wait:
        case Verdict::not_sent: {
            RefundStep step = try_later(facts, RefundStatus::queued, answer, policy, moment);
            step.unsent = answer.verdict == Verdict::not_sent;
            step.flag = step.status == RefundStatus::queued ? flag_of(facts, answer) : Flag::none;
            return step;
        }
        case Verdict::rejected:
            return answer.confirm ? ask_later(facts, answer, WhenUnknown::give_up, policy, moment)
                                  : settle(facts, RefundStatus::attention);
        default:
            return ask_later(facts, answer, answer.when_unknown, policy, moment);
    }
}

// The gateway does not know the number. Where it had accepted it before, it contradicts itself:
// give it time, and ask once more. Otherwise the same number may be sent, unless the request was
// refused or the gateway may have forgotten the key under which a repetition is the same refund.
RefundStep after_not_found(const RefundFacts& facts, const AnswerFacts& answer,
                           const RetryPolicy& policy, Moment moment) noexcept {
    if (facts.when_unknown == WhenUnknown::give_up ||
        is_beyond_horizon(facts, policy, moment.now)) {
        return settle(facts, RefundStatus::attention);
    }
    RefundStep step = try_later(facts, RefundStatus::queued, answer, policy, moment);
    if (step.status != RefundStatus::queued) {
        return step;
    }
    step.new_key = facts.when_unknown == WhenUnknown::new_key;
    step.ask_first = facts.status == RefundStatus::processing;
    if (!step.ask_first) {
        step.failed_attempts = facts.failed_attempts;
        step.next_attempt_at = moment.now;
    }
    return step;
}

RefundStep after_asking(const RefundFacts& facts, const AnswerFacts& answer,
                        const RetryPolicy& policy, Moment moment) noexcept {
    if (answer.verdict == Verdict::not_found) {
        return after_not_found(facts, answer, policy, moment);
    }
    if (facts.status == RefundStatus::processing) {
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
    step.when_unknown = facts.when_unknown;
    step.flag = is_settled(step.status) ? Flag::none : flag_of(facts, answer);
    return step;
}

}  // namespace

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
    if (answer.verdict == Verdict::failed || answer.verdict == Verdict::abnormal) {
        return after_failure(facts, answer.verdict);
    }
    if (answer.verdict == Verdict::processing) {
        return poll_later(facts, answer, policy, moment);
    }
    // In the other statuses an earlier call may have got through, whatever this one was.
    const bool only_sent = kind == CallKind::refund && facts.status == RefundStatus::sending;
    return only_sent ? after_sending(facts, answer, policy, moment)
                     : after_asking(facts, answer, policy, moment);
}

RefundStep after_lost_lease(const RefundFacts& facts, const RetryPolicy& policy,
                            Moment moment) noexcept {
    if (is_settled(facts.status)) {
        return keep(facts);
    }
    RefundStep step;
    step.status = facts.status == RefundStatus::sending ? RefundStatus::unconfirmed : facts.status;
    step.failed_attempts = facts.failed_attempts;
    step.next_attempt_at = moment.now;
    if (facts.status == RefundStatus::sending && facts.sent_at) {
        step.next_attempt_at = std::max(moment.now, later(*facts.sent_at, policy.query_delay));
    }
    step.ask_first = facts.status == RefundStatus::queued;
    step.when_unknown = facts.when_unknown;
    return step;
}

RefundStep after_news(const RefundFacts& facts, Verdict verdict, const RetryPolicy& policy,
                      Moment moment) noexcept {
    const bool is_known_there = facts.status == RefundStatus::sending ||
                                facts.status == RefundStatus::unconfirmed ||
                                facts.status == RefundStatus::processing;
    switch (verdict) {
        case Verdict::succeeded:
            return after_success(facts);
        case Verdict::failed:
        case Verdict::abnormal:
            return facts.status == RefundStatus::cancelled ||
                           facts.status == RefundStatus::attention
                       ? keep(facts)
                       : after_failure(facts, verdict);
        case Verdict::processing:
            return is_known_there && facts.status != RefundStatus::processing
                       ? poll_later(facts, {}, policy, moment)
                       : keep(facts);
        default:
            break;
    }
    // Whoever sends at this moment will hear for itself.
    if (!is_known_there || facts.status == RefundStatus::sending) {
        return keep(facts);
    }
    RefundStep step = settle(facts, facts.status);
    step.next_attempt_at = moment.now;
    step.when_unknown = facts.when_unknown;
    return step;
}

bool is_beyond_horizon(const RefundFacts& facts, const RetryPolicy& policy,
                       Microseconds now) noexcept {
    return policy.idempotency_horizon > 0 && facts.key_sent_at &&
           now >= later(*facts.key_sent_at, policy.idempotency_horizon);
}

}  // namespace payonce::core
