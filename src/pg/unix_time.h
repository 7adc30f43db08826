// Between PostgreSQL's time, which counts microseconds since 2000, and Unix seconds.
#pragma once

#include <cstdint>

#include "pg/pg.h"

namespace payonce::pg {

inline std::int64_t unix_seconds(TimestampTz time) {
    return time / USECS_PER_SEC +
           std::int64_t{POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE} * SECS_PER_DAY;
}

}  // namespace payonce::pg
