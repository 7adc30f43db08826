// refund_request: queues a refund of the whole or a part of a successful payment.
#include "core/states.h"

#include <string_view>

#include "pg/arguments.h"
#include "pg/case.h"
#include "pg/pg.h"
#include "pg/statement.h"
#include "pg/store.h"

namespace payonce::pg {
namespace {

void check_refundable(const PaymentCase& taken, std::int64_t amount) {
    if (!core::has_succeeded(taken.payment.status)) {
        report_wrong_state("the payment cannot be refunded", "No money arrived for it.",
                           "Only a payment in status 100, 200, 300 or 500 can be refunded.");
    }
    const std::int64_t left = taken.payment.arrived() - taken.payment.refund_reserved;
    if (amount > left) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("amount %lld is more than what is left of the payment",
                               static_cast<long long>(amount)),
                        errdetail("%lld arrived, %lld is refunded or being refunded, %lld is left.",
                                  static_cast<long long>(taken.payment.arrived()),
                                  static_cast<long long>(taken.payment.refund_reserved),
                                  static_cast<long long>(left)),
                        errhint("Request at most what is left.")));
    }
}

std::string_view request_refund(const char* schema, std::string_view payment_id,
                                std::int64_t amount, std::string_view reason) {
    const PaymentCase taken = take_payment(schema, payment_id);
    check_refundable(taken, amount);
    const std::string_view refund_no =
        queue_refund(schema, taken.payment, new_requested_refund_no(schema, payment_id), amount,
                     core::RefundReason::request, reason);
    update_payment_standing(schema, payment_id, refund_no, std::nullopt);
    return refund_no;
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_refund_request);

Datum payonce_refund_request(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    const std::string_view payment_id = required_text(fcinfo, 0, "payment_id");
    check_payment_id(payment_id, "payment_id");
    const std::int64_t amount = required_int64(fcinfo, 1, "amount");
    check_amount(amount, "amount");
    const std::string_view reason = required_text(fcinfo, 2, "reason");
    check_note(reason, "reason");
    const char* schema = schema_of_function(fcinfo->flinfo->fn_oid);
    const MemoryContext caller = CurrentMemoryContext;
    SPI_connect();
    const std::string_view refund_no = request_refund(schema, payment_id, amount, reason);
    text* result = text_in(caller, refund_no);
    SPI_finish();
    PG_RETURN_TEXT_P(result);
}
}
