#include "pg/refund_result.h"

#include "pg/pg.h"

namespace payonce::pg {
namespace {

// Without the gateway's own words: those are in last_error, and could hold a separator.
std::optional<std::string_view> attention_words(const RefundRow& refund,
                                                const core::RefundStep& step) {
    const int length = static_cast<int>(refund.refund_no.size());
    const char* refund_no = refund.refund_no.data();
    if (step.flag_payment && step.status == core::RefundStatus::processing) {
        return psprintf("refund %.*s is processing for more than 30 days", length, refund_no);
    }
    if (step.flag_payment) {
        return psprintf(
            "refund %.*s is %s, but the gateway reports that the money went back", length,
            refund_no, step.status == core::RefundStatus::cancelled ? "cancelled" : "in attention");
    }
    if (step.status == core::RefundStatus::attention) {
        return psprintf("refund %.*s is in attention", length, refund_no);
    }
    return std::nullopt;
}

}  // namespace

void apply_refund_step(const char* schema, const RefundRow& refund, const core::RefundStep& step,
                       const RefundNews& news, TimestampTz now) {
    if (step.changes_nothing) {
        return;
    }
    RefundRow row = refund;
    // What succeeded is not dead: a retry must ask about this number, not send under a new one.
    const bool revived =
        step.flag_payment && row.status == core::RefundStatus::attention && row.number_dead;
    row.number_dead = row.number_dead && !revived;
    if (!core::is_settled(row.status) || step.status != row.status || revived) {
        write_refund_step(schema, row, step, news, now);
    }
    const bool concerns_payment =
        core::is_settled(step.status) || step.flag_payment || core::is_settled(refund.status);
    if (concerns_payment) {
        update_payment_standing(schema, refund.payment_id, refund.refund_no,
                                attention_words(refund, step));
    }
}

}  // namespace payonce::pg
