// WeChat Pay without its cryptography: what is sent, what each answer and notification means, and
// which options are refused. The keys here are names, so that a test sees who signed what. A wrong
// "succeeded" keeps a customer's money; a wrong "not found" or "wait" sends it twice.
#include "core/gateways/wechat.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/json_library.h"
#include "core/text.h"

namespace payonce::core {
namespace {

using nlohmann::json;

constexpr std::int64_t now = 1768443630;
const std::string api_v3_key = "0123456789abcdefghijklmnopqrstuv";
const std::string public_key_id = "PUB_KEY_ID_0119000000012026";
const std::string certificate_serial = "5157F09EFDC0";
const std::string own_serial = "3775B6A45ACD";
const std::string nonce = "5K8264ILTKCH16CQ2502SI8ZNMTM67VS";

// ---- Keys that are names -----------------------------------------------------------------------

std::string fake_signature(std::string_view name, std::string_view message) {
    return std::string(name) + "." + std::to_string(std::hash<std::string_view>()(message));
}

class FakeSigningKey final : public SigningKey {
  public:
    FakeSigningKey(std::string name, std::vector<std::string>& signed_messages)
        : name_(std::move(name)), signed_messages_(signed_messages) {}
    std::optional<std::string> sign_sha256(std::string_view message) const override {
        signed_messages_.emplace_back(message);
        return name_ == "broken" ? std::nullopt
                                 : std::optional<std::string>(fake_signature(name_, message));
    }
    std::string public_der() const override { return "der of " + name_; }

  private:
    std::string name_;
    std::vector<std::string>& signed_messages_;
};

class FakeVerifyingKey final : public VerifyingKey {
  public:
    explicit FakeVerifyingKey(std::string name) : name_(std::move(name)) {}
    bool verify_sha256(std::string_view message,
                       std::string_view signature) const noexcept override {
        return signature == fake_signature(name_, message);
    }
    std::string public_der() const override { return "der of " + name_; }

  private:
    std::string name_;
};

class FakeCertificate final : public Certificate {
  public:
    FakeCertificate(std::string name, std::string serial)
        : name_(std::move(name)), serial_(std::move(serial)) {}
    std::unique_ptr<VerifyingKey> public_key() const override {
        return name_ == "elliptic" ? nullptr : std::make_unique<FakeVerifyingKey>(name_);
    }
    std::string issuer() const override { return "CN=somebody"; }
    std::string serial_decimal() const override { return "1"; }
    std::string serial_hex() const override { return serial_; }
    bool is_rsa_signed() const override { return true; }
    std::int64_t not_after_unix_s() const override { return name_ == "old" ? now - 1 : now + 100; }

  private:
    std::string name_;
    std::string serial_;
};

// "private NAME", "public NAME", "certificate NAME SERIAL;" are its PEM, "b64." its base64, and
// "KEY/NONCE/DATA/TEXT" its encryption.
class FakeCrypto final : public CryptoPort {
  public:
    std::optional<std::string> hmac_sha256(std::string_view, std::string_view) const override {
        return std::nullopt;
    }
    std::string base64_encode(std::string_view bytes) const override {
        return "b64." + std::string(bytes);
    }
    std::optional<std::string> base64_decode(std::string_view text) const override {
        return text.starts_with("b64.") ? std::optional<std::string>(text.substr(4)) : std::nullopt;
    }
    std::optional<std::string> md5_hex(std::string_view) const override { return std::nullopt; }
    std::unique_ptr<SigningKey> parse_private_key(std::string_view text) const override {
        return text.starts_with("private ")
                   ? std::make_unique<FakeSigningKey>(std::string(text.substr(8)), signed_messages)
                   : nullptr;
    }
    std::unique_ptr<VerifyingKey> parse_public_key(std::string_view text) const override {
        return text.starts_with("public ")
                   ? std::make_unique<FakeVerifyingKey>(std::string(text.substr(7)))
                   : nullptr;
    }
    Certificates parse_certificates(std::string_view pem) const override {
        Certificates certificates;
        while (pem.starts_with("certificate ")) {
            const std::string_view one = pem.substr(12, pem.find(';') - 12);
            const std::size_t blank = one.find(' ');
            certificates.push_back(std::make_unique<FakeCertificate>(
                std::string(one.substr(0, blank)), std::string(one.substr(blank + 1))));
            pem.remove_prefix(pem.find(';') + 1);
        }
        return certificates;
    }
    bool is_issued_by(const Certificate&,
                      std::span<const std::unique_ptr<Certificate>>) const override {
        return false;
    }
    std::optional<std::string> open_aes_256_gcm(std::string_view key, std::string_view iv,
                                                std::string_view associated_data,
                                                std::string_view sealed) const override {
        const std::string lead =
            std::string(key) + "/" + std::string(iv) + "/" + std::string(associated_data) + "/";
        return sealed.starts_with(lead) ? std::optional<std::string>(sealed.substr(lead.size()))
                                        : std::nullopt;
    }

