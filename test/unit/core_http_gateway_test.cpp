// The generic gateway's wire format: what is sent, exactly, and what each answer means, for every
// status code and for bodies that are wrong in every way. A wrong "succeeded" keeps a customer's
// money; a wrong "not found" or "wait" sends it twice.
#include "core/gateways/http.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
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

constexpr std::int64_t now_unix_s = 1717747200;
const std::string key_of_24_bytes = "twenty-four bytes of key";

// Says what it was asked, and fails where it is told to.
class FakeCrypto final : public CryptoPort {
  public:
    std::optional<std::string> hmac_sha256(std::string_view key,
                                           std::string_view message) const override {
        signed_key = key;
        signed_message = message;
        return hmac_fails ? std::nullopt : std::optional<std::string>("mac-of-it");
    }
    std::string base64_encode(std::string_view bytes) const override {
        return "base64(" + std::string(bytes) + ")";
    }
    std::optional<std::string> base64_decode(std::string_view text) const override {
        decoded_text = text;
        return decoded;
    }
    // This driver has no use for the rest.
    std::optional<std::string> md5_hex(std::string_view) const override { return std::nullopt; }
    std::unique_ptr<SigningKey> parse_private_key(std::string_view) const override {
        return nullptr;
    }
    std::unique_ptr<VerifyingKey> parse_public_key(std::string_view) const override {
        return nullptr;
    }
    Certificates parse_certificates(std::string_view) const override { return {}; }
    bool is_issued_by(const Certificate&,
                      std::span<const std::unique_ptr<Certificate>>) const override {
        return false;
    }
    std::optional<std::string> open_aes_256_gcm(std::string_view, std::string_view,
                                                std::string_view, std::string_view) const override {
        return std::nullopt;
    }

    std::optional<std::string> decoded = key_of_24_bytes;
    bool hmac_fails = false;
    mutable std::string decoded_text;
    mutable std::string signed_key;
    mutable std::string signed_message;
};

struct Config {
    std::string url;
    std::string bearer_token;
    std::string signing_secret;
};

std::unique_ptr<Gateway> gateway_of(const Config& config, const CryptoPort& crypto) {
    GatewayOptions options;
    options.set("url", config.url);
    options.set("bearer_token", config.bearer_token);
    options.set("signing_secret", config.signing_secret);
    OpenedGateway opened = http_driver.open(options, crypto);
    EXPECT_TRUE(opened.gateway) << opened.problem.detail;
    return std::move(opened.gateway);
}

Config config_of(std::string url) {
    return {std::move(url), "", ""};
}

Config signing_config() {
    return {"https://pay.example", "", "whsec_c2VjcmV0"};
}

RefundCall a_refund() {
    RefundCall call;
    call.refund_no = "P7-R1";
    call.payment_id = "P7";
    call.order_id = "O-7";
    call.transaction_id = "4200001";
    call.amount = 3200;
    call.currency = "CNY";
    call.reason = "duplicate";
    return call;
}

std::optional<HttpRequest> build(const Config& config, const RefundCall& call,
                                 const CryptoPort& crypto, std::int64_t unix_s) {
    const BuiltRequest built = gateway_of(config, crypto)->build(call, {unix_s, ""});
    const auto* request = std::get_if<HttpRequest>(&built);
    if (request == nullptr) {
        EXPECT_EQ(std::get<GatewayAnswer>(built).facts.verdict, Verdict::not_sent);
        return std::nullopt;
    }
    return *request;
}

std::optional<HttpRequest> build_refund(const Config& config, const RefundCall& call,
                                        const CryptoPort& crypto, std::int64_t unix_s) {
    return build(config, call, crypto, unix_s);
}

std::optional<HttpRequest> build_query(const Config& config, std::string_view refund_no,
                                       const CryptoPort& crypto, std::int64_t unix_s) {
    RefundCall call = a_refund();
    call.kind = CallKind::query;
    call.refund_no = refund_no;
    return build(config, call, crypto, unix_s);
}

GatewayAnswer read_answer(CallKind kind, std::string_view refund_no, const HttpResponse& response) {
    RefundCall call = a_refund();
    call.kind = kind;
    call.refund_no = refund_no;
    const FakeCrypto crypto;
    return gateway_of(config_of("https://pay.example"), crypto)
        ->read_answer(call, response, now_unix_s);
}

HttpRequest refund_request(const Config& config, const RefundCall& call) {
    return build_refund(config, call, FakeCrypto(), now_unix_s).value();
}

