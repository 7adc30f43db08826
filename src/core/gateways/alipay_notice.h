// What a notification of Alipay means.
#pragma once

#include "core/form.h"
#include "core/gateway.h"

namespace payonce::core::alipay {

// A message to the application's own gateway address, not one about a trade: signed by another
// rule.
bool is_message(const FormFields& fields) noexcept;

// `fields` are verified and meant for this merchant.
Notice read_fields(const FormFields& fields);

}  // namespace payonce::core::alipay
