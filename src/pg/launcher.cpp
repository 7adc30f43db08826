// The launcher: keeps one worker in each database that has the extension.
//
// It runs only where there is something to send from: on a primary, from the end of recovery on, so
// that a promotion starts it. It connects to no database. Whether a database has the extension it
// learns by starting a worker there, which ends at once where the extension is missing; it then
// leaves the database alone until a CREATE EXTENSION asks it to look again.
#include "pg/launcher.h"

#include <algorithm>
#include <cstring>

#include "pg/pg.h"
#include "pg/settings.h"
#include "pg/shared_state.h"

namespace payonce::pg {
namespace {

constexpr int launcher_restart_s = 5;
constexpr int no_slot_delay_ms = 5'000;
// Between the launcher's start and its workers'. A worker that crashes takes the server down with
// it, and after the restart everything begins anew: without a pause the server would do nothing
// else.
constexpr int settle_ms = 500;
// A worker that was registered and never came up (fork failed, slot lost) is registered again after
// this.
constexpr int start_deadline_ms = 15'000;
// What a DROP DATABASE that was interrupted leaves in datconnlimit: nobody can connect any more.
constexpr int connection_limit_of_invalid = -2;

// Databases known to be without the extension. In the launcher's memory only: a new launcher looks
// again.
List* absent = NIL;
// Until a look round in which every worker found its slot.
bool no_slot_reported = false;

void forget_launcher_latch(int, Datum) {
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    shared->launcher_latch = nullptr;
    LWLockRelease(shared->lock);
}

List* connectable_databases(MemoryContext context) {
    List* databases = NIL;
    StartTransactionCommand();
    Relation catalog = table_open(DatabaseRelationId, AccessShareLock);
    SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, nullptr, 0, nullptr);
    HeapTuple tuple = nullptr;
    while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
        const auto* row = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
        if (row->datallowconn && row->datconnlimit != connection_limit_of_invalid) {
            const MemoryContext previous = MemoryContextSwitchTo(context);
            databases = lappend_oid(databases, row->oid);
            MemoryContextSwitchTo(previous);
        }
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    CommitTransactionCommand();
    return databases;
}

void remember_absent(Oid database) {
    const MemoryContext previous = MemoryContextSwitchTo(TopMemoryContext);
    absent = list_append_unique_oid(absent, database);
    MemoryContextSwitchTo(previous);
}

// Takes over what backends asked for, and what workers found. Under the lock; copies out what has
// to be remembered, since remembering allocates.
int take_news(const List* databases, Oid* now_absent) {
    const TimestampTz now = GetCurrentTimestamp();
    int count = 0;
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    for (WorkerSlot& slot : shared->slots) {
        const bool ended = OidIsValid(slot.database) && slot.pid == 0;
        if (ended && slot.state == WorkerState::absent && slot.probe_again) {
            slot.state = WorkerState::stopped;
            slot.not_before = 0;
        } else if (ended && slot.state == WorkerState::absent) {
            now_absent[count++] = slot.database;
            slot.database = InvalidOid;
        } else if (ended && !list_member_oid(databases, slot.database) &&
                   (slot.state != WorkerState::starting || slot.not_before < now)) {
            slot.database = InvalidOid;
        }
    }
    LWLockRelease(shared->lock);
    return count;
}

// After take_news: a probe asked for while a worker found nothing wins over what it found.
void take_probe_requests() {
    Oid requested[max_probe_requests];
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    const int count = shared->probe_request_count;
    const bool all = shared->probe_all;
    std::copy_n(shared->probe_requests, count, requested);
    shared->probe_request_count = 0;
    shared->probe_all = false;
    LWLockRelease(shared->lock);
    if (all) {
        list_free(absent);
        absent = NIL;
    }
    for (int i = 0; i < count; ++i) {
        absent = list_delete_oid(absent, requested[i]);
    }
}

void take_requests(const List* databases) {
    Oid now_absent[max_databases];
    const int count = take_news(databases, now_absent);
    for (int i = 0; i < count; ++i) {
        remember_absent(now_absent[i]);
    }
    take_probe_requests();
}

// Reserves the database's slot for a start. False: it runs, waits, or must be left alone.
bool reserve_slot(Oid database, TimestampTz now, TimestampTz* look_again_at) {
    bool reserved = false;
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    WorkerSlot* slot = find_slot(database);
    if (slot == nullptr && (slot = find_slot(InvalidOid)) != nullptr) {
        MemSet(slot, 0, sizeof *slot);
        pg_atomic_init_u32(&slot->wakeups, 0);
        slot->database = database;
        slot->state = WorkerState::stopped;
    }
    if (slot != nullptr && slot->pid == 0 && slot->state != WorkerState::absent &&
        !is_kept_away(database)) {
        // The end of any worker leads to a look round, and may have made room.
        if (slot->not_before <= now || slot->state == WorkerState::no_slot) {
            slot->state = WorkerState::starting;
            slot->probe_again = false;
            slot->not_before = TimestampTzPlusMilliseconds(now, start_deadline_ms);
            reserved = true;
        }
        *look_again_at = std::min(*look_again_at, slot->not_before);
    }
    LWLockRelease(shared->lock);
    return reserved;
}

// No slot at once is usual while many databases are looked at; none for as long as the delay is a
// fault.
void fail_start(Oid database, TimestampTz now) {
    bool lasts = false;
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    WorkerSlot* slot = find_slot(database);
    if (slot != nullptr && slot->pid == 0) {
        slot->state = WorkerState::no_slot;
        slot->not_before = TimestampTzPlusMilliseconds(now, no_slot_delay_ms);
        slot->no_slot_since = slot->no_slot_since == 0 ? now : slot->no_slot_since;
        lasts = TimestampDifferenceExceeds(slot->no_slot_since, now, no_slot_delay_ms);
    }
    LWLockRelease(shared->lock);
    if (lasts && !no_slot_reported) {
        ereport(WARNING,
                (errmsg("payonce: no background worker slot is free"),
                 errdetail("Refunds of database %u wait, and perhaps of others.", database),
                 errhint("Raise max_worker_processes.")));
        no_slot_reported = true;
    }
}

bool register_worker(Oid database) {
    BackgroundWorker worker = {};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    // The launcher decides about restarts: it knows why a worker ended.
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_notify_pid = MyProcPid;
    worker.bgw_main_arg = ObjectIdGetDatum(database);
    strlcpy(worker.bgw_library_name, "payonce", sizeof worker.bgw_library_name);
    strlcpy(worker.bgw_function_name, "payonce_worker_main", sizeof worker.bgw_function_name);
    strlcpy(worker.bgw_type, "payonce worker", sizeof worker.bgw_type);
    snprintf(worker.bgw_name, sizeof worker.bgw_name, "payonce worker for database %u", database);
    BackgroundWorkerHandle* handle = nullptr;
    const bool registered = RegisterDynamicBackgroundWorker(&worker, &handle);
    if (registered) {
        pfree(handle);
    }
    return registered;
}

// One look round. Returns when the next is due.
TimestampTz keep_workers(MemoryContext context) {
    List* databases = connectable_databases(context);
    take_requests(databases);
    const TimestampTz now = GetCurrentTimestamp();
    TimestampTz look_again_at = TimestampTzPlusMilliseconds(now, settings.naptime_s * 1000LL);
    bool complete = true;
    ListCell* cell = nullptr;
    foreach (cell, databases) {
        const Oid database = lfirst_oid(cell);
        if (list_member_oid(absent, database) || !reserve_slot(database, now, &look_again_at)) {
            continue;
        }
        if (!register_worker(database)) {
            complete = false;
            fail_start(database, now);
            look_again_at =
                std::min(look_again_at, TimestampTzPlusMilliseconds(now, no_slot_delay_ms));
        }
    }
    no_slot_reported = no_slot_reported && !complete;
    return look_again_at;
}

void settle() {
    const TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), settle_ms);
    long left_ms = settle_ms;
    while (left_ms > 0) {
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left_ms,
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
        left_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
    }
}