HttpRequest query_request(const Config& config, std::string_view refund_no) {
    return build_query(config, refund_no, FakeCrypto(), now_unix_s).value();
}

// Fails when a header is there twice.
std::map<std::string, std::string> headers_of(const HttpRequest& request) {
    std::map<std::string, std::string> headers;
    for (const HttpHeader& header : request.headers) {
        EXPECT_TRUE(headers.emplace(header.name, header.value).second) << header.name;
    }
    return headers;
}

using Headers = std::map<std::string, std::string>;

// ---- What is sent ------------------------------------------------------------------------------

TEST(RefundRequest, IsThePostOfTheContract) {
    const HttpRequest request = refund_request(config_of("https://pay.example/v1"), a_refund());
    EXPECT_EQ(request.method, HttpMethod::post);
    EXPECT_EQ(request.url, "https://pay.example/v1/refunds");
    EXPECT_EQ(headers_of(request), (Headers{{"Content-Type", "application/json"},
                                            {"Accept", "application/json"},
                                            {"Idempotency-Key", "P7-R1"}}));
    EXPECT_EQ(json::parse(request.body), json::parse(R"({
        "refund_no": "P7-R1", "payment_id": "P7", "order_id": "O-7", "transaction_id": "4200001",
        "amount": 3200, "currency": "CNY", "reason": "duplicate"})"));
}

TEST(RefundRequest, SaysNullForAnUnknownTransaction) {
    RefundCall refund = a_refund();
    refund.transaction_id = {};
    const json body = json::parse(refund_request(config_of("https://pay.example"), refund).body);
    ASSERT_TRUE(body.contains("transaction_id"));
    EXPECT_TRUE(body["transaction_id"].is_null());
}

TEST(RefundRequest, KeepsEveryAmountExact) {
    for (const std::int64_t amount : {std::int64_t{1}, std::int64_t{9007199254740993},
                                      std::numeric_limits<std::int64_t>::max()}) {
        RefundCall refund = a_refund();
        refund.amount = amount;
        const std::string body = refund_request(config_of("https://pay.example"), refund).body;
        EXPECT_NE(body.find("\"amount\":" + std::to_string(amount) + ","), std::string::npos)
            << body;
    }
}

TEST(RefundRequest, EscapesWhatAnOrderIdMayHold) {
    RefundCall refund = a_refund();
    refund.order_id = "订单 \"7\"\\\n\x01</script>";
    const std::string body = refund_request(config_of("https://pay.example"), refund).body;
    EXPECT_EQ(json::parse(body)["order_id"], std::string(refund.order_id));
    EXPECT_EQ(std::count(body.begin(), body.end(), '\n'), 0);
}

TEST(RefundRequest, SurvivesBytesThatAreNoUtf8) {
    RefundCall refund = a_refund();
    refund.order_id = "order \xFF\xC3";
    const std::string body = refund_request(config_of("https://pay.example"), refund).body;
    EXPECT_TRUE(json::accept(body));
    EXPECT_EQ(clean_text(body, body.size()), body) << "not UTF-8";
}