    mutable std::vector<std::string> signed_messages;
};

const FakeCrypto& crypto() {
    static const FakeCrypto one;
    return one;
}

// ---- The options -------------------------------------------------------------------------------

using OptionMap = std::map<std::string, std::string>;

OptionMap usual_options() {
    return {
        {"url", "https://api.mch.weixin.qq.com"},
        {"notify_url", "https://pay.example.com/wechat/refund"},
        {"mchid", "1900000001"},
        {"serial_no", own_serial},
        {"private_key", "private merchant"},
        {"api_v3_key", api_v3_key},
        {"public_key_id", public_key_id},
        {"public_key", "public wechat"},
        {"certificates", "certificate platform " + certificate_serial + ";certificate old AABBCC;"},
        {"appid", "wx1234567890abcdef"}};
}

OptionMap usual_options_but(const OptionMap& changes) {
    OptionMap options = usual_options();
    for (const auto& [name, value] : changes) {
        options[name] = value;
    }
    return options;
}

OpenedGateway try_open(const OptionMap& options) {
    GatewayOptions made;
    for (const auto& [name, value] : options) {
        made.set(name, value);
    }
    return wechat_driver.open(made, crypto());
}

std::unique_ptr<Gateway> open(const OptionMap& options) {
    OpenedGateway opened = try_open(options);
    EXPECT_NE(opened.gateway, nullptr) << opened.problem.option << ": " << opened.problem.detail;
    return std::move(opened.gateway);
}

const Gateway& usual_gateway() {
    static const std::unique_ptr<Gateway> one = open(usual_options());
    return *one;
}

TEST(WechatDriver, SaysWhatTheContractSays) {
    EXPECT_EQ(wechat_driver.wrapper, "payonce_wechat");
    EXPECT_EQ(wechat_driver.traits.query_delay_s, 10);
    EXPECT_EQ(wechat_driver.traits.payment_spacing_s, 60);
    EXPECT_EQ(wechat_driver.traits.refund_window_s, 365LL * 86400);
    EXPECT_EQ(wechat_driver.traits.idempotency_horizon_s, 0);
    EXPECT_EQ(wechat_driver.traits.rate_limit_per_s, 150);
    std::map<std::string_view, std::pair<OptionScope, bool>> rules;
    for (const OptionRule& rule : wechat_driver.options) {
        rules[rule.name] = {rule.scope, rule.has_file};
    }
    constexpr auto server = OptionScope::server;
    constexpr auto mapping = OptionScope::user_mapping;
    const std::map<std::string_view, std::pair<OptionScope, bool>> expected = {
        {"notify_url", {server, false}}, {"mchid", {mapping, false}},
        {"serial_no", {mapping, false}}, {"private_key", {mapping, true}},
        {"api_v3_key", {mapping, true}}, {"public_key_id", {mapping, false}},
        {"public_key", {mapping, true}}, {"certificates", {mapping, true}},
        {"appid", {mapping, false}},
    };
    EXPECT_EQ(rules, expected);
}

TEST(WechatOptions, EitherKindOfKeyIsEnough) {
    open(usual_options_but({{"certificates", ""}}));
    open(usual_options_but({{"public_key", ""}, {"public_key_id", ""}}));
    open(usual_options_but({{"api_v3_key", ""}, {"appid", ""}, {"notify_url", ""}}));
}

TEST(WechatOptions, AUserMappingIsJudgedWithoutAServer) {
    open(usual_options_but({{"url", ""}, {"notify_url", ""}}));
}

struct BadOption {
    OptionMap changes;
    std::string option;
    std::string told;  // in the detail
};

TEST(WechatOptions, WhatCannotWorkIsRefused) {
    const std::vector<BadOption> cases = {
        {{{"mchid", ""}}, "mchid", "merchant number"},
        {{{"mchid", "19\"0"}}, "mchid", "digits"},
        {{{"mchid", std::string(33, '1')}}, "mchid", "digits"},
        {{{"serial_no", ""}}, "serial_no", "hexadecimal"},
        {{{"serial_no", "3775:B6"}}, "serial_no", "hexadecimal"},
        {{{"serial_no", "5157f09efdc0"}}, "serial_no", "platform certificate"},
        {{{"private_key", ""}}, "private_key", "missing"},
        {{{"private_key", "-----BEGIN ENCRYPTED"}}, "private_key", "unencrypted"},
        {{{"api_v3_key", "short"}}, "api_v3_key", "32"},
        {{{"api_v3_key", api_v3_key + "x"}}, "api_v3_key", "32"},
        {{{"api_v3_key", "\xE5\xAE\xA2" + api_v3_key.substr(3)}}, "api_v3_key", "ASCII"},
        {{{"public_key_id", ""}}, "public_key_id", "missing"},
        {{{"public_key_id", "0119000000012026"}}, "public_key_id", "PUB_KEY_ID_"},
        {{{"public_key_id", "PUB_KEY_ID_"}}, "public_key_id", "PUB_KEY_ID_"},
        {{{"public_key_id", "PUB_KEY_ID_1\r\nX: y"}}, "public_key_id", "PUB_KEY_ID_"},
        {{{"public_key", ""}}, "public_key", "missing"},
        {{{"public_key", "certificate platform 1;"}}, "public_key", "RSA public key"},
        {{{"public_key", "public merchant"}}, "public_key", "your own"},
        {{{"certificates", "public wechat"}}, "certificates", "PEM"},
        {{{"certificates", "certificate elliptic 01;"}}, "certificates", "RSA"},
        {{{"certificates", "certificate merchant " + own_serial + ";"}},
         "certificates",
         "your own"},
        {{{"certificates", ""}, {"public_key", ""}, {"public_key_id", ""}},
         "public_key",
         "certificates"},
        {{{"appid", "wx1,,wx2"}}, "appid", "appid"},
        {{{"appid", "wx 1"}}, "appid", "appid"},
    };
    for (const BadOption& bad : cases) {
        const OpenedGateway opened = try_open(usual_options_but(bad.changes));
        EXPECT_EQ(opened.gateway, nullptr) << bad.option << " " << bad.told;
        EXPECT_EQ(opened.problem.option, bad.option) << bad.told;
        EXPECT_NE(opened.problem.detail.find(bad.told), std::string::npos) << opened.problem.detail;
        EXPECT_TRUE(opened.problem.detail.ends_with('.')) << opened.problem.detail;
        EXPECT_TRUE(opened.problem.hint.ends_with('.')) << opened.problem.hint;
    }
}

TEST(WechatOptions, NoProblemShowsASecret) {
    for (const char* name : {"private_key", "api_v3_key", "public_key", "certificates"}) {
        const OpenedGateway opened = try_open(usual_options_but({{name, "sesame-and-more"}}));
        ASSERT_EQ(opened.problem.option, name);
        EXPECT_EQ((opened.problem.detail + opened.problem.hint).find("sesame"), std::string::npos);
    }
}

TEST(WechatOptions, NotifyUrlIsWhatWechatTakes) {
    for (const char* good : {"https://pay.example.com/a", "https://pay.example.com:8443/a",
                             "http://127.0.0.1:8080/a", "http://localhost/a", "http://[::1]:80/"}) {
        open(usual_options_but({{"notify_url", good}}));
    }
    const std::vector<std::string> bad = {"http://pay.example.com/a",
                                          "https://pay.example.com/a?b=c",
                                          "https://pay.example.com/#a",
                                          "https://",
                                          "https:///a",
                                          "https://u:p@pay.example.com/",
                                          "pay.example.com",
                                          "ftp://a/",
                                          "https://pay.example.com/a b",
                                          "http://127.evil.example/",
                                          "http://[::1/",
                                          "http://localhost.evil.example/",
                                          "https://pay.example.com/" + std::string(233, 'a')};
    for (const std::string& url : bad) {
        EXPECT_EQ(try_open(usual_options_but({{"notify_url", url}})).problem.option, "notify_url")
            << url;
    }
    open(usual_options_but({{"notify_url", "https://pay.example.com/" + std::string(232, 'a')}}));
}

// ---- What is sent ------------------------------------------------------------------------------

RefundCall refund_call() {
    RefundCall call;
    call.refund_no = "P20260115-R1";
    call.payment_id = "P20260115";
    call.order_id = "O-7";
    call.transaction_id = "4200002026011500000000000001";
    call.amount = 1299;
    call.payment_amount = 9999;
    call.currency = "CNY";
    call.reason = "duplicate";
    return call;
}

RefundCall query_call() {
    RefundCall call = refund_call();
    call.kind = CallKind::query;
    return call;
}

HttpRequest request_of(const Gateway& gateway, const RefundCall& call) {
    BuiltRequest built = gateway.build(call, {now, nonce});
    EXPECT_TRUE(std::holds_alternative<HttpRequest>(built));
    return std::holds_alternative<HttpRequest>(built) ? std::get<HttpRequest>(std::move(built))
                                                      : HttpRequest();
}

GatewayAnswer refusal_of(const Gateway& gateway, const RefundCall& call) {
    BuiltRequest built = gateway.build(call, {now, nonce});
    EXPECT_TRUE(std::holds_alternative<GatewayAnswer>(built));
    return std::holds_alternative<GatewayAnswer>(built) ? std::get<GatewayAnswer>(std::move(built))
                                                        : GatewayAnswer();
}

// Fails when a header is there twice.
OptionMap headers_of(const HttpRequest& request) {
    OptionMap headers;
    for (const HttpHeader& header : request.headers) {
        EXPECT_TRUE(headers.emplace(header.name, header.value).second) << header.name;
    }
    return headers;
}

std::string authorization(std::string_view text) {
    return R"(WECHATPAY2-SHA256-RSA2048 mchid="1900000001",nonce_str=")" + nonce +
           R"(",timestamp="1768443630",serial_no=")" + own_serial + R"(",signature="b64.)" +
           fake_signature("merchant", text) + "\"";
}

TEST(WechatRequest, ARefundIsWhatWechatDocuments) {
    const HttpRequest request = request_of(usual_gateway(), refund_call());
    EXPECT_EQ(request.method, HttpMethod::post);
    EXPECT_EQ(request.url, "https://api.mch.weixin.qq.com/v3/refund/domestic/refunds");
    EXPECT_EQ(json::parse(request.body), json::parse(R"({
        "transaction_id": "4200002026011500000000000001", "out_refund_no": "P20260115-R1",
        "reason": "订单重复支付", "notify_url": "https://pay.example.com/wechat/refund",
        "amount": {"refund": 1299, "total": 9999, "currency": "CNY"}})"));
    const std::string text =
        "POST\n/v3/refund/domestic/refunds\n1768443630\n" + nonce + "\n" + request.body + "\n";
    EXPECT_EQ(headers_of(request), (OptionMap{{"Authorization", authorization(text)},
                                              {"Accept", "application/json"},
                                              {"Content-Type", "application/json"},
                                              {"Wechatpay-Serial", public_key_id}}));
}

TEST(WechatRequest, AQueryIsWhatWechatDocuments) {
    RefundCall call = query_call();
    call.refund_no = "R|20260115*0001@1";
    const HttpRequest request = request_of(usual_gateway(), call);
    EXPECT_EQ(request.method, HttpMethod::get);
    EXPECT_EQ(request.url,
              "https://api.mch.weixin.qq.com/v3/refund/domestic/refunds/R%7C20260115%2A0001%401");
    EXPECT_EQ(request.body, "");
    const std::string text =
        "GET\n/v3/refund/domestic/refunds/R%7C20260115%2A0001%401\n1768443630\n" + nonce + "\n\n";
    EXPECT_EQ(headers_of(request), (OptionMap{{"Authorization", authorization(text)},
                                              {"Accept", "application/json"},
                                              {"Wechatpay-Serial", public_key_id}}));
}

TEST(WechatRequest, TheSignedPathIsThatOfTheUrlWithItsPrefix) {
    const auto gateway = open(usual_options_but({{"url", "http://127.0.0.1:8080/mock//"}}));
    const HttpRequest request = request_of(*gateway, query_call());
    EXPECT_EQ(request.url, "http://127.0.0.1:8080/mock/v3/refund/domestic/refunds/P20260115-R1");
    EXPECT_TRUE(crypto().signed_messages.back().starts_with(
        "GET\n/mock/v3/refund/domestic/refunds/P20260115-R1\n"));
}

TEST(WechatRequest, WithCertificatesAloneNoKeyIsAskedFor) {
    const auto gateway = open(usual_options_but({{"public_key", ""}, {"public_key_id", ""}}));
    EXPECT_EQ(headers_of(request_of(*gateway, refund_call())).count("Wechatpay-Serial"), 0U);
}

TEST(WechatRequest, TheSerialNumberIsSentInUpperCase) {
    const auto gateway = open(usual_options_but({{"serial_no", "3775b6a45acd"}}));
    EXPECT_NE(headers_of(request_of(*gateway, query_call()))["Authorization"].find(own_serial),
              std::string::npos);
}

TEST(WechatRequest, WithoutATransactionTheMerchantsNumberNamesThePayment) {
    RefundCall call = refund_call();
    call.transaction_id = {};
    for (const std::string& id : {std::string("P|2_-*"), std::string(32, 'a')}) {
        call.payment_id = id;
        const json body = json::parse(request_of(usual_gateway(), call).body);
        EXPECT_EQ(body["out_trade_no"], id);
        EXPECT_FALSE(body.contains("transaction_id"));
    }
    for (const std::string& id :
         {std::string("P1234"), std::string(33, 'a'), std::string("P@12345")}) {
        call.payment_id = id;
        const GatewayAnswer refusal = refusal_of(usual_gateway(), call);
        EXPECT_EQ(refusal.facts.verdict, Verdict::rejected) << id;
        EXPECT_NE(refusal.error.find("out_trade_no"), std::string::npos);
    }
}

TEST(WechatRequest, OtherCurrenciesAreRefused) {
    RefundCall call = refund_call();
    call.currency = "USD";
    const GatewayAnswer refusal = refusal_of(usual_gateway(), call);
    EXPECT_EQ(refusal.facts.verdict, Verdict::rejected);
    EXPECT_FALSE(refusal.facts.confirm);
    EXPECT_NE(refusal.error.find("USD"), std::string::npos);
}

TEST(WechatRequest, EachReasonHasItsText) {
    for (const auto& [reason, text] : OptionMap{{"duplicate", "订单重复支付"},
                                                {"late", "订单已关闭"},
                                                {"mismatch", "支付金额不符"},
                                                {"request", "商家退款"}}) {
        RefundCall call = refund_call();
        call.reason = reason;
        EXPECT_EQ(json::parse(request_of(usual_gateway(), call).body)["reason"], text);
    }
}

TEST(WechatRequest, WhatCannotBeSignedIsNotSent) {
    const auto gateway = open(usual_options_but({{"private_key", "private broken"}}));
    EXPECT_EQ(refusal_of(*gateway, refund_call()).facts.verdict, Verdict::not_sent);
    EXPECT_EQ(refusal_of(*gateway, query_call()).facts.verdict, Verdict::not_sent);
}

// ---- What an answer means ----------------------------------------------------------------------

struct Signer {
    std::string name = "wechat";
    std::string serial = public_key_id;
    std::string timestamp = std::to_string(now - 1);
    std::string nonce = "c5ac7061fccab6bf3e254dcf98995b8c";
};

std::vector<HttpHeader> signed_headers(std::string_view body, const Signer& signer = {}) {
    const std::string text =
        signer.timestamp + "\n" + signer.nonce + "\n" + std::string(body) + "\n";
    return {{"Wechatpay-Timestamp", signer.timestamp},
            {"Wechatpay-Nonce", signer.nonce},
            {"Wechatpay-Serial", signer.serial},
            {"Wechatpay-Signature-Type", "WECHATPAY2-SHA256-RSA2048"},
            {"Wechatpay-Signature", "b64." + fake_signature(signer.name, text)},
            {"Request-ID", "08F0A5"}};
}

HttpResponse response(int status, std::string body) {
    HttpResponse made;
    made.delivery = Delivery::answered;
    made.status = status;
    made.headers = {{"Request-ID", "08F0A5"}};
    made.body = std::move(body);
    return made;
}

HttpResponse signed_response(int status, const std::string& body, const Signer& signer = {}) {
    HttpResponse made = response(status, body);
    made.headers = signed_headers(body, signer);
    return made;
}

json refund_object() {
    return json::parse(R"({
        "refund_id": "50000000382019052709732678859", "out_refund_no": "P20260115-R1",
        "transaction_id": "4200002026011500000000000001", "out_trade_no": "P20260115",
        "status": "SUCCESS",
        "amount": {"total": 9999, "refund": 1299, "payer_total": 9500, "payer_refund": 1200,
                   "currency": "CNY", "from": []}})");
}

