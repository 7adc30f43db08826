// A bare HTTP client: one thread, libcurl's multi_socket interface and epoll, and nothing else. It
// sends the same request as payonce's generic driver, again and again, and counts the answers: what
// is left for a worker that also has to claim and to record.
//
//     bench_curl_multi URL IN_FLIGHT SECONDS
//
// prints requests a second. The first tenth of the time is warm-up.
#include <curl/curl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr int max_events = 256;

[[noreturn]] void die(const char* what) {
    std::fprintf(stderr, "bench_curl_multi: %s\n", what);
    std::exit(1);
}

struct Request {
    CURL* easy = nullptr;
    curl_slist* headers = nullptr;
    std::string body;
    std::string answer;
};

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
    static_cast<Request*>(user)->answer.append(data, size * count);
    return size * count;
}

class Client {
  public:
    Client(std::string url, std::size_t in_flight) : url_(std::move(url)), requests_(in_flight) {
        curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, on_socket);
        curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
        curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, on_timer);
        curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
        curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, static_cast<long>(in_flight));
        for (Request& request : requests_) {
            request.easy = curl_easy_init();
            start(request);
        }
    }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client() {
        for (Request& request : requests_) {
            curl_multi_remove_handle(multi_, request.easy);
            curl_easy_cleanup(request.easy);
            curl_slist_free_all(request.headers);
        }
        curl_multi_cleanup(multi_);
        close(epoll_);
    }

    std::uint64_t answers() const { return answers_; }

    void run_until(Clock::time_point end) {
        std::array<epoll_event, max_events> events{};
        while (Clock::now() < end) {
            const int ready = epoll_wait(epoll_, events.data(), max_events, wait_ms());
            int running = 0;
            for (int i = 0; i < ready; ++i) {
                const epoll_event& event = events[static_cast<std::size_t>(i)];
                const int action = ((event.events & EPOLLIN) != 0 ? CURL_CSELECT_IN : 0) |
                                   ((event.events & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0);
                curl_multi_socket_action(multi_, event.data.fd, action, &running);
            }
            if (timer_is_set_ && Clock::now() >= timer_) {
                timer_is_set_ = false;
                curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
            }
            take_answers();
        }
    }

  private:
    void start(Request& request) {
        const std::string number = "bench-" + std::to_string(++started_) + "-R1";
        request.body =
            R"({"amount":3200,"currency":"CNY","order_id":"bench","payment_id":"bench-)" +
            std::to_string(started_) + R"(","reason":"duplicate","refund_no":")" + number +
            R"(","transaction_id":null})";
        request.answer.clear();
        curl_slist_free_all(request.headers);
        request.headers = curl_slist_append(nullptr, "Content-Type: application/json");
        curl_slist_append(request.headers, "Accept: application/json");
        curl_slist_append(request.headers, ("Idempotency-Key: " + number).c_str());
        CURL* easy = request.easy;
        curl_easy_setopt(easy, CURLOPT_URL, url_.c_str());
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_PRIVATE, &request);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request.headers);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.c_str());
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, static_cast<long>(request.body.size()));
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, &request);
        curl_multi_add_handle(multi_, easy);
    }

    void take_answers() {
        int left = 0;
        while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
            Request* request = nullptr;
            long status = 0;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request);
            curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
            if (message->data.result != CURLE_OK || status != 200 ||
                request->answer.find("succeeded") == std::string::npos) {
                die("a request was not answered as it should");
            }
            ++answers_;
            curl_multi_remove_handle(multi_, request->easy);
            start(*request);
        }
    }

    int wait_ms() const {
        if (!timer_is_set_) {
            return 100;
        }
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(timer_ - Clock::now());
        return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
    }

    static int on_socket(CURL*, curl_socket_t socket, int what, void* user, void* known) {
        auto* client = static_cast<Client*>(user);
        epoll_event event{};
        event.data.fd = socket;
        event.events = (what != CURL_POLL_OUT ? static_cast<std::uint32_t>(EPOLLIN) : 0U) |
                       (what != CURL_POLL_IN ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
        if (what == CURL_POLL_REMOVE) {
            epoll_ctl(client->epoll_, EPOLL_CTL_DEL, socket, nullptr);
        } else if (known != nullptr) {
            epoll_ctl(client->epoll_, EPOLL_CTL_MOD, socket, &event);
        } else {
            epoll_ctl(client->epoll_, EPOLL_CTL_ADD, socket, &event);
            curl_multi_assign(client->multi_, socket, client);
        }
        return 0;
    }

    static int on_timer(CURLM*, long timeout_ms, void* user) {
        auto* client = static_cast<Client*>(user);
        client->timer_is_set_ = timeout_ms >= 0;
        client->timer_ = Clock::now() + std::chrono::milliseconds(timeout_ms);
        return 0;
    }

    std::string url_;
    CURLM* multi_ = curl_multi_init();
    int epoll_ = epoll_create1(EPOLL_CLOEXEC);
    std::vector<Request> requests_;
    std::uint64_t started_ = 0;
    std::uint64_t answers_ = 0;
    bool timer_is_set_ = false;
    Clock::time_point timer_;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) {
        die("usage: bench_curl_multi URL IN_FLIGHT SECONDS");
    }
    const int in_flight = std::atoi(argv[2]);
    const double seconds = std::atof(argv[3]);
    if (in_flight < 1 || seconds <= 0 || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        die("IN_FLIGHT and SECONDS must be positive");
    }
    Client client(argv[1], static_cast<std::size_t>(in_flight));
    const auto whole =
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    client.run_until(Clock::now() + whole / 10);
    const auto begin = Clock::now();
    const std::uint64_t before = client.answers();
    client.run_until(begin + whole);
    const double elapsed_s = std::chrono::duration<double>(Clock::now() - begin).count();
    std::printf("%.1f\n", static_cast<double>(client.answers() - before) / elapsed_s);
    return 0;
}
