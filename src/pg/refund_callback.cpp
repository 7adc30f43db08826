// refund_callback: an asynchronous result of a refund that the application verified itself.
#include "core/refund.h"

#include <optional>
#include <string_view>

#include "pg/arguments.h"
#include "pg/case.h"
#include "pg/durability.h"
#include "pg/pg.h"
#include "pg/refund_result.h"
#include "pg/statement.h"
#include "pg/store.h"

namespace payonce::pg {
namespace {

void process_news(const char* schema, std::string_view refund_no, bool success,
                  std::optional<std::string_view> gateway_refund_id) {
    const RefundCase taken = take_refund(schema, refund_no);
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    // That it failed does not say that its number is dead: a retry asks first.
    const core::RefundStep step = core::after_news(
        taken.refund.facts(now), success ? core::Verdict::succeeded : core::Verdict::abnormal, {},
        {now, 0});
    if (step.changes_nothing) {
        rely_on_visible_rows();
        return;
    }
    RefundNews news;
    news.gateway_refund_id = gateway_refund_id;
    if (!success) {
        news.last_error = "the gateway reported that the refund failed";
    }
    apply_refund_step(schema, taken.payment.payment, taken.refund, step, news, now);
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_refund_callback);

Datum payonce_refund_callback(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    const std::string_view refund_no = required_text(fcinfo, 0, "refund_no");
    check_refund_no(refund_no);
    const bool success = required_bool(fcinfo, 1, "refund_success");
    const auto gateway_refund_id = optional_text(fcinfo, 2);
    if (gateway_refund_id) {
        check_transaction_id(*gateway_refund_id, "gateway_refund_id");
    }
    const char* schema = schema_of_function(fcinfo->flinfo->fn_oid);
    SPI_connect();
    process_news(schema, refund_no, success, gateway_refund_id);
    SPI_finish();
    PG_RETURN_BOOL(true);
}
}
