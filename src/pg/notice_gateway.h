// The gateways whose notifications this backend has read, kept open with their keys parsed: one
// parse for many notifications, and a changed option takes effect at once.
#pragma once

#include <string_view>

#include "pg/pg.h"

namespace payonce::pg {

// A gateway of this database, open in the bridge.
struct NoticeGateway {
    const char* name;
    Oid server;
    // Null: it may judge notifications. Otherwise why it cannot as things are set up.
    const char* hindrance;
};

// Reports 42704 when there is no such server, 42809 when it is not of a payonce wrapper.
NoticeGateway open_notice_gateway(std::string_view name);

}  // namespace payonce::pg
