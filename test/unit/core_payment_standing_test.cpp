// Where a payment stands: the rule for every small sum, the way from each status to each other, and
// then every history of refunds that can happen, walked breadth first.
#include "core/payment_standing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <ostream>
#include <set>
#include <utility>
#include <vector>

namespace payonce::core {
namespace {

constexpr std::array succeeded = {PaymentStatus::paid, PaymentStatus::refunding,
                                  PaymentStatus::refunded, PaymentStatus::attention};

bool may_change(PaymentStatus from, PaymentStatus to) {
    return payment_may_change(static_cast<std::int16_t>(from), static_cast<std::int16_t>(to));
}

// ---- Every small sum ---------------------------------------------------------------------------

// The contract's sentences, one after another.
PaymentStatus expected_status(bool is_winner, std::int64_t arrived, const RefundSums& sums) {
    const std::int64_t given_back = sums.pending + sums.refunded + sums.attention;
    // A partial refund leaves a winner at 100, and its failure only sets attention.
    if (is_winner && given_back < arrived) {
        return PaymentStatus::paid;
    }
    // A loser whose money is not on its way back: the money is still with us.
    if (given_back < arrived) {
        return PaymentStatus::attention;
    }
    // Wholly on its way back: it stands where its refunds do, the worst of them first.
    if (sums.attention > 0) {
        return PaymentStatus::attention;
    }
    if (sums.pending > 0) {
        return PaymentStatus::refunding;
    }
    return PaymentStatus::refunded;
}

TEST(PaymentStanding, FollowsFromWinnerAndSumsAlone) {
    constexpr std::int64_t most = 5;
    for (std::int64_t arrived = 1; arrived <= most; ++arrived) {
        for (std::int64_t pending = 0; pending <= arrived; ++pending) {
            for (std::int64_t refunded = 0; pending + refunded <= arrived; ++refunded) {
                for (std::int64_t lost = 0; pending + refunded + lost <= arrived; ++lost) {
                    const RefundSums sums{pending, refunded, lost};
                    ASSERT_EQ(sums.reserved(), pending + refunded + lost);
                    for (const bool is_winner : {true, false}) {
                        ASSERT_EQ(payment_status_after(is_winner, arrived, sums),
                                  expected_status(is_winner, arrived, sums))
                            << "arrived " << arrived << ", pending " << pending << ", refunded "
                            << refunded << ", in attention " << lost << ", winner " << is_winner;
                    }
                }
            }
        }
    }
}

TEST(PaymentStanding, TakesTheLargestAmounts) {
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
    EXPECT_EQ(payment_status_after(true, most, {most - 1, 0, 0}), PaymentStatus::paid);
    EXPECT_EQ(payment_status_after(true, most, {most, 0, 0}), PaymentStatus::refunding);
    EXPECT_EQ(payment_status_after(false, most, {0, most - 1, 1}), PaymentStatus::attention);
}

// ---- From each status to each other ------------------------------------------------------------

// The statuses on the way, the last of which is the target.
std::vector<PaymentStatus> way(PaymentStatus from, PaymentStatus target) {
    std::vector<PaymentStatus> steps = {payment_step_towards(from, target)};
    while (steps.back() != target && steps.size() < 10) {
        steps.push_back(payment_step_towards(steps.back(), target));
    }
    return steps;
}

TEST(PaymentStep, ArrivesByAllowedChanges) {
    for (const PaymentStatus from : succeeded) {
        for (const PaymentStatus target : succeeded) {
            SCOPED_TRACE(testing::Message()
                         << static_cast<int>(from) << " to " << static_cast<int>(target));
            const std::vector<PaymentStatus> steps = way(from, target);
            EXPECT_EQ(steps.back(), target);
            EXPECT_LE(steps.size(), 2u);
            PaymentStatus before = from;
            for (const PaymentStatus step : steps) {
                EXPECT_TRUE(step == before || may_change(before, step));
                EXPECT_TRUE(has_succeeded(step));
                before = step;
            }
        }
    }
}

TEST(PaymentStep, MakesNoDetourWhereTheWayIsShort) {
    for (const PaymentStatus from : succeeded) {
        for (const PaymentStatus target : succeeded) {
            if (from == target || may_change(from, target)) {
                EXPECT_EQ(payment_step_towards(from, target), target);
            }
        }
    }
}

TEST(PaymentStep, TakesAWinnerToAttentionThroughRefunding) {
    EXPECT_EQ(way(PaymentStatus::paid, PaymentStatus::attention),
              (std::vector{PaymentStatus::refunding, PaymentStatus::attention}));
}

// ---- Every history -----------------------------------------------------------------------------

enum class Refund : std::uint8_t { none, pending, refunded, attention, cancelled };

// A payment of two units with room for three refunds of one unit or, as the first, of both.
struct History {
    static constexpr std::int64_t arrived = 2;

