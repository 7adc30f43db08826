// A copy must not refund: which database may dispatch is kept in payonce_identity.
#pragma once

#include "pg/pg.h"

namespace payonce::pg {

// Inside the caller's SPI connection: true when every row of payonce_identity is this database's
// pair.
bool is_activated(const char* schema);

}  // namespace payonce::pg
