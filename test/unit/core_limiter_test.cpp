// The limiter against simulated gateways and a simulated clock: never more than the limits, lowered
// when told to wait, raised again by success, never stopped.
#include "core/limiter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <queue>
#include <random>
#include <vector>

namespace payonce::core {
namespace {

constexpr Microseconds ms = us_per_s / 1000;
constexpr Microseconds start = 1000 * us_per_s;

Limiter limiter_of(std::int32_t max_in_flight, std::int32_t rate_limit_per_s = 0) {
    Limiter limiter;
    limiter.configure(max_in_flight, rate_limit_per_s, start);
    return limiter;
}

void answer_well(Limiter& limiter, int times) {
    for (int i = 0; i < times; ++i) {
        limiter.answered(false, start);
    }
}

// ---- Concurrency -------------------------------------------------------------------------------

TEST(Concurrency, StartsAtTheMaximum) {
    Limiter limiter = limiter_of(8);
    EXPECT_EQ(limiter.allowance(0, start), 8);
    EXPECT_EQ(limiter.allowance(5, start), 3);
    EXPECT_EQ(limiter.allowance(8, start), 0);
    EXPECT_EQ(limiter.current_limit(), 8);
}

TEST(Concurrency, IsNeverNegative) {
    Limiter limiter = limiter_of(4);
    EXPECT_EQ(limiter.allowance(5, start), 0);
    EXPECT_EQ(limiter.allowance(std::numeric_limits<std::int32_t>::max(), start), 0);
}

TEST(Concurrency, IsAtLeastOneWhateverIsConfigured) {
    for (const std::int32_t max : {1, 0, -5, std::numeric_limits<std::int32_t>::min()}) {
        Limiter limiter = limiter_of(max);
        EXPECT_EQ(limiter.allowance(0, start), 1) << max;
    }
}

TEST(Concurrency, IsHalvedOnceForAllThatWereToldTogether) {
    Limiter limiter = limiter_of(64);
    for (int i = 0; i < 64; ++i) {
        limiter.answered(true, start + i * ms);
    }
    EXPECT_EQ(limiter.current_limit(), 32);
    limiter.answered(true, start + us_per_s);
    EXPECT_EQ(limiter.current_limit(), 16);
}

TEST(Concurrency, NeverStopsTheGateway) {
    Limiter limiter = limiter_of(64);
    for (int i = 0; i < 100; ++i) {
        limiter.answered(true, start + i * us_per_s);
    }
    EXPECT_EQ(limiter.allowance(0, start + 100 * us_per_s), 1);
}

TEST(Concurrency, IsRaisedByOneForEachRoundOfSuccesses) {
    Limiter limiter = limiter_of(64);
    limiter.answered(true, start);
    ASSERT_EQ(limiter.current_limit(), 32);
    answer_well(limiter, 31);
    EXPECT_EQ(limiter.current_limit(), 32);
    answer_well(limiter, 3);
    EXPECT_EQ(limiter.current_limit(), 33);
}

TEST(Concurrency, RecoversFullyAndNoFurther) {
    Limiter limiter = limiter_of(64);
    for (int i = 0; i < 10; ++i) {
        limiter.answered(true, start + i * us_per_s);
    }
    ASSERT_EQ(limiter.current_limit(), 1);
    answer_well(limiter, 64 * 64);
    EXPECT_EQ(limiter.current_limit(), 64);
    EXPECT_EQ(limiter.allowance(0, start), 64);
}

TEST(Concurrency, FollowsANewMaximum) {
    Limiter limiter = limiter_of(8);
    limiter.configure(3, 0, start);
    EXPECT_EQ(limiter.current_limit(), 3);
    limiter.configure(20, 0, start);
    EXPECT_EQ(limiter.current_limit(), 20);
}

TEST(Concurrency, ConfiguredAgainKeepsWhatItLearnt) {
    Limiter limiter = limiter_of(8);
    limiter.answered(true, start);
    ASSERT_EQ(limiter.current_limit(), 4);
    limiter.configure(8, 0, start);
    EXPECT_EQ(limiter.current_limit(), 4);
    // A raised maximum while the gateway is overloaded must be earned.
    limiter.configure(16, 0, start);
    EXPECT_EQ(limiter.current_limit(), 4);
    limiter.configure(2, 0, start);
    EXPECT_EQ(limiter.current_limit(), 2);
}

// A gateway that stands `capacity` requests at a time and tells the others to wait.
TEST(Concurrency, SettlesNearWhatTheGatewayStands) {
    constexpr int capacity = 10;
    Limiter limiter = limiter_of(100);
    int told_to_wait = 0;
    constexpr int rounds = 1000;
    for (int round = 0; round < rounds; ++round) {
        const Microseconds now = start + round * us_per_s;
        const int sent = limiter.allowance(0, now);
        ASSERT_GE(sent, 1);
        for (int i = 0; i < sent; ++i) {
            limiter.answered(i >= capacity, now);
            told_to_wait += round >= 100 && i >= capacity ? 1 : 0;
        }
        if (round >= 100) {
            ASSERT_LE(sent, capacity + 1);
            ASSERT_GE(sent, capacity / 2);
        }
    }
    EXPECT_LE(told_to_wait, rounds / 4);
}

// ---- Rate --------------------------------------------------------------------------------------

// Sends as fast as the limiter allows, for `duration`, looking every `step`. When each was sent.
std::vector<Microseconds> send_greedily(Limiter& limiter, Microseconds duration,
                                        Microseconds step) {
    std::vector<Microseconds> sent;
    for (Microseconds now = start; now < start + duration; now += step) {
        const std::int32_t allowed = limiter.allowance(0, now);
        limiter.started(allowed);
        sent.insert(sent.end(), static_cast<std::size_t>(allowed), now);
    }
    return sent;
}

// The most that fell into any window of this length.
std::size_t most_within(const std::vector<Microseconds>& sent, Microseconds window) {
    std::deque<Microseconds> inside;
    std::size_t most = 0;
    for (const Microseconds time : sent) {
        inside.push_back(time);
        while (inside.front() <= time - window) {
            inside.pop_front();
        }
        most = std::max(most, inside.size());
    }
    return most;
}

TEST(Rate, IsNeverExceededByMoreThanTheBurstInAnyWindow) {
    for (const int rate : {1, 3, 10, 250}) {
        for (const Microseconds step : {ms, 7 * ms, 333 * ms, 2500 * ms}) {
            Limiter limiter = limiter_of(1000, rate);
            const auto sent = send_greedily(limiter, 60 * us_per_s, step);
            for (const int window_s : {1, 2, 10, 60}) {
                ASSERT_LE(most_within(sent, window_s * us_per_s),
                          static_cast<std::size_t>(rate * window_s + rate))
                    << rate << " per second, looked every " << step << " µs, " << window_s << " s";
            }
        }
    }
}

TEST(Rate, IsReached) {
    for (const int rate : {1, 3, 10, 250}) {
        Limiter limiter = limiter_of(1000, rate);
        const auto sent = send_greedily(limiter, 60 * us_per_s, ms);
        EXPECT_GE(sent.size(), static_cast<std::size_t>(59 * rate)) << rate;
        EXPECT_LE(sent.size(), static_cast<std::size_t>(60 * rate + 1)) << rate;
    }
}

TEST(Rate, StartsWithOneSoThatARestartDoesNotDoubleIt) {
    Limiter limiter = limiter_of(1000, 100);
    EXPECT_EQ(limiter.allowance(0, start), 1);
}

TEST(Rate, SavesUpASecondAtMost) {
    Limiter limiter = limiter_of(1000, 100);
    EXPECT_EQ(limiter.allowance(0, start + 3600 * us_per_s), 100);
}

TEST(Rate, NamesTheTimeOfTheNextOne) {
    Limiter limiter = limiter_of(1000, 4);
    ASSERT_EQ(limiter.allowance(0, start), 1);
    EXPECT_EQ(limiter.next_token_at(start), start);
    limiter.started(1);
    const Microseconds next = limiter.next_token_at(start);
    EXPECT_GT(next, start + 249 * ms);
    EXPECT_LE(next, start + 251 * ms);
    EXPECT_EQ(limiter.allowance(0, next - 2 * ms), 0);
    EXPECT_EQ(limiter.allowance(0, next), 1);
    EXPECT_EQ(limiter.next_token_at(next), next);
}

TEST(Rate, CountsWhatWasEarnedTowardsTheNextOne) {
    Limiter limiter = limiter_of(1000, 4);
    limiter.started(limiter.allowance(0, start));
    const Microseconds halfway = start + 125 * ms;
    ASSERT_EQ(limiter.allowance(0, halfway), 0);
    EXPECT_GT(limiter.next_token_at(halfway), start + 249 * ms);
    EXPECT_LE(limiter.next_token_at(halfway), start + 251 * ms);
}

// Who waits until the time that is named finds a token there: otherwise the owner would spin.
TEST(Rate, NamedTimesAreKept) {
    for (const int rate : {1, 3, 7, 1000, 99'999}) {
        Limiter limiter = limiter_of(1000, rate);
        Microseconds now = start;
        for (int i = 0; i < 1000; ++i) {
            ASSERT_GE(limiter.allowance(0, now), 1) << rate << ", number " << i;
            limiter.started(limiter.allowance(0, now));
            now = limiter.next_token_at(now);
        }
    }
}

TEST(Rate, DoesNotHoldWhereThereIsNone) {
    Limiter limiter = limiter_of(7, 0);
    limiter.started(1000);
    EXPECT_EQ(limiter.allowance(0, start), 7);
    EXPECT_EQ(limiter.next_token_at(start), start);
}

TEST(Rate, OverdrawnIsPaidBack) {
    Limiter limiter = limiter_of(1000, 10);
    limiter.started(11);
    EXPECT_EQ(limiter.allowance(0, start + us_per_s), 0);
    EXPECT_EQ(limiter.allowance(0, start + 1101 * ms), 1);
}

TEST(Rate, ConfiguredAgainGivesNothingAway) {
    Limiter limiter = limiter_of(1000, 10);
    limiter.started(limiter.allowance(0, start));
    for (int i = 0; i < 100; ++i) {
        limiter.configure(1000, 10, start);
        ASSERT_EQ(limiter.allowance(0, start), 0);
    }
}

TEST(Rate, FollowsANewLimit) {
    Limiter limiter = limiter_of(1000, 1000);
    ASSERT_EQ(limiter.allowance(0, start + us_per_s), 1000);
    limiter.configure(1000, 2, start + us_per_s);
    EXPECT_EQ(limiter.allowance(0, start + us_per_s), 1) << "what was saved up at the old rate";
    const auto sent = send_greedily(limiter, 10 * us_per_s, ms);
    EXPECT_LE(sent.size(), 2u * 10 + 1);
    limiter.configure(1000, 0, start + 20 * us_per_s);
    EXPECT_EQ(limiter.allowance(0, start + 20 * us_per_s), 1000);
}

TEST(Rate, AClockThatIsSetBackNeitherStopsNorFloods) {
    Limiter limiter = limiter_of(1000, 10);
    limiter.started(limiter.allowance(0, start + us_per_s));
    ASSERT_EQ(limiter.allowance(0, start - 3600 * us_per_s), 0);
    EXPECT_EQ(limiter.allowance(0, start - 3599 * us_per_s), 10);
}

TEST(Rate, HoldsTogetherWithConcurrency) {
    Limiter limiter = limiter_of(3, 1000);
    const Microseconds later = start + us_per_s;
    EXPECT_EQ(limiter.allowance(0, later), 3);
    EXPECT_EQ(limiter.allowance(2, later), 1);
    limiter.started(999);
    EXPECT_EQ(limiter.allowance(0, later), 1);
}

// ---- Both, against a gateway with a mind of its own --------------------------------------------

TEST(Limiter, StaysWithinBothLimitsInARandomLife) {
    constexpr int max_in_flight = 20;
    constexpr int rate = 50;
    std::mt19937 random(20240607);
    Limiter limiter = limiter_of(max_in_flight, rate);
    std::priority_queue<Microseconds, std::vector<Microseconds>, std::greater<>> ends;
    std::vector<Microseconds> sent;
    for (Microseconds now = start; now < start + 600 * us_per_s; now += 5 * ms) {
        while (!ends.empty() && ends.top() <= now) {
            ends.pop();
            limiter.answered(random() % 20 == 0, now);
        }
        const std::int32_t allowed = limiter.allowance(static_cast<int>(ends.size()), now);
        ASSERT_GE(allowed, 0);
        ASSERT_LE(limiter.current_limit(), max_in_flight);
        limiter.started(allowed);
        for (int i = 0; i < allowed; ++i) {
            sent.push_back(now);
            ends.push(now + static_cast<Microseconds>(random() % 400) * ms);
        }
        ASSERT_LE(ends.size(), static_cast<std::size_t>(max_in_flight));
    }
    EXPECT_LE(most_within(sent, us_per_s), static_cast<std::size_t>(2 * rate));
    EXPECT_GE(sent.size(), 600u * 5) << "the gateway was all but stopped";
}

}  // namespace
}  // namespace payonce::core
