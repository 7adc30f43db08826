#include "net/dispatch.h"

#include <algorithm>
#include <new>
#include <utility>
#include <variant>

#include "net/nonce.h"

namespace payonce::net {
namespace {

// Of one gateway: what this many orders that stay locked may keep in memory.
constexpr int max_unrecorded = 1000;
// Of a gateway's list of one payment's refunds: more than any payment has.
constexpr int max_pages = 50;

constexpr std::string_view mask = "***";

// Also what is only the beginning of it: a text that was cut to its length may have ended within
// the secret, and have been continued since.
void replace_all(std::string& text, std::string_view what) {
    constexpr std::size_t telling = 4;
    const std::string_view beginning = what.substr(0, telling);
    if (beginning.empty()) {
        return;
    }
    for (std::size_t at = text.find(beginning); at != std::string::npos;
         at = text.find(beginning, at + mask.size())) {
        const std::string_view rest = std::string_view(text).substr(at);
        const auto ends = std::mismatch(what.begin(), what.end(), rest.begin(), rest.end());
        text.replace(at, static_cast<std::size_t>(ends.first - what.begin()), mask);
    }
}

// A gateway may repeat the token it refuses; what it says is stored and shown.
void hide_secrets(core::GatewayAnswer& answer, const GatewaySetup& setup) {
    for (const core::OptionRule& rule : setup.driver->options) {
        if (!rule.has_file) {
            continue;
        }
        const std::string_view secret = setup.options.get(rule.name);
        for (std::string* text : {&answer.error, &answer.refund_id}) {
            replace_all(*text, secret);
        }
    }
}

core::GatewayAnswer not_sent(std::string why) {
    core::GatewayAnswer answer;
    answer.facts.verdict = core::Verdict::not_sent;
    answer.error = std::move(why);
    return answer;
}

core::RefundCall refund_call(const Call& call, std::string_view page) {
    core::RefundCall made;
    made.kind = call.kind;
    made.refund_no = call.refund_no;
    made.payment_id = call.payment_id;
    made.order_id = call.order_id;
    made.transaction_id = call.transaction_id;
    made.gateway_refund_id = call.gateway_refund_id;
    made.amount = call.amount;
    made.payment_amount = call.payment_amount;
    made.currency = call.currency;
    made.reason = call.reason;
    made.key_generation = call.key_generation;
    made.page = page;
    return made;
}

}  // namespace

Dispatcher::Dispatcher(const HttpClientLimits& limits) : client_(limits) {}

void Dispatcher::configure(std::vector<GatewaySetup> setups, core::Microseconds now) {
    std::map<std::string, ConfigurationPtr> before;
    for (auto& [name, gateway] : gateways_) {
        before[name] = std::exchange(gateway.configuration, nullptr);
    }
    for (GatewaySetup& setup : setups) {
        Gateway& gateway = gateways_[setup.name];
        gateway.limiter.configure(setup.max_in_flight, setup.rate_limit_per_s, now);
        gateway.timeout_ms = setup.timeout_ms;
        const ConfigurationPtr& old = before[setup.name];
        gateway.configuration = open(std::move(setup), old.get());
    }
    std::erase_if(gateways_, [](const auto& entry) {
        return entry.second.configuration == nullptr &&
               entry.second.in_flight + entry.second.unrecorded == 0;
    });
}

// Null when the options are unusable.
Dispatcher::ConfigurationPtr Dispatcher::open(GatewaySetup setup, const Configuration* old) const {
    auto opened = std::make_shared<Configuration>();
    if (old != nullptr && old->setup.driver == setup.driver &&
        old->setup.options == setup.options) {
        opened->driver = old->driver;
    } else {
        opened->driver = setup.driver->open(setup.options, crypto_).gateway;
    }
    if (opened->driver == nullptr) {
        return nullptr;
    }
    opened->setup = std::move(setup);
    return opened;
}

int Dispatcher::allowance(const std::string& gateway, core::Microseconds now) {
    const auto found = gateways_.find(gateway);
    if (found == gateways_.end() || found->second.configuration == nullptr || is_full(gateway)) {
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

// Hands a request to the HTTP client. An answer where none was sent.
std::optional<core::GatewayAnswer> Dispatcher::send(std::uint64_t id, const Transfer& transfer,
                                                    std::int64_t unix_s) {
    if (transfer.configuration == nullptr) {
        return not_sent("the gateway's options are unusable");
    }
    const std::optional<std::string> nonce = random_nonce();
    if (!nonce) {
        return not_sent("no random number could be made");
    }
    core::BuiltRequest built = transfer.configuration->driver->build(
        refund_call(transfer.call, transfer.page), core::SigningMoment{unix_s, *nonce});
    if (auto* refusal = std::get_if<core::GatewayAnswer>(&built)) {
        return std::move(*refusal);
    }
    HttpJob job;
    job.id = id;
    job.request = std::move(std::get<core::HttpRequest>(built));
    // All pages of a list within the time of one request: the lease was reckoned with it.
    job.timeout_ms =
        gateways_.at(transfer.call.gateway).timeout_ms - static_cast<int>(transfer.spent_us / 1000);
    job.ca_file = transfer.configuration->setup.ca_file;
    if (!client_.submit(std::move(job))) {
        return not_sent("the HTTP client could not start the request");
    }
    return std::nullopt;
}

std::uint64_t Dispatcher::add(Call call) {
    Gateway& gateway = gateways_[call.gateway];
    const std::uint64_t id = next_id_++;
    Transfer begun;
    begun.call = std::move(call);
    begun.configuration = gateway.configuration;
    const auto number = numbers_.insert(begun.call.refund_no);
    try {
        calls_.emplace(id, std::move(begun));
    } catch (...) {
        numbers_.erase(number);
        throw;
    }
    gateway.limiter.started(1);
    ++gateway.in_flight;
    return id;
}

Dispatcher::Transfer Dispatcher::remove(std::uint64_t id) {
    const auto entry = calls_.find(id);
    Transfer removed = std::move(entry->second);
    calls_.erase(entry);
    numbers_.erase(numbers_.find(removed.call.refund_no));
    --gateways_.at(removed.call.gateway).in_flight;
    return removed;
}

void Dispatcher::start(Call call, DispatchTime time) {
    const std::uint64_t id = add(std::move(call));
    std::optional<core::GatewayAnswer> refusal;
    // Whatever is thrown is thrown before a byte leaves. The words need no memory: they are short.
    try {
        refusal = send(id, calls_.at(id), time.unix_s);
    } catch (const std::bad_alloc&) {
        refusal = not_sent("out of memory");
    } catch (...) {
        refusal = not_sent("cannot be built");
    }
    if (refusal) {
        finish(remove(id), std::move(*refusal), 0, 0);
    }
}

void Dispatcher::give_back(Call call, std::string why) {
    Transfer never_begun;
    never_begun.configuration = gateways_[call.gateway].configuration;
    never_begun.call = std::move(call);
    finish(std::move(never_begun), not_sent(std::move(why)), 0, 0);
}

void Dispatcher::finish(Transfer transfer, core::GatewayAnswer answer, int http_status,
                        std::int64_t duration_us) {
    Gateway& gateway = gateways_.at(transfer.call.gateway);
    FinishedCall finished;
    finished.call = std::move(transfer.call);
    finished.answer = std::move(answer);
    finished.http_status = http_status;
    finished.duration_us = duration_us;
    if (transfer.configuration != nullptr) {
        finished.traits = transfer.configuration->setup.driver->traits;
    }
    finished_.push_back(std::move(finished));
    ++gateway.unrecorded;
    ++ended_;
}

// Whether the call goes on with the next page of its gateway's list.
bool Dispatcher::read_on(std::uint64_t id, Transfer& transfer, const core::GatewayAnswer& answer,
                         const HttpResult& result, std::int64_t unix_s) {
    transfer.page = answer.next_page;
    transfer.spent_us += result.duration_us;
    gateways_.at(transfer.call.gateway).limiter.started(1);
    return ++transfer.pages <= max_pages && !send(id, transfer, unix_s);
}

void Dispatcher::take_result(const HttpResult& result, DispatchTime time) {
    const auto found = calls_.find(result.id);
    if (found == calls_.end()) {
        return;
    }
    Transfer& transfer = found->second;
    Gateway& gateway = gateways_.at(transfer.call.gateway);
    core::GatewayAnswer answer = transfer.configuration->driver->read_answer(
        refund_call(transfer.call, transfer.page), result.response, time.unix_s);
    if (!answer.next_page.empty()) {
        if (read_on(result.id, transfer, answer, result, time.unix_s)) {
            return;
        }
        answer.facts.verdict = core::Verdict::unknown;
        answer.error = "the gateway's list of refunds could not be read to its end";
    }
    if (transfer.pages > 1 && answer.facts.verdict == core::Verdict::not_sent) {
        // The pages before were.
        answer.facts.verdict = core::Verdict::unknown;
    }
    hide_secrets(answer, transfer.configuration->setup);
    gateway.limiter.answered(answer.facts.verdict == core::Verdict::wait || answer.facts.slow_down,
                             time.now);
    const std::int64_t duration_us = transfer.spent_us + result.duration_us;
    finish(remove(result.id), std::move(answer), result.response.status, duration_us);
}

void Dispatcher::advance(DispatchTime time) {
    client_.advance();
    for (const HttpResult& result : client_.take_finished()) {
        take_result(result, time);
    }
}

void Dispatcher::release(const std::size_t* indexes, std::size_t count) noexcept {
    std::size_t released = 0;
    std::size_t kept = count == 0 ? finished_.size() : indexes[0];
    for (std::size_t i = kept; i < finished_.size(); ++i) {
        if (released < count && indexes[released] == i) {
            ended_ +=
                gateways_.find(finished_[i].call.gateway)->second.unrecorded-- == max_unrecorded
                    ? 1
                    : 0;
            ++released;
        } else {
            finished_[kept++] = std::move(finished_[i]);
        }
    }
    finished_.resize(kept);
}

bool Dispatcher::is_in_flight(const std::string& refund_no) const noexcept {
    return numbers_.contains(refund_no);
}

bool Dispatcher::holds(std::string_view refund_no, std::int32_t attempt) const noexcept {
    const auto is_it = [=](const Call& call) {
        return call.attempt == attempt && call.refund_no == refund_no;
    };
    return std::any_of(calls_.begin(), calls_.end(),
                       [&](const auto& entry) { return is_it(entry.second.call); }) ||
           std::any_of(finished_.begin(), finished_.end(),
                       [&](const FinishedCall& finished) { return is_it(finished.call); });
}

}  // namespace payonce::net
