// HttpClient by means of libcurl's multi_socket interface and epoll; http_client.h says what for.
#include "net/http_client.h"

#include <curl/curl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <ctime>
#include <limits>
#include <new>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#if LIBCURL_VERSION_NUM < 0x075800
#error "libcurl 7.88 or newer is needed"
#endif

namespace payonce::net {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int max_connect_ms = 10'000;
// Common load balancers forget an idle connection after 60 s: a request sent into it is lost.
constexpr long max_idle_s = 50;
constexpr long tcp_keepalive_idle_s = 30;
constexpr long tcp_keepalive_interval_s = 10;
constexpr std::size_t max_header_lines = 100;
constexpr std::size_t max_head_bytes = std::size_t{64} * 1024;
constexpr std::size_t max_events = 256;
constexpr int max_wait_ms = 3'600'000;

// Blocks the signals that a handler of the host program may want, for the calling thread and for
// the threads started meanwhile. Those that a fault raises stay open.
class SignalBlock {
  public:
    SignalBlock() noexcept {
        sigset_t blocked;
        sigfillset(&blocked);
        for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) {
            sigdelset(&blocked, fault);
        }
        pthread_sigmask(SIG_BLOCK, &blocked, &before_);
    }
    ~SignalBlock() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalBlock(const SignalBlock&) = delete;
    SignalBlock& operator=(const SignalBlock&) = delete;

  private:
    sigset_t before_{};
};

class Descriptor {
  public:
    explicit Descriptor(int fd) noexcept : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) {
            close(fd_);
        }
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const noexcept { return fd_; }

  private:
    int fd_;
};

struct MultiDeleter {
    void operator()(CURLM* multi) const noexcept { curl_multi_cleanup(multi); }
};
struct EasyDeleter {
    void operator()(CURL* easy) const noexcept { curl_easy_cleanup(easy); }
};
struct SlistDeleter {
    void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
};
using MultiPtr = std::unique_ptr<CURLM, MultiDeleter>;
using EasyPtr = std::unique_ptr<CURL, EasyDeleter>;
using SlistPtr = std::unique_ptr<curl_slist, SlistDeleter>;

bool is_letter(char c) noexcept {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}
bool is_digit(char c) noexcept {
    return c >= '0' && c <= '9';
}
bool is_printable(char c) noexcept {
    return c >= 0x20 && c < 0x7f;
}

// libcurl passes header lines on as they are: a line break in one would be the end of the headers.
bool is_header(const core::HttpHeader& header) noexcept {
    constexpr std::string_view name_marks = "!#$%&'*+-.^_`|~";
    const auto is_name_char = [&](char c) {
        return is_letter(c) || is_digit(c) || name_marks.find(c) != std::string_view::npos;
    };
    const auto is_value_char = [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return c == '\t' || (byte >= 0x20 && byte != 0x7f);
    };
    return !header.name.empty() &&
           std::all_of(header.name.begin(), header.name.end(), is_name_char) &&
           std::all_of(header.value.begin(), header.value.end(), is_value_char);
}

SlistPtr append(SlistPtr list, const char* line) {
    curl_slist* longer = curl_slist_append(list.get(), line);
    if (longer == nullptr) {
        throw std::bad_alloc();
    }
    // The head of a list that was not empty stays the same.
    static_cast<void>(list.release());
    return SlistPtr(longer);
}

SlistPtr header_list(const std::vector<core::HttpHeader>& headers) {
    // Without this, libcurl asks the server's leave before a long body, and waits for it.
    SlistPtr list = append(nullptr, "Expect:");
    std::string line;
    for (const core::HttpHeader& header : headers) {
        line = header.name;
        if (header.value.find_first_not_of(" \t") == std::string::npos) {
            line += ';';  // libcurl's spelling of a header without a value
        } else {
            line += ": ";
            line += header.value;
        }
        list = append(std::move(list), line.c_str());
    }
    return list;
}

