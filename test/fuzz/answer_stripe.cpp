// Answers of Stripe: one refund, a list of them, errors. They are not signed: TLS vouches for them.
#include <algorithm>

#include "fuzz.h"
#include "gateways.h"
#include "json_member.h"
#include "message.h"

using namespace payonce;
using core::CallKind;
using core::Verdict;
using nlohmann::json;

namespace {

bool has_our_number(const core::RefundCall& call, const json& refund) {
    return fuzz::member(fuzz::member(refund, "metadata"), "out_refund_no") == call.refund_no;
}

bool is_success(const core::RefundCall& call, const json& refund) {
    return has_our_number(call, refund) && fuzz::member(refund, "object") == "refund" &&
           fuzz::member(refund, "status") == "succeeded" &&
           fuzz::member(refund, "amount") == call.amount;
}

// Of the refund that the answer is, or of one of the list that it is.
template <typename Condition>
bool shows(const json& body, Condition holds) {
    const json& list = fuzz::member(body, "data");
    return fuzz::member(body, "object") == "list" && list.is_array()
               ? std::any_of(list.begin(), list.end(), holds)
               : holds(body);
}

void check_meaning(const core::RefundCall& call, const core::HttpResponse& response,
                   const core::GatewayAnswer& answer) {
    const json body = fuzz::read_json(response.body);
    const Verdict verdict = answer.facts.verdict;
    if (verdict == Verdict::succeeded) {
        fuzz::demand(response.status == 200, "only a good answer settles a refund");
        fuzz::demand(shows(body, [&](const json& refund) { return is_success(call, refund); }),
                     "it shows this refund's success");
    } else if (verdict == Verdict::not_found) {
        fuzz::demand(response.status == 200 && fuzz::member(body, "has_more") == false,
                     "the whole list was seen");
        fuzz::demand(!shows(body, [&](const json& refund) { return has_our_number(call, refund); }),
                     "no refund of the list has our number");
    } else if (verdict == Verdict::wait || verdict == Verdict::rejected) {
        fuzz::demand(response.status >= 400 && response.status < 500, "only 4xx says wait or no");
    }
    fuzz::demand(answer.next_page.empty() || fuzz::member(body, "has_more") == true,
                 "there is another page");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fuzz::TestGateway gateway = fuzz::open_stripe(fuzz::Belief::what_is_signed);
    const fuzz::Answer input = fuzz::read_answer_input(fuzz::text_of(data, size));
    for (const core::RefundCall& call : fuzz::calls_to("payonce_stripe", input.kind)) {
        const auto answer = gateway.gateway->read_answer(call, input.response, input.now_unix_s);
        fuzz::check_answer(call, answer);
        check_meaning(call, input.response, answer);
    }
    return 0;
}