[[noreturn]] void run_launcher() {
    MemoryContext context =
        AllocSetContextCreate(TopMemoryContext, "payonce launcher", ALLOCSET_DEFAULT_SIZES);
    for (;;) {
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
        }
        MemoryContextReset(context);
        const MemoryContext previous = MemoryContextSwitchTo(context);
        const TimestampTz look_again_at = keep_workers(context);
        MemoryContextSwitchTo(previous);
        const long wait_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), look_again_at);
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait_ms + 1,
                        PG_WAIT_EXTENSION);
    }
}

}  // namespace

void register_launcher() {
    BackgroundWorker worker = {};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = launcher_restart_s;
    strlcpy(worker.bgw_library_name, "payonce", sizeof worker.bgw_library_name);
    strlcpy(worker.bgw_function_name, "payonce_launcher_main", sizeof worker.bgw_function_name);
    strlcpy(worker.bgw_name, "payonce launcher", sizeof worker.bgw_name);
    strlcpy(worker.bgw_type, "payonce launcher", sizeof worker.bgw_type);
    RegisterBackgroundWorker(&worker);
}

}  // namespace payonce::pg

extern "C" {
PGDLLEXPORT void payonce_launcher_main(Datum argument);

void payonce_launcher_main(Datum) {
    using namespace payonce::pg;
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    shared->launcher_latch = MyLatch;
    LWLockRelease(shared->lock);
    before_shmem_exit(forget_launcher_latch, 0);
    settle();
    run_launcher();
}
}
