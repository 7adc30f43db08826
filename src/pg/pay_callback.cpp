#include "pg/pay_callback.h"

#include "core/decide.h"

#include <optional>
#include <string_view>

#include "pg/arguments.h"
#include "pg/durability.h"
#include "pg/fault_point.h"
#include "pg/lock.h"
#include "pg/pg.h"
#include "pg/settings.h"
#include "pg/statement.h"
#include "pg/store.h"

namespace payonce::pg {
namespace {

Callback read_arguments(FunctionCallInfo fcinfo) {
    Callback callback;
    callback.payment_id = required_text(fcinfo, 0, "out_order_no");
    check_payment_id(callback.payment_id, "out_order_no");
    callback.news.success = required_bool(fcinfo, 1, "pay_success");
    callback.news.paid_amount = optional_int64(fcinfo, 2);
    if (callback.news.paid_amount) {
        check_amount(*callback.news.paid_amount, "paid_amount");
    }
    callback.news.paid_currency = optional_text(fcinfo, 3);
    if (callback.news.paid_currency) {
        check_currency(*callback.news.paid_currency, "paid_currency");
    }
    callback.news.transaction_id = optional_text(fcinfo, 4);
    if (callback.news.transaction_id) {
        check_transaction_id(*callback.news.transaction_id, "transaction_id");
    }
    return callback;
}

// The rows that a callback is about, and where they are.
struct Rows {
    TableUse orders;
    TableUse payments;
    Row order_row;
    Row payment_row;
    OrderRow order;
    PaymentRow payment;
};

// Before money has arrived the payment's gateway counts, afterwards the one that it came through.
bool is_other_gateway(const Callback& callback, const PaymentRow& payment) {
    return callback.gateway &&
           *callback.gateway !=
               (core::has_succeeded(payment.status) ? payment.arrived_through() : payment.gateway);
}

[[noreturn]] void report_moved(std::string_view payment_id) {
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("payment \"%.*s\" was deleted or moved to another order meanwhile",
                           static_cast<int>(payment_id.size()), payment_id.data()),
                    errdetail("Nothing was recorded."), errhint("Call again.")));
    pg_unreachable();
}

void take_over(Rows* rows, std::string_view order_id, std::string_view payment_id) {
    rows->order = order_in(rows->order_row);
    rows->payment = payment_in(rows->payment_row);
    if (rows->payment.order_id != order_id) {
        report_moved(payment_id);
    }
}

void read_rows(Rows* rows, std::string_view order_id, std::string_view payment_id) {
    if (!find_row(rows->orders, order_id, RowLock::none, &rows->order_row) ||
        !read_again(rows->payments, &rows->payment_row)) {
        report_moved(payment_id);
    }
    take_over(rows, order_id, payment_id);
}

void lock_rows(Rows* rows, std::string_view order_id, std::string_view payment_id) {
    // The order first: locks are taken in the same order everywhere.
    if (!lock_again(rows->orders, &rows->order_row) ||
        !lock_again(rows->payments, &rows->payment_row)) {
        report_moved(payment_id);
    }
    take_over(rows, order_id, payment_id);
}

core::Decision decide_on(const Rows& rows, const Callback& callback) {
    core::PaymentNews news = callback.news;
    news.other_gateway = is_other_gateway(callback, rows.payment);
    const core::OrderFacts order{rows.order.status, rows.order.price, rows.order.currency};
    const core::PaymentFacts payment{rows.payment.status, rows.payment.price, rows.payment.currency,
                                     rows.payment.transaction_id};
    return core::decide(order, payment, news, late_policy());
}

const char* attention_words(core::AttentionReason reason, const Rows& rows,
                            const Callback& callback) {
    const PaymentRow& payment = rows.payment;
    const core::PaymentNews& news = callback.news;
    switch (reason) {
        case core::AttentionReason::none:
            break;
        case core::AttentionReason::second_transaction: {
            const std::string_view first = payment.transaction_id.value_or("no number");
            const std::string_view second = news.transaction_id.value_or("no number");
            if (is_other_gateway(callback, payment)) {
                const std::string_view through = payment.arrived_through();
                return psprintf("conflict: paid through %.*s (%.*s) and again through %.*s (%.*s)",
                                static_cast<int>(through.size()), through.data(),
                                static_cast<int>(first.size()), first.data(),
                                static_cast<int>(callback.gateway->size()),
                                callback.gateway->data(), static_cast<int>(second.size()),
                                second.data());
            }
            return psprintf("conflict: paid as transaction %.*s and again as %.*s",
                            static_cast<int>(first.size()), first.data(),
                            static_cast<int>(second.size()), second.data());
        }
        case core::AttentionReason::amount_differs: {
            const std::string_view currency = news.paid_currency.value_or(payment.currency);
            if (!news.paid_amount) {
                return psprintf("mismatch: money in %.*s arrived, %lld %.*s was asked for",
                                static_cast<int>(currency.size()), currency.data(),
                                static_cast<long long>(payment.price),
                                static_cast<int>(payment.currency.size()), payment.currency.data());
            }
            return psprintf("mismatch: %lld %.*s arrived, %lld %.*s was asked for",
                            static_cast<long long>(*news.paid_amount),
                            static_cast<int>(currency.size()), currency.data(),
                            static_cast<long long>(payment.price),
                            static_cast<int>(payment.currency.size()), payment.currency.data());
        }
        case core::AttentionReason::gateway_differs:
            return psprintf("mismatch: the money came through %.*s, the payment is of %.*s",
                            static_cast<int>(callback.gateway->size()), callback.gateway->data(),
                            static_cast<int>(payment.gateway.size()), payment.gateway.data());
        case core::AttentionReason::order_differs:
            return psprintf(
                "mismatch: the payment is of %lld %.*s, its order of %lld %.*s",
                static_cast<long long>(payment.price), static_cast<int>(payment.currency.size()),
                payment.currency.data(), static_cast<long long>(rows.order.price),
                static_cast<int>(rows.order.currency.size()), rows.order.currency.data());
        case core::AttentionReason::late_payment:
            return "late: paid after the order was closed";
    }
    return nullptr;
}

