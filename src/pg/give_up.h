// Refunds that no gateway can take: they go to a person instead of waiting for ever.
#pragma once

#include "pg/gateway_config.h"
#include "pg/pg.h"

namespace payonce::pg {

// Inside a transaction of the worker: puts refunds of gateways that do not exist, or must not be
// used, into attention, each with the reason. Returns how many; at most payonce.batch_size. What is
// locked is left for the next time. Where looking through the queue costs much it is not done each
// time: then `next_look` is lowered to when it will be.
int give_up_unreachable(const char* schema, const GatewayConfig* gateways, int gateway_count,
                        TimestampTz* next_look);

}  // namespace payonce::pg
