// The texts of Alipay's protocol that both directions share: what a signature covers, times, and
// the names of certificates.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/crypto_port.h"
#include "core/form.h"

namespace payonce::core::alipay {

enum class EmptyValues : std::uint8_t { dropped, kept };

// name=value, sorted by name, joined by '&', the values raw. `fields` holds what is signed: no
// `sign`, and in a notification about a trade no `sign_type`.
std::string signed_text(FormFields fields, EmptyValues empty_values);

// "yyyy-MM-dd HH:mm:ss" in Beijing, where no clock is ever put forward.
std::string beijing_time(std::int64_t unix_s);

// Empty optional when the library fails.
std::optional<std::string> certificate_sn(const Certificate& certificate, const CryptoPort& crypto);

// Of those certificates of the bundle that are signed with RSA, joined by '_'. Empty when there is
// none; empty optional when the library fails.
std::optional<std::string> root_certificate_sn(const Certificates& bundle,
                                               const CryptoPort& crypto);

}  // namespace payonce::core::alipay
