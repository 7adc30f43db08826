#include "pg/shared_state.h"

#include "pg/pg.h"

namespace payonce::pg {

SharedState* shared = nullptr;

namespace {

constexpr char tranche[] = "payonce";

shmem_request_hook_type previous_request_hook = nullptr;
shmem_startup_hook_type previous_startup_hook = nullptr;

void request() {
    if (previous_request_hook != nullptr) {
        previous_request_hook();
    }
    RequestAddinShmemSpace(sizeof(SharedState));
    RequestNamedLWLockTranche(tranche, 1);
}

void startup() {
    if (previous_startup_hook != nullptr) {
        previous_startup_hook();
    }
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    bool found = false;
    shared = static_cast<SharedState*>(ShmemInitStruct("payonce", sizeof(SharedState), &found));
    if (!found) {
        MemSet(shared, 0, sizeof(SharedState));
        shared->lock = &GetNamedLWLockTranche(tranche)->lock;
    }
    LWLockRelease(AddinShmemInitLock);
}

}  // namespace

void request_shared_memory() {
    previous_request_hook = shmem_request_hook;
    shmem_request_hook = request;
    previous_startup_hook = shmem_startup_hook;
    shmem_startup_hook = startup;
}

void wake_launcher() {
    if (shared == nullptr) {
        return;
    }
    LWLockAcquire(shared->lock, LW_SHARED);
    if (shared->launcher_latch != nullptr) {
        SetLatch(shared->launcher_latch);
    }
    LWLockRelease(shared->lock);
}

void wake_worker_of(Oid database) {
    if (shared == nullptr) {
        return;
    }
    LWLockAcquire(shared->lock, LW_SHARED);
    WorkerSlot* slot = find_slot(database);
    if (slot != nullptr && slot->latch != nullptr) {
        pg_atomic_fetch_add_u32(&slot->wakeups, 1);
        SetLatch(slot->latch);
    }
    LWLockRelease(shared->lock);
}

void request_probe(Oid database) {
    if (shared == nullptr) {
        return;
    }
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    WorkerSlot* slot = find_slot(database);
    if (slot != nullptr) {
        slot->probe_again = true;
    }
    if (shared->probe_request_count < max_probe_requests) {
        shared->probe_requests[shared->probe_request_count++] = database;
    } else {
        shared->probe_all = true;
    }
    if (shared->launcher_latch != nullptr) {
        SetLatch(shared->launcher_latch);
    }
    LWLockRelease(shared->lock);
}

WorkerSlot* find_slot(Oid database) {
    for (WorkerSlot& slot : shared->slots) {
        if (slot.database == database) {
            return &slot;
        }
    }
    return nullptr;
}

bool is_kept_away(Oid database) {
    for (int i = 0; i < shared->kept_away_count; ++i) {
        if (shared->kept_away[i].database == database) {
            return true;
        }
    }
    return false;
}

}  // namespace payonce::pg
