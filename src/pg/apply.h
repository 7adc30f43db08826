// Records the answers of gateways: the second short transaction of a refund's attempt.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pg/pg.h"

namespace payonce::pg {

enum class Applied : std::uint8_t {
    recorded,
    locked,   // somebody holds the order, the payment or the refund: keep the answer, try again
    not_yet,  // it concerns the same payment as another of the batch: its turn is the next
};

// Inside a transaction and an SPI connection of the worker: records these finished calls of the
// bridge and what follows from them, and says of each what became of it. Waits for no lock. Returns
// the time of the earliest next attempt, at most `next_due`.
TimestampTz apply_finished(const char* schema, std::int64_t lease_owner, const std::size_t* indexes,
                           std::size_t count, TimestampTz next_due, Applied* applied);

}  // namespace payonce::pg