TEST(RefundRequest, IsTheSameBytesEachTime) {
    Config config = signing_config();
    const auto first = build_refund(config, a_refund(), FakeCrypto(), now_unix_s);
    const auto later = build_refund(config, a_refund(), FakeCrypto(), now_unix_s + 86'400);
    ASSERT_TRUE(first && later);
    EXPECT_EQ(first->body, later->body);
    EXPECT_EQ(headers_of(*first)["Idempotency-Key"], headers_of(*later)["Idempotency-Key"]);
    EXPECT_EQ(headers_of(*first)["webhook-id"], headers_of(*later)["webhook-id"]);
}

TEST(QueryRequest, IsTheGetOfTheContract) {
    const HttpRequest request = query_request(config_of("https://pay.example/v1"), "P7-R1");
    EXPECT_EQ(request.method, HttpMethod::get);
    EXPECT_EQ(request.url, "https://pay.example/v1/refunds/P7-R1");
    EXPECT_EQ(request.body, "");
    EXPECT_EQ(headers_of(request), (Headers{{"Accept", "application/json"}}));
}

TEST(QueryRequest, EncodesTheNumberAsOnePathSegment) {
    EXPECT_EQ(query_request(config_of("https://pay.example"), "A*1|2@3_4-R1").url,
              "https://pay.example/refunds/A%2A1%7C2%403_4-R1");
    EXPECT_EQ(query_request(config_of("https://pay.example"), "../x?y#z").url,
              "https://pay.example/refunds/..%2Fx%3Fy%23z");
}

TEST(Url, MayEndWithSlashes) {
    for (const char* url :
         {"https://pay.example/v1", "https://pay.example/v1/", "https://pay.example/v1///"}) {
        EXPECT_EQ(refund_request(config_of(url), a_refund()).url, "https://pay.example/v1/refunds");
        EXPECT_EQ(query_request(config_of(url), "P7-R1").url,
                  "https://pay.example/v1/refunds/P7-R1");
    }
}

TEST(BearerToken, IsSentWithBothCalls) {
    Config config = config_of("https://pay.example");
    config.bearer_token = "tok_123";
    EXPECT_EQ(headers_of(refund_request(config, a_refund()))["Authorization"], "Bearer tok_123");
    EXPECT_EQ(headers_of(query_request(config, "P7-R1"))["Authorization"], "Bearer tok_123");
}

// ---- Signatures --------------------------------------------------------------------------------

TEST(Signature, CoversIdTimeAndBody) {
    const FakeCrypto crypto;
    const auto request = build_refund(signing_config(), a_refund(), crypto, now_unix_s);
    ASSERT_TRUE(request);
    EXPECT_EQ(crypto.decoded_text, "c2VjcmV0");
    EXPECT_EQ(crypto.signed_key, key_of_24_bytes);
    EXPECT_EQ(crypto.signed_message, "P7-R1.1717747200." + request->body);
    const Headers headers = headers_of(*request);
    EXPECT_EQ(headers.at("webhook-id"), "P7-R1");
    EXPECT_EQ(headers.at("webhook-timestamp"), "1717747200");
    EXPECT_EQ(headers.at("webhook-signature"), "v1,base64(mac-of-it)");
    EXPECT_EQ(headers.size(), 6u);
}

TEST(Signature, OfAQueryCoversTheEmptyBody) {
    const FakeCrypto crypto;
    const auto request = build_query(signing_config(), "P7-R1", crypto, now_unix_s);
    ASSERT_TRUE(request);
    EXPECT_EQ(crypto.signed_message, "P7-R1.1717747200.");
    EXPECT_EQ(headers_of(*request).size(), 4u);
}

TEST(Signature, GoesWithABearerToken) {
    Config config = signing_config();
    config.bearer_token = "tok_123";
    const Headers headers = headers_of(refund_request(config, a_refund()));
    EXPECT_TRUE(headers.contains("Authorization"));
    EXPECT_TRUE(headers.contains("webhook-signature"));
}

TEST(Signature, NeverCarriesTheSecret) {
    const HttpRequest request = refund_request(signing_config(), a_refund());
    for (const HttpHeader& header : request.headers) {
        EXPECT_EQ(header.value.find("c2VjcmV0"), std::string::npos) << header.name;
        EXPECT_EQ(header.value.find(key_of_24_bytes), std::string::npos) << header.name;
    }
}

void expect_no_request(const FakeCrypto& crypto) {
    EXPECT_FALSE(build_refund(signing_config(), a_refund(), crypto, now_unix_s));
    EXPECT_FALSE(build_query(signing_config(), "P7-R1", crypto, now_unix_s));
}

TEST(Signature, ThatCannotBeMadeLetsNothingLeave) {
    FakeCrypto crypto;
    crypto.hmac_fails = true;
    expect_no_request(crypto);
}

OpenedGateway open_with(std::string_view name, std::string_view value, const CryptoPort& crypto) {
    GatewayOptions options;
    options.set("url", "https://pay.example");
    options.set(name, value);
    return http_driver.open(options, crypto);
}

TEST(SigningSecret, HasTwentyFourToSixtyFourBytes) {
    FakeCrypto crypto;
    for (std::size_t bytes = 0; bytes < 100; ++bytes) {
        crypto.decoded = std::string(bytes, 'k');
        const OpenedGateway opened = open_with("signing_secret", "whsec_x", crypto);
        EXPECT_EQ(opened.gateway != nullptr, bytes >= 24 && bytes <= 64) << bytes;
        EXPECT_EQ(opened.problem.option, opened.gateway ? "" : "signing_secret");
    }
    crypto.decoded = std::nullopt;
    EXPECT_FALSE(open_with("signing_secret", "whsec_x", crypto).gateway);
}

TEST(SigningSecret, IsReadWithAndWithoutItsPrefix) {
    const FakeCrypto crypto;
    EXPECT_TRUE(open_with("signing_secret", "whsec_abcd", crypto).gateway);
    EXPECT_EQ(crypto.decoded_text, "abcd");
    EXPECT_TRUE(open_with("signing_secret", "abcd", crypto).gateway);
    EXPECT_EQ(crypto.decoded_text, "abcd");
    // One prefix, and only at the beginning.
    EXPECT_TRUE(open_with("signing_secret", "whsec_whsec_abcd", crypto).gateway);
    EXPECT_EQ(crypto.decoded_text, "whsec_abcd");
}

TEST(BearerToken, IsPrintableAndNotEndless) {
    const FakeCrypto crypto;
    EXPECT_TRUE(open_with("bearer_token", std::string(4096, 't'), crypto).gateway);
    for (const std::string& token : {std::string(4097, 't'), std::string("a b"),
                                     std::string("a\r\nX: y"), std::string("t\xC3\xA4")}) {
        const OpenedGateway opened = open_with("bearer_token", token, crypto);
        EXPECT_FALSE(opened.gateway);
        EXPECT_EQ(opened.problem.option, "bearer_token");
        EXPECT_EQ(opened.problem.detail.find(token), std::string::npos);
    }
}

// ---- Notifications -----------------------------------------------------------------------------

struct Message {
    std::string id = "msg-1";
    std::string timestamp = std::to_string(now_unix_s);
    std::string signature = "v1,base64(mac-of-it)";
    std::string body =
        R"({"type":"payment.succeeded","payment_id":"P7","amount":3200,"currency":"CNY",)"
        R"("transaction_id":"4200001"})";
};

Notice notice_of(const Message& message) {
    const FakeCrypto crypto;
    const std::vector<HttpHeader> headers = {{"Webhook-Id", message.id},
                                             {"WEBHOOK-TIMESTAMP", message.timestamp},
                                             {"webhook-signature", message.signature}};
    return gateway_of(signing_config(), crypto)
        ->read_notice(RawNotice{headers, message.body, now_unix_s});
}

Notice notice_of_body(std::string body) {
    Message message;
    message.body = std::move(body);
    return notice_of(message);
}

TEST(Notification, OfAPaymentSaysWhatArrived) {
    const Notice notice = notice_of({});
    ASSERT_EQ(notice.kind, NoticeKind::payment) << notice.why;
    EXPECT_EQ(notice.payment.payment_id, "P7");
    EXPECT_TRUE(notice.payment.success);
    EXPECT_EQ(notice.payment.amount, 3200);
    EXPECT_EQ(notice.payment.currency, "CNY");
    EXPECT_EQ(notice.payment.transaction_id, "4200001");
    EXPECT_EQ(notice.content, Message().body);
}

TEST(Notification, IsSignedOverIdTimestampAndRawBody) {
    const FakeCrypto crypto;
    const Message message;
    const std::vector<HttpHeader> headers = {{"webhook-id", message.id},
                                             {"webhook-timestamp", message.timestamp},
                                             {"webhook-signature", message.signature}};
    gateway_of(signing_config(), crypto)->read_notice({headers, message.body, now_unix_s});
    EXPECT_EQ(crypto.signed_message, "msg-1." + message.timestamp + "." + message.body);
    EXPECT_EQ(crypto.signed_key, key_of_24_bytes);
}

TEST(Notification, OneOfSeveralSignaturesIsEnough) {
    Message message;
    message.signature = "v1,old v1a,other v1,base64(mac-of-it)";
    EXPECT_EQ(notice_of(message).kind, NoticeKind::payment);
    for (const char* wrong : {"", "v1,", "base64(mac-of-it)", "v1,base64(mac-of-it", " ",
                              "v1,base64(mac-of-it)x", "V1,base64(mac-of-it)"}) {
        message.signature = wrong;
        EXPECT_EQ(notice_of(message).kind, NoticeKind::forged) << wrong;
    }
}

TEST(Notification, OfAnotherTimeIsForged) {
    Message message;
    for (const std::int64_t age : {0, 300, -300}) {
        message.timestamp = std::to_string(now_unix_s - age);
        EXPECT_EQ(notice_of(message).kind, NoticeKind::payment) << age;
    }
    for (const std::int64_t age : {301, -301}) {
        message.timestamp = std::to_string(now_unix_s - age);
        EXPECT_EQ(notice_of(message).kind, NoticeKind::forged) << age;
    }
    for (const char* wrong :
         {"", "now", "1717747200.0", " 1717747200", "1717747200 ", "99999999999999999999999",
          "-9223372036854775808", "9223372036854775807"}) {
        message.timestamp = wrong;
        EXPECT_EQ(notice_of(message).kind, NoticeKind::forged) << wrong;
    }
}

TEST(Notification, NeedsEachHeaderOnce) {
    const FakeCrypto crypto;
    const Message message;
    const auto gateway = gateway_of(signing_config(), crypto);
    const std::vector<HttpHeader> all = {{"webhook-id", message.id},
                                         {"webhook-timestamp", message.timestamp},
                                         {"webhook-signature", message.signature}};
    for (std::size_t i = 0; i < all.size(); ++i) {
        std::vector<HttpHeader> headers = all;
        headers.erase(headers.begin() + static_cast<std::ptrdiff_t>(i));
        EXPECT_EQ(gateway->read_notice({headers, message.body, now_unix_s}).kind,
                  NoticeKind::forged);
        headers = all;
        headers.push_back(all[i]);
        EXPECT_EQ(gateway->read_notice({headers, message.body, now_unix_s}).kind,
                  NoticeKind::forged);
    }
}

TEST(Notification, CannotBeJudgedWithoutASecret) {
    const FakeCrypto crypto;
    const Message message;
    const std::vector<HttpHeader> headers = {{"webhook-id", message.id},
                                             {"webhook-timestamp", message.timestamp},
                                             {"webhook-signature", message.signature}};
    EXPECT_EQ(gateway_of(config_of("https://pay.example"), crypto)
                  ->read_notice({headers, message.body, now_unix_s})
                  .kind,
              NoticeKind::unusable);
}

TEST(Notification, OfAFailureNeedsNoAmount) {
    const Notice notice = notice_of_body(R"({"type":"payment.failed","payment_id":"P7"})");
    ASSERT_EQ(notice.kind, NoticeKind::payment) << notice.why;
    EXPECT_FALSE(notice.payment.success);
    EXPECT_FALSE(notice.payment.amount);
}

TEST(Notification, OfARefundSaysHowItEnded) {
    const Notice done = notice_of_body(
        R"({"type":"refund.succeeded","refund_no":"P7-R1","amount":3200,"refund_id":"r-9"})");
    ASSERT_EQ(done.kind, NoticeKind::refund) << done.why;
    EXPECT_EQ(done.refund.refund_no, "P7-R1");
    EXPECT_EQ(done.refund.verdict, Verdict::succeeded);
    EXPECT_EQ(done.refund.amount, 3200);
    EXPECT_EQ(done.refund.refund_id, "r-9");
    const Notice failed =
        notice_of_body(R"({"type":"refund.failed","refund_no":"P7-R1","error":"closed"})");
    ASSERT_EQ(failed.kind, NoticeKind::refund);
    EXPECT_EQ(failed.refund.verdict, Verdict::failed);
    EXPECT_EQ(failed.refund.error, "closed");
}

TEST(Notification, OfAnotherTypeIsIgnored) {
    EXPECT_EQ(notice_of_body(R"({"type":"customer.created"})").kind, NoticeKind::ignored);
    EXPECT_EQ(notice_of_body(R"({"type":7})").kind, NoticeKind::ignored);
    EXPECT_EQ(notice_of_body("{}").kind, NoticeKind::ignored);
}

// Signed by the gateway, and yet nothing to book by.
TEST(Notification, ThatCannotBeReadSettlesNothing) {
    for (const char* body :
         {"", "[]", "null", "{", R"("x")", R"({"type":"payment.succeeded"})",
          R"({"type":"payment.succeeded","payment_id":"P 7","amount":1,"currency":"CNY"})",
          R"({"type":"payment.succeeded","payment_id":"P7","amount":"1","currency":"CNY"})",
          R"({"type":"payment.succeeded","payment_id":"P7","amount":1.0,"currency":"CNY"})",
          R"({"type":"payment.succeeded","payment_id":"P7","amount":0,"currency":"CNY"})",
          R"({"type":"payment.succeeded","payment_id":"P7","amount":-1,"currency":"CNY"})",
          R"({"type":"payment.succeeded","payment_id":"P7","amount":1,"currency":"cny"})",
          R"({"type":"payment.succeeded","payment_id":"P7","amount":9223372036854775808,)"
          R"("currency":"CNY"})",
          R"({"type":"refund.succeeded"})", R"({"type":"refund.succeeded","refund_no":""})"}) {
        EXPECT_EQ(notice_of_body(body).kind, NoticeKind::forged) << body;
    }
    std::string long_number(R"({"type":"refund.succeeded","refund_no":")");
    long_number += std::string(65, 'x') + R"("})";
    EXPECT_EQ(notice_of_body(long_number).kind, NoticeKind::forged);
}

