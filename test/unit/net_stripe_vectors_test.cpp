// The Stripe driver with real cryptography against the vectors in test/vectors/stripe: webhooks
// that Stripe's own library accepts or refuses, and requests that it was recorded to send.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/form.h"
#include "core/gateways/stripe.h"
#include "core/json_library.h"
#include "net/openssl_crypto.h"

namespace payonce::net {
namespace {

using core::CallKind;
using core::Notice;
using core::NoticeKind;
using core::Verdict;
using nlohmann::json;

json vectors(const std::string& name) {
    std::ifstream file(std::string(PAYONCE_VECTORS) + "/stripe/" + name);
    EXPECT_TRUE(file.is_open()) << name;
    json read = json::parse(file, nullptr, false);
    EXPECT_TRUE(read.is_object()) << name;
    return read;
}

class StripeVectors : public testing::Test {
  protected:
    std::unique_ptr<core::Gateway> open(std::string_view webhook_secret) {
        core::GatewayOptions options;
        options.set("url", "https://api.stripe.com");
        options.set("secret_key", "sk_test_payonce_not_a_real_key");
        options.set("webhook_secret", webhook_secret);
        core::OpenedGateway opened = core::stripe_driver.open(options, crypto);
        EXPECT_TRUE(opened.gateway) << opened.problem.detail;
        return std::move(opened.gateway);
    }

