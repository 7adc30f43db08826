// The cryptography that core's gateways need, as a port: core stays free of OpenSSL, and its tests
// can see what would be signed. net/openssl_crypto implements it. Keys are parsed once, when a
// gateway is opened, and used for each request.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace payonce::core {

// An RSA private key of 2048 bits or more.
class SigningKey {
  public:
    virtual ~SigningKey() = default;

    // RSASSA-PKCS1-v1_5 with SHA-256: raw bytes. Empty optional when the library fails.
    virtual std::optional<std::string> sign_sha256(std::string_view message) const = 0;
    // The DER of its public half (SubjectPublicKeyInfo): tells keys that were mixed up.
    virtual std::string public_der() const = 0;
};

// An RSA public key of 2048 bits or more.
class VerifyingKey {
  public:
    virtual ~VerifyingKey() = default;

    // Of RSASSA-PKCS1-v1_5 with SHA-256; `signature` is raw bytes.
    virtual bool verify_sha256(std::string_view message,
                               std::string_view signature) const noexcept = 0;
    virtual std::string public_der() const = 0;
};

// An X.509 certificate.
class Certificate {
  public:
    virtual ~Certificate() = default;

    // Null when its key is not RSA of 2048 bits or more.
    virtual std::unique_ptr<VerifyingKey> public_key() const = 0;
    // RFC 2253, UTF-8: the last part first, joined by commas without blanks.
    virtual std::string issuer() const = 0;
    virtual std::string serial_decimal() const = 0;
    // Upper case, two digits a byte.
    virtual std::string serial_hex() const = 0;
    // Signed by an algorithm of the RSA family (OID 1.2.840.113549.1.1.…).
    virtual bool is_rsa_signed() const = 0;
    virtual std::int64_t not_after_unix_s() const = 0;
};

using Certificates = std::vector<std::unique_ptr<Certificate>>;

class CryptoPort {
  public:
    virtual ~CryptoPort() = default;

    // The raw 32 bytes of HMAC-SHA256; empty optional when the library fails.
    virtual std::optional<std::string> hmac_sha256(std::string_view key,
                                                   std::string_view message) const = 0;
    virtual std::string base64_encode(std::string_view bytes) const = 0;
    // Standard alphabet with padding; an empty optional for anything else.
    virtual std::optional<std::string> base64_decode(std::string_view text) const = 0;
    // 32 lower-case hexadecimal digits; empty optional when the library fails. Alipay names
    // certificates by it; it protects nothing.
    virtual std::optional<std::string> md5_hex(std::string_view bytes) const = 0;

    // PEM (PKCS#8 or PKCS#1, not encrypted) or the bare base64 of either's DER. Null for anything
    // else.
    virtual std::unique_ptr<SigningKey> parse_private_key(std::string_view text) const = 0;
    // PEM of a SubjectPublicKeyInfo or its bare base64. Null for anything else.
    virtual std::unique_ptr<VerifyingKey> parse_public_key(std::string_view text) const = 0;
    // Every certificate of a PEM bundle, in its order. Empty when there is none, or one cannot be
    // read.
    virtual Certificates parse_certificates(std::string_view pem) const = 0;
    // Whether the certificate was issued by one of the roots, or by one of them through others of
    // `roots`; validity times are not looked at.
    virtual bool is_issued_by(const Certificate& certificate,
                              std::span<const std::unique_ptr<Certificate>> roots) const = 0;

    // AES-256-GCM: `sealed` is the ciphertext followed by its tag of 16 bytes. Empty optional when
    // the key has not 32 bytes, the nonce not 12, or the tag is wrong.
    virtual std::optional<std::string> open_aes_256_gcm(std::string_view key,
                                                        std::string_view nonce,
                                                        std::string_view associated_data,
                                                        std::string_view sealed) const = 0;
};

}  // namespace payonce::core
