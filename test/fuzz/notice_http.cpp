// Notifications of the generic gateway: as they are, and with a signature that fits.

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

std::string signature_over(const std::string& id, const std::string& timestamp,
                           std::string_view body) {
    const net::OpensslCrypto crypto;
    static const std::string key = crypto.base64_decode(fuzz::http_signing_secret).value();
    std::string text = id + "." + timestamp + ".";
    text.append(body);
    return "v1," + crypto.base64_encode(crypto.hmac_sha256(key, text).value());
}

std::string header_of(const fuzz::Notification& notification, std::string_view name) {
    return std::string(core::header_value(notification.headers, name).value_or(""));
}

bool is_signed(const fuzz::Notification& notification) {
    const std::string expected =
        signature_over(header_of(notification, "webhook-id"),
                       header_of(notification, "webhook-timestamp"), notification.body);
    const std::string given = header_of(notification, "webhook-signature");
    return given.find(expected) != std::string::npos;
}

void check_meaning(const fuzz::Notification& notification, const core::Notice& notice) {
    if (notice.kind != NoticeKind::payment && notice.kind != NoticeKind::refund) {
        return;
    }
    fuzz::demand(is_signed(notification), "news is signed");
    const json body = fuzz::read_json(notification.body);
    fuzz::demand(body.is_object(), "news is a JSON object");
    if (notice.kind == NoticeKind::payment) {
        fuzz::demand(core::is_payment_id(notice.payment.payment_id), "payment_id is one of ours");
        fuzz::demand(fuzz::member(body, "payment_id") == notice.payment.payment_id,
                     "the number is neither cut nor mended");
        fuzz::demand(!notice.payment.success || fuzz::member(body, "type") == "payment.succeeded",
                     "it tells of success");
        fuzz::demand(!notice.payment.success ||
                         fuzz::member(body, "amount") == notice.payment.amount.value_or(0),
                     "the amount is what it says");
    } else {
        fuzz::demand(fuzz::member(body, "refund_no") == notice.refund.refund_no,
                     "the number is neither cut nor mended");
        fuzz::demand(notice.refund.verdict != core::Verdict::succeeded ||
                         fuzz::member(body, "type") == "refund.succeeded",
                     "it tells of success");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fuzz::TestGateway gateway = fuzz::open_http(fuzz::Belief::what_is_signed);
    fuzz::Notification notification = fuzz::read_notification_input(fuzz::text_of(data, size));
    const core::Notice as_it_came = gateway.gateway->read_notice(notification.raw());
    fuzz::check_notice(as_it_came);
    check_meaning(notification, as_it_came);

    const std::string timestamp = std::to_string(notification.now_unix_s);
    notification.headers = {
        {"webhook-id", "msg_1"},
        {"webhook-timestamp", timestamp},
        {"webhook-signature", signature_over("msg_1", timestamp, notification.body)}};
    const core::Notice with_signature = gateway.gateway->read_notice(notification.raw());
    fuzz::check_notice(with_signature);
    check_meaning(notification, with_signature);
    return 0;
}