// ---- What an answer means ----------------------------------------------------------------------

HttpResponse response_of(int status, std::string body = {}) {
    HttpResponse response;
    response.delivery = Delivery::answered;
    response.status = status;
    response.body = std::move(body);
    return response;
}

GatewayAnswer read(CallKind kind, int status, std::string body = {}) {
    return read_answer(kind, "P7-R1", response_of(status, std::move(body)));
}

Verdict verdict_of_body(std::string body) {
    return read(CallKind::query, 200, std::move(body)).facts.verdict;
}

constexpr std::array both_kinds = {CallKind::refund, CallKind::query};

struct StatusRow {
    int from;
    int to;
    Verdict verdict;
};

// The contract's codes; the first row that fits decides. Where the body decides it says succeeded.
const std::vector<StatusRow> refund_rows = {
    {200, 201, Verdict::succeeded}, {202, 202, Verdict::processing}, {408, 408, Verdict::unknown},
    {429, 429, Verdict::wait},      {503, 503, Verdict::wait},       {400, 499, Verdict::rejected},
};
const std::vector<StatusRow> query_rows = {
    {200, 200, Verdict::succeeded}, {202, 202, Verdict::processing}, {404, 404, Verdict::not_found},
    {408, 408, Verdict::unknown},   {429, 429, Verdict::wait},       {503, 503, Verdict::wait},
    {400, 499, Verdict::rejected},
};

