// Claims refunds for sending: the intent, made durable before any byte leaves.
#pragma once

#include <cstdint>

#include "pg/gateway_config.h"
#include "pg/pg.h"

namespace payonce::pg {

// What a claim left behind, for the worker's plans.
struct ClaimResult {
    int claimed;
    // More is due than a limit of concurrency let claim: look again after so many answers. 0:
    // nothing is.
    int answers_awaited;
    // When the next refund falls due, or the rate allows the next; `never` when nothing is known to
    // wait.
    TimestampTz next_due;
};

inline constexpr TimestampTz never = PG_INT64_MAX;

// One claimed attempt: palloc'd in the context that was current at claim().
struct ClaimedCall {
    const char* gateway;
    bool query;
    const char* refund_no;
    const char* payment_id;
    const char* order_id;
    const char* transaction_id;     // empty: unknown
    const char* gateway_refund_id;  // empty: unknown
    const char* currency;
    const char* reason;
    std::int64_t amount;
    std::int64_t payment_amount;
    int key_generation;
    int attempt;
    TimestampTz claimed_at;
};

// Inside a transaction of the worker: leases what is due and within each gateway's limits, at most
// payonce.batch_size. The calls may start once the transaction is committed and durable.
// `one_by_one`, after a claim failed: each refund in a subtransaction, so that one whose row cannot
// be written (a user's trigger raises an error) holds up no other.
ClaimResult claim(const char* schema, std::int64_t lease_owner, const GatewayConfig* gateways,
                  int gateway_count, bool one_by_one, List** calls);

}  // namespace payonce::pg
