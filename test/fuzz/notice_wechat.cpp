// Notifications of WeChat Pay: with real keys, and with ones that take every signature for good and
// what is encrypted to be written openly.
#include "fuzz.h"
#include "gateways.h"
#include "json_member.h"
#include "message.h"

using namespace payonce;
using core::NoticeKind;
using nlohmann::json;

namespace {

std::string signed_text(const fuzz::Notification& notification) {
    const auto header = [&](std::string_view name) {
        return std::string(core::header_value(notification.headers, name).value_or(""));
    };
    std::string text = header("Wechatpay-Timestamp") + "\n" + header("Wechatpay-Nonce") + "\n";
    return text.append(notification.body).append("\n");
}

void check_payment(const core::PaymentNotice& payment, const json& content) {
    fuzz::demand(fuzz::member(content, "out_trade_no") == payment.payment_id,
                 "the number is neither cut nor mended");
    fuzz::demand(payment.transaction_id.empty() ||
                     fuzz::member(content, "transaction_id") == payment.transaction_id,
                 "the gateway's number is neither cut nor mended");
    if (!payment.success) {
        return;
    }
    const json& state = fuzz::member(content, "trade_state");
    fuzz::demand(state == "SUCCESS" || state == "REFUND", "it tells of success");
    const json& amounts = fuzz::member(content, "amount");
    fuzz::demand(fuzz::member(amounts, "total") == payment.amount.value_or(0) &&
                     fuzz::member(amounts, "currency") == payment.currency,
                 "the amount is what it says");
}

void check_refund(const core::RefundNotice& refund, const json& envelope, const json& content) {
    fuzz::demand(fuzz::member(content, "out_refund_no") == refund.refund_no,
                 "the number is neither cut nor mended");
    if (refund.verdict == core::Verdict::succeeded) {
        fuzz::demand(fuzz::member(content, "refund_status") == "SUCCESS" &&
                         fuzz::member(envelope, "event_type") == "REFUND.SUCCESS",
                     "it tells of success twice");
    }
}

void check_meaning(const fuzz::Notification& notification, const core::Notice& notice,
                   const fuzz::TestGateway& opened, fuzz::Belief belief) {
    if (notice.kind == NoticeKind::forged || notice.kind == NoticeKind::unusable) {
        return;
    }
    fuzz::demand(opened.crypto->has_verified(signed_text(notification)),
                 "WeChat signed the whole body");
    if (notice.kind == NoticeKind::ignored || belief == fuzz::Belief::what_is_signed) {
        return;
    }
    const json envelope = fuzz::read_json(notification.body);
    const json& sealed = fuzz::member(fuzz::member(envelope, "resource"), "ciphertext");
    fuzz::demand(sealed.is_string(), "news is encrypted");
    const json content = fuzz::read_json(sealed.get_ref<const std::string&>());
    fuzz::demand(content.is_object() && fuzz::member(content, "mchid") == fuzz::wechat_mchid,
                 "it is about our merchant");
    if (notice.kind == NoticeKind::payment) {
        check_payment(notice.payment, content);
    } else {
        check_refund(notice.refund, envelope, content);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using fuzz::Belief;
    const fuzz::Notification notification =
        fuzz::read_notification_input(fuzz::text_of(data, size));
    static const fuzz::TestGateway strict = fuzz::open_wechat(Belief::what_is_signed);
    static const fuzz::TestGateway credulous = fuzz::open_wechat(Belief::everything);
    for (const Belief belief : {Belief::what_is_signed, Belief::everything}) {
        const fuzz::TestGateway& opened = belief == Belief::everything ? credulous : strict;
        opened.crypto->forget();
        const core::Notice notice = opened.gateway->read_notice(notification.raw());
        fuzz::check_notice(notice);
        check_meaning(notification, notice, opened, belief);
    }
    return 0;
}
