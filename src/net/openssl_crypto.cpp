// OpensslCrypto by means of OpenSSL 3's EVP functions, and the texts that keys come in. EVP's
// base64 decoder forgives white space and wrong padding, so that many texts decode to the same
// bytes: everything is checked before it. OpenSSL's own PEM reader takes what it can make sense of,
// asks for passwords, and leaves copies of keys behind: the armour is taken off here instead.
#include "net/openssl_crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <memory>
#include <utility>

#include "net/openssl_keys.h"

namespace payonce::net {
namespace {

constexpr std::size_t sha256_bytes = 32;
constexpr std::size_t md5_bytes = 16;
constexpr std::size_t aes_256_key_bytes = 32;
constexpr std::size_t gcm_nonce_bytes = 12;
constexpr std::size_t gcm_tag_bytes = 16;

// A private key of 8192 bits takes some 6400 characters.
constexpr std::size_t max_key_text_bytes = std::size_t{32} * 1024;
constexpr std::size_t max_bundle_bytes = std::size_t{1024} * 1024;
constexpr std::size_t max_certificates = 64;

constexpr std::string_view white_space = " \t\r\n";
constexpr std::string_view begin_mark = "-----BEGIN ";
constexpr std::string_view end_mark = "-----END ";
constexpr std::string_view mark_end = "-----";

// EVP counts in int. Whole groups of three bytes (four characters) can be coded one after another.
constexpr std::size_t groups_at_once = 1U << 20U;
static_assert(groups_at_once * 4 < std::size_t{std::numeric_limits<int>::max()});

const unsigned char* bytes_of(std::string_view text) noexcept {
    // Never null: to EVP a null key is no key at all, not an empty one.
    return reinterpret_cast<const unsigned char*>(text.empty() ? "" : text.data());
}

// The value of a base64 digit; 64 for any other character.
constexpr unsigned digit_value(char c) noexcept {
    if (c >= 'A' && c <= 'Z') {
        return static_cast<unsigned>(c - 'A');
    }
    if (c >= 'a' && c <= 'z') {
        return static_cast<unsigned>(c - 'a') + 26;
    }
    if (c >= '0' && c <= '9') {
        return static_cast<unsigned>(c - '0') + 52;
    }
    if (c == '+') {
        return 62;
    }
    return c == '/' ? 63 : 64;
}

std::size_t padding_of(std::string_view text) noexcept {
    if (text.ends_with("==")) {
        return 2;
    }
    return text.ends_with('=') ? 1 : 0;
}

// One text for each sequence of bytes: whole groups of four, digits only, padding only at the end,
// and the last digit's bits that carry nothing zero.
bool is_canonical_base64(std::string_view text) noexcept {
    if (text.size() % 4 != 0) {
        return false;
    }
    const std::size_t padding = padding_of(text);
    const std::string_view digits = text.substr(0, text.size() - padding);
    if (!std::all_of(digits.begin(), digits.end(), [](char c) { return digit_value(c) < 64; })) {
        return false;
    }
    const unsigned unused_bits = padding == 2 ? 0x0fU : 0x03U;
    return padding == 0 || (digit_value(digits.back()) & unused_bits) == 0;
}

// ---- Armour ------------------------------------------------------------------------------------

// Key material on its way through: overwritten whichever way it leaves.
class WipedText {
  public:
    explicit WipedText(std::string&& text) noexcept : text_(std::move(text)) {}
    ~WipedText() { cleanse(text_); }
    WipedText(const WipedText&) = delete;
    WipedText& operator=(const WipedText&) = delete;
    std::string& get() noexcept { return text_; }

