// HttpClient against real sockets: a scripted server in a thread of its own answers, hangs, lies
// and dies in every way that decides whether a refund may be sent again. What each test looks at
// first is `delivery`: a wrong `not_sent` would pay a refund twice.
#include "net/http_client.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http_test_server.h"

namespace payonce::net {
namespace {

using namespace payonce::test;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using core::Delivery;
using core::HttpMethod;

// ---- Names -------------------------------------------------------------------------------------

// What the getaddrinfo below does for two names that no resolver knows.
constexpr std::string_view unknown_host = "unknown.invalid";
constexpr std::string_view slow_host = "slow.invalid";

struct SlowResolver {
    std::mutex mutex;
    std::condition_variable changed;
    bool is_released = false;
    int waiting = 0;
    sigset_t blocked_signals{};
};

SlowResolver& slow_resolver() {
    static SlowResolver resolver;
    return resolver;
}

// Makes slow_host hang as long as it lives, and waits for the threads that hang.
class HangingResolver {
  public:
    HangingResolver() {
        const std::lock_guard lock(slow_resolver().mutex);
        slow_resolver().is_released = false;
    }
    ~HangingResolver() {
        std::unique_lock lock(slow_resolver().mutex);
        slow_resolver().is_released = true;
        slow_resolver().changed.notify_all();
        slow_resolver().changed.wait_for(lock, patience,
                                         [] { return slow_resolver().waiting == 0; });
    }
    HangingResolver(const HangingResolver&) = delete;
    HangingResolver& operator=(const HangingResolver&) = delete;

    static bool has_waiting() {
        const std::lock_guard lock(slow_resolver().mutex);
        return slow_resolver().waiting > 0;
    }
};

int resolve_slowly() {
    SlowResolver& resolver = slow_resolver();
    std::unique_lock lock(resolver.mutex);
    pthread_sigmask(SIG_BLOCK, nullptr, &resolver.blocked_signals);
    ++resolver.waiting;
    resolver.changed.notify_all();
    resolver.changed.wait_for(lock, patience, [&] { return resolver.is_released; });
    --resolver.waiting;
    resolver.changed.notify_all();
    return EAI_AGAIN;
}

// ---- More scripts and ports --------------------------------------------------------------------

void hang(Connection& connection) {
    connection.hang();
}

// A port on which nobody listens: bound, so that nobody else gets it.
class RefusingPort {
  public:
    RefusingPort() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address = loopback(0);
        socklen_t size = sizeof address;
        auto* any_address = reinterpret_cast<sockaddr*>(&address);
        if (fd_ < 0 || bind(fd_, any_address, size) != 0 ||
            getsockname(fd_, any_address, &size) != 0) {
            fail_setup("no port");
        }
        port_ = ntohs(address.sin_port);
    }
    ~RefusingPort() { close(fd_); }
    RefusingPort(const RefusingPort&) = delete;
    RefusingPort& operator=(const RefusingPort&) = delete;
    std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/"; }

  private:
    int fd_;
    std::uint16_t port_ = 0;
};

// ---- Driving the client ------------------------------------------------------------------------

HttpJob get(const std::string& url, std::uint64_t id = 1) {
    HttpJob job;
    job.id = id;
    job.request.url = url;
    job.timeout_ms = 10'000;
    return job;
}

HttpJob post(const std::string& url, const std::string& body = R"({"refund_no":"p1-R1"})") {
    HttpJob job = get(url);
    job.request.method = HttpMethod::post;
    job.request.headers = {{"Content-Type", "application/json"}, {"Idempotency-Key", "p1-R1"}};
    job.request.body = body;
    return job;
}

class HttpClientTest : public testing::Test {
  protected:
    HttpClientTest() : client_(make_client()) {}

    static std::unique_ptr<HttpClient> make_client(const HttpClientLimits& limits = {}) {
        if (!HttpClient::init_process()) {
            fail_setup("no curl");
        }
        return std::make_unique<HttpClient>(limits);
    }

    // One turn of an owner's loop.
    void turn() {
        ++turns_;
        const int wait_ms = client_->timeout_ms();
        pollfd waited{client_->event_fd(), POLLIN, 0};
        poll(&waited, 1, wait_ms < 0 ? 1000 : std::min(wait_ms, 1000));
        client_->advance();
    }

    // Drives the client until it holds or patience ends.
    bool turn_until(const std::function<bool()>& holds) {
        const auto deadline = Clock::now() + patience;
        while (!holds()) {
            if (Clock::now() > deadline) {
                return false;
            }
            turn();
        }
        return true;
    }

    std::vector<HttpResult> collect(std::size_t count) {
        std::vector<HttpResult> results;
        const bool all = turn_until([&] {
            for (HttpResult& result : client_->take_finished()) {
                results.push_back(std::move(result));
            }
            return results.size() >= count;
        });
        EXPECT_TRUE(all) << "only " << results.size() << " of " << count << " answers";
        results.resize(count);
        return results;
    }

    core::HttpResponse run(HttpJob job) {
        EXPECT_TRUE(client_->submit(std::move(job)));
        return collect(1).front().response;
    }