// libcurl's own reading of Retry-After cannot tell 0 from absent or unreadable.
std::optional<std::int64_t> read_retry_after(CURL* easy) noexcept {
    curl_header* header = nullptr;
    if (curl_easy_header(easy, "Retry-After", 0, CURLH_HEADER, -1, &header) != CURLHE_OK) {
        return std::nullopt;
    }
    const std::string_view value = header->value;
    if (!value.empty() && std::all_of(value.begin(), value.end(), is_digit)) {
        std::int64_t seconds = 0;
        const auto read = std::from_chars(value.data(), value.data() + value.size(), seconds);
        return read.ec == std::errc() ? seconds : std::numeric_limits<std::int64_t>::max();
    }
    // Each form of date starts with its weekday; curl_getdate reads less than a date, too.
    const bool starts_with_letter = !value.empty() && is_letter(value.front());
    const std::time_t date = starts_with_letter ? curl_getdate(header->value, nullptr) : -1;
    if (date == -1) {
        return std::nullopt;
    }
    return std::max<std::int64_t>(0, date - std::time(nullptr));
}

std::string_view trim(std::string_view text) noexcept {
    // libcurl leaves the line's end in a value that is otherwise empty.
    constexpr std::string_view blanks = " \t\r\n";
    const std::size_t first = text.find_first_not_of(blanks);
    if (first == std::string_view::npos) {
        return {};
    }
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

// Of the final response alone: neither of those before it (1xx) nor after its body (trailers).
std::vector<core::HttpHeader> read_headers(CURL* easy) {
    std::vector<core::HttpHeader> headers;
    curl_header* header = nullptr;
    while ((header = curl_easy_nextheader(easy, CURLH_HEADER, -1, header)) != nullptr) {
        headers.push_back({header->name, std::string(trim(header->value))});
    }
    return headers;
}

// Room for so many, lest a later push_back fail; grows as push_back would.
template <typename T>
void make_room(std::vector<T>& items, std::size_t needed) {
    if (items.capacity() < needed) {
        items.reserve(std::max(needed, 2 * items.capacity()));
    }
}

// One request at a time, from prepare() to take_result(), and the easy handle that sends it, which
// serves many requests one after another. Does not move: libcurl holds its address.
class Transfer {
  public:
    explicit Transfer(const HttpClientLimits& limits);
    Transfer(const Transfer&) = delete;
    Transfer& operator=(const Transfer&) = delete;

    // libcurl lacks something that this file relies on.
    bool is_unusable() const noexcept { return option_error_ != CURLE_OK; }
    // False: the job cannot be sent, and the result says so.
    bool prepare(HttpJob job);
    void complete(CURLcode code) noexcept;
    // Hands out the result, and forgets the job.
    HttpResult take_result() noexcept;

    CURL* easy() const noexcept { return easy_.get(); }
    // Where the owner keeps it.
    std::size_t slot = 0;

  private:
    template <typename T>
    void set(CURLoption option, T value) noexcept;
    void set_callbacks() noexcept;
    void set_protocol(long max_connection_age_s) noexcept;
    void trust(const std::string& ca_file);
    void set_request() noexcept;
    bool refuse(const char* reason);
    bool take_headers() noexcept;
    std::string describe(CURLcode code) const;

    static int on_request_leaves(void* self, char*, char*, int, int) noexcept;
    static std::size_t on_header_line(char* bytes, std::size_t size, std::size_t count,
                                      void* self) noexcept;
    static std::size_t on_body(char* bytes, std::size_t size, std::size_t count,
                               void* self) noexcept;

    const std::size_t max_response_bytes_;
    EasyPtr easy_;
    CURLcode option_error_ = CURLE_OK;
    std::string ca_file_;
    std::array<char, CURL_ERROR_SIZE> curl_error_{};

    HttpJob job_;
    SlistPtr headers_;
    HttpResult result_;
    Clock::time_point submitted_at_;
    bool may_have_left_ = false;
    bool resend_refused_ = false;
    bool has_whole_head_ = false;
    bool is_too_long_ = false;
    bool is_head_too_long_ = false;
    std::size_t header_lines_ = 0;
    std::size_t head_bytes_ = 0;
    bool is_out_of_memory_ = false;
};

Transfer::Transfer(const HttpClientLimits& limits)
    : max_response_bytes_(limits.max_response_bytes), easy_(curl_easy_init()) {
    if (!easy_) {
        option_error_ = CURLE_FAILED_INIT;
        return;
    }
    set_callbacks();
    set_protocol(limits.max_connection_age_s);
    trust(ca_file_);
}

// Keeps the first error: an option that did not take effect must stop the request.
template <typename T>
void Transfer::set(CURLoption option, T value) noexcept {
    static_assert(!std::is_integral_v<T> || std::is_same_v<T, long>);
    const CURLcode code = curl_easy_setopt(easy_.get(), option, value);
    if (option_error_ == CURLE_OK) {
        option_error_ = code;
    }
}

void Transfer::set_callbacks() noexcept {
    set(CURLOPT_PRIVATE, this);
    set(CURLOPT_ERRORBUFFER, curl_error_.data());
    set(CURLOPT_PREREQFUNCTION, &Transfer::on_request_leaves);
    set(CURLOPT_PREREQDATA, this);
    set(CURLOPT_HEADERFUNCTION, &Transfer::on_header_line);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_WRITEFUNCTION, &Transfer::on_body);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_NOSIGNAL, 1L);
    // A timeout while a name is being resolved must not wait for the resolver thread.
    set(CURLOPT_QUICK_EXIT, 1L);
}

