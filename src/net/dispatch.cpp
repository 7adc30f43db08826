#include "net/dispatch.h"

#include <algorithm>
#include <new>
#include <utility>

namespace payonce::net {
namespace {

// Of one gateway: what this many orders that stay locked may keep in memory.
constexpr int max_unrecorded = 1000;

constexpr std::string_view mask = "***";

void replace_all(std::string& text, const std::string& what) {
    if (what.empty()) {
        return;
    }
    for (std::size_t at = text.find(what); at != std::string::npos;
         at = text.find(what, at + mask.size())) {
        text.replace(at, what.size(), mask);
    }
}

// A text that was cut to its length may end within the secret.
void replace_cut_off(std::string& text, std::string_view what) {
    constexpr std::size_t telling = 4;
    for (std::size_t size = what.size(); size >= telling; --size) {
        if (text.ends_with(what.substr(0, size))) {
            text.replace(text.size() - size, size, mask);
            return;
        }
    }
}

// A gateway may repeat the token it refuses; what it says is stored and shown.
void hide_secrets(core::GatewayAnswer& answer, const core::http_gateway::Config& config) {
    for (std::string* text : {&answer.error, &answer.refund_id}) {
        for (const std::string* secret : {&config.bearer_token, &config.signing_secret}) {
            replace_all(*text, *secret);
            replace_cut_off(*text, *secret);
        }
    }
}

}  // namespace

Dispatcher::Dispatcher(const HttpClientLimits& limits) : client_(limits) {}

void Dispatcher::configure(std::vector<GatewaySetup> setups, core::Microseconds now) {
    for (auto& [name, gateway] : gateways_) {
        gateway.configured = false;
    }
    for (GatewaySetup& setup : setups) {
        Gateway& gateway = gateways_[setup.name];
        gateway.limiter.configure(setup.max_in_flight, setup.rate_limit_per_s, now);
        cleanse(gateway.setup.config.bearer_token);
        cleanse(gateway.setup.config.signing_secret);
        gateway.setup = std::move(setup);
        gateway.configured = true;
    }
    std::erase_if(gateways_, [](const auto& entry) {
        return !entry.second.configured && entry.second.in_flight + entry.second.unrecorded == 0;
    });
}

int Dispatcher::allowance(const std::string& gateway, core::Microseconds now) {
    const auto found = gateways_.find(gateway);
    if (found == gateways_.end() || !found->second.configured || is_full(gateway)) {
        return 0;
    }
    return found->second.limiter.allowance(found->second.in_flight, now);
}

bool Dispatcher::is_full(const std::string& gateway) const {
    const auto found = gateways_.find(gateway);
    return found != gateways_.end() && found->second.unrecorded >= max_unrecorded;
}

core::Microseconds Dispatcher::next_token_at(const std::string& gateway,
                                             core::Microseconds now) const {
    const auto found = gateways_.find(gateway);
    // Of a full one not even the time that went by was reckoned: it waits for no token.
    return found == gateways_.end() || is_full(gateway) ? now
                                                        : found->second.limiter.next_token_at(now);
}

int Dispatcher::in_flight(const std::string& gateway) const {
    const auto found = gateways_.find(gateway);
    return found == gateways_.end() ? 0 : found->second.in_flight;
}

int Dispatcher::current_limit(const std::string& gateway) const {
    const auto found = gateways_.find(gateway);
    return found == gateways_.end() ? 0 : found->second.limiter.current_limit();
}

// Hands the call to the HTTP client; says why when nothing was sent.
std::string Dispatcher::send(std::uint64_t id, const Call& call, DispatchTime time) {
    const GatewaySetup& setup = gateways_.at(call.gateway).setup;
    std::optional<core::HttpRequest> request;
    if (call.kind == core::CallKind::refund) {
        const core::http_gateway::Refund refund{call.refund_no,      call.payment_id, call.order_id,
                                                call.transaction_id, call.amount,     call.currency,
                                                call.reason};
        request = core::http_gateway::build_refund(setup.config, refund, crypto_, time.unix_s);
    } else {
        request =
            core::http_gateway::build_query(setup.config, call.refund_no, crypto_, time.unix_s);
    }
    if (!request) {
        return "the request cannot be signed: signing_secret is unusable";
    }
    HttpJob job;
    job.id = id;
    job.request = std::move(*request);
    job.timeout_ms = setup.timeout_ms;
    job.ca_file = setup.ca_file;
    return client_.submit(std::move(job)) ? "" : "the HTTP client could not start the request";
}

void Dispatcher::start(Call call, DispatchTime time) {
    Gateway& gateway = gateways_[call.gateway];
    const std::uint64_t id = next_id_++;
    const Call& kept = calls_.emplace(id, std::move(call)).first->second;
    gateway.limiter.started(1);
    ++gateway.in_flight;
    std::string error;
    try {
        error = send(id, kept, time);
    } catch (const std::bad_alloc&) {
        error = "out of memory";
    }
    if (!error.empty()) {
        --gateway.in_flight;
        finish_unsent(std::move(calls_.extract(id).mapped()), std::move(error));
    }
}

void Dispatcher::give_back(Call call, std::string why) {
    finish_unsent(std::move(call), std::move(why));
}

void Dispatcher::finish(Call call, core::GatewayAnswer answer, const HttpResult* result) {
    Gateway& gateway = gateways_[call.gateway];
    FinishedCall finished;
    finished.call = std::move(call);
    finished.answer = std::move(answer);
    if (result != nullptr) {
        finished.http_status = result->response.status;
        finished.duration_us = result->duration_us;
    }
    finished_.push_back(std::move(finished));
    ++gateway.unrecorded;
    ++ended_;
}

void Dispatcher::finish_unsent(Call call, std::string why) {
    core::GatewayAnswer answer;
    answer.facts.verdict = core::Verdict::not_sent;
    answer.error = std::move(why);
    finish(std::move(call), std::move(answer), nullptr);
}

void Dispatcher::take_result(const HttpResult& result, core::Microseconds now) {
    auto node = calls_.extract(result.id);
    if (node.empty()) {
        return;
    }
    Call& call = node.mapped();
    Gateway& gateway = gateways_.at(call.gateway);
    --gateway.in_flight;
    core::GatewayAnswer answer =
        core::http_gateway::read_answer(call.kind, call.refund_no, result.response);
    hide_secrets(answer, gateway.setup.config);
    gateway.limiter.answered(answer.facts.verdict == core::Verdict::wait, now);
    finish(std::move(call), std::move(answer), &result);
}

void Dispatcher::advance(core::Microseconds now) {
    client_.advance();
    for (const HttpResult& result : client_.take_finished()) {
        take_result(result, now);
    }
}

void Dispatcher::release(std::size_t index) {
    Gateway& gateway = gateways_.at(finished_[index].call.gateway);
    ended_ += gateway.unrecorded-- == max_unrecorded ? 1 : 0;
    finished_.erase(finished_.begin() + static_cast<std::ptrdiff_t>(index));
}

bool Dispatcher::is_in_flight(std::string_view refund_no) const noexcept {
    return std::any_of(calls_.begin(), calls_.end(),
                       [=](const auto& entry) { return entry.second.refund_no == refund_no; });
}

bool Dispatcher::holds(std::string_view refund_no, std::int32_t attempt) const noexcept {
    const auto is_it = [=](const Call& call) {
        return call.attempt == attempt && call.refund_no == refund_no;
    };
    return std::any_of(calls_.begin(), calls_.end(),
                       [&](const auto& entry) { return is_it(entry.second); }) ||
           std::any_of(finished_.begin(), finished_.end(),
                       [&](const FinishedCall& finished) { return is_it(finished.call); });
}

}  // namespace payonce::net