    std::unique_ptr<HttpClient> client_;
    int turns_ = 0;
};

// A failure says why, in words that fit into any log and any column.
void expect_failure(const core::HttpResponse& response, Delivery delivery) {
    EXPECT_EQ(response.delivery, delivery) << response.error;
    EXPECT_EQ(response.body, "");
    EXPECT_TRUE(response.headers.empty());
    EXPECT_EQ(response.retry_after_s, std::nullopt);
    EXPECT_FALSE(response.error.empty());
    EXPECT_TRUE(std::all_of(response.error.begin(), response.error.end(), [](char c) {
        return c >= 0x20 && c < 0x7f;
    })) << response.error;
}

void expect_answer(const core::HttpResponse& response, int status, std::string_view body) {
    EXPECT_EQ(response.delivery, Delivery::answered) << response.error;
    EXPECT_EQ(response.status, status);
    EXPECT_EQ(response.body, body);
    EXPECT_EQ(response.error, "");
}

// ---- Answers -----------------------------------------------------------------------------------

TEST_F(HttpClientTest, ReturnsTheAnswer) {
    const Server server(answer_all("200 OK", R"({"status":"succeeded"})"));
    ASSERT_TRUE(client_->submit(get(server.url("/refunds/p1-R1"), 42)));
    const HttpResult result = collect(1).front();
    EXPECT_EQ(result.id, 42U);
    EXPECT_GT(result.duration_us, 0);
    expect_answer(result.response, 200, R"({"status":"succeeded"})");
}

TEST_F(HttpClientTest, ReturnsErrorsAsAnswers) {
    for (const char* status : {"400 Bad Request", "404 Not Found", "500 Internal Server Error"}) {
        const Server server(answer_all(status, "why"));
        expect_answer(run(get(server.url())), std::stoi(status), "why");
    }
}

TEST_F(HttpClientTest, ReturnsAnAnswerWithoutABody) {
    const Server server(answer_raw("HTTP/1.1 204 No Content\r\n\r\n"));
    expect_answer(run(get(server.url())), 204, "");
}

TEST_F(HttpClientTest, ReturnsAnAnswerInChunks) {
    const Server server(
        answer_raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "4\r\npaid\r\n3\r\nout\r\n0\r\n\r\n"));
    expect_answer(run(get(server.url())), 200, "paidout");
}

// Nothing tells whether such a body is whole. But its status is, and half an object is no JSON.
TEST_F(HttpClientTest, ReturnsAnAnswerThatTheEndOfTheConnectionEnds) {
    const Server server(answer_raw("HTTP/1.1 200 OK\r\nServer: old\r\n\r\n{}"));
    expect_answer(run(get(server.url())), 200, "{}");
}

TEST_F(HttpClientTest, PassesOverTrailers) {
    const Server server(
        answer_raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                   "2\r\nok\r\n0\r\nX-Sum: 1\r\nRetry-After: 5\r\n\r\n"));
    const core::HttpResponse response = run(get(server.url()));
    expect_answer(response, 200, "ok");
    EXPECT_EQ(response.retry_after_s, std::nullopt);
}

