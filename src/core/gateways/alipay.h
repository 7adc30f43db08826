// Alipay OpenAPI, gateway.do with RSA2 (wrapper payonce_alipay).
#pragma once

#include "core/gateway.h"

namespace payonce::core {

extern const Driver alipay_driver;

}  // namespace payonce::core
