#include "core/http_message.h"

#include <algorithm>

namespace payonce::core {
namespace {

char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same_name(std::string_view a, std::string_view b) noexcept {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

std::optional<std::string_view> header_value(const std::vector<HttpHeader>& headers,
                                             std::string_view name) noexcept {
    std::optional<std::string_view> value;
    for (const HttpHeader& header : headers) {
        if (same_name(header.name, name)) {
            if (value) {
                return std::nullopt;
            }
            value = header.value;
        }
    }
    return value;
}

}  // namespace payonce::core
