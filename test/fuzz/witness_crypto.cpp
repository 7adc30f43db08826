#include "witness_crypto.h"

namespace payonce::fuzz {
namespace {

class WitnessKey final : public core::VerifyingKey {
  public:
    WitnessKey(std::unique_ptr<core::VerifyingKey> real, const WitnessCrypto& witness)
        : real_(std::move(real)), witness_(witness) {}

    bool verify_sha256(std::string_view message,
                       std::string_view signature) const noexcept override {
        return witness_.judge(*real_, message, signature);
    }
    std::string public_der() const override { return real_->public_der(); }

  private:
    std::unique_ptr<core::VerifyingKey> real_;
    const WitnessCrypto& witness_;
};

std::unique_ptr<core::VerifyingKey> wrap(std::unique_ptr<core::VerifyingKey> key,
                                         const WitnessCrypto& witness) {
    return key ? std::make_unique<WitnessKey>(std::move(key), witness) : nullptr;
}

class WitnessCertificate final : public core::Certificate {
  public:
    WitnessCertificate(std::unique_ptr<core::Certificate> real, const WitnessCrypto& witness)
        : real_(std::move(real)), witness_(witness) {}

    std::unique_ptr<core::VerifyingKey> public_key() const override {
        return wrap(real_->public_key(), witness_);
    }
    std::string issuer() const override { return real_->issuer(); }
    std::string serial_decimal() const override { return real_->serial_decimal(); }
    std::string serial_hex() const override { return real_->serial_hex(); }
    bool is_rsa_signed() const override { return real_->is_rsa_signed(); }
    std::int64_t not_after_unix_s() const override { return real_->not_after_unix_s(); }

  private:
    std::unique_ptr<core::Certificate> real_;
    const WitnessCrypto& witness_;
};

}  // namespace

std::optional<std::string> WitnessCrypto::base64_decode(std::string_view text) const {
    return belief_ == Belief::everything ? std::optional(std::string(text))
                                         : real_.base64_decode(text);
}

std::unique_ptr<core::VerifyingKey> WitnessCrypto::parse_public_key(std::string_view text) const {
    return wrap(real_.parse_public_key(text), *this);
}

core::Certificates WitnessCrypto::parse_certificates(std::string_view pem) const {
    core::Certificates certificates = real_.parse_certificates(pem);
    for (auto& certificate : certificates) {
        certificate = std::make_unique<WitnessCertificate>(std::move(certificate), *this);
    }
    return certificates;
}

std::optional<std::string> WitnessCrypto::open_aes_256_gcm(std::string_view key,
                                                           std::string_view nonce,
                                                           std::string_view associated_data,
                                                           std::string_view sealed) const {
    return belief_ == Belief::everything
               ? std::optional(std::string(sealed))
               : real_.open_aes_256_gcm(key, nonce, associated_data, sealed);
}

bool WitnessCrypto::judge(const core::VerifyingKey& key, std::string_view message,
                          std::string_view signature) const {
    const bool is_right = belief_ == Belief::everything || key.verify_sha256(message, signature);
    if (is_right) {
        verified_.emplace_back(message);
    }
    return is_right;
}

}  // namespace payonce::fuzz
