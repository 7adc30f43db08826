// What a gateway said about one refund, in the terms in which payonce decides.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace payonce::core {

enum class CallKind : std::uint8_t { refund, query };

enum class Verdict : std::uint8_t {
    succeeded,   // the money went back
    processing,  // accepted, not done yet
    failed,      // the gateway declared that this number will never succeed
    rejected,   // the request was refused for good; says nothing about what the number can still do
    not_found,  // to a query: the gateway does not know this number
    wait,       // later: rate, balance
    not_sent,   // no byte of the request left
    unknown,    // anything can have happened
};

const char* name_of(CallKind kind) noexcept;
const char* name_of(Verdict verdict) noexcept;

// The part of an answer that decides.
struct AnswerFacts {
    Verdict verdict = Verdict::unknown;
    std::optional<std::int64_t> retry_after_s;
};

struct GatewayAnswer {
    AnswerFacts facts;
    std::string refund_id;  // the gateway's number; empty when it said none
    std::string error;      // for a person; clean_text() has seen it
};

}  // namespace payonce::core