void Transfer::set_protocol(long max_connection_age_s) noexcept {
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_HTTP09_ALLOWED, 0L);
    set(CURLOPT_FOLLOWLOCATION, 0L);
    // A signature may cover the path: it is sent as it was built.
    set(CURLOPT_PATH_AS_IS, 1L);
    set(CURLOPT_USERAGENT, "payonce/1.0");
    set(CURLOPT_ACCEPT_ENCODING, static_cast<const char*>(nullptr));

    // Nothing from the environment or the home directory decides where a request goes.
    set(CURLOPT_PROXY, "");
    set(CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
    set(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);

    set(CURLOPT_SSL_VERIFYPEER, 1L);
    set(CURLOPT_SSL_VERIFYHOST, 2L);
    set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    // A replaced file of authorities is read again when the connections are renewed.
    set(CURLOPT_CA_CACHE_TIMEOUT, max_connection_age_s);

    set(CURLOPT_TCP_NODELAY, 1L);
    set(CURLOPT_TCP_KEEPALIVE, 1L);
    set(CURLOPT_TCP_KEEPIDLE, tcp_keepalive_idle_s);
    set(CURLOPT_TCP_KEEPINTVL, tcp_keepalive_interval_s);
    set(CURLOPT_MAXAGE_CONN, std::min(max_idle_s, max_connection_age_s));
    set(CURLOPT_MAXLIFETIME_CONN, max_connection_age_s);
}

// libcurl trusts a file and a directory of authorities together, and has defaults for both. With a
// file of our own the directory must go, or the system's authorities would still be trusted. Where
// the system has a readable bundle, its directory holds the same and only keeps libcurl from
// caching the parsed bundle: some 20 ms for each new connection, in which nothing else moves.
void Transfer::trust(const std::string& ca_file) {
    const char* bundle = nullptr;
    const char* directory = nullptr;
    curl_easy_getinfo(easy_.get(), CURLINFO_CAINFO, &bundle);
    curl_easy_getinfo(easy_.get(), CURLINFO_CAPATH, &directory);
    if (!ca_file.empty()) {
        bundle = ca_file.c_str();
    }
    if (!ca_file.empty() || (bundle != nullptr && access(bundle, R_OK) == 0)) {
        directory = nullptr;
    }
    set(CURLOPT_CAINFO, bundle);
    set(CURLOPT_CAPATH, directory);
    ca_file_ = ca_file;
}

