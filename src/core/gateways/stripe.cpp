// Stripe's habits as code: refunds are form-encoded and answered in JSON; the one durable link
// between a refund there and one here is its metadata.out_refund_no; a POST may be repeated under
// its idempotency key for a day. docs/gateways/stripe.md has the tables.
#include "core/gateways/stripe.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "core/form.h"
#include "core/identifiers.h"
#include "core/json.h"
#include "core/text.h"
#include "core/webhook_signature.h"

namespace payonce::core {
namespace {

using nlohmann::json;

// Pins the shape of the answers: without it the account's default would decide.
constexpr std::string_view api_version = "2026-10-28.endive";
constexpr std::string_view page_size = "100";  // the largest that Stripe takes
constexpr std::size_t max_id_bytes = 128;
constexpr std::size_t max_key_bytes = 255;
constexpr std::size_t max_code_bytes = 64;
// So that the request's id still fits behind it.
constexpr std::size_t max_message_bytes = 280;
constexpr std::size_t max_content_bytes = 2000;
constexpr std::size_t max_signature_parts = 16;
// Two while one is being replaced.
constexpr std::size_t max_webhook_secrets = 2;

// All that a key or an id of Stripe's is made of; never empty.
bool is_word(std::string_view text, std::size_t max_bytes) noexcept {
    return !text.empty() && text.size() <= max_bytes &&
           std::all_of(text.begin(), text.end(),
                       [](char c) { return is_alphanumeric(c) || c == '_'; });
}

// Empty where the member is no id.
std::string id_member(const json& object, const char* name) {
    std::string id = text_member(object, name, max_id_bytes + 1);
    return is_word(id, max_id_bytes) ? id : std::string();
}

// Compares what was received, not what clean_text() made of it.
bool is_text(const json& object, const char* name, std::string_view expected) {
    const auto member = object.is_object() ? object.find(name) : object.end();
    return member != object.end() && member->is_string() &&
           member->get_ref<const std::string&>() == expected;
}

// The parameter, and the member of a refund, that names this payment; null when Stripe knows no
// payment by such an id.
const char* payment_parameter(std::string_view transaction_id) noexcept {
    if (!is_word(transaction_id, max_id_bytes)) {
        return nullptr;
    }
    if (transaction_id.starts_with("pi_")) {
        return "payment_intent";
    }
    const bool charge = transaction_id.starts_with("ch_") || transaction_id.starts_with("py_");
    return charge ? "charge" : nullptr;
}

// Otherwise the refund is looked for in the list of its payment's refunds.
bool asks_by_id(const RefundCall& call) noexcept {
    const std::string_view id = call.gateway_refund_id;
    return call.kind == CallKind::query && is_word(id, max_id_bytes) &&
           (id.starts_with("re_") || id.starts_with("pyr_"));
}

// --- Refunds as Stripe describes them ----------------------------------------------------------

// By status alone; also of a notification.
GatewayAnswer read_refund_status(const json& refund) {
    const std::string status = text_member(refund, "status", max_code_bytes);
    if (status == "succeeded") {
        return answer(Verdict::succeeded);
    }
    if (status == "pending") {
        GatewayAnswer made = answer(Verdict::processing);
        if (is_text(refund, "pending_reason", "insufficient_funds")) {
            made.facts.concern = Concern::balance;
            made.error = "Stripe keeps the refund pending until the balance covers it";
        }
        return made;
    }
    if (status == "requires_action") {
        GatewayAnswer made = answer(Verdict::processing,
                                    "Stripe waits for the customer to do something, such as to "
                                    "say where the money is to go");
        made.facts.concern = Concern::customer;
        return made;
    }
    if (status == "failed") {
        const std::string reason = text_member(refund, "failure_reason", max_code_bytes);
        return answer(Verdict::failed, reason.empty()
                                           ? "Stripe declared the refund failed without saying why"
                                           : "Stripe declared the refund failed: " + reason);
    }
    if (status == "canceled") {
        return answer(Verdict::failed, "the refund was canceled at Stripe");
    }
    return answer(Verdict::unknown,
                  "Stripe's answer has an unknown refund status \"" + status + "\"");
}

// Whether it names the payment of the call, or none.
bool is_of_payment(const RefundCall& call, const json& refund) {
    const char* name = payment_parameter(call.transaction_id);
    if (name == nullptr) {
        return true;
    }
    const auto member = refund.find(name);
    return member == refund.end() || member->is_null() ||
           is_text(refund, name, call.transaction_id);
}

bool has_our_number(const RefundCall& call, const json& refund) {
    return is_text(object_member(refund, "metadata"), "out_refund_no", call.refund_no);
}

GatewayAnswer read_refund(const RefundCall& call, const json& refund) {
    if (!is_text(refund, "object", "refund")) {
        return answer(Verdict::unknown, "Stripe's answer is not a refund");
    }
    const bool asked_for = !asks_by_id(call) || is_text(refund, "id", call.gateway_refund_id);
    if (!asked_for || !has_our_number(call, refund) || !is_of_payment(call, refund)) {
        return answer(Verdict::unknown, "Stripe's answer is about another refund");
    }
    const auto amount = integer_member(refund, "amount");
    const std::string currency = upper_case(text_member(refund, "currency", max_code_bytes));
    if (!amount || currency.empty()) {
        return answer(Verdict::unknown, "Stripe's answer names no amount or no currency");
    }
    GatewayAnswer made = read_refund_status(refund);
    if (*amount != call.amount || currency != call.currency) {
        made = answer(Verdict::abnormal, "Stripe has this refund with " + std::to_string(*amount) +
                                             " " + currency + " instead of " +
                                             std::to_string(call.amount) + " " +
                                             std::string(call.currency));
    }
    made.refund_id = id_member(refund, "id");
    return made;
}

// Two refunds with our number. One that is dead gives way to the other. Otherwise the money may go
// back twice, which must not look like a refund that is done.
GatewayAnswer read_both(GatewayAnswer first, GatewayAnswer second) {
    if (first.facts.verdict == Verdict::failed) {
        return second;
    }
    if (second.facts.verdict == Verdict::failed) {
        return first;
    }
    // Without an id: by the list, not by one of the two, it is to be asked about again.
    return answer(Verdict::abnormal, "Stripe has several refunds with this number: " +
                                         first.refund_id + " and " + second.refund_id);
}

// The payment's refunds, newest first; ours is the one with our number in its metadata.
GatewayAnswer read_list(const RefundCall& call, const json& list) {
    const auto data = list.is_object() ? list.find("data") : list.end();
    const auto has_more = list.is_object() ? list.find("has_more") : list.end();
    if (!is_text(list, "object", "list") || data == list.end() || !data->is_array() ||
        has_more == list.end() || !has_more->is_boolean()) {
        return answer(Verdict::unknown, "Stripe's answer is not a list of refunds");
    }
    std::optional<GatewayAnswer> ours;
    for (const json& refund : *data) {
        if (!is_text(refund, "object", "refund")) {
            return answer(Verdict::unknown, "Stripe's list has something else than refunds");
        }
        if (has_our_number(call, refund)) {
            GatewayAnswer one = read_refund(call, refund);
            if (ours) {
                one = read_both(std::move(*ours), std::move(one));
            }
            ours = std::move(one);
        }
    }
    const bool more = has_more->get<bool>();
    if (ours && more && ours->facts.verdict == Verdict::failed) {
        // A page that was not seen may have one that is not dead.
        ours->facts.verdict = Verdict::unknown;
    }
    if (ours) {
        return std::move(*ours);
    }
    if (!more) {
        return answer(Verdict::not_found);
    }
    GatewayAnswer made = answer(Verdict::unknown);
    made.next_page = data->empty() ? std::string() : id_member(data->back(), "id");
    if (made.next_page.empty()) {
        made.error = "Stripe's list goes on, but does not say where";
    }
    return made;
}

// --- Errors ------------------------------------------------------------------------------------

struct StripeError {
    int status = 0;
    std::string type;
    std::string code;
    std::string message;
};

enum class ErrorClass : std::uint8_t {
    unclear,        // it may have been done
    throttled,      // too much at a time; not done
    balance,        // not done until the balance is larger
    configuration,  // not done; no refund will be until a person corrects the setup
    permanent,      // refused, and will be again
};

StripeError read_error_body(const HttpResponse& response) {
    const json body = parse_json(response.body);
    const json& error = object_member(body, "error");
    StripeError made;
    made.status = response.status;
    made.type = text_member(error, "type", max_code_bytes);
    made.code = text_member(error, "code", max_code_bytes);
    made.message = body.is_object() ? text_member(error, "message", max_message_bytes)
                                    : clean_text(response.body, max_message_bytes);
    return made;
}

bool is_about_balance(const StripeError& error) {
    if (!error.code.empty()) {
        return error.code == "balance_insufficient" || error.code == "insufficient_funds";
    }
    const std::string message = lower_case(error.message);
    return message.find("insufficient") != std::string::npos &&
           (message.find("funds") != std::string::npos ||
            message.find("balance") != std::string::npos);
}

bool is_about_mode(const StripeError& error) noexcept {
    return error.code == "livemode_mismatch" || error.code == "testmode_charges_only";
}

ErrorClass class_of(CallKind kind, const StripeError& error) {
    // 408 and 425 are not Stripe's, but of whoever stands before it.
    constexpr std::array<int, 4> unclear = {408, 409, 424, 425};
    if (error.status >= 500 ||
        std::find(unclear.begin(), unclear.end(), error.status) != unclear.end()) {
        return ErrorClass::unclear;
    }
    if (error.status == 429) {
        return ErrorClass::throttled;
    }
    if (error.status == 401 || error.status == 403 || error.code == "api_key_expired" ||
        is_about_mode(error)) {
        return ErrorClass::configuration;
    }
    return kind == CallKind::refund && is_about_balance(error) ? ErrorClass::balance
                                                               : ErrorClass::permanent;
}

// What to check, where the cause is in payonce's setup.
std::string_view advice_on(const StripeError& error) {
    if (is_about_mode(error)) {
        return "; check that the option secret_key holds a key of the payment's mode, live or test";
    }
    if (error.status == 403) {
        return "; check the permissions of the key in the option secret_key";
    }
    if (error.status == 401 || error.code == "api_key_expired") {
        return "; check the key in the option secret_key";
    }
    return {};
}

std::string error_text(const StripeError& error, const HttpResponse& response) {
    std::string text = "HTTP " + std::to_string(error.status);
    const std::string& name = error.code.empty() ? error.type : error.code;
    if (!name.empty()) {
        text += " " + name;
    }
    if (!error.message.empty()) {
        text += ": " + error.message;
    }
    text += advice_on(error);
    // Stripe's support finds the call by it.
    if (const auto id = header_value(response.headers, "Request-Id"); id && !id->empty()) {
        text += " (request " + clean_text(*id, max_code_bytes) + ")";
    }
    return clean_text(text);
}

AnswerFacts facts_of(CallKind kind, ErrorClass error_class) noexcept {
    AnswerFacts facts;
    switch (error_class) {
        case ErrorClass::unclear:
            break;
        case ErrorClass::throttled:
            facts.verdict = Verdict::wait;
            facts.slow_down = true;
            break;
        case ErrorClass::balance:
            facts.verdict = Verdict::wait;
            facts.concern = Concern::balance;
            facts.slow_down = true;
            break;
        case ErrorClass::configuration:
            facts.verdict = Verdict::rejected;
            facts.slow_down = true;
            break;
        case ErrorClass::permanent:
            facts.verdict = Verdict::rejected;
            facts.confirm = kind == CallKind::refund;
            break;
    }
    return facts;
}

bool says_true(const HttpResponse& response, std::string_view name) {
    const auto value = header_value(response.headers, name);
    return value && lower_case(*value) == "true";
}

// Whether this is what an earlier request under the key was answered, and what every later one will
// be. Then that request's execution is over, which nothing else proves.
bool is_stored(CallKind kind, const StripeError& error, const HttpResponse& response) {
    return kind == CallKind::refund && says_true(response, "Idempotent-Replayed") &&
           error.code != "idempotency_key_in_use" && error.type != "idempotency_error";
}

GatewayAnswer read_error(CallKind kind, const HttpResponse& response) {
    const StripeError error = read_error_body(response);
    GatewayAnswer made;
    made.facts = facts_of(kind, class_of(kind, error));
    made.error = error_text(error, response);
    // The other way round it is not obeyed: "do not retry" does not say what was done.
    const bool try_again =
        made.facts.verdict == Verdict::rejected && says_true(response, "Stripe-Should-Retry");
    const bool stored = is_stored(kind, error, response);
    if (try_again || stored) {
        made.facts.verdict = Verdict::unknown;
        made.facts.confirm = false;
        made.facts.when_unknown = stored ? WhenUnknown::new_key : WhenUnknown::resend;
    }
    return made;
}

GatewayAnswer read_response(const RefundCall& call, const HttpResponse& response) {
    if (response.status >= 400 && response.status <= 599) {
        return read_error(call.kind, response);
    }
    if (response.status != 200) {
        return answer(Verdict::unknown, "HTTP " + std::to_string(response.status) +
                                            " is no answer that Stripe is known to give");
    }
    const json body = parse_json(response.body);
    const bool one = call.kind == CallKind::refund || asks_by_id(call);
    return one ? read_refund(call, body) : read_list(call, body);
}

// --- Notifications -----------------------------------------------------------------------------

struct SignatureHeader {
    std::string_view timestamp;
    std::int64_t sent_unix_s = 0;
    std::vector<std::string_view> signatures;
};

// "t=<seconds>,v1=<hex>,…": one t, some v1; other schemes mean nothing here.
std::optional<SignatureHeader> read_signature_header(std::string_view header) {
    SignatureHeader read;
    std::size_t times = 0;
    std::size_t parts = 0;
    for (; !header.empty() && parts < max_signature_parts; ++parts) {
        const std::size_t end = std::min(header.find(','), header.size());
        const std::string_view part = header.substr(0, end);
        header.remove_prefix(std::min(end + 1, header.size()));
        if (part.starts_with("t=")) {
            read.timestamp = part.substr(2);
            ++times;
        } else if (part.starts_with("v1=")) {
            read.signatures.push_back(part.substr(3));
        }
    }
    const auto sent = read_unix_time(read.timestamp);
    if (!header.empty() || times != 1 || !sent || read.signatures.empty()) {
        return std::nullopt;
    }
    read.sent_unix_s = *sent;
    return read;
}

std::string hex(std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    text.reserve(bytes.size() * 2);
    for (const char c : bytes) {
        const auto byte = static_cast<std::uint8_t>(c);
        text.push_back(digits[byte >> 4]);
        text.push_back(digits[byte & 0x0F]);
    }
    return text;
}

// What the event says, for a person: never the whole of it, which names the customer.
std::string summary(const json& event, const json& object) {
    constexpr std::size_t max_member_bytes = 100;
    json made = {{"event", text_member(event, "id", max_member_bytes)},
                 {"type", text_member(event, "type", max_member_bytes)}};
    for (const char* name : {"id", "currency", "status", "payment_status", "payment_intent",
                             "charge", "latest_charge", "client_reference_id", "failure_reason"}) {
        if (std::string value = text_member(object, name, max_member_bytes); !value.empty()) {
            made[name] = std::move(value);
        }
    }
    for (const char* name : {"amount", "amount_received", "amount_total"}) {
        if (const auto value = integer_member(object, name)) {
            made[name] = *value;
        }
    }
    const json& metadata = object_member(object, "metadata");
    for (const char* name : {"out_trade_no", "out_refund_no"}) {
        if (std::string value = text_member(metadata, name, max_member_bytes); !value.empty()) {
            made["metadata"][name] = std::move(value);
        }
    }
    return clean_text(made.dump(-1, ' ', false, json::error_handler_t::replace), max_content_bytes);
}

// Empty where it cannot be the number of a payment of ours.
std::string payment_id_member(const json& object, const char* name) {
    std::string id = text_member(object, name, max_payment_id_bytes + 1);
    return is_payment_id(id) ? id : std::string();
}

std::string payment_id_of(const json& object) {
    return payment_id_member(object_member(object, "metadata"), "out_trade_no");
}

// A session of Checkout has a second place for the number.
std::string payment_id_of_session(const json& session) {
    std::string id = payment_id_of(session);
    return id.empty() ? payment_id_member(session, "client_reference_id") : id;
}

Notice read_paid(PaymentNotice payment, const json& object, const char* amount_member) {
    payment.success = true;
    payment.amount = integer_member(object, amount_member);
    payment.currency = upper_case(text_member(object, "currency", max_code_bytes));
    if (!payment.amount || *payment.amount <= 0 || !is_currency(payment.currency)) {
        return notice(NoticeKind::unusable, "its amount or currency is missing or malformed");
    }
    if (payment.payment_id.empty() && payment.transaction_id.empty()) {
        return notice(NoticeKind::unusable, "it names no payment");
    }
    Notice made;
    made.kind = NoticeKind::payment;
    made.payment = std::move(payment);
    return made;
}

Notice read_unpaid(PaymentNotice payment) {
    if (payment.payment_id.empty() && payment.transaction_id.empty()) {
        return notice(NoticeKind::ignored, "it names no payment");
    }
    if (!payment.payment_id.empty()) {
        // Of an attempt that brought no money: it must not become the number under which the
        // payment, paid by another attempt, would be refunded.
        payment.transaction_id.clear();
    }
    Notice made;
    made.kind = NoticeKind::payment;
    made.payment = std::move(payment);
    return made;
}

PaymentNotice named_by_intent(const json& intent) {
    PaymentNotice payment;
    payment.payment_id = payment_id_of(intent);
    payment.transaction_id = id_member(intent, "id");
    payment.other_transaction_id = id_member(intent, "latest_charge");
    return payment;
}

PaymentNotice named_by_session(const json& session) {
    PaymentNotice payment;
    payment.payment_id = payment_id_of_session(session);
    payment.transaction_id = id_member(session, "payment_intent");
    return payment;
}

Notice read_paid_intent(const json& intent) {
    if (!is_text(intent, "status", "succeeded")) {
        return notice(NoticeKind::unusable, "its status is not succeeded");
    }
    return read_paid(named_by_intent(intent), intent, "amount_received");
}

Notice read_unpaid_intent(const json& intent) {
    return read_unpaid(named_by_intent(intent));
}

Notice read_session(const json& session) {
    const std::string status = text_member(session, "payment_status", max_code_bytes);
    if (status == "paid") {
        return read_paid(named_by_session(session), session, "amount_total");
    }
    if (status == "unpaid" || status == "no_payment_required") {
        return notice(NoticeKind::ignored, "its payment_status is " + status);
    }
    return notice(NoticeKind::unusable, "its payment_status is unknown: \"" + status + "\"");
}

Notice read_unpaid_session(const json& session) {
    return read_unpaid(named_by_session(session));
}

// Empty where it cannot be the number of a refund of ours.
std::string refund_no_of(const json& refund) {
    std::string number =
        text_member(object_member(refund, "metadata"), "out_refund_no", max_refund_no_bytes + 1);
    return number.size() <= max_refund_no_bytes && is_transaction_id(number) ? number
                                                                             : std::string();
}

// A refund without our number was made in Stripe's dashboard, or by another program. It is told all
// the same, unless it is dead: the money of a payment of ours may have gone back by it.
Notice read_refund_event(const json& refund) {
    const GatewayAnswer said = read_refund_status(refund);
    Notice made;
    made.kind = NoticeKind::refund;
    made.refund.refund_no = refund_no_of(refund);
    made.refund.verdict = said.facts.verdict;
    made.refund.amount = integer_member(refund, "amount");
    made.refund.currency = upper_case(text_member(refund, "currency", max_code_bytes));
    made.refund.transaction_id = id_member(refund, "payment_intent");
    made.refund.other_transaction_id = id_member(refund, "charge");
    made.refund.refund_id = id_member(refund, "id");
    made.refund.error = said.error;
    if (made.refund.refund_no.empty() &&
        (made.refund.refund_id.empty() || said.facts.verdict == Verdict::failed)) {
        return notice(NoticeKind::ignored,
                      "payonce did not request it, and it is dead or has no id");
    }
    return made;
}

Notice read_refunded_charge(const json&) {
    return notice(NoticeKind::ignored, "the events refund.* say which refund it was");
}

struct EventRule {
    std::string_view type;
    std::string_view object;
    Notice (*read)(const json& object);
};

constexpr std::array<EventRule, 12> event_rules = {{
    {"payment_intent.succeeded", "payment_intent", read_paid_intent},
    {"payment_intent.payment_failed", "payment_intent", read_unpaid_intent},
    {"payment_intent.canceled", "payment_intent", read_unpaid_intent},
    {"checkout.session.completed", "checkout.session", read_session},
    {"checkout.session.async_payment_succeeded", "checkout.session", read_session},
    {"checkout.session.async_payment_failed", "checkout.session", read_unpaid_session},
    {"checkout.session.expired", "checkout.session", read_unpaid_session},
    {"refund.created", "refund", read_refund_event},
    {"refund.updated", "refund", read_refund_event},
    {"refund.failed", "refund", read_refund_event},
    {"charge.refund.updated", "refund", read_refund_event},
    {"charge.refunded", "charge", read_refunded_charge},
}};

// Of an event of a kind that payonce has a use for.
Notice read_object(const EventRule& rule, const json& event) {
    const json& object = object_member(object_member(event, "data"), "object");
    if (!is_text(object, "object", rule.object)) {
        return notice(NoticeKind::unusable, "its data.object is no " + std::string(rule.object));
    }
    Notice made = rule.read(object);
    if (made.kind == NoticeKind::payment || made.kind == NoticeKind::refund) {
        made.content = summary(event, object);
    } else {
        made.why = clean_text(made.why + ": " + summary(event, object));
    }
    return made;
}

// `body` is what Stripe signed.
Notice read_event(std::string_view body, bool livemode) {
    const json event = parse_json(body);
    if (!event.is_object()) {
        return notice(NoticeKind::unusable, "its body is not a JSON object");
    }
    if (is_text(event, "object", "v2.core.event")) {
        // Not acknowledged: the endpoint sends all of its news like this, and they would be lost.
        return notice(NoticeKind::unusable, "it is a thin event; the endpoint must send snapshots");
    }
    if (!is_text(event, "object", "event")) {
        return notice(NoticeKind::unusable, "its body is not an event");
    }
    const auto mode = event.find("livemode");
    if (mode == event.end() || !mode->is_boolean() || mode->get<bool>() != livemode) {
        return notice(NoticeKind::forged, livemode ? "it is not of live mode, but the key is"
                                                   : "it is not of test mode, but the key is");
    }
    // Whoever owns a connected account writes its metadata: our numbers there prove nothing, and
    // the money is not in this account.
    if (const auto account = event.find("account"); account != event.end() && !account->is_null()) {
        return notice(NoticeKind::ignored, "it is about a connected account");
    }
    const std::string type = text_member(event, "type", 100);
    const auto* rule = std::find_if(event_rules.begin(), event_rules.end(),
                                    [&](const EventRule& known) { return known.type == type; });
    return rule == event_rules.end() ? notice(NoticeKind::ignored, "its type is \"" + type + "\"")
                                     : read_object(*rule, event);
}

// --- The gateway -------------------------------------------------------------------------------

class StripeGateway final : public Gateway {
  public:
    StripeGateway(const std::string& url, std::string_view secret_key, std::vector<Secret> secrets,
                  const CryptoPort& crypto)
        : endpoint_(url + "/v1/refunds"),
          secret_key_(secret_key),
          webhook_secrets_(std::move(secrets)),
          livemode_(secret_key.substr(2).starts_with("_live_")),
          crypto_(crypto) {}

