// A refund's life: every answer in every status against the rules for money as data, then what must
// hold over whole lives: nothing is sent twice unasked, nothing is tried for ever, no time
// overflows.
#include "core/refund.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace payonce::core {
namespace {

constexpr Microseconds second = us_per_s;
constexpr Microseconds hour = 3600 * second;
constexpr Microseconds day = 24 * hour;
constexpr Microseconds now = 1000 * day;
constexpr std::int32_t most_attempts = std::numeric_limits<std::int32_t>::max();
constexpr Microseconds end_of_time = std::numeric_limits<Microseconds>::max();

constexpr RetryPolicy policy{second, hour, 7 * day};

// The two ends of what a random number can do, and what lies between.
constexpr std::array<std::uint64_t, 6> randoms = {
    0, 1, 511, 512, 1023, std::numeric_limits<std::uint64_t>::max()};

constexpr std::array every_status = {RefundStatus::queued,      RefundStatus::sending,
                                     RefundStatus::unconfirmed, RefundStatus::processing,
                                     RefundStatus::refunded,    RefundStatus::cancelled,
                                     RefundStatus::attention};
constexpr std::array every_kind = {CallKind::refund, CallKind::query};
constexpr std::array every_verdict = {Verdict::succeeded, Verdict::processing, Verdict::failed,
                                      Verdict::abnormal,  Verdict::rejected,   Verdict::not_found,
                                      Verdict::wait,      Verdict::not_sent,   Verdict::unknown};

RefundFacts facts_of(RefundStatus status) {
    RefundFacts facts;
    facts.status = status;
    facts.failed_attempts = 3;
    facts.retry_since = now - day;
    facts.accepted_at = now - hour;
    return facts;
}

AnswerFacts answer_of(Verdict verdict, std::optional<std::int64_t> retry_after_s = {}) {
    AnswerFacts answer;
    answer.verdict = verdict;
    answer.retry_after_s = retry_after_s;
    return answer;
}

bool may_change(RefundStatus from, RefundStatus to) {
    return refund_may_change(static_cast<std::int16_t>(from), static_cast<std::int16_t>(to));
}

// What the database will let through.
bool is_allowed(RefundStatus from, const RefundStep& step) {
    if (step.via_sending) {
        return may_change(from, RefundStatus::sending) &&
               may_change(RefundStatus::sending, step.status);
    }
    return step.status == from || may_change(from, step.status);
}

// ---- Every answer in every status --------------------------------------------------------------

struct Case {
    RefundStatus status = RefundStatus::sending;
    CallKind kind = CallKind::refund;
    Verdict verdict = Verdict::unknown;
    bool holds_lease = true;
    bool time_is_up = false;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
    return out << name_of(c.verdict) << " to a " << name_of(c.kind) << " in status "
               << static_cast<int>(c.status) << (c.holds_lease ? "" : ", without the lease")
               << (c.time_is_up ? ", time is up" : "");
}

std::vector<Case> every_case() {
    std::vector<Case> cases;
    for (const RefundStatus status : every_status) {
        for (const CallKind kind : every_kind) {
            for (const Verdict verdict : every_verdict) {
                for (const bool holds_lease : {true, false}) {
                    for (const bool time_is_up : {true, false}) {
                        cases.push_back({status, kind, verdict, holds_lease, time_is_up});
                    }
                }
            }
        }
    }
    return cases;
}

RefundStep step_of(const Case& c) {
    RefundFacts facts = facts_of(c.status);
    if (c.time_is_up) {
        facts.retry_since = now - policy.retry_for;
    }
    return after_answer(facts, c.kind, answer_of(c.verdict), c.holds_lease, policy, {now, 512});
}

enum class Call {
    any,
    first_send,  // sent from `sending`: no earlier call of this number is unsettled
    ask,         // a query, or a call in a status that tells of an earlier one
};

enum class Effect {
    nothing,         // recorded only
    flag,            // the payment's attention is set, the refund stays
    settle,          // `to` for good
    settle_as_dead,  // attention, and this number will never succeed
    poll,            // processing, asked again, without end
    at_once,         // `to` now
    later,           // `to` after a delay; a person when the time for retries is used up
};

struct Row {
    std::set<Verdict> verdict;
    Call call = Call::any;
    std::set<RefundStatus> status;
    bool needs_lease = true;
    Effect effect = Effect::nothing;
    RefundStatus to = RefundStatus::attention;
    bool ask_first = false;
};

const std::set<RefundStatus> settled = {RefundStatus::refunded, RefundStatus::cancelled,
                                        RefundStatus::attention};
const std::set<RefundStatus> in_hand = {RefundStatus::sending, RefundStatus::unconfirmed,
                                        RefundStatus::processing};
const std::set<RefundStatus> not_accepted = {RefundStatus::sending, RefundStatus::unconfirmed};

// The first row that fits decides; no row: nothing but the record. The numbers are the contract's
// rules for money.
const std::vector<Row> rules = {
    // 3: a success counts, whoever says so.
    {{Verdict::succeeded}, Call::any, {RefundStatus::refunded}, false, Effect::nothing},
    {{Verdict::succeeded}, Call::any, settled, false, Effect::flag},
    {{Verdict::succeeded},
     Call::any,
     {RefundStatus::queued, RefundStatus::sending, RefundStatus::unconfirmed,
      RefundStatus::processing},
     false,
     Effect::settle,
     RefundStatus::refunded},
    // 4: the gateway proved the number dead.
    {{Verdict::failed}, Call::any, in_hand, true, Effect::settle_as_dead},
    // 4: it left and did not arrive: a new number would send it twice.
    {{Verdict::abnormal}, Call::any, in_hand, true, Effect::settle, RefundStatus::attention},
    // 8: accepted, and polled on.
    {{Verdict::processing}, Call::any, in_hand, true, Effect::poll},
    // 5: the gateway does not know the number, so it may be sent; one that it had accepted is asked
    // about again, later.
    {{Verdict::not_found},
     Call::ask,
     {RefundStatus::processing},
     true,
     Effect::later,
     RefundStatus::queued,
     true},
    {{Verdict::not_found}, Call::ask, not_accepted, true, Effect::at_once, RefundStatus::queued},
    // 8: whatever else is said about an accepted refund does not unsay that.
    {{Verdict::rejected, Verdict::wait, Verdict::not_sent, Verdict::unknown},
     Call::ask,
     {RefundStatus::processing},
     true,
     Effect::poll},
    // 7: permanent.
    {{Verdict::rejected}, Call::any, not_accepted, true, Effect::settle, RefundStatus::attention},
    // 7: nothing was done, so it is sent again, later.
    {{Verdict::wait, Verdict::not_sent},
     Call::first_send,
     {RefundStatus::sending},
     true,
     Effect::later,
     RefundStatus::queued},
    // 5, 7: anything can have happened.
    {{Verdict::unknown, Verdict::not_found},
     Call::first_send,
     {RefundStatus::sending},
     true,
     Effect::later,
     RefundStatus::unconfirmed},
    // 5: the question has no answer yet, and is asked again before anything is sent.
    {{Verdict::wait, Verdict::not_sent, Verdict::unknown},
     Call::ask,
     {RefundStatus::sending},
     true,
     Effect::later,
     RefundStatus::queued,
     true},
    {{Verdict::wait, Verdict::not_sent, Verdict::unknown},
     Call::ask,
     {RefundStatus::unconfirmed},
     true,
     Effect::later,
     RefundStatus::unconfirmed},
};

bool fits(const Row& row, const Case& c) {
    const bool first_send = c.kind == CallKind::refund && c.status == RefundStatus::sending;
    const bool call_fits = row.call == Call::any || (row.call == Call::first_send) == first_send;
    return row.verdict.contains(c.verdict) && call_fits && row.status.contains(c.status) &&
           (c.holds_lease || !row.needs_lease);
}

Row rule_for(const Case& c) {
    const auto row =
        std::find_if(rules.begin(), rules.end(), [&](const Row& r) { return fits(r, c); });
    Row rule = row == rules.end() ? Row{} : *row;
    const bool retried = rule.effect == Effect::later || rule.effect == Effect::at_once;
    if (retried && c.time_is_up) {
        rule.effect = Effect::settle;
        rule.to = RefundStatus::attention;
    }
    return rule;
}

void expect_unchanged(const Case& c, const RefundStep& step, bool flagged) {
    EXPECT_EQ(step.changes_nothing, !flagged);
    EXPECT_EQ(step.flag, flagged ? Flag::contradiction : Flag::none);
    EXPECT_EQ(step.status, c.status);
    EXPECT_EQ(step.failed_attempts, 3);
    EXPECT_FALSE(step.via_sending || step.ask_first || step.number_dead);
}

void expect_settled(const RefundStep& step, RefundStatus status, bool dead) {
    EXPECT_FALSE(step.changes_nothing || step.flag != Flag::none || step.ask_first);
    EXPECT_EQ(step.status, status);
    EXPECT_EQ(step.number_dead, dead);
    EXPECT_TRUE(is_settled(step.status));
}

void expect_retried(const Row& rule, const RefundStep& step) {
    EXPECT_FALSE(step.changes_nothing || step.flag != Flag::none || step.number_dead);
    EXPECT_EQ(step.status, rule.to);
    EXPECT_EQ(step.ask_first, rule.ask_first);
    const bool at_once = rule.effect == Effect::at_once;
    EXPECT_EQ(step.failed_attempts, at_once ? 3 : 4);
    // The fourth delay of one second, doubling.
    EXPECT_GE(step.next_attempt_at, at_once ? now : now + 4 * second);
    EXPECT_LT(step.next_attempt_at, at_once ? now + 1 : now + 8 * second);
}

void expect_polled(const Case& c, const RefundStep& step) {
    EXPECT_FALSE(step.changes_nothing || step.ask_first || step.number_dead);
    EXPECT_EQ(step.flag, c.verdict == Verdict::rejected ? Flag::not_told : Flag::none);
    EXPECT_EQ(step.status, RefundStatus::processing);
    EXPECT_EQ(step.failed_attempts, 0);
    EXPECT_GT(step.next_attempt_at, now);
    EXPECT_LT(step.next_attempt_at, now + policy.retry_delay_max);
}

TEST(AfterAnswer, FollowsTheRulesInEveryCase) {
    for (const Case& c : every_case()) {
        SCOPED_TRACE(testing::Message() << c);
        const Row rule = rule_for(c);
        const RefundStep step = step_of(c);
        switch (rule.effect) {
            case Effect::nothing:
            case Effect::flag:
                expect_unchanged(c, step, rule.effect == Effect::flag);
                break;
            case Effect::settle:
                expect_settled(step, rule.to, false);
                break;
            case Effect::settle_as_dead:
                expect_settled(step, RefundStatus::attention, true);
                break;
            case Effect::poll:
                expect_polled(c, step);
                break;
            case Effect::at_once:
            case Effect::later:
                expect_retried(rule, step);
                break;
        }
        ASSERT_FALSE(HasFailure());
    }
}

TEST(AfterAnswer, UsesEveryRule) {
    const std::vector<Case> cases = every_case();
    for (std::size_t i = 0; i < rules.size(); ++i) {
        const bool used = std::any_of(cases.begin(), cases.end(), [&](const Case& c) {
            const auto first =
                std::find_if(rules.begin(), rules.end(), [&](const Row& r) { return fits(r, c); });
            return first == rules.begin() + static_cast<std::ptrdiff_t>(i);
        });
        EXPECT_TRUE(used) << "rule " << i;
    }
}

TEST(AfterAnswer, GivesOnlyAllowedChanges) {
    for (const Case& c : every_case()) {
        const RefundStep step = step_of(c);
        ASSERT_TRUE(is_allowed(c.status, step)) << c << " gives " << static_cast<int>(step.status);
        // A step through sending that is not needed would be a change for nothing.
        ASSERT_EQ(step.via_sending, step.status != c.status && !may_change(c.status, step.status))
            << c;
    }
}

TEST(AfterAnswer, LooksAgainAtWhatItLeftUnsettled) {
    for (const Case& c : every_case()) {
        const RefundStep step = step_of(c);
        if (!step.changes_nothing && !is_settled(step.status)) {
            ASSERT_GE(step.next_attempt_at, now) << c;
            ASSERT_LT(step.next_attempt_at, now + day) << c;
        }
    }
}

// ---- Examples ----------------------------------------------------------------------------------

TEST(AfterAnswer, LateSuccessOfAnEarlierAttemptSettles) {
    const RefundStep step = after_answer(facts_of(RefundStatus::queued), CallKind::refund,
                                         answer_of(Verdict::succeeded), false, policy, {now, 0});
    EXPECT_EQ(step.status, RefundStatus::refunded);
    EXPECT_TRUE(step.via_sending);
}

TEST(AfterAnswer, LateFailureOfAnEarlierAttemptIsOnlyRecorded) {
    for (const Verdict verdict : {Verdict::failed, Verdict::rejected, Verdict::not_found}) {
        const RefundStep step = after_answer(facts_of(RefundStatus::sending), CallKind::refund,
                                             answer_of(verdict), false, policy, {now, 0});
        EXPECT_TRUE(step.changes_nothing);
        EXPECT_EQ(step.status, RefundStatus::sending);
    }
}

TEST(AfterAnswer, SuccessOfACancelledRefundIsShownToAPerson) {
    const RefundStep step = after_answer(facts_of(RefundStatus::cancelled), CallKind::refund,
                                         answer_of(Verdict::succeeded), false, policy, {now, 0});
    EXPECT_EQ(step.flag, Flag::contradiction);
    EXPECT_FALSE(step.changes_nothing);
    EXPECT_EQ(step.status, RefundStatus::cancelled);
}

TEST(AfterAnswer, OnlyADeclaredFailureKillsTheNumber) {
    for (const Case& c : every_case()) {
        ASSERT_EQ(step_of(c).number_dead,
                  c.verdict == Verdict::failed && c.holds_lease && in_hand.contains(c.status))
            << c;
    }
}

// ---- Whole lives -------------------------------------------------------------------------------

// One refund as the worker handles it: what is claimed next follows from status and ask_first
// alone.
struct Life {
    RefundStatus status = RefundStatus::queued;
    bool ask_first = false;
    // A call may have moved money and no later answer has said that the number is unknown.
    bool may_have_been_sent = false;

