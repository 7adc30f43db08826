// What a gateway said about one refund, in the terms in which payonce decides.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace payonce::core {

enum class CallKind : std::uint8_t { refund, query };

enum class Verdict : std::uint8_t {
    succeeded,   // the money went back
    processing,  // accepted, not done yet
    failed,      // the gateway declared that this number will never succeed
    abnormal,    // it left the merchant and did not arrive, or the gateway knows the number for
                 // something else: only a person can go on, and the number must never be replaced
    rejected,   // the request was refused for good; says nothing about what the number can still do
    not_found,  // to a query: the gateway does not know this number
    wait,       // later: rate, balance
    not_sent,   // no byte of the request left
    unknown,    // anything can have happened
};

// What a query's not_found is to lead to; decided by the answer before it, kept in the row.
enum class WhenUnknown : std::uint8_t {
    resend,   // under the same number and the same idempotency key
    new_key,  // the key has a stored error that will be repeated for ever: under the next key
    give_up,  // the request was refused: it needs a person
};

// Why a person should look although the refund goes on.
enum class Concern : std::uint8_t {
    none,
    balance,       // the merchant's balance is too small: top it up
    unverifiable,  // the gateway's answers cannot be verified: a wrong key, perhaps
    customer,      // the customer has to do something before the money can arrive
};

const char* name_of(CallKind kind) noexcept;
const char* name_of(Verdict verdict) noexcept;
const char* name_of(WhenUnknown when_unknown) noexcept;
// resend for a name that is none of them.
WhenUnknown when_unknown_of(std::string_view name) noexcept;

// The part of an answer that decides.
struct AnswerFacts {
    Verdict verdict = Verdict::unknown;
    // Not before so long; from Retry-After, or what the provider documents.
    std::optional<std::int64_t> retry_after_s;
    // Of a request that was rejected: ask before believing it, since an earlier one may have got
    // through.
    bool confirm = false;
    WhenUnknown when_unknown = WhenUnknown::resend;  // of an unknown verdict
    Concern concern = Concern::none;
    // The gateway is to be sent less at a time for a while: rate limits, and errors that would only
    // be repeated. A wait always is.
    bool slow_down = false;
};

struct GatewayAnswer {
    AnswerFacts facts;
    std::string refund_id;  // the gateway's number; empty when it said none
    std::string error;      // for a person; clean_text() has seen it
    // Of a query: not on this page of the gateway's list, and there is another. The call is to be
    // made again with this as RefundCall::page; the verdict does not count yet.
    std::string next_page;
};

GatewayAnswer answer(Verdict verdict, std::string_view error = {});

}  // namespace payonce::core
