// A gateway as payonce sees it: builds the requests about a refund, reads the answers and the
// notifications, words the reply to a notification. Pure: it is given the time and chance, sends
// nothing, and decides nothing about a refund.
//
// A driver is one file in core/gateways: it describes its options and the provider's habits, and
// opens gateways. core/drivers.cpp lists the drivers; docs/adding-a-gateway.md shows how to add
// one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/crypto_port.h"
#include "core/gateway_answer.h"
#include "core/http_message.h"
#include "core/secret.h"

namespace payonce::core {

// One call about one refund: UTF-8, as stored. Amounts are in minor units.
struct RefundCall {
    CallKind kind = CallKind::refund;
    std::string_view refund_no;
    std::string_view payment_id;
    std::string_view order_id;
    std::string_view transaction_id;     // the gateway's number of the payment; empty: unknown
    std::string_view gateway_refund_id;  // the gateway's number of the refund; empty: unknown
    std::int64_t amount = 0;             // of the refund
    std::int64_t payment_amount = 0;     // what arrived for the payment
    std::string_view currency;           // ISO 4217, upper case
    std::string_view reason;             // duplicate, late, request or mismatch
    // Counts the idempotency keys of this refund, from 1. A repetition carries the same; see
    // WhenUnknown::new_key.
    std::int32_t key_generation = 1;
    std::string_view page;  // of a query: GatewayAnswer::next_page of the answer before
};

// What a request needs besides.
struct SigningMoment {
    std::int64_t unix_s = 0;
    std::string_view nonce;  // 32 random characters of [0-9A-Za-z], new for each request
};

// The request, or why there is none: rejected when this refund can never be sent like this (the
// answer needs a person), not_sent when it can later.
using BuiltRequest = std::variant<HttpRequest, GatewayAnswer>;

// A notification as it came in.
struct RawNotice {
    const std::vector<HttpHeader>& headers;
    std::string_view body;
    std::int64_t now_unix_s = 0;
};

enum class NoticeKind : std::uint8_t {
    forged,    // not from the gateway, too old, or not meant for this merchant
    unusable,  // cannot be judged as the gateway is configured: let it come again
    ignored,   // genuine, and of no use to payonce
    payment,
    refund,
};

struct PaymentNotice {
    // The merchant's number. Empty: the notice names only the gateway's, transaction_id.
    std::string payment_id;
    bool success = false;
    std::optional<std::int64_t> amount;  // minor units
    std::string currency;                // upper case; empty: not said
    std::string transaction_id;          // empty: not said
    // A second number that the gateway has for the same money (Stripe's charge); empty: none.
    std::string other_transaction_id;
};

struct RefundNotice {
    std::string refund_no;  // the merchant's number; empty: it names none
    // The gateway's numbers of the payment, as in PaymentNotice; empty: not said.
    std::string transaction_id;
    std::string other_transaction_id;
    // succeeded, processing, failed or abnormal; unknown: something happened, ask the gateway.
    Verdict verdict = Verdict::unknown;
    std::optional<std::int64_t> amount;  // minor units
    std::string currency;                // upper case; empty: not said
    std::string refund_id;               // the gateway's number; empty: not said
    std::string error;                   // for a person; clean_text() has seen it
};

struct Notice {
    NoticeKind kind = NoticeKind::forged;
    // forged, unusable, ignored: for the server's log; holds no secret; clean_text()
    std::string why;
    std::string content;  // payment, refund: what it says, to be read by a person; clean_text()
    PaymentNotice payment;
    RefundNotice refund;
};

// One of those that say nothing but why.
Notice notice(NoticeKind kind, std::string_view why);

enum class ReplyKind : std::uint8_t {
    accepted,  // recorded, or of no use: do not repeat it
    refused,   // forged; says nothing about why
    failed,    // not recorded: repeat it
};

// Static text.
struct NoticeReply {
    int http_status = 500;
    std::string_view content_type;
    std::string_view body;
};

// What a request that brought no answer ended in; unset when it was answered.
std::optional<GatewayAnswer> unanswered(const HttpResponse& response);

// One configured gateway: holds its keys, parsed. Const functions only, so that what was begun with
// it can be finished with it.
class Gateway {
  public:
    virtual ~Gateway() = default;

    virtual BuiltRequest build(const RefundCall& call, const SigningMoment& moment) const = 0;
    // `now_unix_s`: when the answer came.
    virtual GatewayAnswer read_answer(const RefundCall& call, const HttpResponse& response,
                                      std::int64_t now_unix_s) const = 0;

    virtual Notice read_notice(const RawNotice& notice) const = 0;
    virtual NoticeReply reply(ReplyKind kind) const noexcept = 0;
};

// The options of a server and of a user mapping, files already read: the name is the option's
// without "_file". Values may be secret.
class GatewayOptions {
  public:
    void set(std::string_view name, std::string_view value);
    // Empty when it was not given.
    std::string_view get(std::string_view name) const noexcept;
    bool has(std::string_view name) const noexcept { return !get(name).empty(); }
    bool operator==(const GatewayOptions& other) const noexcept;

  private:
    struct Option {
        std::string name;
        Secret value;
    };
    std::vector<Option> options_;
};

// The option url without slashes at its end.
std::string base_url(const GatewayOptions& options);

// What is wrong with an option; shows no value of a secret one.
struct OptionProblem {
    std::string option;
    std::string detail;  // a sentence
    std::string hint;    // a sentence
};

struct OpenedGateway {
    std::unique_ptr<Gateway> gateway;  // null: the problem says why
    OptionProblem problem;
};

enum class OptionScope : std::uint8_t { server, user_mapping };

struct OptionRule {
    std::string_view name;
    OptionScope scope = OptionScope::user_mapping;
    // It holds a key, a secret or a certificate: it also exists as <name>_file, and no error shows
    // its value.
    bool has_file = false;
};

// A provider's habits. 0: none.
struct GatewayTraits {
    // A query sooner after a refund's request may not find what is being made.
    std::int32_t query_delay_s = 0;
    // Between two refunds of one payment.
    std::int32_t payment_spacing_s = 0;
    // For so long after the payment it can be refunded.
    std::int64_t refund_window_s = 0;
    // For so long after its first request a refund may be repeated and stays one refund.
    std::int64_t idempotency_horizon_s = 0;
    // Requests per second, unless the server's option rate_limit says another number.
    std::int32_t rate_limit_per_s = 0;
};

struct Driver {
    std::string_view wrapper;             // the foreign-data wrapper: payonce_…
    std::span<const OptionRule> options;  // beyond those that all gateways have
    GatewayTraits traits;
    // Judges the options of the server before those of the user mapping: when a server is made, the
    // latter are still missing, and when a mapping is, the former. The crypto port outlives the
    // gateway.
    OpenedGateway (*open)(const GatewayOptions& options, const CryptoPort& crypto);
};

// All drivers.
std::span<const Driver* const> drivers() noexcept;
// Null when there is no driver for this wrapper.
const Driver* find_driver(std::string_view wrapper) noexcept;

}  // namespace payonce::core
