// order_close: closes an unpaid order under its lock.
#include "core/states.h"

#include <string_view>

#include "pg/arguments.h"
#include "pg/durability.h"
#include "pg/lock.h"
#include "pg/pg.h"
#include "pg/statement.h"
#include "pg/store.h"

namespace payonce::pg {
namespace {

bool close_order(const char* schema, std::string_view order_id) {
    begin_decision();
    lock_order(order_id);
    OrderRow order;
    if (!read_order(schema, order_id, RowLock::wait, &order)) {
        report_unknown("order", order_id, "t_order", "Pass the id of a row of t_order.");
    }
    if (order.status == core::OrderStatus::unpaid) {
        mark_order_closed(schema, order_id);
    } else {
        rely_on_visible_rows();
    }
    return order.status != core::OrderStatus::paid;
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_order_close);

Datum payonce_order_close(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    const std::string_view order_id = required_text(fcinfo, 0, "order_id");
    check_order_id(order_id);
    const char* schema = schema_of_function(fcinfo->flinfo->fn_oid);
    SPI_connect();
    const bool closed = close_order(schema, order_id);
    SPI_finish();
    PG_RETURN_BOOL(closed);
}
}
