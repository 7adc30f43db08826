// Foreign bytes made fit to be stored and shown.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace payonce::core {

inline constexpr std::size_t max_error_bytes = 500;

// Valid UTF-8 of at most max_bytes: control characters become blanks, what is not UTF-8 becomes
// '?', and a cut never splits a character.
std::string clean_text(std::string_view bytes, std::size_t max_bytes = max_error_bytes);

// ASCII only, whatever the locale.
std::string lower_case(std::string_view text);
std::string upper_case(std::string_view text);
bool is_same_ignoring_case(std::string_view a, std::string_view b) noexcept;

constexpr bool is_digit(char c) noexcept {
    return c >= '0' && c <= '9';
}
constexpr bool is_alphanumeric(char c) noexcept {
    return is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}
// Printable, and no blank.
constexpr bool is_visible(char c) noexcept {
    return c > ' ' && c < '\x7f';
}

// Everything but A–Z a–z 0–9 - . _ ~ percent-encoded (RFC 3986): safe as one path segment.
std::string percent_encode(std::string_view text);

}  // namespace payonce::core
