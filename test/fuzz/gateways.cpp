#include "gateways.h"

#include <cstdio>

#include "fuzz.h"

namespace payonce::fuzz {
namespace {

TestGateway open(std::string_view wrapper, Belief belief, const core::GatewayOptions& options) {
    TestGateway made;
    made.crypto = std::make_unique<WitnessCrypto>(belief);
    const core::Driver* driver = core::find_driver(wrapper);
    demand(driver != nullptr, "there is such a driver");
    core::OpenedGateway opened = driver->open(options, *made.crypto);
    if (!opened.gateway) {
        std::fprintf(stderr, "%s: %s\n", opened.problem.option.c_str(),
                     opened.problem.detail.c_str());
    }
    demand(opened.gateway != nullptr, "the gateway can be opened");
    made.gateway = std::move(opened.gateway);
    return made;
}

std::string_view transaction_id_at(std::string_view wrapper) noexcept {
    if (wrapper == "payonce_stripe") {
        return "pi_3PayonceTest000000001";
    }
    return wrapper == "payonce_alipay" ? "2026011522001400000000000001"
                                       : "4200002026011500000000000001";
}

}  // namespace

TestGateway open_http(Belief belief) {
    core::GatewayOptions options;
    options.set("url", "https://gateway.example");
    options.set("signing_secret", http_signing_secret);
    return open("payonce_http", belief, options);
}

TestGateway open_stripe(Belief belief) {
    core::GatewayOptions options;
    options.set("url", "https://api.stripe.com");
    options.set("secret_key", "sk_test_payonce_not_a_real_key");
    options.set("webhook_secret", stripe_webhook_secret);
    return open("payonce_stripe", belief, options);
}

TestGateway open_wechat(Belief belief) {
    core::GatewayOptions options;
    options.set("url", "https://api.mch.weixin.qq.com");
    options.set("mchid", wechat_mchid);
    options.set("serial_no", "3775B6A45ACD588826D15E583A95F5DD00000001");
    options.set("private_key", read_vector("wechat/merchant_private_key_pkcs8.pem"));
    options.set("api_v3_key", "PayonceTestApiV3Key0123456789abc");
    options.set("public_key_id", "PUB_KEY_ID_0119000000012026011500000000001234");
    options.set("public_key", read_vector("wechat/wechatpay_public_key.pem"));
    options.set("certificates", read_vector("wechat/platform_cert.pem"));
    return open("payonce_wechat", belief, options);
}

TestGateway open_alipay(Belief belief, AlipayMode mode) {
    core::GatewayOptions options;
    options.set("url", "https://openapi.alipay.com/gateway.do");
    options.set("app_id", alipay_app_id);
    options.set("private_key", read_vector("alipay/app_private_key_pkcs8.pem"));
    if (mode == AlipayMode::key) {
        options.set("alipay_public_key", read_vector("alipay/alipay_public_key.pem"));
    } else {
        options.set("app_cert", read_vector("alipay/app_cert.pem"));
        options.set("alipay_cert", read_vector("alipay/alipay_cert.pem"));
        options.set("alipay_root_cert", read_vector("alipay/alipay_root_cert.pem"));
    }
    return open("payonce_alipay", belief, options);
}

std::vector<core::RefundCall> calls_to(std::string_view wrapper, core::CallKind kind) {
    core::RefundCall call;
    call.kind = kind;
    call.refund_no = "PAYR20260115000001";
    call.payment_id = "P20260115000001";
    call.order_id = "O20260115000001";
    call.transaction_id = transaction_id_at(wrapper);
    call.amount = 1299;
    call.payment_amount = 9999;
    call.currency = wrapper == "payonce_stripe" ? "USD" : "CNY";
    call.reason = "duplicate";
    core::RefundCall other = call;
    if (wrapper == "payonce_stripe") {
        other.gateway_refund_id = "re_3PayonceTest000000001";
    } else {
        other.transaction_id = {};
    }
    return {call, other};
}

}  // namespace payonce::fuzz