TEST_F(HttpClientTest, PassesOverInterimAnswers) {
    const Server server(
        answer_raw("HTTP/1.1 103 Early Hints\r\nRetry-After: 7\r\n\r\n"
                   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    const core::HttpResponse response = run(get(server.url()));
    expect_answer(response, 200, "ok");
    EXPECT_EQ(response.retry_after_s, std::nullopt);
}

// In brackets, so that a blank shows.
std::vector<std::string> header_lines(const core::HttpResponse& response) {
    std::vector<std::string> lines;
    for (const core::HttpHeader& header : response.headers) {
        std::string line = "[" + header.name;
        line += "][";
        line += header.value + "]";
        lines.push_back(line);
    }
    return lines;
}

using Lines = std::vector<std::string>;

// What a signature covers is in them: each as it came, and all of them.
TEST_F(HttpClientTest, ReturnsTheHeadersInTheirOrder) {
    const Server server(
        answer_raw("HTTP/1.1 404 Not Found\r\nWechatpay-Nonce: c5ac\r\nX-Twice: 1\r\n"
                   "wechatpay-SIGNATURE:\t ab+/: c==  \t\r\nX-Empty:\r\nX-Blank:   \r\n"
                   "x-twice:2\r\nX-Folded: a\r\n  b\r\nX-Bytes: \xe4\xbb\x98 \xff\r\n"
                   "Content-Length: 2\r\n\r\nok"));
    const core::HttpResponse response = run(post(server.url()));
    expect_answer(response, 404, "ok");
    EXPECT_EQ(header_lines(response),
              (Lines{"[Wechatpay-Nonce][c5ac]", "[X-Twice][1]", "[wechatpay-SIGNATURE][ab+/: c==]",
                     "[X-Empty][]", "[X-Blank][]", "[x-twice][2]", "[X-Folded][a b]",
                     "[X-Bytes][\xe4\xbb\x98 \xff]", "[Content-Length][2]"}));
}

TEST_F(HttpClientTest, ReturnsTheHeadersOfTheFinalAnswerAlone) {
    const Server server(
        answer_raw("HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\nX-Final: 0\r\n\r\n"
                   "HTTP/1.1 200 OK\r\nX-Final: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "2\r\nok\r\n0\r\nX-Late: 1\r\nX-Final: 2\r\n\r\n"));
    const core::HttpResponse response = run(get(server.url()));
    expect_answer(response, 200, "ok");
    EXPECT_EQ(header_lines(response), (Lines{"[X-Final][1]", "[Transfer-Encoding][chunked]"}));
}

TEST_F(HttpClientTest, ReturnsNoHeaderOfAnotherAnswer) {
    std::atomic<int> requests = 0;
    const Server server([&](Connection& connection) {
        while (connection.read_request()) {
            const std::string number = std::to_string(++requests);
            connection.answer("200 OK", "ok", "X-Number-" + number + ": " + number + "\r\n");
        }
    });
    for (const char* number : {"1", "2", "3"}) {
        const core::HttpResponse response = run(get(server.url()));
        EXPECT_EQ(header_lines(response),
                  (Lines{"[Content-Length][2]",
                         "[X-Number-" + std::string(number) + "][" + number + "]"}));
    }
    EXPECT_EQ(server.accepted(), 1);
    const Server bare(answer_raw("HTTP/1.1 200 OK\r\n\r\nok"));
    EXPECT_TRUE(run(get(bare.url())).headers.empty());
}

TEST_F(HttpClientTest, DoesNotFollowRedirects) {
    const Server target(answer_all("200 OK", "target"));
    const Server server(
        answer_all("302 Found", "moved", "Location: " + target.url("/elsewhere") + "\r\n"));
    expect_answer(run(post(server.url())), 302, "moved");
    EXPECT_EQ(target.accepted(), 0);
}

// ---- Requests ----------------------------------------------------------------------------------

// Sends the job to a server that answers 200, and returns what the server got.
class RequestTest : public HttpClientTest {
  protected:
    Received received(HttpJob job, const std::string& path = "/") {
        const Server server([&](Connection& connection) {
            while (auto request = connection.read_request()) {
                {
                    const std::lock_guard lock(mutex_);
                    received_ = std::move(*request);
                }
                connection.answer("200 OK", "");
            }
        });
        job.request.url = server.url(path);
        expect_answer(run(std::move(job)), 200, "");
        const std::lock_guard lock(mutex_);
        return std::exchange(received_, {});
    }

  private:
    std::mutex mutex_;
    Received received_;
};

TEST_F(RequestTest, PostSendsItsHeadersAndExactBytes) {
    const std::string body("{\"a\": \"\0\r\n\xe9\"}", 12);
    const Received request = received(post("", body), "/refunds");
    EXPECT_EQ(request.start_line, "POST /refunds HTTP/1.1");
    EXPECT_EQ(request.body, body);
    EXPECT_EQ(request.headers.at("content-type"), "application/json");
    EXPECT_EQ(request.headers.at("idempotency-key"), "p1-R1");
    EXPECT_EQ(request.headers.at("user-agent"), "payonce/1.0");
    EXPECT_EQ(request.headers.count("expect"), 0U);
    EXPECT_EQ(request.headers.count("accept-encoding"), 0U);
}

TEST_F(RequestTest, PostMayBeEmpty) {
    const Received request = received(post("", ""));
    EXPECT_EQ(request.headers.at("content-length"), "0");
    EXPECT_EQ(request.body, "");
}

TEST_F(RequestTest, PostMayBeLong) {
    const std::string body(3'000'000, 'x');
    const Received request = received(post("", body));
    EXPECT_TRUE(request.body == body);
    EXPECT_EQ(request.headers.count("expect"), 0U);
}

TEST_F(RequestTest, GetAfterPostHasNoBody) {
    received(post("", "first"));
    const Received request = received(get(""));
    EXPECT_EQ(request.start_line, "GET / HTTP/1.1");
    EXPECT_EQ(request.headers.count("content-length"), 0U);
    EXPECT_EQ(request.headers.count("content-type"), 0U);
    EXPECT_EQ(request.headers.count("idempotency-key"), 0U);
    EXPECT_EQ(request.body, "");
}

TEST_F(RequestTest, PathIsSentAsItIs) {
    EXPECT_EQ(received(get(""), "/a/../b/./c%7e?x=1|2").start_line,
              "GET /a/../b/./c%7e?x=1|2 HTTP/1.1");
}

TEST_F(RequestTest, HeaderMayBeEmpty) {
    HttpJob job = get("");
    job.request.headers = {{"X-Empty", ""}, {"X-Blank", " \t"}, {"X-Full", "v"}};
    const Received request = received(job);
    EXPECT_EQ(request.headers.at("x-empty"), "");
    EXPECT_EQ(request.headers.at("x-blank"), "");
    EXPECT_EQ(request.headers.at("x-full"), "v");
}

TEST_F(HttpClientTest, RefusesHeadersThatWouldBreakTheRequest) {
    const Server server(answer_all("200 OK", ""));
    const core::HttpHeader bad_headers[] = {
        {"Authorization", "Bearer hush\r\nX-Injected: 1"},
        {"Authorization", "Bearer hush\n"},
        {"Authorization", std::string("hush\0", 5)},
        {"X-Name\r\nX-Injected", "hush"},
        {"X Name", "hush"},
        {"X-Name:", "hush"},
        {"", "hush"},
    };
    for (const core::HttpHeader& header : bad_headers) {
        HttpJob job = get(server.url());
        job.request.headers = {header};
        const core::HttpResponse response = run(job);
        expect_failure(response, Delivery::not_sent);
        EXPECT_EQ(response.error.find("hush"), std::string::npos) << response.error;
    }
    EXPECT_EQ(server.accepted(), 0);
}

TEST_F(HttpClientTest, RefusesUrlsThatItCannotSend) {
    const Server server(answer_all("200 OK", ""));
    const std::string good = server.url();
    const std::string bad_urls[] = {
        "",
        "/refunds",
        "http://",
        "http://127.0.0.1:99999/",
        "ftp://127.0.0.1/",
        "file:///etc/hostname",
        good + "a b",
        good + "\r\nX-Injected: 1",
        good + std::string("\0.evil.example", 14),
        good + "\xc3\xa9",
        "http://user:hush@" + good.substr(7),
        good + std::string(8'100'000, 'x'),
    };
    for (const std::string& url : bad_urls) {
        const core::HttpResponse response = run(get(url));
        expect_failure(response, Delivery::not_sent);
        EXPECT_EQ(response.status, 0);
        EXPECT_EQ(response.error.find("hush"), std::string::npos) << response.error;
        EXPECT_LT(response.error.size(), 300U);
    }
    EXPECT_EQ(server.accepted(), 0);
    expect_answer(run(get(good)), 200, "");
}

TEST_F(HttpClientTest, RefusesARequestWithoutTime) {
    const Server server(answer_all("200 OK", ""));
    for (const int timeout_ms : {0, -1}) {
        HttpJob job = get(server.url());
        job.timeout_ms = timeout_ms;
        expect_failure(run(job), Delivery::not_sent);
    }
    EXPECT_EQ(server.accepted(), 0);
}

TEST_F(HttpClientTest, IgnoresProxiesOfTheEnvironment) {
    const RefusingPort proxy;
    const char* names[] = {"http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"};
    for (const char* name : names) {
        setenv(name, proxy.url().c_str(), 1);
    }
    const Identity identity("IP:127.0.0.1");
    const Server plain(answer_all("200 OK", "direct"));
    const Server secure(answer_all("200 OK", "direct"), &identity);
    const core::HttpResponse plain_response = run(get(plain.url()));
    HttpJob secure_job = get(secure.url());
    secure_job.ca_file = identity.file();
    const core::HttpResponse secure_response = run(secure_job);
    for (const char* name : names) {
        unsetenv(name);
    }
    expect_answer(plain_response, 200, "direct");
    expect_answer(secure_response, 200, "direct");
}

// ---- Certainly not sent ------------------------------------------------------------------------

TEST_F(HttpClientTest, ConnectionRefusedIsNotSent) {
    const RefusingPort port;
    const core::HttpResponse response = run(post(port.url()));
    expect_failure(response, Delivery::not_sent);
    EXPECT_EQ(response.status, 0);
}

TEST_F(HttpClientTest, UnknownHostIsNotSent) {
    expect_failure(run(post("http://" + std::string(unknown_host) + "/")), Delivery::not_sent);
}

TEST_F(HttpClientTest, TimeoutWhileResolvingIsNotSentAndDelaysNobody) {
    const HangingResolver resolver;
    const Server server(answer_all("200 OK", "ok"));
    HttpJob slow = post("http://" + std::string(slow_host) + "/");
    slow.timeout_ms = 100;
    const auto start = Clock::now();
    expect_failure(run(slow), Delivery::not_sent);
    expect_answer(run(get(server.url())), 200, "ok");
    EXPECT_LT(Clock::now() - start, patience / 2);
    EXPECT_TRUE(HangingResolver::has_waiting());
}

TEST_F(HttpClientTest, ResolverThreadsRunWithSignalsBlocked) {
    sigset_t before;
    sigset_t after;
    pthread_sigmask(SIG_BLOCK, nullptr, &before);
    {
        const HangingResolver resolver;
        ASSERT_TRUE(client_->submit(get("http://" + std::string(slow_host) + "/")));
        ASSERT_TRUE(turn_until([] { return HangingResolver::has_waiting(); }));
        const std::lock_guard lock(slow_resolver().mutex);
        for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGALRM, SIGCHLD}) {
            EXPECT_EQ(sigismember(&slow_resolver().blocked_signals, signal), 1) << signal;
        }
        EXPECT_EQ(sigismember(&slow_resolver().blocked_signals, SIGSEGV), 0);
    }
    pthread_sigmask(SIG_BLOCK, nullptr, &after);
    for (int signal = 1; signal < SIGRTMIN; ++signal) {
        EXPECT_EQ(sigismember(&after, signal), sigismember(&before, signal)) << signal;
    }
}

// ---- TLS ---------------------------------------------------------------------------------------

TEST_F(HttpClientTest, TrustsTheAuthoritiesOfItsFile) {
    const Identity identity("IP:127.0.0.1");
    const Server server(answer_all("200 OK", "ok"), &identity);
    HttpJob job = post(server.url());
    job.ca_file = identity.file();
    expect_answer(run(job), 200, "ok");
    expect_answer(run(job), 200, "ok");
    EXPECT_EQ(server.accepted(), 1);
}

TEST_F(HttpClientTest, UntrustedCertificateIsNotSent) {
    const Identity identity("IP:127.0.0.1");
    const Server server(answer_all("200 OK", "ok"), &identity);
    expect_failure(run(post(server.url())), Delivery::not_sent);
}

TEST_F(HttpClientTest, CertificateOfAnotherAuthorityIsNotSent) {
    const Identity identity("IP:127.0.0.1");
    const Identity other("IP:127.0.0.1");
    const Server server(answer_all("200 OK", "ok"), &identity);
    HttpJob job = post(server.url());
    job.ca_file = other.file();
    expect_failure(run(job), Delivery::not_sent);
}

TEST_F(HttpClientTest, CertificateOfAnotherHostIsNotSent) {
    const Identity identity("DNS:gateway.example");
    const Server server(answer_all("200 OK", "ok"), &identity);
    HttpJob job = post(server.url());
    job.ca_file = identity.file();
    expect_failure(run(job), Delivery::not_sent);
}

TEST_F(HttpClientTest, MissingAuthoritiesAreNotSent) {
    const Identity identity("IP:127.0.0.1");
    const Server server(answer_all("200 OK", "ok"), &identity);
    HttpJob job = post(server.url());
    job.ca_file = identity.file() + ".missing";
    expect_failure(run(job), Delivery::not_sent);
}

// Neither the handle that is used again nor the connection that was kept lends its trust.
TEST_F(HttpClientTest, TrustEndsWithTheJob) {
    const Identity identity("IP:127.0.0.1");
    const Server server(answer_all("200 OK", "ok"), &identity);
    HttpJob trusting = post(server.url());
    trusting.ca_file = identity.file();
    expect_answer(run(trusting), 200, "ok");
    expect_failure(run(post(server.url())), Delivery::not_sent);
    expect_answer(run(trusting), 200, "ok");
}

TEST_F(HttpClientTest, PlainServerBehindHttpsIsNotSent) {
    const Server server([](Connection& connection) {
        connection.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        connection.hang();
    });
    expect_failure(run(post("https" + server.url().substr(4))), Delivery::not_sent);
}

TEST_F(HttpClientTest, ConnectionThatEndsInTheHandshakeIsNotSent) {
    const Server server([](Connection& connection) { connection.reset(); });
    expect_failure(run(post("https" + server.url().substr(4))), Delivery::not_sent);
}

TEST_F(HttpClientTest, TimeoutInTheHandshakeIsNotSent) {
    const Server server(hang);
    HttpJob job = post("https" + server.url().substr(4));
    job.timeout_ms = 200;
    expect_failure(run(job), Delivery::not_sent);
    // The kernel takes the connection; the server's thread may come to know of it later.
    EXPECT_TRUE(turn_until([&] { return server.accepted() == 1; }));
}

TEST_F(HttpClientTest, TlsConnectionThatEndsInTheBodyIsUncertain) {
    const Identity identity("IP:127.0.0.1");
    const Server server(answer_raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), &identity);
    HttpJob job = post(server.url());
    job.ca_file = identity.file();
    expect_failure(run(job), Delivery::uncertain);
}

// ---- Uncertain ---------------------------------------------------------------------------------

TEST_F(HttpClientTest, TimeoutBeforeTheAnswerIsUncertain) {
    const Server server(hang);
    HttpJob job = post(server.url());
    job.timeout_ms = 300;
    const auto start = Clock::now();
    const core::HttpResponse response = run(job);
    expect_failure(response, Delivery::uncertain);
    EXPECT_EQ(response.status, 0);
    EXPECT_GE(Clock::now() - start, 300ms);
    // Waiting is not spinning.
    EXPECT_LT(turns_, 50);
}

TEST_F(HttpClientTest, TrickleIsEndedByTheTimeout) {
    const Server server([](Connection& connection) {
        connection.read_request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        while (connection.send("x")) {
            pollfd nothing{-1, 0, 0};
            poll(&nothing, 1, 5);
        }
    });
    HttpJob job = post(server.url());
    job.timeout_ms = 300;
    const core::HttpResponse response = run(job);
    expect_failure(response, Delivery::uncertain);
    EXPECT_EQ(response.status, 200);
}

TEST_F(HttpClientTest, ConnectionThatEndsWithoutAnAnswerIsUncertain) {
    const Server closing([](Connection& connection) { connection.read_request(); });
    expect_failure(run(post(closing.url())), Delivery::uncertain);
    const Server resetting([](Connection& connection) {
        connection.read_request();
        connection.reset();
    });
    expect_failure(run(post(resetting.url())), Delivery::uncertain);
}

TEST_F(HttpClientTest, ConnectionThatEndsWhileTheRequestIsSentIsUncertain) {
    const Server server([](Connection& connection) {
        connection.read_some();
        connection.reset();
    });
    expect_failure(run(post(server.url(), std::string(8'000'000, 'x'))), Delivery::uncertain);
}

struct BrokenAnswer {
    const char* name;
    std::string bytes;
    int status;
};

void PrintTo(const BrokenAnswer& answer, std::ostream* out) {
    *out << answer.name;
}

class BrokenAnswerTest : public HttpClientTest, public testing::WithParamInterface<BrokenAnswer> {};

TEST_P(BrokenAnswerTest, IsUncertain) {
    const Server server(answer_raw(GetParam().bytes));
    const core::HttpResponse response = run(post(server.url()));
    expect_failure(response, Delivery::uncertain);
    EXPECT_EQ(response.status, GetParam().status);
}

std::string many_headers() {
    std::string bytes = "HTTP/1.1 200 OK\r\n";
    for (int i = 0; i < 20'000; ++i) {
        bytes += "X-Header-" + std::to_string(i) + ": " + std::string(80, 'x') + "\r\n";
    }
    return bytes + "Content-Length: 2\r\n\r\nok";
}

const std::string chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const BrokenAnswer broken_answers[] = {
    {"status_line_only", "HTTP/1.1 200 OK\r\n", 200},
    {"half_a_header", "HTTP/1.1 404 Not Found\r\nContent-Le", 404},
    {"headers_without_an_end", "HTTP/1.1 404 Not Found\r\nServer: x\r\n", 404},
    {"interim_answer_and_half_a_head", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n", 200},
    {"half_a_status_line", "HTTP/1.1 2", 0},
    {"headers_only", "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 10\r\n\r\n", 502},
    {"half_a_body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", 200},
    {"half_a_chunk", chunked + "a\r\nhalf", 200},
    {"no_last_chunk", chunked + "4\r\nhalf\r\n", 200},
    {"bad_chunk_size", chunked + "zz\r\nhalf\r\n0\r\n\r\n", 200},
    {"interim_answer_only", "HTTP/1.1 103 Early Hints\r\n\r\n", 103},
    {"garbage", "\x01\xff\xfe garbage\r\n\r\n", 0},
    {"http_0_9", R"({"status":"succeeded"})", 0},
    {"other_protocol", "SSH-2.0-OpenSSH_9.2\r\n", 0},
    {"bad_length", "HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n0123456789", 200},
    {"too_many_headers", many_headers(), 200},
};
INSTANTIATE_TEST_SUITE_P(All, BrokenAnswerTest, testing::ValuesIn(broken_answers),
                         [](const auto& param_info) { return param_info.param.name; });

TEST_F(HttpClientTest, BoundsTheAnswer) {
    HttpClientLimits limits;
    limits.max_response_bytes = 1000;
    client_ = make_client(limits);
    const Server longest(answer_all("200 OK", std::string(1000, 'x')));
    expect_answer(run(get(longest.url())), 200, std::string(1000, 'x'));
    const Server too_long(answer_all("200 OK", std::string(1001, 'x')));
    const core::HttpResponse response = run(get(too_long.url()));
    expect_failure(response, Delivery::uncertain);
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.error, "the answer is longer than 1000 bytes");
}

std::string numbered_headers(int count) {
    std::string lines;
    for (int i = 0; i < count; ++i) {
        lines += "X-" + std::to_string(i) + ": " + std::to_string(i) + "\r\n";
    }
    return lines;
}

void expect_endless_head(const core::HttpResponse& response) {
    expect_failure(response, Delivery::uncertain);
    EXPECT_EQ(response.error, "the answer's headers are more than 100 lines or 65536 bytes");
}

TEST_F(HttpClientTest, BoundsTheLinesOfHeaders) {
    // Content-Length is one of them.
    const Server most(answer_all("200 OK", "ok", numbered_headers(99)));
    for (int i = 0; i < 3; ++i) {
        const core::HttpResponse response = run(get(most.url()));
        expect_answer(response, 200, "ok");
        EXPECT_EQ(response.headers.size(), 100U);
    }
    const Server too_many(answer_all("200 OK", "ok", numbered_headers(100)));
    const core::HttpResponse response = run(post(too_many.url()));
    expect_endless_head(response);
    EXPECT_EQ(response.status, 200);
    expect_answer(run(get(most.url())), 200, "ok");
    // Those of trailers too.
    const Server trailing(
        answer_raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" +
                   numbered_headers(100) + "\r\n"));
    expect_endless_head(run(post(trailing.url())));
}

