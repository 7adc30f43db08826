// The exact texts of an object's members, which signatures cover.
#include "core/signed_node.h"

#include "fuzz.h"
#include "json_member.h"

using namespace payonce;
using nlohmann::json;

namespace {

void check_members(std::string_view object, const std::vector<core::JsonMember>& members) {
    const json read = fuzz::read_json(object);
    fuzz::demand(read.is_object(), "only an object has members");
    fuzz::demand(read.size() == members.size(), "the parser sees as many members");
    fuzz::demand(members.size() <= core::max_json_members, "members within their bound");
    const char* behind = object.data();
    for (const core::JsonMember& member : members) {
        fuzz::demand(member.name.data() > behind && member.text.data() > member.name.data() &&
                         member.text.data() + member.text.size() < object.data() + object.size(),
                     "the members are parts of the text, in its order");
        behind = member.text.data() + member.text.size();
        const std::string name(member.name);
        fuzz::demand(read.contains(name), "the parser sees the same name");
        fuzz::demand(fuzz::read_json(member.text) == read[name], "the parser sees the same value");
        fuzz::demand(core::member_text(members, member.name) == member.text,
                     "a member is found by its name");
    }
}

int depth_of(const json& value) {
    int deepest = 0;
    for (const json& child : value) {
        if (child.is_structured()) {
            deepest = std::max(deepest, depth_of(child));
        }
    }
    return deepest + 1;
}

// What has nothing that could be read in two ways is not refused.
void check_plain(const json& object) {
    const std::string text = object.dump();
    if (text.find('\\') == std::string::npos && object.size() <= core::max_json_members) {
        fuzz::demand(core::json_members(text).has_value(), "a plain object is read");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(fuzz::text_of(data, size));
    const auto members = core::json_members(text);
    if (members) {
        check_members(text, *members);
        const json read = fuzz::read_json(text);
        fuzz::demand(depth_of(read) <= static_cast<int>(core::max_json_depth),
                     "depth within its bound");
        check_plain(read);
    }
    return 0;
}
