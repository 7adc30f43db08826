// The Stripe driver: what is sent, exactly; what each answer means, for every status code, and for
// bodies that are wrong in every way; which notifications are believed. A wrong "succeeded" keeps a
// customer's money; a wrong "not found" or "wait" sends it twice.
#include "core/gateways/stripe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/form.h"
#include "core/json.h"
#include "core/json_library.h"
#include "core/text.h"

namespace payonce::core {
namespace {

using nlohmann::json;

constexpr std::int64_t now_unix_s = 1768443631;
constexpr std::string_view first_secret = "whsec_first";
constexpr std::string_view second_secret = "whsec_second";

// Its code is the key and the message themselves, so that a test sees what was signed.
class FakeCrypto final : public CryptoPort {
  public:
    std::optional<std::string> hmac_sha256(std::string_view key,
                                           std::string_view message) const override {
        return fails ? std::nullopt : std::optional(std::string(key) + "|" + std::string(message));
    }
    // This driver has no use for the rest.
    std::string base64_encode(std::string_view) const override { return {}; }
    std::optional<std::string> base64_decode(std::string_view) const override {
        return std::nullopt;
    }
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

    bool fails = false;
};

GatewayOptions options_of(std::string_view key, std::string_view webhook_secret = {},
                          std::string_view url = "https://api.stripe.com") {
    GatewayOptions options;
    options.set("url", url);
    options.set("secret_key", key);
    options.set("webhook_secret", webhook_secret);
    return options;
}

class Stripe : public testing::Test {
  protected:
    Stripe() { reopen(options_of("sk_test_abc", first_secret)); }

    void reopen(const GatewayOptions& options) {
        OpenedGateway opened = stripe_driver.open(options, crypto);
        ASSERT_TRUE(opened.gateway) << opened.problem.detail;
        gateway = std::move(opened.gateway);
    }