    BuiltRequest build(const RefundCall& call, const SigningMoment& /*moment*/) const override {
        const char* payment = payment_parameter(call.transaction_id);
        if (payment == nullptr && !asks_by_id(call)) {
            return answer(Verdict::rejected,
                          "Stripe needs its PaymentIntent (pi_...) or charge (ch_..., py_...) as "
                          "the payment's transaction_id; nothing was sent. Set "
                          "t_order_pay.transaction_id, then call refund_retry()");
        }
        HttpRequest request =
            call.kind == CallKind::refund ? refund(call, payment) : query(call, payment);
        request.headers.push_back({"Authorization", "Bearer " + std::string(secret_key_.view())});
        request.headers.push_back({"Stripe-Version", std::string(api_version)});
        // Also of a GET, as Stripe's own libraries do.
        request.headers.push_back({"Content-Type", "application/x-www-form-urlencoded"});
        request.headers.push_back({"Accept", "application/json"});
        return request;
    }

    GatewayAnswer read_answer(const RefundCall& call, const HttpResponse& response,
                              std::int64_t /*now_unix_s*/) const override {
        const auto none = unanswered(response);
        GatewayAnswer made = none ? *none : read_response(call, response);
        made.facts.retry_after_s = response.retry_after_s;
        return made;
    }

