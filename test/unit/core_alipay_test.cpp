// The Alipay driver: what is sent, exactly, what each answer and notice means, and which options
// are refused. A wrong "succeeded" keeps a customer's money; a wrong "not found" or "wait" sends it
// twice. The cryptography is a fake; net_alipay_vectors_test has the real one.
#include "core/gateways/alipay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/form.h"
#include "core/gateways/alipay_text.h"
#include "core/json_library.h"
#include "core/signed_node.h"
#include "core/text.h"
#include "core/yuan.h"

namespace payonce::core {
namespace {

using nlohmann::json;

constexpr std::int64_t now_unix_s = 1768443630;  // 2026-01-15 10:20:30 in Beijing

std::string signature_by(const std::string& key, std::string_view message) {
    return key + "/" + std::to_string(std::hash<std::string_view>()(message));
}

class FakeSigningKey final : public SigningKey {
  public:
    explicit FakeSigningKey(std::string name) : name_(std::move(name)) {}
    std::optional<std::string> sign_sha256(std::string_view message) const override {
        return name_ == "broken" ? std::nullopt : std::optional(signature_by(name_, message));
    }
    std::string public_der() const override { return "der of " + name_; }

  private:
    std::string name_;
};

class FakeVerifyingKey final : public VerifyingKey {
  public:
    explicit FakeVerifyingKey(std::string name) : name_(std::move(name)) {}
    bool verify_sha256(std::string_view message,
                       std::string_view signature) const noexcept override {
        return signature == signature_by(name_, message);
    }
    std::string public_der() const override { return "der of " + name_; }

  private:
    std::string name_;
};

struct CertificateSpec {
    std::string subject;
    std::string issuer;
    std::string serial;
    std::string key;
    bool rsa_signed = true;
    std::int64_t not_after_unix_s = now_unix_s;
};

class FakeCertificate final : public Certificate {
  public:
    explicit FakeCertificate(CertificateSpec made) : spec(std::move(made)) {}
    std::unique_ptr<VerifyingKey> public_key() const override {
        return spec.key.empty() ? nullptr : std::make_unique<FakeVerifyingKey>(spec.key);
    }
    std::string issuer() const override { return spec.issuer; }
    std::string serial_decimal() const override { return spec.serial; }
    std::string serial_hex() const override { return {}; }
    bool is_rsa_signed() const override { return spec.rsa_signed; }
    std::int64_t not_after_unix_s() const override { return spec.not_after_unix_s; }

    CertificateSpec spec;
};

// Key texts are "private:NAME" and "public:NAME"; a bundle is names of certificates joined by '+';
// base64 is hexadecimal.
class FakeCrypto final : public CryptoPort {
  public:
    std::optional<std::string> hmac_sha256(std::string_view, std::string_view) const override {
        return std::nullopt;
    }
    std::string base64_encode(std::string_view bytes) const override {
        constexpr std::string_view digits = "0123456789abcdef";
        std::string text;
        for (const char c : bytes) {
            const auto byte = static_cast<unsigned char>(c);
            text += digits[byte / 16];
            text += digits[byte % 16];
        }
        return text;
    }
    std::optional<std::string> base64_decode(std::string_view text) const override {
        constexpr std::string_view digits = "0123456789abcdef";
        std::string bytes;
        for (std::size_t at = 0; at + 1 < text.size(); at += 2) {
            const std::size_t high = digits.find(text[at]);
            const std::size_t low = digits.find(text[at + 1]);
            if (high == std::string_view::npos || low == std::string_view::npos) {
                return std::nullopt;
            }
            bytes += static_cast<char>(high * 16 + low);
        }
        return text.size() % 2 == 0 ? std::optional(bytes) : std::nullopt;
    }
    std::optional<std::string> md5_hex(std::string_view bytes) const override {
        return md5_fails ? std::nullopt : std::optional("md5(" + std::string(bytes) + ")");
    }
    std::unique_ptr<SigningKey> parse_private_key(std::string_view text) const override {
        return text.starts_with("private:")
                   ? std::make_unique<FakeSigningKey>(std::string(text.substr(8)))
                   : nullptr;
    }
    std::unique_ptr<VerifyingKey> parse_public_key(std::string_view text) const override {
        return text.starts_with("public:")
                   ? std::make_unique<FakeVerifyingKey>(std::string(text.substr(7)))
                   : nullptr;
    }
    Certificates parse_certificates(std::string_view pem) const override {
        Certificates found;
        while (!pem.empty()) {
            const std::size_t end = std::min(pem.find('+'), pem.size());
            const auto spec = certificates.find(std::string(pem.substr(0, end)));
            if (spec == certificates.end()) {
                return {};
            }
            found.push_back(std::make_unique<FakeCertificate>(spec->second));
            pem.remove_prefix(std::min(end + 1, pem.size()));
        }
        return found;
    }
    bool is_issued_by(const Certificate& certificate,
                      std::span<const std::unique_ptr<Certificate>> roots) const override {
        return std::any_of(roots.begin(), roots.end(), [&](const auto& root) {
            return static_cast<const FakeCertificate&>(*root).spec.subject == certificate.issuer();
        });
    }
    std::optional<std::string> open_aes_256_gcm(std::string_view, std::string_view,
                                                std::string_view, std::string_view) const override {
        return std::nullopt;
    }

