// An HTTP request and its answer as plain data: what core's gateways build and parse, and what net
// sends and receives. No header here knows a socket.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace payonce::core {

enum class HttpMethod { get, post };

struct HttpHeader {
    std::string name;
    std::string value;
};

// A request ready to leave: complete URL, every header that matters (curl adds Host, Content-Length
// and the like), the body's exact bytes (a signature may cover them).
struct HttpRequest {
    HttpMethod method = HttpMethod::get;
    std::string url;
    std::vector<HttpHeader> headers;
    std::string body;
};

// How far a request got. What decides about money is whether any byte of it can have reached the
// gateway: only `not_sent` proves that it cannot.
enum class Delivery {
    answered,   // a complete answer arrived
    not_sent,   // failed before the first byte of the request left this host
    uncertain,  // sent, wholly or in part, but no complete and readable answer
};

struct HttpResponse {
    Delivery delivery = Delivery::uncertain;
    // Also set when an answer began and broke off: evidence for a person, nothing to decide by
    // unless `answered`. 0 when no status line arrived.
    int status = 0;
    std::string body;  // empty unless answered
    // As received, in their order; empty unless answered. Names are case-insensitive: see
    // header_value().
    std::vector<HttpHeader> headers;
    // From Retry-After, whichever of its two forms, never negative; unset when absent or
    // unreadable, and unless answered.
    std::optional<std::int64_t> retry_after_s;
    // What went wrong, in words for a person; printable ASCII, empty when answered. Never holds a
    // secret.
    std::string error;
};

// The value of the one header of this name, whatever its case. Unset when there is none, and when
// there are several: which of them the sender meant would be a guess.
std::optional<std::string_view> header_value(const std::vector<HttpHeader>& headers,
                                             std::string_view name) noexcept;

}  // namespace payonce::core
