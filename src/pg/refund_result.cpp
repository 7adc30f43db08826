#include "pg/refund_result.h"

#include "pg/fault_point.h"
#include "pg/pg.h"

namespace payonce::pg {
namespace {

const char* flag_words(core::Flag flag, core::RefundStatus status) {
    switch (flag) {
        case core::Flag::none:
            break;
        case core::Flag::overdue:
            return "is processing for more than 30 days";
        case core::Flag::contradiction:
            return status == core::RefundStatus::cancelled
                       ? "is cancelled, but the gateway reports that the money went back"
                       : "is in attention, but the gateway reports that the money went back";
        case core::Flag::balance:
            return "waits: the merchant's balance at the gateway is too small";
        case core::Flag::unverifiable:
            return "gets answers that cannot be verified: a key may be wrong";
        case core::Flag::customer:
            return "waits for the customer, who has to do something at the gateway";
        case core::Flag::not_told:
            return "was accepted, and now the gateway refuses to say what became of it";
    }
    return status == core::RefundStatus::attention ? "is in attention" : nullptr;
}

// Without the gateway's own words: those are in last_error, and could hold a separator.
std::optional<std::string_view> attention_words(const RefundRow& refund,
                                                const core::RefundStep& step) {
    const char* words = flag_words(step.flag, step.status);
    return words == nullptr ? std::nullopt
                            : std::optional<std::string_view>(psprintf(
                                  "refund %.*s %s", static_cast<int>(refund.refund_no.size()),
                                  refund.refund_no.data(), words));
}

}  // namespace

void apply_refund_step(const char* schema, const PaymentRow& payment, const RefundRow& refund,
                       const core::RefundStep& step, const RefundNews& news, TimestampTz now) {
    if (step.changes_nothing) {
        return;
    }
    RefundRow row = refund;
    // What succeeded is not dead: a retry must ask about this number, not send under a new one.
    const bool revived = step.flag == core::Flag::contradiction &&
                         row.status == core::RefundStatus::attention && row.number_dead;
    row.number_dead = row.number_dead && !revived;
    if (!core::is_settled(row.status) || step.status != row.status || revived) {
        write_refund_step(schema, row, step, news, now);
        fault_point(FaultPoint::refund_step_written);
    }
    // What its attention said about this refund may be over.
    const bool concerns_payment = core::is_settled(step.status) || step.flag != core::Flag::none ||
                                  core::is_settled(refund.status) || payment.attention.has_value();
    if (concerns_payment) {
        update_payment_standing(schema, refund.payment_id, refund.refund_no,
                                attention_words(refund, step));
    }
}

}  // namespace payonce::pg
