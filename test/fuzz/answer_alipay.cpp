// Answers of Alipay: in key mode and in certificate mode, with real keys and with ones that take
// every signature for good.

#include "core/yuan.h"
#include "fuzz.h"
#include "gateways.h"
#include "json_member.h"
#include "message.h"

using namespace payonce;
using core::CallKind;
using core::Verdict;
using nlohmann::json;

namespace {

// What was signed, as another reader sees it; null when nothing was.
json signed_node(const fuzz::WitnessCrypto& witness) {
    return witness.verified().empty() ? json() : fuzz::read_json(witness.verified().front());
}

bool is_empty_or(const json& node, const char* name, std::string_view expected) {
    const json& said = fuzz::member(node, name);
    return said.is_null() || said == "" || expected.empty() || said == expected;
}

// `node` is an object.
void check_success(const core::RefundCall& call, const json& node) {
    fuzz::demand(fuzz::member(node, "code") == "10000", "it is no error");
    fuzz::demand(is_empty_or(node, "trade_no", call.transaction_id) &&
                     is_empty_or(node, "out_trade_no", call.payment_id) &&
                     is_empty_or(node, "out_request_no", call.refund_no),
                 "it is about this refund");
    if (call.kind == CallKind::refund) {
        fuzz::demand(fuzz::member(node, "fund_change") == "Y", "the call moved money");
        return;
    }
    fuzz::demand(fuzz::member(node, "refund_status") == "REFUND_SUCCESS", "it was refunded");
    const json amount = fuzz::member(node, "refund_amount");
    fuzz::demand(amount.is_string() &&
                     core::fen_of_yuan(amount.get_ref<const std::string&>()) == call.amount,
                 "it was refunded to the fen");
}

void check_meaning(const core::RefundCall& call, const core::HttpResponse& response,
                   const core::GatewayAnswer& answer, const fuzz::WitnessCrypto& witness) {
    const Verdict verdict = answer.facts.verdict;
    const bool is_word_of_alipay = verdict == Verdict::succeeded ||
                                   verdict == Verdict::processing || verdict == Verdict::failed ||
                                   verdict == Verdict::abnormal || verdict == Verdict::not_found;
    if (!is_word_of_alipay) {
        return;
    }
    fuzz::demand(response.status == 200, "only 200 is Alipay's own word");
    const json node = signed_node(witness);
    fuzz::demand(node.is_object(), "what was signed decides");
    fuzz::demand(response.body.find(witness.verified().front()) != std::string::npos,
                 "what was signed is in the answer");
    if (verdict == Verdict::succeeded) {
        check_success(call, node);
    } else if (verdict == Verdict::not_found) {
        fuzz::demand(call.kind == CallKind::query && fuzz::member(node, "code") == "10000" &&
                         !node.contains("refund_status"),
                     "a good answer without a refund says that there is none");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using fuzz::AlipayMode;
    using fuzz::Belief;
    static const fuzz::TestGateway gateways[] = {
        fuzz::open_alipay(Belief::what_is_signed, AlipayMode::key),
        fuzz::open_alipay(Belief::what_is_signed, AlipayMode::certificate),
        fuzz::open_alipay(Belief::everything, AlipayMode::key),
        fuzz::open_alipay(Belief::everything, AlipayMode::certificate),
    };
    const fuzz::Answer input = fuzz::read_answer_input(fuzz::text_of(data, size));
    for (const fuzz::TestGateway& opened : gateways) {
        for (const core::RefundCall& call : fuzz::calls_to("payonce_alipay", input.kind)) {
            opened.crypto->forget();
            const auto answer = opened.gateway->read_answer(call, input.response, input.now_unix_s);
            fuzz::check_answer(call, answer);
            check_meaning(call, input.response, answer, *opened.crypto);
        }
    }
    return 0;
}
