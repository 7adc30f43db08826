// What Alipay's answers about a refund mean.
#pragma once

#include <string>

#include "core/gateway.h"
#include "core/gateway_answer.h"
#include "core/json_library.h"

namespace payonce::core::alipay {

// "40004 ACQ.TRADE_HAS_CLOSE: …", for a person.
std::string said_by(const nlohmann::json& node);

// `node` is the verified node of the method called.
GatewayAnswer read_node(const RefundCall& call, const nlohmann::json& node);

// The gateway's word about a request that no application has seen; not signed.
GatewayAnswer read_error_response(const nlohmann::json& node);

}  // namespace payonce::core::alipay