GatewayAnswer read(const RefundCall& call, const HttpResponse& answer) {
    return usual_gateway().read_answer(call, answer, now);
}

GatewayAnswer read_object(const json& object, const RefundCall& call = refund_call()) {
    return read(call, signed_response(200, object.dump()));
}

TEST(WechatAnswer, WhatDidNotArriveIsKnownByItsDelivery) {
    HttpResponse nothing;
    nothing.error = "connection reset";
    EXPECT_EQ(read(refund_call(), nothing).facts.verdict, Verdict::unknown);
    EXPECT_EQ(read(refund_call(), nothing).error, "connection reset");
    nothing.delivery = Delivery::not_sent;
    EXPECT_EQ(read(refund_call(), nothing).facts.verdict, Verdict::not_sent);
}

TEST(WechatAnswer, EachStatusHasItsVerdict) {
    const std::map<std::string, Verdict> verdicts = {
        {"SUCCESS", Verdict::succeeded}, {"PROCESSING", Verdict::processing},
        {"CLOSED", Verdict::failed},     {"ABNORMAL", Verdict::abnormal},
        {"success", Verdict::unknown},   {"CHANGE", Verdict::unknown},
        {"", Verdict::unknown}};
    for (const auto& [status, verdict] : verdicts) {
        for (const RefundCall& call : {refund_call(), query_call()}) {
            json object = refund_object();
            object["status"] = status;
            const GatewayAnswer answer = read_object(object, call);
            EXPECT_EQ(answer.facts.verdict, verdict) << status;
            EXPECT_EQ(answer.refund_id, "50000000382019052709732678859");
            const bool is_well = verdict == Verdict::succeeded || verdict == Verdict::processing;
            EXPECT_EQ(answer.error.empty(), is_well) << answer.error;
        }
    }
}

