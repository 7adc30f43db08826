#include "core/gateway.h"

#include <algorithm>

#include "core/text.h"

namespace payonce::core {

Notice notice(NoticeKind kind, std::string_view why) {
    Notice made;
    made.kind = kind;
    made.why = clean_text(why);
    return made;
}

std::optional<GatewayAnswer> unanswered(const HttpResponse& response) {
    switch (response.delivery) {
        case Delivery::not_sent:
            return answer(Verdict::not_sent, response.error);
        case Delivery::uncertain:
            return answer(Verdict::unknown, response.error);
        case Delivery::answered:
            break;
    }
    return std::nullopt;
}

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

std::string base_url(const GatewayOptions& options) {
    std::string_view url = options.get("url");
    while (url.ends_with('/')) {
        url.remove_suffix(1);
    }
    return std::string(url);
}

}  // namespace payonce::core
