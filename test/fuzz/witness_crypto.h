// A CryptoPort that remembers which texts a signature was found right for: a driver that believes
// something else than such a text is found out.
//
// A fuzzer cannot make signatures, so that it would never get past the verification. Therefore
// Belief::everything: its keys accept every signature, and what is encrypted or base64 is taken to
// be written openly.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/crypto_port.h"
#include "net/openssl_crypto.h"

namespace payonce::fuzz {

enum class Belief { what_is_signed, everything };

class WitnessCrypto final : public core::CryptoPort {
  public:
    explicit WitnessCrypto(Belief belief) : belief_(belief) {}

    void forget() noexcept { verified_.clear(); }
    bool has_verified(std::string_view text) const noexcept {
        return std::find(verified_.begin(), verified_.end(), text) != verified_.end();
    }
    const std::vector<std::string>& verified() const noexcept { return verified_; }

    std::optional<std::string> hmac_sha256(std::string_view key,
                                           std::string_view message) const override {
        return real_.hmac_sha256(key, message);
    }
    std::string base64_encode(std::string_view bytes) const override {
        return real_.base64_encode(bytes);
    }
    std::optional<std::string> base64_decode(std::string_view text) const override;
    std::optional<std::string> md5_hex(std::string_view bytes) const override {
        return real_.md5_hex(bytes);
    }
    std::unique_ptr<core::SigningKey> parse_private_key(std::string_view text) const override {
        return real_.parse_private_key(text);
    }
    std::unique_ptr<core::VerifyingKey> parse_public_key(std::string_view text) const override;
    core::Certificates parse_certificates(std::string_view pem) const override;
    // OpensslCrypto does not know certificates that are wrapped. Chains are the target
    // certificates' matter.
    bool is_issued_by(const core::Certificate&,
                      std::span<const std::unique_ptr<core::Certificate>>) const override {
        return true;
    }
    std::optional<std::string> open_aes_256_gcm(std::string_view key, std::string_view nonce,
                                                std::string_view associated_data,
                                                std::string_view sealed) const override;

    // For its keys.
    bool judge(const core::VerifyingKey& key, std::string_view message,
               std::string_view signature) const;

  private:
    Belief belief_;
    net::OpensslCrypto real_;
    mutable std::vector<std::string> verified_;
};

}  // namespace payonce::fuzz
