#include "core/gateways/alipay_answer.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string_view>

#include "core/json.h"
#include "core/text.h"
#include "core/yuan.h"

namespace payonce::core::alipay {
namespace {

using nlohmann::json;

constexpr std::size_t max_code_bytes = 100;
constexpr std::size_t max_message_bytes = 200;

// A refund with one of these was refused. An earlier request under the same number may have got
// through all the same, so each is confirmed by a query. Everything that is not listed, system
// errors above all, says nothing about the outcome.
constexpr std::string_view refusals[] = {
    // A person puts something right, then the same number works.
    "ACQ.REASON_TRADE_BEEN_FREEZEN",
    "ACQ.TRADE_SETTLE_ERROR",
    "ACQ.REFUNDALLOC_UNAUTH_LIMIT",
    "ACQ.CUSTOMER_VALIDATE_ERROR",
    "ACQ.OVERDRAFT_AGREEMENT_NOT_MATCH",
    "ACQ.OVERDRAFT_ASSIGN_ACCOUNT_INVALID",
    "ACQ.ENTERPRISE_PAY_BIZ_ERROR",
    // Often the trace of an earlier refund.
    "ACQ.TRADE_HAS_CLOSE",
    "ACQ.REASON_TRADE_REFUND_FEE_ERR",
    "ACQ.DISCORDANT_REPEAT_REQUEST",
    "ACQ.TRADE_STATUS_ERROR",
    "ACQ.REASON_TRADE_STATUS_INVALID",
    "ACQ.TRADE_NOT_ALLOW_REFUND",
    "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL",
    // Never through Alipay.
    "ACQ.INVALID_PARAMETER",
    "ACQ.TRADE_NOT_EXIST",
    "ACQ.TRADE_HAS_FINISHED",
    "ACQ.REFUND_FEE_ERROR",
    "ACQ.NOT_ALLOW_PARTIAL_REFUND",
    "ACQ.ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND",
    "ACQ.CURRENCY_NOT_SUPPORT",
    "ACQ.ALLOC_AMOUNT_VALIDATE_ERROR",
    "ACQ.USER_NOT_MATCH_ERR",
    "ACQ.REFUND_ROYALTY_PAYEE_ACCOUNT_NOT_EXIST",
    // The buyer's account cannot receive it.
    "ACQ.BUYER_NOT_EXIST",
    "ACQ.BUYER_ENABLE_STATUS_FORBID",
    "ACQ.BUYER_ERROR",
    "ACQ.REFUND_ACCOUNT_NOT_EXIST",
};

bool is_refusal(std::string_view sub_code) noexcept {
    return std::find(std::begin(refusals), std::end(refusals), sub_code) != std::end(refusals);
}

std::string code_of(const json& node) {
    return text_member(node, "code", max_code_bytes);
}

std::string sub_code_of(const json& node) {
    return text_member(node, "sub_code", max_code_bytes);
}

// The request was refused at the entry because of what is configured: nothing was executed.
bool is_about_configuration(std::string_view code) noexcept {
    return code == "20001" || code == "40001" || code == "40002" || code == "40003" ||
           code == "40006";
}

// Which option to look at.
std::string_view advice_on(std::string_view code, std::string_view sub_code) noexcept {
    if (code == "40006") {
        return "the application has no right to refund: see to its contract on Alipay's open "
               "platform";
    }
    if (code == "20001") {
        return "payonce sends no authorisation token: app_id must be the merchant's own "
               "application";
    }
    if (sub_code.find("timestamp") != std::string_view::npos) {
        return "check this host's clock";
    }
    if (sub_code.find("app-id") != std::string_view::npos) {
        return "check app_id, and whether url is the environment (production or sandbox) that it "
               "belongs to";
    }
    if (sub_code.find("cert") != std::string_view::npos) {
        return "check app_cert and alipay_root_cert, and whether the application is in certificate "
               "mode at Alipay";
    }
    if (sub_code.find("sign") != std::string_view::npos) {
        return "check private_key: its public half, or app_cert, must be what Alipay has for "
               "app_id";
    }
    return "check app_id, private_key and url";
}

GatewayAnswer configuration_answer(const json& node) {
    GatewayAnswer made =
        answer(Verdict::rejected,
               said_by(node) + "; " + std::string(advice_on(code_of(node), sub_code_of(node))));
    // The next request would be refused just like this one.
    made.facts.slow_down = true;
    return made;
}

GatewayAnswer limited_answer(const json& node) {
    GatewayAnswer made = answer(Verdict::wait, said_by(node));
    made.facts.slow_down = true;
    return made;
}

// The member says something, and that is not what was expected.
bool names_another(const json& node, const char* name, std::string_view expected) {
    const auto member = node.find(name);
    if (member == node.end() || expected.empty()) {
        return false;
    }
    return !member->is_string() || (!member->get_ref<const std::string&>().empty() &&
                                    member->get_ref<const std::string&>() != expected);
}

bool is_about_another(const RefundCall& call, const json& node) {
    return names_another(node, "trade_no", call.transaction_id) ||
           names_another(node, "out_trade_no", call.payment_id) ||
           names_another(node, "out_request_no", call.refund_no);
}

// fund_change Y: this call moved the money. Anything else: an earlier one may have, or none did.
GatewayAnswer after_refund(const json& node) {
    const std::string fund_change = text_member(node, "fund_change", max_code_bytes);
    if (fund_change == "Y") {
        return answer(Verdict::succeeded);
    }
    return answer(Verdict::unknown,
                  "Alipay accepted the request without moving money "
                  "by it (fund_change \"" +
                      fund_change + "\")");
}

GatewayAnswer after_query(const RefundCall& call, const json& node) {
    if (!node.contains("refund_status")) {
        return answer(Verdict::not_found, "Alipay shows no finished refund under this number");
    }
    const std::string status = text_member(node, "refund_status", max_code_bytes);
    if (status != "REFUND_SUCCESS") {
        return answer(Verdict::unknown,
                      "Alipay's answer has an unknown refund_status "
                      "\"" +
                          status + "\"");
    }
    const std::string said = text_member(node, "refund_amount", max_code_bytes);
    const auto amount = fen_of_yuan(said);
    if (!amount) {
        return answer(Verdict::unknown,
                      "Alipay's answer says that it refunded, but no readable refund_amount");
    }
    if (*amount != call.amount) {
        return answer(Verdict::abnormal, "Alipay refunded " + said +
                                             " yuan under this number instead of " +
                                             yuan_of_fen(call.amount));
    }
    return answer(Verdict::succeeded);
}

GatewayAnswer after_business_error(CallKind kind, const json& node) {
    const std::string sub_code = sub_code_of(node);
    if (kind == CallKind::query) {
        const bool refused =
            sub_code == "ACQ.TRADE_NOT_EXIST" || sub_code == "ACQ.INVALID_PARAMETER";
        return answer(refused ? Verdict::rejected : Verdict::unknown, said_by(node));
    }
    if (sub_code == "ACQ.SELLER_BALANCE_NOT_ENOUGH") {
        GatewayAnswer made = answer(Verdict::wait, said_by(node));
        made.facts.concern = Concern::balance;
        made.facts.slow_down = true;
        return made;
    }
    GatewayAnswer made =
        answer(is_refusal(sub_code) ? Verdict::rejected : Verdict::unknown, said_by(node));
    made.facts.confirm = made.facts.verdict == Verdict::rejected;
    return made;
}

}  // namespace

std::string said_by(const json& node) {
    std::string text = code_of(node);
    const std::string sub_code = sub_code_of(node);
    if (text.empty()) {
        text = "no code";
    }
    if (!sub_code.empty()) {
        text += " " + sub_code;
    }
    std::string message = text_member(node, "sub_msg", max_message_bytes);
    if (message.empty()) {
        message = text_member(node, "msg", max_message_bytes);
    }
    return clean_text(message.empty() ? text : text + ": " + message);
}

GatewayAnswer read_node(const RefundCall& call, const json& node) {
    if (is_about_another(call, node)) {
        return answer(Verdict::unknown, "Alipay's answer is about another refund");
    }
    const std::string code = code_of(node);
    if (code == "10000") {
        return call.kind == CallKind::refund ? after_refund(node) : after_query(call, node);
    }
    if (code == "40004") {
        return after_business_error(call.kind, node);
    }
    return read_error_response(node);
}

GatewayAnswer read_error_response(const json& node) {
    const std::string code = code_of(node);
    if (is_about_configuration(code)) {
        return configuration_answer(node);
    }
    return code == "40005" ? limited_answer(node) : answer(Verdict::unknown, said_by(node));
}

}  // namespace payonce::core::alipay
