// Foreign bytes made fit to be stored and shown: what a hostile gateway could put into an error
// text must neither fail the transaction that records it nor command the terminal that shows it.
#include "core/text.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

namespace payonce::core {
namespace {

using namespace std::string_view_literals;

std::string encode(char32_t code) {
    const auto byte = [](char32_t value) { return static_cast<char>(value); };
    if (code < 0x80) {
        return {byte(code)};
    }
    if (code < 0x800) {
        return {byte(0xC0 | code >> 6), byte(0x80 | (code & 0x3F))};
    }
    if (code < 0x10000) {
        return {byte(0xE0 | code >> 12), byte(0x80 | (code >> 6 & 0x3F)),
                byte(0x80 | (code & 0x3F))};
    }
    return {byte(0xF0 | code >> 18), byte(0x80 | (code >> 12 & 0x3F)),
            byte(0x80 | (code >> 6 & 0x3F)), byte(0x80 | (code & 0x3F))};
}

// Decodes as the Unicode standard's table of well-formed sequences says, written as a state machine
// over ranges: not how the code under test does it.
bool is_valid_utf8(std::string_view text) {
    int more = 0;
    int low = 0x80;
    int high = 0xBF;
    for (const char c : text) {
        const int byte = static_cast<std::uint8_t>(c);
        if (more > 0) {
            if (byte < low || byte > high) {
                return false;
            }
            low = 0x80;
            high = 0xBF;
            --more;
        } else if (byte > 0x7F) {
            if (byte < 0xC2 || byte > 0xF4) {
                return false;
            }
            more = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
            low = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
            high = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
        }
    }
    return more == 0;
}

bool has_control(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<std::uint8_t>(text[i]);
        const auto next = i + 1 < text.size() ? static_cast<std::uint8_t>(text[i + 1]) : 0;
        if (byte < 0x20 || byte == 0x7F || (byte == 0xC2 && next < 0xA0)) {
            return true;
        }
    }
    return false;
}

TEST(CleanText, LeavesGoodTextAlone) {
    for (const std::string_view text :
         {""sv, "insufficient balance"sv, "余额不足"sv, "café ☕"sv, "𝄞 and 😀"sv, "\xC2\xA0"sv,
          "\xEF\xBF\xBD"sv, "\xEF\xBF\xBF"sv, "\xF4\x8F\xBF\xBF"sv, "~!\"#$%&'()"sv}) {
        EXPECT_EQ(clean_text(text), text);
    }
}

TEST(CleanText, KeepsEveryCharacterThatIsNoControl) {
    for (char32_t code = 0; code <= 0x10FFFF; ++code) {
        if (code >= 0xD800 && code <= 0xDFFF) {
            continue;
        }
        const std::string text = encode(code);
        const bool control = code < 0x20 || (code >= 0x7F && code < 0xA0);
        ASSERT_EQ(clean_text(text), control ? " " : text) << static_cast<std::uint32_t>(code);
    }
}

TEST(CleanText, BlanksWhatCommandsATerminal) {
    EXPECT_EQ(clean_text("a\nb\r\tc"sv), "a b  c");
    EXPECT_EQ(clean_text("\x1B[31mred"sv), " [31mred");
    EXPECT_EQ(clean_text("\xC2\x9B"
                         "31mred"sv),
              " 31mred");
    EXPECT_EQ(clean_text("nul\0nul"sv), "nul nul");
    EXPECT_EQ(clean_text("del\x7F"sv), "del ");
}

TEST(CleanText, ReplacesEachByteThatIsNoUtf8) {
    EXPECT_EQ(clean_text("\x80"sv), "?");
    EXPECT_EQ(clean_text("a\xFFz"sv), "a?z");
    EXPECT_EQ(clean_text("\xC0\xAF"sv), "??");            // '/' in two bytes
    EXPECT_EQ(clean_text("\xC1\xBF"sv), "??");            // overlong
    EXPECT_EQ(clean_text("\xE0\x80\xAF"sv), "???");       // '/' in three
    EXPECT_EQ(clean_text("\xE0\x9F\xBF"sv), "???");       // U+07FF in three
    EXPECT_EQ(clean_text("\xF0\x8F\xBF\xBF"sv), "????");  // U+FFFF in four
    EXPECT_EQ(clean_text("\xED\xA0\x80"sv), "???");       // a surrogate
    EXPECT_EQ(clean_text("\xED\xBF\xBF"sv), "???");       // the last of them
    EXPECT_EQ(clean_text("\xF4\x90\x80\x80"sv), "????");  // U+110000
    EXPECT_EQ(clean_text("\xF8\x88\x80\x80\x80"sv), "?????");
}

TEST(CleanText, GoesOnAfterATornCharacter) {
    EXPECT_EQ(clean_text("\xE4\xBD"sv), "??");
    EXPECT_EQ(clean_text("\xE4"sv), "?");
    EXPECT_EQ(clean_text("\xF0\x9F\x98"sv), "???");
    EXPECT_EQ(clean_text("\xE4z"sv), "?z");
    EXPECT_EQ(clean_text("\xE4\xBD\xE4\xBD\x99"sv), "??余");
    EXPECT_EQ(clean_text("\xC2\xC2\xA0"sv), "?\xC2\xA0");
}

TEST(CleanText, NeverSplitsACharacterWhenItCuts) {
    const std::string text = "a余b😀";
    EXPECT_EQ(clean_text(text, 0), "");
    EXPECT_EQ(clean_text(text, 1), "a");
    EXPECT_EQ(clean_text(text, 2), "a");
    EXPECT_EQ(clean_text(text, 3), "a");
    EXPECT_EQ(clean_text(text, 4), "a余");
    EXPECT_EQ(clean_text(text, 5), "a余b");
    EXPECT_EQ(clean_text(text, 8), "a余b");
    EXPECT_EQ(clean_text(text, 9), text);
    EXPECT_EQ(clean_text(text, 100), text);
}

TEST(CleanText, HasABoundByDefault) {
    EXPECT_EQ(clean_text(std::string(1'000'000, 'x')).size(), max_error_bytes);
    EXPECT_EQ(clean_text(std::string(1'000'000, '\xFF')), std::string(max_error_bytes, '?'));
}

TEST(CleanText, IsValidWhateverComes) {
    std::mt19937 random(7);
    // Leads and continuations of UTF-8 more often than chance would bring them.
    constexpr std::string_view likely = "\x80\xBF\xC2\xE0\xED\xF0\xF4\x90\x9F\xA0 a\x1B";
    for (int round = 0; round < 20'000; ++round) {
        std::string bytes(random() % 40, '\0');
        for (char& c : bytes) {
            c = random() % 2 == 0 ? likely[random() % likely.size()]
                                  : static_cast<char>(random() % 256);
        }
        const std::size_t max_bytes = random() % 45;
        const std::string clean = clean_text(bytes, max_bytes);
        ASSERT_LE(clean.size(), max_bytes);
        ASSERT_TRUE(is_valid_utf8(clean));
        ASSERT_FALSE(has_control(clean));
        ASSERT_EQ(clean_text(clean, max_bytes), clean) << "clean text is not cleaned again";
        if (is_valid_utf8(bytes) && !has_control(bytes) && bytes.size() <= max_bytes) {
            ASSERT_EQ(clean, bytes);
        }
    }
}

TEST(PercentEncode, KeepsTheUnreservedAlone) {
    constexpr std::string_view unreserved =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    constexpr std::string_view hexadecimal = "0123456789ABCDEF";
    for (int byte = 0; byte < 256; ++byte) {
        const std::string text(1, static_cast<char>(byte));
        const std::string escaped = {'%', hexadecimal[static_cast<std::size_t>(byte / 16)],
                                     hexadecimal[static_cast<std::size_t>(byte % 16)]};
        const bool kept = unreserved.find(text) != std::string_view::npos;
        EXPECT_EQ(percent_encode(text), kept ? text : escaped) << byte;
    }
}

TEST(PercentEncode, LeavesNothingThatEndsAPathSegment) {
    EXPECT_EQ(percent_encode("A*1|2@3-R1"), "A%2A1%7C2%403-R1");
    EXPECT_EQ(percent_encode("a/b?c#d%e f"), "a%2Fb%3Fc%23d%25e%20f");
    EXPECT_EQ(percent_encode("余"), "%E4%BD%99");
    EXPECT_EQ(percent_encode(""), "");
}

}  // namespace
}  // namespace payonce::core
