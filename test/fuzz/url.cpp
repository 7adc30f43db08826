// URLs of gateways: what is let through has one reading, and is https unless it stays on this host.
#include "net/url.h"

#include <arpa/inet.h>

#include <algorithm>
#include <string>

#include "fuzz.h"

using namespace payonce;

namespace {

std::string lower_case(std::string_view text) {
    std::string lower(text);
    for (char& c : lower) {
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
    return lower;
}

// By the system's reading of addresses, which also knows the old ways to write them.
bool is_loopback(std::string host) {
    if (host.starts_with('[') && host.ends_with(']')) {
        in6_addr address{};
        host = host.substr(1, host.size() - 2);
        return inet_pton(AF_INET6, host.c_str(), &address) == 1 && IN6_IS_ADDR_LOOPBACK(&address);
    }
    in_addr address{};
    return host == "localhost" ||
           (inet_aton(host.c_str(), &address) != 0 && ntohl(address.s_addr) >> 24U == 127);
}

void check_good(std::string_view url) {
    fuzz::demand(url.size() <= net::max_url_bytes, "it is within its bound");
    fuzz::demand(std::all_of(url.begin(), url.end(), [](char c) { return c > 0x20 && c < 0x7f; }),
                 "it is printable ASCII");
    const std::string lower = lower_case(url);
    const bool is_http = lower.starts_with("http://");
    fuzz::demand(is_http || lower.starts_with("https://"), "its scheme is http or https");
    const std::string rest = lower.substr(is_http ? 7 : 8);
    const std::string authority = rest.substr(0, rest.find('/'));
    fuzz::demand(authority.find_first_of("@%\\") == std::string::npos, "its host has one reading");
    fuzz::demand(rest.find_first_of("?#") == std::string::npos, "a path can be appended");
    const std::size_t bracket = authority.starts_with('[') ? authority.find(']') : 0;
    const std::string host = authority.substr(0, authority.find(':', bracket));
    fuzz::demand(!host.empty(), "it has a host");
    fuzz::demand(!is_http || is_loopback(host), "without TLS it stays on this host");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view url = fuzz::text_of(data, size);
    if (net::judge_base_url(url) == net::UrlVerdict::ok) {
        check_good(url);
    }
    return 0;
}