    auto operator<=>(const Life&) const = default;

    CallKind next_call() const {
        return status == RefundStatus::queued && !ask_first ? CallKind::refund : CallKind::query;
    }
    // The claim: queued becomes sending, the others keep their status.
    RefundFacts claimed() const {
        return facts_of(status == RefundStatus::queued ? RefundStatus::sending : status);
    }
};

Life with_answer(const Life& life, Verdict verdict) {
    const CallKind kind = life.next_call();
    const RefundStep step =
        after_answer(life.claimed(), kind, answer_of(verdict), true, policy, {now, 0});
    Life next{step.status, step.ask_first, life.may_have_been_sent};
    if (kind == CallKind::query && verdict == Verdict::not_found) {
        next.may_have_been_sent = false;
    } else if (kind == CallKind::refund && verdict != Verdict::wait &&
               verdict != Verdict::not_sent) {
        next.may_have_been_sent = true;
    }
    return next;
}

Life with_lost_lease(const Life& life) {
    const RefundStep step = after_lost_lease(life.claimed(), policy, {now, 0});
    const bool sent = life.may_have_been_sent || life.next_call() == CallKind::refund;
    return {step.status, step.ask_first, sent};
}

// Every state that any sequence of answers and crashes leads to, from a refund that was just queued
// and from one that a person tries again.
std::set<Life> every_reachable_life() {
    const Life retried{RefundStatus::queued, true, true};
    std::set<Life> seen = {Life{}, retried};
    std::deque<Life> open = {Life{}, retried};
    while (!open.empty()) {
        const Life life = open.front();
        open.pop_front();
        if (is_settled(life.status)) {
            continue;
        }
        std::vector<Life> followers = {with_lost_lease(life)};
        for (const Verdict verdict : every_verdict) {
            const bool possible =
                verdict != Verdict::not_found || life.next_call() == CallKind::query;
            if (possible) {
                followers.push_back(with_answer(life, verdict));
            }
        }
        for (const Life& follower : followers) {
            if (seen.insert(follower).second) {
                open.push_back(follower);
            }
        }
    }
    return seen;
}

TEST(Life, NothingIsSentAgainBeforeTheGatewayWasAsked) {
    std::set<RefundStatus> visited;
    for (const Life& life : every_reachable_life()) {
        visited.insert(life.status);
        if (!is_settled(life.status) && life.next_call() == CallKind::refund) {
            EXPECT_FALSE(life.may_have_been_sent);
        }
    }
    EXPECT_EQ(visited,
              (std::set{RefundStatus::queued, RefundStatus::unconfirmed, RefundStatus::processing,
                        RefundStatus::refunded, RefundStatus::attention}));
}

// A refund that is not settled waits in a status from which the worker claims it.
TEST(Life, NeverGetsStuck) {
    const std::set<RefundStatus> waiting = {RefundStatus::queued, RefundStatus::unconfirmed,
                                            RefundStatus::processing};
    for (const Life& life : every_reachable_life()) {
        EXPECT_TRUE(is_settled(life.status) || waiting.contains(life.status));
    }
}

// Calls until the refund is settled; each takes `latency`. Returns when that was, counted from the
// first call, and how many calls it took.
std::pair<Microseconds, int> run_life(Verdict to_refund, Verdict to_query, const RetryPolicy& retry,
                                      Microseconds latency, std::uint64_t random) {
    Life life;
    RefundFacts facts;
    facts.retry_since = now;
    Microseconds time = now;
    for (int calls = 1; calls < 100'000; ++calls) {
        const CallKind kind = life.next_call();
        facts.status = life.claimed().status;
        time += latency;
        const Verdict verdict = kind == CallKind::refund ? to_refund : to_query;
        const RefundStep step =
            after_answer(facts, kind, answer_of(verdict), true, retry, {time, random});
        if (is_settled(step.status)) {
            EXPECT_EQ(step.status, RefundStatus::attention);
            return {time - now, calls};
        }
        life.status = step.status;
        life.ask_first = step.ask_first;
        facts.failed_attempts = step.failed_attempts;
        time = std::max(time, step.next_attempt_at);
    }
    ADD_FAILURE() << "never settled";
    return {0, 0};
}

TEST(Life, EveryTroubleEndsInAttentionWhenTheTimeForRetriesIsUsedUp) {
    constexpr Microseconds latency = second / 10;
    const std::vector<std::pair<Verdict, Verdict>> troubles = {
        {Verdict::wait, Verdict::wait},        {Verdict::not_sent, Verdict::not_sent},
        {Verdict::unknown, Verdict::unknown},  {Verdict::unknown, Verdict::wait},
        {Verdict::unknown, Verdict::not_sent}, {Verdict::unknown, Verdict::not_found},
    };
    for (const auto& [to_refund, to_query] : troubles) {
        for (const std::uint64_t random : randoms) {
            SCOPED_TRACE(testing::Message() << name_of(to_refund) << ", then " << name_of(to_query)
                                            << ", random " << random);
            const auto [lasted, calls] = run_life(to_refund, to_query, policy, latency, random);
            EXPECT_GE(lasted, policy.retry_for);
            // The last attempt falls on the deadline, and its question may be answered by one more.
            EXPECT_LE(lasted, policy.retry_for + 3 * latency);
            // Backoff: an hour apart at most, half an hour at least once the delay has grown.
            EXPECT_GE(calls, 7 * 24);
            EXPECT_LE(calls, 2 * (7 * 24 * 2 + 14) + 2);
        }
    }
}

TEST(Life, TimeForRetriesThatIsNoneEndsWithTheFirstTrouble) {
    const RetryPolicy impatient{second, hour, 0};
    const auto [lasted, calls] = run_life(Verdict::unknown, Verdict::unknown, impatient, second, 0);
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(lasted, second);
}

// ---- Backoff -----------------------------------------------------------------------------------

TEST(Backoff, DoublesFromTheFirstDelayToTheLongest) {
    // With random 0 the jitter's factor is a half.
    EXPECT_EQ(backoff_delay(1, policy, 0), second / 2);
    EXPECT_EQ(backoff_delay(2, policy, 0), second);
    EXPECT_EQ(backoff_delay(3, policy, 0), 2 * second);
    EXPECT_EQ(backoff_delay(12, policy, 0), 1024 * second);
    EXPECT_EQ(backoff_delay(13, policy, 0), hour / 2);
    EXPECT_EQ(backoff_delay(14, policy, 0), hour / 2);
}

TEST(Backoff, IsSpreadOverTheUpperHalf) {
    std::set<Microseconds> delays;
    for (std::uint64_t random = 0; random < 4096; ++random) {
        const Microseconds delay = backoff_delay(5, policy, random);
        ASSERT_GE(delay, 8 * second);
        ASSERT_LT(delay, 16 * second);
        delays.insert(delay);
    }
    EXPECT_EQ(delays.size(), 1024u);
    EXPECT_LT(*delays.begin(), 9 * second);
    EXPECT_GT(*delays.rbegin(), 15 * second);
}

TEST(Backoff, NeverOverflowsNorLeavesItsBounds) {
    const std::array<Microseconds, 9> delays = {
        0, 1, 2, 10'000, second, 100 * day, end_of_time / 2, end_of_time - 1, end_of_time};
    const std::array<std::int32_t, 12> attempts = {0,  1,  2,  3,  10, 31,
                                                   32, 62, 63, 64, 65, most_attempts};
    for (const Microseconds shortest : delays) {
        for (const Microseconds longest : delays) {
            for (const std::uint64_t random : randoms) {
                Microseconds before = 0;
                for (const std::int32_t failed : attempts) {
                    const Microseconds delay =
                        backoff_delay(failed, {shortest, longest, 0}, random);
                    ASSERT_GE(delay, std::min(shortest, longest) / 2);
                    ASSERT_LE(delay, longest);
                    ASSERT_TRUE(delay < longest || longest == 0);
                    ASSERT_GE(delay, before) << "fewer failures gave a longer delay";
                    before = delay;
                }
            }
        }
    }
}

TEST(Backoff, TakesStrangeCountsOfFailures) {
    for (const std::int32_t failed : {-1, std::numeric_limits<std::int32_t>::min()}) {
        EXPECT_EQ(backoff_delay(failed, policy, 0), backoff_delay(1, policy, 0));
    }
    EXPECT_EQ(backoff_delay(most_attempts, policy, 0), hour / 2);
}

TEST(Backoff, FailuresAreCountedWithoutOverflow) {
    RefundFacts facts = facts_of(RefundStatus::sending);
    facts.failed_attempts = most_attempts;
    const RefundStep step =
        after_answer(facts, CallKind::refund, answer_of(Verdict::unknown), true, policy, {now, 0});
    EXPECT_EQ(step.failed_attempts, most_attempts);
}

TEST(Backoff, TheLastAttemptFallsOnTheDeadline) {
    RefundFacts facts = facts_of(RefundStatus::sending);
    facts.failed_attempts = 20;
    facts.retry_since = now - policy.retry_for + second;
    const RefundStep step =
        after_answer(facts, CallKind::refund, answer_of(Verdict::unknown), true, policy, {now, 0});
    EXPECT_EQ(step.status, RefundStatus::unconfirmed);
    EXPECT_EQ(step.next_attempt_at, now + second);
}

TEST(Backoff, ADeadlineBeyondTheEndOfTimeIsNone) {
    RefundFacts facts = facts_of(RefundStatus::sending);
    facts.retry_since = end_of_time;  // 'infinity' in the table
    const RefundStep step =
        after_answer(facts, CallKind::refund, answer_of(Verdict::unknown), true, policy, {now, 0});
    EXPECT_EQ(step.status, RefundStatus::unconfirmed);
    EXPECT_LE(step.next_attempt_at, now + hour);
}

// ---- Retry-After -------------------------------------------------------------------------------

Microseconds wait_of(std::int64_t retry_after_s, std::uint64_t random) {
    RefundFacts facts = facts_of(RefundStatus::sending);
    facts.failed_attempts = 0;
    const RefundStep step =
        after_answer(facts, CallKind::refund, answer_of(Verdict::wait, retry_after_s), true, policy,
                     {now, random});
    EXPECT_EQ(step.status, RefundStatus::queued);
    return step.next_attempt_at - now;
}

TEST(RetryAfter, IsHonouredAndSpreadByATenth) {
    for (const std::int64_t asked_s : {2, 60, 3600, 24 * 3600}) {
        for (const std::uint64_t random : randoms) {
            const Microseconds waited = wait_of(asked_s, random);
            EXPECT_GE(waited, asked_s * second);
            EXPECT_LT(waited, asked_s * second * 11 / 10);
        }
    }
}

TEST(RetryAfter, LongerThanADayCountsAsADay) {
    for (const std::int64_t asked_s : {max_retry_after_s + 1, std::int64_t{365} * 24 * 3600,
                                       std::numeric_limits<std::int64_t>::max()}) {
        EXPECT_EQ(wait_of(asked_s, 0), max_retry_after_s * second);
    }
}

TEST(RetryAfter, InThePastLeavesTheBackoff) {
    for (const std::int64_t asked_s :
         {std::int64_t{0}, std::int64_t{-1}, std::numeric_limits<std::int64_t>::min()}) {
        EXPECT_EQ(wait_of(asked_s, 0), second / 2);
    }
}

TEST(RetryAfter, ShorterThanTheBackoffDoesNotShortenIt) {
    RefundFacts facts = facts_of(RefundStatus::sending);
    facts.failed_attempts = 20;
    const RefundStep step =
        after_answer(facts, CallKind::refund, answer_of(Verdict::wait, 1), true, policy, {now, 0});
    EXPECT_EQ(step.next_attempt_at, now + hour / 2);
}

TEST(RetryAfter, HoldsForPollsToo) {
    const RefundStep step = after_answer(facts_of(RefundStatus::processing), CallKind::query,
                                         answer_of(Verdict::wait, 7200), true, policy, {now, 0});
    EXPECT_EQ(step.status, RefundStatus::processing);
    EXPECT_EQ(step.next_attempt_at, now + 2 * hour);
}

TEST(RetryAfter, DoesNotOutlastTheTimeForRetries) {
    RefundFacts facts = facts_of(RefundStatus::sending);
    facts.retry_since = now - policy.retry_for + hour;
    const RefundStep step = after_answer(facts, CallKind::refund, answer_of(Verdict::wait, 86'400),
                                         true, policy, {now, 0});
    EXPECT_EQ(step.next_attempt_at, now + hour);
}

// ---- Accepted refunds --------------------------------------------------------------------------

RefundStep poll_at_age(Microseconds age, std::uint64_t random, const RetryPolicy& retry = policy) {
    RefundFacts facts = facts_of(RefundStatus::processing);
    facts.accepted_at = now - age;
    return after_answer(facts, CallKind::query, answer_of(Verdict::processing), true, retry,
                        {now, random});
}

TEST(Polling, GetsRarerWithAge) {
    for (const std::uint64_t random : randoms) {
        Microseconds before = 0;
        for (Microseconds age = 0; age < 60 * day; age = age * 3 / 2 + second) {
            const Microseconds gap = poll_at_age(age, random).next_attempt_at - now;
            ASSERT_GE(gap, before) << age;
            ASSERT_GE(gap, policy.retry_delay / 2);
            ASSERT_LT(gap, policy.retry_delay_max);
            before = gap;
        }
        EXPECT_GE(before, policy.retry_delay_max / 2);
    }
}

TEST(Polling, StartsWithTheFirstDelay) {
    const RefundStep step = after_answer(facts_of(RefundStatus::sending), CallKind::refund,
                                         answer_of(Verdict::processing), true, policy, {now, 0});
    EXPECT_EQ(step.status, RefundStatus::processing);
    EXPECT_EQ(step.next_attempt_at, now + second / 2);
}

TEST(Polling, NeverGivesUpAndRaisesTheAlarmAfterThirtyDays) {
    for (const Verdict verdict : {Verdict::processing, Verdict::unknown, Verdict::wait,
                                  Verdict::not_sent, Verdict::rejected}) {
        for (const int age_days : {0, 1, 29, 30, 31, 900}) {
            RefundFacts facts = facts_of(RefundStatus::processing);
            facts.retry_since = now - age_days * day;
            facts.accepted_at = now - age_days * day;
            const RefundStep step =
                after_answer(facts, CallKind::query, answer_of(verdict), true, policy, {now, 0});
            EXPECT_EQ(step.status, RefundStatus::processing) << name_of(verdict);
            const Flag young = verdict == Verdict::rejected ? Flag::not_told : Flag::none;
            EXPECT_EQ(step.flag, age_days >= 30 ? Flag::overdue : young)
                << name_of(verdict) << age_days;
        }
    }
}

TEST(Polling, TakesAClockThatWasSetBack) {
    const RefundStep step = poll_at_age(-day, 0);
    EXPECT_EQ(step.next_attempt_at, now + second / 2);
    EXPECT_EQ(step.flag, Flag::none);
}

TEST(Polling, TakesExtremePolicies) {
    for (const std::uint64_t random : randoms) {
        // A first delay above the longest: the longest holds.
        EXPECT_LT(poll_at_age(0, random, {hour, second, day}).next_attempt_at, now + second);
        const RefundStep step = poll_at_age(0, random, {end_of_time, end_of_time, end_of_time});
        EXPECT_GT(step.next_attempt_at, now);
    }
}

TEST(Polling, ForgottenByTheGatewayIsSentAgainOnlyWithinTheTimeForRetries) {
    RefundFacts facts = facts_of(RefundStatus::processing);
    const RefundStep soon =
        after_answer(facts, CallKind::query, answer_of(Verdict::not_found), true, policy, {now, 0});
    EXPECT_EQ(soon.status, RefundStatus::queued);
    EXPECT_GT(soon.next_attempt_at, now);
    facts.retry_since = now - policy.retry_for;
    const RefundStep late =
        after_answer(facts, CallKind::query, answer_of(Verdict::not_found), true, policy, {now, 0});
    EXPECT_EQ(late.status, RefundStatus::attention);
    EXPECT_FALSE(late.number_dead);
}

// ---- Lost leases and verified news -------------------------------------------------------------

TEST(AfterLostLease, AsksNowAndKeepsWhatWasAccepted) {
    const std::vector<std::pair<RefundStatus, RefundStatus>> expected = {
        {RefundStatus::queued, RefundStatus::queued},
        {RefundStatus::sending, RefundStatus::unconfirmed},
        {RefundStatus::unconfirmed, RefundStatus::unconfirmed},
        {RefundStatus::processing, RefundStatus::processing},
    };
    for (const auto& [from, to] : expected) {
        const RefundStep step = after_lost_lease(facts_of(from), policy, {now, 0});
        EXPECT_EQ(step.status, to);
        EXPECT_EQ(step.next_attempt_at, now);
        EXPECT_EQ(step.failed_attempts, 3);
        EXPECT_EQ(step.ask_first, to == RefundStatus::queued);
        EXPECT_FALSE(step.changes_nothing || step.flag != Flag::none || step.number_dead);
        EXPECT_TRUE(is_allowed(from, step));
    }
}

TEST(AfterLostLease, LeavesWhatWasSettledByHand) {
    for (const RefundStatus status : settled) {
        const RefundStep step = after_lost_lease(facts_of(status), policy, {now, 0});
        EXPECT_TRUE(step.changes_nothing);
        EXPECT_EQ(step.status, status);
    }
}

std::vector<std::pair<RefundStatus, Verdict>> every_status_with(
    const std::vector<Verdict>& verdicts) {
    std::vector<std::pair<RefundStatus, Verdict>> all;
    for (const RefundStatus status : every_status) {
        for (const Verdict verdict : verdicts) {
            all.emplace_back(status, verdict);
        }
    }
    return all;
}

TEST(AfterNews, SuccessSettlesWhatIsUnsettledAndFlagsTheRest) {
    for (const RefundStatus status : every_status) {
        const RefundStep step = after_news(facts_of(status), Verdict::succeeded, policy, {now, 0});
        SCOPED_TRACE(static_cast<int>(status));
        EXPECT_TRUE(is_allowed(status, step));
        EXPECT_EQ(step.changes_nothing, status == RefundStatus::refunded);
        const bool given_up =
            status == RefundStatus::cancelled || status == RefundStatus::attention;
        EXPECT_EQ(step.flag, given_up ? Flag::contradiction : Flag::none);
        EXPECT_EQ(step.status, given_up ? status : RefundStatus::refunded);
    }
}

TEST(AfterNews, FailureNeedsAPersonEvenAfterASuccess) {
    for (const auto& [status, verdict] : every_status_with({Verdict::failed, Verdict::abnormal})) {
        const RefundStep step = after_news(facts_of(status), verdict, policy, {now, 0});
        SCOPED_TRACE(static_cast<int>(status));
        EXPECT_EQ(step.number_dead, step.status != status && verdict == Verdict::failed);
        EXPECT_TRUE(is_allowed(status, step));
        const bool given_up =
            status == RefundStatus::cancelled || status == RefundStatus::attention;
        EXPECT_EQ(step.changes_nothing, given_up);
        EXPECT_EQ(step.status, given_up ? status : RefundStatus::attention);
        EXPECT_EQ(step.flag, Flag::none);
    }
}

TEST(AfterNews, TheSameAgainChangesNothing) {
    for (const RefundStatus status : every_status) {
        for (const Verdict verdict : {Verdict::succeeded, Verdict::failed, Verdict::abnormal}) {
            const RefundStep first = after_news(facts_of(status), verdict, policy, {now, 0});
            const RefundStep second_time =
                after_news(facts_of(first.status), verdict, policy, {now, 0});
            EXPECT_TRUE(second_time.changes_nothing || second_time.flag != Flag::none);
            EXPECT_EQ(second_time.status, first.status);
        }
    }
}

TEST(AfterNews, ProcessingMakesWhatWasSentAccepted) {
    for (const RefundStatus status : every_status) {
        SCOPED_TRACE(static_cast<int>(status));
        const RefundStep step = after_news(facts_of(status), Verdict::processing, policy, {now, 0});
        const bool accepted = not_accepted.contains(status);
        EXPECT_EQ(step.changes_nothing, !accepted);
        EXPECT_EQ(step.status, accepted ? RefundStatus::processing : status);
        EXPECT_TRUE(is_allowed(status, step));
    }
}

TEST(AfterNews, AHintHasTheGatewayAskedNow) {
    for (const RefundStatus status : every_status) {
        SCOPED_TRACE(static_cast<int>(status));
        RefundFacts facts = facts_of(status);
        facts.when_unknown = WhenUnknown::give_up;
        const RefundStep step = after_news(facts, Verdict::unknown, policy, {now, 0});
        const bool asked =
            status == RefundStatus::unconfirmed || status == RefundStatus::processing;
        EXPECT_EQ(step.status, status);
        EXPECT_EQ(step.changes_nothing, !asked);
        if (asked) {
            EXPECT_EQ(step.next_attempt_at, now);
            EXPECT_EQ(step.when_unknown, WhenUnknown::give_up);
        }
    }
}

// ---- A gateway's habits ------------------------------------------------------------------------

constexpr RetryPolicy habits{second, hour, 7 * day, 10 * second, 23 * hour};

RefundStep answered(const RefundFacts& facts, CallKind kind, const AnswerFacts& answer,
                    const RetryPolicy& its_policy = habits) {
    return after_answer(facts, kind, answer, true, its_policy, {now, 0});
}

TEST(QueryDelay, KeepsAQueryAwayFromItsRequest) {
    RefundFacts facts = facts_of(RefundStatus::sending);
    facts.failed_attempts = 0;
    const RefundStep step = answered(facts, CallKind::refund, answer_of(Verdict::unknown));
    EXPECT_EQ(step.status, RefundStatus::unconfirmed);
    EXPECT_EQ(step.next_attempt_at, now + 10 * second);
}

TEST(QueryDelay, CountsFromTheLostRequestItself) {
    RefundFacts facts = facts_of(RefundStatus::sending);
    facts.sent_at = now - 4 * second;
    EXPECT_EQ(after_lost_lease(facts, habits, {now, 0}).next_attempt_at, now + 6 * second);
    facts.sent_at = now - hour;
    EXPECT_EQ(after_lost_lease(facts, habits, {now, 0}).next_attempt_at, now);
    // A lost query is no request.
    facts.status = RefundStatus::unconfirmed;
    facts.sent_at = now;
    EXPECT_EQ(after_lost_lease(facts, habits, {now, 0}).next_attempt_at, now);
}

TEST(Rejection, ToBeConfirmedIsAskedAboutBeforeAPersonIs) {
    AnswerFacts refused = answer_of(Verdict::rejected);
    refused.confirm = true;
    const RefundStep step = answered(facts_of(RefundStatus::sending), CallKind::refund, refused);
    EXPECT_EQ(step.status, RefundStatus::unconfirmed);
    EXPECT_EQ(step.when_unknown, WhenUnknown::give_up);

    RefundFacts facts = facts_of(RefundStatus::unconfirmed);
    facts.when_unknown = WhenUnknown::give_up;
    // Not known there: so it was refused, and is never sent again by itself.
    EXPECT_EQ(answered(facts, CallKind::query, answer_of(Verdict::not_found)).status,
              RefundStatus::attention);
    // Known after all.
    EXPECT_EQ(answered(facts, CallKind::query, answer_of(Verdict::succeeded)).status,
              RefundStatus::refunded);
    EXPECT_EQ(answered(facts, CallKind::query, answer_of(Verdict::processing)).status,
              RefundStatus::processing);
    // No answer yet: what it is to lead to is kept.
    const RefundStep later = answered(facts, CallKind::query, answer_of(Verdict::unknown));
    EXPECT_EQ(later.status, RefundStatus::unconfirmed);
    EXPECT_EQ(later.when_unknown, WhenUnknown::give_up);
    EXPECT_EQ(after_lost_lease(facts, habits, {now, 0}).when_unknown, WhenUnknown::give_up);
}

TEST(IdempotencyKey, ChangesOnlyWhenItsStoredErrorIsProvenAndNothingIsKnown) {
    AnswerFacts stored = answer_of(Verdict::unknown);
    stored.when_unknown = WhenUnknown::new_key;
    const RefundStep step = answered(facts_of(RefundStatus::sending), CallKind::refund, stored);
    EXPECT_EQ(step.when_unknown, WhenUnknown::new_key);
    EXPECT_FALSE(step.new_key);

    for (const Verdict verdict : every_verdict) {
        for (const WhenUnknown when_unknown :
             {WhenUnknown::resend, WhenUnknown::new_key, WhenUnknown::give_up}) {
            RefundFacts facts = facts_of(RefundStatus::unconfirmed);
            facts.when_unknown = when_unknown;
            facts.key_sent_at = now - hour;
            EXPECT_EQ(answered(facts, CallKind::query, answer_of(verdict)).new_key,
                      verdict == Verdict::not_found && when_unknown == WhenUnknown::new_key)
                << name_of(verdict) << name_of(when_unknown);
        }
    }
}

// Rule 6: ask, and if that does not settle it, a person.
TEST(IdempotencyHorizon, EndsEveryResending) {
    for (const WhenUnknown when_unknown : {WhenUnknown::resend, WhenUnknown::new_key}) {
        for (const RefundStatus status :
             {RefundStatus::sending, RefundStatus::unconfirmed, RefundStatus::processing}) {
            RefundFacts facts = facts_of(status);
            facts.when_unknown = when_unknown;
            const auto not_found = answer_of(Verdict::not_found);
            facts.key_sent_at = now - habits.idempotency_horizon + 1;
            EXPECT_EQ(answered(facts, CallKind::query, not_found).status, RefundStatus::queued);
            facts.key_sent_at = now - habits.idempotency_horizon;
            EXPECT_EQ(answered(facts, CallKind::query, not_found).status, RefundStatus::attention);
            EXPECT_FALSE(answered(facts, CallKind::query, not_found).number_dead);
            // Nothing was sent under the key yet, or the gateway never forgets.
            EXPECT_EQ(answered(facts, CallKind::query, not_found, policy).status,
                      RefundStatus::queued);
            facts.key_sent_at = std::nullopt;
            EXPECT_EQ(answered(facts, CallKind::query, not_found).status, RefundStatus::queued);
        }
    }
}

TEST(NotSent, SaysThatNothingWasSentUnderTheKey) {
    for (const Verdict verdict : every_verdict) {
        EXPECT_EQ(
            answered(facts_of(RefundStatus::sending), CallKind::refund, answer_of(verdict)).unsent,
            verdict == Verdict::not_sent);
        EXPECT_FALSE(
            answered(facts_of(RefundStatus::unconfirmed), CallKind::query, answer_of(verdict))
                .unsent);
    }
}

TEST(Concern, IsShownWhileTheRefundGoesOn) {
    AnswerFacts poor = answer_of(Verdict::wait);
    poor.concern = Concern::balance;
    const RefundStep waiting = answered(facts_of(RefundStatus::sending), CallKind::refund, poor);
    EXPECT_EQ(waiting.status, RefundStatus::queued);
    EXPECT_EQ(waiting.flag, Flag::balance);

    AnswerFacts pending = answer_of(Verdict::processing);
    pending.concern = Concern::customer;
    EXPECT_EQ(answered(facts_of(RefundStatus::sending), CallKind::refund, pending).flag,
              Flag::customer);
}

TEST(Concern, ThatAnswersCannotBeVerifiedIsShownTheSecondTimeInARow) {
    AnswerFacts forged = answer_of(Verdict::unknown);
    forged.concern = Concern::unverifiable;
    for (const RefundStatus status :
         {RefundStatus::sending, RefundStatus::unconfirmed, RefundStatus::processing}) {
        for (const CallKind kind : every_kind) {
            RefundFacts facts = facts_of(status);
            facts.failed_attempts = 0;
            const RefundStep first = answered(facts, kind, forged);
            EXPECT_EQ(first.flag, Flag::none);
            facts.failed_attempts = first.failed_attempts;
            EXPECT_EQ(answered(facts, kind, forged).flag, Flag::unverifiable);
        }
    }
}

// ---- Names -------------------------------------------------------------------------------------

TEST(RefundNames, AreDistinct) {
    std::set<std::string> names;
    for (const Verdict verdict : every_verdict) {
        names.insert(name_of(verdict));
    }
    EXPECT_EQ(names,
              (std::set<std::string>{"succeeded", "processing", "failed", "abnormal", "rejected",
                                     "not_found", "wait", "not_sent", "unknown"}));
    EXPECT_STREQ(name_of(CallKind::refund), "refund");
    EXPECT_STREQ(name_of(CallKind::query), "query");
    for (const WhenUnknown when_unknown :
         {WhenUnknown::resend, WhenUnknown::new_key, WhenUnknown::give_up}) {
        EXPECT_EQ(when_unknown_of(name_of(when_unknown)), when_unknown);
    }
    EXPECT_EQ(when_unknown_of("anything else"), WhenUnknown::resend);
}

}  // namespace
}  // namespace payonce::core
