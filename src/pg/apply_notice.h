// What follows from a gateway's verified notification.
#pragma once

#include <string_view>

#include "core/gateway.h"
#include "pg/gateway_bridge.h"
#include "pg/pg.h"

namespace payonce::pg {

struct NoticeResult {
    core::ReplyKind reply;
    const char* outcome;
};

// Inside the caller's SPI connection: decides about the payment or refund that the notice names, or
// keeps the notice for a person when there is none.
NoticeResult apply_notice(const char* schema, std::string_view gateway,
                          const bridge::Notice& notice);

}  // namespace payonce::pg
