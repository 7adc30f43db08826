// The generic gateway's signatures as they go out, made by OpensslCrypto and checked against
// signatures that another implementation made.
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/gateways/http.h"
#include "net/openssl_crypto.h"

namespace payonce::net {
namespace {

using core::HttpRequest;
namespace gateway = core::http_gateway;

constexpr std::int64_t now_unix_s = 1717747200;

// Python's hmac module and the openssl program agree on what is expected here:
//
//   key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
//   message = b"P7-R1.1717747200." + body
//   base64.b64encode(hmac.new(key, message, hashlib.sha256).digest())
//
//   printf %s "$message" | openssl dgst -sha256 -mac HMAC -binary
//       -macopt hexkey:31f290f6bf06298aab4f08d43c3f082cf648a362da2da4b0 | base64
gateway::Config signing_config() {
    gateway::Config config;
    config.url = "https://pay.example";
    config.signing_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    return config;
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
    gateway::Refund refund;
    refund.refund_no = "P7-R1";
    refund.payment_id = "P7";
    refund.order_id = "O-7";
    refund.transaction_id = "4200001";
    refund.amount = 3200;
    refund.currency = "CNY";
    refund.reason = "duplicate";
    const auto request =
        gateway::build_refund(signing_config(), refund, OpensslCrypto(), now_unix_s);
    ASSERT_TRUE(request);
    // The bytes that were signed elsewhere: any other order of members needs another signature.
    ASSERT_EQ(request->body,
              R"({"amount":3200,"currency":"CNY","order_id":"O-7","payment_id":"P7",)"
              R"("reason":"duplicate","refund_no":"P7-R1","transaction_id":"4200001"})");
    EXPECT_EQ(header_of(*request, "webhook-id"), "P7-R1");
    EXPECT_EQ(header_of(*request, "webhook-timestamp"), "1717747200");
    EXPECT_EQ(header_of(*request, "webhook-signature"),
              "v1,3yB6kVMjr/mzkiHVm/oBYpZyTkc1fEUoUNuhRLAiyZ8=");
}

TEST(GatewaySignature, OfAQueryIsWhatOthersCompute) {
    const auto request =
        gateway::build_query(signing_config(), "P7-R1", OpensslCrypto(), now_unix_s);
    ASSERT_TRUE(request);
    EXPECT_EQ(header_of(*request, "webhook-signature"),
              "v1,afmXavPAIcxY3LRVIeOx+G+25g8kkNFdB/+Z/0G3228=");
}

TEST(GatewaySignature, NeedsNoPrefix) {
    gateway::Config config = signing_config();
    config.signing_secret.erase(0, std::string_view("whsec_").size());
    const auto request = gateway::build_query(config, "P7-R1", OpensslCrypto(), now_unix_s);
    ASSERT_TRUE(request);
    EXPECT_EQ(header_of(*request, "webhook-signature"),
              "v1,afmXavPAIcxY3LRVIeOx+G+25g8kkNFdB/+Z/0G3228=");
}

TEST(GatewaySignature, ThatASecretIsUnfitForLetsNothingLeave) {
    for (const char* secret :
         {"whsec_", "whsec_not base64", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
          "whsec_c2hvcnQ=", "wrong_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}) {
        gateway::Config config = signing_config();
        config.signing_secret = secret;
        EXPECT_FALSE(gateway::build_query(config, "P7-R1", OpensslCrypto(), now_unix_s)) << secret;
    }
}

}  // namespace
}  // namespace payonce::net
