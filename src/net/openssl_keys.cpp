// RSA keys and X.509 certificates by means of OpenSSL 3's EVP and X509 functions. What later calls
// need is read when the object is made, so that it cannot fail, or come out differently,
// afterwards.
#include "net/openssl_keys.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/decoder.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <limits>
#include <optional>
#include <string>
#include <utility>

namespace payonce::net {
namespace {

constexpr int min_rsa_bits = 2048;
// Each signature with a longer one would hold up everything else for a long while.
constexpr int max_rsa_bits = 8192;
// OpenSSL refuses to verify with a longer exponent when the modulus is long.
constexpr int max_exponent_bits = 64;
// RFC 5280 allows 20. Writing a number in decimal takes the square of its length.
constexpr int max_serial_bytes = 64;
// OpenSSL's scale: what needs less than 2^112 steps to break is refused, SHA-1 and RSA of 1024 bits
// among it.
constexpr int chain_security_level = 2;
constexpr std::string_view rsa_family = "1.2.840.113549.1.1.";

template <auto free_function>
struct Deleter {
    template <typename T>
    void operator()(T* object) const noexcept {
        free_function(object);
    }
};
using KeyPtr = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using DigestContextPtr = std::unique_ptr<EVP_MD_CTX, Deleter<EVP_MD_CTX_free>>;
using DecoderPtr = std::unique_ptr<OSSL_DECODER_CTX, Deleter<OSSL_DECODER_CTX_free>>;
using NumberPtr = std::unique_ptr<BIGNUM, Deleter<BN_clear_free>>;
using BioPtr = std::unique_ptr<BIO, Deleter<BIO_free_all>>;
using X509Ptr = std::unique_ptr<X509, Deleter<X509_free>>;
using StorePtr = std::unique_ptr<X509_STORE, Deleter<X509_STORE_free>>;
using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, Deleter<X509_STORE_CTX_free>>;

// A function of OpenSSL's own headers is a macro.
struct OpensslFree {
    void operator()(void* memory) const noexcept { OPENSSL_free(memory); }
};
template <typename T>
using OpensslMemory = std::unique_ptr<T, OpensslFree>;

const unsigned char* bytes_of(std::string_view text) noexcept {
    return reinterpret_cast<const unsigned char*>(text.empty() ? "" : text.data());
}

// ---- Keys --------------------------------------------------------------------------------------

NumberPtr number_of(const EVP_PKEY& key, const char* name) noexcept {
    BIGNUM* number = nullptr;
    EVP_PKEY_get_bn_param(&key, name, &number);
    return NumberPtr(number);
}

// With an exponent of 1 every signature would be good, and an even one has no private half.
bool is_sound_exponent(const BIGNUM& exponent) noexcept {
    return BN_is_odd(&exponent) != 0 && BN_is_one(&exponent) == 0 &&
           BN_num_bits(&exponent) <= max_exponent_bits;
}

// RSA-PSS keys are another type: nobody may sign in the older way with them.
bool is_usable_rsa(const EVP_PKEY& key) noexcept {
    if (EVP_PKEY_is_a(&key, "RSA") == 0) {
        return false;
    }
    const int bits = EVP_PKEY_get_bits(&key);
    if (bits < min_rsa_bits || bits > max_rsa_bits) {
        return false;
    }
    const NumberPtr exponent = number_of(key, OSSL_PKEY_PARAM_RSA_E);
    return exponent && is_sound_exponent(*exponent);
}

std::optional<std::string> public_der_of(const EVP_PKEY& key) {
    unsigned char* der = nullptr;
    const int bytes = i2d_PUBKEY(&key, &der);
    const OpensslMemory<unsigned char> owner(der);
    if (bytes <= 0 || der == nullptr) {
        return std::nullopt;
    }
    return std::string(der, der + bytes);
}

class OpensslSigningKey final : public core::SigningKey {
  public:
    OpensslSigningKey(KeyPtr key, std::string public_der)
        : key_(std::move(key)), public_der_(std::move(public_der)) {}

    std::optional<std::string> sign_sha256(std::string_view message) const override;
    std::string public_der() const override { return public_der_; }

  private:
    const KeyPtr key_;
    const std::string public_der_;
};

std::optional<std::string> OpensslSigningKey::sign_sha256(std::string_view message) const {
    const CleanErrorQueue clean;
    const DigestContextPtr context(EVP_MD_CTX_new());
    EVP_PKEY_CTX* padding = nullptr;  // context's
    if (!context ||
        EVP_DigestSignInit_ex(context.get(), &padding, "SHA256", nullptr, nullptr, key_.get(),
                              nullptr) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PADDING) != 1) {
        return std::nullopt;
    }
    std::string signature(static_cast<std::size_t>(EVP_PKEY_get_size(key_.get())), '\0');
    std::size_t written = signature.size();
    auto* to = reinterpret_cast<unsigned char*>(signature.data());
    if (EVP_DigestSign(context.get(), to, &written, bytes_of(message), message.size()) != 1 ||
        written != signature.size()) {
        return std::nullopt;
    }
    return signature;
}

class OpensslVerifyingKey final : public core::VerifyingKey {
  public:
    OpensslVerifyingKey(KeyPtr key, std::string public_der)
        : key_(std::move(key)), public_der_(std::move(public_der)) {}

