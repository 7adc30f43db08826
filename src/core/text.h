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

// Everything but A–Z a–z 0–9 - . _ ~ percent-encoded (RFC 3986): safe as one path segment.
std::string percent_encode(std::string_view text);

}  // namespace payonce::core
