#include "core/text.h"

#include <algorithm>
#include <cstdint>

namespace payonce::core {
namespace {

std::uint8_t byte_at(std::string_view text, std::size_t index) {
    return static_cast<std::uint8_t>(text[index]);
}

// The length of the well-formed UTF-8 sequence at `at`, or 0 (overlong, surrogate, above U+10FFFF).
std::size_t sequence_length(std::string_view text, std::size_t at) {
    const std::uint8_t lead = byte_at(text, at);
    if (lead < 0x80) {
        return 1;
    }
    const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || at + length > text.size()) {
        return 0;
    }
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte_at(text, at + i) & 0xC0) != 0x80) {
            return 0;
        }
    }
    const std::uint8_t second = byte_at(text, at + 1);
    const bool refused = (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
                         (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F);
    return refused ? 0 : length;
}

// Of the well-formed sequence at `at`: C0, DEL, and C1 (U+0080–U+009F), which terminals obey too.
bool is_control(std::string_view text, std::size_t at, std::size_t length) {
    const std::uint8_t lead = byte_at(text, at);
    if (length == 1) {
        return lead < 0x20 || lead == 0x7F;
    }
    return lead == 0xC2 && byte_at(text, at + 1) < 0xA0;
}

char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

char upper(char c) noexcept {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

}  // namespace

std::string clean_text(std::string_view bytes, std::size_t max_bytes) {
    std::string clean;
    clean.reserve(bytes.size() < max_bytes ? bytes.size() : max_bytes);
    std::size_t at = 0;
    while (at < bytes.size() && clean.size() < max_bytes) {
        const std::size_t length = sequence_length(bytes, at);
        if (length == 0) {
            clean.push_back('?');
            ++at;
            continue;
        }
        if (is_control(bytes, at, length)) {
            clean.push_back(' ');
        } else if (clean.size() + length > max_bytes) {
            break;
        } else {
            clean.append(bytes, at, length);
        }
        at += length;
    }
    return clean;
}

std::string lower_case(std::string_view text) {
    std::string made(text);
    std::transform(made.begin(), made.end(), made.begin(), lower);
    return made;
}

std::string upper_case(std::string_view text) {
    std::string made(text);
    std::transform(made.begin(), made.end(), made.begin(), upper);
    return made;
}

bool is_same_ignoring_case(std::string_view a, std::string_view b) noexcept {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return lower(x) == lower(y); });
}

std::string percent_encode(std::string_view text) {
    constexpr std::string_view unreserved =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    constexpr std::string_view digits = "0123456789ABCDEF";
    std::string encoded;
    for (const char c : text) {
        if (unreserved.find(c) != std::string_view::npos) {
            encoded.push_back(c);
            continue;
        }
        const auto byte = static_cast<std::uint8_t>(c);
        encoded.push_back('%');
        encoded.push_back(digits[byte >> 4]);
        encoded.push_back(digits[byte & 0x0F]);
    }
    return encoded;
}

}  // namespace payonce::core