    bool verify_sha256(std::string_view message,
                       std::string_view signature) const noexcept override;
    std::string public_der() const override { return public_der_; }

  private:
    const KeyPtr key_;
    const std::string public_der_;
};

bool OpensslVerifyingKey::verify_sha256(std::string_view message,
                                        std::string_view signature) const noexcept {
    const CleanErrorQueue clean;
    const DigestContextPtr context(EVP_MD_CTX_new());
    EVP_PKEY_CTX* padding = nullptr;  // context's
    return context &&
           EVP_DigestVerifyInit_ex(context.get(), &padding, "SHA256", nullptr, nullptr, key_.get(),
                                   nullptr) == 1 &&
           EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PADDING) == 1 &&
           EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(), bytes_of(message),
                            message.size()) == 1;
}

template <typename Key, typename Port>
std::unique_ptr<Port> wrap_key(KeyPtr key) {
    if (!key || !is_usable_rsa(*key)) {
        return nullptr;
    }
    std::optional<std::string> public_der = public_der_of(*key);
    if (!public_der) {
        return nullptr;
    }
    return std::make_unique<Key>(std::move(key), std::move(*public_der));
}

// OpenSSL's own way to a password is to ask for it at the terminal.
int refuse_password(char*, int, int, void*) noexcept {
    return -1;
}

KeyPtr decode_private_key(std::string_view der, const char* structure) noexcept {
    EVP_PKEY* key = nullptr;
    const DecoderPtr decoder(OSSL_DECODER_CTX_new_for_pkey(
        &key, "DER", structure, "RSA", OSSL_KEYMGMT_SELECT_KEYPAIR, nullptr, nullptr));
    if (!decoder ||
        OSSL_DECODER_CTX_set_pem_password_cb(decoder.get(), refuse_password, nullptr) != 1) {
        return nullptr;
    }
    const unsigned char* at = bytes_of(der);
    std::size_t left = der.size();
    const bool is_decoded = OSSL_DECODER_from_data(decoder.get(), &at, &left) == 1;
    KeyPtr owner(key);
    return is_decoded && left == 0 ? std::move(owner) : nullptr;
}

}  // namespace

std::unique_ptr<core::SigningKey> signing_key_from_der(std::string_view der) {
    const CleanErrorQueue clean;
    for (const char* structure : {"PrivateKeyInfo", "type-specific"}) {
        KeyPtr key = decode_private_key(der, structure);
        // PKCS#1 has a structure for public keys as well.
        if (key && number_of(*key, OSSL_PKEY_PARAM_RSA_D)) {
            return wrap_key<OpensslSigningKey, core::SigningKey>(std::move(key));
        }
    }
    return nullptr;
}

std::unique_ptr<core::VerifyingKey> verifying_key_from_der(std::string_view der) {
    const CleanErrorQueue clean;
    const unsigned char* at = bytes_of(der);
    KeyPtr key(d2i_PUBKEY(nullptr, &at, static_cast<long>(der.size())));
    if (at != bytes_of(der) + der.size()) {
        return nullptr;
    }
    return wrap_key<OpensslVerifyingKey, core::VerifyingKey>(std::move(key));
}

// ---- Certificates ------------------------------------------------------------------------------

namespace {

struct CertificateFacts {
    std::string issuer;
    std::string serial_decimal;
    std::string serial_hex;
    bool is_rsa_signed = false;
    std::int64_t not_after_unix_s = 0;
};

// XN_FLAG_RFC2253 without the flag that writes what is not ASCII as \XX.
std::optional<std::string> issuer_of(const X509& certificate) {
    constexpr unsigned long format =
        XN_FLAG_RFC2253 & ~static_cast<unsigned long>(ASN1_STRFLGS_ESC_MSB);
    const BioPtr text(BIO_new(BIO_s_mem()));
    if (!text ||
        X509_NAME_print_ex(text.get(), X509_get_issuer_name(&certificate), 0, format) < 0) {
        return std::nullopt;
    }
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(text.get(), &bytes);
    return size > 0 ? std::string(bytes, static_cast<std::size_t>(size)) : std::string();
}

// A negative number, which no certificate should have, must equal no positive one.
bool read_serial(const X509& certificate, CertificateFacts& facts) {
    const ASN1_INTEGER* serial = X509_get0_serialNumber(&certificate);
    if (serial == nullptr || ASN1_STRING_length(serial) > max_serial_bytes) {
        return false;
    }
    const NumberPtr number(ASN1_INTEGER_to_BN(serial, nullptr));
    const OpensslMemory<char> decimal(number ? BN_bn2dec(number.get()) : nullptr);
    if (!decimal) {
        return false;
    }
    facts.serial_decimal = decimal.get();
    facts.serial_hex = BN_is_negative(number.get()) != 0 ? "-" : "";
    const std::string_view bytes(reinterpret_cast<const char*>(ASN1_STRING_get0_data(serial)),
                                 static_cast<std::size_t>(ASN1_STRING_length(serial)));
    for (const char c : bytes) {
        constexpr std::string_view digits = "0123456789ABCDEF";
        const auto byte = static_cast<unsigned char>(c);
        facts.serial_hex += digits[byte >> 4U];
        facts.serial_hex += digits[byte & 0x0fU];
    }
    return true;
}

bool is_signed_by_rsa(const X509& certificate) noexcept {
    const X509_ALGOR* algorithm = nullptr;
    const ASN1_OBJECT* identifier = nullptr;
    X509_get0_signature(nullptr, &algorithm, &certificate);
    X509_ALGOR_get0(&identifier, nullptr, nullptr, algorithm);
    std::array<char, 64> text{};
    const int length = OBJ_obj2txt(text.data(), static_cast<int>(text.size()), identifier, 1);
    return length > 0 && std::string_view(text.data()).starts_with(rsa_family);
}

std::optional<std::int64_t> not_after_of(const X509& certificate) noexcept {
    std::tm parts{};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &parts) != 1) {
        return std::nullopt;
    }
    return timegm(&parts);
}