    PaymentStatus status = PaymentStatus::paid;
    bool is_winner = true;
    std::array<Refund, 3> refunds = {};
    bool first_is_whole = false;

    auto operator<=>(const History&) const = default;

    std::int64_t amount(std::size_t refund) const { return refund == 0 && first_is_whole ? 2 : 1; }

    RefundSums sums() const {
        RefundSums sums;
        for (std::size_t i = 0; i < refunds.size(); ++i) {
            sums.pending += refunds[i] == Refund::pending ? amount(i) : 0;
            sums.refunded += refunds[i] == Refund::refunded ? amount(i) : 0;
            sums.attention += refunds[i] == Refund::attention ? amount(i) : 0;
        }
        return sums;
    }

    bool has_refunds() const {
        return std::any_of(refunds.begin(), refunds.end(),
                           [](Refund refund) { return refund != Refund::none; });
    }
};

std::ostream& operator<<(std::ostream& out, const History& history) {
    out << "payment " << static_cast<int>(history.status) << ", "
        << (history.is_winner ? "winner" : "loser")
        << (history.first_is_whole ? ", refunds (the first of all):" : ", refunds:");
    for (const Refund refund : history.refunds) {
        out << ' ' << static_cast<int>(refund);
    }
    return out;
}

History with_refund(const History& history, std::size_t index, Refund refund) {
    History next = history;
    next.refunds[index] = refund;
    next.status = payment_status_after(history.is_winner, History::arrived, next.sums());
    return next;
}

// What the database allows a refund: queued until settled, and the ways out of a settlement.
std::vector<Refund> followers(Refund refund) {
    switch (refund) {
        case Refund::pending:
            return {Refund::refunded, Refund::attention, Refund::cancelled};
        case Refund::refunded:
            return {Refund::attention};
        case Refund::attention:
            return {Refund::pending, Refund::refunded, Refund::cancelled};
        case Refund::none:
        case Refund::cancelled:
            break;
    }
    return {};
}

std::vector<History> with_another_refund(const History& history) {
    std::vector<History> next;
    const std::int64_t left = History::arrived - history.sums().reserved();
    const auto* const free =
        std::find(history.refunds.begin(), history.refunds.end(), Refund::none);
    if (left == 0 || free == history.refunds.end()) {
        return next;
    }
    const auto index = static_cast<std::size_t>(free - history.refunds.begin());
    next.push_back(with_refund(history, index, Refund::pending));
    if (index == 0) {
        History whole = history;
        whole.first_is_whole = true;
        next.push_back(with_refund(whole, index, Refund::pending));
    }
    return next;
}

// refund_retry of a number that is dead: the old refund is cancelled and its successor queued
// before the payment is looked at.
std::vector<History> with_successor(const History& history) {
    std::vector<History> next;
    const auto* const free =
        std::find(history.refunds.begin(), history.refunds.end(), Refund::none);
    for (std::size_t i = 0; free != history.refunds.end() && i < history.refunds.size(); ++i) {
        const auto index = static_cast<std::size_t>(free - history.refunds.begin());
        if (history.refunds[i] == Refund::attention && history.amount(i) == history.amount(index)) {
            History superseded = history;
            superseded.refunds[i] = Refund::cancelled;
            next.push_back(with_refund(superseded, index, Refund::pending));
        }
    }
    return next;
}

std::vector<History> next_of(const History& history) {
    std::vector<History> next = with_another_refund(history);
    for (const History& superseded : with_successor(history)) {
        next.push_back(superseded);
    }
    for (std::size_t i = 0; i < history.refunds.size(); ++i) {
        for (const Refund follower : followers(history.refunds[i])) {
            next.push_back(with_refund(history, i, follower));
        }
    }
    // payment_resolve(…, 'accept'): what has no refunds left becomes the winner.
    if (history.status == PaymentStatus::attention && history.sums().reserved() == 0) {
        History accepted = history;
        accepted.is_winner = true;
        accepted.status = PaymentStatus::paid;
        next.push_back(accepted);
    }
    return next;
}

// How a payment's refunds can begin: the winner; a duplicate or late payment, whose whole refund is
// queued with the decision; a payment that waits for a person.
std::vector<History> beginnings() {
    History duplicate{PaymentStatus::refunding, false, {Refund::pending}, true};
    return {
        {PaymentStatus::paid, true, {}, false},
        duplicate,
        {PaymentStatus::attention, false, {}, false},
    };
}

template <typename Visit>
std::set<History> walk(Visit visit) {
    std::set<History> seen;
    std::deque<History> open;
    for (const History& beginning : beginnings()) {
        seen.insert(beginning);
        open.push_back(beginning);
    }
    while (!open.empty()) {
        const History history = open.front();
        open.pop_front();
        for (const History& next : next_of(history)) {
            visit(history, next);
            if (seen.insert(next).second) {
                open.push_back(next);
            }
        }
    }
    return seen;
}

TEST(PaymentHistory, NeedsNoStepInBetweenButOne) {
    // A winner with a failed part, of which the rest is refunded too.
    const std::pair detour(PaymentStatus::paid, PaymentStatus::attention);
    const std::set<History> seen = walk([&](const History& from, const History& to) {
        EXPECT_TRUE(from.status == to.status || may_change(from.status, to.status) ||
                    std::pair(from.status, to.status) == detour)
            << from << "  →  " << to;
    });
    std::set<PaymentStatus> visited;
    for (const History& history : seen) {
        visited.insert(history.status);
    }
    EXPECT_EQ(visited, (std::set<PaymentStatus>(succeeded.begin(), succeeded.end())));
    EXPECT_GT(seen.size(), 100u);
}

// Whatever happened before: a payment is in attention exactly when part of its money is neither
// kept nor on its way back. But a winner's failed part is shown by that refund alone.
TEST(PaymentHistory, AttentionMeansThatMoneyIsNeitherKeptNorOnItsWay) {
    walk([](const History&, const History& to) {
        const RefundSums sums = to.sums();
        const std::int64_t kept = to.is_winner ? History::arrived - sums.reserved() : 0;
        const bool cared_for = kept + sums.pending + sums.refunded == History::arrived;
        if (to.status == PaymentStatus::paid) {
            EXPECT_TRUE(to.is_winner && kept > 0) << to;
        } else {
            EXPECT_EQ(to.status == PaymentStatus::attention, !cared_for) << to;
        }
    });
}

// ---- Examples ----------------------------------------------------------------------------------

TEST(PaymentStanding, APartialRefundLeavesAWinnerPaid) {
    for (const RefundSums& sums : {RefundSums{1, 0, 0}, RefundSums{0, 1, 0}, RefundSums{0, 0, 1}}) {
        EXPECT_EQ(payment_status_after(true, 2, sums), PaymentStatus::paid);
    }
}

TEST(PaymentStanding, TheWholeOfAWinnerIsRefunded) {
    EXPECT_EQ(payment_status_after(true, 2, {2, 0, 0}), PaymentStatus::refunding);
    EXPECT_EQ(payment_status_after(true, 2, {1, 1, 0}), PaymentStatus::refunding);
    EXPECT_EQ(payment_status_after(true, 2, {0, 2, 0}), PaymentStatus::refunded);
}

TEST(PaymentStanding, AWinnerWhoseRefundWasCancelledIsPaid) {
    EXPECT_EQ(payment_status_after(true, 2, {}), PaymentStatus::paid);
    EXPECT_EQ(payment_status_after(true, 2, {0, 1, 0}), PaymentStatus::paid);
}

TEST(PaymentStanding, ALoserWithoutRefundIsStillWithUs) {
    EXPECT_EQ(payment_status_after(false, 2, {}), PaymentStatus::attention);
    EXPECT_EQ(payment_status_after(false, 2, {1, 0, 0}), PaymentStatus::attention);
}

TEST(PaymentStanding, ARefundThatFailedAfterAllNeedsAPerson) {
    EXPECT_EQ(payment_status_after(false, 2, {0, 0, 2}), PaymentStatus::attention);
    EXPECT_EQ(payment_status_after(true, 2, {0, 1, 1}), PaymentStatus::attention);
    EXPECT_EQ(payment_status_after(true, 2, {1, 0, 1}), PaymentStatus::attention);
}

}  // namespace
}  // namespace payonce::core
