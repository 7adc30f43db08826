// judge_base_url by means of libcurl's URL parser; url.h says why that one.
//
// libcurl forgives much (one or three slashes, credentials, "127.1"). What has more than one
// plausible reading is refused on its bytes, before the parser sees it; what is left is judged by
// the host that libcurl would connect to.
#include "net/url.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <strings.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>

namespace payonce::net {
namespace {

struct UrlDeleter {
    void operator()(CURLU* url) const noexcept { curl_url_cleanup(url); }
};
using UrlPtr = std::unique_ptr<CURLU, UrlDeleter>;

struct CurlStringDeleter {
    void operator()(char* text) const noexcept { curl_free(text); }
};
using CurlString = std::unique_ptr<char, CurlStringDeleter>;

// Letters beyond ASCII need an encoding that two libraries may do differently: an internationalized
// name is to be written in its ASCII form.
bool is_plain_text(std::string_view text) noexcept {
    return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

struct UrlText {
    std::string_view scheme;
    // Between "://" and the path. Empty also when more slashes follow, which libcurl would skip.
    std::string_view authority;
};

UrlText split(std::string_view url) noexcept {
    constexpr std::string_view mark = "://";
    const std::size_t colon = url.find(':');
    if (colon == std::string_view::npos || !url.substr(colon).starts_with(mark)) {
        return {};
    }
    const std::string_view rest = url.substr(colon + mark.size());
    return {url.substr(0, colon), rest.substr(0, rest.find_first_of("/?#"))};
}

// Schemes are compared without regard to case.
bool is_scheme(std::string_view scheme, std::string_view name) noexcept {
    return scheme.size() == name.size() &&
           strncasecmp(scheme.data(), name.data(), name.size()) == 0;
}

// The host as libcurl will understand it; null when it cannot read the URL.
CurlString host_of(std::string_view url) noexcept {
    std::array<char, max_url_bytes + 1> terminated{};
    std::copy(url.begin(), url.end(), terminated.begin());
    const UrlPtr parsed(curl_url());
    char* host = nullptr;
    if (!parsed || curl_url_set(parsed.get(), CURLUPART_URL, terminated.data(), 0) != CURLUE_OK ||
        curl_url_get(parsed.get(), CURLUPART_HOST, &host, 0) != CURLUE_OK) {
        return nullptr;
    }
    return CurlString(host);
}

// Expects the host as libcurl gives it: numeric addresses in their usual form, IPv6 in brackets.
bool is_loopback(const char* host) noexcept {
    if (strcasecmp(host, "localhost") == 0 || std::strcmp(host, "[::1]") == 0) {
        return true;
    }
    in_addr address{};
    return inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

}  // namespace

UrlVerdict judge_base_url(std::string_view url) noexcept {
    if (url.size() > max_url_bytes) {
        return UrlVerdict::too_long;
    }
    const UrlText text = split(url);
    if (!is_plain_text(url) || text.scheme.empty()) {
        return UrlVerdict::malformed;
    }
    const bool is_https = is_scheme(text.scheme, "https");
    if (!is_https && !is_scheme(text.scheme, "http")) {
        return UrlVerdict::scheme_unsupported;
    }
    if (text.authority.find('@') != std::string_view::npos) {
        return UrlVerdict::has_credentials;
    }
    if (url.find_first_of("?#") != std::string_view::npos) {
        return UrlVerdict::has_query_or_fragment;
    }
    // A percent sign or a backslash in a host is an attempt to be read in two ways.
    if (text.authority.empty() || text.authority.find_first_of("%\\") != std::string_view::npos) {
        return UrlVerdict::malformed;
    }
    const CurlString host = host_of(url);
    if (!host || *host == '\0') {
        return UrlVerdict::malformed;
    }
    return is_https || is_loopback(host.get()) ? UrlVerdict::ok : UrlVerdict::plain_http;
}

}  // namespace payonce::net
