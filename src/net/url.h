// Judges the base URL of a gateway when the DDL runs. libcurl's own parser reads it, the one that
// will later send to it: two parsers that disagree about a host are how a check is evaded.
#pragma once

#include <string_view>

namespace payonce::net {

enum class UrlVerdict {
    ok,
    malformed,           // libcurl cannot read it, or it has no scheme or no host
    scheme_unsupported,  // neither http nor https
    has_credentials,     // user:password@ would leak into logs and views
    has_query_or_fragment,
    plain_http,  // http to a host that is not loopback (127.0.0.0/8, ::1, localhost)
    too_long,    // over max_url_bytes
};

inline constexpr std::size_t max_url_bytes = 2000;

// Never throws.
UrlVerdict judge_base_url(std::string_view url) noexcept;

}  // namespace payonce::net
