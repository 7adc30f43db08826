#include "core/gateways/alipay_text.h"

#include <algorithm>
#include <cstddef>

namespace payonce::core::alipay {
namespace {

struct Date {
    std::int64_t year = 0;
    std::int64_t month = 0;
    std::int64_t day = 0;
};

constexpr std::int64_t days_in_era = 146097;  // 400 years of the Gregorian calendar
constexpr std::int64_t epoch_day = 719468;    // 1970-01-01, counted from 0000-03-01

// Years that begin in March put the leap day at their end, so that no month needs a special case.
// `days` since 1970-01-01 is not negative.
Date date_of(std::int64_t days) noexcept {
    const std::int64_t shifted = days + epoch_day;
    const std::int64_t era = shifted / days_in_era;
    const std::int64_t day_of_era = shifted % days_in_era;
    const std::int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const std::int64_t day_of_year =
        day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const std::int64_t month_from_march = (5 * day_of_year + 2) / 153;
    const std::int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    return {
        .year = era * 400 + year_of_era + (month <= 2 ? 1 : 0),
        .month = month,
        .day = day_of_year - (153 * month_from_march + 2) / 5 + 1,
    };
}

std::string padded(std::int64_t number, std::size_t digits) {
    std::string text = std::to_string(number);
    return text.size() < digits ? std::string(digits - text.size(), '0') + text : text;
}

}  // namespace

std::string signed_text(FormFields fields, EmptyValues empty_values) {
    std::sort(fields.begin(), fields.end());
    std::string text;
    for (const auto& [name, value] : fields) {
        if (value.empty() && empty_values == EmptyValues::dropped) {
            continue;
        }
        text += text.empty() ? "" : "&";
        text += name;
        text += '=';
        text += value;
    }
    return text;
}

std::string beijing_time(std::int64_t unix_s) {
    constexpr std::int64_t utc_offset_s = 8LL * 3600;
    constexpr std::int64_t day_s = 24LL * 3600;
    constexpr std::int64_t year_10000 = 253402300800;
    const std::int64_t local =
        std::clamp<std::int64_t>(unix_s, 0, year_10000 - 1 - utc_offset_s) + utc_offset_s;
    const Date date = date_of(local / day_s);
    const std::int64_t second = local % day_s;
    return padded(date.year, 4) + "-" + padded(date.month, 2) + "-" + padded(date.day, 2) + " " +
           padded(second / 3600, 2) + ":" + padded(second / 60 % 60, 2) + ":" +
           padded(second % 60, 2);
}

std::optional<std::string> certificate_sn(const Certificate& certificate,
                                          const CryptoPort& crypto) {
    return crypto.md5_hex(certificate.issuer() + certificate.serial_decimal());
}

std::optional<std::string> root_certificate_sn(const Certificates& bundle,
                                               const CryptoPort& crypto) {
    std::string joined;
    for (const auto& certificate : bundle) {
        if (!certificate->is_rsa_signed()) {
            continue;
        }
        const auto sn = certificate_sn(*certificate, crypto);
        if (!sn) {
            return std::nullopt;
        }
        joined += (joined.empty() ? "" : "_") + *sn;
    }
    return joined;
}

}  // namespace payonce::core::alipay
