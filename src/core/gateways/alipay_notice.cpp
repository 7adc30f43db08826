#include "core/gateways/alipay_notice.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "core/text.h"
#include "core/yuan.h"

namespace payonce::core::alipay {
namespace {

constexpr std::size_t max_content_bytes = 2000;
constexpr std::size_t max_number_bytes = 64;

constexpr std::array<std::string_view, 9> telling_fields = {
    "trade_status", "out_trade_no", "trade_no",   "total_amount", "refund_fee",
    "out_biz_no",   "gmt_payment",  "gmt_refund", "notify_id",
};

bool is_telling(std::string_view name) noexcept {
    return std::find(telling_fields.begin(), telling_fields.end(), name) != telling_fields.end();
}

// What matters first, since the end may be cut off.
std::string content_of(const FormFields& fields) {
    std::string content;
    const auto add = [&content](std::string_view name, std::string_view value) {
        if (!value.empty() && content.size() < max_content_bytes) {
            content += content.empty() ? "" : " ";
            content += name;
            content += '=';
            content += value;
        }
    };
    for (const std::string_view name : telling_fields) {
        add(name, form_value(fields, name));
    }
    for (const auto& [name, value] : fields) {
        if (name != "sign" && !is_telling(name)) {
            add(name, value);
        }
    }
    return clean_text(content, max_content_bytes);
}

// Notices about refunds have the trade's status too: a TRADE_SUCCESS that was partly refunded is no
// second payment. A refund_fee of 0.00 by itself is no refund, and must not hide a payment.
bool is_about_refund(const FormFields& fields) noexcept {
    const std::string_view refund_fee = form_value(fields, "refund_fee");
    return !form_value(fields, "gmt_refund").empty() || !form_value(fields, "out_biz_no").empty() ||
           (!refund_fee.empty() && fen_of_yuan(refund_fee) != 0);
}

// The field as it is; empty when it is longer than a number, or holds what clean_text() changes. A
// number that was cut or mended could be another one's.
std::string_view exact_number(const FormFields& fields, std::string_view name) {
    const std::string_view number = form_value(fields, name);
    const bool is_exact =
        number.size() <= max_number_bytes && clean_text(number, max_number_bytes) == number;
    return is_exact ? number : std::string_view();
}

// The amount in it is the trade's total so far, and it only comes where Alipay is set up to send
// it: the query decides.
Notice refund_notice(const FormFields& fields) {
    Notice made = notice(NoticeKind::refund, {});
    made.content = content_of(fields);
    // Empty: not a refund of payonce's, and yet money of one of its payments, perhaps.
    made.refund.refund_no = exact_number(fields, "out_biz_no");
    made.refund.transaction_id = exact_number(fields, "trade_no");
    if (made.refund.refund_no.empty()) {
        made.refund.refund_id = made.refund.transaction_id;
    }
    if (made.refund.refund_no.empty() && made.refund.refund_id.empty()) {
        return notice(NoticeKind::forged, "it names no refund and no trade");
    }
    made.refund.verdict = Verdict::unknown;
    return made;
}

Notice payment_notice(const FormFields& fields, bool success) {
    const std::string_view payment_id = exact_number(fields, "out_trade_no");
    const std::string_view trade_no = exact_number(fields, "trade_no");
    const bool is_malformed = payment_id != form_value(fields, "out_trade_no") ||
                              trade_no != form_value(fields, "trade_no");
    if (is_malformed || (payment_id.empty() && trade_no.empty())) {
        return notice(NoticeKind::forged, "it names no trade, or by a malformed number");
    }
    Notice made = notice(NoticeKind::payment, {});
    made.content = content_of(fields);
    made.payment.payment_id = payment_id;
    made.payment.transaction_id = trade_no;
    made.payment.success = success;
    if (success) {
        made.payment.amount = fen_of_yuan(form_value(fields, "total_amount"));
        if (made.payment.amount.value_or(0) <= 0) {
            return notice(NoticeKind::forged,
                          "total_amount is not an amount of yuan with up to two decimals");
        }
        // This product knows no other, and no field says it.
        made.payment.currency = "CNY";
    }
    return made;
}

}  // namespace

bool is_message(const FormFields& fields) noexcept {
    return !form_value(fields, "msg_method").empty();
}

Notice read_fields(const FormFields& fields) {
    if (is_message(fields)) {
        return notice(NoticeKind::ignored,
                      "the message " + std::string(form_value(fields, "msg_method")));
    }
    const std::string_view status = form_value(fields, "trade_status");
    const bool paid = status == "TRADE_SUCCESS" || status == "TRADE_FINISHED";
    if (!paid && status != "TRADE_CLOSED") {
        return notice(NoticeKind::ignored, "trade_status " + std::string(status));
    }
    return is_about_refund(fields) ? refund_notice(fields) : payment_notice(fields, paid);
}

}  // namespace payonce::core::alipay