    bool md5_fails = false;
    std::map<std::string, CertificateSpec> certificates = {
        {"app", {"app", "root", "1", "us"}},
        {"app_of_another", {"app", "root", "1", "another"}},
        {"alipay", {"alipay", "root", "2", "alipay"}},
        {"alipay_below", {"alipay", "middle", "3", "alipay"}},
        {"middle", {"middle", "root", "4", "middle"}},
        {"rogue_middle", {"middle", "rogue", "4", "middle"}},
        {"rogue", {"alipay", "rogue", "2", "alipay"}},
        {"elliptic", {"alipay", "root", "5", ""}},
        {"root", {"root", "root", "10", "root"}},
        {"root_ec", {"root", "root", "11", "", false}},
        {"root_2", {"root2", "root2", "12", "root2"}},
    };
};

const FakeCrypto& crypto() {
    static const FakeCrypto one;
    return one;
}

using Settings = std::map<std::string, std::string>;

Settings key_mode() {
    return {{"url", "https://openapi.alipay.com/gateway.do"},
            {"app_id", "2021000000000001"},
            {"private_key", "private:us"},
            {"alipay_public_key", "public:alipay"}};
}

Settings certificate_mode() {
    Settings settings = key_mode();
    settings.erase("alipay_public_key");
    settings["app_cert"] = "app";
    settings["alipay_cert"] = "alipay";
    settings["alipay_root_cert"] = "root+root_ec+root_2";
    return settings;
}

OpenedGateway open(const Settings& settings, const CryptoPort& port = crypto()) {
    GatewayOptions options;
    for (const auto& [name, value] : settings) {
        options.set(name, value);
    }
    return alipay_driver.open(options, port);
}

std::unique_ptr<Gateway> opened(const Settings& settings) {
    OpenedGateway made = open(settings);
    EXPECT_NE(made.gateway, nullptr) << made.problem.option << ": " << made.problem.detail;
    return std::move(made.gateway);
}

RefundCall call_of(CallKind kind) {
    RefundCall call;
    call.kind = kind;
    call.refund_no = "P1-R1";
    call.payment_id = "P1";
    call.order_id = "order-1";
    call.transaction_id = "2026011522001400000000000001";
    call.amount = 1299;
    call.payment_amount = 9999;
    call.currency = "CNY";
    call.reason = "duplicate";
    return call;
}

// ---- what is sent

FormFields sent(const Gateway& gateway, const RefundCall& call) {
    const BuiltRequest built = gateway.build(call, {now_unix_s, "n"});
    const auto* request = std::get_if<HttpRequest>(&built);
    if (request == nullptr) {
        ADD_FAILURE() << std::get<GatewayAnswer>(built).error;
        return {};
    }
    EXPECT_EQ(request->method, HttpMethod::post);
    EXPECT_EQ(request->url, "https://openapi.alipay.com/gateway.do");
    EXPECT_EQ(header_value(request->headers, "content-type"),
              "application/x-www-form-urlencoded;charset=utf-8");
    return read_form(request->body).value_or(FormFields());
}

GatewayAnswer refused(const Gateway& gateway, const RefundCall& call) {
    const BuiltRequest built = gateway.build(call, {now_unix_s, "n"});
    const auto* answer = std::get_if<GatewayAnswer>(&built);
    if (answer == nullptr) {
        ADD_FAILURE() << "it was built";
        return {};
    }
    return *answer;
}

std::map<std::string, std::string> as_map(const FormFields& fields) {
    return {fields.begin(), fields.end()};
}

TEST(AlipayBuild, RefundIsExactlyThis) {
    const auto gateway = opened(key_mode());
    const FormFields fields = sent(*gateway, call_of(CallKind::refund));
    const std::string content =
        R"({"out_request_no":"P1-R1","refund_amount":"12.99","refund_reason":"订单重复支付",)"
        R"("trade_no":"2026011522001400000000000001"})";
    const std::string text = "app_id=2021000000000001&biz_content=" + content +
                             "&charset=utf-8&format=JSON&method=alipay.trade.refund"
                             "&sign_type=RSA2&timestamp=2026-01-15 10:20:30&version=1.0";
    const std::map<std::string, std::string> expected = {
        {"app_id", "2021000000000001"},
        {"biz_content", content},
        {"charset", "utf-8"},
        {"format", "JSON"},
        {"method", "alipay.trade.refund"},
        {"sign", crypto().base64_encode(signature_by("us", text))},
        {"sign_type", "RSA2"},
        {"timestamp", "2026-01-15 10:20:30"},
        {"version", "1.0"},
    };
    EXPECT_EQ(as_map(fields), expected);
}

TEST(AlipayBuild, QueryNamesTradeAndNumberOnly) {
    const auto gateway = opened(key_mode());
    RefundCall call = call_of(CallKind::query);
    EXPECT_EQ(form_value(sent(*gateway, call), "biz_content"),
              R"({"out_request_no":"P1-R1","trade_no":"2026011522001400000000000001"})");
    EXPECT_EQ(form_value(sent(*gateway, call), "method"), "alipay.trade.fastpay.refund.query");
    call.transaction_id = "";
    EXPECT_EQ(form_value(sent(*gateway, call), "biz_content"),
              R"({"out_request_no":"P1-R1","out_trade_no":"P1"})");
}

TEST(AlipayBuild, WithoutTradeNumberTheMerchantsIsSent) {
    const auto gateway = opened(key_mode());
    RefundCall call = call_of(CallKind::refund);
    call.transaction_id = "";
    const json content = json::parse(form_value(sent(*gateway, call), "biz_content"));
    EXPECT_EQ(content.value("out_trade_no", ""), "P1");
    EXPECT_FALSE(content.contains("trade_no"));
}

TEST(AlipayBuild, EachReasonHasItsText) {
    const auto gateway = opened(key_mode());
    std::set<std::string> texts;
    for (const char* reason : {"duplicate", "late", "mismatch", "request"}) {
        RefundCall call = call_of(CallKind::refund);
        call.reason = reason;
        const json content = json::parse(form_value(sent(*gateway, call), "biz_content"));
        texts.insert(content.value("refund_reason", ""));
    }
    EXPECT_EQ(texts,
              (std::set<std::string>{"订单重复支付", "订单已关闭", "支付金额不符", "商家退款"}));
}

TEST(AlipayBuild, CertificateModeNamesItsCertificates) {
    const auto gateway = opened(certificate_mode());
    const FormFields fields = sent(*gateway, call_of(CallKind::refund));
    EXPECT_EQ(form_value(fields, "app_cert_sn"), "md5(root1)");
    EXPECT_EQ(form_value(fields, "alipay_root_cert_sn"), "md5(root10)_md5(root212)");
    FormFields covered = fields;
    std::erase_if(covered, [](const auto& field) { return field.first == "sign"; });
    const std::string text = alipay::signed_text(covered, alipay::EmptyValues::kept);
    EXPECT_NE(text.find("app_cert_sn="), std::string::npos);
    EXPECT_EQ(form_value(fields, "sign"), crypto().base64_encode(signature_by("us", text)));
}

TEST(AlipayBuild, WhatAlipayCannotTakeIsNotSent) {
    const auto gateway = opened(key_mode());
    using Change = std::function<void(RefundCall&)>;
    const std::vector<std::pair<const char*, Change>> changes = {
        {"currency", [](RefundCall& call) { call.currency = "USD"; }},
        {"no currency", [](RefundCall& call) { call.currency = ""; }},
        {"zero", [](RefundCall& call) { call.amount = 0; }},
        {"negative", [](RefundCall& call) { call.amount = -1; }},
        {"refund_no", [](RefundCall& call) { call.refund_no = "P|1-R1"; }},
        {"no refund_no", [](RefundCall& call) { call.refund_no = ""; }},
        {"refund_no in UTF-8", [](RefundCall& call) { call.refund_no = "单-R1"; }},
        {"trade_no", [](RefundCall& call) { call.transaction_id = "2026 01"; }},
        {"hyphen",
         [](RefundCall& call) {
             call.transaction_id = "";
             call.payment_id = "P-1";
         }},
    };
    for (const CallKind kind : {CallKind::refund, CallKind::query}) {
        for (const auto& [name, change] : changes) {
            RefundCall call = call_of(kind);
            change(call);
            const GatewayAnswer answer = refused(*gateway, call);
            EXPECT_EQ(answer.facts.verdict, Verdict::rejected) << name;
            EXPECT_FALSE(answer.error.empty()) << name;
        }
    }
    const std::string longest(64, 'P');
    const std::string too_long(65, 'P');
    RefundCall call = call_of(CallKind::refund);
    call.refund_no = longest;
    sent(*gateway, call);
    call.refund_no = too_long;
    EXPECT_EQ(refused(*gateway, call).facts.verdict, Verdict::rejected);
}

TEST(AlipayBuild, AHyphenInThePaymentIdIsFineWithTheTradeNumber) {
    const auto gateway = opened(key_mode());
    RefundCall call = call_of(CallKind::refund);
    call.payment_id = "P-1";
    EXPECT_FALSE(sent(*gateway, call).empty());
}

TEST(AlipayBuild, NothingIsSentUnsigned) {
    Settings settings = key_mode();
    settings["private_key"] = "private:broken";
    EXPECT_EQ(refused(*opened(settings), call_of(CallKind::refund)).facts.verdict,
              Verdict::not_sent);
}

// ---- answers

HttpResponse response_of(std::string body, int status = 200) {
    HttpResponse response;
    response.delivery = Delivery::answered;
    response.status = status;
    response.body = std::move(body);
    return response;
}

std::string name_of_node(CallKind kind) {
    return kind == CallKind::refund ? "alipay_trade_refund_response"
                                    : "alipay_trade_fastpay_refund_query_response";
}

std::string signed_answer(CallKind kind, const std::string& node,
                          const std::string& key = "alipay") {
    return "{\"" + name_of_node(kind) + "\":" + node + ",\"sign\":\"" +
           crypto().base64_encode(signature_by(key, node)) + "\"}";
}

GatewayAnswer read(CallKind kind, const std::string& body, const Settings& settings = key_mode()) {
    return opened(settings)->read_answer(call_of(kind), response_of(body), now_unix_s);
}

GatewayAnswer read_node(CallKind kind, const std::string& node) {
    return read(kind, signed_answer(kind, node));
}

std::string error_node(const std::string& code, const std::string& sub_code) {
    return R"({"code":")" + code + R"(","msg":"Failed","sub_code":")" + sub_code +
           R"(","sub_msg":"因为"})";
}

