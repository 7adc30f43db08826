// The helpers that read members of JSON.
#include "core/json.h"

#include "fuzz.h"

using namespace payonce;
using nlohmann::json;

namespace {

void check_member(const json& object, const std::string& name, const json& member) {
    for (const std::size_t max_bytes : {std::size_t{0}, std::size_t{7}, std::size_t{500}}) {
        const std::string text = core::text_member(object, name.c_str(), max_bytes);
        fuzz::demand(fuzz::is_clean(text, max_bytes), "a member's text is clean");
        fuzz::demand(member.is_string() || text.empty(), "only strings are texts");
    }
    const auto number = core::integer_member(object, name.c_str());
    fuzz::demand(!number || member == *number, "a number is what it says");
    const bool fits = member.is_number_integer() &&
                      (!member.is_number_unsigned() || member.get<std::uint64_t>() >> 63U == 0);
    fuzz::demand(number.has_value() == fits, "every whole number that fits is read");
    fuzz::demand(core::object_member(object, name.c_str()).is_object() == member.is_object(),
                 "an object is found");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text = fuzz::text_of(data, size);
    const json read = core::parse_json(text);
    fuzz::demand(read.is_discarded() || text.find('\0') == std::string_view::npos,
                 "no zero byte hides anything");
    if (!read.is_object()) {
        fuzz::demand(core::text_member(read, "a", 10).empty() && !core::integer_member(read, "a") &&
                         core::object_member(read, "a").is_null(),
                     "what is no object has no members");
        return 0;
    }
    for (const auto& [name, member] : read.items()) {
        if (name.find('\0') == std::string::npos) {
            check_member(read, name, member);
        }
    }
    return 0;
}
