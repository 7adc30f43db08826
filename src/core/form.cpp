#include "core/form.h"

#include <algorithm>
#include <cstddef>
#include <set>

#include "core/text.h"

namespace payonce::core {
namespace {

int hex_value(char c) noexcept {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    const char lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

std::optional<std::string> decode(std::string_view text) {
    std::string decoded;
    decoded.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '+') {
            decoded.push_back(' ');
        } else if (text[i] != '%') {
            decoded.push_back(text[i]);
        } else {
            const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
            const int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return std::nullopt;
            }
            decoded.push_back(static_cast<char>(high * 16 + low));
            i += 2;
        }
    }
    return decoded;
}

}  // namespace

std::string write_form(const FormFields& fields) {
    std::string body;
    for (const auto& [name, value] : fields) {
        body += body.empty() ? "" : "&";
        body += percent_encode(name) + "=" + percent_encode(value);
    }
    return body;
}

std::optional<FormFields> read_form(std::string_view body) {
    FormFields fields;
    std::set<std::string> names;
    bool more = !body.empty();
    while (more) {
        const std::size_t end = std::min(body.find('&'), body.size());
        const std::string_view part = body.substr(0, end);
        // After a '&' there is another part, were it empty.
        more = end < body.size();
        body.remove_prefix(more ? end + 1 : end);
        const std::size_t mark = part.find('=');
        if (mark == std::string_view::npos) {
            return std::nullopt;
        }
        auto name = decode(part.substr(0, mark));
        auto value = decode(part.substr(mark + 1));
        if (!name || !value || !names.insert(*name).second) {
            return std::nullopt;
        }
        fields.emplace_back(std::move(*name), std::move(*value));
    }
    return fields;
}

std::string_view form_value(const FormFields& fields, std::string_view name) noexcept {
    const auto found = std::find_if(fields.begin(), fields.end(),
                                    [=](const auto& field) { return field.first == name; });
    return found == fields.end() ? std::string_view() : std::string_view(found->second);
}

}  // namespace payonce::core
