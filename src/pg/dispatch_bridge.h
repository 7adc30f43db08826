// Where the worker (PostgreSQL's phase: may ereport) meets net's Dispatcher (C++'s phase: may
// throw). Every function here is noexcept, takes and gives plain data, and calls nothing of
// PostgreSQL.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/gateway_answer.h"
#include "core/refund.h"
#include "pg/gateway_bridge.h"

namespace payonce::pg::bridge {

struct Gateway {
    std::string_view name;
    Options options;
    std::string_view ca_file;
    int timeout_ms = 0;
    int max_in_flight = 1;
    int rate_limit_per_s = 0;
};

// UTF-8 throughout.
struct Call {
    std::string_view gateway;
    core::CallKind kind = core::CallKind::refund;
    std::string_view refund_no;
    std::string_view payment_id;
    std::string_view order_id;
    std::string_view transaction_id;
    std::string_view gateway_refund_id;
    std::string_view currency;
    std::string_view reason;
    std::int64_t amount = 0;
    std::int64_t payment_amount = 0;
    std::int32_t key_generation = 1;
    std::int32_t attempt = 0;
    core::Microseconds claimed_at = 0;
};

// The views live until the call is released.
struct Finished {
    Call call;
    core::AnswerFacts answer;
    core::GatewayTraits traits;
    std::string_view gateway_refund_id;
    std::string_view error;
    int http_status = 0;
    std::int64_t duration_us = 0;
    core::Microseconds retry_at = 0;
    std::int32_t failures = 0;
    std::int32_t deferrals = 0;
};

// Once in a worker's life. False: curl or memory is not to be had.
bool open_engine() noexcept;
int event_fd() noexcept;
int timeout_ms() noexcept;
// False: out of memory; answers may have been lost, their leases will run out.
bool advance(core::Microseconds now, std::int64_t unix_s) noexcept;

bool configure(const Gateway* gateways, int count, core::Microseconds now) noexcept;
int allowance(std::string_view gateway, core::Microseconds now) noexcept;
core::Microseconds next_token_at(std::string_view gateway, core::Microseconds now) noexcept;
bool is_full(std::string_view gateway) noexcept;
int in_flight(std::string_view gateway) noexcept;
int current_limit(std::string_view gateway) noexcept;
int transfers() noexcept;
// How often room for another call was made since the engine was opened.
std::uint64_t ended() noexcept;
// Whether any attempt of the refund is in flight.
bool is_in_flight(std::string_view refund_no) noexcept;
// Whether this attempt of the refund is in flight, or its answer waits to be recorded.
bool holds(std::string_view refund_no, std::int32_t attempt) noexcept;

// False: nothing was sent, and nobody will answer.
bool start(const Call& call, core::Microseconds now, std::int64_t unix_s) noexcept;

// A claimed call that shall not be made: it is finished at once, not sent, for this reason.
bool give_back(const Call& call, std::string_view why) noexcept;

std::size_t finished_count() noexcept;
Finished finished(std::size_t index) noexcept;
// Recording failed or had to be put off: keep the answer, not to be tried before `retry_at`.
void defer(std::size_t index, core::Microseconds retry_at, bool failed) noexcept;
// These are recorded, or given up; the indexes ascend.
void release(const std::size_t* indexes, std::size_t count) noexcept;

}  // namespace payonce::pg::bridge