Verdict expected_verdict(CallKind kind, int status) {
    const auto& rows = kind == CallKind::refund ? refund_rows : query_rows;
    const auto row = std::find_if(rows.begin(), rows.end(), [=](const StatusRow& candidate) {
        return status >= candidate.from && status <= candidate.to;
    });
    return row == rows.end() ? Verdict::unknown : row->verdict;
}

TEST(Answer, MeansWhatTheContractSaysForEveryStatus) {
    std::vector<int> statuses = {std::numeric_limits<int>::min(), -1, 0, 1, 99, 600, 999, 2000,
                                 std::numeric_limits<int>::max()};
    for (int status = 100; status <= 599; ++status) {
        statuses.push_back(status);
    }
    for (const CallKind kind : both_kinds) {
        for (const int status : statuses) {
            const GatewayAnswer answer =
                read(kind, status, R"({"status":"succeeded","refund_id":"g-1"})");
            ASSERT_STREQ(name_of(answer.facts.verdict), name_of(expected_verdict(kind, status)))
                << name_of(kind) << ", HTTP " << status;
        }
    }
}

TEST(Answer, WithoutABodySettlesNothing) {
    for (const CallKind kind : both_kinds) {
        for (int status = 100; status <= 599; ++status) {
            const Verdict verdict = read(kind, status).facts.verdict;
            ASSERT_NE(verdict, Verdict::succeeded) << status;
            ASSERT_NE(verdict, Verdict::failed) << status;
        }
    }
}

