// The numbers that payonce takes and makes, at their edges and with every byte there is.
#include "core/identifiers.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace payonce::core {
namespace {

constexpr std::string_view payment_id_characters =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_*|@-";

std::string suffix_of(std::uint64_t random) {
    std::array<char, 8> out = {'#', '#', '#', '#', '#', '#', '#', '#'};
    request_suffix(random, out.data());
    EXPECT_EQ(out[6], '#') << "wrote past its six characters";
    return {out.data(), 6};
}

TEST(PaymentId, TakesItsCharactersAlone) {
    for (int byte = 0; byte < 256; ++byte) {
        const std::string id = {'A', static_cast<char>(byte), 'z'};
        const bool listed = payment_id_characters.find(id[1]) != std::string_view::npos;
        EXPECT_EQ(is_payment_id(id), listed) << byte;
        EXPECT_EQ(is_payment_id(id.substr(1, 1)), listed) << byte;
        EXPECT_EQ(is_payment_id(id.substr(0, 2)), listed) << byte;
    }
}

TEST(PaymentId, HasOneToFiftySixBytes) {
    EXPECT_FALSE(is_payment_id(""));
    EXPECT_TRUE(is_payment_id("1"));
    EXPECT_TRUE(is_payment_id(std::string(56, 'x')));
    EXPECT_FALSE(is_payment_id(std::string(57, 'x')));
    EXPECT_FALSE(is_payment_id(std::string(100'000, 'x')));
}

TEST(PaymentId, IsNoUtf8) {
    EXPECT_FALSE(is_payment_id("订单1"));
    EXPECT_FALSE(is_payment_id("\xff"));
}

TEST(TransactionId, IsPrintableAsciiWithoutBlanks) {
    for (int byte = 0; byte < 256; ++byte) {
        const std::string id = {'4', static_cast<char>(byte)};
        EXPECT_EQ(is_transaction_id(id), byte >= 0x21 && byte <= 0x7e) << byte;
    }
}

TEST(TransactionId, HasOneTo128Bytes) {
    EXPECT_FALSE(is_transaction_id(""));
    EXPECT_TRUE(is_transaction_id("4"));
    EXPECT_TRUE(is_transaction_id(std::string(128, '4')));
    EXPECT_FALSE(is_transaction_id(std::string(129, '4')));
}

TEST(Currency, TakesWhatCustomersPayIn) {
    for (const char* code : {"CNY", "USD", "EUR", "JPY", "GBP", "HKD", "TWD", "KRW", "SGD", "CHF",
                             "AED", "ZWG", "XOF", "XAF", "XCD", "XPF", "KWD", "VED", "BYN"}) {
        EXPECT_TRUE(is_currency(code)) << code;
    }
}

TEST(Currency, RefusesWhatIsNoMoney) {
    // Metals, bond units, drawing rights, funds, test and no currency; then typing errors.
    for (const char* code :
         {"XAU", "XAG", "XPT",  "XBA", "XDR",  "XSU",  "XUA", "XTS", "XXX", "CHE",
          "CHW", "CLF", "COU",  "MXV", "USN",  "UYI",  "UYW", "BOV", "RMB", "cny",
          "Cny", "CN",  "CNYY", "",    " CNY", "CNY ", "ZZZ", "AAA", "C\0Y"}) {
        EXPECT_FALSE(is_currency(code)) << code;
    }
    EXPECT_FALSE(is_currency(std::string_view("CNY\0", 4)));
}

TEST(Currency, KnowsTheWholeListAndNoMore) {
    int known = 0;
    for (char a = 'A'; a <= 'Z'; ++a) {
        for (char b = 'A'; b <= 'Z'; ++b) {
            for (char c = 'A'; c <= 'Z'; ++c) {
                known += is_currency(std::string{a, b, c}) ? 1 : 0;
            }
        }
    }
    // ISO 4217 has 180 codes or so, 20 of which are no money that a customer pays.
    EXPECT_EQ(known, 158);
}

TEST(RequestSuffix, IsSixOfDigitsAndLowerCaseLetters) {
    constexpr std::string_view alphabet = "0123456789abcdefghijklmnopqrstuvwxyz";
    std::uint64_t random = 1;
    std::map<char, int> used;
    for (int i = 0; i < 10'000; ++i) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        for (const char c : suffix_of(random)) {
            ASSERT_NE(alphabet.find(c), std::string_view::npos) << c;
            ++used[c];
        }
    }
    // Uniform: 60,000 characters over 36, so some 1,667 each.
    EXPECT_EQ(used.size(), alphabet.size());
    for (const auto& [c, times] : used) {
        EXPECT_GT(times, 1400) << c;
        EXPECT_LT(times, 1950) << c;
    }
}

TEST(RequestSuffix, DependsOnEachOfItsCharacters) {
    EXPECT_EQ(suffix_of(0), "000000");
    EXPECT_EQ(suffix_of(35), "z00000");
    EXPECT_EQ(suffix_of(36), "010000");
    EXPECT_EQ(suffix_of(std::uint64_t{36} * 36 * 36 * 36 * 36), "000001");
    EXPECT_EQ(suffix_of(std::uint64_t{36} * 36 * 36 * 36 * 36 * 36), "000000");
    suffix_of(std::numeric_limits<std::uint64_t>::max());
}

TEST(RefundGeneration, IsReadFromTheNumber) {
    EXPECT_EQ(refund_generation("A1-R1", "A1"), 1);
    EXPECT_EQ(refund_generation("A1-R2", "A1"), 2);
    EXPECT_EQ(refund_generation("A1-R99999", "A1"), max_refund_generation);
}

TEST(RefundGeneration, IsNoneForAnythingElse) {
    for (const char* refund_no : {"",
                                  "A1",
                                  "A1-",
                                  "A1-R",
                                  "A1-R0",
                                  "A1-R01",
                                  "A1-R-1",
                                  "A1-R+1",
                                  "A1-R 1",
                                  "A1-R1 ",
                                  "A1-R1x",
                                  "A1-r1",
                                  "A1-Qabc123",
                                  "A1-R100000",
                                  "A1-R4294967297",
                                  "A1-R99999999999999999999",
                                  "A2-R1",
                                  "XA1-R1",
                                  "a1-R1",
                                  "A1-R1-R2",
                                  "A1-R0x1",
                                  "A1R1"}) {
        EXPECT_EQ(refund_generation(refund_no, "A1"), 0) << refund_no;
    }
}

TEST(RefundGeneration, ReadsNothingBeyondTheNumber) {
    EXPECT_EQ(refund_generation(std::string_view("A1-R12").substr(0, 5), "A1"), 1);
    EXPECT_EQ(refund_generation(std::string_view("A1-R12").substr(0, 4), "A1"), 0);
}

TEST(RefundGeneration, TellsPaymentsApartWhoseIdsLookLikeRefunds) {
    EXPECT_EQ(refund_generation("A-R1-R2", "A-R1"), 2);
    EXPECT_EQ(refund_generation("A-R1-R2", "A"), 0);
}

TEST(RefundNumbers, FitTheStrictestGateway) {
    // "-R99999" and "-Q123456" after the longest payment id.
    EXPECT_LE(max_payment_id_bytes + 2 + std::to_string(max_refund_generation).size(),
              max_refund_no_bytes);
    EXPECT_LE(max_payment_id_bytes + 2 + 6, max_refund_no_bytes);
}

}  // namespace
}  // namespace payonce::core
