// Decides one callback of a gateway, under the order's lock: for pay_callback, which was told what
// the gateway said, and pay_notify, which read it.
#pragma once

#include <optional>
#include <string_view>

#include "core/decide.h"
#include "pg/pg.h"

namespace payonce::pg {

struct Callback {
    std::string_view payment_id;
    core::PaymentNews news;
    // The gateway that sent the news; unset: the application answers for it.
    std::optional<std::string_view> gateway;
};

// Reports no_data_found for an unknown payment;
// news.other_gateway need not be set.
core::Outcome decide_callback(const char* schema, const Callback& callback);

// Its second half, for who has begun the decision, read which order the payment is of, and taken
// that order's lock. 40001 where the payment is not that order's any more.
core::Outcome decide_under_lock(const char* schema, std::string_view order_id,
                                const Callback& callback);

}  // namespace payonce::pg
