// Reading JSON that somebody else wrote.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/json_library.h"

namespace payonce::core {

// Discarded when it is not JSON, and nothing but JSON.
nlohmann::json parse_json(std::string_view bytes);

// The member's text, clean_text'ed and cut to `max_bytes`; empty when there is none, or it is no
// string, or `object` is no object.
std::string text_member(const nlohmann::json& object, const char* name, std::size_t max_bytes);

// The member when it is a whole number that fits; 1.0 and "1" are not.
std::optional<std::int64_t> integer_member(const nlohmann::json& object, const char* name);

// The member when it is an object; a null value otherwise.
const nlohmann::json& object_member(const nlohmann::json& object, const char* name);

}  // namespace payonce::core