bool Transfer::prepare(HttpJob job) {
    job_ = std::move(job);
    result_.id = job_.id;
    submitted_at_ = Clock::now();
    const core::HttpRequest& request = job_.request;
    if (job_.timeout_ms <= 0) {
        return refuse("no time is left for the request");
    }
    if (!std::all_of(request.url.begin(), request.url.end(), is_printable)) {
        return refuse("the URL holds a character that no URL may hold");
    }
    if (!std::all_of(request.headers.begin(), request.headers.end(), is_header)) {
        return refuse("a header of the request holds a character that no header may hold");
    }
    headers_ = header_list(request.headers);
    if (ca_file_ != job_.ca_file) {
        trust(job_.ca_file);
    }
    set_request();
    return option_error_ == CURLE_OK || refuse(curl_easy_strerror(option_error_));
}

void Transfer::set_request() noexcept {
    const core::HttpRequest& request = job_.request;
    set(CURLOPT_URL, request.url.c_str());
    if (request.method == core::HttpMethod::post) {
        set(CURLOPT_POST, 1L);
        // Not copied: job_ keeps it.
        set(CURLOPT_POSTFIELDS, request.body.data());
        set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    } else {
        set(CURLOPT_POSTFIELDS, static_cast<const char*>(nullptr));
        set(CURLOPT_HTTPGET, 1L);
    }
    set(CURLOPT_HTTPHEADER, headers_.get());
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(job_.timeout_ms));
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::min(job_.timeout_ms, max_connect_ms)));
}

bool Transfer::refuse(const char* reason) {
    result_.response.delivery = core::Delivery::not_sent;
    result_.response.error = reason;
    return false;
}

// libcurl calls this when the connection is ready, before each sending of the request.
int Transfer::on_request_leaves(void* self, char*, char*, int, int) noexcept {
    auto& transfer = *static_cast<Transfer*>(self);
    if (transfer.may_have_left_) {
        transfer.resend_refused_ = true;
        return CURL_PREREQFUNC_ABORT;
    }
    transfer.may_have_left_ = true;
    return CURL_PREREQFUNC_OK;
}

// To libcurl, a head that breaks off after its status line is a good answer without a body. But who
// cut it off, a dying proxy perhaps, may have made up the status as well: only the empty line ends
// a head. Trailers come here too, and are only counted.
std::size_t Transfer::on_header_line(char* bytes, std::size_t size, std::size_t count,
                                     void* self) noexcept {
    auto& transfer = *static_cast<Transfer*>(self);
    const std::string_view line(bytes, size * count);
    if (line.starts_with("HTTP/")) {
        transfer.has_whole_head_ = false;
    } else if (line == "\r\n" || line == "\n") {
        transfer.has_whole_head_ = true;
    } else {
        ++transfer.header_lines_;
    }
    // Every line counts, whichever head it is in: libcurl keeps them all, without a bound.
    transfer.head_bytes_ += line.size();
    if (transfer.header_lines_ > max_header_lines || transfer.head_bytes_ > max_head_bytes) {
        transfer.is_head_too_long_ = true;
        return CURL_WRITEFUNC_ERROR;
    }
    return line.size();
}

// Returning less than what was given ends the transfer.
std::size_t Transfer::on_body(char* bytes, std::size_t size, std::size_t count,
                              void* self) noexcept {
    auto& transfer = *static_cast<Transfer*>(self);
    std::string& body = transfer.result_.response.body;
    const std::size_t total = size * count;
    if (total > transfer.max_response_bytes_ - body.size()) {
        transfer.is_too_long_ = true;
        return CURL_WRITEFUNC_ERROR;
    }
    try {
        body.append(bytes, total);
    } catch (const std::bad_alloc&) {
        transfer.is_out_of_memory_ = true;
        return CURL_WRITEFUNC_ERROR;
    }
    return total;
}