  private:
    std::string text_;
};

struct Block {
    std::string_view label;
    std::string_view content;
    std::size_t end = 0;  // of the whole block, in the text it was found in
};

std::string_view trim(std::string_view text) noexcept {
    const std::size_t first = text.find_first_not_of(white_space);
    if (first == std::string_view::npos) {
        return {};
    }
    return text.substr(first, text.find_last_not_of(white_space) - first + 1);
}

// The block whose begin mark is at `begin`. Empty when its end is missing or another label's.
std::optional<Block> block_at(std::string_view text, std::size_t begin) noexcept {
    const std::size_t label_at = begin + begin_mark.size();
    const std::size_t label_end = text.find(mark_end, label_at);
    if (label_end == std::string_view::npos) {
        return std::nullopt;
    }
    Block block;
    block.label = text.substr(label_at, label_end - label_at);
    const std::size_t content_at = label_end + mark_end.size();
    // No dash is a digit of base64, so the first one must begin the end.
    const std::size_t content_end = text.find('-', content_at);
    if (content_end == std::string_view::npos) {
        return std::nullopt;
    }
    block.content = text.substr(content_at, content_end - content_at);
    std::string_view tail = text.substr(content_end);
    for (const std::string_view part : {end_mark, block.label, mark_end}) {
        if (!tail.starts_with(part)) {
            return std::nullopt;
        }
        tail.remove_prefix(part.size());
    }
    block.end = text.size() - tail.size();
    return block;
}

// The bytes in base64 that white space may interrupt anywhere.
std::optional<std::string> decode_wrapped(const OpensslCrypto& crypto, std::string_view text) {
    WipedText digits{std::string()};
    // At once: a string that grew would leave pieces of the key behind.
    digits.get().reserve(text.size());
    for (const char c : text) {
        if (white_space.find(c) == std::string_view::npos) {
            digits.get() += c;
        }
    }
    return crypto.base64_decode(digits.get());
}

// The DER of a key in a block with one of these labels, or without any armour.
std::optional<std::string> key_der(const OpensslCrypto& crypto, std::string_view text,
                                   std::initializer_list<std::string_view> labels) {
    if (text.size() > max_key_text_bytes) {
        return std::nullopt;
    }
    text = trim(text);
    if (!text.starts_with(begin_mark)) {
        return decode_wrapped(crypto, text);
    }
    const std::optional<Block> block = block_at(text, 0);
    if (!block || block->end != text.size() ||
        std::find(labels.begin(), labels.end(), block->label) == labels.end()) {
        return std::nullopt;
    }
    return decode_wrapped(crypto, block->content);
}

// ---- AES-GCM -----------------------------------------------------------------------------------

struct CipherContextDeleter {
    void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
};
using CipherContextPtr = std::unique_ptr<EVP_CIPHER_CTX, CipherContextDeleter>;

// `to` is null for data that is only authenticated. EVP would take an empty input for the end.
bool feed(EVP_CIPHER_CTX* context, unsigned char* to, std::string_view bytes) noexcept {
    if (bytes.empty()) {
        return true;
    }
    int written = 0;
    return bytes.size() <= std::size_t{std::numeric_limits<int>::max()} &&
           EVP_DecryptUpdate(context, to, &written, bytes_of(bytes),
                             static_cast<int>(bytes.size())) == 1 &&
           static_cast<std::size_t>(written) == bytes.size();
}

bool has_tag(EVP_CIPHER_CTX* context, std::string_view tag) noexcept {
    std::array<unsigned char, gcm_tag_bytes> expected{};
    std::copy(tag.begin(), tag.end(), expected.begin());
    std::array<unsigned char, gcm_tag_bytes> rest{};
    int rest_bytes = 0;
    return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, static_cast<int>(expected.size()),
                               expected.data()) == 1 &&
           EVP_DecryptFinal_ex(context, rest.data(), &rest_bytes) == 1;
}

}  // namespace

std::optional<std::string> OpensslCrypto::hmac_sha256(std::string_view key,
                                                      std::string_view message) const {
    const CleanErrorQueue clean;
    std::array<unsigned char, sha256_bytes> code{};
    std::size_t code_bytes = 0;
    const unsigned char* made =
        EVP_Q_mac(nullptr, "HMAC", nullptr, "SHA256", nullptr, bytes_of(key), key.size(),
                  bytes_of(message), message.size(), code.data(), code.size(), &code_bytes);
    if (made == nullptr || code_bytes != code.size()) {
        return std::nullopt;
    }
    return std::string(code.begin(), code.end());
}

std::string OpensslCrypto::base64_encode(std::string_view bytes) const {
    std::string text;
    // EVP ends what it writes with a zero byte.
    text.resize((bytes.size() + 2) / 3 * 4 + 1);
    std::size_t written = 0;
    while (!bytes.empty()) {
        const std::string_view part = bytes.substr(0, groups_at_once * 3);
        auto* to = reinterpret_cast<unsigned char*>(text.data() + written);
        written += static_cast<std::size_t>(
            EVP_EncodeBlock(to, bytes_of(part), static_cast<int>(part.size())));
        bytes.remove_prefix(part.size());
    }
    text.resize(written);
    return text;
}

