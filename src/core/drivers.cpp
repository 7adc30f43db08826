// The drivers that there are: one row each.
#include <algorithm>
#include <array>

#include "core/gateway.h"
#include "core/gateways/alipay.h"
#include "core/gateways/http.h"
#include "core/gateways/stripe.h"
#include "core/gateways/wechat.h"

namespace payonce::core {
namespace {

constexpr std::array<const Driver*, 4> all = {
    &http_driver,
    &wechat_driver,
    &alipay_driver,
    &stripe_driver,
};

}  // namespace

std::span<const Driver* const> drivers() noexcept {
    return all;
}

const Driver* find_driver(std::string_view wrapper) noexcept {
    const auto* const found = std::find_if(
        all.begin(), all.end(), [=](const Driver* driver) { return driver->wrapper == wrapper; });
    return found == all.end() ? nullptr : *found;
}

}  // namespace payonce::core
