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
// bridge and what follows from it. Waits for no lock.
Applied apply_finished(const char* schema, std::int64_t lease_owner, std::size_t index);

}  // namespace payonce::pg