std::optional<CertificateFacts> read_facts(const X509& certificate) {
    CertificateFacts facts;
    std::optional<std::string> issuer = issuer_of(certificate);
    const std::optional<std::int64_t> not_after = not_after_of(certificate);
    if (!issuer || !not_after || !read_serial(certificate, facts)) {
        return std::nullopt;
    }
    facts.issuer = std::move(*issuer);
    facts.not_after_unix_s = *not_after;
    facts.is_rsa_signed = is_signed_by_rsa(certificate);
    return facts;
}

class OpensslCertificate final : public core::Certificate {
  public:
    OpensslCertificate(X509Ptr certificate, CertificateFacts facts)
        : certificate_(std::move(certificate)), facts_(std::move(facts)) {}

    std::unique_ptr<core::VerifyingKey> public_key() const override {
        const CleanErrorQueue clean;
        return wrap_key<OpensslVerifyingKey, core::VerifyingKey>(
            KeyPtr(X509_get_pubkey(certificate_.get())));
    }
    std::string issuer() const override { return facts_.issuer; }
    std::string serial_decimal() const override { return facts_.serial_decimal; }
    std::string serial_hex() const override { return facts_.serial_hex; }
    bool is_rsa_signed() const override { return facts_.is_rsa_signed; }
    std::int64_t not_after_unix_s() const override { return facts_.not_after_unix_s; }

    X509* get() const noexcept { return certificate_.get(); }

  private:
    const X509Ptr certificate_;
    const CertificateFacts facts_;
};

// Null for one that another CryptoPort made.
X509* x509_of(const core::Certificate* certificate) noexcept {
    const auto* ours = dynamic_cast<const OpensslCertificate*>(certificate);
    return ours == nullptr ? nullptr : ours->get();
}

// Without the certificate itself, which must not vouch for itself. Null when one cannot be taken:
// fewer roots than were named could judge differently.
StorePtr store_of(std::span<const std::unique_ptr<core::Certificate>> roots,
                  const X509& certificate) noexcept {
    StorePtr store(X509_STORE_new());
    if (!store) {
        return nullptr;
    }
    for (const auto& root : roots) {
        X509* anchor = x509_of(root.get());
        if (anchor == nullptr) {
            return nullptr;
        }
        if (X509_cmp(anchor, &certificate) != 0 && X509_STORE_add_cert(store.get(), anchor) != 1) {
            return nullptr;
        }
    }
    return store;
}

}  // namespace

std::unique_ptr<core::Certificate> certificate_from_der(std::string_view der) {
    const CleanErrorQueue clean;
    const unsigned char* at = bytes_of(der);
    X509Ptr certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
    if (!certificate || at != bytes_of(der) + der.size()) {
        return nullptr;
    }
    std::optional<CertificateFacts> facts = read_facts(*certificate);
    if (!facts) {
        return nullptr;
    }
    return std::make_unique<OpensslCertificate>(std::move(certificate), std::move(*facts));
}

bool is_issued_by_any(const core::Certificate& certificate,
                      std::span<const std::unique_ptr<core::Certificate>> roots) {
    const CleanErrorQueue clean;
    X509* leaf = x509_of(&certificate);
    if (leaf == nullptr) {
        return false;
    }
    const StorePtr store = store_of(roots, *leaf);
    const StoreContextPtr context(X509_STORE_CTX_new());
    if (!store || !context || X509_STORE_CTX_init(context.get(), store.get(), leaf, nullptr) != 1) {
        return false;
    }
    X509_VERIFY_PARAM* rules = X509_STORE_CTX_get0_param(context.get());
    // PARTIAL_CHAIN: each of the roots is trusted as it is, also one that another authority signed.
    if (X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_NO_CHECK_TIME | X509_V_FLAG_PARTIAL_CHAIN) !=
        1) {
        return false;
    }
    X509_VERIFY_PARAM_set_auth_level(rules, chain_security_level);
    return X509_verify_cert(context.get()) == 1;
}

}  // namespace payonce::net
