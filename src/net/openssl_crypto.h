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
    std::optional<std::string> md5_hex(std::string_view bytes) const override;

    std::unique_ptr<core::SigningKey> parse_private_key(std::string_view text) const override;
    std::unique_ptr<core::VerifyingKey> parse_public_key(std::string_view text) const override;
    core::Certificates parse_certificates(std::string_view pem) const override;
    bool is_issued_by(const core::Certificate& certificate,
                      std::span<const std::unique_ptr<core::Certificate>> roots) const override;

    std::optional<std::string> open_aes_256_gcm(std::string_view key, std::string_view nonce,
                                                std::string_view associated_data,
                                                std::string_view sealed) const override;
};

// Overwrites key material before its memory is freed.
void cleanse(std::string& secret) noexcept;

}  // namespace payonce::net
