// Between the database's encoding and the UTF-8 of gateways. An SQL_ASCII database says nothing
// about its bytes: they pass as they are.
#pragma once

#include <string_view>

#include "pg/pg.h"

namespace payonce::pg {

// palloc'd where it differs from what is given.
std::string_view to_utf8(std::string_view text);
// The way back, of a text that to_utf8 made.
std::string_view from_utf8(std::string_view utf8);
// Of a text that a gateway wrote: what the database's encoding may lack becomes '?'.
std::string_view foreign_text(std::string_view utf8);

}  // namespace payonce::pg
