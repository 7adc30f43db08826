// payment_resolve: a person decides about a payment in attention.
#include "core/states.h"

#include <string_view>

#include "pg/arguments.h"
#include "pg/case.h"
#include "pg/pg.h"
#include "pg/statement.h"
#include "pg/store.h"

namespace payonce::pg {
namespace {

Statement update_note = {
    "UPDATE {s}.t_order_pay SET note = $2 WHERE id = $1", 2, {TEXTOID, TEXTOID}};

enum class Action : std::uint8_t { accept, refund };

Action read_action(std::string_view name) {
    if (name != "accept" && name != "refund") {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("action \"%.*s\" is unknown", shown_bytes(name), name.data()),
                        errdetail("Nothing was changed."),
                        errhint("Pass accept (the order keeps the payment) or refund (the money "
                                "goes back).")));
    }
    return name == "accept" ? Action::accept : Action::refund;
}

// The money that a conflict is about has no row of its own: only the words go.
std::string_view clear_attention(const char* schema, PaymentRow payment) {
    payment.attention = std::nullopt;
    write_payment(schema, payment);
    return "cleared";
}

std::string_view accept_payment(const char* schema, const PaymentCase& taken) {
    PaymentRow payment = taken.payment;
    if (payment.status != core::PaymentStatus::attention) {
        return clear_attention(schema, payment);
    }
    if (taken.order.status == core::OrderStatus::paid && !taken.is_winner()) {
        report_wrong_state("the order has another winner",
                           "An order keeps one payment; it is paid by another.",
                           "Refund this payment: payment_resolve(id, 'refund', note).");
    }
    if (payment.refund_reserved > 0) {
        report_wrong_state("the payment has refunds that are not cancelled",
                           "What is being sent back cannot be kept.",
                           "Cancel them first: refund_resolve(refund_no, false, note).");
    }
    payment.status = core::PaymentStatus::paid;
    payment.attention = conflicts_in(payment.attention);
    if (taken.order.status != core::OrderStatus::paid) {
        mark_order_paid(schema, payment.order_id, payment.id);
    }
    write_payment(schema, payment);
    return "accepted";
}

core::RefundReason refund_reason(const PaymentCase& taken) {
    const PaymentRow& payment = taken.payment;
    const bool as_asked =
        payment.arrived() == payment.price && payment.arrived_currency() == payment.currency &&
        payment.arrived_through() == payment.gateway && payment.price == taken.order.price &&
        payment.currency == taken.order.currency;
    if (!as_asked) {
        return core::RefundReason::mismatch;
    }
    return taken.order.status == core::OrderStatus::closed ? core::RefundReason::late
                                                           : core::RefundReason::duplicate;
}

std::string_view refund_payment(const char* schema, const PaymentCase& taken) {
    PaymentRow payment = taken.payment;
    if (payment.status != core::PaymentStatus::attention) {
        report_wrong_state(
            "the payment is not in status attention",
            "Its refund would take back what the order keeps, or was sent already.",
            "Settle a conflict at the gateway and call payment_resolve(id, 'accept', "
            "note); for other refunds call refund_request.");
    }
    if (!payment.paid_amount && payment.arrived_currency() != payment.currency) {
        report_wrong_state("nobody said how much arrived",
                           "Money came in another currency than was asked for, without an amount.",
                           "Set paid_amount to what arrived, and call again.");
    }
    const std::int64_t left = payment.arrived() - payment.refund_reserved;
    if (left <= 0) {
        report_wrong_state("nothing is left to refund", "The whole payment has refunds already.",
                           "Call refund_retry or refund_resolve on them.");
    }
    payment.attention = conflicts_in(payment.attention);
    write_payment(schema, payment);
    const std::string_view refund_no =
        queue_refund(schema, payment, next_automatic_refund_no(schema, payment.id), left,
                     refund_reason(taken), {});
    update_payment_standing(schema, payment.id, refund_no, std::nullopt);
    return refund_no;
}

std::string_view resolve_payment(const char* schema, std::string_view payment_id, Action action,
                                 std::string_view note) {
    const PaymentCase taken = take_payment(schema, payment_id);
    if (taken.payment.status != core::PaymentStatus::attention && !taken.payment.attention) {
        report_wrong_state("the payment is not in attention",
                           psprintf("Its status is %d and nothing is noted about it.",
                                    static_cast<int>(taken.payment.status)),
                           "The view payonce_attention lists the payments that are.");
    }
    const std::string_view done =
        action == Action::accept ? accept_payment(schema, taken) : refund_payment(schema, taken);
    Parameters parameters;
    parameters.add(payment_id).add(note);
    write_row(update_note, schema, parameters);
    return done;
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_payment_resolve);

Datum payonce_payment_resolve(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    const std::string_view payment_id = required_text(fcinfo, 0, "payment_id");
    check_payment_id(payment_id, "payment_id");
    const Action action = read_action(required_text(fcinfo, 1, "action"));
    const std::string_view note = required_text(fcinfo, 2, "note");
    check_note(note, "note");
    const char* schema = schema_of_function(fcinfo->flinfo->fn_oid);
    const MemoryContext caller = CurrentMemoryContext;
    SPI_connect();
    text* result = text_in(caller, resolve_payment(schema, payment_id, action, note));
    SPI_finish();
    PG_RETURN_TEXT_P(result);
}
}
