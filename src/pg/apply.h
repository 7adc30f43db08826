// Records the answers of gateways: the second short transaction of a refund's attempt.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pg/pg.h"

namespace payonce::pg {

enum class Applied : std::uint8_t {
    recorded,
    locked,  // somebody holds the order, the payment or the refund: keep the answer, try again
};

// Inside a transaction and an SPI connection of the worker: records finished call `index` of the
// bridge and what follows from it. Waits for no lock. Lowers `next_due` to the time of the refund's
// next attempt.
Applied apply_finished(const char* schema, std::int64_t lease_owner, std::size_t index,
                       TimestampTz* next_due);

}  // namespace payonce::pg
