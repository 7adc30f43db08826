// Dispatcher between gateways that the test scripts and a server on a real socket: which keys a
// call is made with, how many calls may start, what becomes of a list of many pages, and that
// neither a secret nor a call gets lost on the way. The wire format is the test's own.
#include "net/dispatch.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http_test_server.h"
#include "net/nonce.h"

namespace payonce::net {
namespace {

using namespace payonce::test;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using core::CallKind;
using core::Microseconds;
using core::Verdict;

constexpr Microseconds second = 1'000'000;
constexpr Microseconds start_of_time = 1'000 * second;
constexpr std::int64_t start_of_time_s = 1'768'443'630;

// ---- A driver that does what the test says -----------------------------------------------------

// The name of a verdict in the scripted answers.
Verdict verdict_of(std::string_view name) {
    static const std::map<std::string_view, Verdict> verdicts = {
        {"succeeded", Verdict::succeeded}, {"processing", Verdict::processing},
        {"rejected", Verdict::rejected},   {"not_found", Verdict::not_found},
        {"wait", Verdict::wait},           {"not_sent", Verdict::not_sent}};
    const auto found = verdicts.find(name);
    return found == verdicts.end() ? Verdict::unknown : found->second;
}

// The text after "<name>=" up to the end of its line; empty when it is not there.
std::string field(std::string_view body, const std::string& name) {
    const std::size_t at = body.find(name + "=");
    if (at == std::string_view::npos) {
        return {};
    }
    const std::size_t start = at + name.size() + 1;
    return std::string(body.substr(start, body.find('\n', start) - start));
}

// Refuses refunds with these numbers by itself; what the server answers it reads line by line, and
// gives back its own account where asked to: so it shows whose options an answer is read with.
constexpr std::string_view never_sent = "never";
constexpr std::string_view sent_later = "later";
constexpr std::string_view not_buildable = "broken";

class ScriptedGateway : public core::Gateway {
  public:
    explicit ScriptedGateway(const core::GatewayOptions& options)
        : url_(options.get("url")),
          token_(options.get("token")),
          account_(options.get("account")) {}

    core::BuiltRequest build(const core::RefundCall& call,
                             const core::SigningMoment& moment) const override {
        if (call.refund_no == not_buildable) {
            throw std::length_error("a driver has a bug");
        }
        if (call.refund_no == never_sent || call.refund_no == sent_later) {
            core::GatewayAnswer refusal;
            refusal.facts.verdict =
                call.refund_no == never_sent ? Verdict::rejected : Verdict::not_sent;
            refusal.error = "the driver refuses " + std::string(call.refund_no);
            return refusal;
        }
        core::HttpRequest request;
        request.method =
            call.kind == CallKind::refund ? core::HttpMethod::post : core::HttpMethod::get;
        request.url = url_ + "/" + std::string(call.refund_no) + "?page=" + std::string(call.page);
        request.headers = {{"X-Token", token_},
                           {"X-Nonce", std::string(moment.nonce)},
                           {"X-Time", std::to_string(moment.unix_s)}};
        return request;
    }

    core::GatewayAnswer read_answer(const core::RefundCall&, const core::HttpResponse& response,
                                    std::int64_t) const override {
        core::GatewayAnswer answer;
        answer.error = response.error;
        if (response.delivery != core::Delivery::answered) {
            answer.facts.verdict = response.delivery == core::Delivery::not_sent ? Verdict::not_sent
                                                                                 : Verdict::unknown;
            return answer;
        }
        answer.facts.verdict = verdict_of(field(response.body, "verdict"));
        answer.facts.slow_down = !field(response.body, "slow_down").empty();
        answer.refund_id = field(response.body, "refund_id");
        answer.error = field(response.body, "error");
        answer.next_page = field(response.body, "next");
        if (!field(response.body, "account").empty()) {
            answer.refund_id = account_;
        }
        return answer;
    }

    core::Notice read_notice(const core::RawNotice&) const override { return {}; }
    core::NoticeReply reply(core::ReplyKind) const noexcept override { return {}; }

  private:
    std::string url_;
    std::string token_;
    std::string account_;
};

constexpr std::string_view unusable_token = "unusable";

int opened = 0;

core::OpenedGateway open_scripted(const core::GatewayOptions& options, const core::CryptoPort&) {
    ++opened;
    core::OpenedGateway made;
    if (options.get("token") != unusable_token) {
        made.gateway = std::make_unique<ScriptedGateway>(options);
    }
    return made;
}

constexpr core::OptionRule scripted_options[] = {
    {.name = "token", .has_file = true},
    {.name = "other_secret", .has_file = true},
    {.name = "account"},
};
constexpr core::GatewayTraits scripted_traits = {.query_delay_s = 7, .payment_spacing_s = 3};
constexpr core::Driver scripted = {"payonce_scripted", scripted_options, scripted_traits,
                                   open_scripted};
constexpr core::Driver scripted_too = {"payonce_scripted_too", scripted_options, {}, open_scripted};

// ---- The server --------------------------------------------------------------------------------

// Answers each request with what `answer` makes of it, and remembers all.
class ScriptedServer {
  public:
    using Answer = std::function<std::string(const Received&)>;

