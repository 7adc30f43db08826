// What holds up dispatch, and what shared memory knows: the functions behind the statistics views.
#include <algorithm>

#include "pg/durability.h"
#include "pg/gateway_config.h"
#include "pg/identity.h"
#include "pg/pg.h"
#include "pg/settings.h"
#include "pg/shared_state.h"
#include "pg/statement.h"

namespace payonce::pg {
namespace {

const char* name_of(WorkerState state) {
    switch (state) {
        case WorkerState::stopped:
            return "stopped";
        case WorkerState::no_slot:
            return "no worker slot";
        case WorkerState::starting:
            return "starting";
        case WorkerState::running:
            return "running";
        case WorkerState::absent:
            return "absent";
    }
    return "stopped";
}

// A copy of this database's slot; false: it has none.
bool copy_slot(WorkerSlot* copy) {
    if (shared == nullptr) {
        return false;
    }
    LWLockAcquire(shared->lock, LW_SHARED);
    const WorkerSlot* slot = find_slot(MyDatabaseId);
    if (slot != nullptr) {
        *copy = *slot;
    }
    LWLockRelease(shared->lock);
    return slot != nullptr;
}

// The worker waits for them after each of its commits; a wait of every day is not worth a word.
constexpr int usual_standby_wait_ms = 1'000;

bool has_taken_long(TimestampTz since) {
    return since != 0 &&
           TimestampDifferenceExceeds(since, GetCurrentTimestamp(), usual_standby_wait_ms);
}

// Either in a commit, where the server itself waits, or behind one whose wait was cut short.
bool waits_for_standbys(const WorkerSlot& slot) {
    if (has_taken_long(slot.barrier_since)) {
        return true;
    }
    return has_taken_long(slot.commit_since) && is_waiting_for_standbys(slot.pid);
}

const char* worker_blocked_by() {
    auto* slot = static_cast<WorkerSlot*>(palloc(sizeof(WorkerSlot)));
    if (!copy_slot(slot)) {
        return "no worker: the launcher has not started one yet";
    }
    if (slot->state == WorkerState::no_slot) {
        return "no worker slot is free: raise max_worker_processes";
    }
    if (slot->state != WorkerState::running) {
        return "no worker: it is being started";
    }
    if (waits_for_standbys(*slot)) {
        return "waits for the synchronous standbys";
    }
    return slot->claim_fails || slot->record_fails
               ? psprintf("the worker fails: %s", slot->last_error)
               : nullptr;
}

const char* dispatch_blocked_by(const char* schema) {
    if (shared == nullptr) {
        return "payonce is not in shared_preload_libraries";
    }
    if (RecoveryInProgress()) {
        return "this server is a standby";
    }
    if (!settings.dispatch) {
        return "payonce.dispatch is off";
    }
    SPI_connect();
    const bool activated = is_activated(schema);
    SPI_finish();
    if (!activated) {
        return "this database is a copy: see payonce_activate()";
    }
    if (!OidIsValid(worker_role())) {
        return "the role in payonce.role does not exist";
    }
    return worker_blocked_by();
}

Datum text_or_null(FunctionCallInfo fcinfo, const char* value) {
    if (value == nullptr) {
        PG_RETURN_NULL();
    }
    PG_RETURN_TEXT_P(cstring_to_text(value));
}

void put_time(Datum* value, bool* is_null, TimestampTz time) {
    *value = TimestampTzGetDatum(time);
    *is_null = time == 0;
}

void put_worker(ReturnSetInfo* result, const WorkerSlot& slot) {
    Datum values[9] = {};
    bool nulls[9] = {};
    values[0] = Int32GetDatum(slot.pid);
    nulls[0] = slot.pid == 0;
    values[1] = CStringGetTextDatum(name_of(slot.state));
    char* role = OidIsValid(slot.role) ? GetUserNameFromId(slot.role, true) : nullptr;
    nulls[2] = role == nullptr;
    if (role != nullptr) {
        values[2] = CStringGetTextDatum(role);
    }
    put_time(&values[3], &nulls[3], slot.started_at);
    values[4] = Int64GetDatum(static_cast<std::int64_t>(slot.claimed));
    values[5] = Int64GetDatum(static_cast<std::int64_t>(slot.applied));
    values[6] = Int32GetDatum(slot.in_flight);
    values[7] = Int32GetDatum(slot.kept);
    nulls[8] = slot.last_error[0] == '\0';
    if (!nulls[8]) {
        values[8] = CStringGetTextDatum(slot.last_error);
    }
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

void put_gateway(ReturnSetInfo* result, const GatewayCounters& counters) {
    Datum values[11] = {};
    bool nulls[11] = {};
    values[0] = CStringGetTextDatum(NameStr(counters.gateway));
    values[1] = Int32GetDatum(counters.in_flight);
    values[2] = Int32GetDatum(counters.concurrency);
    values[3] = Int64GetDatum(static_cast<std::int64_t>(counters.sent));
    values[4] = Int64GetDatum(static_cast<std::int64_t>(counters.asked));
    values[5] = Int64GetDatum(static_cast<std::int64_t>(counters.succeeded));
    values[6] = Int64GetDatum(static_cast<std::int64_t>(counters.failed));
    values[7] = Int64GetDatum(static_cast<std::int64_t>(counters.retried));
    nulls[8] = nulls[9] = counters.answers == 0;
    values[8] = Float8GetDatum(counters.latency_sum_ms /
                               static_cast<double>(std::max<std::uint64_t>(counters.answers, 1)));
    values[9] = Float8GetDatum(counters.latency_max_ms);
    put_time(&values[10], &nulls[10], counters.last_answer_at);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_dispatch_blocked_by);
PG_FUNCTION_INFO_V1(payonce_gateway_blocked_by);
PG_FUNCTION_INFO_V1(payonce_worker_stats);
PG_FUNCTION_INFO_V1(payonce_gateway_stats);

Datum payonce_dispatch_blocked_by(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    return text_or_null(fcinfo, dispatch_blocked_by(schema_of_function(fcinfo->flinfo->fn_oid)));
}

Datum payonce_gateway_blocked_by(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    const char* gateway = text_to_cstring(PG_GETARG_TEXT_PP(0));
    return text_or_null(fcinfo, gateway_blocked_by(gateway, worker_role()));
}

Datum payonce_worker_stats(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    InitMaterializedSRF(fcinfo, 0);
    auto* slot = static_cast<WorkerSlot*>(palloc(sizeof(WorkerSlot)));
    if (copy_slot(slot)) {
        put_worker(reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo), *slot);
    }
    return 0;
}

Datum payonce_gateway_stats(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    InitMaterializedSRF(fcinfo, 0);
    auto* slot = static_cast<WorkerSlot*>(palloc(sizeof(WorkerSlot)));
    if (copy_slot(slot)) {
        for (int i = 0; i < slot->gateway_count; ++i) {
            put_gateway(reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo), slot->gateways[i]);
        }
    }
    return 0;
}
}
