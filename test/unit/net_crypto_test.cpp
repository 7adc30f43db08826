// OpensslCrypto against published vectors (RFC 4231, RFC 4648, Standard Webhooks) and against every
// kind of text that is almost base64.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "net/openssl_crypto.h"

namespace payonce::net {
namespace {

std::string hex(std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const char c : bytes) {
        const auto byte = static_cast<std::uint8_t>(c);
        text += digits[byte >> 4U];
        text += digits[byte & 0x0fU];
    }
    return text;
}

std::string hmac_hex(std::string_view key, std::string_view message) {
    const std::optional<std::string> code = OpensslCrypto().hmac_sha256(key, message);
    return code ? hex(*code) : "no code";
}

// Bytes 1, 2, … n.
std::string counting_bytes(int n) {
    std::string bytes;
    for (int i = 1; i <= n; ++i) {
        bytes += static_cast<char>(i);
    }
    return bytes;
}

TEST(HmacSha256, MatchesRfc4231) {
    EXPECT_EQ(hmac_hex(std::string(20, '\x0b'), "Hi There"),
              "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    EXPECT_EQ(hmac_hex("Jefe", "what do ya want for nothing?"),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    EXPECT_EQ(hmac_hex(std::string(20, '\xaa'), std::string(50, '\xdd')),
              "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    EXPECT_EQ(hmac_hex(counting_bytes(25), std::string(50, '\xcd')),
              "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
    EXPECT_EQ(hmac_hex(std::string(131, '\xaa'),
                       "Test Using Larger Than Block-Size Key - Hash Key First"),
              "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    EXPECT_EQ(hmac_hex(std::string(131, '\xaa'),
                       "This is a test using a larger than block-size key and a larger than "
                       "block-size data. The key needs to be hashed before being used by the HMAC "
                       "algorithm."),
              "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

TEST(HmacSha256, TakesEmptyKeysAndMessages) {
    constexpr const char* code_of_nothing =
        "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad";
    EXPECT_EQ(hmac_hex("", ""), code_of_nothing);
    EXPECT_EQ(hmac_hex(std::string_view(), std::string_view()), code_of_nothing);
}

TEST(HmacSha256, TakesZeroBytes) {
    const std::string message("a\0b", 3);
    EXPECT_NE(hmac_hex("key", message), hmac_hex("key", "a"));
    EXPECT_NE(hmac_hex(std::string("k\0y", 3), message), hmac_hex("k", message));
}

TEST(HmacSha256, MatchesTheStandardWebhooksVector) {
    const OpensslCrypto crypto;
    const auto key = crypto.base64_decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    ASSERT_TRUE(key);
    const auto code =
        crypto.hmac_sha256(*key, R"(msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314})");
    ASSERT_TRUE(code);
    EXPECT_EQ(crypto.base64_encode(*code), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

TEST(Base64, MatchesRfc4648) {
    const OpensslCrypto crypto;
    const struct {
        std::string_view bytes;
        std::string_view text;
    } pairs[] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xfb\xff\xfe", "+//+"},
    };
    for (const auto& pair : pairs) {
        EXPECT_EQ(crypto.base64_encode(pair.bytes), pair.text);
        EXPECT_EQ(crypto.base64_decode(pair.text), pair.bytes) << pair.text;
    }
}

TEST(Base64, ReturnsEveryByteAtEveryLength) {
    const OpensslCrypto crypto;
    std::string bytes;
    for (int i = 0; i < 260; ++i) {
        EXPECT_EQ(crypto.base64_decode(crypto.base64_encode(bytes)), bytes) << "length " << i;
        bytes += static_cast<char>(255 - i);
    }
}

TEST(Base64, ReturnsTextsLongerThanOneCallOfEvp) {
    const OpensslCrypto crypto;
    std::string bytes(2 * 3 * (1 << 20) + 1, '\0');
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<char>(i * 31 % 251);
    }
    const std::string text = crypto.base64_encode(bytes);
    EXPECT_EQ(text.size(), (bytes.size() + 2) / 3 * 4);
    EXPECT_EQ(text.find('='), text.size() - 2);
    EXPECT_TRUE(crypto.base64_decode(text) == bytes);
}

TEST(Base64, RefusesWhatIsNotExactlyBase64) {
    const std::string_view refused[] = {
        "Z",                            // no whole group
        "Zg",                           // no padding
        "Zm8",                          //
        "Zg=",                          // too little padding
        "Zg===",                        // too much
        "Zm9v=",                        //
        "Zm9v====",                     //
        "=",                            // nothing but padding
        "==",                           //
        "===",                          //
        "====",                         //
        "Z===",                         // one digit is no byte
        "Zg==Zg==",                     // padding inside
        "Zm8=Zg==",                     //
        "Z=g=",                         //
        "=Zg=",                         //
        "Zh==",                         // bits after the last byte
        "Zm9=",                         //
        " Zm9v",                        // white space, which EVP itself forgives
        "Zm9v\n",                       //
        "Zm9v    ",                     //
        "Zm9v\r\n\r\n",                 //
        "Zm 9v\n\n\n",                  //
        "-__-",                         // the URL alphabet
        "Zm9*",                         // no alphabet
        "Zm9.",                         //
        "\xc3\xa9m9",                   // beyond ASCII
        std::string_view("Zm\0v", 4),   // a zero byte
        std::string_view("Zm9v\0", 5),  //
        "Zm9v-Zm9",                     // EVP takes a minus sign for the end
    };
    for (const std::string_view text : refused) {
        EXPECT_EQ(OpensslCrypto().base64_decode(text), std::nullopt) << "\"" << text << "\"";
    }
}

TEST(Base64, RefusesABadDigitAnywhere) {
    const OpensslCrypto crypto;
    const std::string good = crypto.base64_encode(std::string(48, 'x'));
    ASSERT_TRUE(crypto.base64_decode(good));
    for (std::size_t i = 0; i < good.size(); ++i) {
        std::string bad = good;
        bad[i] = '!';
        EXPECT_EQ(crypto.base64_decode(bad), std::nullopt) << "at " << i;
    }
}

TEST(Cleanse, OverwritesTheBytesAndEmptiesTheString) {
    std::string secret(100, 'k');
    const char* bytes = secret.data();
    cleanse(secret);
    EXPECT_TRUE(secret.empty());
    // The emptied string keeps its buffer, so that what is left in it can be looked at.
    ASSERT_EQ(secret.data(), bytes);
    EXPECT_EQ(std::count(bytes, bytes + 100, 'k'), 0);
}

}  // namespace
}  // namespace payonce::net
