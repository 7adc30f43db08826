// JSON that somebody else wrote: whatever it holds, reading it neither crashes nor makes an amount
// out of what is none.
#include "core/json.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace payonce::core {
namespace {

using namespace std::string_view_literals;
using nlohmann::json;

TEST(ParseJson, TakesJsonOnly) {
    for (const std::string_view text :
         {"{}"sv, "[]"sv, "null"sv, "1"sv, R"("a")"sv, " {\"a\": [1, 2.5, true]}\r\n\t"sv}) {
        EXPECT_FALSE(parse_json(text).is_discarded()) << text;
    }
    for (const std::string_view text : {""sv,
                                        " "sv,
                                        "{"sv,
                                        "{}{}"sv,
                                        "{} x"sv,
                                        "{a:1}"sv,
                                        "{'a':1}"sv,
                                        "[1,]"sv,
                                        "{\"a\":1,}"sv,
                                        "01"sv,
                                        "+1"sv,
                                        "NaN"sv,
                                        "1e999"sv,
                                        "// c\n{}"sv,
                                        "{}/*c*/"sv,
                                        "\"\xFF\""sv,
                                        "\"\xED\xA0\x80\""sv,
                                        "\"\\ud800\""sv,
                                        "\"\n\""sv,
                                        "<html></html>"sv}) {
        EXPECT_TRUE(parse_json(text).is_discarded()) << text;
    }
}

TEST(ParseJson, DoesNotTakeAZeroByteForTheEnd) {
    EXPECT_TRUE(parse_json("{}\0"sv).is_discarded());
    EXPECT_TRUE(parse_json("{\"status\":\"succeeded\"}\0{}"sv).is_discarded());
    EXPECT_TRUE(parse_json("\0"sv).is_discarded());
}

TEST(ParseJson, SurvivesDepth) {
    constexpr std::size_t depth = 300'000;
    const std::string open(depth, '[');
    EXPECT_TRUE(parse_json(open).is_discarded());
    EXPECT_TRUE(parse_json(open + std::string(depth, ']')).is_array());
    std::string objects;
    for (std::size_t i = 0; i < depth; ++i) {
        objects += "{\"a\":";
    }
    EXPECT_TRUE(parse_json(objects).is_discarded());
    EXPECT_TRUE(parse_json(objects + "1" + std::string(depth, '}')).is_object());
}

TEST(TextMember, IsCleanAndBounded) {
    const json object =
        parse_json(R"({"a":"b\n\u0000c\u001b[0m","n":1,"o":{},"z":null,"u":"余额"})");
    EXPECT_EQ(text_member(object, "a", 100), "b  c [0m");
    EXPECT_EQ(text_member(object, "a", 2), "b ");
    EXPECT_EQ(text_member(object, "u", 5), "余");
    for (const char* name : {"n", "o", "z", "none", ""}) {
        EXPECT_EQ(text_member(object, name, 100), "") << name;
    }
}

TEST(IntegerMember, IsWholeAndFits) {
    const auto read = [](const std::string& number) {
        return integer_member(parse_json("{\"n\":" + number + "}"), "n");
    };
    EXPECT_EQ(read("0"), 0);
    EXPECT_EQ(read("-1"), -1);
    EXPECT_EQ(read("9999"), 9999);
    EXPECT_EQ(read("9223372036854775807"), std::numeric_limits<std::int64_t>::max());
    EXPECT_EQ(read("-9223372036854775808"), std::numeric_limits<std::int64_t>::min());
    for (const char* number :
         {"9223372036854775808", "18446744073709551615", "18446744073709551616",
          "-9223372036854775809", "1.0", "1e2", "0.5", "\"1\"", "true", "null", "[1]", "{}"}) {
        EXPECT_FALSE(read(number)) << number;
    }
    EXPECT_FALSE(integer_member(parse_json("{}"), "n"));
}

TEST(ObjectMember, IsAnObjectOrNull) {
    const json object = parse_json(R"({"o":{"a":1},"n":1,"l":[{}],"z":null})");
    EXPECT_EQ(integer_member(object_member(object, "o"), "a"), 1);
    for (const char* name : {"n", "l", "z", "none"}) {
        EXPECT_TRUE(object_member(object, name).is_null()) << name;
    }
}

TEST(Members, OfWhatIsNoObjectAreNone) {
    for (const std::string_view text : {"[{\"a\":1}]"sv, "null"sv, "1"sv, "\"a\""sv, "broken"sv}) {
        const json value = parse_json(text);
        EXPECT_EQ(text_member(value, "a", 100), "") << text;
        EXPECT_FALSE(integer_member(value, "a")) << text;
        EXPECT_TRUE(object_member(value, "a").is_null()) << text;
        EXPECT_EQ(text_member(object_member(object_member(value, "a"), "b"), "c", 100), "");
    }
}

// Whose last word counts is the parser's choice; that it is one of them, whole, is what matters.
TEST(Members, GivenTwiceAreOneOfThem) {
    const json object = parse_json(R"({"n":1,"n":2})");
    EXPECT_EQ(integer_member(object, "n"), 2);
}

}  // namespace
}  // namespace payonce::core
