// application/x-www-form-urlencoded, read strictly and written so that anybody reads it back.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace payonce::core {

using FormFields = std::vector<std::pair<std::string, std::string>>;

// In the order given; everything but A–Z a–z 0–9 - . _ ~ percent-encoded, in names and values.
std::string write_form(const FormFields& fields);

// In the order received, decoded ('+' is a blank); an empty body has no field. Unset when a percent
// sign is not followed by two digits, a part has no '=', or two fields have the same name: one side
// would verify the first and another read the second.
std::optional<FormFields> read_form(std::string_view body);

// Empty when there is none.
std::string_view form_value(const FormFields& fields, std::string_view name) noexcept;

}  // namespace payonce::core