TEST(Answer, SaysWhatTheBodySays) {
    for (const CallKind kind : both_kinds) {
        const GatewayAnswer succeeded =
            read(kind, 200, R"({"status":"succeeded","refund_id":"g-1","more":[1]})");
        EXPECT_EQ(succeeded.facts.verdict, Verdict::succeeded);
        EXPECT_EQ(succeeded.refund_id, "g-1");
        EXPECT_EQ(succeeded.error, "");

        const GatewayAnswer processing = read(kind, 200, R"({"status":"processing"})");
        EXPECT_EQ(processing.facts.verdict, Verdict::processing);
        EXPECT_EQ(processing.refund_id, "");

        const GatewayAnswer failed =
            read(kind, 200, R"({"status":"failed","error":"account closed","refund_id":"g-2"})");
        EXPECT_EQ(failed.facts.verdict, Verdict::failed);
        EXPECT_EQ(failed.error, "account closed");
        EXPECT_EQ(failed.refund_id, "g-2");
    }
}

TEST(Answer, ThatFailedWithoutReasonSaysSo) {
    EXPECT_NE(read(CallKind::refund, 201, R"({"status":"failed"})").error, "");
}

TEST(Answer, AcceptedKeepsTheGatewaysNumber) {
    EXPECT_EQ(read(CallKind::refund, 202, R"({"refund_id":"g-3"})").refund_id, "g-3");
    EXPECT_EQ(read(CallKind::refund, 202, "accepted").facts.verdict, Verdict::processing);
}

