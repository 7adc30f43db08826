// The cryptography that core's gateways need, as a port: core stays free of OpenSSL, and its tests
// can see what would be signed. net/openssl_crypto implements it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace payonce::core {

class CryptoPort {
  public:
    virtual ~CryptoPort() = default;

    // The raw 32 bytes of HMAC-SHA256; empty optional when the library fails.
    virtual std::optional<std::string> hmac_sha256(std::string_view key,
                                                   std::string_view message) const = 0;
    virtual std::string base64_encode(std::string_view bytes) const = 0;
    // Standard alphabet with padding; an empty optional for anything else.
    virtual std::optional<std::string> base64_decode(std::string_view text) const = 0;
};

}  // namespace payonce::core
