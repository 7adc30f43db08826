#include "core/webhook_signature.h"

#include <algorithm>
#include <charconv>
#include <cstddef>

#include "core/text.h"

namespace payonce::core {
namespace {

// Standard Webhooks: "within an acceptable tolerance"; its libraries, and Stripe's, take this.
constexpr std::int64_t max_age_s = 300;

// Takes as long whatever the bytes are.
bool same_bytes(std::string_view a, std::string_view b) noexcept {
    unsigned difference = a.size() == b.size() ? 0U : 1U;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
        difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
    }
    return difference == 0;
}

}  // namespace

std::optional<std::int64_t> read_unix_time(std::string_view text) noexcept {
    std::int64_t value = 0;
    const char* end = text.data() + text.size();
    // from_chars would take a sign.
    const bool digits = std::all_of(text.begin(), text.end(), is_digit);
    const auto read = std::from_chars(text.data(), end, value);
    return digits && read.ec == std::errc() && read.ptr == end ? std::optional(value)
                                                               : std::nullopt;
}

bool is_recent(std::int64_t sent_unix_s, std::int64_t now_unix_s) noexcept {
    // No difference of numbers that somebody else chose: it could overflow.
    return sent_unix_s >= now_unix_s - max_age_s && sent_unix_s <= now_unix_s + max_age_s;
}

bool any_matches(std::span<const std::string_view> signatures, std::string_view expected) noexcept {
    bool matches = false;
    for (const std::string_view signature : signatures) {
        const bool this_one = same_bytes(signature, expected);
        matches = matches || this_one;
    }
    return matches;
}

}  // namespace payonce::core
