#include "pg/wakeup.h"

#include "pg/pg.h"
#include "pg/shared_state.h"
#include "pg/utility_hook.h"

namespace payonce::pg {
namespace {

bool worker_marked = false;
bool launcher_marked = false;
bool probe_marked = false;

// Runs inside the commit, after the transaction has become visible: it must neither fail nor
// allocate. A prepared transaction drops its marks here; COMMIT PREPARED runs through the utility
// hook, and the worker's sweep finds what no hook saw.
void on_transaction_end(XactEvent event, void*) {
    switch (event) {
        case XACT_EVENT_COMMIT:
            if (worker_marked) {
                wake_worker_of(MyDatabaseId);
            }
            if (launcher_marked) {
                wake_launcher();
            }
            if (probe_marked) {
                request_probe(MyDatabaseId);
            }
            break;
        case XACT_EVENT_ABORT:
        case XACT_EVENT_PREPARE:
            break;
        default:
            return;
    }
    worker_marked = false;
    launcher_marked = false;
    probe_marked = false;
    release_databases();
}

}  // namespace

void register_wakeup() {
    RegisterXactCallback(on_transaction_end, nullptr);
}

void wake_worker_at_commit() {
    worker_marked = true;
}

void wake_launcher_at_commit() {
    launcher_marked = true;
}

void probe_at_commit() {
    probe_marked = true;
}

}  // namespace payonce::pg
