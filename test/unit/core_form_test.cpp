// Forms as others send and read them: what is signed over one reading of a form must not be used by
// another, so a form that can be read in two ways is not read at all.
#include "core/form.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>

namespace payonce::core {
namespace {

using namespace std::string_literals;

TEST(WriteForm, KeepsTheOrderGiven) {
    EXPECT_EQ(write_form({}), "");
    EXPECT_EQ(write_form({{"b", "1"}, {"a", "2"}, {"b2", ""}}), "b=1&a=2&b2=");
}

TEST(WriteForm, EncodesNamesAndValues) {
    EXPECT_EQ(write_form({{"metadata[out_refund_no]", "P*1|2@3-R1"}}),
              "metadata%5Bout_refund_no%5D=P%2A1%7C2%403-R1");
    EXPECT_EQ(write_form({{"a&b=c", "d+e f%g"}}), "a%26b%3Dc=d%2Be%20f%25g");
    EXPECT_EQ(write_form({{"note", "用户"}}), "note=%E7%94%A8%E6%88%B7");
    EXPECT_EQ(write_form({{"zero", "a\0b"s}}), "zero=a%00b");
}

TEST(ReadForm, DecodesInTheOrderReceived) {
    const auto fields = read_form("b=1&a=%E7%94%A8+%e6%88%b7&empty=&x=1=2&%61%62=c%2Bd");
    ASSERT_TRUE(fields);
    const FormFields expected = {
        {"b", "1"}, {"a", "用 户"}, {"empty", ""}, {"x", "1=2"}, {"ab", "c+d"}};
    EXPECT_EQ(*fields, expected);
}

TEST(ReadForm, OfNothingHasNoField) {
    const auto fields = read_form("");
    ASSERT_TRUE(fields);
    EXPECT_TRUE(fields->empty());
}

TEST(ReadForm, RefusesWhatCanBeReadInTwoWays) {
    for (const char* body : {"a=1&a=2", "a=1&%61=2", "a=1&b=2&a=1", "=1&=2"}) {
        EXPECT_FALSE(read_form(body)) << body;
    }
}

TEST(ReadForm, RefusesPartsWithoutAnEqualsSign) {
    for (const char* body : {"a", "a=1&b", "a&b=1", "&", "&&", "a=1&", "&a=1", "a=1&&b=2"}) {
        EXPECT_FALSE(read_form(body)) << body;
    }
}

TEST(ReadForm, RefusesBrokenPercentSigns) {
    for (const char* body : {"a=%", "a=%4", "a=%4&b=1", "a=%G1", "a=%1G", "a=%%41", "a=%+1", "%=1",
                             "%4=1", "a=1%", "a=% 1", "a=%-1", "a=%0x"}) {
        EXPECT_FALSE(read_form(body)) << body;
    }
}

TEST(ReadForm, TakesAPercentSignAtTheVeryEnd) {
    const auto fields = read_form("a=%41");
    ASSERT_TRUE(fields);
    EXPECT_EQ(form_value(*fields, "a"), "A");
}

TEST(ReadForm, ReadsEveryByteBack) {
    FormFields fields;
    for (int i = 0; i < 256; ++i) {
        const char c = static_cast<char>(i);
        fields.emplace_back("n"s + c, std::string(3, c));
    }
    const auto read = read_form(write_form(fields));
    ASSERT_TRUE(read);
    EXPECT_EQ(*read, fields);
}

TEST(ReadForm, SurvivesNoise) {
    std::mt19937 random(20260115);
    constexpr std::string_view likely = "a=&%+1Ff\xFF";
    for (int round = 0; round < 20000; ++round) {
        std::string body;
        const auto length = random() % 24;
        while (body.size() < length) {
            body.push_back(likely[random() % likely.size()]);
        }
        if (const auto fields = read_form(body)) {
            // What was read is read the same when it is written again.
            EXPECT_EQ(read_form(write_form(*fields)), fields) << body;
        }
    }
}

TEST(FormValue, IsEmptyWhenThereIsNone) {
    const FormFields fields = {{"a", "1"}, {"b", ""}};
    EXPECT_EQ(form_value(fields, "a"), "1");
    EXPECT_EQ(form_value(fields, "b"), "");
    EXPECT_EQ(form_value(fields, "A"), "");
    EXPECT_EQ(form_value({}, "a"), "");
}

}  // namespace
}  // namespace payonce::core
