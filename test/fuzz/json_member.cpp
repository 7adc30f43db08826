#include "json_member.h"

namespace payonce::fuzz {

using nlohmann::json;

json read_json(std::string_view text) {
    return json::parse(text, nullptr, false);
}

const json& member(const json& object, const char* name) {
    static const json none;
    const auto found = object.is_object() ? object.find(name) : object.end();
    return found == object.end() ? none : *found;
}

}  // namespace payonce::fuzz
