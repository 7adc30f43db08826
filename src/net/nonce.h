// Random text for requests that carry some, so that no two are alike.
#pragma once

#include <optional>
#include <string>

namespace payonce::net {

// 32 characters of [0-9A-Za-z], each as likely as any other. Empty optional when the system gives
// no random bytes.
std::optional<std::string> random_nonce();

}  // namespace payonce::net
