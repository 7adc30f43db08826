#include "core/yuan.h"

#include <algorithm>
#include <cstddef>

#include "core/text.h"

namespace payonce::core {
namespace {

// 10^15 yuan are 10^17 fen: far from overflow.
constexpr std::size_t max_yuan_digits = 15;

bool is_digits(std::string_view text) noexcept {
    return std::all_of(text.begin(), text.end(), is_digit);
}

std::int64_t number_of(std::string_view digits) noexcept {
    std::int64_t number = 0;
    for (const char c : digits) {
        number = number * 10 + (c - '0');
    }
    return number;
}

}  // namespace

std::string yuan_of_fen(std::int64_t fen) {
    const std::int64_t cents = fen % 100;
    return std::to_string(fen / 100) + (cents < 10 ? ".0" : ".") + std::to_string(cents);
}

std::optional<std::int64_t> fen_of_yuan(std::string_view yuan) noexcept {
    const std::size_t point = yuan.find('.');
    const std::string_view whole = yuan.substr(0, point);
    if (whole.empty() || whole.size() > max_yuan_digits || !is_digits(whole)) {
        return std::nullopt;
    }
    if (point == std::string_view::npos) {
        return number_of(whole) * 100;
    }
    const std::string_view decimals = yuan.substr(point + 1);
    if (decimals.empty() || decimals.size() > 2 || !is_digits(decimals)) {
        return std::nullopt;
    }
    return number_of(whole) * 100 + number_of(decimals) * (decimals.size() == 1 ? 10 : 1);
}

}  // namespace payonce::core