const std::string refunded_node =
    R"({"code":"10000","msg":"Success","fund_change":"Y","out_trade_no":"P1","refund_fee":"50.00",)"
    R"("trade_no":"2026011522001400000000000001"})";
const std::string found_node =
    R"({"code":"10000","msg":"Success","out_request_no":"P1-R1","out_trade_no":"P1",)"
    R"("refund_amount":"12.99","refund_status":"REFUND_SUCCESS","total_amount":"99.99",)"
    R"("trade_no":"2026011522001400000000000001"})";

std::string replaced(std::string text, std::string_view from, std::string_view to) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

TEST(AlipayAnswer, OnlyMovedMoneyIsSuccess) {
    EXPECT_EQ(read_node(CallKind::refund, refunded_node).facts.verdict, Verdict::succeeded);
    for (const char* change :
         {R"("fund_change":"N")", R"("fund_change":"y")", R"("fund_change":"")",
          R"("fund_change":true)", R"("fund_change":null)", R"("x":"Y")"}) {
        const GatewayAnswer answer =
            read_node(CallKind::refund, replaced(refunded_node, R"("fund_change":"Y")", change));
        EXPECT_EQ(answer.facts.verdict, Verdict::unknown) << change;
        EXPECT_EQ(answer.facts.concern, Concern::none) << change;
    }
}

TEST(AlipayAnswer, AnotherTradesAnswerIsUnknown) {
    for (const auto& [kind, node] :
         {std::pair{CallKind::refund, refunded_node}, std::pair{CallKind::query, found_node}}) {
        EXPECT_EQ(read_node(kind, replaced(node, R"("P1")", R"("P2")")).facts.verdict,
                  Verdict::unknown);
        EXPECT_EQ(read_node(kind, replaced(node, R"("P1")", "1")).facts.verdict, Verdict::unknown);
        EXPECT_EQ(read_node(kind, replaced(node, "0001\"", "0002\"")).facts.verdict,
                  Verdict::unknown);
        // Not said is not another.
        EXPECT_EQ(read_node(kind, replaced(node, R"("P1")", R"("")")).facts.verdict,
                  Verdict::succeeded);
        EXPECT_EQ(read_node(kind, replaced(node, "trade_no", "other")).facts.verdict,
                  Verdict::succeeded);
    }
    EXPECT_EQ(read_node(CallKind::query, replaced(found_node, "P1-R1", "P1-R2")).facts.verdict,
              Verdict::unknown);
    // Also when it says that nothing was found.
    EXPECT_EQ(
        read_node(CallKind::query, R"({"code":"10000","out_request_no":"P1-R2"})").facts.verdict,
        Verdict::unknown);
}

TEST(AlipayAnswer, QuerySucceedsOnlyWithTheSameAmount) {
    EXPECT_EQ(read_node(CallKind::query, found_node).facts.verdict, Verdict::succeeded);
    const auto with_amount = [](const char* amount) {
        return read_node(CallKind::query, replaced(found_node, R"("12.99")", amount)).facts.verdict;
    };
    EXPECT_EQ(with_amount(R"("12.98")"), Verdict::abnormal);
    EXPECT_EQ(with_amount(R"("1299")"), Verdict::abnormal);
    EXPECT_EQ(with_amount(R"("12.990")"), Verdict::unknown);
    EXPECT_EQ(with_amount("12.99"), Verdict::unknown);
    EXPECT_EQ(with_amount(R"("")"), Verdict::unknown);
    EXPECT_EQ(read_node(CallKind::query, replaced(found_node, "refund_amount", "x")).facts.verdict,
              Verdict::unknown);
}

TEST(AlipayAnswer, QueryWithoutStatusFindsNothing) {
    EXPECT_EQ(read_node(CallKind::query, R"({"code":"10000","msg":"Success"})").facts.verdict,
              Verdict::not_found);
    // What old integrations took for success.
    EXPECT_EQ(read_node(CallKind::query, replaced(found_node, "refund_status", "x")).facts.verdict,
              Verdict::not_found);
    for (const char* status :
         {R"("REFUND_PROCESSING")", R"("REFUND_FAIL")", R"("")", "null", "1"}) {
        EXPECT_EQ(read_node(CallKind::query, replaced(found_node, R"("REFUND_SUCCESS")", status))
                      .facts.verdict,
                  Verdict::unknown)
            << status;
    }
}

TEST(AlipayAnswer, NotFoundNeverAnswersARefund) {
    for (const std::string code : {"10000", "10003", "20000", "40004", "40005", "x"}) {
        EXPECT_NE(read_node(CallKind::refund, R"({"code":")" + code + "\"}").facts.verdict,
                  Verdict::not_found);
    }
}

constexpr const char* refusals[] = {
    "REASON_TRADE_BEEN_FREEZEN",
    "TRADE_SETTLE_ERROR",
    "REFUNDALLOC_UNAUTH_LIMIT",
    "CUSTOMER_VALIDATE_ERROR",
    "OVERDRAFT_AGREEMENT_NOT_MATCH",
    "OVERDRAFT_ASSIGN_ACCOUNT_INVALID",
    "ENTERPRISE_PAY_BIZ_ERROR",
    "TRADE_HAS_CLOSE",
    "REASON_TRADE_REFUND_FEE_ERR",
    "DISCORDANT_REPEAT_REQUEST",
    "TRADE_STATUS_ERROR",
    "REASON_TRADE_STATUS_INVALID",
    "TRADE_NOT_ALLOW_REFUND",
    "REFUND_AMT_NOT_EQUAL_TOTAL",
    "INVALID_PARAMETER",
    "TRADE_NOT_EXIST",
    "TRADE_HAS_FINISHED",
    "REFUND_FEE_ERROR",
    "NOT_ALLOW_PARTIAL_REFUND",
    "ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND",
    "CURRENCY_NOT_SUPPORT",
    "ALLOC_AMOUNT_VALIDATE_ERROR",
    "USER_NOT_MATCH_ERR",
    "REFUND_ROYALTY_PAYEE_ACCOUNT_NOT_EXIST",
    "BUYER_NOT_EXIST",
    "BUYER_ENABLE_STATUS_FORBID",
    "BUYER_ERROR",
    "REFUND_ACCOUNT_NOT_EXIST",
};