TEST(WechatAnswer, APlatformCertificateVerifiesWhateverTheCaseOfItsSerial) {
    for (const std::string serial : {"5157F09EFDC0", "5157f09efdc0"}) {
        const HttpResponse answer =
            signed_response(200, refund_object().dump(), {.name = "platform", .serial = serial});
        EXPECT_EQ(read(refund_call(), answer).facts.verdict, Verdict::succeeded);
    }
}

// Every way in which a 200 of success can fail to verify.
TEST(WechatAnswer, WhatDoesNotVerifySettlesNothing) {
    const std::string body = refund_object().dump();
    std::map<std::string, HttpResponse> cases;
    cases["another key's signature"] = signed_response(200, body, {.name = "stranger"});
    cases["our own signature"] = signed_response(200, body, {.name = "merchant"});
    cases["the platform certificate's signature"] =
        signed_response(200, body, {.name = "platform"});
    cases["an unknown serial"] = signed_response(200, body, {.serial = "PUB_KEY_ID_9"});
    cases["the id in another case"] =
        signed_response(200, body, {.serial = "pub_key_id_0119000000012026"});
    cases["half a serial"] = signed_response(200, body, {.name = "platform", .serial = "5157F0"});
    cases["an expired certificate"] =
        signed_response(200, body, {.name = "old", .serial = "AABBCC"});
    cases["an old timestamp"] =
        signed_response(200, body, {.timestamp = std::to_string(now - 300)});
    cases["a future timestamp"] =
        signed_response(200, body, {.timestamp = std::to_string(now + 300)});
    cases["a negative timestamp"] = signed_response(200, body, {.timestamp = "-1"});
    cases["a huge timestamp"] = signed_response(200, body, {.timestamp = std::string(40, '9')});
    cases["a timestamp in words"] = signed_response(200, body, {.timestamp = "2026-01-15"});
    cases["no signature"] = response(200, body);
    cases["another body"] = signed_response(200, body);
    cases["another body"].body += " ";
    for (const char* name :
         {"Wechatpay-Timestamp", "Wechatpay-Nonce", "Wechatpay-Serial", "Wechatpay-Signature"}) {
        HttpResponse& without = cases["without " + std::string(name)] = signed_response(200, body);
        std::erase_if(without.headers, [=](const HttpHeader& h) { return h.name == name; });
        HttpResponse& twice = cases["twice " + std::string(name)] = signed_response(200, body);
        twice.headers.push_back({name, std::string(header_value(twice.headers, name).value())});
    }
    for (const std::string type : {"WECHATPAY2-SM2-WITH-SM3", ""}) {
        HttpResponse& odd = cases["the type " + type] = signed_response(200, body);
        odd.headers[3].value = type;
    }
    HttpResponse& two_types = cases["two types"] = signed_response(200, body);
    two_types.headers.push_back(two_types.headers[3]);
    HttpResponse& not_base64 = cases["a signature that is not base64"] = signed_response(200, body);
    not_base64.headers[4].value = "***";
    for (const auto& [what, answer] : cases) {
        for (const RefundCall& call : {refund_call(), query_call()}) {
            const GatewayAnswer read_as = read(call, answer);
            EXPECT_EQ(read_as.facts.verdict, Verdict::unknown) << what;
            EXPECT_EQ(read_as.facts.concern, Concern::unverifiable) << what;
            EXPECT_NE(read_as.error.find("does not verify"), std::string::npos) << read_as.error;
            EXPECT_EQ(read_as.refund_id, "") << what;
        }
    }
}

TEST(WechatAnswer, TheClocksMayDifferByLessThanFiveMinutes) {
    for (const std::int64_t skew : {-299, 299}) {
        const HttpResponse answer =
            signed_response(200, refund_object().dump(), {.timestamp = std::to_string(now + skew)});
        EXPECT_EQ(read(refund_call(), answer).facts.verdict, Verdict::succeeded);
    }
}

TEST(WechatAnswer, TheSignatureTypeMayBeAbsent) {
    HttpResponse answer = signed_response(200, refund_object().dump());
    answer.headers.erase(answer.headers.begin() + 3);
    EXPECT_EQ(read(refund_call(), answer).facts.verdict, Verdict::succeeded);
}

