#include "pg/dispatch_bridge.h"

#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "net/dispatch.h"
#include "pg/fault_point.h"

namespace payonce::pg::bridge {
namespace {

// Never destroyed: at the end of the process nothing may wait for a gateway that hangs.
net::Dispatcher* engine = nullptr;

net::GatewaySetup setup_of(const Gateway& gateway) {
    net::GatewaySetup setup;
    setup.name = gateway.name;
    setup.driver = gateway.options.driver;
    setup.options = gateway_options(gateway.options);
    setup.ca_file = gateway.ca_file;
    setup.timeout_ms = gateway.timeout_ms;
    setup.max_in_flight = gateway.max_in_flight;
    setup.rate_limit_per_s = gateway.rate_limit_per_s;
    return setup;
}

net::Call call_of(const Call& plain) {
    net::Call call;
    call.gateway = plain.gateway;
    call.kind = plain.kind;
    call.refund_no = plain.refund_no;
    call.payment_id = plain.payment_id;
    call.order_id = plain.order_id;
    call.transaction_id = plain.transaction_id;
    call.gateway_refund_id = plain.gateway_refund_id;
    call.currency = plain.currency;
    call.reason = plain.reason;
    call.amount = plain.amount;
    call.payment_amount = plain.payment_amount;
    call.key_generation = plain.key_generation;
    call.attempt = plain.attempt;
    call.claimed_at = plain.claimed_at;
    return call;
}

Call plain_of(const net::Call& call) {
    Call plain;
    plain.gateway = call.gateway;
    plain.kind = call.kind;
    plain.refund_no = call.refund_no;
    plain.payment_id = call.payment_id;
    plain.order_id = call.order_id;
    plain.transaction_id = call.transaction_id;
    plain.gateway_refund_id = call.gateway_refund_id;
    plain.currency = call.currency;
    plain.reason = call.reason;
    plain.amount = call.amount;
    plain.payment_amount = call.payment_amount;
    plain.key_generation = call.key_generation;
    plain.attempt = call.attempt;
    plain.claimed_at = call.claimed_at;
    return plain;
}

// Runs `action`; `otherwise` when it threw.
template <typename Result, typename Action>
Result guarded(Result otherwise, Action action) noexcept {
    try {
        return action();
    } catch (...) {
        return otherwise;
    }
}

}  // namespace

bool open_engine() noexcept {
    return guarded(false, [] {
        if (engine == nullptr && net::HttpClient::init_process()) {
            engine = std::make_unique<net::Dispatcher>(net::HttpClientLimits{}).release();
        }
        return engine != nullptr;
    });
}

int event_fd() noexcept {
    return engine->event_fd();
}

int timeout_ms() noexcept {
    return engine->timeout_ms();
}

bool advance(core::Microseconds now, std::int64_t unix_s) noexcept {
    return guarded(false, [=] {
        const AllocationFault fault(AllocationPoint::engine_advance);
        engine->advance(net::DispatchTime{now, unix_s});
        return true;
    });
}

bool configure(const Gateway* gateways, int count, core::Microseconds now) noexcept {
    return guarded(false, [=] {
        const AllocationFault fault(AllocationPoint::engine_configure);
        std::vector<net::GatewaySetup> setups;
        setups.reserve(static_cast<std::size_t>(count));
        for (int i = 0; i < count; ++i) {
            setups.push_back(setup_of(gateways[i]));
        }
        engine->configure(std::move(setups), now);
        return true;
    });
}

int allowance(std::string_view gateway, core::Microseconds now) noexcept {
    return guarded(0, [=] { return engine->allowance(std::string(gateway), now); });
}

core::Microseconds next_token_at(std::string_view gateway, core::Microseconds now) noexcept {
    return guarded(now, [=] { return engine->next_token_at(std::string(gateway), now); });
}

bool is_full(std::string_view gateway) noexcept {
    return guarded(false, [=] { return engine->is_full(std::string(gateway)); });
}

int in_flight(std::string_view gateway) noexcept {
    return guarded(0, [=] { return engine->in_flight(std::string(gateway)); });
}

int current_limit(std::string_view gateway) noexcept {
    return guarded(0, [=] { return engine->current_limit(std::string(gateway)); });
}

int transfers() noexcept {
    return static_cast<int>(engine->transfers());
}

std::uint64_t ended() noexcept {
    return engine->ended();
}

bool is_in_flight(std::string_view refund_no) noexcept {
    return guarded(true, [=] { return engine->is_in_flight(std::string(refund_no)); });
}

bool holds(std::string_view refund_no, std::int32_t attempt) noexcept {
    return engine->holds(refund_no, attempt);
}

bool start(const Call& call, core::Microseconds now, std::int64_t unix_s) noexcept {
    return guarded(false, [&] {
        const AllocationFault fault(AllocationPoint::engine_start);
        engine->start(call_of(call), net::DispatchTime{now, unix_s});
        return true;
    });
}

bool give_back(const Call& call, std::string_view why) noexcept {
    return guarded(false, [&] {
        const AllocationFault fault(AllocationPoint::engine_give_back);
        engine->give_back(call_of(call), std::string(why));
        return true;
    });
}

std::size_t finished_count() noexcept {
    return engine->finished().size();
}

Finished finished(std::size_t index) noexcept {
    const net::FinishedCall& finished = engine->finished()[index];
    Finished plain;
    plain.call = plain_of(finished.call);
    plain.answer = finished.answer.facts;
    plain.traits = finished.traits;
    plain.gateway_refund_id = finished.answer.refund_id;
    plain.error = finished.answer.error;
    plain.http_status = finished.http_status;
    plain.duration_us = finished.duration_us;
    plain.retry_at = finished.retry_at;
    plain.failures = finished.failures;
    plain.deferrals = finished.deferrals;
    return plain;
}

void defer(std::size_t index, core::Microseconds retry_at, bool failed) noexcept {
    net::FinishedCall& finished = engine->finished()[index];
    finished.retry_at = retry_at;
    ++(failed ? finished.failures : finished.deferrals);
}

void release(const std::size_t* indexes, std::size_t count) noexcept {
    engine->release(indexes, count);
}

}  // namespace payonce::pg::bridge
