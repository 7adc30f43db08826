#include "core/gateway_answer.h"

#include "core/text.h"

namespace payonce::core {

const char* name_of(CallKind kind) noexcept {
    return kind == CallKind::refund ? "refund" : "query";
}

const char* name_of(Verdict verdict) noexcept {
    switch (verdict) {
        case Verdict::succeeded:
            return "succeeded";
        case Verdict::processing:
            return "processing";
        case Verdict::failed:
            return "failed";
        case Verdict::abnormal:
            return "abnormal";
        case Verdict::rejected:
            return "rejected";
        case Verdict::not_found:
            return "not_found";
        case Verdict::wait:
            return "wait";
        case Verdict::not_sent:
            return "not_sent";
        case Verdict::unknown:
            return "unknown";
    }
    return "unknown";
}

const char* name_of(WhenUnknown when_unknown) noexcept {
    switch (when_unknown) {
        case WhenUnknown::resend:
            return "resend";
        case WhenUnknown::new_key:
            return "new_key";
        case WhenUnknown::give_up:
            return "give_up";
    }
    return "resend";
}

WhenUnknown when_unknown_of(std::string_view name) noexcept {
    if (name == "new_key") {
        return WhenUnknown::new_key;
    }
    return name == "give_up" ? WhenUnknown::give_up : WhenUnknown::resend;
}

GatewayAnswer answer(Verdict verdict, std::string_view error) {
    GatewayAnswer made;
    made.facts.verdict = verdict;
    made.error = clean_text(error);
    return made;
}

}  // namespace payonce::core
