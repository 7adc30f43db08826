// What a refund costs each driver: building and signing its request, verifying and reading its
// answer; beside what one RSA private operation costs alone. Run by drivers.py.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <variant>

#include "core/gateway.h"
#include "core/json_library.h"
#include "net/nonce.h"
#include "net/openssl_crypto.h"

namespace payonce {
namespace {

using nlohmann::json;

const net::OpensslCrypto crypto;

std::string read_file(const std::string& name) {
    std::ifstream file(std::string(PAYONCE_VECTORS) + "/" + name);
    std::ostringstream content;
    content << file.rdbuf();
    return content.str();
}

json first_vector(const std::string& name) {
    return json::parse(read_file(name))["vectors"][0];
}

core::GatewayOptions options_of(const std::string& wrapper) {
    core::GatewayOptions options;
    options.set("url", "https://pay.example");
    if (wrapper == "payonce_http") {
        options.set("signing_secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    } else if (wrapper == "payonce_wechat") {
        options.set("mchid", "1900000001");
        options.set("serial_no", "3775B6A45ACD588826D15E583A95F5DD00000001");
        options.set("private_key", read_file("wechat/merchant_private_key_pkcs8.pem"));
        options.set("public_key_id", "PUB_KEY_ID_0119000000012026011500000000001234");
        options.set("public_key", read_file("wechat/wechatpay_public_key.pem"));
    } else if (wrapper == "payonce_alipay") {
        options.set("app_id", "2021000000000001");
        options.set("private_key", read_file("alipay/app_private_key_pkcs8.pem"));
        options.set("alipay_public_key", read_file("alipay/alipay_public_key.pem"));
    } else {
        options.set("secret_key", "sk_test_payonce_not_a_real_key");
    }
    return options;
}

core::RefundCall call_of(const std::string& wrapper) {
    core::RefundCall call;
    call.refund_no = "PAYR20260115000001";
    call.payment_id = "P20260115000001";
    call.order_id = "O1";
    call.amount = 1299;
    call.payment_amount = 9999;
    call.currency = wrapper == "payonce_stripe" ? "USD" : "CNY";
    call.reason = "duplicate";
    call.transaction_id = wrapper == "payonce_stripe"   ? "pi_3PayonceTest000000001"
                          : wrapper == "payonce_alipay" ? "2026011522001400000000000001"
                                                        : "4200002026011500000000000001";
    return call;
}

struct Answer {
    core::HttpResponse response;
    std::int64_t now_unix_s = 0;
};

Answer answer_of(const std::string& wrapper) {
    Answer answer;
    answer.response.delivery = core::Delivery::answered;
    answer.response.status = 200;
    if (wrapper == "payonce_wechat") {
        const json vector = first_vector("wechat/verify_responses.json");
        answer.response.body = vector["body"];
        answer.now_unix_s = vector["now"];
        for (const auto& [name, value] : vector["headers"].items()) {
            answer.response.headers.push_back({name, value});
        }
    } else if (wrapper == "payonce_alipay") {
        answer.response.body = first_vector("alipay/verify_responses.json")["raw"];
        answer.now_unix_s = 1768443631;
    } else if (wrapper == "payonce_stripe") {
        answer.response.body =
            R"({"id":"re_3Payonce1","object":"refund","amount":1299,"currency":"usd",)"
            R"("metadata":{"out_refund_no":"PAYR20260115000001"},)"
            R"("payment_intent":"pi_3PayonceTest000000001","status":"succeeded"})";
    } else {
        answer.response.body = R"({"status":"succeeded","refund_id":"r1"})";
    }
    return answer;
}

std::unique_ptr<core::Gateway> open_gateway(const core::Driver& driver) {
    return driver.open(options_of(std::string(driver.wrapper)), crypto).gateway;
}

void build_request(benchmark::State& state, const core::Driver* driver) {
    const auto gateway = open_gateway(*driver);
    const core::RefundCall call = call_of(std::string(driver->wrapper));
    for (auto _ : state) {
        const auto nonce = net::random_nonce();
        auto built = gateway->build(call, {1768443630, *nonce});
        if (!std::holds_alternative<core::HttpRequest>(built)) {
            state.SkipWithError("no request was built");
            break;
        }
        benchmark::DoNotOptimize(built);
    }
}

void read_answer(benchmark::State& state, const core::Driver* driver) {
    const auto gateway = open_gateway(*driver);
    const core::RefundCall call = call_of(std::string(driver->wrapper));
    const Answer answer = answer_of(std::string(driver->wrapper));
    for (auto _ : state) {
        auto read = gateway->read_answer(call, answer.response, answer.now_unix_s);
        if (read.facts.verdict == core::Verdict::unknown) {
            state.SkipWithError(read.error.c_str());
            break;
        }
        benchmark::DoNotOptimize(read);
    }
}

void sign_alone(benchmark::State& state) {
    const auto key = crypto.parse_private_key(read_file("wechat/merchant_private_key_pkcs8.pem"));
    const std::string message(500, 'x');
    for (auto _ : state) {
        auto signature = key->sign_sha256(message);
        benchmark::DoNotOptimize(signature);
    }
}

}  // namespace
}  // namespace payonce

int main(int argc, char** argv) {
    benchmark::RegisterBenchmark("rsa2048_private_operation", payonce::sign_alone);
    for (const payonce::core::Driver* driver : payonce::core::drivers()) {
        const std::string name(driver->wrapper);
        benchmark::RegisterBenchmark((name + "/build").c_str(), payonce::build_request, driver);
        benchmark::RegisterBenchmark((name + "/read").c_str(), payonce::read_answer, driver);
    }
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
