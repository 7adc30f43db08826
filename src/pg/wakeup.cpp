#include "pg/wakeup.h"

#include "pg/durability.h"
#include "pg/pg.h"
#include "pg/shared_state.h"
#include "pg/utility_hook.h"

namespace payonce::pg {
namespace {

bool worker_marked = false;
bool launcher_marked = false;
bool probe_marked = false;

// Runs inside the end of the transaction: it must neither fail nor allocate.
void end_transaction(bool committed) {
    end_decisions(committed);
    if (committed && worker_marked) {
        wake_worker_of(MyDatabaseId);
    }
    if (committed && launcher_marked) {
        wake_launcher();
    }
    if (committed && probe_marked) {
        request_probe(MyDatabaseId);
    }
    worker_marked = false;
    launcher_marked = false;
    probe_marked = false;
    release_databases();
}

// Its COMMIT PREPARED would not know of the mark, and the launcher never look.
void refuse_to_prepare() {
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("cannot PREPARE a transaction that has created or activated payonce"),
             errdetail("The launcher would not hear of it."), errhint("COMMIT it instead.")));
}

// A prepared transaction drops its marks here; COMMIT PREPARED runs through the utility hook, and
// the worker's sweep finds what no hook saw.
void on_transaction_event(XactEvent event, void*) {
    if (event == XACT_EVENT_PRE_COMMIT) {
        before_commit();
    } else if (event == XACT_EVENT_PRE_PREPARE && probe_marked) {
        refuse_to_prepare();
    } else if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE) {
        end_transaction(false);
    }
}

// The last phase of a commit. When the event COMMIT is raised, the rows are visible, but the news
// of changed catalogs has not been sent: a worker woken then would still see a server as it was.
void on_resource_release(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void*) {
    if (phase == RESOURCE_RELEASE_AFTER_LOCKS && is_commit && is_top_level) {
        end_transaction(true);
    }
}

}  // namespace

void register_wakeup() {
    RegisterXactCallback(on_transaction_event, nullptr);
    RegisterResourceReleaseCallback(on_resource_release, nullptr);
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
