// refund_retry: a refund in attention again, under the number that can still succeed.
#include "core/refund.h"

#include <string_view>

#include "core/identifiers.h"
#include "pg/arguments.h"
#include "pg/case.h"
#include "pg/gateway_config.h"
#include "pg/pg.h"
#include "pg/settings.h"
#include "pg/statement.h"
#include "pg/store.h"

namespace payonce::pg {
namespace {

// The same number again. Whatever the calls before ended in, the gateway is asked before it is
// sent. Where it may have forgotten the idempotency key, a person has looked: the next key.
void retry_same_number(const char* schema, const RefundCase& taken) {
    RefundRow row = taken.refund;
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    const char* gateway = pnstrdup(row.gateway.data(), row.gateway.size());
    core::RefundStep step;
    step.new_key =
        core::is_beyond_horizon(row.facts(now), retry_policy(gateway_traits(gateway)), now);
    row.retry_since = std::nullopt;
    step.status = core::RefundStatus::queued;
    step.next_attempt_at = now;
    step.ask_first = row.attempts > 0;
    write_refund_step(schema, row, step, {}, now);
}

core::RefundReason reason_of(std::string_view name) {
    for (const core::RefundReason reason :
         {core::RefundReason::duplicate, core::RefundReason::late, core::RefundReason::mismatch}) {
        if (name == core::name_of(reason)) {
            return reason;
        }
    }
    return core::RefundReason::request;
}

// The gateway declared the number dead, so only a new one can succeed. The old row is cancelled
// first: together they would exceed what arrived.
std::string_view supersede(const char* schema, const RefundCase& taken) {
    const RefundRow& old = taken.refund;
    const std::string_view payment_id = taken.payment.payment.id;
    const bool automatic = core::refund_generation(old.refund_no, payment_id) > 0;
    const std::string_view refund_no = automatic ? next_automatic_refund_no(schema, payment_id)
                                                 : new_requested_refund_no(schema, payment_id);
    core::RefundStep step;
    step.status = core::RefundStatus::cancelled;
    step.failed_attempts = old.failed_attempts;
    RefundNews news;
    news.superseded_by = refund_no;
    write_refund_step(schema, old, step, news, GetCurrentTransactionStartTimestamp());
    return queue_refund(schema, taken.payment.payment, refund_no, old.amount, reason_of(old.reason),
                        {});
}

std::string_view retry_refund(const char* schema, std::string_view refund_no) {
    const RefundCase taken = take_refund(schema, refund_no);
    if (taken.refund.status != core::RefundStatus::attention) {
        report_wrong_state("the refund is not in attention",
                           psprintf("Its status is %d.", static_cast<int>(taken.refund.status)),
                           "Only a refund in status 500 can be tried again.");
    }
    std::string_view current = taken.refund.refund_no;
    if (taken.refund.number_dead) {
        current = supersede(schema, taken);
    } else {
        retry_same_number(schema, taken);
    }
    update_payment_standing(schema, taken.refund.payment_id, taken.refund.refund_no, std::nullopt);
    return current;
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_refund_retry);

Datum payonce_refund_retry(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    const std::string_view refund_no = required_text(fcinfo, 0, "refund_no");
    check_refund_no(refund_no);
    const char* schema = schema_of_function(fcinfo->flinfo->fn_oid);
    const MemoryContext caller = CurrentMemoryContext;
    SPI_connect();
    text* result = text_in(caller, retry_refund(schema, refund_no));
    SPI_finish();
    PG_RETURN_TEXT_P(result);
}
}