// The line break between nonce and body is what keeps them apart.
TEST(WechatAnswer, ANonceCannotTakeTheBodysFirstLine) {
    const std::string body = "{}\n" + refund_object().dump();
    HttpResponse answer = signed_response(200, body);
    answer.headers[1].value += "\n{}";
    answer.body = refund_object().dump();
    EXPECT_EQ(read(refund_call(), answer).facts.verdict, Verdict::unknown);
}

TEST(WechatAnswer, AProbeFailsAndIsCalledSo) {
    HttpResponse answer = signed_response(200, refund_object().dump());
    answer.headers[4].value = "WECHATPAY/SIGNTEST/H1wlQzNOCfN";
    const GatewayAnswer read_as = read(refund_call(), answer);
    EXPECT_EQ(read_as.facts.verdict, Verdict::unknown);
    EXPECT_EQ(read_as.facts.concern, Concern::unverifiable);
    EXPECT_NE(read_as.error.find("probe"), std::string::npos);
}

TEST(WechatAnswer, OnlyA200TellsOfTheRefund) {
    for (int status = 100; status < 600; ++status) {
        const GatewayAnswer read_as =
            read(query_call(), signed_response(status, refund_object().dump()));
        EXPECT_EQ(read_as.facts.verdict, status == 200 ? Verdict::succeeded : Verdict::unknown)
            << status;
        EXPECT_EQ(read_as.facts.concern, Concern::none);
    }
    EXPECT_EQ(read(query_call(), response(204, "")).facts.concern, Concern::unverifiable);
}

TEST(WechatAnswer, AnswersAboutAnotherRefundSettleNothing) {
    for (const json& other : {json("P20260115-R2"), json(""), json(7), json(nullptr),
                              json("P20260115-R1 "), json("P20260115-R1\n")}) {
        json object = refund_object();
        object["out_refund_no"] = other;
        EXPECT_EQ(read_object(object).facts.verdict, Verdict::unknown) << other;
    }
    json object = refund_object();
    object.erase("out_refund_no");
    EXPECT_EQ(read_object(object).facts.verdict, Verdict::unknown);
}

TEST(WechatAnswer, ANumberThatMeansSomethingElseNeedsAPerson) {
    const std::vector<std::pair<std::string, json>> others = {
        {"/amount/refund", 1298},    {"/amount/refund", 9999},
        {"/amount/refund", 0},       {"/amount/refund", -1299},
        {"/amount/total", 9998},     {"/amount/currency", "USD"},
        {"/amount/currency", "cny"}, {"/transaction_id", "4200002026011500000000000002"}};
    for (const auto& [where, value] : others) {
        for (const char* status : {"SUCCESS", "PROCESSING", "CLOSED", "ABNORMAL"}) {
            json object = refund_object();
            object["status"] = status;
            object[json::json_pointer(where)] = value;
            const GatewayAnswer answer = read_object(object);
            EXPECT_EQ(answer.facts.verdict, Verdict::abnormal) << where << " " << value;
            EXPECT_NE(answer.error.find("another refund"), std::string::npos) << answer.error;
        }
    }
}

TEST(WechatAnswer, ThePaymentIsComparedByTheNumberThatWasSent) {
    RefundCall call = refund_call();
    json object = refund_object();
    object["out_trade_no"] = "P-OTHER";
    EXPECT_EQ(read_object(object, call).facts.verdict, Verdict::succeeded);
    call.transaction_id = {};
    EXPECT_EQ(read_object(object, call).facts.verdict, Verdict::abnormal);
    object.erase("out_trade_no");
    EXPECT_EQ(read_object(object, call).facts.verdict, Verdict::succeeded);
}

TEST(WechatAnswer, AmountsThatAreNotSaidSettleNothing) {
    for (const char* name : {"refund", "total", "currency"}) {
        for (const json& odd : {json("1299"), json(1299.0), json(nullptr), json::array({1299}),
                                json(18446744073709551615U), json(true)}) {
            json object = refund_object();
            object["amount"][name] = odd;
            const Verdict verdict = read_object(object).facts.verdict;
            const bool is_text = std::string_view(name) == "currency" && odd.is_string();
            EXPECT_EQ(verdict, is_text ? Verdict::abnormal : Verdict::unknown) << name << odd;
        }
        json object = refund_object();
        object["amount"].erase(name);
        EXPECT_EQ(read_object(object).facts.verdict, Verdict::unknown) << name;
    }
    json object = refund_object();
    object["amount"] = "1299";
    EXPECT_EQ(read_object(object).facts.verdict, Verdict::unknown);
}

