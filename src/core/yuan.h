// Decimal yuan, as Alipay writes amounts, to and from fen: exactly, never by way of floating point.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace payonce::core {

// "12.99": always two decimals. `fen` is not negative.
std::string yuan_of_fen(std::int64_t fen);

// Unset unless it is 1 to 15 digits, and at most two decimals after a point: no sign, no blank, no
// exponent, no fraction of a fen.
std::optional<std::int64_t> fen_of_yuan(std::string_view yuan) noexcept;

}  // namespace payonce::core
