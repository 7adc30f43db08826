// judge_base_url against honest and hostile base URLs. What it accepts gets refund requests and
// their secrets, so each way in which one host can look like another has a case.
#include "net/url.h"

#include <gtest/gtest.h>

#include <ostream>
#include <string>

namespace payonce::net {
namespace {

struct UrlCase {
    const char* name;
    std::string url;
    UrlVerdict verdict;
};

void PrintTo(const UrlCase& url_case, std::ostream* out) {
    *out << url_case.name;
}

class JudgeBaseUrl : public testing::TestWithParam<UrlCase> {};

TEST_P(JudgeBaseUrl, GivesTheVerdict) {
    EXPECT_EQ(judge_base_url(GetParam().url), GetParam().verdict) << GetParam().url;
}

std::string name_of(const testing::TestParamInfo<UrlCase>& info) {
    return info.param.name;
}

const UrlCase accepted[] = {
    {"https_host", "https://api.mch.weixin.qq.com", UrlVerdict::ok},
    {"https_with_path", "https://openapi.alipay.com/gateway.do", UrlVerdict::ok},
    {"trailing_slash", "https://api.stripe.com/", UrlVerdict::ok},
    {"port", "https://gateway.example:8443/v1", UrlVerdict::ok},
    {"https_to_an_address", "https://192.0.2.7", UrlVerdict::ok},
    {"https_to_an_ipv6_address", "https://[2001:db8::7]:8443/", UrlVerdict::ok},
    {"uppercase_scheme", "HTTPS://api.stripe.com", UrlVerdict::ok},
    {"at_sign_in_the_path", "https://gateway.example/shop@7", UrlVerdict::ok},
    {"percent_sign_in_the_path", "https://gateway.example/a%20b", UrlVerdict::ok},
    {"localhost", "http://localhost:8080/pay", UrlVerdict::ok},
    {"uppercase_localhost", "HTTP://LOCALHOST", UrlVerdict::ok},
    {"loopback_address", "http://127.0.0.1:8080", UrlVerdict::ok},
    {"another_loopback_address", "http://127.200.3.4", UrlVerdict::ok},
    {"ipv6_loopback", "http://[::1]:8080/", UrlVerdict::ok},
    {"ipv6_loopback_in_full", "http://[0:0:0:0:0:0:0:1]/", UrlVerdict::ok},
    // libcurl reads these as 127.0.0.1 and connects there.
    {"short_loopback_address", "http://127.1", UrlVerdict::ok},
    {"hexadecimal_loopback_address", "http://0x7f000001", UrlVerdict::ok},
    {"decimal_loopback_address", "http://2130706433/", UrlVerdict::ok},
    {"octal_loopback_address", "http://0177.0.0.1", UrlVerdict::ok},
    {"half_hexadecimal_loopback_address", "http://0x7f.1", UrlVerdict::ok},
    // Over TLS the certificate vouches for the host: also one in a private network.
    {"https_to_a_private_address", "https://10.0.0.7", UrlVerdict::ok},
    {"longest", "https://gateway.example/" + std::string(max_url_bytes - 24, 'a'), UrlVerdict::ok},
};
INSTANTIATE_TEST_SUITE_P(Accepted, JudgeBaseUrl, testing::ValuesIn(accepted), name_of);

const UrlCase not_loopback[] = {
    {"host", "http://gateway.example", UrlVerdict::plain_http},
    {"uppercase_scheme", "HTTP://gateway.example", UrlVerdict::plain_http},
    {"loopback_as_a_label", "http://127.0.0.1.evil.example", UrlVerdict::plain_http},
    {"localhost_as_a_label", "http://localhost.evil.example", UrlVerdict::plain_http},
    {"localhost_as_a_suffix", "http://evillocalhost", UrlVerdict::plain_http},
    {"localhost_as_a_parent", "http://evil.localhost", UrlVerdict::plain_http},
    {"localhost_with_a_dot", "http://localhost./", UrlVerdict::plain_http},
    {"loopback_with_a_dot", "http://127.0.0.1./", UrlVerdict::plain_http},
    {"name_that_resolves_to_loopback", "http://127.0.0.1.nip.io", UrlVerdict::plain_http},
    {"name_that_begins_like_loopback", "http://127.evil.example", UrlVerdict::plain_http},
    {"metadata_service", "http://169.254.169.254/latest/meta-data", UrlVerdict::plain_http},
    {"private_address", "http://10.0.0.1", UrlVerdict::plain_http},
    {"decimal_private_address", "http://3232235777/", UrlVerdict::plain_http},
    {"hexadecimal_private_address", "http://0xc0a80101", UrlVerdict::plain_http},
    {"zero", "http://0/", UrlVerdict::plain_http},
    {"any_ipv6_address", "http://[::]", UrlVerdict::plain_http},
    {"neighbour_of_ipv6_loopback", "http://[::2]", UrlVerdict::plain_http},
    {"compatible_ipv6_address", "http://[::127.0.0.1]", UrlVerdict::plain_http},
    {"mapped_address_in_hexadecimal", "http://[::ffff:7f00:1]", UrlVerdict::plain_http},
    {"link_local_ipv6_address", "http://[fe80::1]", UrlVerdict::plain_http},
    {"mapped_address", "http://[::ffff:127.0.0.1]", UrlVerdict::plain_http},
    {"ipv6_address", "http://[2001:db8::1]", UrlVerdict::plain_http},
    {"any_address", "http://0.0.0.0", UrlVerdict::plain_http},
    {"neighbour_below", "http://126.255.255.255", UrlVerdict::plain_http},
    {"neighbour_above", "http://128.0.0.1", UrlVerdict::plain_http},
    {"number_that_is_too_large", "http://127.0.0.256", UrlVerdict::plain_http},
    {"octal_that_is_not_127", "http://0127.0.0.1", UrlVerdict::plain_http},
    {"loopback_in_the_path", "http://evil.example/127.0.0.1", UrlVerdict::plain_http},
};
INSTANTIATE_TEST_SUITE_P(NotLoopback, JudgeBaseUrl, testing::ValuesIn(not_loopback), name_of);

const UrlCase with_credentials[] = {
    {"user_and_password", "https://user:secret@gateway.example/", UrlVerdict::has_credentials},
    {"encoded_password", "https://user:p%40ss@gateway.example/", UrlVerdict::has_credentials},
    {"user", "https://user@gateway.example/", UrlVerdict::has_credentials},
    {"empty_user", "https://@gateway.example/", UrlVerdict::has_credentials},
    {"localhost_as_the_user", "http://localhost@evil.example/", UrlVerdict::has_credentials},
    {"localhost_and_port_as_the_user", "http://localhost:80@evil.example/",
     UrlVerdict::has_credentials},
    {"two_at_signs", "http://evil.example@x@localhost/", UrlVerdict::has_credentials},
};
INSTANTIATE_TEST_SUITE_P(Credentials, JudgeBaseUrl, testing::ValuesIn(with_credentials), name_of);

const UrlCase with_query[] = {
    {"query", "https://gateway.example/?key=1", UrlVerdict::has_query_or_fragment},
    {"empty_query", "https://gateway.example/?", UrlVerdict::has_query_or_fragment},
    {"query_without_a_path", "https://gateway.example?key=1", UrlVerdict::has_query_or_fragment},
    {"fragment", "https://gateway.example/#top", UrlVerdict::has_query_or_fragment},
    {"empty_fragment", "https://gateway.example/#", UrlVerdict::has_query_or_fragment},
    {"host_after_a_fragment", "http://localhost#@evil.example/", UrlVerdict::has_query_or_fragment},
    {"host_after_a_query", "http://localhost?@evil.example/", UrlVerdict::has_query_or_fragment},
};
INSTANTIATE_TEST_SUITE_P(Query, JudgeBaseUrl, testing::ValuesIn(with_query), name_of);

const UrlCase other_schemes[] = {
    {"ftp", "ftp://gateway.example/", UrlVerdict::scheme_unsupported},
    {"gopher", "gopher://127.0.0.1:5432/", UrlVerdict::scheme_unsupported},
    {"unknown", "httpx://gateway.example/", UrlVerdict::scheme_unsupported},
    {"file_with_a_host", "file://localhost/etc/passwd", UrlVerdict::scheme_unsupported},
    {"file", "file:///etc/passwd", UrlVerdict::scheme_unsupported},
};
INSTANTIATE_TEST_SUITE_P(OtherSchemes, JudgeBaseUrl, testing::ValuesIn(other_schemes), name_of);

const UrlCase malformed[] = {
    {"empty", "", UrlVerdict::malformed},
    {"no_scheme", "gateway.example/pay", UrlVerdict::malformed},
    {"no_scheme_but_a_port", "gateway.example:8080/pay", UrlVerdict::malformed},
    {"empty_scheme", "://gateway.example", UrlVerdict::malformed},
    {"no_host", "https://", UrlVerdict::malformed},
    {"no_host_but_a_port", "https://:443/", UrlVerdict::malformed},
    {"one_slash", "https:/gateway.example/", UrlVerdict::malformed},
    {"one_slash_and_credentials", "https:/user:secret@x://y/", UrlVerdict::malformed},
    {"no_slash", "https:gateway.example", UrlVerdict::malformed},
    {"three_slashes", "https:///gateway.example/", UrlVerdict::malformed},
    {"port_too_large", "https://gateway.example:99999/", UrlVerdict::malformed},
    {"port_of_letters", "https://gateway.example:http/", UrlVerdict::malformed},
    {"negative_port", "https://gateway.example:-1/", UrlVerdict::malformed},
    {"open_bracket", "https://[::1/", UrlVerdict::malformed},
    {"no_address_in_brackets", "https://[gateway]/", UrlVerdict::malformed},
    {"space_in_the_host", "https://gate way.example/", UrlVerdict::malformed},
    {"space_in_the_path", "https://gateway.example/a b", UrlVerdict::malformed},
    {"leading_space", " https://gateway.example/", UrlVerdict::malformed},
    {"tab", "https://gateway.example/\t", UrlVerdict::malformed},
    {"line_break", "https://gateway.example/\r\nX-Injected: 1", UrlVerdict::malformed},
    {"trailing_line_break", "https://gateway.example/\n", UrlVerdict::malformed},
    {"zero_byte", std::string("http://localhost\0.evil.example", 30), UrlVerdict::malformed},
    {"delete_character", "https://gateway.example/\x7f", UrlVerdict::malformed},
    {"letters_beyond_ascii", "https://gat\xc3\xa9way.example/", UrlVerdict::malformed},
    {"wide_letters",
     "http://\xef\xbd\x8c\xef\xbd\x8f"
     "calhost/",
     UrlVerdict::malformed},
    {"bytes_of_no_encoding", "https://\xff\xfe/", UrlVerdict::malformed},
    {"encoded_host", "http://%6cocalhost/", UrlVerdict::malformed},
    {"encoded_at_sign", "http://localhost%40evil.example/", UrlVerdict::malformed},
    {"zone", "http://[fe80::1%25eth0]/", UrlVerdict::malformed},
    {"backslash", "http://localhost\\.evil.example/", UrlVerdict::malformed},
};
INSTANTIATE_TEST_SUITE_P(Malformed, JudgeBaseUrl, testing::ValuesIn(malformed), name_of);

TEST(JudgeBaseUrlLength, RefusesOneByteTooMuch) {
    const std::string prefix = "https://gateway.example/";
    EXPECT_EQ(judge_base_url(prefix + std::string(max_url_bytes + 1 - prefix.size(), 'a')),
              UrlVerdict::too_long);
}

TEST(JudgeBaseUrlLength, RefusesAMegabyte) {
    EXPECT_EQ(judge_base_url("https://" + std::string(1 << 20, 'a')), UrlVerdict::too_long);
}

}  // namespace
}  // namespace payonce::net