TEST(WechatAnswer, GenuineBodiesThatAreNotOneObjectSettleNothing) {
    const std::string whole = refund_object().dump();
    std::vector<std::string> bodies = {"",
                                       "null",
                                       "[]",
                                       "\"SUCCESS\"",
                                       whole + whole,
                                       whole + std::string(1, '\0'),
                                       "[" + whole + "]",
                                       std::string(100'000, '['),
                                       "{\"a\":" + std::string(9, '{')};
    for (std::size_t size = 0; size < whole.size(); ++size) {
        bodies.push_back(whole.substr(0, size));
    }
    // Twice the same member, at the top and within the amount.
    bodies.push_back(whole.substr(0, whole.size() - 1) + R"(,"status":"SUCCESS"})");
    std::string twice = whole;
    twice.insert(twice.find("\"refund\":"), "\"refund\":1,");
    bodies.push_back(twice);
    for (const std::string& body : bodies) {
        EXPECT_EQ(read(refund_call(), signed_response(200, body)).facts.verdict, Verdict::unknown)
            << body.substr(0, 400);
    }
}

// ---- Errors ------------------------------------------------------------------------------------

struct ErrorCase {
    int status = 0;
    std::string code;
    Verdict to_refund = Verdict::unknown;
    Verdict to_query = Verdict::unknown;
    bool confirm = false;
};

const std::vector<ErrorCase>& error_cases() {
    using enum Verdict;
    static const std::vector<ErrorCase> cases = {
        {400, "PARAM_ERROR", rejected, rejected, true},
        {400, "INVALID_REQUEST", rejected, rejected, true},
        {400, "BIZ_ERR_NEED_RETRY", unknown, unknown},
        {400, "SOMETHING_NEW", unknown, unknown},
        {401, "SIGN_ERROR", rejected, rejected},
        {401, "", unknown, unknown},
        {403, "NO_AUTH", rejected, rejected},
        {403, "NOT_ENOUGH", wait, unknown},
        {403, "USER_ACCOUNT_ABNORMAL", rejected, unknown, true},
        {403, "REQUEST_BLOCKED", rejected, unknown, true},
        {403, "RULE_LIMIT", unknown, unknown},
        {404, "MCH_NOT_EXISTS", rejected, rejected},
        {404, "RESOURCE_NOT_EXISTS", rejected, not_found, true},
        {404, "NOT_FOUND", unknown, unknown},
        {404, "", unknown, unknown},
        {409, "SOMETHING_NEW", unknown, unknown},
        {500, "SYSTEM_ERROR", unknown, unknown},
        {500, "BIZ_ERR_NEED_RETRY", unknown, unknown},
        {503, "BIZ_ERR_NEED_RETRY", unknown, unknown},
        {502, "", unknown, unknown},
        {503, "SERVICE_UNAVAILABLE", unknown, unknown},
        {504, "", unknown, unknown},
        // A code under another status than its own.
        {500, "NOT_ENOUGH", unknown, unknown},
        {400, "RESOURCE_NOT_EXISTS", unknown, unknown},
        {500, "RESOURCE_NOT_EXISTS", unknown, unknown},
        {400, "SYSTEM_ERROR", unknown, unknown},
        {500, "PARAM_ERROR", unknown, unknown},
    };
    return cases;
}

std::string error_body(const std::string& code) {
    return json({{"code", code}, {"message", "余额不足"}}).dump();
}

TEST(WechatError, EachCodeHasItsVerdictSignedOrNot) {
    for (const ErrorCase& error : error_cases()) {
        const std::string body = error_body(error.code);
        for (const HttpResponse& answer :
             {response(error.status, body), signed_response(error.status, body)}) {
            const AnswerFacts refund = read(refund_call(), answer).facts;
            const AnswerFacts query = read(query_call(), answer).facts;
            EXPECT_EQ(refund.verdict, error.to_refund) << error.status << error.code;
            EXPECT_EQ(query.verdict, error.to_query) << error.status << error.code;
            EXPECT_EQ(refund.confirm, error.confirm) << error.status << error.code;
            EXPECT_FALSE(query.confirm);
            EXPECT_EQ(refund.slow_down, refund.verdict != Verdict::unknown) << error.code;
            EXPECT_EQ(refund.concern,
                      refund.verdict == Verdict::wait ? Concern::balance : Concern::none);
            EXPECT_EQ(refund.when_unknown, WhenUnknown::resend);
        }
    }
}

TEST(WechatError, TooOftenIsUnknownAndSlower) {
    const std::vector<std::pair<int, std::string>> limits = {{429, "FREQUENCY_LIMITED"},
                                                             {403, "FREQUENCY_LIMITED"},
                                                             {429, "RATELIMIT_EXCEEDED"},
                                                             {400, "RATE_LIMITED"},
                                                             {429, ""},
                                                             {429, "NOT_ENOUGH"}};
    for (const auto& [status, code] : limits) {
        for (const RefundCall& call : {refund_call(), query_call()}) {
            HttpResponse answer = response(status, error_body(code));
            AnswerFacts facts = read(call, answer).facts;
            EXPECT_EQ(facts.verdict, Verdict::unknown) << code;
            EXPECT_TRUE(facts.slow_down);
            EXPECT_EQ(facts.retry_after_s, 60);
            answer.retry_after_s = 10;
            EXPECT_EQ(read(call, answer).facts.retry_after_s, 60);
            answer.retry_after_s = 600;
            EXPECT_EQ(read(call, answer).facts.retry_after_s, 600);
        }
    }
}

TEST(WechatError, RetryAfterIsPassedOn) {
    HttpResponse answer = response(503, "");
    EXPECT_EQ(read(refund_call(), answer).facts.retry_after_s, std::nullopt);
    answer.retry_after_s = 7;
    EXPECT_EQ(read(refund_call(), answer).facts.retry_after_s, 7);
}

TEST(WechatError, AnErrorWhoseSignatureIsWrongSaysNothing) {
    for (const ErrorCase& error : error_cases()) {
        const HttpResponse answer =
            signed_response(error.status, error_body(error.code), {.name = "stranger"});
        for (const RefundCall& call : {refund_call(), query_call()}) {
            const AnswerFacts facts = read(call, answer).facts;
            EXPECT_EQ(facts.verdict, Verdict::unknown);
            EXPECT_EQ(facts.concern, Concern::unverifiable);
        }
    }
}

TEST(WechatError, OtherBodiesThanWechatsSayNothing) {
    for (const int status : {400, 401, 403, 404, 429, 500, 502}) {
        for (const std::string body :
             {"", "<html>404 Not Found</html>", "null", "{", "[\"RESOURCE_NOT_EXISTS\"]",
              R"({"code":["RESOURCE_NOT_EXISTS"]})", R"({"code":404})",
              R"({"code":"SYSTEM_ERROR","code":"RESOURCE_NOT_EXISTS"})",
              R"({"code":"RESOURCE_NOT_EXISTS ","message":""})"}) {
            EXPECT_EQ(read(query_call(), response(status, body)).facts.verdict, Verdict::unknown)
                << status << body;
        }
    }
}

TEST(WechatError, APersonReadsStatusCodeMessageAndNumber) {
    EXPECT_EQ(read(refund_call(), response(403, error_body("NOT_ENOUGH"))).error,
              "HTTP 403 NOT_ENOUGH: 余额不足 (Request-ID 08F0A5)");
    EXPECT_EQ(read(refund_call(), response(502, "<html>")).error,
              "HTTP 502: <html> (Request-ID 08F0A5)");
    HttpResponse bare = response(500, "");
    bare.headers.clear();
    EXPECT_EQ(read(refund_call(), bare).error, "HTTP 500");
    EXPECT_NE(read(refund_call(), response(401, error_body("SIGN_ERROR"))).error.find("serial_no"),
              std::string::npos);
    const std::string endless(100'000, '\x01');
    HttpResponse noisy = response(500, json({{"code", endless}, {"message", endless}}).dump());
    noisy.headers = {{"Request-ID", endless}};
    const std::string error = read(refund_call(), noisy).error;
    EXPECT_LE(error.size(), max_error_bytes);
    EXPECT_EQ(error, clean_text(error));
}

// ---- Notifications -----------------------------------------------------------------------------

json payment_content() {
    return json::parse(R"({
        "mchid": "1900000001", "appid": "wx1234567890abcdef", "out_trade_no": "P20260115",
        "transaction_id": "4200002026011500000000000001", "trade_state": "SUCCESS",
        "amount": {"total": 9999, "payer_total": 9500, "currency": "CNY"}})");
}

json refund_content() {
    return json::parse(R"({
        "mchid": "1900000001", "out_trade_no": "P20260115",
        "transaction_id": "4200002026011500000000000001", "out_refund_no": "P20260115-R1",
        "refund_id": "50000000382019052709732678859", "refund_status": "SUCCESS",
        "amount": {"total": 9999, "refund": 1299, "payer_total": 9999, "payer_refund": 1299}})");
}

json envelope(const std::string& event_type, const std::string& content,
              const std::string& key = api_v3_key) {
    return {{"id", "EV-1"},
            {"event_type", event_type},
            {"resource",
             {{"algorithm", "AEAD_AES_256_GCM"},
              {"associated_data", "transaction"},
              {"nonce", "fdasflkja484"},
              {"ciphertext", "b64." + key + "/fdasflkja484/transaction/" + content}}}};
}

Notice read_body(const std::string& body, const Gateway& gateway = usual_gateway()) {
    const std::vector<HttpHeader> headers = signed_headers(body);
    return gateway.read_notice({headers, body, now});
}

Notice read_payment(const json& content) {
    return read_body(envelope("TRANSACTION.SUCCESS", content.dump()).dump());
}

Notice read_refund(const json& content, const std::string& event_type = "REFUND.SUCCESS") {
    return read_body(envelope(event_type, content.dump()).dump());
}

TEST(WechatNotice, APaymentIsReadWhole) {
    const Notice notice = read_payment(payment_content());
    ASSERT_EQ(notice.kind, NoticeKind::payment) << notice.why;
    EXPECT_TRUE(notice.payment.success);
    EXPECT_EQ(notice.payment.payment_id, "P20260115");
    EXPECT_EQ(notice.payment.transaction_id, "4200002026011500000000000001");
    EXPECT_EQ(notice.payment.amount, 9999);
    EXPECT_EQ(notice.payment.currency, "CNY");
    EXPECT_EQ(notice.content, payment_content().dump());
}

TEST(WechatNotice, EachTradeStateHasItsMeaning) {
    for (const auto& [state, success] :
         std::map<std::string, std::optional<bool>>{{"SUCCESS", true},
                                                    {"REFUND", true},  // paid, and refunded since
                                                    {"PAYERROR", false},
                                                    {"CLOSED", false},
                                                    {"REVOKED", false},
                                                    {"NOTPAY", std::nullopt},
                                                    {"USERPAYING", std::nullopt}}) {
        json content = payment_content();
        content["trade_state"] = state;
        const Notice notice = read_payment(content);
        EXPECT_EQ(notice.kind, success ? NoticeKind::payment : NoticeKind::ignored) << state;
        EXPECT_EQ(notice.payment.success, success.value_or(false)) << state;
    }
}

// It may tell of money: not acknowledged, so that it comes again.
TEST(WechatNotice, AnUnknownTradeStateIsNotAcknowledged) {
    for (const char* state : {"success", "", "PAID"}) {
        json content = payment_content();
        content["trade_state"] = state;
        EXPECT_EQ(read_payment(content).kind, NoticeKind::unusable) << state;
    }
}

TEST(WechatNotice, AFailureNeedsNoAmount) {
    json content = payment_content();
    content["trade_state"] = "PAYERROR";
    content.erase("amount");
    content.erase("transaction_id");
    const Notice notice = read_payment(content);
    EXPECT_EQ(notice.kind, NoticeKind::payment);
    EXPECT_FALSE(notice.payment.success);
    EXPECT_EQ(notice.payment.amount, std::nullopt);
}

TEST(WechatNotice, ASuccessMustSayWhatArrived) {
    const std::vector<std::pair<std::string, json>> odd = {{"/amount/total", "9999"},
                                                           {"/amount/total", 9999.0},
                                                           {"/amount/total", 0},
                                                           {"/amount/total", -1},
                                                           {"/amount/total", nullptr},
                                                           {"/amount", 9999},
                                                           {"/amount/currency", 156},
                                                           {"/amount/currency", "CNYX"},
                                                           {"/amount/currency", ""},
                                                           {"/transaction_id", ""},
                                                           {"/transaction_id", 42},
                                                           {"/out_trade_no", ""},
                                                           {"/out_trade_no", 42},
                                                           {"/out_trade_no", "a\nb"},
                                                           {"/out_trade_no", std::string(65, 'a')}};
    for (const auto& [where, value] : odd) {
        json content = payment_content();
        content[json::json_pointer(where)] = value;
        EXPECT_EQ(read_payment(content).kind, NoticeKind::forged) << where << value;
    }
}

TEST(WechatNotice, OtherMerchantsAndAppsAreRefused) {
    const std::vector<std::pair<std::string, json>> others = {
        {"mchid", "1900000002"},         {"mchid", 1900000001}, {"mchid", ""},
        {"appid", "wxffffffffffffffff"}, {"appid", ""},         {"appid", nullptr}};
    for (const auto& [name, value] : others) {
        json content = payment_content();
        content[name] = value;
        EXPECT_EQ(read_payment(content).kind, NoticeKind::forged) << name << value;
    }
    json content = refund_content();
    content["mchid"] = "1900000002";
    EXPECT_EQ(read_refund(content).kind, NoticeKind::forged);
}

TEST(WechatNotice, TheAppidMayBeOneOfSeveralOrOfNoInterest) {
    json content = payment_content();
    content["appid"] = "wx2";
    const std::string body = envelope("TRANSACTION.SUCCESS", content.dump()).dump();
    const auto several = open(usual_options_but({{"appid", "wx1 , wx2"}}));
    EXPECT_EQ(read_body(body, *several).kind, NoticeKind::payment);
    const auto any = open(usual_options_but({{"appid", ""}}));
    EXPECT_EQ(read_body(body, *any).kind, NoticeKind::payment);
}

TEST(WechatNotice, ARefundIsReadWhole) {
    const Notice notice = read_refund(refund_content());
    ASSERT_EQ(notice.kind, NoticeKind::refund) << notice.why;
    EXPECT_EQ(notice.refund.refund_no, "P20260115-R1");
    EXPECT_EQ(notice.refund.verdict, Verdict::succeeded);
    EXPECT_EQ(notice.refund.amount, 1299);
    EXPECT_EQ(notice.refund.refund_id, "50000000382019052709732678859");
    EXPECT_EQ(notice.refund.error, "");
    EXPECT_EQ(notice.content, refund_content().dump());
}

TEST(WechatNotice, ARefundIsWhatEventAndStatusBothSay) {
    const std::map<std::string, Verdict> verdicts = {{"SUCCESS", Verdict::succeeded},
                                                     {"CLOSED", Verdict::failed},
                                                     {"ABNORMAL", Verdict::abnormal},
                                                     {"PROCESSING", Verdict::processing}};
    for (const auto& [event, unused] : verdicts) {
        for (const auto& [status, verdict] : verdicts) {
            json content = refund_content();
            content["refund_status"] = status;
            const Notice notice = read_refund(content, "REFUND." + event);
            ASSERT_EQ(notice.kind, NoticeKind::refund);
            EXPECT_EQ(notice.refund.verdict, event == status ? verdict : Verdict::unknown)
                << event << status;
        }
    }
    for (const json& odd : {json(""), json(nullptr), json("SUCCESS ")}) {
        json content = refund_content();
        content["refund_status"] = odd;
        EXPECT_EQ(read_refund(content).refund.verdict, Verdict::unknown) << odd;
    }
}

TEST(WechatNotice, ARefundWithoutAnAmountIsAskedAbout) {
    for (const json& odd : {json("1299"), json(1299.0), json(nullptr)}) {
        json content = refund_content();
        content["amount"]["refund"] = odd;
        const Notice notice = read_refund(content);
        EXPECT_EQ(notice.kind, NoticeKind::refund);
        EXPECT_EQ(notice.refund.verdict, Verdict::unknown) << odd;
    }
}

TEST(WechatNotice, ARefundWithoutANumberIsRefused) {
    for (const json& odd : {json(""), json(7), json(nullptr), json(std::string(65, 'a'))}) {
        json content = refund_content();
        content["out_refund_no"] = odd;
        EXPECT_EQ(read_refund(content).kind, NoticeKind::forged) << odd;
    }
}

TEST(WechatNotice, OtherEventsAreIgnored) {
    for (const char* event :
         {"TRANSACTION.PAY_BACK", "COUPON.USE", "REFUND.SOMETHING", "transaction.success"}) {
        const Notice notice = read_body(envelope(event, payment_content().dump()).dump());
        EXPECT_EQ(notice.kind, NoticeKind::ignored) << event;
        EXPECT_NE(notice.why.find(event), std::string::npos);
    }
}

TEST(WechatNotice, WithoutTheKeyItIsUnusableButOnlyIfGenuine) {
    const auto gateway = open(usual_options_but({{"api_v3_key", ""}}));
    const std::string body = envelope("TRANSACTION.SUCCESS", payment_content().dump()).dump();
    EXPECT_EQ(read_body(body, *gateway).kind, NoticeKind::unusable);
    const std::vector<HttpHeader> headers = signed_headers(body, {.name = "stranger"});
    EXPECT_EQ(gateway->read_notice({headers, body, now}).kind, NoticeKind::forged);
}

TEST(WechatNotice, WhatDoesNotDecryptIsRefused) {
    const std::string content = payment_content().dump();
    std::vector<json> cases = {
        envelope("TRANSACTION.SUCCESS", content, "another key of 32 bytes: no key."),
        envelope("TRANSACTION.SUCCESS", ""), envelope("TRANSACTION.SUCCESS", "no JSON"),
        envelope("TRANSACTION.SUCCESS", content + content)};
    for (const auto& [name, value] :
         std::vector<std::pair<std::string, json>>{{"algorithm", "AEAD_SM4_GCM"},
                                                   {"algorithm", nullptr},
                                                   {"associated_data", "refund"},
                                                   {"associated_data", 7},
                                                   {"nonce", "another"},
                                                   {"nonce", nullptr},
                                                   {"ciphertext", "no base64"},
                                                   {"ciphertext", nullptr}}) {
        json changed = envelope("TRANSACTION.SUCCESS", content);
        changed["resource"][name] = value;
        cases.push_back(changed);
    }
    json without = envelope("TRANSACTION.SUCCESS", content);
    without["resource"] = "nothing";
    cases.push_back(without);
    for (const json& one : cases) {
        const Notice notice = read_body(one.dump());
        EXPECT_EQ(notice.kind, NoticeKind::forged) << one;
        EXPECT_TRUE(notice.why.starts_with("it verifies, but")) << notice.why;
        EXPECT_EQ(notice.why.find(api_v3_key), std::string::npos);
    }
}

TEST(WechatNotice, AssociatedDataMayBeAbsent) {
    for (const bool is_null : {true, false}) {
        json one = envelope("TRANSACTION.SUCCESS", "");
        one["resource"]["ciphertext"] =
            "b64." + api_v3_key + "/fdasflkja484//" + payment_content().dump();
        one["resource"].erase("associated_data");
        if (is_null) {
            one["resource"]["associated_data"] = nullptr;
        }
        EXPECT_EQ(read_body(one.dump()).kind, NoticeKind::payment);
    }
}

TEST(WechatNotice, WhatIsNotSignedByWechatIsForged) {
    const std::string body = envelope("TRANSACTION.SUCCESS", payment_content().dump()).dump();
    const std::vector<Signer> signers = {{.name = "stranger"},
                                         {.name = "merchant"},
                                         {.serial = "PUB_KEY_ID_9"},
                                         {.name = "old", .serial = "AABBCC"},
                                         {.timestamp = std::to_string(now - 300)},
                                         {.timestamp = std::to_string(now + 300)},
                                         {.nonce = "two\nlines"},
                                         {.nonce = ""}};
    for (const Signer& signer : signers) {
        const std::vector<HttpHeader> headers = signed_headers(body, signer);
        const Notice notice = usual_gateway().read_notice({headers, body, now});
        EXPECT_EQ(notice.kind, NoticeKind::forged);
        EXPECT_FALSE(notice.why.empty());
        EXPECT_EQ(notice.content, "");
    }
    const std::vector<HttpHeader> none;
    EXPECT_EQ(usual_gateway().read_notice({none, body, now}).kind, NoticeKind::forged);
}

TEST(WechatNotice, ABodyOfNoSaneSizeIsForged) {
    EXPECT_EQ(read_body(std::string(256UL * 1024 + 1, ' ')).why, "its body is larger than 256 KiB");
}

// Signed or not, no part of a notification is news of money.
TEST(WechatNotice, PartsOfANotificationAreNoNews) {
    const std::string content = refund_content().dump();
    for (std::size_t size = 0; size < content.size(); ++size) {
        const std::string body = envelope("REFUND.SUCCESS", content.substr(0, size)).dump();
        EXPECT_EQ(read_body(body).kind, NoticeKind::forged) << size;
    }
    const std::string whole = envelope("REFUND.SUCCESS", content).dump();
    for (std::size_t size = 0; size < whole.size(); ++size) {
        EXPECT_EQ(read_body(whole.substr(0, size)).kind, NoticeKind::forged) << size;
    }
    const std::string twice = content.substr(0, content.size() - 1) + R"(,"mchid":"1900000001"})";
    EXPECT_EQ(read_body(envelope("REFUND.SUCCESS", twice).dump()).kind, NoticeKind::forged);
}

TEST(WechatNotice, WhatAPersonReadsIsBoundedAndClean) {
    json content = payment_content();
    content["attach"] = std::string(5000, 'a');
    const Notice notice = read_payment(content);
    ASSERT_EQ(notice.kind, NoticeKind::payment);
    EXPECT_EQ(notice.content.size(), 2000U);
}

TEST(WechatNotice, RepliesAreWechats) {
    const NoticeReply accepted = usual_gateway().reply(ReplyKind::accepted);
    EXPECT_EQ(accepted.http_status, 200);
    EXPECT_EQ(accepted.content_type, "application/json");
    EXPECT_EQ(accepted.body, R"({"code":"SUCCESS","message":"OK"})");
    const NoticeReply refused = usual_gateway().reply(ReplyKind::refused);
    EXPECT_EQ(refused.http_status, 400);
    EXPECT_EQ(refused.body, R"({"code":"FAIL","message":"refused"})");
    const NoticeReply failed = usual_gateway().reply(ReplyKind::failed);
    EXPECT_EQ(failed.http_status, 500);
    EXPECT_EQ(failed.body, R"({"code":"FAIL","message":"try again"})");
}

}  // namespace
}  // namespace payonce::core
