// What all drivers have in common: the options that they are given, the names under which they and
// their options are found, the headers that they look up, and secrets that leave nothing behind.
#include "core/gateway.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <new>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/http_message.h"
#include "core/secret.h"

namespace {

// What memory is given back with: the text is looked for in all of it while a watch is on. Plain
// memory, since what it counts may allocate nothing.
struct Watch {
    const char* text = nullptr;
    std::size_t size = 0;
    int given_back = 0;
    int found = 0;
};
Watch watch;

// The size is kept in front of what is given out.
constexpr std::size_t front = alignof(std::max_align_t);

void* allocate(std::size_t size) noexcept {
    auto* memory = static_cast<char*>(std::malloc(front + size));
    if (memory == nullptr) {
        return nullptr;
    }
    std::memcpy(memory, &size, sizeof size);
    return memory + front;
}

void give_back(void* pointer) noexcept {
    if (pointer == nullptr) {
        return;
    }
    char* const memory = static_cast<char*>(pointer) - front;
    std::size_t size = 0;
    std::memcpy(&size, memory, sizeof size);
    if (watch.text != nullptr) {
        ++watch.given_back;
        watch.found += memmem(pointer, size, watch.text, watch.size) == nullptr ? 0 : 1;
    }
    std::free(memory);
}

}  // namespace

// NOLINTBEGIN(misc-new-delete-overloads)
void* operator new(std::size_t size) {
    void* memory = allocate(size);
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}
void operator delete(void* pointer) noexcept {
    give_back(pointer);
}
void operator delete(void* pointer, std::size_t) noexcept {
    give_back(pointer);
}
// NOLINTEND(misc-new-delete-overloads)

namespace payonce::core {
namespace {

// ---- Secrets -----------------------------------------------------------------------------------

// Longer than what a std::string would keep inside itself.
constexpr const char* secret_text = "a secret that no memory may be given back with";

// Looks for the secret in all memory that is given back as long as it lives.
class SecretWatch {
  public:
    SecretWatch() { watch = Watch{secret_text, std::strlen(secret_text), 0, 0}; }
    ~SecretWatch() { watch = Watch{}; }
    SecretWatch(const SecretWatch&) = delete;
    SecretWatch& operator=(const SecretWatch&) = delete;