    OpensslCrypto crypto;
};

Notice read(const core::Gateway& gateway, const json& vector) {
    const std::vector<core::HttpHeader> headers = {{"Stripe-Signature", vector["header"]}};
    const std::string body = vector["body"];
    return gateway.read_notice({headers, body, vector["now"]});
}

// What a vector expects of the window that this driver has: 300 seconds both ways.
std::string expected_verdict(const json& vector) {
    const json& expect = vector["expect"];
    if (vector["tolerance"] != 300) {
        return "stale_timestamp";
    }
    return expect.contains("strict") ? expect["strict"] : expect["verify"];
}

void check_payment(const Notice& notice, const std::string& business, const json& order) {
    EXPECT_EQ(notice.kind, NoticeKind::payment);
    EXPECT_TRUE(notice.payment.success);
    EXPECT_EQ(notice.payment.payment_id, order["out_trade_no"]);
    EXPECT_EQ(notice.payment.transaction_id, order["payment_intent"]);
    const bool as_ordered =
        notice.payment.amount == order["amount"] && notice.payment.currency == "USD";
    EXPECT_EQ(as_ordered, business == "paid");
}

void check_refund(const Notice& notice, Verdict verdict, const json& refund) {
    EXPECT_EQ(notice.kind, NoticeKind::refund);
    EXPECT_EQ(notice.refund.verdict, verdict);
    EXPECT_EQ(notice.refund.refund_no, refund["out_refund_no"]);
    EXPECT_EQ(notice.refund.refund_id, refund["id"]);
    EXPECT_EQ(notice.refund.amount, refund["amount"]);
}

// `business` is what is concluded for the order and the refund at the top of the file.
void check_business(const Notice& notice, const json& vector, const json& file) {
    const std::string business = vector["expect"]["business"];
    if (business == "refund_succeeded") {
        check_refund(notice, Verdict::succeeded, file["refund"]);
    } else if (business == "refund_failed") {
        check_refund(notice, Verdict::failed, file["refund"]);
    } else if (business == "refund_pending") {
        check_refund(notice, Verdict::processing, file["refund"]);
    } else if (business == "unsupported_event") {
        EXPECT_EQ(notice.kind, NoticeKind::unusable);
    } else if (business == "refund_hint" || business == "not_paid") {
        EXPECT_EQ(notice.kind, NoticeKind::ignored);
    } else if (json::parse(vector["body"].get<std::string>())["livemode"] == true) {
        EXPECT_EQ(notice.kind, NoticeKind::forged);
    } else {
        ASSERT_TRUE(business == "paid" || business == "reject") << business;
        check_payment(notice, business, file["order"]);
    }
}

TEST_F(StripeVectors, OfWebhooks) {
    const json file = vectors("verify_webhooks.json");
    const auto gateway = open(file["secret"].get<std::string>());
    ASSERT_EQ(file["vectors"].size(), 29U);
    for (const json& vector : file["vectors"]) {
        SCOPED_TRACE(vector["name"].get<std::string>());
        const Notice notice = read(*gateway, vector);
        if (expected_verdict(vector) == "ok") {
            check_business(notice, vector, file);
        } else {
            EXPECT_EQ(notice.kind, NoticeKind::forged);
            EXPECT_NE(notice.why, "");
        }
    }
}

// What only the clock is against is genuine at the time that it names.
TEST_F(StripeVectors, OfWebhooksAtTheirOwnTime) {
    const json file = vectors("verify_webhooks.json");
    const auto gateway = open(file["secret"].get<std::string>());
    int times = 0;
    for (json vector : file["vectors"]) {
        const std::string name = vector["name"];
        if (name == "age_301s" || name == "age_301s_tolerance_600" || name == "future_600s") {
            vector["now"] = std::stoll(vector["header"].get<std::string>().substr(2));
            EXPECT_EQ(read(*gateway, vector).kind, NoticeKind::payment) << name;
            ++times;
        }
    }
    EXPECT_EQ(times, 3);
}

TEST_F(StripeVectors, OfWebhooksWhileTheSecretIsReplaced) {
    const json file = vectors("verify_webhooks.json");
    const std::string old_secret = file["old_secret"];
    const std::string secret = file["secret"];
    const auto both = open(old_secret + "," + secret);
    const auto old_alone = open(old_secret);
    int seen = 0;
    for (const json& vector : file["vectors"]) {
        const std::string name = vector["name"];
        if (name == "payment_succeeded") {
            EXPECT_EQ(read(*both, vector).kind, NoticeKind::payment);
            EXPECT_EQ(read(*old_alone, vector).kind, NoticeKind::forged);
            ++seen;
        } else if (name == "two_v1_old_secret_first") {
            EXPECT_EQ(read(*old_alone, vector).kind, NoticeKind::payment);
            ++seen;
        } else if (name == "wrong_secret") {
            EXPECT_EQ(read(*both, vector).kind, NoticeKind::payment);
            ++seen;
        }
    }
    EXPECT_EQ(seen, 3);
}

struct SentRequest {
    std::string vector;
    core::RefundCall call;
};

std::vector<SentRequest> sent_requests() {
    core::RefundCall refund;
    refund.refund_no = "PAYR20260115000001";
    refund.transaction_id = "pi_3PayonceTest000000001";
    refund.amount = 1299;
    refund.currency = "USD";
    refund.reason = "request";
    core::RefundCall list = refund;
    list.kind = CallKind::query;
    core::RefundCall retrieve = list;
    retrieve.gateway_refund_id = "re_3PayonceTest000000001";
    return {{"refund_create", refund},
            {"refund_retrieve", retrieve},
            {"refund_list_by_payment_intent", list}};
}

std::vector<std::pair<std::string, std::string>> lower_headers(const core::HttpRequest& request) {
    std::vector<std::pair<std::string, std::string>> headers;
    for (core::HttpHeader header : request.headers) {
        std::transform(header.name.begin(), header.name.end(), header.name.begin(),
                       [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
        headers.emplace_back(header.name, header.value);
    }
    std::sort(headers.begin(), headers.end());
    return headers;
}

// The recorded refund has a note besides, as an example of what has to be encoded.
core::FormFields without_note(const json& decoded_body) {
    core::FormFields fields;
    for (const auto& [name, value] : decoded_body.items()) {
        if (name != "metadata[note]") {
            fields.emplace_back(name, value);
        }
    }
    return fields;
}

TEST_F(StripeVectors, OfRequestsThatAreSent) {
    const json file = vectors("requests.json");
    const auto gateway = open("");
    for (const SentRequest& sent : sent_requests()) {
        SCOPED_TRACE(sent.vector);
        const auto& all = file["vectors"];
        const auto vector = std::find_if(
            all.begin(), all.end(), [&](const json& one) { return one["name"] == sent.vector; });
        ASSERT_NE(vector, all.end());
        const core::BuiltRequest built = gateway->build(sent.call, {});
        ASSERT_TRUE(std::holds_alternative<core::HttpRequest>(built));
        const auto& request = std::get<core::HttpRequest>(built);
        EXPECT_EQ(request.method == core::HttpMethod::post, (*vector)["method"] == "POST");
        EXPECT_EQ(request.url,
                  "https://api.stripe.com" + (*vector)["path_and_query"].get<std::string>());
        std::vector<std::pair<std::string, std::string>> headers;
        for (const auto& [name, value] : (*vector)["headers"].items()) {
            headers.emplace_back(name, value);
        }
        std::sort(headers.begin(), headers.end());
        EXPECT_EQ(lower_headers(request), headers);
        auto fields = core::read_form(request.body);
        ASSERT_TRUE(fields);
        core::FormFields expected = without_note((*vector)["decoded_body"]);
        std::sort(fields->begin(), fields->end());
        std::sort(expected.begin(), expected.end());
        EXPECT_EQ(*fields, expected);
    }
}

// Of every recorded request, also of those that this driver does not send.
TEST_F(StripeVectors, OfForms) {
    const json file = vectors("requests.json");
    ASSERT_EQ(file["vectors"].size(), 6U);
    for (const json& vector : file["vectors"]) {
        SCOPED_TRACE(vector["name"].get<std::string>());
        const auto fields = core::read_form(vector["body"].get<std::string>());
        ASSERT_TRUE(fields);
        EXPECT_EQ(fields->size(), vector["decoded_body"].size());
        for (const auto& [name, value] : vector["decoded_body"].items()) {
            EXPECT_EQ(core::form_value(*fields, name), value.get<std::string>());
        }
        EXPECT_EQ(core::read_form(core::write_form(*fields)), fields);
    }
}

}  // namespace
}  // namespace payonce::net
