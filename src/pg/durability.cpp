#include "pg/durability.h"

#include "pg/compat.h"
#include "pg/fault_point.h"
#include "pg/pg.h"

namespace payonce::pg {

namespace {

// Since this transaction began; a decision that a savepoint undid costs one durable commit.
bool decided = false;

// As the checkpointer last published it: a backend that has not reloaded its settings yet may lag.
// Whatever synchronous_commit is: it was raised for the decision, and is what the operator has set
// for other transactions again once that has been committed.
bool waits_for_standbys() {
    return max_wal_senders > 0 && compat::standbys_configured();
}

void raise_synchronous_commit() {
    if (synchronous_commit < SYNCHRONOUS_COMMIT_ON) {
        // LOCAL survives the end of the function that calls, and is undone with the transaction.
        (void)set_config_option("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION,
                                GUC_ACTION_LOCAL, true, 0, false);
    }
}

}  // namespace

void begin_decision() {
    PreventCommandIfReadOnly("a decision of payonce");
    raise_synchronous_commit();
    decided = true;
}

void before_commit() {
    if (decided) {
        raise_synchronous_commit();
        fault_point(FaultPoint::decision_committing);
    }
}

void end_decisions(bool committed) {
    if (decided && committed) {
        fault_point(FaultPoint::decision_committed);
    }
    decided = false;
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

bool is_waiting_for_standbys(pid_t pid) {
    const PGPROC* process = BackendPidGetProc(pid);
    return process != nullptr && process->syncRepState == SYNC_REP_WAITING;
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