    static int given_back() { return watch.given_back; }
    static int found() { return watch.found; }
};

// Filled before a watch begins.
Secret made() {
    return Secret(secret_text);
}

TEST(SecretWatchItself, SeesWhatIsNotOverwritten) {
    const SecretWatch watching;
    { const std::string careless(secret_text); }
    EXPECT_EQ(SecretWatch::found(), 1);
}

TEST(Secret, IsOverwrittenBeforeItsMemoryIsGivenBack) {
    const SecretWatch watching;
    { const Secret secret(secret_text); }
    EXPECT_EQ(SecretWatch::given_back(), 1);
    EXPECT_EQ(SecretWatch::found(), 0);
}

TEST(Secret, AMoveLeavesNothingBehind) {
    const SecretWatch watching;
    {
        Secret from = made();
        Secret to(std::move(from));
        EXPECT_EQ(to.view(), secret_text);
        EXPECT_TRUE(from.empty());  // NOLINT(bugprone-use-after-move): what is tested
        EXPECT_EQ(from.view().size(), 0U);
    }
    EXPECT_EQ(SecretWatch::given_back(), 1) << "there was one all the time";
    EXPECT_EQ(SecretWatch::found(), 0);
}

TEST(Secret, AnAssignmentOverwritesWhatWasThere) {
    const SecretWatch watching;
    {
        Secret to = made();
        Secret from("another one, as long as the one that was there");
        to = std::move(from);
        EXPECT_EQ(to.view(), "another one, as long as the one that was there");
        EXPECT_TRUE(from.empty());  // NOLINT(bugprone-use-after-move): what is tested
        EXPECT_EQ(SecretWatch::given_back(), 1) << "at once";
    }
    EXPECT_EQ(SecretWatch::given_back(), 2);
    EXPECT_EQ(SecretWatch::found(), 0);
}

TEST(Secret, AnAssignmentToItselfKeepsIt) {
    Secret secret = made();
    Secret& itself = secret;
    secret = std::move(itself);
    EXPECT_EQ(secret.view(), secret_text);
}

TEST(Secret, ACopyIsOverwrittenToo) {
    const SecretWatch watching;
    {
        const Secret secret = made();
        const Secret copy = secret.copy();
        EXPECT_EQ(copy.view(), secret.view());
        EXPECT_NE(copy.view().data(), secret.view().data());
    }
    EXPECT_EQ(SecretWatch::given_back(), 2);
    EXPECT_EQ(SecretWatch::found(), 0);
}

TEST(Secret, AVectorThatGrowsLeavesNothingBehind) {
    const SecretWatch watching;
    {
        std::vector<Secret> secrets;
        for (int i = 0; i < 100; ++i) {
            secrets.push_back(made());
        }
        EXPECT_EQ(secrets.back().view(), secret_text);
    }
    EXPECT_GE(SecretWatch::given_back(), 100);
    EXPECT_EQ(SecretWatch::found(), 0);
}

TEST(Secret, CanHoldAnyBytesAndNone) {
    const std::string_view bytes("a\0b\xff", 4);
    EXPECT_EQ(Secret(bytes).view(), bytes);
    EXPECT_TRUE(Secret().empty());
    EXPECT_TRUE(Secret("").empty());
}

TEST(Secret, IsNeverCopiedByAccident) {
    EXPECT_FALSE(std::is_copy_constructible_v<Secret>);
    EXPECT_FALSE(std::is_copy_assignable_v<Secret>);
    EXPECT_FALSE((std::is_convertible_v<std::string_view, Secret>));
    EXPECT_TRUE(std::is_nothrow_move_constructible_v<GatewayOptions>);
}

// ---- Options -----------------------------------------------------------------------------------

TEST(GatewayOptions, GivesWhatWasSet) {
    GatewayOptions options;
    options.set("url", "https://pay.example.com");
    options.set("token", std::string_view("a\0b", 3));
    options.set("empty", "");
    EXPECT_EQ(options.get("url"), "https://pay.example.com");
    EXPECT_EQ(options.get("token"), std::string_view("a\0b", 3));
    EXPECT_TRUE(options.has("url"));
    EXPECT_EQ(options.get("ur"), "");
    EXPECT_EQ(options.get("URL"), "");
    EXPECT_FALSE(options.has("missing"));
    EXPECT_FALSE(options.has("empty")) << "an empty value is none";
    EXPECT_FALSE(GatewayOptions().has("url"));
}

TEST(GatewayOptions, KeepsNoPointerToWhatWasGiven) {
    GatewayOptions options;
    {
        std::string name = "token";
        std::string value = "value-1";
        options.set(name, value);
        name.assign(5, 'x');
        value.assign(7, 'x');
    }
    EXPECT_EQ(options.get("token"), "value-1");
}

TEST(GatewayOptions, AreEqualWhenNamesAndValuesAre) {
    const auto options = [](std::initializer_list<std::pair<const char*, const char*>> given) {
        GatewayOptions made;
        for (const auto& [name, value] : given) {
            made.set(name, value);
        }
        return made;
    };
    EXPECT_TRUE(options({}) == options({}));
    EXPECT_TRUE(options({{"a", "1"}, {"b", "2"}}) == options({{"a", "1"}, {"b", "2"}}));
    EXPECT_FALSE(options({{"a", "1"}}) == options({{"a", "2"}}));
    EXPECT_FALSE(options({{"a", "1"}}) == options({{"b", "1"}}));
    EXPECT_FALSE(options({{"a", "1"}}) == options({{"a", "1"}, {"b", "2"}}));
    EXPECT_FALSE(options({{"a", "1"}, {"b", "2"}}) == options({{"a", "1"}}));
    EXPECT_FALSE(options({{"a", "1"}}) == options({}));
    EXPECT_FALSE(options({{"a", "12"}}) == options({{"a", "1"}}));
}

TEST(GatewayOptions, LeaveNoValueBehind) {
    const SecretWatch watching;
    {
        GatewayOptions options;
        for (const char* name : {"a", "b", "c", "d", "e", "f", "g", "h", "i"}) {
            options.set(name, secret_text);
        }
        GatewayOptions moved = std::move(options);
        GatewayOptions assigned;
        assigned.set("old", secret_text);
        assigned = std::move(moved);
        EXPECT_EQ(assigned.get("i"), secret_text);
    }
    EXPECT_GE(SecretWatch::given_back(), 10);
    EXPECT_EQ(SecretWatch::found(), 0);
}

// ---- Drivers -----------------------------------------------------------------------------------

constexpr std::array<std::string_view, 6> common_options = {
    "url", "ca_file", "timeout", "max_in_flight", "rate_limit", "paused"};

// They are handed to C as they are.
bool ends_with_zero(std::string_view text) {
    return text.data() != nullptr && text.data()[text.size()] == '\0' &&
           std::strlen(text.data()) == text.size();
}

bool is_name(std::string_view text) {
    return !text.empty() && text.size() < 50 && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    });
}

TEST(Drivers, AreThoseOfTheContract) {
    std::vector<std::string_view> wrappers;
    for (const Driver* driver : drivers()) {
        wrappers.push_back(driver->wrapper);
    }
    EXPECT_EQ(wrappers, (std::vector<std::string_view>{"payonce_http", "payonce_wechat",
                                                       "payonce_alipay", "payonce_stripe"}));
}

