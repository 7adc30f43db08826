#include "core/gateways/http.h"

#include <nlohmann/json.hpp>

#include "core/text.h"

namespace payonce::core::http_gateway {
namespace {

using nlohmann::json;

constexpr std::size_t max_refund_id_bytes = 128;

std::string endpoint(const Config& config) {
    std::string url = config.url;
    while (url.ends_with('/')) {
        url.pop_back();
    }
    return url + "/refunds";
}

// Standard Webhooks: HMAC-SHA256 over "id.timestamp.body". The id names the message, so a
// repetition carries the same; it is the refund's number.
bool sign(HttpRequest& request, const Config& config, std::string_view message_id,
          const CryptoPort& crypto, std::int64_t now_unix_s) {
    const auto key = signing_key(config.signing_secret, crypto);
    if (!key) {
        return false;
    }
    const std::string timestamp = std::to_string(now_unix_s);
    const auto mac =
        crypto.hmac_sha256(*key, std::string(message_id) + "." + timestamp + "." + request.body);
    if (!mac) {
        return false;
    }
    request.headers.push_back({"webhook-id", std::string(message_id)});
    request.headers.push_back({"webhook-timestamp", timestamp});
    request.headers.push_back({"webhook-signature", "v1," + crypto.base64_encode(*mac)});
    return true;
}

bool authorize(HttpRequest& request, const Config& config, std::string_view message_id,
               const CryptoPort& crypto, std::int64_t now_unix_s) {
    request.headers.push_back({"Accept", "application/json"});
    if (!config.bearer_token.empty()) {
        request.headers.push_back({"Authorization", "Bearer " + config.bearer_token});
    }
    return config.signing_secret.empty() || sign(request, config, message_id, crypto, now_unix_s);
}

GatewayAnswer answer(Verdict verdict, std::string error = {}) {
    GatewayAnswer made;
    made.facts.verdict = verdict;
    made.error = std::move(error);
    return made;
}

// Discarded when it is not JSON, and nothing but JSON: the parser would take a zero byte for the
// end.
json parse(const std::string& bytes) {
    return bytes.find('\0') == std::string::npos ? json::parse(bytes, nullptr, false)
                                                 : json(json::value_t::discarded);
}

std::string text_member(const json& body, const char* name, std::size_t max_bytes) {
    const auto member = body.find(name);
    return member != body.end() && member->is_string()
               ? clean_text(member->get_ref<const std::string&>(), max_bytes)
               : std::string();
}

Verdict verdict_of(std::string_view status) {
    if (status == "succeeded") {
        return Verdict::succeeded;
    }
    if (status == "processing") {
        return Verdict::processing;
    }
    return status == "failed" ? Verdict::failed : Verdict::unknown;
}

GatewayAnswer read_body(std::string_view refund_no, const std::string& bytes) {
    const json body = parse(bytes);
    if (!body.is_object()) {
        return answer(Verdict::unknown, "the gateway's answer is not a JSON object");
    }
    // Not promised by the wire format, but an answer about another refund must not settle this one.
    const auto echoed = body.find("refund_no");
    const bool about_this =
        echoed == body.end() ||
        (echoed->is_string() && echoed->get_ref<const std::string&>() == refund_no);
    if (!about_this) {
        return answer(Verdict::unknown, "the gateway's answer is about another refund");
    }
    const std::string status = text_member(body, "status", max_error_bytes);
    GatewayAnswer made = answer(verdict_of(status), text_member(body, "error", max_error_bytes));
    made.refund_id = text_member(body, "refund_id", max_refund_id_bytes);
    if (made.facts.verdict == Verdict::unknown) {
        made.error = clean_text("the gateway's answer has an unknown status \"" + status + "\"");
    } else if (made.facts.verdict == Verdict::failed && made.error.empty()) {
        made.error = "the gateway declared the refund failed without saying why";
    }
    return made;
}

// What an error's body says, for a person: its "error" member, or its beginning.
std::string error_text(const HttpResponse& response) {
    std::string text = "HTTP " + std::to_string(response.status);
    const json body = parse(response.body);
    const std::string said = body.is_object() ? text_member(body, "error", max_error_bytes)
                                              : clean_text(response.body, 200);
    return clean_text(said.empty() ? text : text + ": " + said);
}

GatewayAnswer read_status(CallKind kind, std::string_view refund_no, const HttpResponse& response) {
    switch (response.status) {
        case 200:
            return read_body(refund_no, response.body);
        case 201:
            if (kind == CallKind::refund) {
                return read_body(refund_no, response.body);
            }
            break;
        case 202: {
            GatewayAnswer made = answer(Verdict::processing);
            const json body = parse(response.body);
            if (body.is_object()) {
                made.refund_id = text_member(body, "refund_id", max_refund_id_bytes);
            }
            return made;
        }
        case 404:
            if (kind == CallKind::query) {
                return answer(Verdict::not_found, error_text(response));
            }
            break;
        case 408:
            return answer(Verdict::unknown, error_text(response));
        case 429:
        case 503:
            return answer(Verdict::wait, error_text(response));
        default:
            break;
    }
    const bool permanent = response.status >= 400 && response.status < 500;
    return answer(permanent ? Verdict::rejected : Verdict::unknown, error_text(response));
}

}  // namespace

std::optional<std::string> signing_key(std::string_view secret, const CryptoPort& crypto) {
    constexpr std::string_view prefix = "whsec_";
    if (secret.starts_with(prefix)) {
        secret.remove_prefix(prefix.size());
    }
    auto key = crypto.base64_decode(secret);
    const bool usable = key && key->size() >= 24 && key->size() <= 64;
    return usable ? std::move(key) : std::nullopt;
}

std::optional<HttpRequest> build_refund(const Config& config, const Refund& refund,
                                        const CryptoPort& crypto, std::int64_t now_unix_s) {
    const json body = {
        {"refund_no", refund.refund_no},
        {"payment_id", refund.payment_id},
        {"order_id", refund.order_id},
        {"transaction_id",
         refund.transaction_id.empty() ? json(nullptr) : json(refund.transaction_id)},
        {"amount", refund.amount},
        {"currency", refund.currency},
        {"reason", refund.reason},
    };
    HttpRequest request;
    request.method = HttpMethod::post;
    request.url = endpoint(config);
    request.body = body.dump(-1, ' ', false, json::error_handler_t::replace);
    request.headers.push_back({"Content-Type", "application/json"});
    request.headers.push_back({"Idempotency-Key", std::string(refund.refund_no)});
    if (!authorize(request, config, refund.refund_no, crypto, now_unix_s)) {
        return std::nullopt;
    }
    return request;
}

std::optional<HttpRequest> build_query(const Config& config, std::string_view refund_no,
                                       const CryptoPort& crypto, std::int64_t now_unix_s) {
    HttpRequest request;
    request.method = HttpMethod::get;
    request.url = endpoint(config) + "/" + percent_encode(refund_no);
    if (!authorize(request, config, refund_no, crypto, now_unix_s)) {
        return std::nullopt;
    }
    return request;
}

GatewayAnswer read_answer(CallKind kind, std::string_view refund_no, const HttpResponse& response) {
    GatewayAnswer made;
    switch (response.delivery) {
        case Delivery::not_sent:
            made = answer(Verdict::not_sent, clean_text(response.error));
            break;
        case Delivery::uncertain:
            made = answer(Verdict::unknown, clean_text(response.error));
            break;
        case Delivery::answered:
            made = read_status(kind, refund_no, response);
            break;
    }
    made.facts.retry_after_s = response.retry_after_s;
    return made;
}

}  // namespace payonce::core::http_gateway
