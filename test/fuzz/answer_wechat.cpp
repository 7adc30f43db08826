// Answers of WeChat Pay: with real keys, and with ones that take every signature for good.

#include "fuzz.h"
#include "gateways.h"
#include "json_member.h"
#include "message.h"

using namespace payonce;
using core::Verdict;
using nlohmann::json;

namespace {

// Each of these tells something of a refund that WeChat has: it must have been signed.
bool settles(Verdict verdict) noexcept {
    return verdict == Verdict::succeeded || verdict == Verdict::processing ||
           verdict == Verdict::failed || verdict == Verdict::abnormal;
}

std::string signed_text(const core::HttpResponse& response) {
    const auto header = [&](std::string_view name) {
        return std::string(core::header_value(response.headers, name).value_or(""));
    };
    return header("Wechatpay-Timestamp") + "\n" + header("Wechatpay-Nonce") + "\n" + response.body +
           "\n";
}

bool tells_of(const core::RefundCall& call, const std::string& body, const char* status) {
    const json read = fuzz::read_json(body);
    if (!read.is_object() || !read.contains("amount") || !read["amount"].is_object()) {
        return false;
    }
    const json& amounts = read["amount"];
    return fuzz::member(read, "status") == status &&
           fuzz::member(read, "out_refund_no") == call.refund_no &&
           fuzz::member(amounts, "refund") == call.amount &&
           fuzz::member(amounts, "total") == call.payment_amount &&
           fuzz::member(amounts, "currency") == call.currency;
}

bool has_code(const std::string& body, const char* code) {
    const json read = fuzz::read_json(body);
    return read.is_object() && fuzz::member(read, "code") == code;
}

void check_meaning(const core::RefundCall& call, const core::HttpResponse& response,
                   const core::GatewayAnswer& answer, const fuzz::WitnessCrypto& witness) {
    const Verdict verdict = answer.facts.verdict;
    if (settles(verdict)) {
        fuzz::demand(witness.has_verified(signed_text(response)), "WeChat signed the whole body");
        fuzz::demand(response.status == 200, "only a good answer settles a refund");
    }
    if (core::header_value(response.headers, "Wechatpay-Signature") &&
        verdict != Verdict::unknown) {
        fuzz::demand(witness.has_verified(signed_text(response)),
                     "a wrong signature is not believed");
    }
    if (verdict == Verdict::succeeded) {
        fuzz::demand(tells_of(call, response.body, "SUCCESS"), "it tells of this refund's success");
    } else if (verdict == Verdict::failed) {
        fuzz::demand(tells_of(call, response.body, "CLOSED"), "it tells of this refund's end");
    } else if (verdict == Verdict::not_found) {
        fuzz::demand(response.status == 404 && has_code(response.body, "RESOURCE_NOT_EXISTS"),
                     "WeChat does not know the refund");
    } else if (verdict == Verdict::wait) {
        fuzz::demand(response.status == 403 && has_code(response.body, "NOT_ENOUGH"),
                     "the balance is too small");
    } else if (verdict == Verdict::rejected) {
        fuzz::demand(response.status >= 400, "only an error refuses");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fuzz::TestGateway gateways[] = {
        fuzz::open_wechat(fuzz::Belief::what_is_signed),
        fuzz::open_wechat(fuzz::Belief::everything),
    };
    const fuzz::Answer input = fuzz::read_answer_input(fuzz::text_of(data, size));
    for (const fuzz::TestGateway& opened : gateways) {
        for (const core::RefundCall& call : fuzz::calls_to("payonce_wechat", input.kind)) {
            opened.crypto->forget();
            const auto answer = opened.gateway->read_answer(call, input.response, input.now_unix_s);
            fuzz::check_answer(call, answer);
            check_meaning(call, input.response, answer, *opened.crypto);
        }
    }
    return 0;
}
