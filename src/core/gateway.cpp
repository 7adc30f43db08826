#include "core/gateway.h"

#include <algorithm>

namespace payonce::core {

void GatewayOptions::set(std::string_view name, std::string_view value) {
    options_.push_back({std::string(name), Secret(value)});
}

std::string_view GatewayOptions::get(std::string_view name) const noexcept {
    for (const Option& option : options_) {
        if (option.name == name) {
            return option.value.view();
        }
    }
    return {};
}

bool GatewayOptions::operator==(const GatewayOptions& other) const noexcept {
    return std::equal(options_.begin(), options_.end(), other.options_.begin(),
                      other.options_.end(), [](const Option& a, const Option& b) {
                          return a.name == b.name && a.value.view() == b.value.view();
                      });
}

}  // namespace payonce::core
