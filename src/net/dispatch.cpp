#include "net/dispatch.h"

#include <utility>

namespace payonce::net {

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
        return !entry.second.configured && entry.second.in_flight == 0;
    });
}

int Dispatcher::allowance(const std::string& gateway, core::Microseconds now) {
    const auto found = gateways_.find(gateway);
    if (found == gateways_.end() || !found->second.configured) {
        return 0;
    }
    return found->second.limiter.allowance(found->second.in_flight, now);
}

core::Microseconds Dispatcher::next_token_at(const std::string& gateway,
                                             core::Microseconds now) const {
    const auto found = gateways_.find(gateway);
    return found == gateways_.end() ? now : found->second.limiter.next_token_at(now);
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
    gateway.limiter.started(1);
    ++gateway.in_flight;
    const std::uint64_t id = next_id_++;
    const Call& kept = calls_.emplace(id, std::move(call)).first->second;
    std::string error = send(id, kept, time);
    if (!error.empty()) {
        finish_unsent(std::move(calls_.extract(id).mapped()), std::move(error));
    }
}

void Dispatcher::give_back(Call call, std::string why) {
    ++gateways_[call.gateway].in_flight;
    finish_unsent(std::move(call), std::move(why));
}

void Dispatcher::finish_unsent(Call call, std::string error) {
    FinishedCall finished;
    finished.call = std::move(call);
    finished.answer.facts.verdict = core::Verdict::not_sent;
    finished.answer.error = std::move(error);
    finished_.push_back(std::move(finished));
}

void Dispatcher::advance(core::Microseconds now) {
    client_.advance();
    for (HttpResult& result : client_.take_finished()) {
        auto node = calls_.extract(result.id);
        if (node.empty()) {
            continue;
        }
        FinishedCall finished;
        finished.call = std::move(node.mapped());
        finished.answer = core::http_gateway::read_answer(finished.call.kind,
                                                          finished.call.refund_no, result.response);
        finished.http_status = result.response.status;
        finished.duration_us = result.duration_us;
        gateways_.at(finished.call.gateway)
            .limiter.answered(finished.answer.facts.verdict == core::Verdict::wait, now);
        finished_.push_back(std::move(finished));
    }
}

void Dispatcher::release(std::size_t index) {
    --gateways_.at(finished_[index].call.gateway).in_flight;
    finished_.erase(finished_.begin() + static_cast<std::ptrdiff_t>(index));
}

}  // namespace payonce::net
