#include "core/decide.h"

namespace payonce::core {
namespace {

bool differs(const std::optional<std::int64_t>& news, std::int64_t expected) noexcept {
    return news && *news != expected;
}

bool differs(const std::optional<std::string_view>& news, std::string_view expected) noexcept {
    return news && *news != expected;
}

bool is_same_money(const PaymentFacts& payment, const PaymentNews& news) noexcept {
    return payment.transaction_id && (payment.transaction_id == news.transaction_id ||
                                      payment.transaction_id == news.other_transaction_id);
}

// The payment succeeded before: only a second taking of money under the same number is news.
// Through another gateway it is one, unless it has the number of the money that is known.
Decision decide_after_success(const PaymentFacts& payment, const PaymentNews& news) noexcept {
    Decision decision;
    if (!news.success || is_same_money(payment, news)) {
        return decision;
    }
    if (news.other_gateway || (news.transaction_id && payment.transaction_id)) {
        decision.outcome = Outcome::conflict;
        decision.attention = AttentionReason::second_transaction;
    } else {
        decision.fill_transaction_id = news.transaction_id.has_value();
    }
    return decision;
}

Decision decide_failure(const PaymentFacts& payment, const PaymentNews& news) noexcept {
    Decision decision;
    if (payment.status == PaymentStatus::paying && !news.other_gateway) {
        decision.outcome = Outcome::failed;
        decision.payment_status = PaymentStatus::failed;
    }
    return decision;
}

Decision first_success(Outcome outcome, PaymentStatus status) noexcept {
    Decision decision;
    decision.outcome = outcome;
    decision.payment_status = status;
    decision.fill_paid_amount = true;
    return decision;
}

Decision to_attention(Outcome outcome, AttentionReason reason) noexcept {
    Decision decision = first_success(outcome, PaymentStatus::attention);
    decision.attention = reason;
    return decision;
}

Decision to_refund(Outcome outcome, RefundReason reason) noexcept {
    Decision decision = first_success(outcome, PaymentStatus::refunding);
    decision.refund = reason;
    return decision;
}

Decision decide_for_open_order(const OrderFacts& order, const PaymentFacts& payment) noexcept {
    if (payment.price != order.price || payment.currency != order.currency) {
        return to_attention(Outcome::mismatch, AttentionReason::order_differs);
    }
    Decision decision = first_success(Outcome::paid, PaymentStatus::paid);
    decision.order_becomes_paid = true;
    return decision;
}

Decision decide_for_closed_order(const OrderFacts& order, const PaymentFacts& payment,
                                 LatePolicy policy) noexcept {
    switch (policy) {
        case LatePolicy::manual:
            return to_attention(Outcome::late, AttentionReason::late_payment);
        case LatePolicy::accept:
            return decide_for_open_order(order, payment);
        case LatePolicy::refund:
            break;
    }
    return to_refund(Outcome::late, RefundReason::late);
}

Decision decide_first_success(const OrderFacts& order, const PaymentFacts& payment,
                              const PaymentNews& news, LatePolicy late_policy) noexcept {
    if (news.other_gateway) {
        return to_attention(Outcome::mismatch, AttentionReason::gateway_differs);
    }
    if (differs(news.paid_amount, payment.price) || differs(news.paid_currency, payment.currency)) {
        return to_attention(Outcome::mismatch, AttentionReason::amount_differs);
    }
    switch (order.status) {
        case OrderStatus::paid:
            return to_refund(Outcome::duplicate, RefundReason::duplicate);
        case OrderStatus::closed:
            return decide_for_closed_order(order, payment, late_policy);
        case OrderStatus::unpaid:
            break;
    }
    return decide_for_open_order(order, payment);
}

}  // namespace

const char* name_of(Outcome outcome) noexcept {
    switch (outcome) {
        case Outcome::paid:
            return "paid";
        case Outcome::duplicate:
            return "duplicate";
        case Outcome::late:
            return "late";
        case Outcome::mismatch:
            return "mismatch";
        case Outcome::conflict:
            return "conflict";
        case Outcome::failed:
            return "failed";
        case Outcome::already_processed:
            return "already_processed";
    }
    return "already_processed";
}

Decision decide(const OrderFacts& order, const PaymentFacts& payment, const PaymentNews& news,
                LatePolicy late_policy) noexcept {
    if (has_succeeded(payment.status)) {
        return decide_after_success(payment, news);
    }
    if (!news.success) {
        return decide_failure(payment, news);
    }
    Decision decision = decide_first_success(order, payment, news, late_policy);
    // The number of an attempt that failed is not kept, so the success brings its own.
    decision.fill_transaction_id = news.transaction_id.has_value();
    return decision;
}

}  // namespace payonce::core
