// WeChat Pay, API v3: signs the requests, verifies what comes back, and decides by nothing that
// does not verify, except where an error answer without a signature may be believed because the
// worst that follows from it is a question or a person.
#include "core/gateways/wechat.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <set>
#include <string_view>
#include <utility>

#include "core/gateways/chinese_reason.h"
#include "core/json.h"
#include "core/text.h"

namespace payonce::core {
namespace {

using nlohmann::json;
using Problem = std::optional<OptionProblem>;

constexpr std::string_view refunds_path = "/v3/refund/domestic/refunds";
constexpr std::string_view signature_header = "Wechatpay-Signature";
constexpr std::string_view signature_type = "WECHATPAY2-SHA256-RSA2048";
constexpr std::string_view probe_prefix = "WECHATPAY/SIGNTEST/";
constexpr std::string_view public_key_id_prefix = "PUB_KEY_ID_";
constexpr std::int64_t max_skew_s = 300;
constexpr std::int64_t rate_limit_pause_s = 60;
constexpr std::size_t api_v3_key_bytes = 32;
constexpr std::size_t max_wechat_number_bytes = 64;
constexpr std::size_t max_content_bytes = 2000;
// A notification has about 2 KiB.
constexpr std::size_t max_notice_bytes = std::size_t{256} * 1024;

// ---- Characters --------------------------------------------------------------------------------

bool is_hex(char c) noexcept {
    return is_digit(c) || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
}

bool is_all(std::string_view text, std::size_t max_bytes, bool (*is_allowed)(char)) noexcept {
    return !text.empty() && text.size() <= max_bytes &&
           std::all_of(text.begin(), text.end(), is_allowed);
}

// ---- JSON --------------------------------------------------------------------------------------

// Discarded also when an object names a member twice: which of them was meant would be a guess.
json parse_unambiguous(std::string_view bytes) {
    if (bytes.find('\0') != std::string_view::npos) {
        return json::value_t::discarded;
    }
    std::vector<std::set<std::string>> open_objects;
    bool is_ambiguous = false;
    const auto watch = [&](int, json::parse_event_t event, json& parsed) {
        if (event == json::parse_event_t::object_start) {
            open_objects.emplace_back();
        } else if (event == json::parse_event_t::object_end) {
            open_objects.pop_back();
        } else if (event == json::parse_event_t::key) {
            is_ambiguous |=
                !open_objects.back().insert(parsed.get_ref<const std::string&>()).second;
        }
        return true;
    };
    json parsed = json::parse(bytes, watch, false);
    // Never copied: the copy of a deeply nested value would need a deep stack.
    return is_ambiguous ? json(json::value_t::discarded) : std::move(parsed);
}

// The member's text as it is; empty when it is missing, longer, or holds what clean_text() changes.
// A number that was cut or mended could be another one's.
std::string exact_member(const json& object, const char* name, std::size_t max_bytes) {
    const auto member = object.find(name);
    if (member == object.end() || !member->is_string()) {
        return {};
    }
    const auto& text = member->get_ref<const std::string&>();
    return text.size() <= max_bytes && clean_text(text, max_bytes) == text ? text : std::string();
}

// ---- Signatures of WeChat ----------------------------------------------------------------------

// What WeChat signs with, under the name by which its header Wechatpay-Serial says so.
struct PlatformKey {
    std::string serial;
    bool is_certificate = false;  // then the serial is hexadecimal, of any case
    std::int64_t not_after_unix_s = std::numeric_limits<std::int64_t>::max();
    std::unique_ptr<VerifyingKey> key;
};

// An answer or a notification.
struct SignedMessage {
    const std::vector<HttpHeader>& headers;
    std::string_view body;
    std::int64_t now_unix_s = 0;
};

bool has_header(const std::vector<HttpHeader>& headers, std::string_view name) noexcept {
    return std::any_of(headers.begin(), headers.end(), [=](const HttpHeader& header) {
        return is_same_ignoring_case(header.name, name);
    });
}

// Empty unless there is one header of that name and it looks as it should. A line break in a header
// would move the border between the lines that are signed.
std::string_view signed_header(const SignedMessage& message, std::string_view name,
                               std::size_t max_bytes) noexcept {
    const std::string_view value = header_value(message.headers, name).value_or("");
    return is_all(value, max_bytes, is_visible) ? value : std::string_view();
}

std::optional<std::int64_t> unix_time(std::string_view digits) noexcept {
    std::int64_t time = 0;
    if (!is_all(digits, 12, is_digit)) {
        return std::nullopt;
    }
    std::from_chars(digits.data(), digits.data() + digits.size(), time);
    return time;
}

std::string unusable_header(std::string_view name) {
    return "its header " + std::string(name) + " is missing, repeated or malformed";
}

std::string skew_problem(std::int64_t timestamp, std::int64_t now_unix_s) {
    const std::int64_t skew_s =
        now_unix_s > timestamp ? now_unix_s - timestamp : timestamp - now_unix_s;
    return skew_s < max_skew_s ? std::string()
                               : "its timestamp is " + std::to_string(skew_s) +
                                     " s away from this server's clock, and 300 s are too many";
}

// Why the message does not verify; empty when it does.
std::string signature_problem(const SignedMessage& message, const std::vector<PlatformKey>& keys,
                              const CryptoPort& crypto) {
    constexpr std::string_view type_header = "Wechatpay-Signature-Type";
    if (has_header(message.headers, type_header) &&
        header_value(message.headers, type_header) != signature_type) {
        return "its header Wechatpay-Signature-Type is not WECHATPAY2-SHA256-RSA2048";
    }
    const std::string_view timestamp = signed_header(message, "Wechatpay-Timestamp", 12);
    const auto time = unix_time(timestamp);
    if (!time) {
        return unusable_header("Wechatpay-Timestamp");
    }
    const std::string_view nonce = signed_header(message, "Wechatpay-Nonce", 128);
    if (nonce.empty()) {
        return unusable_header("Wechatpay-Nonce");
    }
    const std::string_view serial = signed_header(message, "Wechatpay-Serial", 128);
    if (serial.empty()) {
        return unusable_header("Wechatpay-Serial");
    }
    const std::string_view encoded = signed_header(message, signature_header, 2048);
    if (encoded.empty()) {
        return unusable_header(signature_header);
    }
    if (auto skewed = skew_problem(*time, message.now_unix_s); !skewed.empty()) {
        return skewed;
    }
    const auto found = std::find_if(keys.begin(), keys.end(), [=](const PlatformKey& key) {
        return key.is_certificate ? is_same_ignoring_case(key.serial, serial)
                                  : key.serial == serial;
    });
    if (found == keys.end()) {
        return "it names the key " + std::string(serial) +
               ", which neither public_key_id nor certificates has";
    }
    if (message.now_unix_s > found->not_after_unix_s) {
        return "the platform certificate " + found->serial + " has expired";
    }
    // Now and then WeChat looks whether its signatures are checked. In words only: it fails like
    // any other that is wrong.
    if (encoded.starts_with(probe_prefix)) {
        return "its signature is a deliberate probe of WeChat's";
    }
    const auto signature = crypto.base64_decode(encoded);
    std::string text(timestamp);
    text.append("\n").append(nonce).append("\n").append(message.body).append("\n");
    const bool verifies = signature && found->key->verify_sha256(text, *signature);
    return verifies
               ? std::string()
               : "its signature was not made with the key " + found->serial + " over these bytes";
}

// ---- The request -------------------------------------------------------------------------------

bool is_out_trade_no(std::string_view id) noexcept {
    return id.size() >= 6 && is_all(id, 32, [](char c) {
               return is_alphanumeric(c) || c == '_' || c == '-' || c == '|' || c == '*';
           });
}

// Why WeChat can never be asked for this refund; empty when it can.
std::string refund_problem(const RefundCall& call) {
    if (call.currency != "CNY") {
        return "WeChat Pay refunds CNY only, and this payment is in " + std::string(call.currency);
    }
    if (call.transaction_id.empty() && !is_out_trade_no(call.payment_id)) {
        return "the payment has no transaction_id, and its id cannot be WeChat's out_trade_no: 6 "
               "to 32 of 0-9 A-Z a-z _ - | *";
    }
    return {};
}

std::string refund_body(const RefundCall& call, std::string_view notify_url) {
    json body = {
        {"out_refund_no", call.refund_no},
        {"reason", chinese_reason(call.reason)},
        {"amount",
         {{"refund", call.amount}, {"total", call.payment_amount}, {"currency", call.currency}}},
    };
    if (call.transaction_id.empty()) {
        body["out_trade_no"] = call.payment_id;
    } else {
        body["transaction_id"] = call.transaction_id;
    }
    if (!notify_url.empty()) {
        body["notify_url"] = notify_url;
    }
    return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

// From the first slash after the host: what is signed is what goes out, a path prefix included.
std::string_view path_and_query(std::string_view url) noexcept {
    const std::size_t scheme_end = url.find("://");
    const std::size_t host = scheme_end == std::string_view::npos ? 0 : scheme_end + 3;
    return url.substr(std::min(url.find('/', host), url.size()));
}

// ---- The answer --------------------------------------------------------------------------------

// What an error answer means. A code under another status than its own decides nothing.
struct ErrorRule {
    int status = 0;
    std::string_view code;
    Verdict to_refund = Verdict::unknown;
    Verdict to_query = Verdict::unknown;
    bool confirm = false;  // of a refused refund
    std::string_view advice;
};

constexpr auto error_rules = std::to_array<ErrorRule>({
    {401, "SIGN_ERROR", Verdict::rejected, Verdict::rejected, false,
     "; check mchid, serial_no, private_key and this server's clock"},
    {403, "NO_AUTH", Verdict::rejected, Verdict::rejected, false,
     "; check mchid, and in the merchant platform that it may refund through the API"},
    {404, "MCH_NOT_EXISTS", Verdict::rejected, Verdict::rejected, false, "; check mchid"},
    {403, "NOT_ENOUGH", Verdict::wait, Verdict::unknown, false, ""},
    {403, "USER_ACCOUNT_ABNORMAL", Verdict::rejected, Verdict::unknown, true, ""},
    {403, "REQUEST_BLOCKED", Verdict::rejected, Verdict::unknown, true, ""},
    {400, "PARAM_ERROR", Verdict::rejected, Verdict::rejected, true, ""},
    {400, "INVALID_REQUEST", Verdict::rejected, Verdict::rejected, true, ""},
    {404, "RESOURCE_NOT_EXISTS", Verdict::rejected, Verdict::not_found, true, ""},
});

bool is_rate_limit(int status, std::string_view code) noexcept {
    return status == 429 || code == "FREQUENCY_LIMITED" || code == "RATELIMIT_EXCEEDED" ||
           code == "RATE_LIMITED";
}

// "HTTP 403 NOT_ENOUGH: … (Request-ID …)": WeChat's support asks for the number.
std::string worded(const HttpResponse& response, std::string_view code, std::string_view text) {
    std::string made = "HTTP " + std::to_string(response.status);
    if (!code.empty()) {
        made.append(" ").append(code);
    }
    if (!text.empty()) {
        made.append(": ").append(clean_text(text, 300));
    }
    const std::string_view request_id =
        header_value(response.headers, "Request-ID").value_or("").substr(0, 64);
    if (!request_id.empty()) {
        made.append(" (Request-ID ").append(request_id).append(")");
    }
    return made;
}

GatewayAnswer read_unverified(const HttpResponse& response, const std::string& problem) {
    GatewayAnswer made =
        answer(Verdict::unknown, worded(response, "", "the answer does not verify: " + problem));
    made.facts.concern = Concern::unverifiable;
    return made;
}

GatewayAnswer read_error(CallKind kind, const HttpResponse& response) {
    const json body = parse_unambiguous(response.body);
    const std::string code = text_member(body, "code", 64);
    const std::string message =
        body.is_object() ? text_member(body, "message", 300) : clean_text(response.body, 200);
    GatewayAnswer made = answer(Verdict::unknown, worded(response, code, message));
    if (is_rate_limit(response.status, code)) {
        made.facts.retry_after_s = rate_limit_pause_s;
        made.facts.slow_down = true;
        return made;
    }
    const auto* const rule =
        std::find_if(error_rules.begin(), error_rules.end(), [&](const ErrorRule& candidate) {
            return candidate.status == response.status && candidate.code == code;
        });
    if (rule == error_rules.end()) {
        return made;
    }
    const bool to_refund = kind == CallKind::refund;
    AnswerFacts& facts = made.facts;
    facts.verdict = to_refund ? rule->to_refund : rule->to_query;
    facts.confirm = to_refund && rule->confirm;
    // WeChat takes 150 good refund requests per second, and 6 that it has to refuse.
    facts.slow_down = facts.verdict == Verdict::rejected || facts.verdict == Verdict::wait;
    facts.concern = facts.verdict == Verdict::wait ? Concern::balance : Concern::none;
    made.error = clean_text(made.error.append(rule->advice));
    return made;
}

// How the refund that WeChat tells of differs from the one that was asked for; empty when it does
// not. Members that only some answers have are compared where they are.
std::string difference(const RefundCall& call, const json& refund, std::int64_t amount,
                       std::int64_t total, std::string_view currency) {
    if (amount != call.amount || total != call.payment_amount || currency != call.currency) {
        return std::to_string(amount) + " of " + std::to_string(total) + " " +
               std::string(currency) + " instead of " + std::to_string(call.amount) + " of " +
               std::to_string(call.payment_amount) + " " + std::string(call.currency);
    }
    const bool by_transaction = !call.transaction_id.empty();
    const std::string said =
        text_member(refund, by_transaction ? "transaction_id" : "out_trade_no", 128);
    const std::string_view asked = by_transaction ? call.transaction_id : call.payment_id;
    return said.empty() || said == asked
               ? std::string()
               : "of the payment " + said + " instead of " + std::string(asked);
}

void read_refund_status(GatewayAnswer& made, std::string_view status) {
    if (status == "SUCCESS") {
        made.facts.verdict = Verdict::succeeded;
    } else if (status == "PROCESSING") {
        made.facts.verdict = Verdict::processing;
    } else if (status == "CLOSED") {
        made.facts.verdict = Verdict::failed;
        made.error =
            "WeChat closed the refund (CLOSED): no money left, and none will under this "
            "number; most often the balance was too small for 7 days";
    } else if (status == "ABNORMAL") {
        made.facts.verdict = Verdict::abnormal;
        made.error =
            "the money could not be paid into the customer's account (ABNORMAL); it has "
            "left the balance and waits for a decision in the merchant platform";
    } else {
        made.facts.verdict = Verdict::unknown;
        made.error = clean_text("the refund's status \"" + std::string(status) + "\" is unknown");
    }
}

// `response` verifies.
GatewayAnswer read_refund(const RefundCall& call, const HttpResponse& response) {
    const json body = parse_unambiguous(response.body);
    if (!body.is_object()) {
        return answer(Verdict::unknown,
                      worded(response, "", "the answer is not a JSON object, or ambiguous"));
    }
    if (exact_member(body, "out_refund_no", max_wechat_number_bytes) != call.refund_no) {
        return answer(Verdict::unknown, worded(response, "", "the answer is about another refund"));
    }
    const json& amounts = object_member(body, "amount");
    const auto amount = integer_member(amounts, "refund");
    const auto total = integer_member(amounts, "total");
    const std::string currency = text_member(amounts, "currency", 16);
    if (!amount || !total || currency.empty()) {
        return answer(Verdict::unknown,
                      worded(response, "", "the answer does not say the refund's amounts"));
    }
    const std::string differs = difference(call, body, *amount, *total, currency);
    GatewayAnswer made;
    if (differs.empty()) {
        read_refund_status(made, text_member(body, "status", 64));
    } else {
        made = answer(
            Verdict::abnormal,
            worded(response, "", "WeChat knows this refund number for another refund: " + differs));
    }
    made.refund_id = text_member(body, "refund_id", max_wechat_number_bytes);
    return made;
}

// ---- The notification --------------------------------------------------------------------------

Notice read_payment_notice(const json& payment, const std::vector<std::string>& appids) {
    const std::string appid = exact_member(payment, "appid", max_wechat_number_bytes);
    if (!appids.empty() && std::find(appids.begin(), appids.end(), appid) == appids.end()) {
        return notice(NoticeKind::forged, "it verifies, but its appid is not among the option's");
    }
    const std::string state = text_member(payment, "trade_state", 64);
    // REFUND: paid, and a refund exists.
    const bool success = state == "SUCCESS" || state == "REFUND";
    if (state == "NOTPAY" || state == "USERPAYING") {
        return notice(NoticeKind::ignored, "its trade_state is \"" + state + "\"");
    }
    if (!success && state != "PAYERROR" && state != "CLOSED" && state != "REVOKED") {
        return notice(NoticeKind::unusable, "its trade_state \"" + state + "\" is unknown");
    }
    const json& amounts = object_member(payment, "amount");
    Notice made;
    made.kind = NoticeKind::payment;
    made.payment.success = success;
    made.payment.payment_id = exact_member(payment, "out_trade_no", max_wechat_number_bytes);
    made.payment.transaction_id = exact_member(payment, "transaction_id", max_wechat_number_bytes);
    made.payment.amount = integer_member(amounts, "total");
    made.payment.currency = exact_member(amounts, "currency", 3);
    const bool says_what_arrived = !made.payment.transaction_id.empty() &&
                                   made.payment.amount.value_or(0) > 0 &&
                                   made.payment.currency.size() == 3;
    if (made.payment.payment_id.empty() || (success && !says_what_arrived)) {
        return notice(NoticeKind::forged,
                      "it verifies, but a member is missing or malformed: out_trade_no, "
                      "transaction_id, amount.total or amount.currency");
    }
    return made;
}

Notice read_refund_notice(const json& refund, std::string_view event_type) {
    Notice made;
    made.kind = NoticeKind::refund;
    made.refund.refund_no = exact_member(refund, "out_refund_no", max_wechat_number_bytes);
    if (made.refund.refund_no.empty()) {
        return notice(NoticeKind::forged,
                      "it verifies, but its out_refund_no is missing or "
                      "malformed");
    }
    made.refund.refund_id = text_member(refund, "refund_id", max_wechat_number_bytes);
    made.refund.transaction_id = exact_member(refund, "transaction_id", max_wechat_number_bytes);
    made.refund.amount = integer_member(object_member(refund, "amount"), "refund");
    const std::string status = text_member(refund, "refund_status", 64);
    if (!made.refund.amount || "REFUND." + status != event_type) {
        made.refund.error = "the notification does not say one thing: event_type " +
                            std::string(event_type) + ", refund_status \"" + status + "\"" +
                            (made.refund.amount ? "" : ", no amount.refund");
        return made;
    }
    GatewayAnswer told;
    read_refund_status(told, status);
    made.refund.verdict = told.facts.verdict;
    made.refund.error = std::move(told.error);
    return made;
}

bool is_refund_event(std::string_view event_type) noexcept {
    return event_type == "REFUND.SUCCESS" || event_type == "REFUND.ABNORMAL" ||
           event_type == "REFUND.CLOSED" || event_type == "REFUND.PROCESSING";
}

// Empty when it cannot be decrypted with this key.
std::optional<std::string> open_resource(const json& resource, std::string_view key,
                                         const CryptoPort& crypto) {
    const auto text = [&](const char* name) -> const std::string* {
        const auto member = resource.find(name);
        return member != resource.end() && member->is_string()
                   ? &member->get_ref<const std::string&>()
                   : nullptr;
    };
    const std::string* sealed = text("ciphertext");
    const std::string* nonce = text("nonce");
    const std::string* associated = text("associated_data");
    if (sealed == nullptr || nonce == nullptr) {
        return std::nullopt;
    }
    const auto bytes = crypto.base64_decode(*sealed);
    return bytes ? crypto.open_aes_256_gcm(key, *nonce, associated == nullptr ? "" : *associated,
                                           *bytes)
                 : std::nullopt;
}

// ---- The gateway -------------------------------------------------------------------------------

struct Settings {
    std::string endpoint;
    std::string notify_url;
    std::string mchid;
    std::string serial_no;
    std::vector<std::string> appids;
    std::string public_key_id;
    Secret api_v3_key;
    std::unique_ptr<SigningKey> private_key;
    std::vector<PlatformKey> platform_keys;
};

class WechatGateway final : public Gateway {
  public:
    WechatGateway(Settings settings, const CryptoPort& crypto)
        : settings_(std::move(settings)), crypto_(crypto) {}

    BuiltRequest build(const RefundCall& call, const SigningMoment& moment) const override;
    GatewayAnswer read_answer(const RefundCall& call, const HttpResponse& response,
                              std::int64_t now_unix_s) const override;
    Notice read_notice(const RawNotice& raw) const override;
    NoticeReply reply(ReplyKind kind) const noexcept override;

  private:
    bool authorize(HttpRequest& request, const SigningMoment& moment) const;
    GatewayAnswer read_complete_answer(const RefundCall& call, const HttpResponse& response,
                                       std::int64_t now_unix_s) const;
    Notice read_genuine_notice(const json& envelope) const;

    Settings settings_;
    const CryptoPort& crypto_;
};

bool WechatGateway::authorize(HttpRequest& request, const SigningMoment& moment) const {
    const bool is_post = request.method == HttpMethod::post;
    const std::string timestamp = std::to_string(moment.unix_s);
    const std::string nonce(moment.nonce);
    std::string text = is_post ? "POST\n" : "GET\n";
    text.append(path_and_query(request.url)).append("\n").append(timestamp).append("\n");
    text.append(nonce).append("\n").append(request.body).append("\n");
    const auto signature = settings_.private_key->sign_sha256(text);
    if (!signature) {
        return false;
    }
    request.headers.push_back(
        {"Authorization", std::string(signature_type) + " mchid=\"" + settings_.mchid +
                              "\",nonce_str=\"" + nonce + "\",timestamp=\"" + timestamp +
                              "\",serial_no=\"" + settings_.serial_no + "\",signature=\"" +
                              crypto_.base64_encode(*signature) + "\""});
    request.headers.push_back({"Accept", "application/json"});
    if (is_post) {
        request.headers.push_back({"Content-Type", "application/json"});
    }
    if (!settings_.public_key_id.empty()) {
        request.headers.push_back({"Wechatpay-Serial", settings_.public_key_id});
    }
    return true;
}

BuiltRequest WechatGateway::build(const RefundCall& call, const SigningMoment& moment) const {
    HttpRequest request;
    request.url = settings_.endpoint;
    if (call.kind == CallKind::refund) {
        if (const std::string problem = refund_problem(call); !problem.empty()) {
            return answer(Verdict::rejected, problem);
        }
        request.method = HttpMethod::post;
        request.body = refund_body(call, settings_.notify_url);
    } else {
        request.url += "/" + percent_encode(call.refund_no);
    }
    if (!authorize(request, moment)) {
        return answer(Verdict::not_sent, "the request could not be signed with private_key");
    }
    return request;
}

GatewayAnswer WechatGateway::read_complete_answer(const RefundCall& call,
                                                  const HttpResponse& response,
                                                  std::int64_t now_unix_s) const {
    const bool is_success = response.status >= 200 && response.status < 300;
    // WeChat leaves some of its errors unsigned.
    if (is_success || has_header(response.headers, signature_header)) {
        const std::string problem = signature_problem({response.headers, response.body, now_unix_s},
                                                      settings_.platform_keys, crypto_);
        if (!problem.empty()) {
            return read_unverified(response, problem);
        }
    }
    if (response.status == 200) {
        return read_refund(call, response);
    }
    return response.status >= 400
               ? read_error(call.kind, response)
               : answer(Verdict::unknown, worded(response, "", "no answer that WeChat describes"));
}

GatewayAnswer WechatGateway::read_answer(const RefundCall& call, const HttpResponse& response,
                                         std::int64_t now_unix_s) const {
    if (auto none = unanswered(response)) {
        return std::move(*none);
    }
    GatewayAnswer made = read_complete_answer(call, response, now_unix_s);
    if (response.retry_after_s) {
        made.facts.retry_after_s =
            std::max(made.facts.retry_after_s.value_or(0), *response.retry_after_s);
    }
    return made;
}

Notice WechatGateway::read_notice(const RawNotice& raw) const {
    if (raw.body.size() > max_notice_bytes) {
        return notice(NoticeKind::forged, "its body is larger than 256 KiB");
    }
    std::string problem = signature_problem({raw.headers, raw.body, raw.now_unix_s},
                                            settings_.platform_keys, crypto_);
    if (!problem.empty()) {
        return notice(NoticeKind::forged, std::move(problem));
    }
    return read_genuine_notice(parse_unambiguous(raw.body));
}

Notice WechatGateway::read_genuine_notice(const json& envelope) const {
    const std::string event_type = text_member(envelope, "event_type", 64);
    if (event_type.empty()) {
        return notice(NoticeKind::forged, "it verifies, but is no JSON object with an event_type");
    }
    const bool is_payment = event_type == "TRANSACTION.SUCCESS";
    if (!is_payment && !is_refund_event(event_type)) {
        return notice(NoticeKind::ignored, "its event_type is " + event_type);
    }
    const json& resource = object_member(envelope, "resource");
    if (text_member(resource, "algorithm", 64) != "AEAD_AES_256_GCM") {
        return notice(NoticeKind::forged,
                      "it verifies, but is not encrypted with "
                      "AEAD_AES_256_GCM");
    }
    if (settings_.api_v3_key.empty()) {
        return notice(NoticeKind::unusable,
                      "it is encrypted, and the user mapping has no "
                      "api_v3_key");
    }
    const auto plaintext = open_resource(resource, settings_.api_v3_key.view(), crypto_);
    if (!plaintext) {
        return notice(NoticeKind::forged,
                      "it verifies, but cannot be decrypted: api_v3_key is not "
                      "the key of this merchant, or was changed");
    }
    const json content = parse_unambiguous(*plaintext);
    if (!content.is_object()) {
        return notice(NoticeKind::forged,
                      "it verifies, but what it encrypts is no JSON object, or "
                      "ambiguous");
    }
    if (exact_member(content, "mchid", 32) != settings_.mchid) {
        return notice(NoticeKind::forged, "it verifies, but is not about the merchant of mchid");
    }
    Notice made = is_payment ? read_payment_notice(content, settings_.appids)
                             : read_refund_notice(content, event_type);
    if (made.kind == NoticeKind::payment || made.kind == NoticeKind::refund) {
        made.content = clean_text(*plaintext, max_content_bytes);
    }
    return made;
}

NoticeReply WechatGateway::reply(ReplyKind kind) const noexcept {
    constexpr std::string_view type = "application/json";
    switch (kind) {
        case ReplyKind::accepted:
            return {200, type, R"({"code":"SUCCESS","message":"OK"})"};
        case ReplyKind::refused:
            return {400, type, R"({"code":"FAIL","message":"refused"})"};
        case ReplyKind::failed:
            break;
    }
    return {500, type, R"({"code":"FAIL","message":"try again"})"};
}

// ---- The options -------------------------------------------------------------------------------

constexpr auto option_rules = std::to_array<OptionRule>({
    {"notify_url", OptionScope::server, false},
    {"mchid", OptionScope::user_mapping, false},
    {"serial_no", OptionScope::user_mapping, false},
    {"private_key", OptionScope::user_mapping, true},
    {"api_v3_key", OptionScope::user_mapping, true},
    {"public_key_id", OptionScope::user_mapping, false},
    {"public_key", OptionScope::user_mapping, true},
    {"certificates", OptionScope::user_mapping, true},
    {"appid", OptionScope::user_mapping, false},
});

Problem problem_with(std::string option, std::string detail, std::string hint) {
    return OptionProblem{std::move(option), std::move(detail), std::move(hint)};
}

bool is_loopback(std::string_view host) noexcept {
    return host == "localhost" || host == "[::1]" ||
           (host.starts_with("127.") &&
            is_all(host, 15, [](char c) { return is_digit(c) || c == '.'; }));
}

// Of scheme://authority/…; empty when there is none that has one reading.
std::string_view host_of(std::string_view url) noexcept {
    url.remove_prefix(std::min(url.find("://") + 3, url.size()));
    const std::string_view authority = url.substr(0, url.find('/'));
    if (authority.find_first_of("@%\\") != std::string_view::npos) {
        return {};
    }
    const std::size_t bracket = authority.starts_with('[') ? authority.find(']') : 0;
    return bracket == std::string_view::npos ? std::string_view()
                                             : authority.substr(0, authority.find(':', bracket));
}

bool is_notify_url(std::string_view url) noexcept {
    if (!is_all(url, 256, is_visible) || url.find_first_of("?#") != std::string_view::npos) {
        return false;
    }
    const std::string_view host = host_of(url);
    return (url.starts_with("https://") && !host.empty()) ||
           (url.starts_with("http://") && is_loopback(host));
}

std::vector<std::string> split_at_commas(std::string_view list) {
    std::vector<std::string> parts;
    for (std::size_t begin = 0; begin <= list.size();) {
        const std::size_t end = std::min(list.find(',', begin), list.size());
        std::string_view part = list.substr(begin, end - begin);
        part.remove_prefix(std::min(part.find_first_not_of(' '), part.size()));
        part = part.substr(0, part.find_last_not_of(' ') + 1);
        parts.emplace_back(part);
        begin = end + 1;
    }
    return parts;
}

Problem read_names(const GatewayOptions& options, Settings& settings) {
    const auto get = [&](std::string_view name) { return std::string(options.get(name)); };
    settings.notify_url = get("notify_url");
    if (!settings.notify_url.empty() && !is_notify_url(settings.notify_url)) {
        return problem_with("notify_url",
                            "It is not an https URL of at most 256 bytes without a query.",
                            "Give the public address at which your application takes WeChat's "
                            "notifications.");
    }
    settings.mchid = get("mchid");
    if (!is_all(settings.mchid, 32, is_digit)) {
        return problem_with("mchid", "It must be the merchant number: up to 32 digits.",
                            "Copy it from the account page of the merchant platform.");
    }
    settings.serial_no = upper_case(options.get("serial_no"));
    if (!is_all(settings.serial_no, 64, is_hex)) {
        return problem_with("serial_no",
                            "It must be the serial number of your merchant certificate: up to 64 "
                            "hexadecimal digits.",
                            "Copy it from the API security page of the merchant platform, or see "
                            "openssl x509 -in apiclient_cert.pem -noout -serial.");
    }
    if (options.has("appid")) {
        settings.appids = split_at_commas(options.get("appid"));
        const bool are_good =
            std::all_of(settings.appids.begin(), settings.appids.end(),
                        [](const std::string& id) { return is_all(id, 32, is_alphanumeric); });
        if (!are_good) {
            return problem_with(
                "appid",
                "It must be one appid or several with commas between them; an appid is "
                "up to 32 letters and digits.",
                "Give the appids with which your orders are created, such as "
                "wx1234567890abcdef.");
        }
    }
    return std::nullopt;
}

Problem read_own_keys(const GatewayOptions& options, const CryptoPort& crypto, Settings& settings) {
    settings.private_key = crypto.parse_private_key(options.get("private_key"));
    if (!settings.private_key) {
        return problem_with("private_key",
                            options.has("private_key")
                                ? "It is not an unencrypted RSA private key of 2048 bits or more."
                                : "It is missing; requests are signed with it.",
                            "Give the whole of apiclient_key.pem, best by its path as "
                            "private_key_file.");
    }
    const std::string_view api_v3_key = options.get("api_v3_key");
    const bool is_key =
        is_all(api_v3_key, api_v3_key_bytes, is_visible) && api_v3_key.size() == api_v3_key_bytes;
    if (!api_v3_key.empty() && !is_key) {
        return problem_with(
            "api_v3_key", "It must be exactly 32 printable ASCII characters.",
            "Give the API v3 key as it was set in the merchant platform: it is neither "
            "hexadecimal nor base64.");
    }
    settings.api_v3_key = Secret(api_v3_key);
    return std::nullopt;
}

Problem read_public_key(const GatewayOptions& options, const CryptoPort& crypto,
                        Settings& settings) {
    settings.public_key_id = options.get("public_key_id");
    if (settings.public_key_id.empty() && !options.has("public_key")) {
        return std::nullopt;
    }
    const bool is_id =
        settings.public_key_id.starts_with(public_key_id_prefix) &&
        is_all(std::string_view(settings.public_key_id).substr(public_key_id_prefix.size()), 100,
               is_alphanumeric);
    if (!is_id) {
        return problem_with("public_key_id",
                            settings.public_key_id.empty()
                                ? "It is missing, and public_key is given."
                                : "It is not PUB_KEY_ID_ with letters and digits after it.",
                            "Copy the whole id of the WeChat Pay public key from the merchant "
                            "platform.");
    }
    PlatformKey key;
    key.serial = settings.public_key_id;
    key.key = crypto.parse_public_key(options.get("public_key"));
    if (!key.key) {
        return problem_with(
            "public_key",
            options.has("public_key") ? "It is not an RSA public key of 2048 bits or more."
                                      : "It is missing, and public_key_id is given.",
            "Give the whole of pub_key.pem (BEGIN PUBLIC KEY) as downloaded from the "
            "merchant platform; a platform certificate belongs into certificates.");
    }
    if (key.key->public_der() == settings.private_key->public_der()) {
        return problem_with(
            "public_key", "You gave your own: it belongs to private_key.",
            "Give WeChat Pay's public key, pub_key.pem, as downloaded from the merchant "
            "platform.");
    }
    settings.platform_keys.push_back(std::move(key));
    return std::nullopt;
}

Problem read_certificates(const GatewayOptions& options, const CryptoPort& crypto,
                          Settings& settings) {
    if (!options.has("certificates")) {
        return std::nullopt;
    }
    constexpr const char* hint =
        "Give WeChat Pay's platform certificates (BEGIN CERTIFICATE), one after the other.";
    const Certificates certificates = crypto.parse_certificates(options.get("certificates"));
    if (certificates.empty()) {
        return problem_with("certificates", "It is not a series of certificates in PEM.", hint);
    }
    for (const auto& certificate : certificates) {
        PlatformKey key;
        key.serial = upper_case(certificate->serial_hex());
        key.is_certificate = true;
        key.not_after_unix_s = certificate->not_after_unix_s();
        key.key = certificate->public_key();
        if (!key.key) {
            return problem_with(
                "certificates",
                "The key of certificate " + key.serial + " is not RSA of 2048 bits or more.", hint);
        }
        if (key.key->public_der() == settings.private_key->public_der()) {
            return problem_with(
                "certificates",
                "Certificate " + key.serial + " is your own: it belongs to private_key.",
                "Take apiclient_cert.pem out, and give WeChat Pay's platform "
                "certificates.");
        }
        if (key.serial == settings.serial_no) {
            return problem_with(
                "serial_no", "It is the serial number of a platform certificate in certificates.",
                "Give the serial number of your own certificate, apiclient_cert.pem.");
        }
        settings.platform_keys.push_back(std::move(key));
    }
    return std::nullopt;
}

Problem read_options(const GatewayOptions& options, const CryptoPort& crypto, Settings& settings) {
    settings.endpoint = base_url(options) + std::string(refunds_path);
    Problem found = read_names(options, settings);
    if (!found) {
        found = read_own_keys(options, crypto, settings);
    }
    if (!found) {
        found = read_public_key(options, crypto, settings);
    }
    if (!found) {
        found = read_certificates(options, crypto, settings);
    }
    if (!found && settings.platform_keys.empty()) {
        return problem_with("public_key",
                            "It is missing, and so is certificates: no answer of WeChat's could be "
                            "verified.",
                            "Give public_key_id and public_key, or certificates, or all three.");
    }
    return found;
}

OpenedGateway open(const GatewayOptions& options, const CryptoPort& crypto) {
    OpenedGateway opened;
    Settings settings;
    if (Problem found = read_options(options, crypto, settings)) {
        opened.problem = std::move(*found);
    } else {
        opened.gateway = std::make_unique<WechatGateway>(std::move(settings), crypto);
    }
    return opened;
}

constexpr GatewayTraits traits = {
    .query_delay_s = 10,
    .payment_spacing_s = 60,
    .refund_window_s = std::int64_t{365} * 24 * 3600,
    .idempotency_horizon_s = 0,
    .rate_limit_per_s = 150,
};

}  // namespace

constexpr Driver wechat_driver = {"payonce_wechat", option_rules, traits, open};

}  // namespace payonce::core
