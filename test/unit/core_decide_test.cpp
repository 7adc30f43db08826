// What a callback decides, over the complete cross product of what can be asked. The oracle is the
// contract's table as data, read as it is written: the first row that fits, from the top, decides.
#include "core/decide.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace payonce::core {
namespace {

constexpr std::int64_t price = 3200;

constexpr std::array every_payment_status = {PaymentStatus::paying,    PaymentStatus::paid,
                                             PaymentStatus::refunding, PaymentStatus::refunded,
                                             PaymentStatus::failed,    PaymentStatus::attention};
constexpr std::array every_order_status = {OrderStatus::unpaid, OrderStatus::paid,
                                           OrderStatus::closed};
constexpr std::array every_policy = {LatePolicy::refund, LatePolicy::manual, LatePolicy::accept};

// ---- What can be asked -------------------------------------------------------------------------

enum class Amount { unsaid, equal, less, more };
enum class Currency { unsaid, equal, another };
// The transaction id of the payment and that of the news.
enum class Transaction {
    neither,
    only_ours,
    only_theirs,
    same,
    different,
    their_second_is_ours,
};
// The payment beside its order.
enum class Fit { equal, price_differs, currency_differs };

constexpr std::array every_amount = {Amount::unsaid, Amount::equal, Amount::less, Amount::more};
constexpr std::array every_currency = {Currency::unsaid, Currency::equal, Currency::another};
constexpr std::array every_transaction = {
    Transaction::neither, Transaction::only_ours, Transaction::only_theirs,
    Transaction::same,    Transaction::different, Transaction::their_second_is_ours};
constexpr std::array every_fit = {Fit::equal, Fit::price_differs, Fit::currency_differs};

struct Case {
    PaymentStatus payment = PaymentStatus::paying;
    OrderStatus order = OrderStatus::unpaid;
    bool success = true;
    Amount amount = Amount::unsaid;
    Currency currency = Currency::unsaid;
    Transaction transaction = Transaction::neither;
    Fit fit = Fit::equal;
    LatePolicy policy = LatePolicy::refund;
    bool other_gateway = false;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
    return out << "payment " << static_cast<int>(c.payment) << ", order "
               << static_cast<int>(c.order) << (c.success ? ", success" : ", failure")
               << ", amount #" << static_cast<int>(c.amount) << ", currency #"
               << static_cast<int>(c.currency) << ", transaction #"
               << static_cast<int>(c.transaction) << ", fit #" << static_cast<int>(c.fit)
               << ", policy #" << static_cast<int>(c.policy)
               << (c.other_gateway ? ", through another gateway" : "");
}

// `cases` times `values`: each case once for each value of one member.
template <typename Value, std::size_t size>
std::vector<Case> times(const std::vector<Case>& cases, Value Case::*member,
                        const std::array<Value, size>& values) {
    std::vector<Case> product;
    for (const Case& c : cases) {
        for (const Value value : values) {
            product.push_back(c);
            product.back().*member = value;
        }
    }
    return product;
}

const std::vector<Case>& every_case() {
    static const std::vector<Case> cases = [] {
        std::vector<Case> all = {Case{}};
        all = times(all, &Case::payment, every_payment_status);
        all = times(all, &Case::order, every_order_status);
        all = times(all, &Case::success, std::array{true, false});
        all = times(all, &Case::amount, every_amount);
        all = times(all, &Case::currency, every_currency);
        all = times(all, &Case::transaction, every_transaction);
        all = times(all, &Case::fit, every_fit);
        all = times(all, &Case::policy, every_policy);
        return times(all, &Case::other_gateway, std::array{false, true});
    }();
    return cases;
}

OrderFacts order_of(const Case& c) {
    OrderFacts order;
    order.status = c.order;
    order.price = c.fit == Fit::price_differs ? price + 100 : price;
    order.currency = c.fit == Fit::currency_differs ? "EUR" : "CNY";
    return order;
}

PaymentFacts payment_of(const Case& c) {
    PaymentFacts payment;
    payment.status = c.payment;
    payment.price = price;
    payment.currency = "CNY";
    if (c.transaction != Transaction::neither && c.transaction != Transaction::only_theirs) {
        payment.transaction_id = "4200001";
    }
    return payment;
}

PaymentNews news_of(const Case& c) {
    PaymentNews news;
    news.success = c.success;
    if (c.amount != Amount::unsaid) {
        news.paid_amount = c.amount == Amount::equal  ? price
                           : c.amount == Amount::less ? price - 1
                                                      : price + 1;
    }
    if (c.currency != Currency::unsaid) {
        news.paid_currency = c.currency == Currency::equal ? "CNY" : "USD";
    }
    if (c.transaction == Transaction::same || c.transaction == Transaction::only_theirs) {
        news.transaction_id = "4200001";
    } else if (c.transaction == Transaction::different) {
        news.transaction_id = "4200002";
        news.other_transaction_id = "4200003";
    } else if (c.transaction == Transaction::their_second_is_ours) {
        news.transaction_id = "4200002";
        news.other_transaction_id = "4200001";
    }
    news.other_gateway = c.other_gateway;
    return news;
}

Decision decide_case(const Case& c) {
    return decide(order_of(c), payment_of(c), news_of(c), c.policy);
}

// ---- The contract's table ----------------------------------------------------------------------

enum class OrderColumn { any, paid, closed_refund, closed_manual, unpaid_or_late_accepted };
enum class NewsColumn {
    any,
    failure,
    success,
    success_under_another_transaction,
    success_under_a_transaction_that_is_not_ours,
    success_of_another_amount_or_currency,
    success_but_not_the_orders_price_or_currency,
};
enum class Fills { nothing, an_unknown_transaction_id, what_the_success_says };

struct Row {
    const char* name = nullptr;
    // The paragraph below the contract's table: news through another gateway than the payment's.
    bool other_gateway = false;
    std::set<PaymentStatus> payment;
    OrderColumn order = OrderColumn::any;
    NewsColumn news = NewsColumn::any;
    Outcome outcome = Outcome::already_processed;
    // The effect.
    std::optional<PaymentStatus> payment_status = {};
    bool order_becomes_paid = false;
    std::optional<RefundReason> refund = {};
    AttentionReason attention = AttentionReason::none;
    Fills fills = Fills::nothing;
};

const std::set<PaymentStatus> succeeded = {PaymentStatus::paid, PaymentStatus::refunding,
                                           PaymentStatus::refunded, PaymentStatus::attention};
const std::set<PaymentStatus> not_succeeded = {PaymentStatus::paying, PaymentStatus::failed};

const std::vector<Row> table = {
    {
        .name = "conflict through another gateway",
        .other_gateway = true,
        .payment = succeeded,
        .news = NewsColumn::success_under_a_transaction_that_is_not_ours,
        .outcome = Outcome::conflict,
        .attention = AttentionReason::second_transaction,
    },
    {
        .name = "already succeeded, news through another gateway",
        .other_gateway = true,
        .payment = succeeded,
        .outcome = Outcome::already_processed,
    },
    {
        .name = "failure through another gateway",
        .other_gateway = true,
        .payment = not_succeeded,
        .news = NewsColumn::failure,
        .outcome = Outcome::already_processed,
    },
    {
        .name = "it arrived through another gateway",
        .other_gateway = true,
        .payment = not_succeeded,
        .news = NewsColumn::success,
        .outcome = Outcome::mismatch,
        .payment_status = PaymentStatus::attention,
        .attention = AttentionReason::gateway_differs,
        .fills = Fills::what_the_success_says,
    },
    {
        .name = "conflict",
        .payment = succeeded,
        .news = NewsColumn::success_under_another_transaction,
        .outcome = Outcome::conflict,
        .attention = AttentionReason::second_transaction,
    },
    {
        .name = "already succeeded",
        .payment = succeeded,
        .outcome = Outcome::already_processed,
        .fills = Fills::an_unknown_transaction_id,
    },
    {
        .name = "already failed",
        .payment = {PaymentStatus::failed},
        .news = NewsColumn::failure,
        .outcome = Outcome::already_processed,
    },
    {
        .name = "failed",
        .payment = {PaymentStatus::paying},
        .news = NewsColumn::failure,
        .outcome = Outcome::failed,
        .payment_status = PaymentStatus::failed,
    },
    {
        .name = "another amount or currency arrived",
        .payment = not_succeeded,
        .news = NewsColumn::success_of_another_amount_or_currency,
        .outcome = Outcome::mismatch,
        .payment_status = PaymentStatus::attention,
        .attention = AttentionReason::amount_differs,
        .fills = Fills::what_the_success_says,
    },
    {
        .name = "duplicate",
        .payment = not_succeeded,
        .order = OrderColumn::paid,
        .news = NewsColumn::success,
        .outcome = Outcome::duplicate,
        .payment_status = PaymentStatus::refunding,
        .refund = RefundReason::duplicate,
        .fills = Fills::what_the_success_says,
    },
    {
        .name = "late, refunded",
        .payment = not_succeeded,
        .order = OrderColumn::closed_refund,
        .news = NewsColumn::success,
        .outcome = Outcome::late,
        .payment_status = PaymentStatus::refunding,
        .refund = RefundReason::late,
        .fills = Fills::what_the_success_says,
    },
    {
        .name = "late, for a person",
        .payment = not_succeeded,
        .order = OrderColumn::closed_manual,
        .news = NewsColumn::success,
        .outcome = Outcome::late,
        .payment_status = PaymentStatus::attention,
        .attention = AttentionReason::late_payment,
        .fills = Fills::what_the_success_says,
    },
    {
        .name = "not the order's price or currency",
        .payment = not_succeeded,
        .order = OrderColumn::unpaid_or_late_accepted,
        .news = NewsColumn::success_but_not_the_orders_price_or_currency,
        .outcome = Outcome::mismatch,
        .payment_status = PaymentStatus::attention,
        .attention = AttentionReason::order_differs,
        .fills = Fills::what_the_success_says,
    },
    {
        .name = "paid",
        .payment = not_succeeded,
        .order = OrderColumn::unpaid_or_late_accepted,
        .news = NewsColumn::success,
        .outcome = Outcome::paid,
        .payment_status = PaymentStatus::paid,
        .order_becomes_paid = true,
        .fills = Fills::what_the_success_says,
    },
};

bool fits(OrderColumn column, const Case& c) {
    const bool closed = c.order == OrderStatus::closed;
    switch (column) {
        case OrderColumn::any:
            return true;
        case OrderColumn::paid:
            return c.order == OrderStatus::paid;
        case OrderColumn::closed_refund:
            return closed && c.policy == LatePolicy::refund;
        case OrderColumn::closed_manual:
            return closed && c.policy == LatePolicy::manual;
        case OrderColumn::unpaid_or_late_accepted:
            return c.order == OrderStatus::unpaid || (closed && c.policy == LatePolicy::accept);
    }
    return false;
}

bool fits(NewsColumn column, const Case& c) {
    switch (column) {
        case NewsColumn::any:
            return true;
        case NewsColumn::failure:
            return !c.success;
        case NewsColumn::success:
            return c.success;
        case NewsColumn::success_under_another_transaction:
            return c.success && c.transaction == Transaction::different;
        case NewsColumn::success_under_a_transaction_that_is_not_ours:
            // Only the same number proves that it is the same money: numbers are the gateways'.
            return c.success && c.transaction != Transaction::same &&
                   c.transaction != Transaction::their_second_is_ours;
        case NewsColumn::success_of_another_amount_or_currency:
            return c.success && (c.amount == Amount::less || c.amount == Amount::more ||
                                 c.currency == Currency::another);
        case NewsColumn::success_but_not_the_orders_price_or_currency:
            return c.success && c.fit != Fit::equal;
    }
    return false;
}

bool fits(const Row& row, const Case& c) {
    return row.other_gateway == c.other_gateway && row.payment.contains(c.payment) &&
           fits(row.order, c) && fits(row.news, c);
}

const Row& row_of(const Case& c) {
    return *std::find_if(table.begin(), table.end(), [&](const Row& row) { return fits(row, c); });
}

bool fills_transaction_id(const Row& row, const Case& c) {
    switch (row.fills) {
        case Fills::nothing:
            return false;
        case Fills::an_unknown_transaction_id:
            // A failure's number is that of an attempt that failed: kept, it would make the
            // number of the payment that succeeded look like a second one.
            return c.success && c.transaction == Transaction::only_theirs;
        case Fills::what_the_success_says:
            return news_of(c).transaction_id.has_value();
    }
    return false;
}

// ---- The cross product against the table -------------------------------------------------------

TEST(DecideTable, HasARowForEveryCase) {
    std::set<std::string> used;
    for (const Case& c : every_case()) {
        const bool covered =
            std::any_of(table.begin(), table.end(), [&](const Row& row) { return fits(row, c); });
        ASSERT_TRUE(covered) << c;
        used.insert(row_of(c).name);
    }
    EXPECT_EQ(used.size(), table.size()) << "a row that nothing reaches tests nothing";
    EXPECT_EQ(every_case().size(), 6u * 3 * 2 * 4 * 3 * 6 * 3 * 3 * 2);
}

TEST(DecideTable, DecidesEveryCase) {
    for (const Case& c : every_case()) {
        const Row& row = row_of(c);
        const Decision decision = decide_case(c);
        SCOPED_TRACE(testing::Message() << c << " (row: " << row.name << ")");
        ASSERT_STREQ(name_of(decision.outcome), name_of(row.outcome));
        ASSERT_EQ(decision.payment_status, row.payment_status);
        ASSERT_EQ(decision.order_becomes_paid, row.order_becomes_paid);
        ASSERT_EQ(decision.refund, row.refund);
        ASSERT_EQ(decision.attention, row.attention);
        ASSERT_EQ(decision.fill_transaction_id, fills_transaction_id(row, c));
        ASSERT_EQ(decision.fill_paid_amount, row.fills == Fills::what_the_success_says);
    }
}

TEST(DecideTable, WritesNothingExactlyWhereItSaysNone) {
    for (const Case& c : every_case()) {
        const Row& row = row_of(c);
        const bool none =
            row.outcome == Outcome::already_processed && !fills_transaction_id(row, c);
        ASSERT_EQ(decide_case(c).writes_nothing(), none) << c;
    }
}

// ---- What holds whatever the table says --------------------------------------------------------

TEST(DecideInvariant, EveryChangeIsAllowed) {
    for (const Case& c : every_case()) {
        const Decision decision = decide_case(c);
        if (decision.payment_status) {
            ASSERT_TRUE(payment_may_change(static_cast<std::int16_t>(c.payment),
                                           static_cast<std::int16_t>(*decision.payment_status)))
                << c;
        }
        if (decision.order_becomes_paid) {
            ASSERT_TRUE(order_may_change(static_cast<std::int16_t>(c.order),
                                         static_cast<std::int16_t>(OrderStatus::paid)))
                << c;
        }
    }
}

TEST(DecideInvariant, NoTwoEffectsContradict) {
    for (const Case& c : every_case()) {
        const Decision decision = decide_case(c);
        SCOPED_TRACE(testing::Message() << c);
        // The order is paid by this payment, or this payment is no winner.
        ASSERT_EQ(decision.order_becomes_paid, decision.payment_status == PaymentStatus::paid);
        // What is kept is not sent back, and what waits for a person is neither.
        ASSERT_EQ(decision.refund.has_value(), decision.payment_status == PaymentStatus::refunding);
        const bool says_why = decision.attention != AttentionReason::none;
        const bool conflict = decision.outcome == Outcome::conflict;
        ASSERT_EQ(says_why, conflict || decision.payment_status == PaymentStatus::attention);
        // A conflict is only shown.
        ASSERT_FALSE(conflict && (decision.payment_status || decision.fill_transaction_id ||
                                  decision.fill_paid_amount));
    }
}

TEST(DecideInvariant, AFailureNeverUndoesASuccess) {
    for (const Case& c : every_case()) {
        if (c.success || !has_succeeded(c.payment)) {
            continue;
        }
        ASSERT_TRUE(decide_case(c).writes_nothing()) << c;
    }
}

TEST(DecideInvariant, AFailureNeverTouchesTheOrderOrMovesMoney) {
    for (const Case& c : every_case()) {
        if (c.success) {
            continue;
        }
        const Decision decision = decide_case(c);
        ASSERT_FALSE(decision.order_becomes_paid) << c;
        ASSERT_FALSE(decision.refund) << c;
        ASSERT_FALSE(decision.fill_paid_amount) << c;
    }
}

TEST(DecideInvariant, AFailureThroughAnotherGatewayChangesNothing) {
    for (const Case& c : every_case()) {
        if (!c.success && c.other_gateway) {
            ASSERT_EQ(decide_case(c).outcome, Outcome::already_processed) << c;
            ASSERT_TRUE(decide_case(c).writes_nothing()) << c;
            ASSERT_FALSE(decide_case(c).fill_paid_amount) << c;
        }
    }
}

// Nothing is sent back through a gateway by which it did not come, and no order is paid by it.
TEST(DecideInvariant, SuccessThroughAnotherGatewayIsForAPerson) {
    for (const Case& c : every_case()) {
        if (!c.other_gateway) {
            continue;
        }
        const Decision decision = decide_case(c);
        ASSERT_FALSE(decision.refund) << c;
        ASSERT_FALSE(decision.order_becomes_paid) << c;
        ASSERT_TRUE(!decision.payment_status ||
                    (decision.payment_status == PaymentStatus::attention &&
                     decision.attention == AttentionReason::gateway_differs))
            << c;
        // Its number is another gateway's: one that is kept must not pass for the payment's own.
        ASSERT_FALSE(has_succeeded(c.payment) && decision.fill_transaction_id) << c;
    }
}

TEST(DecideInvariant, FirstSuccessIsNeverSilent) {
    for (const Case& c : every_case()) {
        if (!c.success || has_succeeded(c.payment)) {
            continue;
        }
        const Decision decision = decide_case(c);
        ASSERT_TRUE(decision.payment_status && has_succeeded(*decision.payment_status)) << c;
        ASSERT_NE(decision.outcome, Outcome::already_processed) << c;
    }
}

TEST(DecideInvariant, APaidOrderKeepsItsWinner) {
    for (const Case& c : every_case()) {
        if (c.order == OrderStatus::paid) {
            ASSERT_FALSE(decide_case(c).order_becomes_paid) << c;
        }
    }
}

// The rows after the decision was written.
void write(const Decision& decision, const PaymentNews& news, OrderFacts& order,
           PaymentFacts& payment) {
    payment.status = decision.payment_status.value_or(payment.status);
    if (decision.fill_transaction_id) {
        payment.transaction_id = news.transaction_id;
    }
    if (decision.order_becomes_paid) {
        order.status = OrderStatus::paid;
    }
}

TEST(DecideInvariant, TheSameNewsAgainChangesNothing) {
    for (const Case& c : every_case()) {
        OrderFacts order = order_of(c);
        PaymentFacts payment = payment_of(c);
        PaymentNews news = news_of(c);
        const Decision first = decide(order, payment, news, c.policy);
        write(first, news, order, payment);
        // Once its money has come through this gateway, it is no other.
        news.other_gateway = news.other_gateway && !first.fill_paid_amount;
        const Decision second = decide(order, payment, news, c.policy);
        SCOPED_TRACE(testing::Message() << c);
        if (first.outcome == Outcome::conflict) {
            ASSERT_EQ(second.outcome, Outcome::conflict);
        } else {
            ASSERT_EQ(second.outcome, Outcome::already_processed);
            ASSERT_TRUE(second.writes_nothing());
        }
    }
}

// Every sequence of up to four news about three payments of one order.
TEST(DecideInvariant, AnOrderHasOneWinnerInEveryHistory) {
    constexpr int payments = 3;
    constexpr int kinds_of_news = payments * 2;
    constexpr int histories = kinds_of_news * kinds_of_news * kinds_of_news * kinds_of_news;
    for (int history = 0; history < histories; ++history) {
        OrderFacts order{OrderStatus::unpaid, price, "CNY"};
        std::array<PaymentFacts, payments> rows;
        rows.fill(PaymentFacts{PaymentStatus::paying, price, "CNY", std::nullopt});
        std::array<bool, payments> arrived = {};
        for (int left = history, step = 0; step < 4; ++step, left /= kinds_of_news) {
            const auto which = static_cast<std::size_t>(left % kinds_of_news / 2);
            PaymentNews news;
            news.success = left % 2 == 1;
            arrived[which] = arrived[which] || news.success;
            write(decide(order, rows[which], news, LatePolicy::refund), news, order, rows[which]);
        }
        int winners = 0;
        for (std::size_t i = 0; i < payments; ++i) {
            ASSERT_EQ(has_succeeded(rows[i].status), arrived[i]) << "history " << history;
            winners += rows[i].status == PaymentStatus::paid ? 1 : 0;
        }
        const bool any_arrived = std::find(arrived.begin(), arrived.end(), true) != arrived.end();
        ASSERT_EQ(winners, any_arrived ? 1 : 0) << "history " << history;
        ASSERT_EQ(order.status == OrderStatus::paid, any_arrived) << "history " << history;
    }
}

// ---- One example for each row ------------------------------------------------------------------

TEST(Decide, FirstSuccessPaysTheOrder) {
    const Decision decision = decide_case({.amount = Amount::equal,
                                           .currency = Currency::equal,
                                           .transaction = Transaction::only_theirs});
    EXPECT_EQ(decision.outcome, Outcome::paid);
    EXPECT_EQ(decision.payment_status, PaymentStatus::paid);
    EXPECT_TRUE(decision.order_becomes_paid);
    EXPECT_TRUE(decision.fill_transaction_id);
    EXPECT_TRUE(decision.fill_paid_amount);
    EXPECT_FALSE(decision.refund);
}

TEST(Decide, SuccessAfterFailureCounts) {
    const Decision decision = decide_case({.payment = PaymentStatus::failed});
    EXPECT_EQ(decision.outcome, Outcome::paid);
    EXPECT_TRUE(decision.order_becomes_paid);
}

TEST(Decide, SuccessBringsItsOwnTransactionIdAfterAFailedAttempt) {
    const Decision decision =
        decide_case({.payment = PaymentStatus::failed, .transaction = Transaction::different});
    EXPECT_EQ(decision.outcome, Outcome::paid);
    EXPECT_TRUE(decision.fill_transaction_id);
}

TEST(Decide, SecondPaymentOfAPaidOrderGoesBack) {
    const Decision decision = decide_case({.order = OrderStatus::paid});
    EXPECT_EQ(decision.outcome, Outcome::duplicate);
    EXPECT_EQ(decision.payment_status, PaymentStatus::refunding);
    EXPECT_EQ(decision.refund, RefundReason::duplicate);
    EXPECT_FALSE(decision.order_becomes_paid);
}

TEST(Decide, DuplicateGoesBackWhateverItsOrderCosts) {
    const Decision decision = decide_case({.order = OrderStatus::paid, .fit = Fit::price_differs});
    EXPECT_EQ(decision.outcome, Outcome::duplicate);
}

TEST(Decide, DuplicateOfAnotherAmountWaitsForAPerson) {
    const Decision decision = decide_case({.order = OrderStatus::paid, .amount = Amount::more});
    EXPECT_EQ(decision.outcome, Outcome::mismatch);
    EXPECT_EQ(decision.payment_status, PaymentStatus::attention);
    EXPECT_FALSE(decision.refund);
}

TEST(Decide, LatePaymentGoesBackByDefault) {
    const Decision decision = decide_case({.order = OrderStatus::closed});
    EXPECT_EQ(decision.outcome, Outcome::late);
    EXPECT_EQ(decision.payment_status, PaymentStatus::refunding);
    EXPECT_EQ(decision.refund, RefundReason::late);
}

TEST(Decide, LatePaymentWaitsForAPersonIfSetSo) {
    const Decision decision =
        decide_case({.order = OrderStatus::closed, .policy = LatePolicy::manual});
    EXPECT_EQ(decision.outcome, Outcome::late);
    EXPECT_EQ(decision.payment_status, PaymentStatus::attention);
    EXPECT_EQ(decision.attention, AttentionReason::late_payment);
    EXPECT_FALSE(decision.refund);
}

TEST(Decide, LatePaymentReopensItsOrderIfSetSo) {
    const Decision decision =
        decide_case({.order = OrderStatus::closed, .policy = LatePolicy::accept});
    EXPECT_EQ(decision.outcome, Outcome::paid);
    EXPECT_TRUE(decision.order_becomes_paid);
}

TEST(Decide, LatePaymentThatIsAcceptedMustFitItsOrder) {
    const Decision decision = decide_case(
        {.order = OrderStatus::closed, .fit = Fit::price_differs, .policy = LatePolicy::accept});
    EXPECT_EQ(decision.outcome, Outcome::mismatch);
    EXPECT_EQ(decision.attention, AttentionReason::order_differs);
    EXPECT_FALSE(decision.order_becomes_paid);
}

TEST(Decide, AnotherAmountOrCurrencyWaitsForAPerson) {
    for (const Case& c : {Case{.amount = Amount::less}, Case{.amount = Amount::more},
                          Case{.amount = Amount::equal, .currency = Currency::another}}) {
        const Decision decision = decide_case(c);
        EXPECT_EQ(decision.outcome, Outcome::mismatch) << c;
        EXPECT_EQ(decision.payment_status, PaymentStatus::attention) << c;
        EXPECT_EQ(decision.attention, AttentionReason::amount_differs) << c;
        EXPECT_TRUE(decision.fill_paid_amount) << c;
    }
}

TEST(Decide, PaymentOfAnotherPriceThanItsOrderWaitsForAPerson) {
    for (const Fit fit : {Fit::price_differs, Fit::currency_differs}) {
        const Decision decision = decide_case({.amount = Amount::equal, .fit = fit});
        EXPECT_EQ(decision.outcome, Outcome::mismatch);
        EXPECT_EQ(decision.payment_status, PaymentStatus::attention);
        EXPECT_EQ(decision.attention, AttentionReason::order_differs);
        EXPECT_FALSE(decision.order_becomes_paid);
    }
}

TEST(Decide, FailureFailsAPaymentThatWasPaying) {
    const Decision decision = decide_case({.success = false});
    EXPECT_EQ(decision.outcome, Outcome::failed);
    EXPECT_EQ(decision.payment_status, PaymentStatus::failed);
}

TEST(Decide, FailureOfAFailedPaymentIsNoNews) {
    const Decision decision = decide_case({.payment = PaymentStatus::failed, .success = false});
    EXPECT_EQ(decision.outcome, Outcome::already_processed);
    EXPECT_TRUE(decision.writes_nothing());
}

TEST(Decide, RepeatedSuccessIsNoNews) {
    const Decision decision = decide_case({.payment = PaymentStatus::paid,
                                           .order = OrderStatus::paid,
                                           .transaction = Transaction::same});
    EXPECT_EQ(decision.outcome, Outcome::already_processed);
    EXPECT_TRUE(decision.writes_nothing());
}

TEST(Decide, RepeatedSuccessFillsInAnUnknownTransactionId) {
    const Decision decision = decide_case({.payment = PaymentStatus::refunding,
                                           .order = OrderStatus::paid,
                                           .transaction = Transaction::only_theirs});
    EXPECT_EQ(decision.outcome, Outcome::already_processed);
    EXPECT_TRUE(decision.fill_transaction_id);
    EXPECT_FALSE(decision.writes_nothing());
    EXPECT_FALSE(decision.payment_status);
}

TEST(Decide, SuccessUnderASecondTransactionIdIsAConflict) {
    for (const PaymentStatus status : succeeded) {
        const Decision decision = decide_case(
            {.payment = status, .order = OrderStatus::paid, .transaction = Transaction::different});
        EXPECT_EQ(decision.outcome, Outcome::conflict);
        EXPECT_EQ(decision.attention, AttentionReason::second_transaction);
        EXPECT_FALSE(decision.payment_status);
        EXPECT_FALSE(decision.fill_transaction_id);
    }
}

TEST(Decide, SuccessThroughAnotherGatewayWaitsForAPersonWhateverTheOrder) {
    for (const PaymentStatus payment : {PaymentStatus::paying, PaymentStatus::failed}) {
        for (const OrderStatus order : every_order_status) {
            const Decision decision = decide_case({.payment = payment,
                                                   .order = order,
                                                   .amount = Amount::equal,
                                                   .currency = Currency::equal,
                                                   .transaction = Transaction::only_theirs,
                                                   .policy = LatePolicy::accept,
                                                   .other_gateway = true});
            EXPECT_EQ(decision.outcome, Outcome::mismatch);
            EXPECT_EQ(decision.payment_status, PaymentStatus::attention);
            EXPECT_EQ(decision.attention, AttentionReason::gateway_differs);
            EXPECT_TRUE(decision.fill_transaction_id);
            EXPECT_TRUE(decision.fill_paid_amount);
            EXPECT_FALSE(decision.order_becomes_paid);
            EXPECT_FALSE(decision.refund);
        }
    }
}

TEST(Decide, AnotherGatewayIsTheReasonBeforeAnotherAmount) {
    EXPECT_EQ(decide_case({.amount = Amount::more, .other_gateway = true}).attention,
              AttentionReason::gateway_differs);
}

TEST(Decide, SuccessThroughAnotherGatewayIsAConflictUnlessItsNumberIsOurs) {
    for (const PaymentStatus status : succeeded) {
        Case c{.payment = status, .order = OrderStatus::paid, .other_gateway = true};
        for (const Transaction transaction : {Transaction::different, Transaction::only_theirs,
                                              Transaction::only_ours, Transaction::neither}) {
            c.transaction = transaction;
            EXPECT_EQ(decide_case(c).outcome, Outcome::conflict) << c;
            EXPECT_EQ(decide_case(c).attention, AttentionReason::second_transaction) << c;
            EXPECT_FALSE(decide_case(c).fill_transaction_id) << c;
        }
        c.transaction = Transaction::same;
        EXPECT_EQ(decide_case(c).outcome, Outcome::already_processed) << c;
        EXPECT_TRUE(decide_case(c).writes_nothing()) << c;
    }
}

// A PaymentIntent and its charge are the same money.
TEST(Decide, TheGatewaysSecondNumberIsNoConflict) {
    PaymentFacts payment;
    payment.status = PaymentStatus::paid;
    payment.transaction_id = "ch_9";
    PaymentNews news;
    news.success = true;
    news.transaction_id = "pi_9";
    EXPECT_EQ(decide({}, payment, news, LatePolicy::refund).outcome, Outcome::conflict);
    news.other_transaction_id = "ch_8";
    EXPECT_EQ(decide({}, payment, news, LatePolicy::refund).outcome, Outcome::conflict);
    news.other_transaction_id = "ch_9";
    EXPECT_EQ(decide({}, payment, news, LatePolicy::refund).outcome, Outcome::already_processed);
    EXPECT_TRUE(decide({}, payment, news, LatePolicy::refund).writes_nothing());
}

TEST(OutcomeName, IsTheContracts) {
    EXPECT_STREQ(name_of(Outcome::paid), "paid");
    EXPECT_STREQ(name_of(Outcome::duplicate), "duplicate");
    EXPECT_STREQ(name_of(Outcome::late), "late");
    EXPECT_STREQ(name_of(Outcome::mismatch), "mismatch");
    EXPECT_STREQ(name_of(Outcome::conflict), "conflict");
    EXPECT_STREQ(name_of(Outcome::failed), "failed");
    EXPECT_STREQ(name_of(Outcome::already_processed), "already_processed");
}

}  // namespace
}  // namespace payonce::core