    explicit ScriptedServer(Answer answer)
        : answer_(std::move(answer)), server_([this](Connection& connection) {
              while (const std::optional<Received> request = connection.read_request()) {
                  remember(*request);
                  connection.answer("200 OK", answer_(*request));
              }
          }) {}
    explicit ScriptedServer(const std::string& body)
        : ScriptedServer([body](const Received&) { return body; }) {}

    std::string url() const { return server_.url(""); }
    std::vector<Received> seen() const {
        const std::lock_guard lock(mutex_);
        return seen_;
    }
    std::vector<std::string> seen_headers(const std::string& name) const {
        std::vector<std::string> values;
        for (const Received& request : seen()) {
            values.push_back(request.headers.at(name));
        }
        return values;
    }

  private:
    void remember(const Received& request) {
        const std::lock_guard lock(mutex_);
        seen_.push_back(request);
    }

    const Answer answer_;
    mutable std::mutex mutex_;
    std::vector<Received> seen_;
    Server server_;  // last: its threads use the others
};

// ---- Driving the dispatcher --------------------------------------------------------------------

class DispatcherTest : public testing::Test {
  protected:
    DispatcherTest() {
        if (!HttpClient::init_process()) {
            fail_setup("no curl");
        }
        dispatcher_ = std::make_unique<Dispatcher>(HttpClientLimits{});
        opened = 0;
    }

    static GatewaySetup setup(const std::string& name, const std::string& url,
                              std::string_view token = "token-1") {
        GatewaySetup made;
        made.name = name;
        made.driver = &scripted;
        made.options.set("url", url);
        made.options.set("token", token);
        made.timeout_ms = 10'000;
        made.max_in_flight = 4;
        return made;
    }

    static Call call(const std::string& gateway, const std::string& refund_no,
                     CallKind kind = CallKind::refund) {
        Call made;
        made.gateway = gateway;
        made.kind = kind;
        made.refund_no = refund_no;
        made.attempt = 1;
        return made;
    }

    void configure(GatewaySetup setup) {
        std::vector<GatewaySetup> setups;
        setups.push_back(std::move(setup));
        dispatcher_->configure(std::move(setups), now_);
    }
    void configure_none() { dispatcher_->configure({}, now_); }

    void start(Call call) { dispatcher_->start(std::move(call), time()); }
    DispatchTime time() const { return {now_, start_of_time_s + (now_ - start_of_time) / second}; }

    // Drives the dispatcher until it holds or patience ends.
    bool turn_until(const std::function<bool()>& holds) {
        const auto deadline = Clock::now() + patience;
        while (!holds()) {
            if (Clock::now() > deadline) {
                return false;
            }
            const int wait_ms = dispatcher_->timeout_ms();
            pollfd waited{dispatcher_->event_fd(), POLLIN, 0};
            poll(&waited, 1, wait_ms < 0 ? 20 : std::min(wait_ms, 20));
            dispatcher_->advance(time());
        }
        return true;
    }

    void release(std::size_t index) { dispatcher_->release(&index, 1); }

    // The one call that finished, recorded.
    FinishedCall take_finished() {
        EXPECT_TRUE(turn_until([&] { return !dispatcher_->finished().empty(); }));
        EXPECT_EQ(dispatcher_->finished().size(), 1U);
        if (dispatcher_->finished().empty()) {
            return {};
        }
        FinishedCall finished = dispatcher_->finished().front();
        release(0);
        return finished;
    }

    FinishedCall run(Call call) {
        start(std::move(call));
        return take_finished();
    }

    int allowance(const std::string& gateway) { return dispatcher_->allowance(gateway, now_); }

