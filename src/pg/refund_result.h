// Applies what core decided about a refund: the refund's row, then its payment's standing.
#pragma once

#include <cstddef>
#include <optional>

#include "core/refund.h"
#include "pg/pg.h"
#include "pg/store.h"

namespace payonce::pg {

// What was decided about a refund whose order's advisory lock and whose payment's and own row are
// held by the caller.
struct RefundResult {
    RefundChange change;
    bool payment_has_attention = false;
    // Where the payment stands, if this refund is the only one of it that counts; the sums are left
    // out.
    std::optional<Standing> payment;
};

// Of a payment and of a refund at most one result at a time.
void apply_refund_results(const char* schema, const RefundResult* results, std::size_t count,
                          TimestampTz now);
void apply_refund_step(const char* schema, const PaymentRow& payment, const RefundRow& refund,
                       const core::RefundStep& step, const RefundNews& news, TimestampTz now);

}  // namespace payonce::pg