TEST_F(HttpClientTest, BoundsTheBytesOfHeaders) {
    const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Long: ";
    const std::string value(65536 - head.size() - 4, 'x');
    const Server longest(answer_raw(head + value + "\r\n\r\nok"));
    const core::HttpResponse response = run(get(longest.url()));
    expect_answer(response, 200, "ok");
    ASSERT_EQ(response.headers.size(), 2U);
    EXPECT_EQ(response.headers[1].value, value);
    const Server too_long(answer_raw(head + value + "x\r\n\r\nok"));
    expect_endless_head(run(post(too_long.url())));
}

TEST_F(HttpClientTest, EndsEndlessInterimAnswers) {
    for (const char* interim :
         {"HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nX-A: 1\r\n\r\n"}) {
        const Server server([&](Connection& connection) {
            connection.read_request();
            while (connection.send(interim)) {
            }
        });
        expect_endless_head(run(post(server.url())));
    }
}

TEST_F(HttpClientTest, EndsAnEndlessAnswer) {
    const Server server([](Connection& connection) {
        connection.read_request();
        connection.send("HTTP/1.1 200 OK\r\n\r\n");
        while (connection.send(std::string(10'000, 'x'))) {
        }
    });
    expect_failure(run(get(server.url())), Delivery::uncertain);
}

// ---- Kept connections --------------------------------------------------------------------------

TEST_F(HttpClientTest, KeepsItsConnection) {
    const Server server(answer_all("200 OK", "ok"));
    for (int i = 0; i < 3; ++i) {
        expect_answer(run(i == 1 ? get(server.url()) : post(server.url())), 200, "ok");
    }
    EXPECT_EQ(server.accepted(), 1);
}

// Answers a connection's first request; `last` decides what becomes of the second.
Server::Script answer_once_then(std::function<void(Connection&)> last, std::atomic<int>& requests) {
    return [last = std::move(last), &requests](Connection& connection) {
        while (connection.read_request()) {
            if (++requests == 2) {
                last(connection);
                return;
            }
            connection.answer("200 OK", "ok");
        }
    };
}

// libcurl answers the closed connection with a new attempt, which is refused: the last error says
// that no connection was made, and yet the request was read.
TEST_F(HttpClientTest, RefusalAfterAKeptConnectionDiedIsUncertain) {
    for (const HttpMethod method : {HttpMethod::get, HttpMethod::post}) {
        std::atomic<int> requests = 0;
        std::atomic<const Server*> self = nullptr;
        const Server server(
            answer_once_then([&](Connection&) { self.load()->stop_listening(); }, requests));
        self = &server;
        HttpJob job = post(server.url());
        job.request.method = method;
        expect_answer(run(job), 200, "ok");
        const core::HttpResponse response = run(job);
        expect_failure(response, Delivery::uncertain);
        EXPECT_EQ(response.status, 0);
        EXPECT_EQ(requests, 2);
        EXPECT_EQ(server.accepted(), 1);
    }
}

TEST_F(HttpClientTest, NothingIsSentTwice) {
    for (const HttpMethod method : {HttpMethod::get, HttpMethod::post}) {
        for (const bool is_reset : {false, true}) {
            std::atomic<int> requests = 0;
            const Server server(answer_once_then(
                [&](Connection& connection) { is_reset ? connection.reset() : connection.close(); },
                requests));
            HttpJob job = post(server.url());
            job.request.method = method;
            expect_answer(run(job), 200, "ok");
            expect_failure(run(job), Delivery::uncertain);
            EXPECT_EQ(requests, 2);
            // The handle that gave up serves again.
            expect_answer(run(job), 200, "ok");
            EXPECT_EQ(requests, 3);
        }
    }
}

// A connection that was closed while nobody used it is seen to be dead, not written to.
TEST_F(HttpClientTest, ConnectionClosedWhileIdleIsReplaced) {
    Gate closed;
    const Server server([&](Connection& connection) {
        connection.read_request();
        connection.answer("200 OK", "ok");
        if (connection.number() == 1) {
            connection.close();
            closed.open();
        }
        connection.hang();
    });
    expect_answer(run(post(server.url())), 200, "ok");
    ASSERT_TRUE(closed.wait());
    expect_answer(run(post(server.url())), 200, "ok");
    EXPECT_EQ(server.accepted(), 2);
}

TEST_F(HttpClientTest, ConnectionClosedWhileIdleWakesNobody) {
    Gate closed;
    const Server server([&](Connection& connection) {
        connection.read_request();
        connection.answer("200 OK", "ok");
        connection.close();
        closed.open();
    });
    expect_answer(run(post(server.url())), 200, "ok");
    ASSERT_TRUE(closed.wait());
    pollfd waited{client_->event_fd(), POLLIN, 0};
    EXPECT_EQ(poll(&waited, 1, 100), 0);
}

TEST_F(HttpClientTest, KeepsNoMoreConnectionsThanItMay) {
    HttpClientLimits limits;
    limits.max_kept_connections = 2;
    client_ = make_client(limits);
    constexpr int count = 5;
    std::atomic<int> asked = 0;
    std::atomic<int> closed = 0;
    Gate all_asked;
    const Server server([&](Connection& connection) {
        connection.read_request();
        if (++asked == count) {
            all_asked.open();
        }
        if (all_asked.wait()) {
            connection.answer("200 OK", "ok");
        }
        connection.hang();
        ++closed;
    });
    for (std::uint64_t id = 0; id < count; ++id) {
        ASSERT_TRUE(client_->submit(get(server.url(), id)));
    }
    for (const HttpResult& result : collect(count)) {
        expect_answer(result.response, 200, "ok");
    }
    EXPECT_TRUE(turn_until([&] { return closed == count - 2; }));
}

// Also one that is never idle: only a new connection finds a gateway that has moved.
TEST_F(HttpClientTest, RenewsAnOldConnection) {
    HttpClientLimits limits;
    limits.max_connection_age_s = 1;
    client_ = make_client(limits);
    const Server server(answer_all("200 OK", "ok"));
    const auto deadline = Clock::now() + patience;
    while (server.accepted() < 2 && Clock::now() < deadline) {
        expect_answer(run(get(server.url())), 200, "ok");
        poll(nullptr, 0, 20);
    }
    EXPECT_EQ(server.accepted(), 2);
}

// Each connection's socket takes the number of the one closed before it.
TEST_F(HttpClientTest, SocketNumbersAreUsedAgain) {
    const Server server([](Connection& connection) {
        connection.read_request();
        connection.answer("200 OK", std::to_string(connection.number()), "Connection: close\r\n");
    });
    for (int i = 1; i <= 50; ++i) {
        expect_answer(run(post(server.url())), 200, std::to_string(i));
    }
    for (std::uint64_t id = 0; id < 50; ++id) {
        ASSERT_TRUE(client_->submit(get(server.url(), id)));
    }
    for (const HttpResult& result : collect(50)) {
        EXPECT_EQ(result.response.delivery, Delivery::answered) << result.response.error;
    }
    EXPECT_EQ(server.accepted(), 100);
}

// A handle that is used again remembers nothing of its last request.
TEST_F(HttpClientTest, FailureAfterAnAnswerHasNoTraceOfIt) {
    const Server server(answer_all("503 Busy", "wait", "Retry-After: 5\r\n"));
    const Server dropping([](Connection& connection) { connection.read_request(); });
    const RefusingPort port;
    expect_answer(run(get(server.url())), 503, "wait");
    const core::HttpResponse dropped = run(post(dropping.url()));
    expect_failure(dropped, Delivery::uncertain);
    EXPECT_EQ(dropped.status, 0);
    const core::HttpResponse refused = run(post(port.url()));
    expect_failure(refused, Delivery::not_sent);
    EXPECT_EQ(refused.status, 0);
    expect_answer(run(get(server.url())), 503, "wait");
}

// ---- Many at a time ----------------------------------------------------------------------------

// Answers nobody before all have asked.
TEST_F(HttpClientTest, HasAHundredInFlight) {
    constexpr int count = 100;
    std::atomic<int> asked = 0;
    Gate all_asked;
    const Server server([&](Connection& connection) {
        const auto request = connection.read_request();
        if (++asked == count) {
            all_asked.open();
        }
        if (request && all_asked.wait()) {
            connection.answer("200 OK", request->body);
        }
    });
    for (std::uint64_t id = 0; id < count; ++id) {
        HttpJob job = post(server.url(), std::to_string(id));
        job.id = id;
        ASSERT_TRUE(client_->submit(std::move(job)));
    }
    EXPECT_EQ(client_->in_flight(), std::size_t{count});
    std::vector<bool> seen(count, false);
    for (const HttpResult& result : collect(count)) {
        expect_answer(result.response, 200, std::to_string(result.id));
        EXPECT_FALSE(seen.at(result.id));
        seen.at(result.id) = true;
    }
    EXPECT_EQ(client_->in_flight(), 0U);
    EXPECT_EQ(server.accepted(), count);
}

TEST_F(HttpClientTest, HangingServerDelaysNobody) {
    const Server hanging(hang);
    const Server server(answer_all("200 OK", "ok"));
    HttpJob stuck = post(hanging.url());
    stuck.id = 99;
    ASSERT_TRUE(client_->submit(stuck));
    for (int i = 0; i < 20; ++i) {
        ASSERT_TRUE(client_->submit(get(server.url())));
    }
    for (const HttpResult& result : collect(20)) {
        EXPECT_EQ(result.id, 1U);
        expect_answer(result.response, 200, "ok");
    }
    EXPECT_EQ(client_->in_flight(), 1U);
}

TEST_F(HttpClientTest, CountsWhatIsInFlight) {
    const Server server(answer_all("200 OK", "ok"));
    EXPECT_EQ(client_->in_flight(), 0U);
    ASSERT_TRUE(client_->submit(get(server.url(), 1)));
    ASSERT_TRUE(client_->submit(get(server.url(), 2)));
    EXPECT_EQ(client_->in_flight(), 2U);
    HttpJob unsendable = get("");
    unsendable.timeout_ms = 0;
    ASSERT_TRUE(client_->submit(unsendable));
    EXPECT_EQ(client_->in_flight(), 2U);
    ASSERT_TRUE(turn_until([&] { return client_->in_flight() == 0; }));
    EXPECT_EQ(client_->take_finished().size(), 3U);
    EXPECT_TRUE(client_->take_finished().empty());
}

// ---- Waiting -----------------------------------------------------------------------------------

TEST_F(HttpClientTest, SaysHowLongToWait) {
    EXPECT_EQ(client_->timeout_ms(), -1);
    Gate asked;
    Gate released;
    const Server server([&](Connection& connection) {
        connection.read_request();
        asked.open();
        if (released.wait()) {
            connection.answer("200 OK", "ok");
        }
        connection.hang();
    });
    ASSERT_TRUE(client_->submit(post(server.url())));
    EXPECT_EQ(client_->timeout_ms(), 0);
    ASSERT_TRUE(turn_until([&] { return server.accepted() == 1; }));
    client_->advance();
    ASSERT_TRUE(asked.wait());
    // Whatever curl wanted to be called for at once is done; what is left is the job's timeout.
    ASSERT_TRUE(turn_until([&] { return client_->timeout_ms() > 100; }));
    EXPECT_LE(client_->timeout_ms(), 10'000);
    pollfd waited{client_->event_fd(), POLLIN, 0};
    EXPECT_EQ(poll(&waited, 1, 0), 0);

    released.open();
    EXPECT_EQ(poll(&waited, 1, 10'000), 1);
    ASSERT_TRUE(turn_until([&] { return client_->in_flight() == 0; }));
    // The owner must not sleep on an answer that is ready.
    EXPECT_EQ(client_->timeout_ms(), 0);
    EXPECT_EQ(client_->take_finished().size(), 1U);
    EXPECT_EQ(client_->timeout_ms(), -1);
    EXPECT_EQ(poll(&waited, 1, 0), 0);
}

TEST_F(HttpClientTest, AdvanceWithoutWorkDoesNothing) {
    client_->advance();
    EXPECT_TRUE(client_->take_finished().empty());
    EXPECT_EQ(client_->timeout_ms(), -1);
}

// ---- Retry-After -------------------------------------------------------------------------------

std::string http_date(std::time_t time, const char* format) {
    std::tm parts{};
    gmtime_r(&time, &parts);
    char text[64];
    return {text, std::strftime(text, sizeof text, format, &parts)};
}

class RetryAfterTest : public HttpClientTest {
  protected:
    std::optional<std::int64_t> retry_after(const std::string& headers) {
        const Server server(answer_all("429 Too Many Requests", "slow down", headers));
        const core::HttpResponse response = run(post(server.url()));
        expect_answer(response, 429, "slow down");
        return response.retry_after_s;
    }
};

TEST_F(RetryAfterTest, ReadsSeconds) {
    EXPECT_EQ(retry_after("Retry-After: 120\r\n"), 120);
    EXPECT_EQ(retry_after("retry-after:   0  \r\n"), 0);
    EXPECT_GT(retry_after("Retry-After: 99999999999999999999\r\n"), 1'000'000'000);
}

TEST_F(RetryAfterTest, ReadsDates) {
    // The form of today, and the two that a recipient must still accept.
    for (const char* format :
         {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"}) {
        const std::string date = http_date(std::time(nullptr) + 3600, format);
        const auto seconds = retry_after("Retry-After: " + date + "\r\n");
        ASSERT_TRUE(seconds) << date;
        EXPECT_LE(*seconds, 3600);
        EXPECT_GE(*seconds, 3500);
    }
    EXPECT_EQ(retry_after("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), 0);
}

TEST_F(RetryAfterTest, IsUnsetWhenAbsentOrUnreadable) {
    EXPECT_EQ(retry_after(""), std::nullopt);
    for (const char* value :
         {"", "soon", "-5", "1.5", "5 minutes", "0x10", "12:00", "Sun, 99 Foo"}) {
        EXPECT_EQ(retry_after("Retry-After: " + std::string(value) + "\r\n"), std::nullopt)
            << value;
    }
}

// ---- Secrets -----------------------------------------------------------------------------------

// A server that sends back what it got, in every place that an error might quote.
TEST_F(HttpClientTest, ErrorsDoNotQuoteTheRequest) {
    const std::string echoes[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: hush\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: hush\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhush\r\n",
        "HTTP/1.1 hush hush\r\n\r\n",
        "HTTP/hush 200 OK\r\n\r\n",
        "hush\r\n\r\n",
        "HTTP/1.1 200 OK\r\nhush\r\nContent-Length: 10\r\n\r\nhush",
    };
    for (const std::string& echo : echoes) {
        const Server server(answer_raw(echo));
        HttpJob job = post(server.url("/pay/hush"), "hush");
        job.request.headers.push_back({"Authorization", "Bearer hush"});
        const core::HttpResponse response = run(job);
        EXPECT_NE(response.delivery, Delivery::not_sent) << echo;
        EXPECT_EQ(response.error.find("hush"), std::string::npos) << response.error;
    }
    const RefusingPort port;
    HttpJob job = post(port.url() + "pay/hush", "hush");
    job.request.headers.push_back({"Authorization", "Bearer hush"});
    EXPECT_EQ(run(job).error.find("hush"), std::string::npos);
}

// ---- The end -----------------------------------------------------------------------------------

TEST_F(HttpClientTest, EndsWithoutWaitingForAGateway) {
    const Server server(hang);
    const Identity identity("IP:127.0.0.1");
    const Server secure(hang, &identity);
    HttpJob secure_job = post(secure.url());
    secure_job.ca_file = identity.file();
    ASSERT_TRUE(client_->submit(post(server.url())));
    ASSERT_TRUE(client_->submit(secure_job));
    ASSERT_TRUE(client_->submit(post("https" + server.url().substr(4))));
    ASSERT_TRUE(turn_until([&] { return server.accepted() == 2 && secure.accepted() == 1; }));
    const auto start = Clock::now();
    client_.reset();
    EXPECT_LT(Clock::now() - start, 2s);
}

TEST_F(HttpClientTest, EndsWithoutWaitingForAResolver) {
    const HangingResolver resolver;
    ASSERT_TRUE(client_->submit(post("http://" + std::string(slow_host) + "/")));
    ASSERT_TRUE(turn_until([] { return HangingResolver::has_waiting(); }));
    const auto start = Clock::now();
    client_.reset();
    EXPECT_LT(Clock::now() - start, 2s);
    EXPECT_TRUE(HangingResolver::has_waiting());
}

TEST_F(HttpClientTest, EndsWithAnswersThatNobodyTook) {
    const Server server(answer_all("200 OK", "ok"));
    ASSERT_TRUE(client_->submit(get(server.url())));
    ASSERT_TRUE(turn_until([&] { return client_->in_flight() == 0; }));
    client_.reset();
}

}  // namespace
}  // namespace payonce::net

// Stands before libc's for the whole test binary, libcurl included: without a network a real
// resolver takes its time, and none hangs on demand. Every other name goes to libc.
extern "C" int getaddrinfo(const char* host, const char* service, const addrinfo* hints,
                           addrinfo** found) {
    using Resolver = int (*)(const char*, const char*, const addrinfo*, addrinfo**);
    static const auto libc = reinterpret_cast<Resolver>(dlsym(RTLD_NEXT, "getaddrinfo"));
    if (host != nullptr && host == payonce::net::unknown_host) {
        return EAI_NONAME;
    }
    if (host != nullptr && host == payonce::net::slow_host) {
        return payonce::net::resolve_slowly();
    }
    return libc(host, service, hints, found);
}