TEST(AlipayAnswer, RefusalsAreConfirmedByAQuery) {
    for (const std::string name : refusals) {
        const GatewayAnswer answer =
            read_node(CallKind::refund, error_node("40004", "ACQ." + name));
        EXPECT_EQ(answer.facts.verdict, Verdict::rejected) << name;
        EXPECT_TRUE(answer.facts.confirm) << name;
        EXPECT_FALSE(answer.facts.slow_down) << name;
        EXPECT_EQ(answer.error, "40004 ACQ." + name + ": 因为");
    }
}

TEST(AlipayAnswer, WhatIsNotListedIsUnknown) {
    for (const std::string sub_code :
         {"ACQ.SYSTEM_ERROR", "aop.ACQ.SYSTEM_ERROR", "ACQ.REFUND_CHARGE_ERROR", "ACQ.NEW_ONE", "",
          "TRADE_NOT_EXIST", "acq.trade_not_exist", "isv.invalid-signature"}) {
        for (const CallKind kind : {CallKind::refund, CallKind::query}) {
            const GatewayAnswer answer = read_node(kind, error_node("40004", sub_code));
            EXPECT_EQ(answer.facts.verdict, Verdict::unknown) << sub_code;
            EXPECT_FALSE(answer.error.empty());
        }
    }
    for (const std::string code : {"20000", "10003", "", "4000", "400040", "50000"}) {
        for (const CallKind kind : {CallKind::refund, CallKind::query}) {
            EXPECT_EQ(read_node(kind, error_node(code, "ACQ.TRADE_NOT_EXIST")).facts.verdict,
                      Verdict::unknown)
                << code;
        }
    }
    EXPECT_EQ(read_node(CallKind::refund, R"({"code":10000,"fund_change":"Y"})").facts.verdict,
              Verdict::unknown);
    EXPECT_EQ(read_node(CallKind::refund, R"({"fund_change":"Y"})").facts.verdict,
              Verdict::unknown);
}

TEST(AlipayAnswer, ABalanceTooSmallWaitsAndIsShown) {
    const GatewayAnswer answer =
        read_node(CallKind::refund, error_node("40004", "ACQ.SELLER_BALANCE_NOT_ENOUGH"));
    EXPECT_EQ(answer.facts.verdict, Verdict::wait);
    EXPECT_EQ(answer.facts.concern, Concern::balance);
    EXPECT_TRUE(answer.facts.slow_down);
    EXPECT_EQ(answer.error, "40004 ACQ.SELLER_BALANCE_NOT_ENOUGH: 因为");
}

TEST(AlipayAnswer, QueryOfAnUnknownTradeIsRefused) {
    for (const std::string name : refusals) {
        const bool permanent = name == "TRADE_NOT_EXIST" || name == "INVALID_PARAMETER";
        EXPECT_EQ(read_node(CallKind::query, error_node("40004", "ACQ." + name)).facts.verdict,
                  permanent ? Verdict::rejected : Verdict::unknown)
            << name;
    }
    EXPECT_EQ(read_node(CallKind::query, error_node("40004", "ACQ.SELLER_BALANCE_NOT_ENOUGH"))
                  .facts.verdict,
              Verdict::unknown);
}

TEST(AlipayAnswer, ConfigurationErrorsSayWhatToCheck) {
    const std::vector<std::array<std::string, 3>> errors = {
        {"40002", "isv.invalid-signature", "check private_key"},
        {"40002", "isv.invalid-timestamp", "check this host's clock"},
        {"40002", "isv.invalid-app-id", "check app_id"},
        {"40001", "isv.missing-app-cert-sn", "check app_cert"},
        {"40001", "isv.missing-method", "check app_id, private_key and url"},
        {"40003", "isv.other", "check app_id, private_key and url"},
        {"40006", "isv.insufficient-isv-permissions", "no right to refund"},
        {"20001", "aop.invalid-auth-token", "authorisation token"},
    };
    for (const CallKind kind : {CallKind::refund, CallKind::query}) {
        for (const auto& [code, sub_code, words] : errors) {
            const std::string node = error_node(code, sub_code);
            for (const std::string& body :
                 {signed_answer(kind, node), R"({"error_response":)" + node + "}"}) {
                const GatewayAnswer answer = read(kind, body);
                EXPECT_EQ(answer.facts.verdict, Verdict::rejected) << body;
                EXPECT_FALSE(answer.facts.confirm) << body;
                EXPECT_TRUE(answer.facts.slow_down) << body;
                EXPECT_TRUE(answer.error.starts_with(code + " " + sub_code + ": 因为; "))
                    << answer.error;
                EXPECT_NE(answer.error.find(words), std::string::npos) << answer.error;
            }
        }
    }
}

TEST(AlipayAnswer, LimitedCallsWait) {
    for (const CallKind kind : {CallKind::refund, CallKind::query}) {
        const std::string node = error_node("40005", "isv.app-call-limited");
        for (const std::string& body :
             {signed_answer(kind, node), R"({"error_response":)" + node + "}"}) {
            const GatewayAnswer answer = read(kind, body);
            EXPECT_EQ(answer.facts.verdict, Verdict::wait);
            EXPECT_TRUE(answer.facts.slow_down);
            EXPECT_EQ(answer.facts.concern, Concern::none);
        }
    }
}

TEST(AlipayAnswer, AnUnsignedErrorResponseSettlesNothing) {
    for (const CallKind kind : {CallKind::refund, CallKind::query}) {
        for (const std::string& node :
             {refunded_node, found_node, error_node("40004", "ACQ.TRADE_NOT_EXIST"),
              error_node("20000", "isp.unknow-error"), std::string("{}")}) {
            EXPECT_EQ(read(kind, R"({"error_response":)" + node + "}").facts.verdict,
                      Verdict::unknown)
                << node;
        }
    }
}

TEST(AlipayAnswer, WhatCannotBeVerifiedIsUnknownAndShown) {
    for (const auto& [kind, node] :
         {std::pair{CallKind::refund, refunded_node}, std::pair{CallKind::query, found_node}}) {
        const std::string good = signed_answer(kind, node);
        const std::string bare = "{\"" + name_of_node(kind) + "\":" + node;
        for (const std::string& body : {
                 signed_answer(kind, node, "stranger"),
                 signed_answer(kind, node, "us"),
                 replaced(good, "Success", "success"),
                 bare + "}",
                 bare + R"(,"sign":""})",
                 bare + R"(,"sign":null})",
                 bare + R"(,"sign":"not base64"})",
                 // Signed for a blank that the text has not.
                 replaced(good, R"("msg":"Success")", R"("msg": "Success")"),
             }) {
            const GatewayAnswer answer = read(kind, body);
            EXPECT_EQ(answer.facts.verdict, Verdict::unknown) << body;
            EXPECT_EQ(answer.facts.concern, Concern::unverifiable) << body;
            EXPECT_NE(answer.error.find("It says: 10000"), std::string::npos) << answer.error;
        }
    }
}

