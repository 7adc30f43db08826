// The advisory lock under which every decision about an order is made.
#pragma once

#include <cstdint>
#include <string_view>

namespace payonce::pg {

// The key of pg_advisory_xact_lock: stable within a server, the same in SQL (order_lock_key).
std::int64_t order_lock_key(std::string_view order_id);

// Waits for the order's lock and holds it until the transaction (or the subtransaction that took
// it, if it is rolled back) ends. Whatever was read before must be read again.
void lock_order(std::string_view order_id);

// The same without waiting. False: somebody else holds it.
bool try_lock_order(std::string_view order_id);

}  // namespace payonce::pg
