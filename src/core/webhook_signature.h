// What the signatures of Standard Webhooks and of Stripe have in common: a time that bounds how
// long a notification may be repeated by a stranger, and several signatures of which one must fit.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace payonce::core {

// Seconds since 1970: digits only. Unset when it is something else, or does not fit.
std::optional<std::int64_t> read_unix_time(std::string_view text) noexcept;

// Within five minutes of `now_unix_s`, before or after it.
bool is_recent(std::int64_t sent_unix_s, std::int64_t now_unix_s) noexcept;

// Compares all of them whatever they are, so that the time it takes tells a forger nothing.
bool any_matches(std::span<const std::string_view> signatures, std::string_view expected) noexcept;

}  // namespace payonce::core