    FakeCrypto crypto;
    std::unique_ptr<Gateway> gateway;
};

RefundCall refund_call() {
    RefundCall call;
    call.refund_no = "PAY1-R1";
    call.payment_id = "PAY1";
    call.order_id = "O-1";
    call.transaction_id = "pi_3Abc";
    call.amount = 1299;
    call.payment_amount = 9999;
    call.currency = "USD";
    call.reason = "duplicate";
    return call;
}

RefundCall query_call() {
    RefundCall call = refund_call();
    call.kind = CallKind::query;
    return call;
}

RefundCall query_by_id() {
    RefundCall call = query_call();
    call.gateway_refund_id = "re_1";
    return call;
}

json refund_object() {
    return {{"id", "re_1"},
            {"object", "refund"},
            {"amount", 1299},
            {"charge", "ch_3Abc"},
            {"currency", "usd"},
            {"metadata", {{"out_refund_no", "PAY1-R1"}}},
            {"payment_intent", "pi_3Abc"},
            {"status", "succeeded"}};
}

json refund_with(const char* member, const json& value) {
    json refund = refund_object();
    refund[member] = value;
    return refund;
}

json refund_without(const char* member) {
    json refund = refund_object();
    refund.erase(member);
    return refund;
}

json foreign_refund(std::string_view id) {
    json refund = refund_with("metadata", json::object());
    refund["id"] = id;
    return refund;
}

json list_of(json data, bool has_more = false) {
    return {{"object", "list"},
            {"url", "/v1/refunds"},
            {"data", std::move(data)},
            {"has_more", has_more}};
}

json error_body(const json& error) {
    return {{"error", error}};
}

HttpResponse answered(int status, std::string body, std::vector<HttpHeader> headers = {}) {
    HttpResponse response;
    response.delivery = Delivery::answered;
    response.status = status;
    response.body = std::move(body);
    response.headers = std::move(headers);
    return response;
}

HttpResponse answered(int status, const json& body, std::vector<HttpHeader> headers = {}) {
    return answered(status, body.dump(), std::move(headers));
}

std::string name_of_verdict(const GatewayAnswer& answer) {
    return name_of(answer.facts.verdict);
}

std::string header_of(const HttpRequest& request, std::string_view name) {
    return std::string(header_value(request.headers, name).value_or("no such header"));
}

// --- Options -----------------------------------------------------------------------------------

OptionProblem problem_of(const GatewayOptions& options) {
    const FakeCrypto crypto;
    OpenedGateway opened = stripe_driver.open(options, crypto);
    EXPECT_NE(opened.gateway == nullptr, opened.problem.detail.empty());
    return std::move(opened.problem);
}

TEST(StripeOptions, AreTheDrivers) {
    EXPECT_EQ(stripe_driver.wrapper, "payonce_stripe");
    ASSERT_EQ(stripe_driver.options.size(), 2U);
    for (const OptionRule& rule : stripe_driver.options) {
        EXPECT_EQ(rule.scope, OptionScope::user_mapping);
        EXPECT_TRUE(rule.has_file);
    }
    EXPECT_EQ(stripe_driver.traits.idempotency_horizon_s, 82800);
    EXPECT_EQ(stripe_driver.traits.payment_spacing_s, 1);
}

TEST(StripeOptions, TakeSecretAndRestrictedKeys) {
    for (const char* key : {"sk_live_1", "sk_test_1", "rk_live_1", "rk_test_51AbC_dEf"}) {
        EXPECT_EQ(problem_of(options_of(key)).detail, "") << key;
    }
}

TEST(StripeOptions, RefuseOtherKeysWithoutShowingThem) {
    const std::string too_long = "sk_live_" + std::string(248, 'x');
    for (const std::string& key :
         {std::string(), std::string("pk_live_1"), std::string("whsec_1"), std::string("sk_live_"),
          std::string("sk_org_1"), std::string("SK_LIVE_1"), std::string(" sk_live_1"),
          std::string("sk_live_1\r\nHost: evil"), std::string("sk_live_1 "),
          std::string("sk_live_\xC3\xA9"), std::string("key"), too_long}) {
        const OptionProblem problem = problem_of(options_of(key));
        EXPECT_EQ(problem.option, "secret_key") << key;
        EXPECT_NE(problem.hint, "");
        EXPECT_TRUE(key.empty() || (problem.detail + problem.hint).find(key) == std::string::npos ||
                    key == "sk_live_" || key == "key")
            << key;
    }
    EXPECT_NE(problem_of(options_of("pk_test_1")).detail.find("publishable"), std::string::npos);
}

TEST(StripeOptions, TakeOneOrTwoWebhookSecrets) {
    for (const char* secrets :
         {"whsec_a", "whsec_a,whsec_b", "whsec_a whsec_b", " whsec_a , whsec_b\n", "whsec_a\n"}) {
        EXPECT_EQ(problem_of(options_of("sk_test_1", secrets)).detail, "") << secrets;
    }
    for (const char* secrets : {" ", ",", "whsec_", "a", "whsec_a b", "whsec_a,whsec_b,whsec_c",
                                "WHSEC_a", "sk_test_1", "whsec_a\x01", "whsec_\xC3\xA9"}) {
        EXPECT_EQ(problem_of(options_of("sk_test_1", secrets)).option, "webhook_secret") << secrets;
    }
}

TEST(StripeOptions, NeedNoUrlToBeChecked) {
    EXPECT_EQ(problem_of(options_of("sk_test_1", "whsec_a", "")).detail, "");
}

// --- Requests ----------------------------------------------------------------------------------

TEST_F(Stripe, SendsARefund) {
    const BuiltRequest built = gateway->build(refund_call(), {now_unix_s, "nonce"});
    const auto& request = std::get<HttpRequest>(built);
    EXPECT_EQ(request.method, HttpMethod::post);
    EXPECT_EQ(request.url, "https://api.stripe.com/v1/refunds");
    EXPECT_EQ(request.body,
              "payment_intent=pi_3Abc&amount=1299&reason=duplicate&"
              "metadata%5Bout_refund_no%5D=PAY1-R1");
    EXPECT_EQ(header_of(request, "Authorization"), "Bearer sk_test_abc");
    EXPECT_EQ(header_of(request, "Stripe-Version"), "2026-10-28.endive");
    EXPECT_EQ(header_of(request, "Content-Type"), "application/x-www-form-urlencoded");
    EXPECT_EQ(header_of(request, "Accept"), "application/json");
    EXPECT_EQ(header_of(request, "Idempotency-Key"), "payonce-PAY1-R1-a1");
    EXPECT_EQ(request.headers.size(), 5U);
}

TEST_F(Stripe, RepeatsTheSameBytes) {
    const BuiltRequest once = gateway->build(refund_call(), {now_unix_s, "nonce"});
    const BuiltRequest again = gateway->build(refund_call(), {now_unix_s + 80000, "another"});
    const auto& a = std::get<HttpRequest>(once);
    const auto& b = std::get<HttpRequest>(again);
    EXPECT_EQ(a.url, b.url);
    EXPECT_EQ(a.body, b.body);
    ASSERT_EQ(a.headers.size(), b.headers.size());
    for (std::size_t i = 0; i < a.headers.size(); ++i) {
        EXPECT_EQ(a.headers[i].name, b.headers[i].name);
        EXPECT_EQ(a.headers[i].value, b.headers[i].value);
    }
}

TEST_F(Stripe, CountsTheKeysOfARefund) {
    RefundCall call = refund_call();
    call.key_generation = 12;
    const BuiltRequest built = gateway->build(call, {});
    EXPECT_EQ(header_of(std::get<HttpRequest>(built), "Idempotency-Key"), "payonce-PAY1-R1-a12");
    const BuiltRequest first = gateway->build(refund_call(), {});
    EXPECT_EQ(std::get<HttpRequest>(built).body, std::get<HttpRequest>(first).body);
}

TEST_F(Stripe, NamesThePaymentByItsPrefix) {
    for (const auto& [id, parameter] : {std::pair("pi_1", "payment_intent"),
                                        std::pair("ch_1", "charge"), std::pair("py_1", "charge")}) {
        RefundCall call = refund_call();
        call.transaction_id = id;
        const BuiltRequest built = gateway->build(call, {});
        const auto fields = read_form(std::get<HttpRequest>(built).body);
        ASSERT_TRUE(fields);
        EXPECT_EQ(form_value(*fields, parameter), id);
        EXPECT_EQ(fields->size(), 4U);
    }
}

TEST_F(Stripe, SendsNothingForAPaymentThatStripeDoesNotKnow) {
    for (const char* id : {"", "cs_test_1", "4200001", "PI_1", "pi", "pi_1&amount=1", "pi_1/../x",
                           "re_1", "pi_\xC3\xA9"}) {
        for (RefundCall call : {refund_call(), query_call()}) {
            call.transaction_id = id;
            const BuiltRequest built = gateway->build(call, {});
            ASSERT_TRUE(std::holds_alternative<GatewayAnswer>(built)) << id;
            const auto& answer = std::get<GatewayAnswer>(built);
            EXPECT_EQ(answer.facts.verdict, Verdict::rejected);
            EXPECT_FALSE(answer.facts.confirm);
            EXPECT_NE(answer.error.find("t_order_pay.transaction_id"), std::string::npos);
            EXPECT_EQ(clean_text(answer.error), answer.error);
        }
    }
}

TEST_F(Stripe, WordsTheReasonForStripe) {
    for (const auto& [ours, theirs] :
         {std::pair("duplicate", "duplicate"), std::pair("late", "requested_by_customer"),
          std::pair("request", "requested_by_customer"),
          std::pair("mismatch", "requested_by_customer")}) {
        RefundCall call = refund_call();
        call.reason = ours;
        const BuiltRequest built = gateway->build(call, {});
        const auto fields = read_form(std::get<HttpRequest>(built).body);
        ASSERT_TRUE(fields);
        EXPECT_EQ(form_value(*fields, "reason"), theirs);
    }
}

TEST_F(Stripe, AsksForTheListOfThePaymentsRefunds) {
    RefundCall call = query_call();
    const BuiltRequest built = gateway->build(call, {});
    const auto& request = std::get<HttpRequest>(built);
    EXPECT_EQ(request.method, HttpMethod::get);
    EXPECT_EQ(request.url, "https://api.stripe.com/v1/refunds?payment_intent=pi_3Abc&limit=100");
    EXPECT_EQ(request.body, "");
    EXPECT_EQ(header_of(request, "Idempotency-Key"), "no such header");
    call.transaction_id = "ch_9";
    call.page = "re_99";
    const BuiltRequest next = gateway->build(call, {});
    EXPECT_EQ(std::get<HttpRequest>(next).url,
              "https://api.stripe.com/v1/refunds?charge=ch_9&limit=100&starting_after=re_99");
}

TEST_F(Stripe, AsksByStripesNumberWhereItIsKnown) {
    RefundCall call = query_by_id();
    call.transaction_id = "";
    for (const char* id : {"re_1", "pyr_1"}) {
        call.gateway_refund_id = id;
        const BuiltRequest built = gateway->build(call, {});
        EXPECT_EQ(std::get<HttpRequest>(built).url,
                  "https://api.stripe.com/v1/refunds/" + std::string(id));
    }
    call.transaction_id = "pi_3Abc";
    for (const char* id : {"", "1", "re_1/../../charges", "re_1?x=y", "RE_1"}) {
        call.gateway_refund_id = id;
        const BuiltRequest built = gateway->build(call, {});
        EXPECT_EQ(std::get<HttpRequest>(built).url,
                  "https://api.stripe.com/v1/refunds?payment_intent=pi_3Abc&limit=100")
            << id;
    }
}

TEST_F(Stripe, TakesAUrlWithSlashesAtItsEnd) {
    reopen(options_of("sk_test_abc", "", "http://127.0.0.1:8080//"));
    const BuiltRequest built = gateway->build(refund_call(), {});
    EXPECT_EQ(std::get<HttpRequest>(built).url, "http://127.0.0.1:8080/v1/refunds");
}

// --- Answers: a refund -------------------------------------------------------------------------

TEST_F(Stripe, ReadsEachStatus) {
    struct Case {
        json status;
        Verdict verdict;
    };
    const std::vector<Case> cases = {{"succeeded", Verdict::succeeded},
                                     {"pending", Verdict::processing},
                                     {"requires_action", Verdict::processing},
                                     {"failed", Verdict::failed},
                                     {"canceled", Verdict::failed},
                                     {nullptr, Verdict::unknown},
                                     {"cancelled", Verdict::unknown},
                                     {"Succeeded", Verdict::unknown},
                                     {"succeeded ", Verdict::unknown},
                                     {"", Verdict::unknown},
                                     {1, Verdict::unknown},
                                     {true, Verdict::unknown}};
    for (const Case& expected : cases) {
        const json refund = refund_with("status", expected.status);
        for (const RefundCall& call : {refund_call(), query_by_id()}) {
            const GatewayAnswer read =
                gateway->read_answer(call, answered(200, refund), now_unix_s);
            EXPECT_EQ(name_of_verdict(read), name_of(expected.verdict)) << expected.status;
            EXPECT_EQ(read.refund_id, "re_1");
        }
        const GatewayAnswer read =
            gateway->read_answer(query_call(), answered(200, list_of({refund})), now_unix_s);
        EXPECT_EQ(name_of_verdict(read), name_of(expected.verdict)) << expected.status;
        EXPECT_EQ(read.refund_id, "re_1");
    }
    const GatewayAnswer none =
        gateway->read_answer(refund_call(), answered(200, refund_without("status")), now_unix_s);
    EXPECT_EQ(none.facts.verdict, Verdict::unknown);
}

TEST_F(Stripe, SaysWhyARefundFailed) {
    json refund = refund_with("status", "failed");
    const auto error_of = [&] {
        return gateway->read_answer(refund_call(), answered(200, refund), now_unix_s).error;
    };
    EXPECT_EQ(error_of(), "Stripe declared the refund failed without saying why");
    refund["failure_reason"] = "lost_or_stolen_card";
    EXPECT_EQ(error_of(), "Stripe declared the refund failed: lost_or_stolen_card");
}

TEST_F(Stripe, TellsOfABalanceThatIsTooSmallAndOfTheCustomer) {
    json refund = refund_with("status", "pending");
    const auto concern = [&] {
        return gateway->read_answer(refund_call(), answered(200, refund), now_unix_s).facts.concern;
    };
    EXPECT_EQ(concern(), Concern::none);
    refund["pending_reason"] = "processing";
    EXPECT_EQ(concern(), Concern::none);
    refund["pending_reason"] = "insufficient_funds";
    EXPECT_EQ(concern(), Concern::balance);
    refund["status"] = "requires_action";
    EXPECT_EQ(concern(), Concern::customer);
    refund["status"] = "succeeded";
    EXPECT_EQ(concern(), Concern::none);
}

TEST_F(Stripe, BelievesNoAnswerAboutAnotherRefund) {
    json other_number = refund_object();
    other_number["metadata"]["out_refund_no"] = "PAY1-R10";
    json number_as_number = refund_object();
    number_as_number["metadata"]["out_refund_no"] = 1;
    json with_blank = refund_object();
    with_blank["metadata"]["out_refund_no"] = "PAY1-R1\n";
    const std::vector<json> others = {other_number,
                                      number_as_number,
                                      with_blank,
                                      refund_without("metadata"),
                                      refund_with("metadata", nullptr),
                                      refund_with("metadata", json::array({"PAY1-R1"})),
                                      refund_with("payment_intent", "pi_other"),
                                      refund_with("payment_intent", json::object()),
                                      refund_with("object", "charge"),
                                      refund_with("object", nullptr),
                                      refund_without("object")};
    for (const json& refund : others) {
        for (const RefundCall& call : {refund_call(), query_by_id()}) {
            const GatewayAnswer read =
                gateway->read_answer(call, answered(200, refund), now_unix_s);
            EXPECT_EQ(name_of_verdict(read), "unknown") << refund;
            EXPECT_EQ(read.refund_id, "") << refund;
            EXPECT_NE(read.error, "") << refund;
        }
    }
    const GatewayAnswer read =
        gateway->read_answer(query_by_id(), answered(200, refund_with("id", "re_2")), now_unix_s);
    EXPECT_EQ(name_of_verdict(read), "unknown");
}

TEST_F(Stripe, TakesAnAnswerThatDoesNotNameThePayment) {
    for (const json& refund :
         {refund_without("payment_intent"), refund_with("payment_intent", nullptr)}) {
        EXPECT_EQ(
            name_of_verdict(gateway->read_answer(refund_call(), answered(200, refund), now_unix_s)),
            "succeeded");
    }
    RefundCall call = refund_call();
    call.transaction_id = "ch_3Abc";
    EXPECT_EQ(
        name_of_verdict(gateway->read_answer(call, answered(200, refund_object()), now_unix_s)),
        "succeeded");
    call.transaction_id = "ch_other";
    EXPECT_EQ(
        name_of_verdict(gateway->read_answer(call, answered(200, refund_object()), now_unix_s)),
        "unknown");
}

TEST_F(Stripe, GivesOurNumberWithAnotherAmountToAPerson) {
    for (const json& refund : {refund_with("amount", 1300), refund_with("amount", 0),
                               refund_with("amount", -1299), refund_with("currency", "eur")}) {
        for (const char* status : {"succeeded", "pending", "failed", "new"}) {
            json one = refund;
            one["status"] = status;
            for (const auto& [call, body] :
                 {std::pair(refund_call(), one), std::pair(query_call(), list_of({one}))}) {
                const GatewayAnswer read =
                    gateway->read_answer(call, answered(200, body), now_unix_s);
                EXPECT_EQ(name_of_verdict(read), "abnormal") << body;
                EXPECT_EQ(read.refund_id, "re_1");
            }
        }
    }
    const GatewayAnswer read =
        gateway->read_answer(refund_call(), answered(200, refund_with("amount", 5)), now_unix_s);
    EXPECT_EQ(read.error, "Stripe has this refund with 5 USD instead of 1299 USD");
}

TEST_F(Stripe, GuessesNoAmount) {
    for (const json& refund :
         {refund_without("amount"), refund_with("amount", "1299"), refund_with("amount", 1299.0),
          refund_with("amount", nullptr), refund_with("amount", 18446744073709551615U),
          refund_without("currency"), refund_with("currency", nullptr)}) {
        EXPECT_EQ(
            name_of_verdict(gateway->read_answer(refund_call(), answered(200, refund), now_unix_s)),
            "unknown")
            << refund;
    }
}

TEST_F(Stripe, ReadsNothingOutOfOtherBodies) {
    using namespace std::string_literals;
    for (const std::string& body :
         {""s, "null"s, "[]"s, "1"s, "<html></html>"s, "{"s, refund_object().dump() + "x",
          refund_object().dump() + "\0"s, "[" + refund_object().dump() + "]",
          list_of({refund_object()}).dump()}) {
        EXPECT_EQ(
            name_of_verdict(gateway->read_answer(refund_call(), answered(200, body), now_unix_s)),
            "unknown")
            << body;
    }
    EXPECT_EQ(name_of_verdict(
                  gateway->read_answer(query_call(), answered(200, refund_object()), now_unix_s)),
              "unknown");
}

// --- Answers: a list ---------------------------------------------------------------------------

TEST_F(Stripe, FindsOursInTheList) {
    const json list = list_of({foreign_refund("re_8"), refund_object(), foreign_refund("re_7")});
    const GatewayAnswer read = gateway->read_answer(query_call(), answered(200, list), now_unix_s);
    EXPECT_EQ(name_of_verdict(read), "succeeded");
    EXPECT_EQ(read.refund_id, "re_1");
    EXPECT_EQ(read.next_page, "");
}

TEST_F(Stripe, DoesNotFindWhatIsNotInTheWholeList) {
    for (const json& data : {json::array(), json::array({foreign_refund("re_8")})}) {
        const GatewayAnswer read =
            gateway->read_answer(query_call(), answered(200, list_of(data)), now_unix_s);
        EXPECT_EQ(name_of_verdict(read), "not_found");
        EXPECT_EQ(read.next_page, "");
    }
}

TEST_F(Stripe, GoesOnToTheNextPage) {
    const json list = list_of({foreign_refund("re_8"), foreign_refund("re_7")}, true);
    const GatewayAnswer read = gateway->read_answer(query_call(), answered(200, list), now_unix_s);
    EXPECT_EQ(name_of_verdict(read), "unknown");
    EXPECT_EQ(read.next_page, "re_7");
    const json found = list_of({refund_object(), foreign_refund("re_7")}, true);
    const GatewayAnswer one = gateway->read_answer(query_call(), answered(200, found), now_unix_s);
    EXPECT_EQ(name_of_verdict(one), "succeeded");
    EXPECT_EQ(one.next_page, "");
}

TEST_F(Stripe, FollowsNoPageThatHasNoName) {
    json nameless = foreign_refund("re_8");
    nameless.erase("id");
    for (const json& data :
         {json::array(), json::array({nameless}), json::array({foreign_refund("re_8&limit=1")})}) {
        const GatewayAnswer read =
            gateway->read_answer(query_call(), answered(200, list_of(data, true)), now_unix_s);
        EXPECT_EQ(name_of_verdict(read), "unknown");
        EXPECT_EQ(read.next_page, "");
        EXPECT_NE(read.error, "");
    }
}

TEST_F(Stripe, DoesNotTakeWhatIsNoListForAnEmptyOne) {
    json no_more = list_of(json::array());
    no_more.erase("has_more");
    json more_as_text = list_of(json::array());
    more_as_text["has_more"] = "false";
    json no_data = list_of(json::array());
    no_data.erase("data");
    json data_as_object = list_of(json::object());
    json other_object = list_of(json::array());
    other_object["object"] = "search_result";
    const json with_charge = list_of({{{"object", "charge"}, {"id", "ch_1"}}});
    const json with_text = list_of({"re_1"});
    const json with_null = list_of({nullptr});
    for (const json& body : {no_more, more_as_text, no_data, data_as_object, other_object,
                             with_charge, with_text, with_null, json::object(), json::array()}) {
        const GatewayAnswer read =
            gateway->read_answer(query_call(), answered(200, body), now_unix_s);
        EXPECT_EQ(name_of_verdict(read), "unknown") << body;
        EXPECT_EQ(read.next_page, "") << body;
    }
}

TEST_F(Stripe, LetsALiveRefundWinOverDeadOnes) {
    for (const char* dead : {"failed", "canceled"}) {
        for (const auto& [live, verdict] :
             {std::pair("succeeded", "succeeded"), std::pair("pending", "processing"),
              std::pair("requires_action", "processing"), std::pair("new", "unknown")}) {
            json a = refund_with("status", dead);
            json b = refund_with("status", live);
            b["id"] = "re_2";
            for (const json& data :
                 {json::array({a, b}), json::array({b, a}), json::array({a, b, a})}) {
                const GatewayAnswer read =
                    gateway->read_answer(query_call(), answered(200, list_of(data)), now_unix_s);
                EXPECT_EQ(name_of_verdict(read), verdict) << data;
                EXPECT_EQ(read.refund_id, "re_2");
            }
        }
    }
    const json dead = list_of({refund_with("status", "failed"), refund_with("status", "canceled")});
    EXPECT_EQ(name_of_verdict(gateway->read_answer(query_call(), answered(200, dead), now_unix_s)),
              "failed");
}

TEST_F(Stripe, GivesTwoLiveRefundsToAPerson) {
    for (const char* first : {"succeeded", "pending", "new"}) {
        for (const char* second : {"succeeded", "requires_action", "new"}) {
            json a = refund_with("status", first);
            json b = refund_with("status", second);
            b["id"] = "re_2";
            const GatewayAnswer read = gateway->read_answer(
                query_call(), answered(200, list_of({a, b}, true)), now_unix_s);
            EXPECT_EQ(name_of_verdict(read), "abnormal");
            EXPECT_EQ(read.error, "Stripe has several refunds with this number: re_1 and re_2");
        }
    }
}

TEST_F(Stripe, DeclaresNoNumberDeadBeforeTheListEnds) {
    const json dead = refund_with("status", "failed");
    EXPECT_EQ(name_of_verdict(gateway->read_answer(
                  query_call(), answered(200, list_of({dead}, true)), now_unix_s)),
              "unknown");
}

// --- Answers: errors ---------------------------------------------------------------------------

struct Facts {
    std::string verdict;
    bool confirm = false;
    std::string when_unknown = "resend";
    Concern concern = Concern::none;
    bool slow_down = false;

