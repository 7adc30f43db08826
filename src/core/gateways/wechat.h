// WeChat Pay, API v3, a merchant that calls WeChat itself (wrapper payonce_wechat).
#pragma once

#include "core/gateway.h"

namespace payonce::core {

extern const Driver wechat_driver;

}  // namespace payonce::core