TEST(AlipayAnswer, UnreadableAnswersAreUnknown) {
    const std::string good = signed_answer(CallKind::refund, refunded_node);
    for (const std::string& body : {
             std::string(),
             std::string("null"),
             std::string("[]"),
             std::string("success"),
             std::string("<html>"),
             good + "x",
             good + good,
             std::string("\xEF\xBB\xBF") + good,
             good + std::string(1, '\0'),
             // Another method's answer, and the called method's below the top.
             signed_answer(CallKind::query, found_node),
             R"({"x":)" + good + "}",
             replaced(good, R"("sign")", R"("alipay_trade_refund_response":{},"sign")"),
             replaced(good, R"("sign")", R"("sign":"","sign")"),
             replaced(good, R"("sign")", R"("\u0073ign":"","sign")"),
             signed_answer(CallKind::refund, R"("encrypted")"),
             signed_answer(CallKind::refund, "[]"),
             signed_answer(CallKind::refund, "null"),
             signed_answer(CallKind::refund, replaced(refunded_node, R"("fund_change")",
                                                      R"("fund_change":"N","fund_change")")),
         }) {
        EXPECT_EQ(read(CallKind::refund, body).facts.verdict, Verdict::unknown) << body;
        EXPECT_FALSE(read(CallKind::refund, body).error.empty()) << body;
    }
    EXPECT_EQ(read(CallKind::refund, good).facts.verdict, Verdict::succeeded);
}

TEST(AlipayAnswer, NoCutAndNoChangedByteMakesASuccess) {
    const std::string good = signed_answer(CallKind::refund, refunded_node);
    const auto gateway = opened(key_mode());
    const RefundCall call = call_of(CallKind::refund);
    for (std::size_t at = 0; at < good.size(); ++at) {
        EXPECT_EQ(
            gateway->read_answer(call, response_of(good.substr(0, at)), now_unix_s).facts.verdict,
            Verdict::unknown)
            << at;
        for (const char c : {'"', '\\', '{', '}', ',', '\0', '\xFF', 'Z'}) {
            std::string bad = good;
            bad[at] = c;
            if (bad != good) {
                EXPECT_NE(gateway->read_answer(call, response_of(bad), now_unix_s).facts.verdict,
                          Verdict::succeeded)
                    << at << " " << c;
            }
        }
    }
}

