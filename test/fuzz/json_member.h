// How the targets read JSON, to judge what the drivers read.
#pragma once

#include <string_view>

#include "core/json_library.h"

namespace payonce::fuzz {

// Discarded when it is no JSON.
nlohmann::json read_json(std::string_view text);

// Null when there is none, and of what is no object. No copy: copying takes a deeply nested value
// apart on the stack.
const nlohmann::json& member(const nlohmann::json& object, const char* name);

}  // namespace payonce::fuzz