void write_decision(const char* schema, const core::Decision& decision, Rows& rows,
                    const Callback& callback) {
    const core::PaymentNews& news = callback.news;
    PaymentRow payment = rows.payment;
    payment.status = decision.payment_status.value_or(payment.status);
    if (decision.fill_transaction_id) {
        payment.transaction_id = news.transaction_id;
    }
    if (decision.fill_paid_amount) {
        payment.paid_amount = news.paid_amount ? news.paid_amount : payment.paid_amount;
        payment.paid_currency = news.paid_currency ? news.paid_currency : payment.paid_currency;
        // Also for a refund, should a person decide on one: money goes back the way it came.
        payment.paid_gateway =
            is_other_gateway(callback, payment) ? callback.gateway : payment.paid_gateway;
    }
    if (const char* words = attention_words(decision.attention, rows, callback)) {
        payment.attention = with_attention(payment.attention, words);
    }
    // The order before the payment: it is the arbiter, and at REPEATABLE READ the loser fails here.
    if (decision.order_becomes_paid) {
        mark_order_paid(rows.orders, &rows.order_row, payment.id);
        fault_point(FaultPoint::callback_order_paid);
    }
    write_payment(rows.payments, &rows.payment_row, payment);
    end_use(rows.orders);
    end_use(rows.payments);
    fault_point(FaultPoint::callback_payment_written);
    if (decision.refund) {
        queue_refund(schema, payment, next_automatic_refund_no(schema, payment.id),
                     payment.arrived(), *decision.refund, {});
        fault_point(FaultPoint::callback_refund_queued);
    }
}

bool find_payment(const char* schema, std::string_view payment_id, Rows* rows) {
    rows->payments = begin_use(payment_table, schema);
    begin_view();
    const bool found = find_row(rows->payments, payment_id, RowLock::none, &rows->payment_row);
    end_view();
    return found;
}

// The payment has been found, and its order's lock is held.
core::Outcome decide_found(const char* schema, std::string_view order_id, const Callback& callback,
                           Rows* rows) {
    rows->orders = begin_use(order_table, schema);
    begin_view();
    read_rows(rows, order_id, callback.payment_id);
    core::Decision decision = decide_on(*rows, callback);
    if (!decision.writes_nothing()) {
        // Hand-written SQL does not take the lock, so decide on rows that nobody else can change.
        lock_rows(rows, order_id, callback.payment_id);
        fault_point(FaultPoint::callback_reread);
        decision = decide_on(*rows, callback);
    }
    end_view();
    if (decision.writes_nothing()) {
        rely_on_visible_rows();
    } else {
        write_decision(schema, decision, *rows, callback);
    }
    end_use(rows->orders);
    end_use(rows->payments);
    fault_point(FaultPoint::callback_decided);
    return decision.outcome;
}

}  // namespace

core::Outcome decide_callback(const char* schema, const Callback& callback) {
    begin_decision();
    Rows rows;
    if (!find_payment(schema, callback.payment_id, &rows)) {
        report_unknown(
            "payment", callback.payment_id, "t_order_pay",
            "Insert the payment before its customer can pay, or let the gateway repeat.");
    }
    const std::string_view order_id = payment_in(rows.payment_row).order_id;
    fault_point(FaultPoint::callback_begun);
    lock_order(order_id);
    fault_point(FaultPoint::callback_locked);
    return decide_found(schema, order_id, callback, &rows);
}

core::Outcome decide_under_lock(const char* schema, std::string_view order_id,
                                const Callback& callback) {
    Rows rows;
    if (!find_payment(schema, callback.payment_id, &rows)) {
        report_moved(callback.payment_id);
    }
    return decide_found(schema, order_id, callback, &rows);
}

namespace {

core::Outcome callback_outcome(FunctionCallInfo fcinfo) {
    const Callback callback = read_arguments(fcinfo);
    const char* schema = schema_of_function(fcinfo->flinfo->fn_oid);
    // Of settings: the definition of the function does not pin search_path, row access does.
    const int level = NewGUCNestLevel();
    const core::Outcome outcome = decide_callback(schema, callback);
    AtEOXact_GUC(true, level);
    return outcome;
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_pay_callback);
PG_FUNCTION_INFO_V1(payonce_pay_callback_outcome);

Datum payonce_pay_callback(PG_FUNCTION_ARGS) {
    payonce::pg::callback_outcome(fcinfo);
    PG_RETURN_BOOL(true);
}

Datum payonce_pay_callback_outcome(PG_FUNCTION_ARGS) {
    const payonce::core::Outcome outcome = payonce::pg::callback_outcome(fcinfo);
    PG_RETURN_TEXT_P(cstring_to_text(payonce::core::name_of(outcome)));
}
}