void Transfer::complete(CURLcode code) noexcept {
    core::HttpResponse& response = result_.response;
    long status = 0;
    if (may_have_left_) {
        curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status);
    }
    response.status = static_cast<int>(status);
    if (code == CURLE_OK && status >= 200 && has_whole_head_ && take_headers()) {
        response.delivery = core::Delivery::answered;
        response.retry_after_s = read_retry_after(easy_.get());
    } else {
        response.delivery = may_have_left_ ? core::Delivery::uncertain : core::Delivery::not_sent;
        response.body.clear();
        try {
            response.error = describe(code);
        } catch (const std::bad_alloc&) {
            // The verdict matters more than its words.
        }
    }
    const auto duration = Clock::now() - submitted_at_;
    result_.duration_us = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
}

// False when there is no memory for them: an answer without some of its headers is another answer.
bool Transfer::take_headers() noexcept {
    try {
        result_.response.headers = read_headers(easy_.get());
        return true;
    } catch (const std::bad_alloc&) {
        is_out_of_memory_ = true;
        return false;
    }
}

std::string Transfer::describe(CURLcode code) const {
    if (is_head_too_long_) {
        return "the answer's headers are more than " + std::to_string(max_header_lines) +
               " lines or " + std::to_string(max_head_bytes) + " bytes";
    }
    if (is_too_long_) {
        return "the answer is longer than " + std::to_string(max_response_bytes_) + " bytes";
    }
    if (is_out_of_memory_) {
        return "out of memory while the answer arrived";
    }
    if (resend_refused_) {
        return "the kept connection was closed before an answer came";
    }
    if (code == CURLE_OK) {
        return "the answer broke off before its body";
    }
    // libcurl's words may quote the host or a certificate: any bytes.
    std::string text = curl_error_[0] != '\0' ? curl_error_.data() : curl_easy_strerror(code);
    std::replace_if(
        text.begin(), text.end(), [](char c) { return !is_printable(c); }, '?');
    return text;
}

HttpResult Transfer::take_result() noexcept {
    HttpResult taken = std::exchange(result_, {});
    job_ = {};
    headers_.reset();
    curl_error_[0] = '\0';
    may_have_left_ = resend_refused_ = has_whole_head_ = is_too_long_ = is_out_of_memory_ = false;
    is_head_too_long_ = false;
    header_lines_ = head_bytes_ = 0;
    return taken;
}

}  // namespace

class HttpClient::Impl {
  public:
    explicit Impl(const HttpClientLimits& limits);
    ~Impl();
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    bool submit(HttpJob job);
    int event_fd() const noexcept { return epoll_.get(); }
    int timeout_ms() const noexcept;
    void advance() noexcept;
    std::vector<HttpResult> take_finished();
    std::size_t in_flight() const noexcept { return active_.size(); }

  private:
    std::unique_ptr<Transfer> acquire();
    void recycle(std::unique_ptr<Transfer> transfer) noexcept;
    std::unique_ptr<Transfer> leave_active(Transfer& transfer) noexcept;
    void watch(curl_socket_t socket, int what, bool is_known) noexcept;
    void collect() noexcept;

    static int on_socket(CURL*, curl_socket_t socket, int what, void* self, void* known) noexcept;
    static int on_timer(CURLM*, long timeout_ms, void* self) noexcept;

    const HttpClientLimits limits_;
    Descriptor epoll_;
    MultiPtr multi_;
    // When curl wants to be called even if no socket is ready.
    std::optional<Clock::time_point> deadline_;
    std::array<epoll_event, max_events> events_{};
    std::vector<std::unique_ptr<Transfer>> active_;
    // With room for all that are active, so that finishing never allocates.
    std::vector<std::unique_ptr<Transfer>> done_;
    // Never more than its capacity.
    std::vector<std::unique_ptr<Transfer>> idle_;
};