TEST(Drivers, AreFoundByTheirWrapper) {
    for (const Driver* driver : drivers()) {
        EXPECT_EQ(find_driver(driver->wrapper), driver);
        EXPECT_EQ(find_driver(std::string(driver->wrapper) + "x"), nullptr);
        EXPECT_EQ(find_driver(driver->wrapper.substr(0, driver->wrapper.size() - 1)), nullptr);
    }
    EXPECT_EQ(find_driver(""), nullptr);
    EXPECT_EQ(find_driver("postgres_fdw"), nullptr);
    EXPECT_EQ(find_driver("PAYONCE_HTTP"), nullptr);
    EXPECT_EQ(find_driver(std::string_view()), nullptr);
}

TEST(Drivers, HaveWrappersOfTheirOwn) {
    std::set<std::string_view> seen;
    for (const Driver* driver : drivers()) {
        EXPECT_TRUE(driver->wrapper.starts_with("payonce_")) << driver->wrapper;
        EXPECT_TRUE(is_name(driver->wrapper)) << driver->wrapper;
        EXPECT_TRUE(ends_with_zero(driver->wrapper)) << driver->wrapper;
        EXPECT_TRUE(seen.insert(driver->wrapper).second) << driver->wrapper;
        EXPECT_NE(driver->open, nullptr) << driver->wrapper;
    }
}

TEST(Drivers, HaveOptionsThatCannotBeMistaken) {
    for (const Driver* driver : drivers()) {
        std::set<std::string> seen(common_options.begin(), common_options.end());
        for (const OptionRule& rule : driver->options) {
            const std::string name(rule.name);
            SCOPED_TRACE(std::string(driver->wrapper) + " " + name);
            EXPECT_TRUE(is_name(name));
            EXPECT_TRUE(ends_with_zero(rule.name));
            EXPECT_FALSE(name.ends_with("_file")) << "that is the same option's other form";
            EXPECT_TRUE(seen.insert(name).second);
            if (rule.has_file) {
                EXPECT_TRUE(seen.insert(name + "_file").second);
                EXPECT_EQ(rule.scope, OptionScope::user_mapping)
                    << "anyone may read the options of a server";
            }
        }
    }
}

TEST(Drivers, HaveTraitsThatCanBeKept) {
    for (const Driver* driver : drivers()) {
        const GatewayTraits& traits = driver->traits;
        SCOPED_TRACE(driver->wrapper);
        EXPECT_GE(traits.query_delay_s, 0);
        EXPECT_LE(traits.query_delay_s, 60);
        EXPECT_GE(traits.payment_spacing_s, 0);
        EXPECT_LE(traits.payment_spacing_s, 60);
        EXPECT_GE(traits.refund_window_s, 0);
        EXPECT_TRUE(traits.idempotency_horizon_s == 0 || traits.idempotency_horizon_s > 3600);
        EXPECT_GE(traits.rate_limit_per_s, 0);
    }
}

// ---- Headers -----------------------------------------------------------------------------------

TEST(HeaderValue, IsTheOneHeadersOfThatName) {
    const std::vector<HttpHeader> headers = {{"Content-Type", "application/json"},
                                             {"Wechatpay-Nonce", "c5ac"},
                                             {"X-Empty", ""},
                                             {"X-Twice", "1"},
                                             {"x-twice", "1"}};
    EXPECT_EQ(header_value(headers, "Wechatpay-Nonce"), "c5ac");
    EXPECT_EQ(header_value(headers, "WECHATPAY-nonce"), "c5ac");
    EXPECT_EQ(header_value(headers, "content-type"), "application/json");
    EXPECT_EQ(header_value(headers, "X-Empty"), "") << "there, and empty";
    EXPECT_EQ(header_value(headers, "Wechatpay-Nonc"), std::nullopt);
    EXPECT_EQ(header_value(headers, "Wechatpay-Nonce2"), std::nullopt);
    EXPECT_EQ(header_value(headers, "Wechatpay_Nonce"), std::nullopt);
    EXPECT_EQ(header_value(headers, ""), std::nullopt);
    EXPECT_EQ(header_value(headers, "X-Twice"), std::nullopt) << "even if they agree";
    EXPECT_EQ(header_value({}, "X-Twice"), std::nullopt);
}

TEST(HeaderValue, OnlyFoldsTheCaseOfAscii) {
    // '[' and '{' differ as letters' cases do, and so do these bytes of Latin-1.
    const std::vector<HttpHeader> headers = {{"X-[", "bracket"}, {"X-\xc9", "letter"}};
    EXPECT_EQ(header_value(headers, "X-{"), std::nullopt);
    EXPECT_EQ(header_value(headers, "x-["), "bracket");
    EXPECT_EQ(header_value(headers, "X-\xe9"), std::nullopt);
    EXPECT_EQ(header_value(headers, "x-\xc9"), "letter");
}

}  // namespace
}  // namespace payonce::core
