// OpensslCrypto by means of OpenSSL 3's EVP functions. EVP's base64 decoder forgives white space
// and wrong padding, so that many texts decode to the same bytes: everything is checked before it.
#include "net/openssl_crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

namespace payonce::net {
namespace {

constexpr std::size_t sha256_bytes = 32;

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

}  // namespace

std::optional<std::string> OpensslCrypto::hmac_sha256(std::string_view key,
                                                      std::string_view message) const {
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

void cleanse(std::string& secret) noexcept {
    OPENSSL_cleanse(secret.data(), secret.size());
    secret.clear();
}

}  // namespace payonce::net