HttpClient::Impl::Impl(const HttpClientLimits& limits)
    : limits_(limits), epoll_(epoll_create1(EPOLL_CLOEXEC)), multi_(curl_multi_init()) {
    if (epoll_.get() < 0) {
        throw std::runtime_error("epoll_create1: " + std::generic_category().message(errno));
    }
    if ((curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_ASYNCHDNS) == 0) {
        throw std::runtime_error("this libcurl blocks while it resolves names");
    }
    CURLM* multi = multi_.get();
    if (multi == nullptr ||
        curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, &Impl::on_socket) != CURLM_OK ||
        curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, this) != CURLM_OK ||
        curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, &Impl::on_timer) != CURLM_OK ||
        curl_multi_setopt(multi, CURLMOPT_TIMERDATA, this) != CURLM_OK ||
        curl_multi_setopt(multi, CURLMOPT_PIPELINING, long{CURLPIPE_NOTHING}) != CURLM_OK ||
        curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, long{limits.max_kept_connections}) !=
            CURLM_OK) {
        throw std::runtime_error("libcurl's multi interface cannot be set up");
    }
    idle_.reserve(static_cast<std::size_t>(std::max(1, limits.max_kept_connections)));
    std::unique_ptr<Transfer> first = acquire();
    if (!first) {
        throw std::runtime_error("this libcurl lacks an option that payonce needs");
    }
    recycle(std::move(first));
}

HttpClient::Impl::~Impl() {
    const SignalBlock block;
    for (const auto& transfer : active_) {
        curl_multi_remove_handle(multi_.get(), transfer->easy());
    }
    // While multi_ closes its connections it still calls on_socket, which needs the rest of this.
    active_.clear();
    multi_.reset();
}

// Null when curl fails.
std::unique_ptr<Transfer> HttpClient::Impl::acquire() {
    if (!idle_.empty()) {
        std::unique_ptr<Transfer> transfer = std::move(idle_.back());
        idle_.pop_back();
        return transfer;
    }
    auto transfer = std::make_unique<Transfer>(limits_);
    return transfer->is_unusable() ? nullptr : std::move(transfer);
}

void HttpClient::Impl::recycle(std::unique_ptr<Transfer> transfer) noexcept {
    if (idle_.size() < idle_.capacity() && !transfer->is_unusable()) {
        idle_.push_back(std::move(transfer));
    }
}

bool HttpClient::Impl::submit(HttpJob job) {
    std::unique_ptr<Transfer> transfer = acquire();
    if (!transfer) {
        return false;
    }
    make_room(active_, active_.size() + 1);
    make_room(done_, done_.size() + active_.size() + 1);
    if (!transfer->prepare(std::move(job))) {
        done_.push_back(std::move(transfer));
        return true;
    }
    const SignalBlock block;
    if (curl_multi_add_handle(multi_.get(), transfer->easy()) != CURLM_OK) {
        return false;
    }
    transfer->slot = active_.size();
    active_.push_back(std::move(transfer));
    return true;
}

int HttpClient::Impl::timeout_ms() const noexcept {
    if (!done_.empty()) {
        return 0;
    }
    if (!deadline_) {
        return -1;
    }
    using std::chrono::milliseconds;
    const auto left = std::chrono::ceil<milliseconds>(*deadline_ - Clock::now());
    return static_cast<int>(std::clamp<milliseconds::rep>(left.count(), 0, max_wait_ms));
}

void HttpClient::Impl::advance() noexcept {
    const SignalBlock block;
    const int ready = epoll_wait(epoll_.get(), events_.data(), static_cast<int>(max_events), 0);
    int running = 0;
    for (int i = 0; i < ready; ++i) {
        const epoll_event& event = events_[static_cast<std::size_t>(i)];
        // An error shows in the read or write that follows, with its reason. An event that is
        // stale, because the socket's number changed hands meanwhile, then does no harm either.
        const bool failed = (event.events & (EPOLLERR | EPOLLHUP)) != 0;
        const bool readable = failed || (event.events & EPOLLIN) != 0;
        const bool writable = failed || (event.events & EPOLLOUT) != 0;
        const int ways = (readable ? CURL_CSELECT_IN : 0) | (writable ? CURL_CSELECT_OUT : 0);
        curl_multi_socket_action(multi_.get(), event.data.fd, ways, &running);
    }
    if (deadline_ && *deadline_ <= Clock::now()) {
        deadline_.reset();
        curl_multi_socket_action(multi_.get(), CURL_SOCKET_TIMEOUT, 0, &running);
    }
    collect();
}

