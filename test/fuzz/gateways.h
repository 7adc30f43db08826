// The gateways that answers and notifications are given to, with the keys of test/vectors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/gateway.h"
#include "witness_crypto.h"

namespace payonce::fuzz {

struct TestGateway {
    std::unique_ptr<WitnessCrypto> crypto;  // before the gateway, which uses it
    std::unique_ptr<core::Gateway> gateway;
};

// Also the Standard Webhooks secret after "whsec_", in base64.
inline constexpr std::string_view http_signing_secret =
    "cGF5b25jZSBmdXp6aW5nLCBub3QgYSByZWFsIHNlY3JldA==";
inline constexpr std::string_view stripe_webhook_secret =
    "whsec_payonce_test_secret_0123456789abcdef";
inline constexpr std::string_view alipay_app_id = "2021000000000001";
inline constexpr std::string_view wechat_mchid = "1900000001";

TestGateway open_http(Belief belief);
TestGateway open_stripe(Belief belief);
TestGateway open_wechat(Belief belief);
enum class AlipayMode { key, certificate };
TestGateway open_alipay(Belief belief, AlipayMode mode);

// The refund that test/vectors is about, at this driver: what an answer is an answer to. Also
// without the gateway's number of the payment, or with that of the refund.
std::vector<core::RefundCall> calls_to(std::string_view wrapper, core::CallKind kind);

}  // namespace payonce::fuzz
