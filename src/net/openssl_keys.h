// Keys and certificates of core's CryptoPort by means of OpenSSL 3, from their DER: how they are
// wrapped in text is openssl_crypto's part.
#pragma once

#include <openssl/err.h>

#include <memory>
#include <span>
#include <string_view>

#include "core/crypto_port.h"

namespace payonce::net {

// OpenSSL's error queue is the whole thread's, the host program's too: an error of ours that stayed
// in it would be taken for somebody else's.
class CleanErrorQueue {
  public:
    CleanErrorQueue() noexcept = default;
    ~CleanErrorQueue() { ERR_clear_error(); }
    CleanErrorQueue(const CleanErrorQueue&) = delete;
    CleanErrorQueue& operator=(const CleanErrorQueue&) = delete;
};

// Null for anything but the one structure (PKCS#8 or PKCS#1; SubjectPublicKeyInfo; X.509), to the
// last byte.
std::unique_ptr<core::SigningKey> signing_key_from_der(std::string_view der);
std::unique_ptr<core::VerifyingKey> verifying_key_from_der(std::string_view der);
std::unique_ptr<core::Certificate> certificate_from_der(std::string_view der);

bool is_issued_by_any(const core::Certificate& certificate,
                      std::span<const std::unique_ptr<core::Certificate>> roots);

}  // namespace payonce::net
