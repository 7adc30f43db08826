// refund_resolve: a person ends a refund that is in attention.
#include "core/refund.h"

#include <string_view>

#include "pg/arguments.h"
#include "pg/case.h"
#include "pg/pg.h"
#include "pg/statement.h"
#include "pg/store.h"

namespace payonce::pg {
namespace {

void resolve_refund(const char* schema, std::string_view refund_no, bool refunded,
                    std::string_view note) {
    const RefundCase taken = take_refund(schema, refund_no);
    if (taken.refund.status != core::RefundStatus::attention) {
        report_wrong_state("the refund is not in attention",
                           psprintf("Its status is %d.", static_cast<int>(taken.refund.status)),
                           "Only a refund in status 500 can be resolved by hand.");
    }
    core::RefundStep step;
    step.status = refunded ? core::RefundStatus::refunded : core::RefundStatus::cancelled;
    step.failed_attempts = taken.refund.failed_attempts;
    RefundNews news;
    news.note = note;
    write_refund_step(schema, taken.refund, step, news, GetCurrentTransactionStartTimestamp());
    update_payment_standing(schema, taken.refund.payment_id, refund_no, std::nullopt);
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_refund_resolve);

Datum payonce_refund_resolve(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    const std::string_view refund_no = required_text(fcinfo, 0, "refund_no");
    check_refund_no(refund_no);
    const bool refunded = required_bool(fcinfo, 1, "refunded");
    const std::string_view note = required_text(fcinfo, 2, "note");
    check_note(note, "note");
    const char* schema = schema_of_function(fcinfo->flinfo->fn_oid);
    SPI_connect();
    resolve_refund(schema, refund_no, refunded, note);
    SPI_finish();
    PG_RETURN_VOID();
}
}
