// Answers of the generic gateway. They are not signed: TLS vouches for them.

#include "fuzz.h"
#include "gateways.h"
#include "json_member.h"
#include "message.h"

using namespace payonce;
using core::Verdict;
using nlohmann::json;

namespace {

bool says(const std::string& body, const char* status, std::string_view refund_no) {
    const json read = fuzz::read_json(body);
    return read.is_object() && fuzz::member(read, "status") == status &&
           (!read.contains("refund_no") || fuzz::member(read, "refund_no") == refund_no);
}

void check_meaning(const core::RefundCall& call, const core::HttpResponse& response,
                   const core::GatewayAnswer& answer) {
    const int status = response.status;
    switch (answer.facts.verdict) {
        case Verdict::succeeded:
            fuzz::demand(says(response.body, "succeeded", call.refund_no), "it says succeeded");
            [[fallthrough]];
        case Verdict::failed:
            fuzz::demand(status == 200 || status == 201, "only a good answer settles a refund");
            break;
        case Verdict::not_found:
            fuzz::demand(status == 404, "only 404 says that a refund is not known");
            break;
        case Verdict::wait:
            fuzz::demand(status == 429 || status == 503, "only 429 and 503 say wait");
            break;
        case Verdict::rejected:
            fuzz::demand(status >= 400 && status < 500, "only 4xx refuses");
            break;
        default:
            break;
    }
    fuzz::demand(
        answer.facts.verdict != Verdict::failed || says(response.body, "failed", call.refund_no),
        "it says failed");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fuzz::TestGateway gateway = fuzz::open_http(fuzz::Belief::what_is_signed);
    const fuzz::Answer input = fuzz::read_answer_input(fuzz::text_of(data, size));
    for (const core::RefundCall& call : fuzz::calls_to("payonce_http", input.kind)) {
        const auto answer = gateway.gateway->read_answer(call, input.response, input.now_unix_s);
        fuzz::check_answer(call, answer);
        check_meaning(call, input.response, answer);
    }
    return 0;
}
