#include "core/gateways/http.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include "core/identifiers.h"
#include "core/json.h"
#include "core/text.h"
#include "core/webhook_signature.h"

namespace payonce::core {
namespace {

using nlohmann::json;

constexpr std::size_t max_refund_id_bytes = 128;
constexpr std::size_t max_token_bytes = 4096;
constexpr std::size_t max_content_bytes = 2000;
constexpr std::size_t max_signatures = 16;

// --- Answers -----------------------------------------------------------------------------------

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
    const json body = parse_json(bytes);
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
    const json body = parse_json(response.body);
    const std::string said = body.is_object() ? text_member(body, "error", max_error_bytes)
                                              : clean_text(response.body, 200);
    return clean_text(said.empty() ? text : text + ": " + said);
}

GatewayAnswer accepted(const HttpResponse& response) {
    GatewayAnswer made = answer(Verdict::processing);
    made.refund_id = text_member(parse_json(response.body), "refund_id", max_refund_id_bytes);
    return made;
}

GatewayAnswer read_status(const RefundCall& call, const HttpResponse& response) {
    switch (response.status) {
        case 200:
            return read_body(call.refund_no, response.body);
        case 201:
            if (call.kind == CallKind::refund) {
                return read_body(call.refund_no, response.body);
            }
            break;
        case 202:
            return accepted(response);
        case 404:
            if (call.kind == CallKind::query) {
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

// --- Notifications -----------------------------------------------------------------------------

// The header lists signatures, parted by blanks: "v1,<base64> v1a,…".
std::vector<std::string_view> read_signatures(std::string_view header) {
    std::vector<std::string_view> signatures;
    while (signatures.size() < max_signatures && !header.empty()) {
        const std::size_t end = std::min(header.find(' '), header.size());
        signatures.push_back(header.substr(0, end));
        header.remove_prefix(std::min(end + 1, header.size()));
    }
    return signatures;
}

// Empty where the body says it in a form that cannot be right.
std::string identifier_member(const json& body, const char* name) {
    std::string value = text_member(body, name, max_transaction_id_bytes + 1);
    return is_transaction_id(value) ? value : std::string();
}

Notice read_payment_notice(const json& body, bool success) {
    Notice made;
    made.kind = NoticeKind::payment;
    made.payment.payment_id = text_member(body, "payment_id", max_error_bytes);
    if (!is_payment_id(made.payment.payment_id)) {
        return notice(NoticeKind::forged, "its payment_id is missing or malformed");
    }
    made.payment.success = success;
    made.payment.amount = integer_member(body, "amount");
    made.payment.currency = text_member(body, "currency", 16);
    made.payment.transaction_id = identifier_member(body, "transaction_id");
    const bool complete =
        made.payment.amount && *made.payment.amount > 0 && is_currency(made.payment.currency);
    if (success && !complete) {
        return notice(NoticeKind::forged, "its amount or currency is missing or malformed");
    }
    return made;
}

Notice read_refund_notice(const json& body, Verdict verdict) {
    Notice made;
    made.kind = NoticeKind::refund;
    made.refund.refund_no = text_member(body, "refund_no", max_error_bytes);
    if (made.refund.refund_no.size() > max_refund_no_bytes ||
        !is_transaction_id(made.refund.refund_no)) {
        return notice(NoticeKind::forged, "its refund_no is missing or malformed");
    }
    made.refund.verdict = verdict;
    made.refund.amount = integer_member(body, "amount");
    made.refund.refund_id = identifier_member(body, "refund_id");
    made.refund.error = text_member(body, "error", max_error_bytes);
    return made;
}

Notice read_event(std::string_view bytes) {
    const json body = parse_json(bytes);
    if (!body.is_object()) {
        return notice(NoticeKind::forged, "its body is not a JSON object");
    }
    const std::string type = text_member(body, "type", 100);
    Notice made;
    if (type == "payment.succeeded" || type == "payment.failed") {
        made = read_payment_notice(body, type == "payment.succeeded");
    } else if (type == "refund.succeeded") {
        made = read_refund_notice(body, Verdict::succeeded);
    } else if (type == "refund.failed") {
        made = read_refund_notice(body, Verdict::failed);
    } else {
        return notice(NoticeKind::ignored, "its type is \"" + type + "\"");
    }
    if (made.kind == NoticeKind::payment || made.kind == NoticeKind::refund) {
        made.content = clean_text(bytes, max_content_bytes);
    }
    return made;
}

// --- The gateway -------------------------------------------------------------------------------

class HttpGateway final : public Gateway {
  public:
    HttpGateway(const GatewayOptions& options, std::string_view key, const CryptoPort& crypto)
        : endpoint_(base_url(options) + "/refunds"),
          bearer_token_(options.get("bearer_token")),
          signing_key_(key),
          crypto_(crypto) {}

    BuiltRequest build(const RefundCall& call, const SigningMoment& moment) const override {
        HttpRequest request = call.kind == CallKind::refund ? refund(call) : query(call);
        request.headers.push_back({"Accept", "application/json"});
        if (!bearer_token_.empty()) {
            request.headers.push_back(
                {"Authorization", "Bearer " + std::string(bearer_token_.view())});
        }
        if (!signing_key_.empty() && !sign(request, call.refund_no, moment.unix_s)) {
            return answer(Verdict::not_sent, "the request could not be signed");
        }
        return request;
    }

    GatewayAnswer read_answer(const RefundCall& call, const HttpResponse& response,
                              std::int64_t /*now_unix_s*/) const override {
        const auto none = unanswered(response);
        GatewayAnswer made = none ? *none : read_status(call, response);
        made.facts.retry_after_s = response.retry_after_s;
        return made;
    }

    Notice read_notice(const RawNotice& raw) const override {
        if (signing_key_.empty()) {
            return notice(NoticeKind::unusable,
                          "its user mapping has no signing_secret to verify notifications with");
        }
        const auto id = header_value(raw.headers, "webhook-id");
        const auto timestamp = header_value(raw.headers, "webhook-timestamp");
        const auto signature = header_value(raw.headers, "webhook-signature");
        if (!id || !timestamp || !signature) {
            return notice(NoticeKind::forged, "a webhook- header is missing or given twice");
        }
        const auto sent_unix_s = read_unix_time(*timestamp);
        if (!sent_unix_s || !is_recent(*sent_unix_s, raw.now_unix_s)) {
            return notice(NoticeKind::forged, "its time-stamp is not of the last five minutes");
        }
        const auto expected = signature_of(*id, *timestamp, raw.body);
        if (!expected) {
            return notice(NoticeKind::unusable, "the signature could not be computed");
        }
        return any_matches(read_signatures(*signature), *expected)
                   ? read_event(raw.body)
                   : notice(NoticeKind::forged, "its signature is wrong");
    }

    NoticeReply reply(ReplyKind kind) const noexcept override {
        switch (kind) {
            case ReplyKind::accepted:
                return {200, "application/json", R"({"received":true})"};
            case ReplyKind::refused:
                return {400, "application/json", R"({"error":"refused"})"};
            case ReplyKind::failed:
                break;
        }
        return {500, "application/json", R"({"error":"try again"})"};
    }

  private:
    HttpRequest refund(const RefundCall& call) const {
        const json body = {
            {"refund_no", call.refund_no},
            {"payment_id", call.payment_id},
            {"order_id", call.order_id},
            {"transaction_id",
             call.transaction_id.empty() ? json(nullptr) : json(call.transaction_id)},
            {"amount", call.amount},
            {"currency", call.currency},
            {"reason", call.reason},
        };
        HttpRequest request;
        request.method = HttpMethod::post;
        request.url = endpoint_;
        request.body = body.dump(-1, ' ', false, json::error_handler_t::replace);
        request.headers.push_back({"Content-Type", "application/json"});
        request.headers.push_back({"Idempotency-Key", std::string(call.refund_no)});
        return request;
    }

    HttpRequest query(const RefundCall& call) const {
        HttpRequest request;
        request.method = HttpMethod::get;
        request.url = endpoint_ + "/" + percent_encode(call.refund_no);
        return request;
    }

    // Standard Webhooks: HMAC-SHA256 over "id.timestamp.body".
    std::optional<std::string> signature_of(std::string_view id, std::string_view timestamp,
                                            std::string_view body) const {
        std::string text(id);
        text.append(".").append(timestamp).append(".").append(body);
        const auto mac = crypto_.hmac_sha256(signing_key_.view(), text);
        return mac ? std::optional("v1," + crypto_.base64_encode(*mac)) : std::nullopt;
    }

    // The id names the message, so a repetition carries the same; it is the refund's number.
    bool sign(HttpRequest& request, std::string_view id, std::int64_t unix_s) const {
        const std::string timestamp = std::to_string(unix_s);
        auto signature = signature_of(id, timestamp, request.body);
        if (!signature) {
            return false;
        }
        request.headers.push_back({"webhook-id", std::string(id)});
        request.headers.push_back({"webhook-timestamp", timestamp});
        request.headers.push_back({"webhook-signature", std::move(*signature)});
        return true;
    }

    std::string endpoint_;
    Secret bearer_token_;
    Secret signing_key_;  // empty: requests are not signed
    const CryptoPort& crypto_;
};

// The key in a Standard Webhooks secret: base64, with or without "whsec_" before it.
std::optional<std::string> signing_key(std::string_view secret, const CryptoPort& crypto) {
    constexpr std::string_view prefix = "whsec_";
    if (secret.starts_with(prefix)) {
        secret.remove_prefix(prefix.size());
    }
    auto key = crypto.base64_decode(secret);
    const bool usable = key && key->size() >= 24 && key->size() <= 64;
    return usable ? std::move(key) : std::nullopt;
}

// It becomes a header: a line break would let it add others.
bool is_token(std::string_view token) noexcept {
    return token.size() <= max_token_bytes && std::all_of(token.begin(), token.end(), is_visible);
}

OpenedGateway open(const GatewayOptions& options, const CryptoPort& crypto) {
    if (!is_token(options.get("bearer_token"))) {
        return {nullptr,
                {"bearer_token", "It must be 1 to 4096 printable ASCII characters without blanks.",
                 "Give the token as the gateway handed it out."}};
    }
    std::optional<std::string> key;
    if (options.has("signing_secret")) {
        key = signing_key(options.get("signing_secret"), crypto);
        if (!key) {
            return {nullptr,
                    {"signing_secret", "It must be the base64 of 24 to 64 bytes, after whsec_.",
                     "Give the secret as Standard Webhooks writes it."}};
        }
    }
    return {std::make_unique<HttpGateway>(options, key.value_or(""), crypto), {}};
}

constexpr std::array<OptionRule, 2> options = {{
    {"bearer_token", OptionScope::user_mapping, true},
    {"signing_secret", OptionScope::user_mapping, true},
}};

}  // namespace

const Driver http_driver = {"payonce_http", options, GatewayTraits{}, open};

}  // namespace payonce::core
