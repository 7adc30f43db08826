// Where backends (PostgreSQL's phase: may ereport) meet core's gateways (C++'s phase: may throw):
// options are checked, notifications read. Every function here is noexcept, takes and gives plain
// data, and calls nothing of PostgreSQL. The worker's part is dispatch_bridge.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/gateway.h"

namespace payonce::pg::bridge {

// A driver's option by its name without "_file", and its value. UTF-8.
struct Option {
    std::string_view name;
    std::string_view value;
};

struct Options {
    const core::Driver* driver = nullptr;
    const Option* options = nullptr;
    int count = 0;
};

// What is wrong with an option; cut to what fits.
struct Problem {
    // Nothing is wrong with the options: there was no memory to look at them.
    bool out_of_memory;
    char option[64];
    char detail[400];
    char hint[400];
};

// Whether a gateway can be opened with these options; false: the problem says why not.
bool check_options(const Options& options, Problem* problem) noexcept;
core::GatewayOptions gateway_options(const Options& options);  // may throw: for the C++ phase

// --- Notifications. A backend keeps the gateways whose notifications it has read, with their keys
// --- parsed, by the oids of their servers.

// Opens the gateway anew, in place of what was kept. False: the problem says why not.
bool keep_gateway(std::uint32_t server, const Options& options, Problem* problem) noexcept;
bool is_kept(std::uint32_t server) noexcept;
void forget_gateways() noexcept;

struct Header {
    std::string_view name;
    std::string_view value;
};

struct Message {
    const Header* headers = nullptr;
    int header_count = 0;
    std::string_view body;
    std::int64_t now_unix_s = 0;
};

// The views live until the next read_notice.
struct Notice {
    core::NoticeKind kind = core::NoticeKind::forged;
    std::string_view why;
    std::string_view content;
    // Of a payment.
    std::string_view payment_id;
    bool success = false;
    // Of a refund.
    std::string_view refund_no;
    core::Verdict verdict = core::Verdict::unknown;
    std::string_view refund_id;
    std::string_view error;
    // Of both.
    std::optional<std::int64_t> amount;
    std::string_view currency;
    std::string_view transaction_id;
    std::string_view other_transaction_id;
};

// By a gateway that is kept. What throws (memory) is a notice that cannot be judged.
Notice read_notice(std::uint32_t server, const Message& message) noexcept;
// Static text.
core::NoticeReply reply(std::uint32_t server, core::ReplyKind kind) noexcept;

}  // namespace payonce::pg::bridge