    Notice read_notice(const RawNotice& raw) const override {
        if (webhook_secrets_.empty()) {
            return notice(NoticeKind::unusable,
                          "the user mapping has no webhook_secret to verify notifications with");
        }
        const auto text = header_value(raw.headers, "Stripe-Signature");
        if (!text) {
            return notice(NoticeKind::forged, "the header Stripe-Signature is missing or repeated");
        }
        const auto header = read_signature_header(*text);
        if (!header) {
            return notice(NoticeKind::forged, "the header Stripe-Signature is malformed");
        }
        const auto signed_by_stripe = is_signed(*header, raw.body);
        if (!signed_by_stripe) {
            return notice(NoticeKind::unusable, "the signature could not be computed");
        }
        if (!*signed_by_stripe) {
            return notice(NoticeKind::forged, "its signature fits no webhook_secret");
        }
        // After the signature, so that a wrong clock here is told from a forgery.
        if (!is_recent(header->sent_unix_s, raw.now_unix_s)) {
            return notice(NoticeKind::forged, "its time-stamp is more than 300 seconds from now");
        }
        return read_event(raw.body, livemode_);
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
    // The same bytes on every repetition under one key, or Stripe refuses it.
    HttpRequest refund(const RefundCall& call, const char* payment) const {
        HttpRequest request;
        request.method = HttpMethod::post;
        request.url = endpoint_;
        request.body = write_form({
            {payment, std::string(call.transaction_id)},
            {"amount", std::to_string(call.amount)},
            {"reason", call.reason == "duplicate" ? "duplicate" : "requested_by_customer"},
            {"metadata[out_refund_no]", std::string(call.refund_no)},
        });
        request.headers.push_back({"Idempotency-Key", "payonce-" + std::string(call.refund_no) +
                                                          "-a" +
                                                          std::to_string(call.key_generation)});
        return request;
    }

    HttpRequest query(const RefundCall& call, const char* payment) const {
        HttpRequest request;
        request.method = HttpMethod::get;
        if (asks_by_id(call)) {
            request.url = endpoint_ + "/" + std::string(call.gateway_refund_id);
            return request;
        }
        FormFields fields = {{payment, std::string(call.transaction_id)},
                             {"limit", std::string(page_size)}};
        if (!call.page.empty()) {
            fields.emplace_back("starting_after", call.page);
        }
        request.url = endpoint_ + "?" + write_form(fields);
        return request;
    }

    // Unset when the library fails.
    std::optional<bool> is_signed(const SignatureHeader& header, std::string_view body) const {
        std::string text(header.timestamp);
        text.append(".").append(body);
        bool fits = false;
        for (const Secret& secret : webhook_secrets_) {
            const auto mac = crypto_.hmac_sha256(secret.view(), text);
            if (!mac) {
                return std::nullopt;
            }
            const bool this_one = any_matches(header.signatures, hex(*mac));
            fits = fits || this_one;
        }
        return fits;
    }

    std::string endpoint_;
    Secret secret_key_;
    std::vector<Secret> webhook_secrets_;  // the whole text is the key, whsec_ too
    bool livemode_;
    const CryptoPort& crypto_;
};

OptionProblem problem_of_key(std::string_view key) {
    constexpr std::string_view hint =
        "Give a secret or restricted key of the account: sk_live_, sk_test_, rk_live_ or rk_test_.";
    const auto problem = [&](std::string detail) {
        return OptionProblem{"secret_key", std::move(detail), std::string(hint)};
    };
    if (key.empty()) {
        return problem("It is required.");
    }
    if (key.starts_with("pk_")) {
        return problem("It is a publishable key, which cannot refund.");
    }
    if (key.starts_with("whsec_")) {
        return problem("It is the signing secret of a webhook endpoint, not a key of the API.");
    }
    constexpr std::array<std::string_view, 4> prefixes = {"sk_live_", "sk_test_", "rk_live_",
                                                          "rk_test_"};
    const bool known = std::any_of(prefixes.begin(), prefixes.end(), [=](std::string_view prefix) {
        return key.starts_with(prefix) && key.size() > prefix.size();
    });
    if (!known) {
        return problem("It does not begin as a secret or restricted key does.");
    }
    // It becomes a header: a line break would let it add others.
    if (!is_word(key, max_key_bytes)) {
        return problem("It has characters that no key has, or is longer than 255.");
    }
    return {};
}

bool is_separator(char c) noexcept {
    return c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// Unset unless it is one or two secrets, apart by blanks or commas.
std::optional<std::vector<Secret>> read_webhook_secrets(std::string_view text) {
    constexpr std::string_view prefix = "whsec_";
    std::vector<Secret> secrets;
    while (true) {
        const auto* begin = std::find_if_not(text.begin(), text.end(), is_separator);
        const auto* end = std::find_if(begin, text.end(), is_separator);
        const std::string_view secret(begin, end);
        if (secret.empty()) {
            break;
        }
        const bool printable = std::all_of(secret.begin(), secret.end(), is_visible);
        if (!secret.starts_with(prefix) || secret.size() == prefix.size() ||
            secret.size() > max_key_bytes || !printable || secrets.size() == max_webhook_secrets) {
            return std::nullopt;
        }
        secrets.emplace_back(secret);
        text = std::string_view(end, text.end());
    }
    return secrets.empty() ? std::nullopt : std::optional(std::move(secrets));
}

OpenedGateway open(const GatewayOptions& options, const CryptoPort& crypto) {
    OptionProblem problem = problem_of_key(options.get("secret_key"));
    if (!problem.detail.empty()) {
        return {nullptr, std::move(problem)};
    }
    std::vector<Secret> secrets;
    if (options.has("webhook_secret")) {
        auto read = read_webhook_secrets(options.get("webhook_secret"));
        if (!read) {
            return {nullptr,
                    {"webhook_secret",
                     "It must be one or two signing secrets that begin with "
                     "whsec_, apart by a blank or a comma.",
                     "Copy the signing secret of the webhook endpoint from Stripe's dashboard."}};
        }
        secrets = std::move(*read);
    }
    return {std::make_unique<StripeGateway>(base_url(options), options.get("secret_key"),
                                            std::move(secrets), crypto),
            {}};
}

constexpr std::array<OptionRule, 2> options = {{
    {"secret_key", OptionScope::user_mapping, true},
    {"webhook_secret", OptionScope::user_mapping, true},
}};

constexpr GatewayTraits traits = {
    // What was just made is listed at once; but a request that timed out may still be worked on.
    .query_delay_s = 5,
    // Refunds of one charge at the same time get lock_timeout.
    .payment_spacing_s = 1,
    .refund_window_s = 0,
    // Keys live for 24 hours at least.
    .idempotency_horizon_s = 23LL * 3600,
    .rate_limit_per_s = 10,
};

}  // namespace

const Driver stripe_driver = {"payonce_stripe", options, traits, open};

}  // namespace payonce::core
