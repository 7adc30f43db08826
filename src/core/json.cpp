#include "core/json.h"

#include <limits>

#include "core/text.h"

namespace payonce::core {

using nlohmann::json;

// The parser would take a zero byte for the end.
json parse_json(std::string_view bytes) {
    return bytes.find('\0') == std::string_view::npos ? json::parse(bytes, nullptr, false)
                                                      : json(json::value_t::discarded);
}

std::string text_member(const json& object, const char* name, std::size_t max_bytes) {
    if (!object.is_object()) {
        return {};
    }
    const auto member = object.find(name);
    return member != object.end() && member->is_string()
               ? clean_text(member->get_ref<const std::string&>(), max_bytes)
               : std::string();
}

std::optional<std::int64_t> integer_member(const json& object, const char* name) {
    if (!object.is_object()) {
        return std::nullopt;
    }
    const auto member = object.find(name);
    if (member == object.end() || !member->is_number_integer()) {
        return std::nullopt;
    }
    constexpr auto max = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (member->is_number_unsigned() && member->get<std::uint64_t>() > max) {
        return std::nullopt;
    }
    return member->get<std::int64_t>();
}

const json& object_member(const json& object, const char* name) {
    static const json none;
    if (!object.is_object()) {
        return none;
    }
    const auto member = object.find(name);
    return member != object.end() && member->is_object() ? *member : none;
}

}  // namespace payonce::core
