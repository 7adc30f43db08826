// Why a refund is made, in the words that customers of WeChat Pay and Alipay read.
#pragma once

#include <string_view>

namespace payonce::core {

// `reason` as in RefundCall. One text for each, always the same: a repetition should be the same
// request.
std::string_view chinese_reason(std::string_view reason) noexcept;

}  // namespace payonce::core