TEST(Answer, OfAnUnknownStatusIsUnknown) {
    for (const char* status :
         {"", "Succeeded", "SUCCEEDED", "success", "succeeded ", " succeeded", "succeeded\\u0000",
          "succeeded\\n", "done", "refunded", "ok", "pending", "failed!", "processing…"}) {
        const std::string body = R"({"status":")" + std::string(status) + R"("})";
        EXPECT_EQ(verdict_of_body(body), Verdict::unknown) << body;
    }
}

TEST(Answer, OfTheWrongTypesIsUnknown) {
    for (const char* body : {"null", "true", "0", "200", R"("succeeded")", "[]", R"(["succeeded"])",
                             R"([{"status":"succeeded"}])", "{}", R"({"status":null})",
                             R"({"status":true})", R"({"status":1})", R"({"status":["succeeded"]})",
                             R"({"status":{"status":"succeeded"}})", R"({"Status":"succeeded"})",
                             R"({"state":"succeeded"})", R"({"data":{"status":"succeeded"}})"}) {
        EXPECT_EQ(verdict_of_body(body), Verdict::unknown) << body;
    }
}

TEST(Answer, ThatIsNoJsonIsUnknown) {
    for (const std::string& body : {
             std::string(),
             std::string(" "),
             std::string("OK"),
             std::string("<html><body>succeeded</body></html>"),
             std::string("status=succeeded"),
             std::string(R"({"status":"succeeded")"),
             std::string(R"({"status":"succeeded"}})"),
             std::string(R"({"status":"succeeded"} {"status":"failed"})"),
             std::string(R"({"status":"succeeded",})"),
             std::string(R"({'status':'succeeded'})"),
             std::string(R"({status:"succeeded"})"),
             std::string(R"(/* */{"status":"succeeded"})"),
             std::string("{\"status\":\"succeeded\"}\0", 23),
             std::string("\0{\"status\":\"succeeded\"}", 23),
             std::string("{\"status\":\"succ\needed\"}"),
             std::string("{\"status\":\"succeeded\",\"refund_id\":\"\xFF\"}"),
             std::string("\x1F\x8B\x08\x00gzip", 8),
             std::string("{\"status\":\"succeeded\",\"amount\":1e999999}"),
         }) {
        EXPECT_EQ(verdict_of_body(body), Verdict::unknown) << body;
    }
}

TEST(Answer, NestedWithoutEndIsUnknown) {
    constexpr std::size_t depth = 250'000;
    const std::string open(depth, '[');
    EXPECT_EQ(verdict_of_body(open), Verdict::unknown);
    EXPECT_EQ(verdict_of_body(open + std::string(depth, ']')), Verdict::unknown);
    std::string objects;
    for (std::size_t i = 0; i < depth / 5; ++i) {
        objects += R"({"a":)";
    }
    EXPECT_EQ(verdict_of_body(objects), Verdict::unknown);
    // Also beside an honest status, and in a refusal's body.
    const std::string beside =
        R"({"x":)" + open + std::string(depth, ']') + "," + R"("status":"succeeded"})";
    EXPECT_EQ(verdict_of_body(beside), Verdict::succeeded);
    EXPECT_EQ(read(CallKind::refund, 400, open).facts.verdict, Verdict::rejected);
}

