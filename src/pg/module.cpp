// What the server calls when it loads the library.
#include "pg/launcher.h"
#include "pg/pg.h"
#include "pg/settings.h"
#include "pg/shared_state.h"
#include "pg/utility_hook.h"
#include "pg/wakeup.h"

extern "C" {
PG_MODULE_MAGIC;
PGDLLEXPORT void _PG_init(void);

void _PG_init(void) {
    using namespace payonce::pg;
    // pg_upgrade loads the libraries of the new server to see that they are there; nothing may run.
    if (IsBinaryUpgrade) {
        return;
    }
    define_settings();
    register_wakeup();
    if (process_shared_preload_libraries_in_progress) {
        request_shared_memory();
        install_utility_hook();
        register_launcher();
    }
}
}
