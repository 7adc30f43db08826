// The test vectors of test/vectors/alipay against the driver with the real cryptography: what was
// signed by OpenSSL's command and agreed to by Alipay's own library.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/form.h"
#include "core/gateways/alipay.h"
#include "core/gateways/alipay_text.h"
#include "core/json_library.h"
#include "core/signed_node.h"
#include "net/openssl_crypto.h"

namespace payonce::core {
namespace {

using nlohmann::json;

constexpr std::int64_t now_unix_s = 1768443630;  // 2026-01-15 10:20:30 in Beijing

std::string file(const std::string& name) {
    std::ifstream stream(std::string(PAYONCE_VECTORS) + "/alipay/" + name, std::ios::binary);
    EXPECT_TRUE(stream) << name;
    std::ostringstream text;
    text << stream.rdbuf();
    return text.str();
}

json vectors(const std::string& name) {
    return json::parse(file(name));
}

const net::OpensslCrypto& crypto() {
    static const net::OpensslCrypto one;
    return one;
}

using Settings = std::map<std::string, std::string>;

Settings key_mode() {
    return {{"url", "https://openapi.alipay.com/gateway.do"},
            {"app_id", "2021000000000001"},
            {"seller_id", "2088000000000001"},
            {"private_key", file("app_private_key_pkcs8.pem")},
            {"alipay_public_key", file("alipay_public_key.pem")}};
}

Settings certificate_mode() {
    Settings settings = key_mode();
    settings.erase("alipay_public_key");
    settings["app_cert"] = file("app_cert.pem");
    settings["alipay_cert"] = file("alipay_cert.pem");
    settings["alipay_root_cert"] = file("alipay_root_cert.pem");
    return settings;
}

OpenedGateway open(const Settings& settings) {
    GatewayOptions options;
    for (const auto& [name, value] : settings) {
        options.set(name, value);
    }
    return alipay_driver.open(options, crypto());
}

std::unique_ptr<Gateway> opened(const Settings& settings) {
    OpenedGateway made = open(settings);
    EXPECT_NE(made.gateway, nullptr) << made.problem.option << ": " << made.problem.detail;
    return std::move(made.gateway);
}

RefundCall call_of(const std::string& method) {
    RefundCall call;
    call.kind = method == "alipay.trade.refund" ? CallKind::refund : CallKind::query;
    call.refund_no = "PAYR20260115000001";
    call.payment_id = "P20260115000001";
    call.transaction_id = "2026011522001400000000000001";
    call.amount = 1299;
    call.payment_amount = 9999;
    call.currency = "CNY";
    call.reason = "request";
    return call;
}

FormFields fields_of(const json& object) {
    FormFields fields;
    for (const auto& [name, value] : object.items()) {
        fields.emplace_back(name, value.get<std::string>());
    }
    return fields;
}

FormFields without(FormFields fields, std::string_view name) {
    std::erase_if(fields, [=](const auto& field) { return field.first == name; });
    return fields;
}

std::map<std::string, std::string> as_map(const FormFields& fields) {
    return {fields.begin(), fields.end()};
}

TEST(AlipayVectors, RequestsAreSignedLikeThis) {
    for (const json all = vectors("sign_requests.json"); const json& vector : all.at("vectors")) {
        SCOPED_TRACE(vector.at("name").get<std::string>());
        FormFields fields = fields_of(vector.at("params_before_signing"));
        const std::string text = alipay::signed_text(fields, alipay::EmptyValues::dropped);
        EXPECT_EQ(text, vector.at("canonical"));
        for (const char* name :
             {"app_private_key_pkcs8.pem", "app_private_key_pkcs1.pem",
              "app_private_key_pkcs8_bare.txt", "app_private_key_pkcs1_bare.txt"}) {
            const auto key = crypto().parse_private_key(file(name));
            ASSERT_NE(key, nullptr) << name;
            EXPECT_EQ(crypto().base64_encode(key->sign_sha256(text).value_or("")),
                      vector.at("sign"));
        }
        fields.emplace_back("sign", vector.at("sign"));
        std::erase_if(fields, [](const auto& field) { return field.second.empty(); });
        const auto wire = read_form(vector.at("wire").at("single_body").get<std::string>());
        ASSERT_TRUE(wire);
        EXPECT_EQ(as_map(*wire), as_map(fields));
        EXPECT_EQ(as_map(*read_form(write_form(fields))), as_map(fields));
    }
}

TEST(AlipayVectors, BuiltRequestsVerify) {
    const auto application_key = crypto().parse_public_key(file("app_public_key.pem"));
    ASSERT_NE(application_key, nullptr);
    for (const Settings& settings : {key_mode(), certificate_mode()}) {
        for (const char* method : {"alipay.trade.refund", "alipay.trade.fastpay.refund.query"}) {
            const BuiltRequest built =
                opened(settings)->build(call_of(method), {now_unix_s, "nonce"});
            const auto* request = std::get_if<HttpRequest>(&built);
            ASSERT_NE(request, nullptr);
            const auto fields = read_form(request->body);
            ASSERT_TRUE(fields);
            EXPECT_EQ(form_value(*fields, "method"), method);
            EXPECT_EQ(form_value(*fields, "timestamp"), "2026-01-15 10:20:30");
            const auto signature = crypto().base64_decode(form_value(*fields, "sign"));
            const std::string text =
                alipay::signed_text(without(*fields, "sign"), alipay::EmptyValues::kept);
            EXPECT_TRUE(signature && application_key->verify_sha256(text, *signature)) << text;
        }
    }
}

struct Expected {
    Verdict verdict = Verdict::unknown;
    Concern concern = Concern::none;
};

Expected expected_of(const json& vector) {
    static const std::map<std::string, Expected> by_outcome = {
        {"refunded", {Verdict::succeeded, Concern::none}},
        {"query_needed", {Verdict::unknown, Concern::none}},
        {"needs_human", {Verdict::wait, Concern::balance}},
        {"retry_same_number", {Verdict::unknown, Concern::none}},
        {"not_refunded_yet", {Verdict::not_found, Concern::none}},
    };
    static const std::map<std::string, Expected> by_verdict = {
        {"bad_signature", {Verdict::unknown, Concern::unverifiable}},
        {"missing_sign", {Verdict::unknown, Concern::unverifiable}},
        {"unknown_cert_sn", {Verdict::unknown, Concern::unverifiable}},
        {"wrong_node", {Verdict::unknown, Concern::none}},
        {"malformed", {Verdict::unknown, Concern::none}},
        {"unsigned_error", {Verdict::rejected, Concern::none}},
    };
    return vector.at("expect") == "ok" ? by_outcome.at(vector.at("outcome"))
                                       : by_verdict.at(vector.at("expect"));
}

TEST(AlipayVectors, AnswersMeanThis) {
    const auto by_key = opened(key_mode());
    const auto by_certificate = opened(certificate_mode());
    for (const json all = vectors("verify_responses.json");
         const json& vector : all.at("vectors")) {
        SCOPED_TRACE(vector.at("name").get<std::string>());
        HttpResponse response;
        response.delivery = Delivery::answered;
        response.status = 200;
        response.body = vector.at("raw").get<std::string>();
        const std::string method = vector.at("method").get<std::string>();
        const Gateway& gateway =
            vector.value("mode", "") == "certificate" ? *by_certificate : *by_key;
        const GatewayAnswer answer = gateway.read_answer(call_of(method), response, now_unix_s);
        const Expected expected = expected_of(vector);
        EXPECT_EQ(answer.facts.verdict, expected.verdict) << answer.error;
        EXPECT_EQ(answer.facts.concern, expected.concern) << answer.error;
        if (vector.at("expect") == "ok") {
            const auto members = json_members(response.body);
            ASSERT_TRUE(members);
            std::string node = method + "_response";
            std::replace(node.begin(), node.end(), '.', '_');
            EXPECT_EQ(member_text(*members, node), vector.at("signed_text"));
        }
    }
}

// Whether the order at the top of the file counts as paid by this notice; pay_callback compares.
void expect_business(const std::string& business, const json& vector, const json& order,
                     const Notice& notice) {
    const bool is_payment = notice.kind == NoticeKind::payment;
    if (business == "paid") {
        EXPECT_TRUE(is_payment && notice.payment.success);
        EXPECT_EQ(notice.payment.payment_id, order.at("out_trade_no"));
        EXPECT_EQ(notice.payment.amount, order.at("total_amount_fen").get<std::int64_t>());
        EXPECT_EQ(notice.payment.currency, "CNY");
    } else if (business == "closed_unpaid") {
        EXPECT_TRUE(is_payment && !notice.payment.success);
    } else if (business == "refund_notice") {
        EXPECT_EQ(notice.kind, NoticeKind::refund);
        EXPECT_EQ(notice.refund.refund_no, vector.at("expect").at("out_request_no"));
        EXPECT_EQ(notice.refund.verdict, Verdict::unknown);
    } else if (business == "not_paid" || business == "deposit_back_S") {
        EXPECT_EQ(notice.kind, NoticeKind::ignored);
    } else if (business == "reject") {
        EXPECT_FALSE(is_payment && notice.payment.payment_id == order.at("out_trade_no") &&
                     notice.payment.amount == order.at("total_amount_fen").get<std::int64_t>());
    } else {
        EXPECT_EQ(business, "implementation_choice");
        EXPECT_EQ(notice.kind, NoticeKind::forged);
    }
}

TEST(AlipayVectors, NoticesMeanThis) {
    static const std::map<std::string, std::string> reasons = {
        {"bad_signature", "signature is wrong"},
        {"missing_sign", "no sign"},
        {"unsupported_sign_type", "sign_type"},
        {"malformed", "distinct fields"},
    };
    const json file_of_vectors = vectors("verify_notifications.json");
    for (const Settings& settings : {key_mode(), certificate_mode()}) {
        const auto gateway = opened(settings);
        for (const json& vector : file_of_vectors.at("vectors")) {
            SCOPED_TRACE(vector.at("name").get<std::string>());
            const std::string body = vector.at("raw_body").get<std::string>();
            const std::vector<HttpHeader> headers = {
                {"Content-Type", vector.at("content_type").get<std::string>()}};
            const Notice notice = gateway->read_notice({headers, body, now_unix_s});
            const json& expect = vector.at("expect");
            const std::string verify = expect.value("verify", expect.value("verify_v2_rule", ""));
            if (verify == "ok") {
                expect_business(expect.at("business"), vector, file_of_vectors.at("order"), notice);
            } else {
                EXPECT_EQ(notice.kind, NoticeKind::forged);
                EXPECT_NE(notice.why.find(reasons.at(verify)), std::string::npos) << notice.why;
            }
        }
    }
}

TEST(AlipayVectors, NoticesAreDecodedAndJoinedLikeThis) {
    for (const json all = vectors("verify_notifications.json");
         const json& vector : all.at("vectors")) {
        SCOPED_TRACE(vector.at("name").get<std::string>());
        const auto fields = read_form(vector.at("raw_body").get<std::string>());
        ASSERT_EQ(fields.has_value(), vector.at("expect").value("verify", "") != "malformed");
        if (!fields) {
            continue;
        }
        if (vector.contains("decoded")) {
            EXPECT_EQ(as_map(without(*fields, "sign")),
                      as_map(without(fields_of(vector.at("decoded")), "sign")));
        }
        if (vector.contains("canonical")) {
            FormFields covered = without(*fields, "sign");
            if (!vector.value("signed_text_includes_sign_type", false)) {
                covered = without(covered, "sign_type");
            }
            EXPECT_EQ(alipay::signed_text(covered, alipay::EmptyValues::dropped),
                      vector.at("canonical"));
        }
    }
}

TEST(AlipayVectors, CertificatesAreNamedLikeThis) {
    const json names = vectors("cert_sn.json");
    const auto sn_of = [](const std::string& name) {
        const Certificates found = crypto().parse_certificates(file(name));
        return found.empty() ? std::nullopt : alipay::certificate_sn(*found.front(), crypto());
    };
    EXPECT_EQ(sn_of("app_cert.pem"), names.at("app_cert").at("app_cert_sn").get<std::string>());
    EXPECT_EQ(sn_of("alipay_cert.pem"),
              names.at("alipay_cert").at("alipay_cert_sn").get<std::string>());
    const Certificates roots = crypto().parse_certificates(file("alipay_root_cert.pem"));
    const json& bundle = names.at("root_bundle");
    ASSERT_EQ(roots.size(), bundle.at("certificates").size());
    for (std::size_t i = 0; i < roots.size(); ++i) {
        const json& certificate = bundle.at("certificates")[i];
        EXPECT_EQ(roots[i]->issuer(), certificate.at("issuer"));
        EXPECT_EQ(roots[i]->serial_decimal(), certificate.at("serial_decimal"));
        EXPECT_EQ(roots[i]->is_rsa_signed(), certificate.at("used"));
        EXPECT_EQ(alipay::certificate_sn(*roots[i], crypto()),
                  certificate.at("sn").get<std::string>());
    }
    EXPECT_EQ(alipay::root_certificate_sn(roots, crypto()),
              bundle.at("alipay_root_cert_sn").get<std::string>());
}

TEST(AlipayVectors, ChainsAreCheckedWhenAGatewayIsOpened) {
    for (const json all = vectors("cert_sn.json"); const json& chain : all.at("chain")) {
        const std::string name = chain.at("file").get<std::string>();
        Settings settings = certificate_mode();
        settings[name == "app_cert.pem" ? "app_cert" : "alipay_cert"] = file(name);
        EXPECT_EQ(open(settings).gateway != nullptr, chain.at("verifies_against_root")) << name;
    }
}

TEST(AlipayVectors, KeysAreTakenInEveryForm) {
    for (const char* name : {"app_private_key_pkcs8.pem", "app_private_key_pkcs1.pem",
                             "app_private_key_pkcs8_bare.txt", "app_private_key_pkcs1_bare.txt"}) {
        Settings settings = key_mode();
        settings["private_key"] = file(name);
        settings["alipay_public_key"] = file("alipay_public_key_bare.txt");
        EXPECT_NE(open(settings).gateway, nullptr) << name;
    }
}

TEST(AlipayVectors, MixedUpKeysAreFound) {
    const std::vector<std::array<std::string, 3>> mistakes = {
        {"alipay_public_key", "app_public_key.pem", "application's own public key"},
        {"alipay_public_key", "alipay_private_key.pem", "not an RSA public key"},
        {"private_key", "app_public_key.pem", "not an RSA private key"},
    };
    for (const auto& [option, name, words] : mistakes) {
        Settings settings = key_mode();
        settings[option] = file(name);
        const OptionProblem problem = open(settings).problem;
        EXPECT_EQ(problem.option, option);
        EXPECT_NE(problem.detail.find(words), std::string::npos) << problem.detail;
    }
    Settings settings = certificate_mode();
    settings["private_key"] = file("stranger_private_key.pem");
    EXPECT_EQ(open(settings).problem.option, "app_cert");
    settings = certificate_mode();
    settings["alipay_cert"] = file("app_cert.pem");
    EXPECT_EQ(open(settings).problem.option, "alipay_cert");
}

}  // namespace
}  // namespace payonce::core