TEST(AlipayAnswer, EndlessNestingIsRefused) {
    const std::string deep(100'000, '[');
    EXPECT_EQ(read(CallKind::refund, R"({"a":)" + deep).facts.verdict, Verdict::unknown);
    const std::string closed = R"({"a":)" + deep + std::string(100'000, ']') + "}";
    EXPECT_EQ(read(CallKind::refund, closed).facts.verdict, Verdict::unknown);
}

TEST(AlipayAnswer, OnlyHttp200IsAlipaysWord) {
    const auto gateway = opened(key_mode());
    const RefundCall call = call_of(CallKind::refund);
    const std::string good = signed_answer(CallKind::refund, refunded_node);
    for (int status = 100; status < 600; ++status) {
        HttpResponse response = response_of(good, status);
        response.retry_after_s = 7;
        const GatewayAnswer answer = gateway->read_answer(call, response, now_unix_s);
        EXPECT_EQ(answer.facts.verdict, status == 200 ? Verdict::succeeded : Verdict::unknown);
        EXPECT_EQ(answer.facts.retry_after_s, 7);
        EXPECT_EQ(answer.facts.slow_down, status == 429 || status == 503);
    }
    HttpResponse response = response_of(good);
    response.error = "it broke";
    response.delivery = Delivery::uncertain;
    EXPECT_EQ(gateway->read_answer(call, response, now_unix_s).facts.verdict, Verdict::unknown);
    EXPECT_EQ(gateway->read_answer(call, response, now_unix_s).error, "it broke");
    response.delivery = Delivery::not_sent;
    EXPECT_EQ(gateway->read_answer(call, response, now_unix_s).facts.verdict, Verdict::not_sent);
}

TEST(AlipayAnswer, CertificateModeBelievesOneCertificate) {
    const std::string good = signed_answer(CallKind::refund, refunded_node);
    const auto with_sn = [&](const std::string& sn) {
        return replaced(good, R"("sign")", R"("alipay_cert_sn":")" + sn + R"(","sign")");
    };
    const auto gateway = opened(certificate_mode());
    const auto read_at = [&](const std::string& body, std::int64_t unix_s) {
        return gateway->read_answer(call_of(CallKind::refund), response_of(body), unix_s);
    };
    EXPECT_EQ(read_at(with_sn("md5(root2)"), now_unix_s).facts.verdict, Verdict::succeeded);
    for (const GatewayAnswer& answer :
         {read_at(with_sn("md5(root3)"), now_unix_s), read_at(with_sn(""), now_unix_s),
          read_at(good, now_unix_s), read_at(with_sn("md5(root2)"), now_unix_s + 1)}) {
        EXPECT_EQ(answer.facts.verdict, Verdict::unknown);
        EXPECT_EQ(answer.facts.concern, Concern::unverifiable);
        EXPECT_NE(answer.error.find("download it from the open platform and set alipay_cert"),
                  std::string::npos)
            << answer.error;
    }
}

TEST(AlipayAnswer, ErrorsAreBounded) {
    const std::string node = R"({"code":"40004","sub_code":")" + std::string(5000, 'A') +
                             R"(","sub_msg":")" + std::string(5000, 'B') + "\"}";
    EXPECT_LE(read_node(CallKind::refund, node).error.size(), max_error_bytes);
    EXPECT_LE(read(CallKind::refund, R"({"error_response":)" + node + "}").error.size(),
              max_error_bytes);
    EXPECT_LE(read(CallKind::refund, signed_answer(CallKind::refund, node, "us")).error.size(),
              max_error_bytes);
}

// ---- notices

FormFields paid_fields() {
    return {
        {"app_id", "2021000000000001"},
        {"charset", "UTF-8"},
        {"notify_id", "n1"},
        {"out_trade_no", "P1"},
        {"seller_id", "2088000000000001"},
        {"subject", "商品 A&B=1"},
        {"total_amount", "99.99"},
        {"trade_no", "2026011522001400000000000001"},
        {"trade_status", "TRADE_SUCCESS"},
        {"sign_type", "RSA2"},
    };
}

void set_field(FormFields& fields, const std::string& name, const std::string& value) {
    std::erase_if(fields, [&](const auto& field) { return field.first == name; });
    fields.emplace_back(name, value);
}

FormFields with(FormFields fields, const std::map<std::string, std::string>& changes) {
    for (const auto& [name, value] : changes) {
        set_field(fields, name, value);
    }
    return fields;
}

std::string notice_body(const FormFields& fields, const std::string& key = "alipay",
                        alipay::EmptyValues empty_values = alipay::EmptyValues::dropped,
                        bool sign_type_covered = false) {
    FormFields covered = fields;
    if (!sign_type_covered) {
        std::erase_if(covered, [](const auto& field) { return field.first == "sign_type"; });
    }
    FormFields whole = fields;
    whole.emplace_back("sign", crypto().base64_encode(
                                   signature_by(key, alipay::signed_text(covered, empty_values))));
    return write_form(whole);
}

Notice read_notice(const std::string& body, const Settings& settings = key_mode(),
                   std::int64_t unix_s = now_unix_s) {
    static const std::vector<HttpHeader> no_headers;
    return opened(settings)->read_notice({no_headers, body, unix_s});
}

Notice read_changed(const std::map<std::string, std::string>& changes) {
    return read_notice(notice_body(with(paid_fields(), changes)));
}

TEST(AlipayNotice, APayment) {
    for (const char* status : {"TRADE_SUCCESS", "TRADE_FINISHED"}) {
        for (const Settings& settings : {key_mode(), certificate_mode()}) {
            const Notice notice =
                read_notice(notice_body(with(paid_fields(), {{"trade_status", status}})), settings);
            EXPECT_EQ(notice.kind, NoticeKind::payment) << notice.why;
            EXPECT_EQ(notice.payment.payment_id, "P1");
            EXPECT_TRUE(notice.payment.success);
            EXPECT_EQ(notice.payment.amount, 9999);
            EXPECT_EQ(notice.payment.currency, "CNY");
            EXPECT_EQ(notice.payment.transaction_id, "2026011522001400000000000001");
        }
    }
    const std::string content = read_notice(notice_body(paid_fields())).content;
    EXPECT_TRUE(content.starts_with("trade_status=TRADE_SUCCESS out_trade_no=P1 ")) << content;
    EXPECT_NE(content.find("subject=商品 A&B=1"), std::string::npos);
    EXPECT_EQ(content.find("sign="), std::string::npos);
}

TEST(AlipayNotice, AnUnpaidTradeThatClosedIsAFailure) {
    const Notice notice = read_changed({{"trade_status", "TRADE_CLOSED"}});
    EXPECT_EQ(notice.kind, NoticeKind::payment);
    EXPECT_FALSE(notice.payment.success);
    EXPECT_EQ(notice.payment.payment_id, "P1");
}

TEST(AlipayNotice, ARefundIsNeverAPayment) {
    for (const char* status : {"TRADE_SUCCESS", "TRADE_FINISHED", "TRADE_CLOSED"}) {
        for (const std::map<std::string, std::string>& marks :
             {std::map<std::string, std::string>{{"refund_fee", "12.99"}},
              {{"gmt_refund", "2026-01-15 10:20:31.123"}},
              {{"refund_fee", "x"}},
              {{"refund_fee", "0.00"}, {"gmt_refund", "2026-01-15 10:20:31.123"}}}) {
            auto changes = marks;
            changes["trade_status"] = status;
            // Nobody here asked for it: kept for a person, under the trade's number.
            EXPECT_EQ(read_changed(changes).kind, NoticeKind::refund);
            EXPECT_EQ(read_changed(changes).refund.refund_no, "");
            EXPECT_FALSE(read_changed(changes).refund.refund_id.empty());
            changes["out_biz_no"] = "P1-R1";
            const Notice notice = read_changed(changes);
            EXPECT_EQ(notice.kind, NoticeKind::refund);
            EXPECT_EQ(notice.refund.refund_no, "P1-R1");
            EXPECT_EQ(notice.refund.verdict, Verdict::unknown);
            EXPECT_EQ(notice.refund.amount, std::nullopt);
            EXPECT_FALSE(notice.content.empty());
        }
        EXPECT_EQ(read_changed({{"trade_status", status}, {"out_biz_no", "P1-R1"}}).kind,
                  NoticeKind::refund);
        EXPECT_EQ(read_changed({{"trade_status", status}, {"refund_fee", "0.00"}}).kind,
                  NoticeKind::payment);
    }
}

TEST(AlipayNotice, WhatIsOfNoUseIsIgnored) {
    for (const char* status : {"WAIT_BUYER_PAY", "TRADE_PENDING", "trade_success", ""}) {
        const Notice notice = read_changed({{"trade_status", status}});
        EXPECT_EQ(notice.kind, NoticeKind::ignored) << status;
        EXPECT_FALSE(notice.why.empty());
    }
}

TEST(AlipayNotice, MessagesMaySignTheirSignType) {
    FormFields fields = paid_fields();
    set_field(fields, "msg_method", "alipay.trade.refund.depositback.completed");
    const std::string by_v1 = notice_body(fields);
    const std::string by_v2 = notice_body(fields, "alipay", alipay::EmptyValues::dropped, true);
    EXPECT_EQ(read_notice(by_v1).kind, NoticeKind::ignored);
    EXPECT_EQ(read_notice(by_v2).kind, NoticeKind::ignored);
    // And nothing else may.
    EXPECT_EQ(
        read_notice(notice_body(paid_fields(), "alipay", alipay::EmptyValues::dropped, true)).kind,
        NoticeKind::forged);
    Settings settings = key_mode();
    settings["seller_id"] = "2088000000000001";
    std::erase_if(fields, [](const auto& field) { return field.first == "seller_id"; });
    EXPECT_EQ(read_notice(notice_body(fields), settings).kind, NoticeKind::ignored);
}

TEST(AlipayNotice, EmptyValuesMayBeSignedOrNot) {
    const FormFields fields = with(paid_fields(), {{"body", ""}, {"refund_fee", ""}});
    for (const auto empty_values : {alipay::EmptyValues::dropped, alipay::EmptyValues::kept}) {
        EXPECT_EQ(read_notice(notice_body(fields, "alipay", empty_values)).kind,
                  NoticeKind::payment);
    }
}

TEST(AlipayNotice, AmountsAreReadExactlyOrNotAtAll) {
    for (const char* amount :
         {"99.990", "0.00", "0", "99,99", "-1", "1e2", " 99.99", "99.", "", "9999999999999999"}) {
        EXPECT_EQ(read_changed({{"total_amount", amount}}).kind, NoticeKind::forged) << amount;
    }
    EXPECT_EQ(read_changed({{"total_amount", "100"}}).payment.amount, 10000);
    EXPECT_EQ(read_changed({{"total_amount", "0.1"}}).payment.amount, 10);
}

TEST(AlipayNotice, OnlyOurs) {
    Settings with_seller = key_mode();
    with_seller["seller_id"] = "2088000000000001";
    EXPECT_EQ(read_notice(notice_body(paid_fields()), with_seller).kind, NoticeKind::payment);
    for (const char* seller : {"2088000000000009", ""}) {
        const std::string body = notice_body(with(paid_fields(), {{"seller_id", seller}}));
        EXPECT_EQ(read_notice(body).kind, NoticeKind::payment);
        EXPECT_EQ(read_notice(body, with_seller).kind, NoticeKind::forged);
    }
    for (const char* app : {"2021000000000002", ""}) {
        EXPECT_EQ(read_changed({{"app_id", app}}).kind, NoticeKind::forged);
    }
    EXPECT_EQ(read_changed({{"out_trade_no", ""}, {"trade_no", ""}}).kind, NoticeKind::forged);
}

TEST(AlipayNotice, ForgeriesSayWhichCheckFailed) {
    const std::string good = notice_body(paid_fields());
    const std::vector<std::pair<std::string, std::string>> forgeries = {
        {"", "it has no sign"},
        {"{\"a\":1}", "distinct fields"},
        {good + "&total_amount=0.01", "distinct fields"},
        {good + "&x=%zz", "distinct fields"},
        {good + "&x=1", "signature is wrong"},
        {replaced(good, "99.99", "99.98"), "signature is wrong"},
        {notice_body(paid_fields(), "us"), "signature is wrong"},
        {write_form(paid_fields()), "it has no sign"},
        {write_form(with(paid_fields(), {{"sign", "+"}})), "signature is wrong"},
        {notice_body(with(paid_fields(), {{"sign_type", "RSA"}})), "sign_type is not RSA2"},
        {notice_body(with(paid_fields(), {{"sign_type", ""}})), "sign_type is not RSA2"},
        {notice_body(with(paid_fields(), {{"charset", "GBK"}})), "charset is not utf-8"},
        {good + "&x=" + std::string(70'000, 'x'), "64 KiB"},
    };
    for (const auto& [body, why] : forgeries) {
        const Notice notice = read_notice(body);
        EXPECT_EQ(notice.kind, NoticeKind::forged) << body;
        EXPECT_NE(notice.why.find(why), std::string::npos) << notice.why;
    }
    EXPECT_EQ(read_notice(good).kind, NoticeKind::payment);
}

TEST(AlipayNotice, NoCutAndNoChangedByteIsBelieved) {
    const std::string good = notice_body(paid_fields());
    const auto gateway = opened(key_mode());
    const std::vector<HttpHeader> no_headers;
    for (std::size_t at = 0; at < good.size(); ++at) {
        const std::string cut = good.substr(0, at);
        EXPECT_EQ(gateway->read_notice({no_headers, cut, now_unix_s}).kind, NoticeKind::forged);
        std::string bad = good;
        bad[at] = bad[at] == '~' ? '!' : '~';
        EXPECT_EQ(gateway->read_notice({no_headers, bad, now_unix_s}).kind, NoticeKind::forged)
            << bad;
    }
}

TEST(AlipayNotice, AnExpiredCertificateCannotJudge) {
    const std::string good = notice_body(paid_fields());
    EXPECT_EQ(read_notice(good, certificate_mode(), now_unix_s).kind, NoticeKind::payment);
    EXPECT_EQ(read_notice(good, certificate_mode(), now_unix_s + 1).kind, NoticeKind::unusable);
}

TEST(AlipayNotice, ContentIsBoundedAndClean) {
    const Notice notice = read_changed({{"subject", std::string(5000, 's')}, {"body", "\x01\xFF"}});
    EXPECT_EQ(notice.kind, NoticeKind::payment);
    EXPECT_LE(notice.content.size(), 2000U);
    EXPECT_NE(notice.content.find("total_amount=99.99"), std::string::npos);
    EXPECT_EQ(notice.content.find('\n'), std::string::npos);
}

TEST(AlipayNotice, Replies) {
    const auto gateway = opened(key_mode());
    const NoticeReply accepted = gateway->reply(ReplyKind::accepted);
    EXPECT_EQ(accepted.http_status, 200);
    EXPECT_EQ(accepted.content_type, "text/plain");
    EXPECT_EQ(accepted.body, "success");
    EXPECT_EQ(gateway->reply(ReplyKind::refused).http_status, 400);
    EXPECT_EQ(gateway->reply(ReplyKind::refused).body, "fail");
    EXPECT_EQ(gateway->reply(ReplyKind::failed).http_status, 500);
    EXPECT_EQ(gateway->reply(ReplyKind::failed).body, "fail");
}

// ---- options

void expect_problem(const Settings& settings, const std::string& option, const std::string& words,
                    const CryptoPort& port = crypto()) {
    const OpenedGateway made = open(settings, port);
    EXPECT_EQ(made.gateway, nullptr);
    EXPECT_EQ(made.problem.option, option) << made.problem.detail;
    EXPECT_NE(made.problem.detail.find(words), std::string::npos) << made.problem.detail;
    EXPECT_TRUE(made.problem.detail.ends_with('.')) << made.problem.detail;
    EXPECT_TRUE(made.problem.hint.ends_with('.')) << made.problem.hint;
    for (const auto& [name, value] : settings) {
        if (name == "private_key" && !value.empty()) {
            EXPECT_EQ((made.problem.detail + made.problem.hint).find(value), std::string::npos);
        }
    }
}

Settings changed(Settings settings, const std::string& name, const std::string& value) {
    settings[name] = value;
    return settings;
}

TEST(AlipayOptions, Ids) {
    for (const char* app_id : {"", "2021 0001", "app-1", "202100000000000120210000000000012"}) {
        expect_problem(changed(key_mode(), "app_id", app_id), "app_id", "letters and digits");
    }
    for (const char* seller : {"shop@example.com", "1088000000000001", "2088 0"}) {
        expect_problem(changed(key_mode(), "seller_id", seller), "seller_id", "2088");
    }
}

TEST(AlipayOptions, ExactlyOneMode) {
    Settings none = key_mode();
    none.erase("alipay_public_key");
    expect_problem(none, "alipay_public_key", "nothing to verify");
    expect_problem(changed(certificate_mode(), "alipay_public_key", "public:alipay"),
                   "alipay_public_key", "together with certificates");
    for (const char* name : {"app_cert", "alipay_cert", "alipay_root_cert"}) {
        expect_problem(changed(certificate_mode(), name, ""), name, "missing");
        expect_problem(changed(key_mode(), name, "app"), "alipay_public_key", "together");
    }
}

TEST(AlipayOptions, Keys) {
    for (const char* key : {"", "public:us", "garbage"}) {
        expect_problem(changed(key_mode(), "private_key", key), "private_key",
                       "not an RSA private key");
        expect_problem(changed(certificate_mode(), "private_key", key), "private_key",
                       "not an RSA private key");
    }
    expect_problem(changed(key_mode(), "alipay_public_key", "private:alipay"), "alipay_public_key",
                   "not an RSA public key");
    expect_problem(changed(key_mode(), "alipay_public_key", "public:us"), "alipay_public_key",
                   "application's own public key");
}

TEST(AlipayOptions, TheCertificatesBelongTogether) {
    for (const char* name : {"app_cert", "alipay_cert", "alipay_root_cert"}) {
        expect_problem(changed(certificate_mode(), name, "garbage"), name, "not a certificate");
    }
    expect_problem(changed(certificate_mode(), "app_cert", "app_of_another"), "app_cert",
                   "private_key");
    expect_problem(changed(certificate_mode(), "alipay_cert", "app"), "alipay_cert",
                   "application's own");
    expect_problem(changed(certificate_mode(), "alipay_cert", "elliptic"), "alipay_cert",
                   "not an RSA key");
    expect_problem(changed(certificate_mode(), "alipay_cert", "rogue"), "alipay_cert",
                   "not issued by");
    expect_problem(changed(certificate_mode(), "alipay_root_cert", "root_2"), "app_cert",
                   "not issued by");
    expect_problem(changed(certificate_mode(), "alipay_root_cert", "root_ec"), "alipay_root_cert",
                   "signed with RSA");
    FakeCrypto without_md5;
    without_md5.md5_fails = true;
    expect_problem(certificate_mode(), "app_cert", "MD5", without_md5);
}

TEST(AlipayOptions, IntermediatesComeWithTheCertificate) {
    EXPECT_NE(open(changed(certificate_mode(), "alipay_cert", "alipay_below+middle")).gateway,
              nullptr);
    EXPECT_NE(open(changed(certificate_mode(), "alipay_cert", "alipay+middle")).gateway, nullptr);
    for (const char* chain : {"alipay_below", "alipay_below+rogue_middle", "alipay_below+root_2"}) {
        expect_problem(changed(certificate_mode(), "alipay_cert", chain), "alipay_cert",
                       "not issued by");
    }
}

TEST(AlipayOptions, AUserMappingAloneCanBeChecked) {
    EXPECT_NE(open(changed(key_mode(), "url", "")).gateway, nullptr);
}

// ---- the parts

TEST(Yuan, IsExact) {
    EXPECT_EQ(yuan_of_fen(0), "0.00");
    EXPECT_EQ(yuan_of_fen(1), "0.01");
    EXPECT_EQ(yuan_of_fen(1299), "12.99");
    EXPECT_EQ(yuan_of_fen(10000), "100.00");
    EXPECT_EQ(yuan_of_fen(std::numeric_limits<std::int64_t>::max()), "92233720368547758.07");
    for (std::int64_t fen = 0; fen < 100'000; ++fen) {
        EXPECT_EQ(fen_of_yuan(yuan_of_fen(fen)), fen);
    }
    EXPECT_EQ(fen_of_yuan("7"), 700);
    EXPECT_EQ(fen_of_yuan("7.5"), 750);
    EXPECT_EQ(fen_of_yuan("999999999999999.99"), 99999999999999999);
    for (const char* text : {"", ".", "1.", ".5", "1.234", "1.2.3", "+1", "-1", "1 ", " 1", "1e3",
                             "0x1", "1,00", "1000000000000000", "١", "NaN"}) {
        EXPECT_EQ(fen_of_yuan(text), std::nullopt) << text;
    }
}

TEST(BeijingTime, IsEightHoursAhead) {
    EXPECT_EQ(alipay::beijing_time(now_unix_s), "2026-01-15 10:20:30");
    EXPECT_EQ(alipay::beijing_time(0), "1970-01-01 08:00:00");
    EXPECT_EQ(alipay::beijing_time(951753599), "2000-02-28 23:59:59");
    EXPECT_EQ(alipay::beijing_time(951753600), "2000-02-29 00:00:00");
    EXPECT_EQ(alipay::beijing_time(1709222400 - 8 * 3600), "2024-02-29 16:00:00");
    EXPECT_EQ(alipay::beijing_time(4107542400 - 8 * 3600), "2100-03-01 00:00:00");
    EXPECT_EQ(alipay::beijing_time(4107542399 - 8 * 3600), "2100-02-28 23:59:59");
    EXPECT_EQ(alipay::beijing_time(1767225599 - 8 * 3600), "2025-12-31 23:59:59");
    EXPECT_EQ(alipay::beijing_time(std::numeric_limits<std::int64_t>::min()),
              "1970-01-01 08:00:00");
    EXPECT_EQ(alipay::beijing_time(std::numeric_limits<std::int64_t>::max()),
              "9999-12-31 23:59:59");
}

TEST(SignedText, IsSortedRawAndJoined) {
    const FormFields fields = {{"b", "2 &=%"}, {"a", ""}, {"B", "字"}};
    EXPECT_EQ(alipay::signed_text(fields, alipay::EmptyValues::dropped), "B=字&b=2 &=%");
    EXPECT_EQ(alipay::signed_text(fields, alipay::EmptyValues::kept), "B=字&a=&b=2 &=%");
    EXPECT_EQ(alipay::signed_text({}, alipay::EmptyValues::kept), "");
}

TEST(JsonMembers, AreExactTexts) {
    const std::string_view text =
        " { \"a\" :\t{ \"x\" : \"}\\\"{\" , \"y\":[1, 2]} ,\n\"b\":\"q\\\\\" , \"c\": -1.50e3,"
        "\"d\":[{}],\"e\":null,\"\":true } ";
    const auto members = json_members(text);
    ASSERT_TRUE(members);
    ASSERT_EQ(members->size(), 6U);
    EXPECT_EQ(member_text(*members, "a"), R"({ "x" : "}\"{" , "y":[1, 2]})");
    EXPECT_EQ(member_text(*members, "b"), R"("q\\")");
    EXPECT_EQ(member_text(*members, "c"), "-1.50e3");
    EXPECT_EQ(member_text(*members, "d"), "[{}]");
    EXPECT_EQ(member_text(*members, "e"), "null");
    EXPECT_EQ(member_text(*members, ""), "true");
    EXPECT_EQ(member_text(*members, "f"), "");
    EXPECT_TRUE(json_members("{}")->empty());
}

TEST(JsonMembers, RefusesWhatIsAmbiguousOrUnbounded) {
    for (const std::string& text : std::vector<std::string>{"",
                                                            " ",
                                                            "{",
                                                            "}",
                                                            "[]",
                                                            "1",
                                                            "\"{}\"",
                                                            "null",
                                                            "{}{}",
                                                            "{} x",
                                                            "{\"a\":1,}",
                                                            "{a:1}",
                                                            "{\"a\":1,\"a\":1}",
                                                            "{\"\\u0061\":1}",
                                                            "{\"a\" 1}",
                                                            "{'a':1}",
                                                            "\xEF\xBB\xBF{}",
                                                            "{\"a\":\"\xFF\"}",
                                                            "{\"a\":\"\n\"}",
                                                            "{\"a\":01}",
                                                            "{/**/}",
                                                            "{\"a\":\"\\"}) {
        EXPECT_FALSE(json_members(text)) << text;
    }
    const auto nested = [](std::size_t depth) {
        return "{\"a\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
    };
    EXPECT_TRUE(json_members(nested(max_json_depth)));
    EXPECT_FALSE(json_members(nested(max_json_depth + 1)));
    const auto wide = [](std::size_t count) {
        json object = json::object();
        for (std::size_t i = 0; i < count; ++i) {
            object[std::to_string(i)] = i;
        }
        return object.dump();
    };
    EXPECT_TRUE(json_members(wide(max_json_members)));
    EXPECT_FALSE(json_members(wide(max_json_members + 1)));
}

TEST(AlipayDriver, IsAsDecided) {
    EXPECT_EQ(alipay_driver.wrapper, "payonce_alipay");
    EXPECT_EQ(alipay_driver.traits.query_delay_s, 10);
    EXPECT_EQ(alipay_driver.traits.payment_spacing_s, 3);
    EXPECT_EQ(alipay_driver.traits.refund_window_s, 365LL * 86400);
    EXPECT_EQ(alipay_driver.traits.idempotency_horizon_s, 0);
    EXPECT_EQ(alipay_driver.traits.rate_limit_per_s, 10);
    for (const OptionRule& rule : alipay_driver.options) {
        EXPECT_EQ(rule.scope, OptionScope::user_mapping);
        EXPECT_EQ(rule.has_file, rule.name != "app_id" && rule.name != "seller_id") << rule.name;
    }
}

}  // namespace
}  // namespace payonce::core
