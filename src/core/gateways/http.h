// The generic gateway (wrapper payonce_http): JSON over HTTP, its wire format fixed by
// docs/gateways/http.md. Builds what is sent and reads what comes back; sends nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/crypto_port.h"
#include "core/gateway_answer.h"
#include "core/http_message.h"

namespace payonce::core::http_gateway {

struct Config {
    std::string url;             // base, with or without a slash at its end
    std::string bearer_token;    // empty: none
    std::string signing_secret;  // as configured ("whsec_…"); empty: requests are not signed
};

// UTF-8, as stored. An empty transaction_id is unknown and goes out as null.
struct Refund {
    std::string_view refund_no;
    std::string_view payment_id;
    std::string_view order_id;
    std::string_view transaction_id;
    std::int64_t amount = 0;  // minor units
    std::string_view currency;
    std::string_view reason;
};

// The key in a Standard Webhooks secret: base64, with or without "whsec_" before it, 24–64 bytes.
// Empty optional when it is not that.
std::optional<std::string> signing_key(std::string_view secret, const CryptoPort& crypto);

// Empty optional: the request cannot be signed (signing_secret unusable); nothing may be sent.
std::optional<HttpRequest> build_refund(const Config& config, const Refund& refund,
                                        const CryptoPort& crypto, std::int64_t now_unix_s);
std::optional<HttpRequest> build_query(const Config& config, std::string_view refund_no,
                                       const CryptoPort& crypto, std::int64_t now_unix_s);

GatewayAnswer read_answer(CallKind kind, std::string_view refund_no, const HttpResponse& response);

}  // namespace payonce::core::http_gateway
