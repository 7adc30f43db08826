// Notifications of Alipay: in key mode and in certificate mode, with real keys and with ones that
// take every signature for good.
#include <algorithm>

#include "core/form.h"
#include "core/yuan.h"
#include "fuzz.h"
#include "gateways.h"
#include "message.h"

using namespace payonce;
using core::NoticeKind;

namespace {

// Every field but the signature's two is part of some text that was signed.
void check_signed(const core::FormFields& fields, const std::vector<std::string>& verified) {
    fuzz::demand(!verified.empty(), "news is signed");
    for (const auto& [name, value] : fields) {
        if (name == "sign" || name == "sign_type" || value.empty()) {
            continue;
        }
        const std::string pair = name + "=" + value;
        fuzz::demand(std::all_of(verified.begin(), verified.end(),
                                 [&](const std::string& text) {
                                     return text.find(pair) != std::string::npos;
                                 }),
                     "the signature covers every field");
    }
}

void check_payment(const core::PaymentNotice& payment, const core::FormFields& fields) {
    fuzz::demand(core::form_value(fields, "out_trade_no") == payment.payment_id &&
                     core::form_value(fields, "trade_no") == payment.transaction_id,
                 "the numbers are neither cut nor mended");
    const std::string_view status = core::form_value(fields, "trade_status");
    const bool is_paid = status == "TRADE_SUCCESS" || status == "TRADE_FINISHED";
    fuzz::demand(payment.success == is_paid, "it tells of success");
    fuzz::demand(!payment.success ||
                     core::fen_of_yuan(core::form_value(fields, "total_amount")) == payment.amount,
                 "the amount is what it says");
}

void check_meaning(const fuzz::Notification& notification, const core::Notice& notice,
                   const fuzz::WitnessCrypto& witness) {
    if (notice.kind != NoticeKind::payment && notice.kind != NoticeKind::refund) {
        return;
    }
    const auto fields = core::read_form(notification.body);
    fuzz::demand(fields.has_value(), "news is a form");
    check_signed(*fields, witness.verified());
    fuzz::demand(core::form_value(*fields, "app_id") == fuzz::alipay_app_id,
                 "it is about our application");
    if (notice.kind == NoticeKind::payment) {
        check_payment(notice.payment, *fields);
        return;
    }
    fuzz::demand(notice.refund.refund_no.empty() ||
                     core::form_value(*fields, "out_biz_no") == notice.refund.refund_no,
                 "the number is neither cut nor mended");
    fuzz::demand(notice.refund.verdict == core::Verdict::unknown,
                 "news of a refund only says that there is something to ask");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using fuzz::AlipayMode;
    using fuzz::Belief;
    static const fuzz::TestGateway gateways[] = {
        fuzz::open_alipay(Belief::what_is_signed, AlipayMode::key),
        fuzz::open_alipay(Belief::what_is_signed, AlipayMode::certificate),
        fuzz::open_alipay(Belief::everything, AlipayMode::key),
    };
    const fuzz::Notification notification =
        fuzz::read_notification_input(fuzz::text_of(data, size));
    for (const fuzz::TestGateway& opened : gateways) {
        opened.crypto->forget();
        const core::Notice notice = opened.gateway->read_notice(notification.raw());
        fuzz::check_notice(notice);
        check_meaning(notification, notice, *opened.crypto);
    }
    return 0;
}