TEST(Answer, BoundsWhatItKeeps) {
    const std::string huge(200'000, 'x');
    const GatewayAnswer failed =
        read(CallKind::refund, 200,
             R"({"status":"failed","refund_id":")" + huge + R"(","error":")" + huge + R"("})");
    EXPECT_EQ(failed.facts.verdict, Verdict::failed);
    EXPECT_EQ(failed.refund_id, std::string(128, 'x'));
    EXPECT_EQ(failed.error, std::string(max_error_bytes, 'x'));
    for (const int status : {400, 404, 408, 429, 500, 503}) {
        for (const std::string& body : {huge, R"({"error":")" + huge + R"("})"}) {
            EXPECT_LE(read(CallKind::query, status, body).error.size(), max_error_bytes);
        }
    }
    EXPECT_LE(read(CallKind::query, 200, R"({"status":")" + huge + R"("})").error.size(),
              max_error_bytes);
}

TEST(Answer, IgnoresNumbersAndErrorsThatAreNoText) {
    for (const char* value : {"1", "null", "true", "[\"g-1\"]", "{\"id\":\"g-1\"}"}) {
        const GatewayAnswer answer =
            read(CallKind::refund, 200,
                 R"({"status":"succeeded","refund_id":)" + std::string(value) + R"(,"error":)" +
                     std::string(value) + "}");
        EXPECT_EQ(answer.facts.verdict, Verdict::succeeded) << value;
        EXPECT_EQ(answer.refund_id, "") << value;
        EXPECT_EQ(answer.error, "") << value;
    }
}

TEST(Answer, AboutAnotherRefundSettlesNothing) {
    for (const CallKind kind : both_kinds) {
        const auto verdict_of = [&](const std::string& echoed) {
            const std::string body = R"({"status":"succeeded","refund_no":)" + echoed + "}";
            return read(kind, 200, body).facts.verdict;
        };
        EXPECT_EQ(verdict_of(R"("P7-R1")"), Verdict::succeeded);
        for (const char* echoed : {R"("P7-R2")", R"("P7-R11")", R"("P7-R")", R"("p7-r1")", R"("")",
                                   "null", "7", R"(["P7-R1"])", R"({"P7-R1":1})"}) {
            EXPECT_EQ(verdict_of(echoed), Verdict::unknown) << echoed;
        }
    }
}

TEST(Answer, CleansTheGatewaysWords) {
    const GatewayAnswer failed =
        read(CallKind::refund, 200,
             R"({"status":"failed","error":"a\u001b[31m\u0000b","refund_id":"g\n1"})");
    EXPECT_EQ(failed.error, "a [31m b");
    EXPECT_EQ(failed.refund_id, "g 1");
    const GatewayAnswer refused = read(CallKind::refund, 400, "bad\n\xFF\x1B");
    EXPECT_EQ(refused.error, "HTTP 400: bad ? ");
}

TEST(Answer, TellsAPersonWhatWentWrong) {
    EXPECT_EQ(read(CallKind::refund, 422, R"({"error":"amount too small"})").error,
              "HTTP 422: amount too small");
    EXPECT_EQ(read(CallKind::refund, 500, "it broke").error, "HTTP 500: it broke");
    EXPECT_EQ(read(CallKind::refund, 500).error, "HTTP 500");
    EXPECT_EQ(read(CallKind::refund, 500, R"({"error":7})").error, "HTTP 500");
    for (const CallKind kind : both_kinds) {
        for (int status = 100; status <= 599; ++status) {
            const GatewayAnswer answer = read(kind, status, "{}");
            const bool good = answer.facts.verdict == Verdict::succeeded ||
                              answer.facts.verdict == Verdict::processing;
            ASSERT_EQ(answer.error.empty(), good) << status;
        }
    }
}

TEST(Answer, PassesRetryAfterOn) {
    for (const int status : {200, 202, 404, 429, 500, 503}) {
        HttpResponse response = response_of(status, R"({"status":"processing"})");
        EXPECT_EQ(read_answer(CallKind::query, "P7-R1", response).facts.retry_after_s,
                  std::nullopt);
        response.retry_after_s = 30;
        EXPECT_EQ(read_answer(CallKind::query, "P7-R1", response).facts.retry_after_s, 30);
    }
}

// ---- What did not get through ------------------------------------------------------------------

TEST(Answer, ThatDidNotComeDecidesByDeliveryAlone) {
    for (const CallKind kind : both_kinds) {
        for (int status = 0; status <= 599; ++status) {
            HttpResponse response = response_of(status, R"({"status":"succeeded"})");
            response.error = "connection reset";
            response.delivery = Delivery::uncertain;
            const GatewayAnswer uncertain = read_answer(kind, "P7-R1", response);
            ASSERT_EQ(uncertain.facts.verdict, Verdict::unknown) << status;
            ASSERT_EQ(uncertain.error, "connection reset");
            response.delivery = Delivery::not_sent;
            const GatewayAnswer not_sent = read_answer(kind, "P7-R1", response);
            ASSERT_EQ(not_sent.facts.verdict, Verdict::not_sent) << status;
            ASSERT_EQ(not_sent.error, "connection reset");
        }
    }
}

}  // namespace
}  // namespace payonce::core
