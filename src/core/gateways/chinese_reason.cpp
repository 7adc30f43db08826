#include "core/gateways/chinese_reason.h"

namespace payonce::core {

std::string_view chinese_reason(std::string_view reason) noexcept {
    if (reason == "duplicate") {
        return "订单重复支付";
    }
    if (reason == "late") {
        return "订单已关闭";
    }
    return reason == "mismatch" ? "支付金额不符" : "商家退款";
}

}  // namespace payonce::core
