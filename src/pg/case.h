// A payment or refund taken in hand by a function: its order's advisory lock and its rows locked,
// in the order of all locks, inside the caller's SPI connection.
#pragma once

#include <string_view>

#include "pg/pg.h"
#include "pg/store.h"

namespace payonce::pg {

struct PaymentCase {
    OrderRow order;
    PaymentRow payment;

    bool is_winner() const { return order.paid_by && *order.paid_by == payment.id; }
};

struct RefundCase {
    PaymentCase payment;
    RefundRow refund;
};

// Report no_data_found when the number is unknown.
PaymentCase take_payment(const char* schema, std::string_view payment_id);
RefundCase take_refund(const char* schema, std::string_view refund_no);

// 55000: what is asked for does not fit the row's status.
[[noreturn]] void report_wrong_state(const char* message, const char* detail, const char* hint);

}  // namespace payonce::pg
