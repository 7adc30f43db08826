#include "pg/case.h"

#include "pg/arguments.h"
#include "pg/durability.h"
#include "pg/lock.h"
#include "pg/pg.h"

namespace payonce::pg {
namespace {

[[noreturn]] void report_moved() {
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("the row was deleted or moved meanwhile"),
                    errdetail("Nothing was recorded."), errhint("Call again.")));
    pg_unreachable();
}

}  // namespace

PaymentCase take_payment(const char* schema, std::string_view payment_id) {
    begin_decision();
    PaymentRow found;
    if (!read_payment(schema, payment_id, RowLock::none, &found)) {
        report_unknown("payment", payment_id, "t_order_pay",
                       "Pass the id of a row of t_order_pay.");
    }
    lock_order(found.order_id);
    PaymentCase taken;
    if (!read_order(schema, found.order_id, RowLock::wait, &taken.order) ||
        !read_payment(schema, payment_id, RowLock::wait, &taken.payment) ||
        taken.payment.order_id != found.order_id) {
        report_moved();
    }
    return taken;
}

RefundCase take_refund(const char* schema, std::string_view refund_no) {
    RefundRow found;
    if (!read_refund(schema, refund_no, RowLock::none, &found)) {
        report_unknown("refund", refund_no, "t_refund", "Pass the refund_no of a row of t_refund.");
    }
    RefundCase taken;
    taken.payment = take_payment(schema, found.payment_id);
    if (!read_refund(schema, refund_no, RowLock::wait, &taken.refund) ||
        taken.refund.payment_id != taken.payment.payment.id) {
        report_moved();
    }
    return taken;
}

void report_wrong_state(const char* message, const char* detail, const char* hint) {
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("%s", message),
                    errdetail("%s Nothing was changed.", detail), errhint("%s", hint)));
    pg_unreachable();
}

}  // namespace payonce::pg
