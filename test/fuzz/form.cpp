// Forms: reading and writing are each other's inverse.
#include "core/form.h"

#include <set>

#include "fuzz.h"

using namespace payonce;

namespace {

void check_what_was_read(std::string_view body) {
    const auto fields = core::read_form(body);
    if (!fields) {
        return;
    }
    std::set<std::string> names;
    for (const auto& [name, value] : *fields) {
        fuzz::demand(names.insert(name).second, "no name comes twice");
        fuzz::demand(core::form_value(*fields, name) == value, "a field is found by its name");
    }
    fuzz::demand(core::read_form(core::write_form(*fields)) == fields,
                 "what was read is read again as it was written");
}

// Lines "name=value", any bytes, as fields.
void check_what_is_written(std::string_view lines) {
    core::FormFields fields;
    std::set<std::string_view> names;
    while (!lines.empty()) {
        const std::string_view line = fuzz::take_line(lines);
        const std::string_view name = line.substr(0, line.find('='));
        if (names.insert(name).second) {
            fields.emplace_back(name, line.substr(std::min(name.size() + 1, line.size())));
        }
    }
    const std::string body = core::write_form(fields);
    fuzz::demand(core::read_form(body) == fields, "what is written is read");
    fuzz::demand(body.find_first_of("+ \r\n") == std::string::npos,
                 "it is one line without blanks");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    check_what_was_read(fuzz::text_of(data, size));
    check_what_is_written(fuzz::text_of(data, size));
    return 0;
}
