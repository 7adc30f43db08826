// Refunds whose worker is gone, with the answer to what it sent.
#pragma once

#include <cstdint>

#include "pg/gateway_config.h"
#include "pg/pg.h"

namespace payonce::pg {

struct Recovery {
    int ended = 0;
    // Some are locked by a session that may let go of them at any time.
    bool any_locked = false;
    // The rows of some cannot be written: a trigger of the application raises an error.
    bool any_failed = false;
};

// Inside a transaction of the worker: ends every lease but of what this worker has in hand, since a
// database never has two workers; and sending that a person set without a lease. The gateway will
// be asked before anything is sent again.
Recovery recover_lost_leases(const char* schema, std::int64_t lease_owner,
                             const GatewayConfig* gateways, int gateway_count);

}  // namespace payonce::pg
