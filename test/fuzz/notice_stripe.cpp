// Notifications of Stripe: as they are, and with a signature that fits.
#include <algorithm>

#include "core/identifiers.h"
#include "fuzz.h"
#include "gateways.h"
#include "json_member.h"
#include "message.h"
#include "net/openssl_crypto.h"

using namespace payonce;
using core::NoticeKind;
using nlohmann::json;

namespace {

std::string signature_over(std::string_view timestamp, std::string_view body) {
    constexpr std::string_view digits = "0123456789abcdef";
    const net::OpensslCrypto crypto;
    std::string text(timestamp);
    text.append(".").append(body);
    const std::string mac = crypto.hmac_sha256(fuzz::stripe_webhook_secret, text).value();
    std::string hex;
    for (const char c : mac) {
        hex += digits[static_cast<unsigned char>(c) >> 4U];
        hex += digits[static_cast<unsigned char>(c) & 0x0FU];
    }
    return hex;
}

bool is_signed(const fuzz::Notification& notification) {
    const std::string_view header =
        core::header_value(notification.headers, "Stripe-Signature").value_or("");
    const std::size_t begin = header.starts_with("t=") ? 0 : header.find(",t=") + 1;
    if (!header.substr(begin).starts_with("t=")) {
        return false;
    }
    const std::string_view rest = header.substr(begin + 2);
    const std::string_view timestamp = rest.substr(0, rest.find(','));
    const std::string expected = "v1=" + signature_over(timestamp, notification.body);
    return header.find(expected) != std::string_view::npos;
}

const json& metadata_of(const json& object, const char* name) {
    return fuzz::member(fuzz::member(object, "metadata"), name);
}

void check_payment(const core::PaymentNotice& payment, const json& object) {
    fuzz::demand(payment.payment_id.empty() || core::is_payment_id(payment.payment_id),
                 "payment_id is one of ours");
    fuzz::demand(payment.payment_id.empty() ||
                     metadata_of(object, "out_trade_no") == payment.payment_id ||
                     fuzz::member(object, "client_reference_id") == payment.payment_id,
                 "the number is neither cut nor mended");
    if (!payment.success) {
        return;
    }
    fuzz::demand(fuzz::member(object, "amount_received") == payment.amount.value_or(0) ||
                     fuzz::member(object, "amount_total") == payment.amount.value_or(0),
                 "the amount is what it says");
    fuzz::demand(fuzz::member(object, "status") == "succeeded" ||
                     fuzz::member(object, "payment_status") == "paid",
                 "it tells of success");
}

void check_refund(const core::RefundNotice& refund, const json& object) {
    fuzz::demand(
        refund.refund_no.empty() || metadata_of(object, "out_refund_no") == refund.refund_no,
        "the number is neither cut nor mended");
    fuzz::demand(
        refund.verdict != core::Verdict::succeeded || fuzz::member(object, "status") == "succeeded",
        "it tells of success");
}

void check_meaning(const fuzz::Notification& notification, const core::Notice& notice) {
    if (notice.kind != NoticeKind::payment && notice.kind != NoticeKind::refund) {
        return;
    }
    fuzz::demand(is_signed(notification), "news is signed");
    const json event = fuzz::read_json(notification.body);
    const json& object = fuzz::member(fuzz::member(event, "data"), "object");
    fuzz::demand(object.is_object(), "news has an object");
    fuzz::demand(fuzz::member(event, "livemode") == false, "a test key takes news of test mode");
    if (notice.kind == NoticeKind::payment) {
        check_payment(notice.payment, object);
    } else {
        check_refund(notice.refund, object);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fuzz::TestGateway gateway = fuzz::open_stripe(fuzz::Belief::what_is_signed);
    fuzz::Notification notification = fuzz::read_notification_input(fuzz::text_of(data, size));
    const core::Notice as_it_came = gateway.gateway->read_notice(notification.raw());
    fuzz::check_notice(as_it_came);
    check_meaning(notification, as_it_came);

    const std::string timestamp = std::to_string(notification.now_unix_s);
    notification.headers = {{"Stripe-Signature", "t=" + timestamp + ",v1=" +
                                                     signature_over(timestamp, notification.body)}};
    const core::Notice with_signature = gateway.gateway->read_notice(notification.raw());
    fuzz::check_notice(with_signature);
    check_meaning(notification, with_signature);
    return 0;
}
