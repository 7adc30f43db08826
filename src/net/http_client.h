// Sends HTTP requests through libcurl's multi interface, many at a time, without blocking.
//
// The owner drives it from its own event loop: it waits until event_fd() is readable or
// timeout_ms() has passed, calls advance(), and takes finished answers. All curl sockets hang in
// one epoll instance, whose descriptor is event_fd(): so a PostgreSQL worker waits for its latch
// and for all of curl in one wait.
//
// A request leaves at most once per submit(). Left to itself, libcurl sends it again on a new
// connection when a kept one was closed without an answer; but a POST may have been carried out, so
// its sender has to ask first, and a GET may be signed with a nonce that is good for once. So it
// ends as `uncertain`.
//
// HTTP/1.1 only: with one connection for each request in flight, a connection that dies leaves one
// request uncertain, not all that shared it.
//
// Nothing here throws across submit/advance/take_finished except std::bad_alloc; the callbacks that
// curl calls never throw. Not thread-safe. Signals stay blocked around calls that may start
// libcurl's resolver threads, lest a thread run the host program's signal handlers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/http_message.h"

namespace payonce::net {

struct HttpClientLimits {
    // A longer answer ends the request as `uncertain`: no gateway says so much about one refund.
    // More than 100 lines of headers, or 64 KiB of them, do the same.
    std::size_t max_response_bytes = std::size_t{256} * 1024;
    // Connections kept for reuse over all hosts. With more than so many requests in flight, every
    // answer closes one.
    int max_kept_connections = 1000;
    // A kept connection older than this is closed, so that a gateway's new address is found.
    int max_connection_age_s = 300;
};

struct HttpJob {
    std::uint64_t id = 0;  // chosen by the owner, returned with the answer
    core::HttpRequest request;
    // From submit() to the end of the answer; there is no queue inside, so it measures the network.
    int timeout_ms = 0;
    // PEM bundle of certificate authorities instead of the system's; empty: the system's.
    std::string ca_file;
};

struct HttpResult {
    std::uint64_t id = 0;
    core::HttpResponse response;
    std::int64_t duration_us = 0;
};

class HttpClient {
  public:
    // Throws std::runtime_error when curl or epoll cannot be set up. Call init_process() before.
    explicit HttpClient(const HttpClientLimits& limits);
    // Drops what is in flight, without its answers. Waits neither for a gateway nor for a name to
    // be resolved: a resolver thread that hangs is left to end by itself and frees what it holds.
    // (A libcurl newer than the tested ones may join such threads; an owner whose process is about
    // to exit may then leak its client instead.)
    ~HttpClient();
    HttpClient(const HttpClient&) = delete;
    HttpClient& operator=(const HttpClient&) = delete;

    // curl_global_init, once in a process, before the first HttpClient and any thread.
    // False when it fails.
    static bool init_process();

    // Takes the request; the next advance() starts it. False: nothing was taken, nothing is sent,
    // and no result will come. A request that cannot be sent as it is (a header with a line break,
    // no time left) is taken, and its result is `not_sent`.
    bool submit(HttpJob job);

    int event_fd() const;
    // How long the owner may wait before the next advance() and take_finished(), if event_fd() does
    // not become readable earlier; 0 while answers wait to be taken, -1: no limit.
    int timeout_ms() const;
    // Moves the transfers that are ready as far as they go now. Never blocks.
    void advance();
    // The answers finished since the last call, in the order in which they finished.
    std::vector<HttpResult> take_finished();
    // Requests whose answer has not finished.
    std::size_t in_flight() const;

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace payonce::net
