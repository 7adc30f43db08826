// core's CryptoPort by means of OpenSSL 3 (EVP).
#pragma once

#include "core/crypto_port.h"

namespace payonce::net {

class OpensslCrypto final : public core::CryptoPort {
  public:
    std::optional<std::string> hmac_sha256(std::string_view key,
                                           std::string_view message) const override;
    std::string base64_encode(std::string_view bytes) const override;
    std::optional<std::string> base64_decode(std::string_view text) const override;
};

// Overwrites key material before its memory is freed.
void cleanse(std::string& secret) noexcept;

}  // namespace payonce::net