std::optional<std::string> OpensslCrypto::base64_decode(std::string_view text) const {
    if (!is_canonical_base64(text)) {
        return std::nullopt;
    }
    const CleanErrorQueue clean;
    const std::size_t padding = padding_of(text);
    std::string bytes;
    bytes.resize(text.size() / 4 * 3);
    std::size_t written = 0;
    while (!text.empty()) {
        const std::string_view part = text.substr(0, groups_at_once * 4);
        auto* to = reinterpret_cast<unsigned char*>(bytes.data() + written);
        const int decoded = EVP_DecodeBlock(to, bytes_of(part), static_cast<int>(part.size()));
        if (decoded < 0) {
            cleanse(bytes);
            return std::nullopt;
        }
        written += static_cast<std::size_t>(decoded);
        text.remove_prefix(part.size());
    }
    // EVP counts the padding as zero bytes.
    bytes.resize(written - padding);
    return bytes;
}

std::optional<std::string> OpensslCrypto::md5_hex(std::string_view bytes) const {
    const CleanErrorQueue clean;
    std::array<unsigned char, md5_bytes> digest{};
    std::size_t written = 0;
    if (EVP_Q_digest(nullptr, "MD5", nullptr, bytes_of(bytes), bytes.size(), digest.data(),
                     &written) != 1 ||
        written != digest.size()) {
        return std::nullopt;
    }
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const unsigned char byte : digest) {
        text += digits[byte >> 4U];
        text += digits[byte & 0x0fU];
    }
    return text;
}

std::unique_ptr<core::SigningKey> OpensslCrypto::parse_private_key(std::string_view text) const {
    std::optional<std::string> der = key_der(*this, text, {"PRIVATE KEY", "RSA PRIVATE KEY"});
    if (!der) {
        return nullptr;
    }
    WipedText wiped(std::move(*der));
    return signing_key_from_der(wiped.get());
}

std::unique_ptr<core::VerifyingKey> OpensslCrypto::parse_public_key(std::string_view text) const {
    std::optional<std::string> der = key_der(*this, text, {"PUBLIC KEY"});
    if (!der) {
        return nullptr;
    }
    // Somebody may have given a private key instead.
    WipedText wiped(std::move(*der));
    return verifying_key_from_der(wiped.get());
}

core::Certificates OpensslCrypto::parse_certificates(std::string_view pem) const {
    core::Certificates certificates;
    if (pem.size() > max_bundle_bytes) {
        return certificates;
    }
    while (true) {
        const std::size_t begin = pem.find(begin_mark);
        // An end without a beginning: of a certificate that was cut off.
        if (pem.substr(0, begin).find(end_mark) != std::string_view::npos) {
            return {};
        }
        if (begin == std::string_view::npos) {
            return certificates;
        }
        const std::optional<Block> block = block_at(pem, begin);
        if (!block || block->label != "CERTIFICATE" || certificates.size() == max_certificates) {
            return {};
        }
        const std::optional<std::string> der = decode_wrapped(*this, block->content);
        auto certificate = der ? certificate_from_der(*der) : nullptr;
        if (!certificate) {
            return {};
        }
        certificates.push_back(std::move(certificate));
        pem.remove_prefix(block->end);
    }
}

bool OpensslCrypto::is_issued_by(const core::Certificate& certificate,
                                 std::span<const std::unique_ptr<core::Certificate>> roots) const {
    return is_issued_by_any(certificate, roots);
}

std::optional<std::string> OpensslCrypto::open_aes_256_gcm(std::string_view key,
                                                           std::string_view nonce,
                                                           std::string_view associated_data,
                                                           std::string_view sealed) const {
    if (key.size() != aes_256_key_bytes || nonce.size() != gcm_nonce_bytes ||
        sealed.size() < gcm_tag_bytes) {
        return std::nullopt;
    }
    const CleanErrorQueue clean;
    const CipherContextPtr context(EVP_CIPHER_CTX_new());
    if (!context || EVP_DecryptInit_ex2(context.get(), EVP_aes_256_gcm(), bytes_of(key),
                                        bytes_of(nonce), nullptr) != 1) {
        return std::nullopt;
    }
    const std::string_view text = sealed.substr(0, sealed.size() - gcm_tag_bytes);
    const std::string_view tag = sealed.substr(text.size());
    std::string opened(text.size(), '\0');
    if (!feed(context.get(), nullptr, associated_data) ||
        !feed(context.get(), reinterpret_cast<unsigned char*>(opened.data()), text) ||
        !has_tag(context.get(), tag)) {
        // Nobody vouches for what was opened so far.
        cleanse(opened);
        return std::nullopt;
    }
    return opened;
}

void cleanse(std::string& secret) noexcept {
    OPENSSL_cleanse(secret.data(), secret.size());
    secret.clear();
}

}  // namespace payonce::net
