// The generic gateway (wrapper payonce_http): JSON over HTTP, its wire format fixed by
// docs/gateways/http.md.
#pragma once

#include "core/gateway.h"

namespace payonce::core {

extern const Driver http_driver;

}  // namespace payonce::core
