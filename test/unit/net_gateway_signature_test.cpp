// The generic gateway's signatures as they go out, made by OpensslCrypto and checked against
// signatures that another implementation made.
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "core/gateways/http.h"
#include "net/openssl_crypto.h"

namespace payonce::net {
namespace {

using core::HttpRequest;

constexpr std::int64_t now_unix_s = 1717747200;

// Python's hmac module and the openssl program agree on what is expected here:
//
//   key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
//   message = b"P7-R1.1717747200." + body
//   base64.b64encode(hmac.new(key, message, hashlib.sha256).digest())
//
//   printf %s "$message" | openssl dgst -sha256 -mac HMAC -binary
//       -macopt hexkey:31f290f6bf06298aab4f08d43c3f082cf648a362da2da4b0 | base64
constexpr std::string_view a_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OpensslCrypto crypto;

core::OpenedGateway open_with(std::string_view secret) {
    core::GatewayOptions options;
    options.set("url", "https://pay.example");
    options.set("signing_secret", secret);
    return core::http_driver.open(options, crypto);
}

HttpRequest request_of(core::CallKind kind, std::string_view secret) {
    core::RefundCall call;
    call.kind = kind;
    call.refund_no = "P7-R1";
    call.payment_id = "P7";
    call.order_id = "O-7";
    call.transaction_id = "4200001";
    call.amount = 3200;
    call.currency = "CNY";
    call.reason = "duplicate";
    return std::get<HttpRequest>(open_with(secret).gateway->build(call, {now_unix_s, ""}));
}

std::string header_of(const HttpRequest& request, std::string_view name) {
    for (const core::HttpHeader& header : request.headers) {
        if (header.name == name) {
            return header.value;
        }
    }
    return "no such header";
}

TEST(GatewaySignature, OfARefundIsWhatOthersCompute) {
    const HttpRequest request = request_of(core::CallKind::refund, a_secret);
    // The bytes that were signed elsewhere: any other order of members needs another signature.
    ASSERT_EQ(request.body,
              R"({"amount":3200,"currency":"CNY","order_id":"O-7","payment_id":"P7",)"
              R"("reason":"duplicate","refund_no":"P7-R1","transaction_id":"4200001"})");
    EXPECT_EQ(header_of(request, "webhook-id"), "P7-R1");
    EXPECT_EQ(header_of(request, "webhook-timestamp"), "1717747200");
    EXPECT_EQ(header_of(request, "webhook-signature"),
              "v1,3yB6kVMjr/mzkiHVm/oBYpZyTkc1fEUoUNuhRLAiyZ8=");
}

TEST(GatewaySignature, OfAQueryIsWhatOthersCompute) {
    EXPECT_EQ(header_of(request_of(core::CallKind::query, a_secret), "webhook-signature"),
              "v1,afmXavPAIcxY3LRVIeOx+G+25g8kkNFdB/+Z/0G3228=");
}

TEST(GatewaySignature, NeedsNoPrefix) {
    const std::string_view bare = a_secret.substr(std::string_view("whsec_").size());
    EXPECT_EQ(header_of(request_of(core::CallKind::query, bare), "webhook-signature"),
              "v1,afmXavPAIcxY3LRVIeOx+G+25g8kkNFdB/+Z/0G3228=");
}

TEST(GatewaySignature, NeedsAFitSecret) {
    for (const char* secret :
         {"whsec_", "whsec_not base64", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
          "whsec_c2hvcnQ=", "wrong_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}) {
        EXPECT_FALSE(open_with(secret).gateway) << secret;
    }
}

}  // namespace
}  // namespace payonce::net
