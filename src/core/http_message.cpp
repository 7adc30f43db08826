#include "core/http_message.h"

#include "core/text.h"

namespace payonce::core {

std::optional<std::string_view> header_value(const std::vector<HttpHeader>& headers,
                                             std::string_view name) noexcept {
    std::optional<std::string_view> value;
    for (const HttpHeader& header : headers) {
        if (is_same_ignoring_case(header.name, name)) {
            if (value) {
                return std::nullopt;
            }
            value = header.value;
        }
    }
    return value;
}

}  // namespace payonce::core
