#include "core/identifiers.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/text.h"

namespace payonce::core {
namespace {

// ISO 4217 list one, without the codes that no customer pays in: precious metals (XAU …), bond
// market units (XBA …), SDR, XTS, XXX and the funds codes. Sorted: it is searched by halves.
constexpr auto currencies = std::to_array<std::string_view>({
    "AED", "AFN", "ALL", "AMD", "ANG", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT",
    "BGN", "BHD", "BIF", "BMD", "BND", "BOB", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD",
    "CDF", "CHF", "CLP", "CNY", "COP", "CRC", "CUP", "CVE", "CZK", "DJF", "DKK", "DOP", "DZD",
    "EGP", "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP", "GMD", "GNF", "GTQ",
    "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IQD", "IRR", "ISK", "JMD", "JOD",
    "JPY", "KES", "KGS", "KHR", "KMF", "KPW", "KRW", "KWD", "KYD", "KZT", "LAK", "LBP", "LKR",
    "LRD", "LSL", "LYD", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR",
    "MWK", "MXN", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "OMR", "PAB", "PEN",
    "PGK", "PHP", "PKR", "PLN", "PYG", "QAR", "RON", "RSD", "RUB", "RWF", "SAR", "SBD", "SCR",
    "SDG", "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB",
    "TJS", "TMT", "TND", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "UGX", "USD", "UYU", "UZS",
    "VED", "VES", "VND", "VUV", "WST", "XAF", "XCD", "XCG", "XOF", "XPF", "YER", "ZAR", "ZMW",
    "ZWG", "ZWL",
});
static_assert(std::is_sorted(currencies.begin(), currencies.end()));

}  // namespace

bool is_payment_id(std::string_view id) noexcept {
    return !id.empty() && id.size() <= max_payment_id_bytes &&
           std::all_of(id.begin(), id.end(), [](char c) {
               return is_alphanumeric(c) || c == '_' || c == '*' || c == '|' || c == '@' ||
                      c == '-';
           });
}

bool is_transaction_id(std::string_view id) noexcept {
    return !id.empty() && id.size() <= max_transaction_id_bytes &&
           std::all_of(id.begin(), id.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

bool is_currency(std::string_view code) noexcept {
    return std::binary_search(currencies.begin(), currencies.end(), code);
}

void request_suffix(std::uint64_t random, char* out) noexcept {
    constexpr std::string_view alphabet = "0123456789abcdefghijklmnopqrstuvwxyz";
    // 36^6 divides 2^64 so nearly that the bias is below 10^-9: not worth a rejection loop.
    for (int i = 0; i < 6; ++i) {
        out[i] = alphabet[random % alphabet.size()];
        random /= alphabet.size();
    }
}

std::int32_t refund_generation(std::string_view refund_no, std::string_view payment_id) noexcept {
    if (!refund_no.starts_with(payment_id)) {
        return 0;
    }
    std::string_view rest = refund_no.substr(payment_id.size());
    if (!rest.starts_with("-R")) {
        return 0;
    }
    rest.remove_prefix(2);
    std::int32_t generation = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), generation);
    const bool whole = error == std::errc() && end == rest.data() + rest.size();
    return whole && generation >= 1 && generation <= max_refund_generation && rest[0] != '0'
               ? generation
               : 0;
}

}  // namespace payonce::core
