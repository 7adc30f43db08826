// Carries refunds to their gateways: builds the requests through core's drivers, sends them
// through the HTTP client, and gives back what each gateway said. Decides nothing about a refund;
// keeps within each gateway's limits of concurrency and rate.
//
// Answers stay here until the owner has recorded them. With too many of one gateway it gets no
// further calls: what is in memory is bounded even while nothing can be recorded.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/gateway.h"
#include "core/gateway_answer.h"
#include "core/limiter.h"
#include "net/http_client.h"
#include "net/openssl_crypto.h"

namespace payonce::net {

struct GatewaySetup {
    std::string name;
    const core::Driver* driver = nullptr;
    core::GatewayOptions options;  // the driver's, with the url
    std::string ca_file;
    int timeout_ms = 0;
    int max_in_flight = 1;
    int rate_limit_per_s = 0;  // 0: none
};

// One attempt of one refund, as claimed: UTF-8, amounts in minor units.
struct Call {
    std::string gateway;
    core::CallKind kind = core::CallKind::refund;
    std::string refund_no;
    std::string payment_id;
    std::string order_id;
    std::string transaction_id;     // empty: unknown
    std::string gateway_refund_id;  // empty: unknown
    std::string currency;
    std::string reason;
    std::int64_t amount = 0;
    std::int64_t payment_amount = 0;
    std::int32_t key_generation = 1;
    std::int32_t attempt = 0;
    core::Microseconds claimed_at = 0;
};

struct FinishedCall {
    Call call;
    core::GatewayAnswer answer;
    core::GatewayTraits traits;
    int http_status = 0;  // 0: none came
    std::int64_t duration_us = 0;
    // The owner's note: not before this time is it worth trying to record it again.
    core::Microseconds retry_at = 0;
    std::int32_t failures = 0;   // the owner's note: how often recording it failed
    std::int32_t deferrals = 0;  // the owner's note: how often it had to be put off
};

// The time, twice: for limits, and for what is signed.
struct DispatchTime {
    core::Microseconds now = 0;
    std::int64_t unix_s = 0;
};

class Dispatcher {
  public:
    explicit Dispatcher(const HttpClientLimits& limits);

    // The gateways from now on. Keys are parsed anew only where an option has changed. What is in
    // flight is finished with the keys with which it was begun, also when its gateway is gone or
    // another by now: another provider's driver could take the answer for "I do not know this
    // refund", and new keys would not be looked for where the old ones are quoted.
    void configure(std::vector<GatewaySetup> setups, core::Microseconds now);

    // How many calls to the gateway may start now; 0 for an unknown one.
    int allowance(const std::string& gateway, core::Microseconds now);
    // Whether so many of its answers wait to be recorded that it gets no further calls.
    bool is_full(const std::string& gateway) const;
    // When the gateway's rate allows the next call.
    core::Microseconds next_token_at(const std::string& gateway, core::Microseconds now) const;
    int in_flight(const std::string& gateway) const;
    int current_limit(const std::string& gateway) const;

    // Begins a call. Whatever prevents it is a finished call with the verdict not_sent. After an
    // exception (std::bad_alloc) nothing was sent and nothing is held.
    void start(Call call, DispatchTime time);

    // Gives back a call that shall not be made after all: a finished call with the verdict
    // not_sent.
    void give_back(Call call, std::string why);

    int event_fd() const { return client_.event_fd(); }
    int timeout_ms() const { return client_.timeout_ms(); }
    // After an exception (std::bad_alloc) answers may be lost: the owner must end, and ask again.
    void advance(DispatchTime time);

    std::deque<FinishedCall>& finished() { return finished_; }
    // The owner has recorded (or given up) the finished calls at these indexes, which ascend.
    void release(const std::size_t* indexes, std::size_t count) noexcept;
    // Whether any attempt of the refund is in flight.
    bool is_in_flight(const std::string& refund_no) const noexcept;
    // Whether this attempt of the refund is in flight or not recorded yet.
    bool holds(std::string_view refund_no, std::int32_t attempt) const noexcept;
    // How often room for another call was made since the beginning: by a call that ended, or by a
    // recorded answer of a full gateway.
    std::uint64_t ended() const { return ended_; }
    std::size_t transfers() const { return calls_.size(); }

  private:
    struct Configuration {
        GatewaySetup setup;
        std::shared_ptr<const core::Gateway> driver;
    };
    using ConfigurationPtr = std::shared_ptr<const Configuration>;
    struct Gateway {
        ConfigurationPtr configuration;  // null: it is gone, or its options are unusable
        core::Limiter limiter;
        int timeout_ms = 0;
        int in_flight = 0;
        int unrecorded = 0;
    };
    struct Transfer {
        Call call;
        ConfigurationPtr configuration;  // with which it was begun
        std::string page;                // of a query: where its gateway's list is read on
        int pages = 1;
        std::int64_t spent_us = 0;  // by the pages before
    };

    ConfigurationPtr open(GatewaySetup setup, const Configuration* old) const;
    std::optional<core::GatewayAnswer> send(std::uint64_t id, const Transfer& transfer,
                                            std::int64_t unix_s);
    bool read_on(std::uint64_t id, Transfer& transfer, const core::GatewayAnswer& answer,
                 const HttpResult& result, std::int64_t unix_s);
    std::uint64_t add(Call call);
    Transfer remove(std::uint64_t id);
    void finish(Transfer transfer, core::GatewayAnswer answer, int http_status,
                std::int64_t duration_us);
    void take_result(const HttpResult& result, DispatchTime time);

    HttpClient client_;
    OpensslCrypto crypto_;  // before the gateways, which use it
    std::map<std::string, Gateway> gateways_;
    std::unordered_map<std::uint64_t, Transfer> calls_;
    std::unordered_multiset<std::string> numbers_;  // of the refunds in calls_
    std::deque<FinishedCall> finished_;
    std::uint64_t next_id_ = 1;
    std::uint64_t ended_ = 0;
};

}  // namespace payonce::net
