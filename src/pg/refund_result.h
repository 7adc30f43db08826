// Applies what core decided about a refund: the refund's row, then its payment's standing.
#pragma once

#include "core/refund.h"
#include "pg/pg.h"
#include "pg/store.h"

namespace payonce::pg {

// The order's advisory lock, the payment's and the refund's row are held by the caller.
void apply_refund_step(const char* schema, const PaymentRow& payment, const RefundRow& refund,
                       const core::RefundStep& step, const RefundNews& news, TimestampTz now);

}  // namespace payonce::pg