void HttpClient::Impl::collect() noexcept {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        // The message dies with the removal of its handle.
        const CURLcode code = message->data.result;
        CURL* easy = message->easy_handle;
        Transfer* transfer = nullptr;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
        curl_multi_remove_handle(multi_.get(), easy);
        transfer->complete(code);
        done_.push_back(leave_active(*transfer));
    }
}

// The last one takes the place that becomes free.
std::unique_ptr<Transfer> HttpClient::Impl::leave_active(Transfer& transfer) noexcept {
    const std::size_t slot = transfer.slot;
    std::swap(active_[slot], active_.back());
    active_[slot]->slot = slot;
    std::unique_ptr<Transfer> left = std::move(active_.back());
    active_.pop_back();
    return left;
}

std::vector<HttpResult> HttpClient::Impl::take_finished() {
    std::vector<HttpResult> results;
    results.reserve(done_.size());
    for (auto& transfer : done_) {
        results.push_back(transfer->take_result());
        recycle(std::move(transfer));
    }
    done_.clear();
    return results;
}

// A socket that cannot be watched (the kernel is out of memory) is found again by its timeout.
void HttpClient::Impl::watch(curl_socket_t socket, int what, bool is_known) noexcept {
    if (what == CURL_POLL_REMOVE) {
        // Fails harmlessly when the socket was closed, and so left epoll, before.
        epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, socket, nullptr);
        return;
    }
    epoll_event event{};
    event.events = (what & CURL_POLL_IN ? unsigned{EPOLLIN} : 0U) |
                   (what & CURL_POLL_OUT ? unsigned{EPOLLOUT} : 0U);
    event.data.fd = socket;
    const int likely = is_known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    const int other = is_known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    // curl may know a number whose socket was closed and opened again behind its back, and the
    // other way round.
    if (epoll_ctl(epoll_.get(), likely, socket, &event) != 0 &&
        (errno == ENOENT || errno == EEXIST)) {
        epoll_ctl(epoll_.get(), other, socket, &event);
    }
    if (!is_known) {
        curl_multi_assign(multi_.get(), socket, this);
    }
}

int HttpClient::Impl::on_socket(CURL*, curl_socket_t socket, int what, void* self,
                                void* known) noexcept {
    static_cast<Impl*>(self)->watch(socket, what, known != nullptr);
    return 0;
}

int HttpClient::Impl::on_timer(CURLM*, long timeout_ms, void* self) noexcept {
    auto& deadline = static_cast<Impl*>(self)->deadline_;
    if (timeout_ms < 0) {
        deadline.reset();
    } else {
        deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
    }
    return 0;
}

HttpClient::HttpClient(const HttpClientLimits& limits) : impl_(std::make_unique<Impl>(limits)) {}
HttpClient::~HttpClient() = default;

bool HttpClient::init_process() {
    static const bool is_ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    return is_ready;
}

bool HttpClient::submit(HttpJob job) {
    return impl_->submit(std::move(job));
}
int HttpClient::event_fd() const {
    return impl_->event_fd();
}
int HttpClient::timeout_ms() const {
    return impl_->timeout_ms();
}
void HttpClient::advance() {
    impl_->advance();
}
std::vector<HttpResult> HttpClient::take_finished() {
    return impl_->take_finished();
}
std::size_t HttpClient::in_flight() const {
    return impl_->in_flight();
}

}  // namespace payonce::net
