// The allowed changes of status, pair by pair, against the contract's table written down a second
// time: a change that slips in here loses money or sends it twice.
#include "core/states.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace payonce::core {
namespace {

using Code = std::int16_t;
using MayChange = bool (*)(Code from, Code to) noexcept;
// From each status that may be left at all to those that may follow it.
using Table = std::map<Code, std::set<Code>>;

const Table order_table = {
    {0, {100, 400}},
    {400, {0, 100}},
};

const Table payment_table = {
    {0, {100, 200, 400, 500}}, {400, {100, 200, 500}}, {100, {200}},
    {200, {300, 500, 100}},    {300, {500}},           {500, {100, 200, 300}},
};

const Table refund_table = {
    {0, {100, 400, 500}},
    {100, {0, 150, 200, 300, 500}},
    {150, {0, 100, 200, 300, 500}},
    {200, {0, 300, 500}},
    {300, {500}},
    {500, {0, 300, 400}},
};

// Every code in use, their neighbours, and what a smallint can hold besides.
std::vector<Code> codes() {
    std::vector<Code> all = {std::numeric_limits<Code>::min(), -500, -100, 1000, 10000,
                             std::numeric_limits<Code>::max()};
    for (Code code = -1; code <= 601; ++code) {
        all.push_back(code);
    }
    return all;
}

void expect_table(MayChange may_change, const Table& table) {
    for (const Code from : codes()) {
        const auto row = table.find(from);
        for (const Code to : codes()) {
            const bool listed = row != table.end() && row->second.contains(to);
            ASSERT_EQ(may_change(from, to), listed) << from << " to " << to;
        }
    }
}

TEST(StatusChange, OfAnOrderIsWhatTheContractLists) {
    expect_table(order_may_change, order_table);
}

TEST(StatusChange, OfAPaymentIsWhatTheContractLists) {
    expect_table(payment_may_change, payment_table);
}

TEST(StatusChange, OfARefundIsWhatTheContractLists) {
    expect_table(refund_may_change, refund_table);
}

TEST(StatusChange, NeverLeavesAFinalState) {
    for (const Code to : codes()) {
        EXPECT_FALSE(order_may_change(100, to)) << to;   // paid is for good
        EXPECT_FALSE(refund_may_change(400, to)) << to;  // a cancelled number is not used again
    }
}

TEST(StatusChange, NeverForgetsThatMoneyArrived) {
    for (const Code from : {Code{100}, Code{200}, Code{300}, Code{500}}) {
        EXPECT_FALSE(payment_may_change(from, 0)) << from;
        EXPECT_FALSE(payment_may_change(from, 400)) << from;
    }
}

TEST(Codes, AreTheContracts) {
    EXPECT_EQ(static_cast<int>(OrderStatus::unpaid), 0);
    EXPECT_EQ(static_cast<int>(OrderStatus::paid), 100);
    EXPECT_EQ(static_cast<int>(OrderStatus::closed), 400);

    EXPECT_EQ(static_cast<int>(PaymentStatus::paying), 0);
    EXPECT_EQ(static_cast<int>(PaymentStatus::paid), 100);
    EXPECT_EQ(static_cast<int>(PaymentStatus::refunding), 200);
    EXPECT_EQ(static_cast<int>(PaymentStatus::refunded), 300);
    EXPECT_EQ(static_cast<int>(PaymentStatus::failed), 400);
    EXPECT_EQ(static_cast<int>(PaymentStatus::attention), 500);

    EXPECT_EQ(static_cast<int>(RefundStatus::queued), 0);
    EXPECT_EQ(static_cast<int>(RefundStatus::sending), 100);
    EXPECT_EQ(static_cast<int>(RefundStatus::unconfirmed), 150);
    EXPECT_EQ(static_cast<int>(RefundStatus::processing), 200);
    EXPECT_EQ(static_cast<int>(RefundStatus::refunded), 300);
    EXPECT_EQ(static_cast<int>(RefundStatus::cancelled), 400);
    EXPECT_EQ(static_cast<int>(RefundStatus::attention), 500);
}

TEST(HasSucceeded, IsTrueOnceMoneyArrived) {
    EXPECT_FALSE(has_succeeded(PaymentStatus::paying));
    EXPECT_FALSE(has_succeeded(PaymentStatus::failed));
    EXPECT_TRUE(has_succeeded(PaymentStatus::paid));
    EXPECT_TRUE(has_succeeded(PaymentStatus::refunding));
    EXPECT_TRUE(has_succeeded(PaymentStatus::refunded));
    EXPECT_TRUE(has_succeeded(PaymentStatus::attention));
}

TEST(RefundReasonName, IsTheContracts) {
    EXPECT_STREQ(name_of(RefundReason::duplicate), "duplicate");
    EXPECT_STREQ(name_of(RefundReason::late), "late");
    EXPECT_STREQ(name_of(RefundReason::request), "request");
    EXPECT_STREQ(name_of(RefundReason::mismatch), "mismatch");
}

}  // namespace
}  // namespace payonce::core
