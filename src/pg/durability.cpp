#include "pg/durability.h"

#include "pg/compat.h"
#include "pg/pg.h"

namespace payonce::pg {

namespace {

// As the checkpointer last published it: a backend that has not reloaded its settings yet may lag.
bool waits_for_standbys() {
    return SyncRepRequested() && compat::standbys_configured();
}

}  // namespace

void begin_decision() {
    PreventCommandIfReadOnly("a decision of payonce");
    if (synchronous_commit < SYNCHRONOUS_COMMIT_ON) {
        // LOCAL survives the end of the function that calls, and is undone with the transaction.
        (void)set_config_option("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION,
                                GUC_ACTION_LOCAL, true, 0, false);
    }
}

void rely_on_visible_rows() {
    if (!waits_for_standbys()) {
        return;
    }
    // The rows' commit lies before this record in the WAL: who waits for this one has waited for
    // both.
    (void)GetTopTransactionId();
    compat::log_empty_message();
}

bool standbys_have(XLogRecPtr lsn) {
    if (!waits_for_standbys()) {
        return true;
    }
    LWLockAcquire(SyncRepLock, LW_SHARED);
    const XLogRecPtr confirmed = WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH];
    LWLockRelease(SyncRepLock);
    return lsn <= confirmed;
}

}  // namespace payonce::pg