    bool operator==(const Facts&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Facts& facts) {
    return out << facts.verdict << (facts.confirm ? " confirm " : " ") << facts.when_unknown << " "
               << static_cast<int>(facts.concern) << (facts.slow_down ? " slow_down" : "");
}

Facts facts_of(const GatewayAnswer& answer) {
    return {name_of(answer.facts.verdict), answer.facts.confirm, name_of(answer.facts.when_unknown),
            answer.facts.concern, answer.facts.slow_down};
}

const Facts unknown = {.verdict = "unknown"};
const Facts throttled = {.verdict = "wait", .slow_down = true};
const Facts misconfigured = {.verdict = "rejected", .slow_down = true};
const Facts refused = {.verdict = "rejected", .confirm = true};
const Facts refused_to_say = {.verdict = "rejected"};
const Facts poor = {.verdict = "wait", .concern = Concern::balance, .slow_down = true};

Facts of_status(CallKind kind, int status) {
    switch (status) {
        case 401:
        case 403:
            return misconfigured;
        case 408:
        case 409:
        case 424:
        case 425:
            return unknown;
        case 429:
            return throttled;
        default:
            break;
    }
    if (status < 400 || status >= 500) {
        return unknown;
    }
    return kind == CallKind::refund ? refused : refused_to_say;
}

TEST_F(Stripe, ReadsEveryStatusCode) {
    for (int status = 0; status <= 1000; ++status) {
        if (status == 200) {
            continue;
        }
        for (const std::string& body :
             {std::string(), std::string("<html>"), error_body({{"type", "api_error"}}).dump(),
              refund_object().dump(), list_of(json::array()).dump()}) {
            for (const RefundCall& call : {refund_call(), query_call(), query_by_id()}) {
                const GatewayAnswer read =
                    gateway->read_answer(call, answered(status, body), now_unix_s);
                EXPECT_EQ(facts_of(read), of_status(call.kind, status)) << status << body;
                EXPECT_EQ(read.next_page, "");
                EXPECT_EQ(read.refund_id, "");
                EXPECT_NE(read.error.find(std::to_string(status)), std::string::npos);
            }
        }
    }
}

TEST_F(Stripe, ChangesTheKeyOnlyWhenTheStoredAnswerIsSeen) {
    for (int status = 400; status < 600; ++status) {
        const HttpResponse stored = answered(status, error_body({{"type", "api_error"}}),
                                             {{"idempotent-replayed", "true"}});
        const Facts fresh = of_status(CallKind::refund, status);
        const Facts expected = {
            .verdict = "unknown", .when_unknown = "new_key", .slow_down = fresh.slow_down};
        EXPECT_EQ(facts_of(gateway->read_answer(refund_call(), stored, now_unix_s)), expected);
        EXPECT_EQ(facts_of(gateway->read_answer(query_call(), stored, now_unix_s)),
                  of_status(CallKind::query, status));
        for (const char* value : {"false", "", "1", "true, true"}) {
            const HttpResponse other = answered(status, error_body({{"type", "api_error"}}),
                                                {{"Idempotent-Replayed", value}});
            EXPECT_EQ(facts_of(gateway->read_answer(refund_call(), other, now_unix_s)), fresh);
        }
    }
}

TEST_F(Stripe, KeepsTheKeyWhileARequestUnderItRuns) {
    const HttpResponse running = answered(409, error_body({{"code", "idempotency_key_in_use"}}),
                                          {{"Idempotent-Replayed", "true"}});
    EXPECT_EQ(facts_of(gateway->read_answer(refund_call(), running, now_unix_s)), unknown);
}

TEST_F(Stripe, ConfirmsWhatWasRefused) {
    const std::vector<std::pair<int, json>> refusals = {
        {400, {{"code", "charge_already_refunded"}, {"type", "invalid_request_error"}}},
        {400,
         {{"type", "invalid_request_error"},
          {"param", "amount"},
          {"message", "Refund amount ($13.00) is greater than unrefunded amount on charge"}}},
        {400, {{"type", "idempotency_error"}}},
        {400, {{"code", "charge_disputed"}}},
        {400, {{"code", "refund_disputed_payment"}}},
        {400, {{"code", "charge_not_refundable"}}},
        {400, {{"code", "intent_invalid_state"}}},
        {400, {{"code", "parameter_invalid_integer"}}},
        {400, {{"code", "url_invalid"}}},
        {400, {{"code", "never_heard_of"}}},
        {402, {{"code", "card_declined"}, {"type", "card_error"}}},
        {404, {{"code", "resource_missing"}}},
    };
    for (const auto& [status, error] : refusals) {
        const HttpResponse response = answered(status, error_body(error));
        EXPECT_EQ(facts_of(gateway->read_answer(refund_call(), response, now_unix_s)), refused)
            << error;
        EXPECT_EQ(facts_of(gateway->read_answer(query_by_id(), response, now_unix_s)),
                  refused_to_say)
            << error;
    }
    const HttpResponse stored = answered(400, error_body({{"type", "idempotency_error"}}),
                                         {{"Idempotent-Replayed", "true"}});
    EXPECT_EQ(facts_of(gateway->read_answer(refund_call(), stored, now_unix_s)), refused);
}

TEST_F(Stripe, WaitsForTheBalance) {
    const std::vector<json> errors = {
        {{"code", "balance_insufficient"}},
        {{"code", "insufficient_funds"}},
        {{"message", "Insufficient funds in Stripe account."}},
        {{"message", "You have an insufficient balance in your account to refund this"}},
    };
    for (const json& error : errors) {
        EXPECT_EQ(facts_of(gateway->read_answer(refund_call(), answered(400, error_body(error)),
                                                now_unix_s)),
                  poor)
            << error;
        EXPECT_EQ(facts_of(gateway->read_answer(query_call(), answered(400, error_body(error)),
                                                now_unix_s)),
                  refused_to_say);
        const Facts stored = {.verdict = "unknown",
                              .when_unknown = "new_key",
                              .concern = Concern::balance,
                              .slow_down = true};
        EXPECT_EQ(
            facts_of(gateway->read_answer(
                refund_call(), answered(400, error_body(error), {{"Idempotent-Replayed", "true"}}),
                now_unix_s)),
            stored);
    }
    // Where there is a code, it decides.
    const json coded = {{"code", "charge_disputed"}, {"message", "insufficient funds"}};
    EXPECT_EQ(
        facts_of(gateway->read_answer(refund_call(), answered(400, error_body(coded)), now_unix_s)),
        refused);
}

TEST_F(Stripe, NamesTheOptionToCheck) {
    const std::vector<std::pair<int, std::string>> errors = {{401, ""},
                                                             {403, ""},
                                                             {401, "api_key_expired"},
                                                             {400, "livemode_mismatch"},
                                                             {400, "testmode_charges_only"}};
    for (const auto& [status, code] : errors) {
        const json error = code.empty() ? json{{"message", "no"}} : json{{"code", code}};
        const GatewayAnswer read =
            gateway->read_answer(refund_call(), answered(status, error_body(error)), now_unix_s);
        EXPECT_EQ(facts_of(read), misconfigured) << status << code;
        EXPECT_NE(read.error.find("option secret_key"), std::string::npos) << read.error;
    }
}

TEST_F(Stripe, ObeysStripeShouldRetryWhereThatIsSafe) {
    for (int status = 400; status < 600; ++status) {
        const json body = error_body({{"code", "never_heard_of"}});
        const Facts fresh = of_status(CallKind::refund, status);
        Facts retried = fresh;
        if (fresh.verdict == "rejected") {
            retried.verdict = "unknown";
            retried.confirm = false;
        }
        EXPECT_EQ(facts_of(gateway->read_answer(
                      refund_call(), answered(status, body, {{"Stripe-Should-Retry", "true"}}),
                      now_unix_s)),
                  retried);
        EXPECT_EQ(facts_of(gateway->read_answer(
                      refund_call(), answered(status, body, {{"Stripe-Should-Retry", "false"}}),
                      now_unix_s)),
                  fresh);
    }
}

TEST_F(Stripe, WordsErrors) {
    const HttpResponse response =
        answered(400,
                 error_body({{"code", "charge_already_refunded"},
                             {"type", "invalid_request_error"},
                             {"message", "Charge ch_1 has already been refunded."}}),
                 {{"request-id", "req_9"}});
    EXPECT_EQ(gateway->read_answer(refund_call(), response, now_unix_s).error,
              "HTTP 400 charge_already_refunded: Charge ch_1 has already been refunded. "
              "(request req_9)");
    EXPECT_EQ(
        gateway->read_answer(refund_call(), answered(502, std::string("<html>\nBad")), now_unix_s)
            .error,
        "HTTP 502: <html> Bad");
    EXPECT_EQ(
        gateway->read_answer(refund_call(), answered(500, std::string("{}")), now_unix_s).error,
        "HTTP 500");
}

TEST_F(Stripe, KeepsTheRequestsIdOfALongError) {
    const json error = {{"code", std::string(500, 'c')}, {"message", std::string(5000, 'm')}};
    for (const int status : {400, 401, 403}) {
        const GatewayAnswer read = gateway->read_answer(
            refund_call(), answered(status, error_body(error), {{"Request-Id", "req_9"}}),
            now_unix_s);
        EXPECT_LE(read.error.size(), max_error_bytes);
        EXPECT_TRUE(read.error.ends_with("(request req_9)")) << read.error;
    }
}

TEST_F(Stripe, ReadsTheDeliveryFirst) {
    HttpResponse response = answered(200, refund_object());
    response.error = "no connection\n";
    response.delivery = Delivery::not_sent;
    for (const RefundCall& call : {refund_call(), query_call()}) {
        GatewayAnswer read = gateway->read_answer(call, response, now_unix_s);
        EXPECT_EQ(name_of_verdict(read), "not_sent");
        EXPECT_EQ(read.error, "no connection ");
        HttpResponse broken = response;
        broken.delivery = Delivery::uncertain;
        read = gateway->read_answer(call, broken, now_unix_s);
        EXPECT_EQ(name_of_verdict(read), "unknown");
        EXPECT_EQ(facts_of(read), unknown);
    }
}

TEST_F(Stripe, PassesRetryAfterOn) {
    HttpResponse response = answered(429, std::string("{}"));
    response.retry_after_s = 7;
    EXPECT_EQ(gateway->read_answer(refund_call(), response, now_unix_s).facts.retry_after_s, 7);
}

// --- Notifications -----------------------------------------------------------------------------

std::string hex_of(std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const char c : bytes) {
        text += digits[static_cast<unsigned char>(c) >> 4];
        text += digits[static_cast<unsigned char>(c) & 15];
    }
    return text;
}

std::string signature(std::string_view secret, std::int64_t sent_unix_s, std::string_view body) {
    return hex_of(std::string(secret) + "|" + std::to_string(sent_unix_s) + "." +
                  std::string(body));
}

std::string signature_header(std::string_view body, std::int64_t sent_unix_s = now_unix_s) {
    return "t=" + std::to_string(sent_unix_s) + ",v1=" + signature(first_secret, sent_unix_s, body);
}

Notice read_with(const Gateway& gateway, std::string_view header, std::string_view body) {
    const std::vector<HttpHeader> headers = {{"stripe-signature", std::string(header)}};
    return gateway.read_notice({headers, body, now_unix_s});
}

Notice read_signed(const Gateway& gateway, const std::string& body) {
    return read_with(gateway, signature_header(body), body);
}

json event_of(std::string_view type, const json& object) {
    return {{"id", "evt_1"},
            {"object", "event"},
            {"livemode", false},
            {"type", type},
            {"data", {{"object", object}}}};
}

json intent() {
    return {{"id", "pi_3Abc"},       {"object", "payment_intent"},
            {"amount", 9999},        {"amount_received", 9999},
            {"currency", "usd"},     {"metadata", {{"out_trade_no", "PAY1"}}},
            {"status", "succeeded"}, {"latest_charge", "ch_3Abc"}};
}

json session() {
    return {{"id", "cs_test_1"},
            {"object", "checkout.session"},
            {"amount_total", 9999},
            {"currency", "usd"},
            {"payment_intent", "pi_3Abc"},
            {"payment_status", "paid"},
            {"client_reference_id", "PAY2"},
            {"metadata", {{"out_trade_no", "PAY1"}}}};
}

class StripeNotice : public Stripe {
  protected:
    Notice read(std::string_view type, const json& object) const {
        return read_signed(*gateway, event_of(type, object).dump());
    }
};

TEST_F(StripeNotice, IsVerified) {
    const std::string body = event_of("payment_intent.succeeded", intent()).dump();
    EXPECT_EQ(read_signed(*gateway, body).kind, NoticeKind::payment);
    const std::string right = signature(first_secret, now_unix_s, body);
    const std::string time = "t=" + std::to_string(now_unix_s);
    for (const std::string& header : {time + ",v1=" + right + ",v0=00", "v1=" + right + "," + time,
                                      time + ",v1=00,v1=" + right, time + ",v1=" + right + ",v1=",
                                      time + ",v2=x,x,v1=" + right, time + ",v1=" + right + ","}) {
        EXPECT_EQ(read_with(*gateway, header, body).kind, NoticeKind::payment) << header;
    }
    for (const std::string& header : {std::string(),
                                      time,
                                      "v1=" + right,
                                      time + ",v0=" + right,
                                      time + ",v1=",
                                      time + "," + time + ",v1=" + right,
                                      "t=,v1=" + right,
                                      "t=+1,v1=" + right,
                                      "t=-1,v1=" + right,
                                      "t=1e9,v1=" + right,
                                      "t=99999999999999999999,v1=" + right,
                                      "t= " + std::to_string(now_unix_s) + ",v1=" + right,
                                      time + "; v1=" + right,
                                      time + ",V1=" + right,
                                      time + ",v1=" + right.substr(1),
                                      time + ",v1=" + right.substr(0, right.size() - 1),
                                      time + ",v1=" + right + "0",
                                      time + ", v1=" + right,
                                      "t=1,v1=" + right,
                                      time + ",v1=" + signature(second_secret, now_unix_s, body)}) {
        const Notice notice = read_with(*gateway, header, body);
        EXPECT_EQ(notice.kind, NoticeKind::forged) << header;
        EXPECT_NE(notice.why, "");
        EXPECT_EQ(notice.why.find("whsec_"), std::string::npos);
    }
    EXPECT_EQ(read_with(*gateway, signature_header(body), body + "\n").kind, NoticeKind::forged);
}

TEST_F(StripeNotice, NeedsItsHeaderOnce) {
    const std::string body = event_of("payment_intent.succeeded", intent()).dump();
    const HttpHeader header = {"Stripe-Signature", signature_header(body)};
    EXPECT_EQ(gateway->read_notice({{}, body, now_unix_s}).kind, NoticeKind::forged);
    const std::vector<HttpHeader> twice = {header, header};
    EXPECT_EQ(gateway->read_notice({twice, body, now_unix_s}).kind, NoticeKind::forged);
}

TEST_F(StripeNotice, HasBoundedSignatures) {
    const std::string body = event_of("payment_intent.succeeded", intent()).dump();
    const std::string right = ",v1=" + signature(first_secret, now_unix_s, body);
    std::string header = "t=" + std::to_string(now_unix_s);
    for (int i = 0; i < 14; ++i) {
        header += ",v1=00";
    }
    EXPECT_EQ(read_with(*gateway, header + right, body).kind, NoticeKind::payment);
    EXPECT_EQ(read_with(*gateway, header + ",v1=00" + right, body).kind, NoticeKind::forged);
    EXPECT_EQ(read_with(*gateway, header + right + right, body).kind, NoticeKind::forged);
}

TEST_F(StripeNotice, IsOfTheLastFiveMinutesAndTheNext) {
    const std::string body = event_of("payment_intent.succeeded", intent()).dump();
    for (const auto& [age_s, kind] :
         {std::pair(0, NoticeKind::payment), std::pair(300, NoticeKind::payment),
          std::pair(-300, NoticeKind::payment), std::pair(301, NoticeKind::forged),
          std::pair(-301, NoticeKind::forged), std::pair(1768443631, NoticeKind::forged)}) {
        const std::string header = signature_header(body, now_unix_s - age_s);
        EXPECT_EQ(read_with(*gateway, header, body).kind, kind) << age_s;
    }
    constexpr std::int64_t end_of_time = 9223372036854775807;
    EXPECT_EQ(read_with(*gateway, signature_header(body, end_of_time), body).kind,
              NoticeKind::forged);
}

TEST_F(StripeNotice, MayBeSignedByEitherSecret) {
    const std::string body = event_of("payment_intent.succeeded", intent()).dump();
    reopen(options_of("sk_test_abc", "whsec_first, whsec_second"));
    for (const std::string_view secret : {first_secret, second_secret}) {
        const std::string header =
            "t=" + std::to_string(now_unix_s) + ",v1=" + signature(secret, now_unix_s, body);
        EXPECT_EQ(read_with(*gateway, header, body).kind, NoticeKind::payment) << secret;
    }
    const std::string header =
        "t=" + std::to_string(now_unix_s) + ",v1=" + signature("first", now_unix_s, body);
    EXPECT_EQ(read_with(*gateway, header, body).kind, NoticeKind::forged);
}

TEST_F(StripeNotice, IsUnusableWithoutASecretOrALibrary) {
    const std::string body = event_of("payment_intent.succeeded", intent()).dump();
    crypto.fails = true;
    EXPECT_EQ(read_signed(*gateway, body).kind, NoticeKind::unusable);
    reopen(options_of("sk_test_abc"));
    EXPECT_EQ(read_signed(*gateway, body).kind, NoticeKind::unusable);
}

TEST_F(StripeNotice, IsOfTheKeysMode) {
    json event = event_of("payment_intent.succeeded", intent());
    event["livemode"] = true;
    EXPECT_EQ(read_signed(*gateway, event.dump()).kind, NoticeKind::forged);
    for (const char* key : {"sk_live_1", "rk_live_1"}) {
        reopen(options_of(key, first_secret));
        event["livemode"] = true;
        EXPECT_EQ(read_signed(*gateway, event.dump()).kind, NoticeKind::payment);
        event["livemode"] = false;
        EXPECT_EQ(read_signed(*gateway, event.dump()).kind, NoticeKind::forged);
    }
    for (const json& mode : {json(nullptr), json("true"), json(1)}) {
        event["livemode"] = mode;
        EXPECT_EQ(read_signed(*gateway, event.dump()).kind, NoticeKind::forged);
    }
    event.erase("livemode");
    EXPECT_EQ(read_signed(*gateway, event.dump()).kind, NoticeKind::forged);
}

TEST_F(StripeNotice, IsNotOfAConnectedAccount) {
    json event = event_of("payment_intent.succeeded", intent());
    event["account"] = "acct_1";
    EXPECT_EQ(read_signed(*gateway, event.dump()).kind, NoticeKind::ignored);
    event["account"] = nullptr;
    EXPECT_EQ(read_signed(*gateway, event.dump()).kind, NoticeKind::payment);
}

TEST_F(StripeNotice, IsASnapshot) {
    const json thin = {{"object", "v2.core.event"}, {"livemode", false}, {"type", "x"}};
    // All of the endpoint's news would be lost in silence, were it acknowledged.
    EXPECT_EQ(read_signed(*gateway, thin.dump()).kind, NoticeKind::unusable);
    for (const char* body : {"", "null", "[]", "{}", "{\"object\":\"charge\"}", "<html>", "{"}) {
        EXPECT_EQ(read_signed(*gateway, body).kind, NoticeKind::unusable) << body;
    }
}

TEST_F(StripeNotice, OfASuccess) {
    const Notice notice = read("payment_intent.succeeded", intent());
    ASSERT_EQ(notice.kind, NoticeKind::payment);
    EXPECT_TRUE(notice.payment.success);
    EXPECT_EQ(notice.payment.payment_id, "PAY1");
    EXPECT_EQ(notice.payment.transaction_id, "pi_3Abc");
    EXPECT_EQ(notice.payment.amount, 9999);
    EXPECT_EQ(notice.payment.currency, "USD");
    const json content = parse_json(notice.content);
    EXPECT_EQ(content["event"], "evt_1");
    EXPECT_EQ(content["type"], "payment_intent.succeeded");
    EXPECT_EQ(content["amount_received"], 9999);
    EXPECT_EQ(content["metadata"]["out_trade_no"], "PAY1");
}

TEST_F(StripeNotice, TakesWhatArrivedNotWhatWasAskedFor) {
    json object = intent();
    object["amount_received"] = 5;
    EXPECT_EQ(read("payment_intent.succeeded", object).payment.amount, 5);
}

TEST_F(StripeNotice, OfASuccessThatSaysTooLittleComesAgain) {
    for (const auto& [member, value] :
         {std::pair("amount_received", json(nullptr)), std::pair("amount_received", json("9999")),
          std::pair("amount_received", json(99.5)), std::pair("amount_received", json(0)),
          std::pair("amount_received", json(-1)), std::pair("currency", json(nullptr)),
          std::pair("currency", json("dollar")), std::pair("status", json("processing")),
          std::pair("object", json("charge"))}) {
        json object = intent();
        object[member] = value;
        EXPECT_EQ(read("payment_intent.succeeded", object).kind, NoticeKind::unusable)
            << member << value;
    }
    json nameless = intent();
    nameless.erase("id");
    nameless.erase("metadata");
    EXPECT_EQ(read("payment_intent.succeeded", nameless).kind, NoticeKind::unusable);
    const json bare = {
        {"object", "event"}, {"livemode", false}, {"type", "payment_intent.succeeded"}};
    EXPECT_EQ(read_signed(*gateway, bare.dump()).kind, NoticeKind::unusable);
}

TEST_F(StripeNotice, WithoutOurNumberNamesStripes) {
    const std::vector<json> numbers = {nullptr,  1,     "", "has blank", std::string(57, 'x'),
                                       "PAY1\n", "../x"};
    for (const json& number : numbers) {
        json object = intent();
        object["metadata"]["out_trade_no"] = number;
        for (const char* type : {"payment_intent.succeeded", "payment_intent.payment_failed"}) {
            const Notice notice = read(type, object);
            ASSERT_EQ(notice.kind, NoticeKind::payment) << number;
            EXPECT_EQ(notice.payment.payment_id, "") << number;
            EXPECT_EQ(notice.payment.transaction_id, "pi_3Abc");
        }
    }
}

TEST_F(StripeNotice, OfAFailureBringsNoTransaction) {
    json object = intent();
    object["status"] = "requires_payment_method";
    object["amount_received"] = 0;
    for (const char* type : {"payment_intent.payment_failed", "payment_intent.canceled"}) {
        const Notice notice = read(type, object);
        ASSERT_EQ(notice.kind, NoticeKind::payment);
        EXPECT_FALSE(notice.payment.success);
        EXPECT_EQ(notice.payment.payment_id, "PAY1");
        EXPECT_EQ(notice.payment.transaction_id, "");
        EXPECT_FALSE(notice.payment.amount);
    }
    object.erase("id");
    object.erase("metadata");
    EXPECT_EQ(read("payment_intent.canceled", object).kind, NoticeKind::ignored);
}

TEST_F(StripeNotice, OfAPaidSession) {
    for (const char* type :
         {"checkout.session.completed", "checkout.session.async_payment_succeeded"}) {
        json object = session();
        Notice notice = read(type, object);
        ASSERT_EQ(notice.kind, NoticeKind::payment);
        EXPECT_TRUE(notice.payment.success);
        EXPECT_EQ(notice.payment.payment_id, "PAY1");
        EXPECT_EQ(notice.payment.transaction_id, "pi_3Abc");
        EXPECT_EQ(notice.payment.amount, 9999);
        EXPECT_EQ(notice.payment.currency, "USD");
        object["metadata"] = json::object();
        EXPECT_EQ(read(type, object).payment.payment_id, "PAY2");
        object["client_reference_id"] = "no number of ours";
        notice = read(type, object);
        EXPECT_EQ(notice.kind, NoticeKind::payment);
        EXPECT_EQ(notice.payment.payment_id, "");
        object["payment_intent"] = nullptr;
        EXPECT_EQ(read(type, object).kind, NoticeKind::unusable);
    }
}

TEST_F(StripeNotice, OfASessionThatIsNotPaid) {
    json object = session();
    for (const auto& [status, kind] :
         {std::pair("unpaid", NoticeKind::ignored),
          std::pair("no_payment_required", NoticeKind::ignored),
          std::pair("", NoticeKind::unusable), std::pair("new", NoticeKind::unusable)}) {
        object["payment_status"] = status;
        EXPECT_EQ(read("checkout.session.completed", object).kind, kind) << status;
    }
    object["payment_status"] = "unpaid";
    for (const char* type : {"checkout.session.async_payment_failed", "checkout.session.expired"}) {
        const Notice notice = read(type, object);
        ASSERT_EQ(notice.kind, NoticeKind::payment);
        EXPECT_FALSE(notice.payment.success);
        EXPECT_EQ(notice.payment.payment_id, "PAY1");
        EXPECT_EQ(notice.payment.transaction_id, "");
    }
}

TEST_F(StripeNotice, OfARefund) {
    for (const char* type :
         {"refund.created", "refund.updated", "refund.failed", "charge.refund.updated"}) {
        for (const auto& [status, verdict] :
             {std::pair("succeeded", Verdict::succeeded), std::pair("pending", Verdict::processing),
              std::pair("requires_action", Verdict::processing),
              std::pair("failed", Verdict::failed), std::pair("canceled", Verdict::failed),
              std::pair("new", Verdict::unknown)}) {
            const Notice notice = read(type, refund_with("status", status));
            ASSERT_EQ(notice.kind, NoticeKind::refund);
            EXPECT_EQ(notice.refund.verdict, verdict) << status;
            EXPECT_EQ(notice.refund.refund_no, "PAY1-R1");
            EXPECT_EQ(notice.refund.refund_id, "re_1");
            EXPECT_EQ(notice.refund.amount, 1299);
        }
        EXPECT_EQ(read(type, refund_with("object", "charge")).kind, NoticeKind::unusable);
    }
    json failed = refund_with("status", "failed");
    failed["failure_reason"] = "declined";
    EXPECT_EQ(read("refund.failed", failed).refund.error,
              "Stripe declared the refund failed: declined");
}

// Somebody refunded in Stripe's dashboard: a person must know, before payonce's own refund of the
// same payment is refused.
TEST_F(StripeNotice, OfARefundThatIsNotOursNamesStripesNumber) {
    for (const json& number : {json(nullptr), json(""), json(1), json("a b"),
                               json(std::string(65, 'x')), json("PAY1-R1\n")}) {
        json object = refund_object();
        object["metadata"]["out_refund_no"] = number;
        for (const char* status : {"succeeded", "pending", "requires_action", "new"}) {
            object["status"] = status;
            const Notice notice = read("refund.created", object);
            ASSERT_EQ(notice.kind, NoticeKind::refund) << number;
            EXPECT_EQ(notice.refund.refund_no, "");
            EXPECT_EQ(notice.refund.refund_id, "re_1");
            EXPECT_NE(notice.content.find("pi_3Abc"), std::string::npos);
        }
        for (const char* status : {"failed", "canceled"}) {
            object["status"] = status;
            EXPECT_EQ(read("refund.failed", object).kind, NoticeKind::ignored);
        }
    }
    json nameless = refund_without("metadata");
    nameless.erase("id");
    EXPECT_EQ(read("refund.created", nameless).kind, NoticeKind::ignored);
}

TEST_F(StripeNotice, OfAnythingElseIsIgnored) {
    EXPECT_EQ(read("charge.refunded", {{"object", "charge"}, {"amount_refunded", 5}}).kind,
              NoticeKind::ignored);
    for (const char* type : {"payment_intent.processing", "payment_intent.created",
                             "charge.succeeded", "charge.dispute.created", "", "x"}) {
        EXPECT_EQ(read(type, intent()).kind, NoticeKind::ignored) << type;
    }
    json typeless = event_of("", intent());
    typeless.erase("type");
    EXPECT_EQ(read_signed(*gateway, typeless.dump()).kind, NoticeKind::ignored);
}

TEST_F(StripeNotice, HasBoundedContent) {
    json object = intent();
    object["currency"] = "usd";
    object["description"] = std::string(100000, 'd');
    object["latest_charge"] = std::string(100000, '"');
    object["metadata"]["out_refund_no"] = std::string(100000, '\\');
    object["client_reference_id"] = std::string(100000, '\x01');
    const Notice notice = read("payment_intent.succeeded", object);
    ASSERT_EQ(notice.kind, NoticeKind::payment);
    EXPECT_LE(notice.content.size(), 2000U);
    EXPECT_EQ(clean_text(notice.content, 2000), notice.content);
    EXPECT_EQ(notice.content.find("description"), std::string::npos);
}

TEST_F(Stripe, RepliesAsStripeExpects) {
    EXPECT_EQ(gateway->reply(ReplyKind::accepted).http_status, 200);
    EXPECT_EQ(gateway->reply(ReplyKind::accepted).body, R"({"received":true})");
    EXPECT_EQ(gateway->reply(ReplyKind::refused).http_status, 400);
    EXPECT_EQ(gateway->reply(ReplyKind::refused).body, R"({"error":"refused"})");
    EXPECT_EQ(gateway->reply(ReplyKind::failed).http_status, 500);
    EXPECT_EQ(gateway->reply(ReplyKind::failed).body, R"({"error":"try again"})");
    for (const ReplyKind kind : {ReplyKind::accepted, ReplyKind::refused, ReplyKind::failed}) {
        EXPECT_EQ(gateway->reply(kind).content_type, "application/json");
    }
}

// --- Noise -------------------------------------------------------------------------------------

// Replaces members at random by values of other types: no combination may crash, or be taken for
// news of money that it is not.
TEST_F(StripeNotice, AndAnswersSurviveNoise) {
    std::mt19937 random(20260115);
    const std::vector<json> values = {nullptr,
                                      0,
                                      -1,
                                      1.5,
                                      true,
                                      "",
                                      "x",
                                      json::array(),
                                      json::object(),
                                      json::array({1}),
                                      std::string(300, 'x')};
    const auto spoil = [&](json whole) {
        const auto flat = whole.flatten();
        for (int i = 0; i < 2; ++i) {
            auto member = flat.begin();
            std::advance(member, static_cast<std::ptrdiff_t>(random() % flat.size()));
            std::string path = member.key();
            for (auto up = random() % 3; up > 0 && path.find('/') != std::string::npos; --up) {
                path.resize(path.rfind('/'));
            }
            const json::json_pointer pointer(path);
            if (whole.contains(pointer)) {
                whole[pointer] = values[random() % values.size()];
            }
        }
        return whole;
    };
    const json list = list_of({foreign_refund("re_8"), refund_object()}, true);
    for (int round = 0; round < 3000; ++round) {
        for (const auto& [type, object] : {std::pair("payment_intent.succeeded", intent()),
                                           std::pair("checkout.session.completed", session()),
                                           std::pair("refund.updated", refund_object())}) {
            const Notice notice = read_signed(*gateway, spoil(event_of(type, object)).dump());
            if (notice.kind == NoticeKind::payment) {
                EXPECT_GT(notice.payment.amount.value_or(1), 0);
            }
        }
        const json spoiled_list = spoil(list);
        if (gateway->read_answer(query_call(), answered(200, spoiled_list), now_unix_s)
                .facts.verdict == Verdict::not_found) {
            EXPECT_EQ(spoiled_list["has_more"], false) << spoiled_list;
        }
        const json spoiled = spoil(refund_object());
        const GatewayAnswer read =
            gateway->read_answer(refund_call(), answered(200, spoiled), now_unix_s);
        if (read.facts.verdict == Verdict::succeeded) {
            EXPECT_EQ(spoiled["status"], "succeeded");
            EXPECT_EQ(spoiled["amount"], 1299);
            EXPECT_EQ(spoiled["metadata"]["out_refund_no"], "PAY1-R1");
        }
        gateway->read_answer(refund_call(),
                             answered(400, spoil(error_body({{"code", "x"}, {"message", "y"}}))),
                             now_unix_s);
    }
}

}  // namespace
}  // namespace payonce::core
