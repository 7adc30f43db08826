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

}  // namespace payonce::pg
