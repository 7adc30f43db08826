// Stripe, API v1 and snapshot webhooks (wrapper payonce_stripe).
#pragma once

#include "core/gateway.h"

namespace payonce::core {

extern const Driver stripe_driver;

}  // namespace payonce::core
