// The launcher: keeps one worker in each database that has the extension.
#pragma once

namespace payonce::pg {

// From _PG_init, when the library is preloaded.
void register_launcher();

}  // namespace payonce::pg
