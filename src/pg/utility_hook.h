// DROP DATABASE, RENAME, SET TABLESPACE and CREATE DATABASE … TEMPLATE refuse while any background
// worker is connected to the database. The hook stops payonce's worker there first, and keeps it
// away until the transaction has ended, however it ends.
#pragma once

namespace payonce::pg {

void install_utility_hook();

// From the transaction callback: neither fails nor allocates.
void release_databases();

}  // namespace payonce::pg
