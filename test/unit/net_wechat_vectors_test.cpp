// WeChat Pay with the real cryptography, against every vector of test/vectors/wechat: official SDKs
// and OpenSSL's own program made or checked them (test/vectors/README.md).
#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/gateways/wechat.h"
#include "core/json_library.h"
#include "net/openssl_crypto.h"

namespace payonce::net {
namespace {

using core::Concern;
using core::Gateway;
using core::GatewayAnswer;
using core::Notice;
using core::NoticeKind;
using core::RefundCall;
using core::Verdict;
using nlohmann::json;

std::string content_of(const std::string& name) {
    std::ifstream file(std::string(PAYONCE_VECTORS) + "/wechat/" + name, std::ios::binary);
    EXPECT_TRUE(file.is_open()) << name;
    std::ostringstream content;
    content << file.rdbuf();
    return content.str();
}

json json_of(const std::string& name) {
    return json::parse(content_of(name));
}

const OpensslCrypto& crypto() {
    static const OpensslCrypto one;
    return one;
}

core::OpenedGateway try_open(const std::string& private_key, const std::string& public_key,
                             const std::string& certificates) {
    const json params = json_of("params.json");
    core::GatewayOptions options;
    options.set("url", "https://api.mch.weixin.qq.com");
    options.set("mchid", params["mchid"].get<std::string>());
    options.set("serial_no", params["merchant_cert_serial"].get<std::string>());
    options.set("private_key", content_of(private_key));
    options.set("api_v3_key", params["apiv3_key"].get<std::string>());
    options.set("appid", params["appid"].get<std::string>());
    if (!public_key.empty()) {
        options.set("public_key_id", params["wechatpay_public_key_id"].get<std::string>());
        options.set("public_key", content_of(public_key));
    }
    if (!certificates.empty()) {
        options.set("certificates", content_of(certificates));
    }
    return core::wechat_driver.open(options, crypto());
}

std::unique_ptr<Gateway> open(const std::string& private_key) {
    core::OpenedGateway opened =
        try_open(private_key, "wechatpay_public_key.pem", "platform_cert.pem");
    EXPECT_NE(opened.gateway, nullptr) << opened.problem.option << ": " << opened.problem.detail;
    return std::move(opened.gateway);
}

const Gateway& gateway() {
    static const std::unique_ptr<Gateway> one = open("merchant_private_key_pkcs8.pem");
    return *one;
}

RefundCall refund_call(core::CallKind kind) {
    RefundCall call;
    call.kind = kind;
    call.refund_no = "PAYR20260115000001";
    call.payment_id = "P20260115000001";
    call.transaction_id = "4200002026011500000000000001";
    call.amount = 1299;
    call.payment_amount = 9999;
    call.currency = "CNY";
    call.reason = "request";
    return call;
}

std::vector<core::HttpHeader> headers_of(const json& vector) {
    std::vector<core::HttpHeader> headers;
    for (const auto& [name, value] : vector["headers"].items()) {
        headers.push_back({name, value.get<std::string>()});
    }
    return headers;
}

std::string header_of(const core::HttpRequest& request, std::string_view name) {
    return std::string(core::header_value(request.headers, name).value_or(""));
}

constexpr std::string_view refunds_path = "/v3/refund/domestic/refunds";

// ---- What is sent ------------------------------------------------------------------------------

TEST(WechatVectors, EverySignatureIsReproduced) {
    for (const char* file : {"merchant_private_key_pkcs8.pem", "merchant_private_key_pkcs1.pem"}) {
        const auto key = crypto().parse_private_key(content_of(file));
        ASSERT_NE(key, nullptr) << file;
        const json vectors = json_of("sign_requests.json")["vectors"];
        ASSERT_EQ(vectors.size(), 6U);
        for (const json& vector : vectors) {
            const auto signature = key->sign_sha256(vector["canonical"].get<std::string>());
            ASSERT_TRUE(signature.has_value());
            EXPECT_EQ(crypto().base64_encode(*signature), vector["signature"]) << vector["name"];
        }
    }
}

TEST(WechatVectors, AQuerysRequestIsReproduced) {
    int queries = 0;
    const json vectors = json_of("sign_requests.json")["vectors"];
    for (const json& vector : vectors) {
        const auto path = vector["path_and_query"].get<std::string>();
        if (vector["method"] != "GET" || !path.starts_with(refunds_path)) {
            continue;
        }
        ++queries;
        const auto nonce = vector["nonce"].get<std::string>();
        RefundCall call = refund_call(core::CallKind::query);
        call.refund_no =
            path.find('%') == std::string::npos ? "PAYR20260115000001" : "R|20260115*0001@1";
        for (const char* key :
             {"merchant_private_key_pkcs8.pem", "merchant_private_key_pkcs1.pem"}) {
            const auto built = open(key)->build(call, {vector["timestamp"], nonce});
            ASSERT_TRUE(std::holds_alternative<core::HttpRequest>(built));
            const auto& request = std::get<core::HttpRequest>(built);
            EXPECT_EQ(request.url, "https://" + vector["host"].get<std::string>() + path);
            EXPECT_EQ(header_of(request, "Authorization"), vector["authorization"]);
        }
    }
    EXPECT_EQ(queries, 2);
}

// The vector's text for the customer is another than payonce's, so its signature is, too; what is
// signed is compared by verifying it.
TEST(WechatVectors, ARefundsRequestIsTheVectorsButForTheReason) {
    const json vector = json_of("sign_requests.json")["vectors"][0];
    ASSERT_EQ(vector["name"], "refund_create");
    const auto nonce = vector["nonce"].get<std::string>();
    const auto built =
        gateway().build(refund_call(core::CallKind::refund), {vector["timestamp"], nonce});
    ASSERT_TRUE(std::holds_alternative<core::HttpRequest>(built));
    const auto& request = std::get<core::HttpRequest>(built);
    json expected = json::parse(vector["body"].get<std::string>());
    expected["reason"] = "商家退款";
    expected.erase("notify_url");
    EXPECT_EQ(json::parse(request.body), expected);

    const std::string authorization = header_of(request, "Authorization");
    const std::string lead = "signature=\"";
    const std::size_t begin = authorization.find(lead) + lead.size();
    const auto signature =
        crypto().base64_decode(authorization.substr(begin, authorization.size() - begin - 1));
    ASSERT_TRUE(signature.has_value());
    const auto key = crypto().parse_public_key(content_of("merchant_public_key.pem"));
    ASSERT_NE(key, nullptr);
    EXPECT_TRUE(key->verify_sha256("POST\n" + std::string(refunds_path) + "\n1768443630\n" + nonce +
                                       "\n" + request.body + "\n",
                                   *signature));
}

// ---- Options -----------------------------------------------------------------------------------

TEST(WechatVectors, KeysThatWereMixedUpAreFound) {
    const std::string own = "merchant_private_key_pkcs8.pem";
    EXPECT_EQ(try_open(own, "merchant_public_key.pem", "").problem.option, "public_key");
    EXPECT_EQ(try_open(own, "platform_cert.pem", "").problem.option, "public_key");
    EXPECT_EQ(try_open(own, "", "merchant_cert.pem").problem.option, "certificates");
    EXPECT_EQ(try_open(own, "", "wechatpay_public_key.pem").problem.option, "certificates");
    EXPECT_EQ(try_open("wechatpay_public_key.pem", "", "platform_cert.pem").problem.option,
              "private_key");
    EXPECT_NE(try_open(own, "wechatpay_public_key.pem", "").gateway, nullptr);
    EXPECT_NE(try_open(own, "", "platform_cert.pem").gateway, nullptr);
}

// ---- Answers -----------------------------------------------------------------------------------

// What the driver makes of an answer to a query whose status is the vector's.
Verdict verdict_of_genuine(const json& vector) {
    if (vector["http_status"] != 200) {
        return Verdict::unknown;
    }
    const json body = json::parse(vector["body"].get<std::string>());
    return body["status"] == "SUCCESS" ? Verdict::succeeded : Verdict::processing;
}

TEST(WechatVectors, EveryAnswerIsJudgedAsItShould) {
    const json vectors = json_of("verify_responses.json")["vectors"];
    ASSERT_EQ(vectors.size(), 22U);
    for (const json& vector : vectors) {
        core::HttpResponse response;
        response.delivery = core::Delivery::answered;
        response.status = vector["http_status"];
        response.headers = headers_of(vector);
        response.body = vector["body"].get<std::string>();
        const GatewayAnswer answer =
            gateway().read_answer(refund_call(core::CallKind::refund), response, vector["now"]);
        if (vector["expect"] == "ok") {
            EXPECT_EQ(answer.facts.verdict, verdict_of_genuine(vector)) << vector["name"];
            EXPECT_EQ(answer.facts.concern, Concern::none) << vector["name"];
        } else if (vector["expect"] == "unsigned_error") {
            EXPECT_EQ(answer.facts.verdict, Verdict::wait) << vector["name"];
            EXPECT_EQ(answer.facts.concern, Concern::balance) << vector["name"];
        } else {
            EXPECT_EQ(answer.facts.verdict, Verdict::unknown) << vector["name"];
            EXPECT_EQ(answer.facts.concern, Concern::unverifiable) << vector["name"];
        }
    }
}

TEST(WechatVectors, AnExpiredCertificateNoLongerVerifies) {
    const auto certificates = crypto().parse_certificates(content_of("platform_cert.pem"));
    ASSERT_EQ(certificates.size(), 1U);
    const auto key = crypto().parse_private_key(content_of("platform_private_key.pem"));
    ASSERT_NE(key, nullptr);
    json body =
        json::parse(json_of("verify_responses.json")["vectors"][1]["body"].get<std::string>());
    core::HttpResponse response;
    response.delivery = core::Delivery::answered;
    response.status = 200;
    response.body = body.dump();
    for (const std::int64_t past : {0, 1}) {
        const std::int64_t now = certificates[0]->not_after_unix_s() + past;
        const std::string text = std::to_string(now) + "\nnonce\n" + response.body + "\n";
        response.headers = {
            {"Wechatpay-Timestamp", std::to_string(now)},
            {"Wechatpay-Nonce", "nonce"},
            {"Wechatpay-Serial", certificates[0]->serial_hex()},
            {"Wechatpay-Signature", crypto().base64_encode(key->sign_sha256(text).value_or(""))}};
        const GatewayAnswer answer =
            gateway().read_answer(refund_call(core::CallKind::query), response, now);
        EXPECT_EQ(answer.facts.verdict, past == 0 ? Verdict::succeeded : Verdict::unknown)
            << answer.error;
    }
}

// ---- Notifications -----------------------------------------------------------------------------

// What payonce's database decides: the payment exists, and its amount is what arrived.
bool is_order_of(const core::PaymentNotice& payment, const json& order) {
    return payment.success && payment.payment_id == order["out_trade_no"] &&
           payment.amount == order["amount_total"].get<std::int64_t>() &&
           payment.currency == order["currency"];
}

bool is_refund_of(const core::RefundNotice& notice, const json& refund) {
    return notice.refund_no == refund["out_refund_no"] &&
           notice.amount == refund["amount_refund"].get<std::int64_t>();
}

Verdict verdict_of_status(const json& status) {
    if (status == "SUCCESS") {
        return Verdict::succeeded;
    }
    return status == "CLOSED" ? Verdict::failed : Verdict::abnormal;
}

void check_genuine_notice(const Notice& notice, const json& vector, const json& file) {
    const json& expect = vector["expect"];
    const bool is_accepted =
        vector["kind"] == "payment"
            ? notice.kind == NoticeKind::payment && is_order_of(notice.payment, file["order"])
            : notice.kind == NoticeKind::refund && is_refund_of(notice.refund, file["refund"]);
    EXPECT_EQ(is_accepted, expect["business"] == "accept") << vector["name"] << notice.why;
    if (!is_accepted) {
        return;
    }
    EXPECT_EQ(notice.content, expect["plaintext"]) << vector["name"];
    if (vector["kind"] == "refund") {
        EXPECT_EQ(notice.refund.verdict, verdict_of_status(expect["refund_status"]));
        EXPECT_EQ(notice.refund.refund_id, "50000000382019052709732678859");
    } else {
        EXPECT_EQ(notice.payment.transaction_id, "4200002026011500000000000001");
    }
}

TEST(WechatVectors, EveryNotificationIsJudgedAsItShould) {
    const json file = json_of("verify_notifications.json");
    ASSERT_EQ(file["vectors"].size(), 26U);
    for (const json& vector : file["vectors"]) {
        const std::vector<core::HttpHeader> headers = headers_of(vector);
        const auto body = vector["body"].get<std::string>();
        const Notice notice = gateway().read_notice({headers, body, vector["now"]});
        const json& expect = vector["expect"];
        if (expect["verify"] == "ok" && expect["decrypt"] == "ok") {
            check_genuine_notice(notice, vector, file);
        } else {
            EXPECT_EQ(notice.kind, NoticeKind::forged) << vector["name"];
            EXPECT_EQ(notice.why.starts_with("it verifies, but"), expect["verify"] == "ok")
                << vector["name"] << notice.why;
        }
    }
}

TEST(WechatVectors, EveryCiphertextOpensAndNoOther) {
    const json vectors = json_of("aes_gcm.json")["vectors"];
    ASSERT_EQ(vectors.size(), 4U);
    for (const json& vector : vectors) {
        const auto key = vector["key_ascii"].get<std::string>();
        const auto nonce = vector["nonce_ascii"].get<std::string>();
        const auto data = vector["associated_data"].get<std::string>();
        const auto sealed = crypto().base64_decode(vector["ciphertext_base64"].get<std::string>());
        ASSERT_TRUE(sealed.has_value());
        EXPECT_EQ(crypto().open_aes_256_gcm(key, nonce, data, *sealed), vector["plaintext"]);
        for (std::size_t bit = 0; bit < sealed->size() * 8; ++bit) {
            std::string flipped = *sealed;
            flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
            EXPECT_EQ(crypto().open_aes_256_gcm(key, nonce, data, flipped), std::nullopt);
        }
    }
}

}  // namespace
}  // namespace payonce::net