    Microseconds now_ = start_of_time;
    std::unique_ptr<Dispatcher> dispatcher_;
};

// ---- Gateways and their keys -------------------------------------------------------------------

TEST_F(DispatcherTest, KnowsEachGatewayByItsName) {
    const ScriptedServer a("verdict=succeeded");
    const ScriptedServer b("verdict=processing");
    std::vector<GatewaySetup> setups;
    setups.push_back(setup("a", a.url(), "token-a"));
    setups.push_back(setup("b", b.url(), "token-b"));
    setups[1].max_in_flight = 9;
    dispatcher_->configure(std::move(setups), now_);
    EXPECT_EQ(allowance("a"), 4);
    EXPECT_EQ(allowance("b"), 9);
    EXPECT_EQ(dispatcher_->current_limit("b"), 9);
    EXPECT_EQ(allowance(""), 0);

    EXPECT_EQ(run(call("b", "r1")).answer.facts.verdict, Verdict::processing);
    EXPECT_EQ(run(call("a", "r2")).answer.facts.verdict, Verdict::succeeded);
    EXPECT_EQ(a.seen_headers("x-token"), std::vector<std::string>{"token-a"});
    EXPECT_EQ(b.seen_headers("x-token"), std::vector<std::string>{"token-b"});
}

TEST_F(DispatcherTest, ParsesKeysAnewOnlyWhereAnOptionChanged) {
    const std::string url = "http://127.0.0.1:1";
    configure(setup("g", url));
    EXPECT_EQ(opened, 1);
    configure(setup("g", url));
    GatewaySetup other_limits = setup("g", url);
    other_limits.timeout_ms = 1;
    other_limits.max_in_flight = 2;
    other_limits.rate_limit_per_s = 3;
    other_limits.ca_file = "/nowhere";
    configure(std::move(other_limits));
    EXPECT_EQ(opened, 1) << "no key depends on these";
    EXPECT_EQ(allowance("g"), 1);

    configure(setup("g", url, "token-2"));
    EXPECT_EQ(opened, 2);
    configure(setup("g", url + "/v2", "token-2"));
    EXPECT_EQ(opened, 3);
    GatewaySetup more = setup("g", url + "/v2", "token-2");
    more.options.set("account", "1900000001");
    configure(std::move(more));
    EXPECT_EQ(opened, 4);
    configure(setup("g", url + "/v2", "token-2"));
    EXPECT_EQ(opened, 5);
    GatewaySetup other_driver = setup("g", url + "/v2", "token-2");
    other_driver.driver = &scripted_too;
    configure(std::move(other_driver));
    EXPECT_EQ(opened, 6);
}

TEST_F(DispatcherTest, AChangedKeyIsUsedByTheNextCall) {
    const ScriptedServer server("verdict=succeeded");
    configure(setup("g", server.url(), "token-1"));
    run(call("g", "r1"));
    configure(setup("g", server.url(), "token-2"));
    run(call("g", "r2"));
    EXPECT_EQ(server.seen_headers("x-token"), (std::vector<std::string>{"token-1", "token-2"}));
}

TEST_F(DispatcherTest, UnusableOptionsLetFinishWhatWasBegun) {
    Gate gate;
    const ScriptedServer server([&](const Received&) {
        gate.wait();
        return "verdict=succeeded\naccount=?";
    });
    GatewaySetup usable = setup("g", server.url());
    usable.options.set("account", "1900000001");
    configure(std::move(usable));
    start(call("g", "r1"));
    EXPECT_TRUE(turn_until([&] { return !server.seen().empty(); }));
    configure(setup("g", server.url(), unusable_token));
    EXPECT_EQ(allowance("g"), 0) << "no new ones";
    EXPECT_EQ(dispatcher_->in_flight("g"), 1);
    gate.open();
    const FinishedCall finished = take_finished();
    EXPECT_EQ(finished.answer.facts.verdict, Verdict::succeeded);
    EXPECT_EQ(finished.answer.refund_id, "1900000001") << "read with the keys of before";
    EXPECT_EQ(finished.traits.query_delay_s, scripted_traits.query_delay_s);
    EXPECT_EQ(allowance("g"), 0);
}

TEST_F(DispatcherTest, OptionsThatAreUsableAgainTakeCallsAgain) {
    const ScriptedServer server("verdict=succeeded");
    configure(setup("g", server.url()));
    configure(setup("g", server.url(), unusable_token));
    EXPECT_EQ(allowance("g"), 0);
    configure(setup("g", server.url()));
    EXPECT_EQ(allowance("g"), 4);
    EXPECT_EQ(run(call("g", "r1")).answer.facts.verdict, Verdict::succeeded);
}

TEST_F(DispatcherTest, OptionsThatNeverWereUsableSendNothing) {
    const ScriptedServer server("verdict=succeeded");
    configure(setup("g", server.url(), unusable_token));
    EXPECT_EQ(allowance("g"), 0);
    start(call("g", "r1"));
    EXPECT_EQ(dispatcher_->transfers(), 0U);
    EXPECT_EQ(take_finished().answer.facts.verdict, Verdict::not_sent);
    EXPECT_TRUE(server.seen().empty());
}

TEST_F(DispatcherTest, AnUnknownGatewaySendsNothing) {
    EXPECT_EQ(allowance("nobody"), 0);
    EXPECT_EQ(dispatcher_->in_flight("nobody"), 0);
    EXPECT_EQ(dispatcher_->current_limit("nobody"), 0);
    EXPECT_EQ(dispatcher_->next_token_at("nobody", now_), now_);
    EXPECT_FALSE(dispatcher_->is_full("nobody"));
    start(call("nobody", "r1"));
    EXPECT_EQ(dispatcher_->in_flight("nobody"), 0);
    ASSERT_EQ(dispatcher_->finished().size(), 1U);
    EXPECT_EQ(dispatcher_->finished()[0].answer.facts.verdict, Verdict::not_sent);
    EXPECT_FALSE(dispatcher_->finished()[0].answer.error.empty());
    EXPECT_EQ(allowance("nobody"), 0) << "nor does one become known by being asked";
}

TEST_F(DispatcherTest, AGatewayThatIsGoneFinishesWhatWasBegun) {
    Gate gate;
    const ScriptedServer server([&](const Received&) {
        gate.wait();
        return "verdict=succeeded";
    });
    configure(setup("g", server.url()));
    start(call("g", "r1"));
    EXPECT_TRUE(turn_until([&] { return !server.seen().empty(); }));
    configure_none();
    EXPECT_EQ(allowance("g"), 0);
    EXPECT_EQ(dispatcher_->in_flight("g"), 1);
    gate.open();
    EXPECT_TRUE(turn_until([&] { return !dispatcher_->finished().empty(); }));
    // Not recorded yet: it must still be there to be released.
    configure_none();
    const FinishedCall finished = take_finished();
    EXPECT_EQ(finished.answer.facts.verdict, Verdict::succeeded);
    EXPECT_EQ(finished.traits.query_delay_s, scripted_traits.query_delay_s);
    configure_none();
    EXPECT_EQ(dispatcher_->current_limit("g"), 0) << "and is forgotten then";
}

// A gateway that quotes the token it was sent, also when there is a new one by then.
TEST_F(DispatcherTest, AChangedKeyDoesNotShowTheOldOne) {
    Gate gate;
    const ScriptedServer server([&](const Received& request) {
        gate.wait();
        return "verdict=rejected\nerror=wrong key " + request.headers.at("x-token");
    });
    configure(setup("g", server.url(), "old-secret-1"));
    start(call("g", "r1"));
    EXPECT_TRUE(turn_until([&] { return !server.seen().empty(); }));
    configure(setup("g", server.url(), "new-secret-2"));
    gate.open();
    EXPECT_EQ(take_finished().answer.error, "wrong key ***");
}

// The provider that was asked, not the one that has its name by now: what one says of a refund the
// other's driver may take for leave to send it again.
TEST_F(DispatcherTest, AGatewayMadeAnewDoesNotReadTheAnswersOfTheOldOne) {
    Gate gate;
    const ScriptedServer server([&](const Received&) {
        gate.wait();
        return "verdict=processing\naccount=?";
    });
    GatewaySetup before = setup("g", server.url());
    before.options.set("account", "the one that was asked");
    configure(std::move(before));
    start(call("g", "r1", CallKind::query));
    EXPECT_TRUE(turn_until([&] { return !server.seen().empty(); }));
    GatewaySetup after = setup("g", server.url());
    after.driver = &scripted_too;
    after.options.set("account", "another");
    configure(std::move(after));
    gate.open();
    const FinishedCall finished = take_finished();
    EXPECT_EQ(finished.answer.refund_id, "the one that was asked");
    EXPECT_EQ(finished.traits.query_delay_s, scripted_traits.query_delay_s);
}

// A page asked for with other keys would be a page of another account's list.
TEST_F(DispatcherTest, AListIsReadToItsEndAsItWasBegun) {
    Gate gate;
    const ScriptedServer server([&](const Received& request) {
        gate.wait();
        return request.start_line.find("page=2") != std::string::npos ? "verdict=succeeded"
                                                                      : "next=2";
    });
    configure(setup("g", server.url(), "token-1"));
    start(call("g", "r1", CallKind::query));
    EXPECT_TRUE(turn_until([&] { return !server.seen().empty(); }));
    configure(setup("g", server.url(), "token-2"));
    gate.open();
    EXPECT_EQ(take_finished().answer.facts.verdict, Verdict::succeeded);
    EXPECT_EQ(server.seen_headers("x-token"), (std::vector<std::string>{"token-1", "token-1"}));
}

TEST_F(DispatcherTest, HandsBackTheTraits) {
    const ScriptedServer server("verdict=processing");
    configure(setup("g", server.url()));
    const FinishedCall answered = run(call("g", "r1"));
    EXPECT_EQ(answered.traits.query_delay_s, 7);
    EXPECT_EQ(answered.traits.payment_spacing_s, 3);
    EXPECT_EQ(answered.http_status, 200);
    EXPECT_GT(answered.duration_us, 0);
    EXPECT_EQ(answered.call.refund_no, "r1");
    EXPECT_EQ(run(call("g", std::string(sent_later))).traits.query_delay_s, 7);
    dispatcher_->give_back(call("g", "r2"), "the order is locked");
    const FinishedCall given_back = take_finished();
    EXPECT_EQ(given_back.traits.query_delay_s, 7);
    EXPECT_EQ(given_back.answer.facts.verdict, Verdict::not_sent);
    EXPECT_EQ(given_back.answer.error, "the order is locked");
    EXPECT_EQ(server.seen().size(), 1U);
}

// ---- Limits ------------------------------------------------------------------------------------

TEST_F(DispatcherTest, KeepsTheLimitOfRequestsInFlight) {
    Gate gate;
    const ScriptedServer server([&](const Received&) {
        gate.wait();
        return "verdict=succeeded";
    });
    GatewaySetup two = setup("g", server.url());
    two.max_in_flight = 2;
    configure(std::move(two));
    EXPECT_EQ(allowance("g"), 2);
    start(call("g", "r1"));
    EXPECT_EQ(allowance("g"), 1);
    start(call("g", "r2"));
    EXPECT_EQ(allowance("g"), 0);
    EXPECT_EQ(dispatcher_->in_flight("g"), 2);
    EXPECT_EQ(dispatcher_->transfers(), 2U);
    gate.open();
    EXPECT_TRUE(turn_until([&] { return dispatcher_->finished().size() == 2; }));
    EXPECT_EQ(allowance("g"), 2);
    EXPECT_EQ(dispatcher_->ended(), 2U);
}

TEST_F(DispatcherTest, KeepsTheRate) {
    const ScriptedServer server("verdict=succeeded");
    GatewaySetup ten_a_second = setup("g", server.url());
    ten_a_second.rate_limit_per_s = 10;
    configure(std::move(ten_a_second));
    EXPECT_EQ(allowance("g"), 1) << "a restart must not double the rate";
    run(call("g", "r1"));
    EXPECT_EQ(allowance("g"), 0);
    const Microseconds next = dispatcher_->next_token_at("g", now_);
    EXPECT_GT(next, now_);
    EXPECT_LE(next, now_ + second / 10 + 1);
    now_ = next;
    EXPECT_EQ(allowance("g"), 1);
    now_ += second;
    EXPECT_EQ(allowance("g"), 4) << "the other limit holds too";
}

TEST_F(DispatcherTest, AWaitAndAnOverloadLowerTheLimit) {
    for (const char* answer : {"verdict=wait", "verdict=unknown\nslow_down=yes"}) {
        const ScriptedServer server(answer);
        configure(setup(answer, server.url()));
        EXPECT_EQ(dispatcher_->current_limit(answer), 4);
        run(call(answer, "r1"));
        EXPECT_EQ(dispatcher_->current_limit(answer), 2) << answer;
        EXPECT_EQ(allowance(answer), 2) << answer;
        now_ += 2 * second;
        run(call(answer, "r2"));
        EXPECT_EQ(dispatcher_->current_limit(answer), 1) << answer;
        now_ += 2 * second;
        run(call(answer, "r3"));
        EXPECT_EQ(dispatcher_->current_limit(answer), 1) << "it never stops the gateway";
    }
}

TEST_F(DispatcherTest, OtherAnswersRaiseTheLimitAgain) {
    std::string body = "verdict=wait";
    const ScriptedServer server([&](const Received&) { return body; });
    configure(setup("g", server.url()));
    run(call("g", "r1"));
    body = "verdict=rejected";
    for (int i = 0; i < 10; ++i) {
        run(call("g", "r2"));
    }
    EXPECT_EQ(dispatcher_->current_limit("g"), 4);
}

TEST_F(DispatcherTest, AnswersThatNobodyRecordsStopTheGateway) {
    const ScriptedServer server("verdict=succeeded");
    configure(setup("g", server.url()));
    constexpr std::size_t most = 1000;
    for (std::size_t i = 0; i < most; ++i) {
        EXPECT_FALSE(dispatcher_->is_full("g"));
        dispatcher_->give_back(call("g", "r" + std::to_string(i)), "locked");
    }
    EXPECT_TRUE(dispatcher_->is_full("g"));
    EXPECT_EQ(allowance("g"), 0);
    const std::uint64_t ended = dispatcher_->ended();
    release(500);
    EXPECT_EQ(dispatcher_->ended(), ended + 1) << "there is room again: the owner must hear of it";
    EXPECT_FALSE(dispatcher_->is_full("g"));
    EXPECT_EQ(allowance("g"), 4);
    EXPECT_FALSE(dispatcher_->holds("r500", 1));
    EXPECT_TRUE(dispatcher_->holds("r501", 1));
}

TEST_F(DispatcherTest, KeepsTheOrderOfWhatIsNotReleased) {
    const ScriptedServer server("verdict=succeeded");
    configure(setup("g", server.url()));
    for (const char* number : {"r0", "r1", "r2", "r3", "r4", "r5"}) {
        dispatcher_->give_back(call("g", number), "locked");
    }
    const std::array<std::size_t, 3> recorded = {0, 2, 3};
    dispatcher_->release(recorded.data(), recorded.size());
    std::string left;
    for (const FinishedCall& finished : dispatcher_->finished()) {
        left += finished.call.refund_no + " ";
    }
    EXPECT_EQ(left, "r1 r4 r5 ");
    dispatcher_->release(nullptr, 0);
    EXPECT_EQ(dispatcher_->finished().size(), 3U);
}

// ---- Calls that are not made -------------------------------------------------------------------

TEST_F(DispatcherTest, WhatTheDriverRefusesEndsAtOnce) {
    const ScriptedServer server("verdict=succeeded");
    configure(setup("g", server.url()));
    for (const auto& [number, verdict] :
         {std::pair{never_sent, Verdict::rejected}, std::pair{sent_later, Verdict::not_sent}}) {
        const std::uint64_t ended = dispatcher_->ended();
        start(call("g", std::string(number)));
        ASSERT_EQ(dispatcher_->finished().size(), 1U) << "without a turn";
        EXPECT_EQ(dispatcher_->transfers(), 0U);
        EXPECT_EQ(dispatcher_->in_flight("g"), 0);
        EXPECT_FALSE(dispatcher_->is_in_flight(std::string(number)));
        EXPECT_TRUE(dispatcher_->holds(number, 1));
        EXPECT_EQ(dispatcher_->ended(), ended + 1);
        const FinishedCall finished = take_finished();
        EXPECT_EQ(finished.answer.facts.verdict, verdict);
        EXPECT_EQ(finished.answer.error, "the driver refuses " + std::string(number));
        EXPECT_EQ(finished.http_status, 0);
        EXPECT_EQ(finished.duration_us, 0);
        EXPECT_FALSE(dispatcher_->holds(number, 1));
    }
    EXPECT_EQ(allowance("g"), 4);
    EXPECT_TRUE(server.seen().empty());
}

TEST_F(DispatcherTest, WhatADriverThrowsHoldsNothing) {
    const ScriptedServer server("verdict=succeeded");
    configure(setup("g", server.url()));
    start(call("g", std::string(not_buildable)));
    EXPECT_FALSE(dispatcher_->is_in_flight(std::string(not_buildable)));
    EXPECT_EQ(dispatcher_->in_flight("g"), 0);
    EXPECT_EQ(take_finished().answer.facts.verdict, Verdict::not_sent);
    EXPECT_FALSE(dispatcher_->holds(not_buildable, 1));
    EXPECT_TRUE(server.seen().empty());
}

TEST_F(DispatcherTest, WhatNobodyListensToWasNotSent) {
    const Server server(answer_all("200 OK", "verdict=succeeded"));
    server.stop_listening();
    configure(setup("g", server.url("")));
    const FinishedCall finished = run(call("g", "r1"));
    EXPECT_EQ(finished.answer.facts.verdict, Verdict::not_sent);
    EXPECT_EQ(finished.http_status, 0);
    EXPECT_EQ(server.accepted(), 0);
}

// ---- Lists of many pages -----------------------------------------------------------------------

// The page that the request asks for; 1 for the first.
int page_of(const Received& request) {
    const std::string digits = field(request.start_line, "page");
    return digits.starts_with(' ') ? 1 : std::stoi(digits);
}

std::string turn_page(const Received& request) {
    return "verdict=not_found\nnext=" + std::to_string(page_of(request) + 1);
}

TEST_F(DispatcherTest, ReadsAListOnToItsAnswer) {
    const ScriptedServer server([](const Received& request) {
        return page_of(request) < 3 ? turn_page(request)
                                    : std::string("verdict=succeeded\nrefund_id=re_1");
    });
    configure(setup("g", server.url()));
    const FinishedCall finished = run(call("g", "r1", CallKind::query));
    EXPECT_EQ(finished.answer.facts.verdict, Verdict::succeeded);
    EXPECT_EQ(finished.answer.refund_id, "re_1");
    EXPECT_EQ(finished.http_status, 200);
    EXPECT_EQ(dispatcher_->ended(), 1U) << "one call, however many pages";
    std::vector<std::string> asked;
    for (const Received& request : server.seen()) {
        asked.push_back(request.start_line);
    }
    EXPECT_EQ(asked, (std::vector<std::string>{"GET /r1?page= HTTP/1.1", "GET /r1?page=2 HTTP/1.1",
                                               "GET /r1?page=3 HTTP/1.1"}));
    EXPECT_EQ(dispatcher_->transfers(), 0U);
    EXPECT_EQ(dispatcher_->in_flight("g"), 0);
}

TEST_F(DispatcherTest, SumsUpTheTimeOfAllPages) {
    const ScriptedServer server([](const Received& request) {
        std::this_thread::sleep_for(30ms);
        return page_of(request) < 3 ? turn_page(request) : std::string("verdict=not_found");
    });
    configure(setup("g", server.url()));
    const FinishedCall finished = run(call("g", "r1", CallKind::query));
    EXPECT_EQ(finished.answer.facts.verdict, Verdict::not_found) << "read to its end";
    EXPECT_GE(finished.duration_us, 3 * 30'000);
}

TEST_F(DispatcherTest, HoldsACallBetweenItsPages) {
    Gate gate;
    const ScriptedServer server([&](const Received& request) {
        if (page_of(request) == 1) {
            return turn_page(request);
        }
        gate.wait();
        return std::string("verdict=succeeded");
    });
    configure(setup("g", server.url()));
    start(call("g", "r1", CallKind::query));
    EXPECT_TRUE(turn_until([&] { return server.seen().size() == 2; }));
    EXPECT_TRUE(dispatcher_->is_in_flight("r1"));
    EXPECT_FALSE(dispatcher_->is_in_flight("r"));
    EXPECT_TRUE(dispatcher_->holds("r1", 1));
    EXPECT_FALSE(dispatcher_->holds("r1", 2)) << "another attempt";
    EXPECT_EQ(dispatcher_->in_flight("g"), 1);
    EXPECT_EQ(dispatcher_->transfers(), 1U);
    EXPECT_EQ(dispatcher_->ended(), 0U);
    EXPECT_TRUE(dispatcher_->finished().empty());
    gate.open();
    EXPECT_TRUE(turn_until([&] { return !dispatcher_->finished().empty(); }));
    EXPECT_FALSE(dispatcher_->is_in_flight("r1"));
    EXPECT_TRUE(dispatcher_->holds("r1", 1)) << "until its answer is recorded";
    take_finished();
    EXPECT_FALSE(dispatcher_->holds("r1", 1));
}

TEST_F(DispatcherTest, EachPageCountsForTheRate) {
    const ScriptedServer server([](const Received& request) {
        return page_of(request) < 3 ? turn_page(request) : std::string("verdict=succeeded");
    });
    GatewaySetup ten_a_second = setup("g", server.url());
    ten_a_second.rate_limit_per_s = 10;
    configure(std::move(ten_a_second));
    run(call("g", "r1", CallKind::query));
    now_ += second / 5;
    EXPECT_EQ(allowance("g"), 0) << "two more than allowed were sent";
    now_ += second / 5;
    EXPECT_EQ(allowance("g"), 1 + 1);
}

// What one has not read to its end says nothing about what is on it.
void expect_unread(const FinishedCall& finished) {
    EXPECT_EQ(finished.answer.facts.verdict, Verdict::unknown) << finished.answer.error;
    EXPECT_FALSE(finished.answer.error.empty());
}

TEST_F(DispatcherTest, AnEndlessListIsUnknown) {
    const ScriptedServer server(turn_page);
    configure(setup("g", server.url()));
    const FinishedCall finished = run(call("g", "r1", CallKind::query));
    expect_unread(finished);
    EXPECT_EQ(finished.http_status, 200);
    EXPECT_EQ(server.seen().size(), 50U);
    EXPECT_EQ(dispatcher_->ended(), 1U);
    EXPECT_EQ(dispatcher_->in_flight("g"), 0);
}

TEST_F(DispatcherTest, AllPagesShareTheTimeOfOneRequest) {
    const ScriptedServer server([](const Received& request) {
        std::this_thread::sleep_for(200ms);
        return turn_page(request);
    });
    GatewaySetup half_a_second = setup("g", server.url());
    half_a_second.timeout_ms = 500;
    configure(std::move(half_a_second));
    const auto begun = Clock::now();
    const FinishedCall finished = run(call("g", "r1", CallKind::query));
    expect_unread(finished);
    EXPECT_LT(Clock::now() - begun, 2s);
    EXPECT_GE(finished.duration_us, 400'000);
    EXPECT_LE(server.seen().size(), 3U);
}

TEST_F(DispatcherTest, APageForWhichNoTimeIsLeftLeavesTheListUnknown) {
    Gate gate;
    const ScriptedServer server([&](const Received& request) {
        gate.wait();
        std::this_thread::sleep_for(30ms);
        return turn_page(request);
    });
    configure(setup("g", server.url()));
    start(call("g", "r1", CallKind::query));
    EXPECT_TRUE(turn_until([&] { return !server.seen().empty(); }));
    GatewaySetup hasty = setup("g", server.url());
    hasty.timeout_ms = 10;
    configure(std::move(hasty));
    gate.open();
    expect_unread(take_finished());
    EXPECT_EQ(server.seen().size(), 1U);
}

TEST_F(DispatcherTest, APageThatCannotBeHadLeavesTheListUnknown) {
    Gate is_made;
    const Server* self = nullptr;
    const Server server([&](Connection& connection) {
        is_made.wait();
        connection.read_request();
        self->stop_listening();
        connection.answer("200 OK", "verdict=not_found\nnext=2", "Connection: close\r\n");
        connection.close();
    });
    self = &server;
    is_made.open();
    configure(setup("g", server.url("")));
    expect_unread(run(call("g", "r1", CallKind::query)));
    EXPECT_EQ(server.accepted(), 1) << "the first page was there";
}

// ---- Secrets -----------------------------------------------------------------------------------

TEST_F(DispatcherTest, MasksSecretsInWhatTheGatewaySays) {
    const std::string secret = "sk_live_0123456789";
    std::string body;
    const ScriptedServer server([&](const Received&) { return body; });
    GatewaySetup with_secrets = setup("g", server.url(), secret);
    with_secrets.options.set("other_secret", "whsec_abcdef");
    with_secrets.options.set("account", "1900000001");
    configure(std::move(with_secrets));
    const auto said = [&](const std::string& text) {
        body = "verdict=rejected\nerror=" + text + "\nrefund_id=" + text;
        const FinishedCall finished = run(call("g", "r1"));
        EXPECT_EQ(finished.answer.error, finished.answer.refund_id);
        return finished.answer.error;
    };
    EXPECT_EQ(said("key " + secret + " is wrong"), "key *** is wrong");
    EXPECT_EQ(said(secret), "***");
    EXPECT_EQ(said(secret + secret + ", " + secret), "******, ***");
    EXPECT_EQ(said("whsec_abcdef and " + secret), "*** and ***");
    EXPECT_EQ(said("account 1900000001 is unknown"), "account 1900000001 is unknown")
        << "no secret, and needed to understand the error";
    // Cut off, where an error's text ends or was continued.
    for (std::size_t size = 4; size < secret.size(); ++size) {
        EXPECT_EQ(said("invalid key " + secret.substr(0, size)), "invalid key ***") << size;
    }
    EXPECT_EQ(said("whsec_abcdef, sk_live_01"), "***, ***");
    EXPECT_EQ(said("invalid key sk_"), "invalid key sk_") << "too short to tell anything";
    EXPECT_EQ(said("invalid key sk_live_0123 (and more)"), "invalid key *** (and more)");
    EXPECT_EQ(said("not sk_live_9, sk_live_01"), "not ***9, ***");
}

TEST_F(DispatcherTest, MasksASecretThatIsPartOfTheMask) {
    const ScriptedServer server("verdict=rejected\nerror=a*b**c");
    configure(setup("g", server.url(), "*"));
    EXPECT_EQ(run(call("g", "r1")).answer.error, "a***b******c");
}

TEST_F(DispatcherTest, AnEmptySecretMasksNothing) {
    const ScriptedServer server("verdict=rejected\nerror=no key");
    configure(setup("g", server.url(), ""));
    EXPECT_EQ(run(call("g", "r1")).answer.error, "no key");
}

// ---- What each request carries -----------------------------------------------------------------

bool is_nonce(const std::string& text) {
    return text.size() == 32 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
               return std::isalnum(c) != 0 && c < 0x80;
           });
}

TEST_F(DispatcherTest, EachRequestHasANonceOfItsOwn) {
    const ScriptedServer server([](const Received& request) {
        return page_of(request) < 5 ? turn_page(request) : std::string("verdict=not_found");
    });
    configure(setup("g", server.url()));
    run(call("g", "r1", CallKind::query));
    run(call("g", "r1", CallKind::query));
    const std::vector<std::string> nonces = server.seen_headers("x-nonce");
    ASSERT_EQ(nonces.size(), 10U);
    EXPECT_TRUE(std::all_of(nonces.begin(), nonces.end(), is_nonce));
    EXPECT_EQ(std::set<std::string>(nonces.begin(), nonces.end()).size(), nonces.size());
}

TEST_F(DispatcherTest, EachRequestIsSignedWithItsTime) {
    const ScriptedServer server([&](const Received& request) {
        return page_of(request) < 2 ? turn_page(request) : std::string("verdict=not_found");
    });
    configure(setup("g", server.url()));
    start(call("g", "r1", CallKind::query));
    now_ += 7 * second;
    take_finished();
    EXPECT_EQ(server.seen_headers("x-time"),
              (std::vector<std::string>{std::to_string(start_of_time_s),
                                        std::to_string(start_of_time_s + 7)}));
}

TEST(RandomNonce, IsOfTheWholeAlphabet) {
    std::set<std::string> nonces;
    std::set<char> characters;
    for (int i = 0; i < 1000; ++i) {
        const std::optional<std::string> nonce = random_nonce();
        ASSERT_TRUE(nonce);
        ASSERT_TRUE(is_nonce(*nonce)) << *nonce;
        nonces.insert(*nonce);
        characters.insert(nonce->begin(), nonce->end());
    }
    EXPECT_EQ(nonces.size(), 1000U);
    EXPECT_EQ(characters.size(), 62U);
}

}  // namespace
}  // namespace payonce::net
