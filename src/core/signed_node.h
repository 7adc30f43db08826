// The members of a JSON object with the exact text of each value. A signature covers a value as it
// was received, blanks and escapes included; a parser's value written out again would be another
// text, and a search for a pattern could be led astray by what a string holds.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

namespace payonce::core {

inline constexpr std::size_t max_json_depth = 32;
inline constexpr std::size_t max_json_members = 200;

struct JsonMember {
    std::string_view name;
    std::string_view text;  // of the value, from its first character to its last
};

// Views into `object`. Unset when it is not one JSON object and nothing but that, nests deeper than
// max_json_depth, has more than max_json_members, or two of the same name, or a name with an escape
// (two texts would name one member): one side would verify the first and another read the second.
std::optional<std::vector<JsonMember>> json_members(std::string_view object);

// Empty when there is none.
std::string_view member_text(const std::vector<JsonMember>& members,
                             std::string_view name) noexcept;

}  // namespace payonce::core
