// What launcher, workers and backends share: which databases have a worker, whom a commit wakes,
// which databases must be left alone for a moment, and the counters of the statistics views.
//
// Lives in shared memory of fixed size, allocated when the library is preloaded; everything here
// does nothing where it is not. One LWLock guards all of it; it is held for a few instructions
// only.
#pragma once

#include <cstdint>

#include "pg/pg.h"

namespace payonce::pg {

inline constexpr int max_databases = 128;
inline constexpr int max_counted_gateways = 32;
inline constexpr int max_probe_requests = 64;
inline constexpr int max_kept_away = 64;
inline constexpr int error_bytes = 200;

enum class WorkerState : std::int32_t {
    stopped,   // to be started at not_before
    no_slot,   // no background worker slot was free; tried again at each look round
    starting,  // registered with the postmaster
    running,
    absent,  // it ended because the extension is not installed; the launcher frees the slot
};

struct GatewayCounters {
    NameData gateway;
    std::int32_t in_flight;
    std::int32_t concurrency;  // the limit in force
    std::uint64_t sent;
    std::uint64_t asked;
    std::uint64_t succeeded;
    std::uint64_t failed;   // failed or rejected
    std::uint64_t retried;  // everything else that settled nothing
    std::uint64_t answers;  // with a duration
    double latency_sum_ms;
    double latency_max_ms;
    TimestampTz last_answer_at;
};

struct WorkerSlot {
    Oid database;  // InvalidOid: free
    WorkerState state;
    bool probe_again;  // asked for while a worker was looking: what that one finds may be old
    pid_t pid;         // 0: no process
    Latch* latch;      // of that process
    // How often it was woken. The latch alone is not enough: waits within a commit reset it.
    pg_atomic_uint32 wakeups;
    bool claim_fails;           // the last claim, or a row of it, ended in last_error
    bool record_fails;          // an answer that is kept could not be recorded for last_error
    TimestampTz commit_since;   // since when it commits; 0: it does not
    TimestampTz barrier_since;  // since when it waits, after a commit, for the synchronous standbys
    Oid role;
    TimestampTz started_at;
    TimestampTz not_before;
    TimestampTz no_slot_since;  // since when a start fails for want of a background worker slot
    std::uint64_t claimed;
    std::uint64_t applied;
    std::int32_t in_flight;
    std::int32_t kept;  // answers that could not be recorded yet
    char last_error[error_bytes];
    std::int32_t gateway_count;
    GatewayCounters gateways[max_counted_gateways];
};

// A database whose worker must stay away until the holder's transaction ends (DROP DATABASE and the
// like). One transaction may hold several, and several transactions one.
struct KeptAway {
    Oid database;
    pid_t holder;
};

struct SharedState {
    LWLock* lock;
    Latch* launcher_latch;
    // Databases in which the extension may have appeared: the launcher looks there.
    std::int32_t probe_request_count;
    bool probe_all;
    Oid probe_requests[max_probe_requests];
    std::int32_t kept_away_count;
    KeptAway kept_away[max_kept_away];
    WorkerSlot slots[max_databases];
};

// Null when the library is not preloaded.
extern SharedState* shared;

// From _PG_init, in the postmaster.
void request_shared_memory();

void wake_launcher();
// For commits: sets the latch of the database's worker, if there is one.
void wake_worker_of(Oid database);
// Asks the launcher to look for the extension in this database, and wakes it.
void request_probe(Oid database);

// The slot of the database, or null; the caller holds the lock.
WorkerSlot* find_slot(Oid database);
bool is_kept_away(Oid database);

}  // namespace payonce::pg
