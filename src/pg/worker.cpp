// The worker of one database: claims refunds, sends them, records what their gateways said.
//
// The order of things is what keeps money safe. A claim is committed, and confirmed by the
// synchronous standbys, before a byte leaves; no transaction is open while the network is in use;
// an answer is recorded in a second transaction, and only by the attempt that holds the lease.
// Wherever the process ends, the rows say what may have happened, and the next worker asks before
// it sends again.
#include "core/refund.h"

#include <algorithm>
#include <cstring>

#include "pg/apply.h"
#include "pg/claim.h"
#include "pg/compat.h"
#include "pg/dispatch_bridge.h"
#include "pg/durability.h"
#include "pg/fault_point.h"
#include "pg/gateway_config.h"
#include "pg/give_up.h"
#include "pg/identity.h"
#include "pg/pg.h"
#include "pg/recovery.h"
#include "pg/settings.h"
#include "pg/shared_state.h"
#include "pg/statement.h"
#include "pg/subtransaction.h"
#include "pg/unix_time.h"

namespace payonce::pg {
namespace {

constexpr int restart_delay_ms = 1'000;
constexpr int quick_failure_ms = 10'000;  // a worker that ended within this waits longer
constexpr int restart_delay_long_ms = 5'000;
constexpr int gathering_ms = 10;  // answers wait so long for others, while others are under way
constexpr int locked_retry_ms = 20;
constexpr int max_locked_retry_shift = 6;
constexpr int locked_lease_retry_ms = 1'000;   // a sweep looks at all that is in flight
constexpr int failed_lease_retry_ms = 10'000;  // and what fails is an error in the log
constexpr int unsent_retry_ms = 1'000;         // memory may be had again
constexpr int failed_retry_ms = 1'000;
constexpr int max_failed_retry_shift = 6;
constexpr int max_record_failures = 10;
constexpr int standby_check_ms = 50;
constexpr int max_unsent_ms = 5'000;  // well within the lease's margin
constexpr int one_by_one_s = 60;      // after a claim that failed
constexpr int config_max_age_s = 60;
// For so long options that cannot be used may be on their way: a file that is being written, a user
// mapping in the next transaction. A whole queue in attention would be a person's work for nothing.
constexpr int option_grace_ms = 10'000;

// What one worker knows. Plain data in static memory: an ereport may leave any frame.
struct Worker {
    WorkerSlot* slot;
    std::int64_t lease_owner;
    MemoryContext cycle_context;  // emptied at each turn of the loop
    MemoryContext config_context;
    GatewayConfig* gateways;
    int gateway_count;
    bool config_stale;
    TimestampTz config_loaded_at;
    TimestampTz doubtful_until;  // when options that could not be used are looked at again
    TimestampTz claim_at;        // when to look for due refunds next
    TimestampTz sweep_at;        // when to look for lost leases next
    WaitEventSet* waits;
    TimestampTz record_at;    // when to record answers next
    TimestampTz gathered_at;  // when those that can be recorded have waited long enough for more
    bool gathering;
    int answers_awaited;         // more is due: look again after so many answers; 0: nothing is
    std::uint64_t ended_before;  // calls that had ended at the last claim
    int claim_failures;          // in a row
    TimestampTz one_by_one_until;
    std::uint32_t wakeups_seen;
    Oid bootstrap_user;
    int bootstrap_context;
};
Worker worker;

// --- Transactions ------------------------------------------------------------------------------

// Before any table is locked. DROP EXTENSION locks the extension first and its tables in an order
// of its own: without this, the two could deadlock.
void lock_extension() {
    const Oid extension = extension_oid_or_invalid();
    if (OidIsValid(extension)) {
        LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
    }
}

// For the views; nobody else writes it.
void show_role(Oid role) {
    if (worker.slot->role != role) {
        LWLockAcquire(shared->lock, LW_EXCLUSIVE);
        worker.slot->role = role;
        LWLockRelease(shared->lock);
    }
}

// The session belongs to the bootstrap superuser, the work to the worker's role: triggers on the
// tables run as that role and cannot switch back.
bool begin_work(const char** schema) {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    GetUserIdAndSecContext(&worker.bootstrap_user, &worker.bootstrap_context);
    lock_extension();
    PushActiveSnapshot(GetTransactionSnapshot());
    *schema = schema_of_extension();
    const Oid role = worker_role();
    PopActiveSnapshot();
    show_role(role);
    if (*schema == nullptr || !OidIsValid(role)) {
        return false;
    }
    SetUserIdAndSecContext(role, worker.bootstrap_context | SECURITY_LOCAL_USERID_CHANGE);
    // However the operator has set synchronous_commit, at present or by a reload to come.
    begin_decision();
    PushActiveSnapshot(GetTransactionSnapshot());
    return true;
}

// For blocked_by; `since` is of the worker's slot.
void show_since(TimestampTz* since, TimestampTz time) {
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    *since = time;
    LWLockRelease(shared->lock);
}

void commit_work() {
    if (ActiveSnapshotSet()) {
        PopActiveSnapshot();
    }
    show_since(&worker.slot->commit_since, GetCurrentTimestamp());
    CommitTransactionCommand();
    show_since(&worker.slot->commit_since, 0);
    // After the commit, since deferred triggers run inside it.
    SetUserIdAndSecContext(worker.bootstrap_user, worker.bootstrap_context);
    pgstat_report_stat(true);
}

void note_error(const char* message) {
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    strlcpy(worker.slot->last_error, message, error_bytes);
    LWLockRelease(shared->lock);
}

// Reports the error that was caught, ends its transaction, and leaves the worker fit to go on.
void recover_from_error(MemoryContext context) {
    MemoryContextSwitchTo(context);
    HOLD_INTERRUPTS();
    ErrorData* error = CopyErrorData();
    EmitErrorReport();
    FlushErrorState();
    AbortCurrentTransaction();
    note_error(error->message != nullptr ? error->message : "error");
    show_since(&worker.slot->commit_since, 0);
    show_since(&worker.slot->barrier_since, 0);
    FreeErrorData(error);
    RESUME_INTERRUPTS();
}

// --- Start and end -----------------------------------------------------------------------------

void detach(int, Datum) {
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    WorkerSlot* slot = worker.slot;
    const TimestampTz now = GetCurrentTimestamp();
    const bool quick = !TimestampDifferenceExceeds(slot->started_at, now, quick_failure_ms) &&
                       !is_kept_away(slot->database);
    slot->pid = 0;
    slot->latch = nullptr;
    slot->in_flight = 0;
    slot->kept = 0;
    slot->commit_since = 0;
    slot->barrier_since = 0;
    for (GatewayCounters& counters : slot->gateways) {
        counters.in_flight = 0;
    }
    if (slot->state != WorkerState::absent) {
        slot->state = WorkerState::stopped;
        slot->not_before = TimestampTzPlusMilliseconds(now, is_kept_away(slot->database) ? 0
                                                            : quick ? restart_delay_long_ms
                                                                    : restart_delay_ms);
    }
    if (shared->launcher_latch != nullptr) {
        SetLatch(shared->launcher_latch);
    }
    LWLockRelease(shared->lock);
}

// Before connecting: from here on, who must keep the worker away from its database finds its pid.
bool attach(Oid database) {
    bool attached = false;
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    WorkerSlot* slot = find_slot(database);
    if (slot != nullptr && slot->state == WorkerState::starting && slot->pid == 0 &&
        !is_kept_away(database)) {
        slot->pid = MyProcPid;
        slot->latch = MyLatch;
        slot->started_at = GetCurrentTimestamp();
        slot->in_flight = 0;
        slot->no_slot_since = 0;
        slot->claim_fails = false;
        slot->record_fails = false;
        worker.slot = slot;
        attached = true;
    } else if (slot != nullptr && slot->state == WorkerState::starting && slot->pid == 0) {
        slot->state = WorkerState::stopped;
        slot->not_before = 0;
    }
    LWLockRelease(shared->lock);
    return attached;
}

void set_state(WorkerState state) {
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    worker.slot->state = state;
    LWLockRelease(shared->lock);
}

// What a role's or database's settings say must not change what a commit means, how names are
// found, or how rows are.
void override_session_settings() {
    const char* const overrides[][2] = {
        {"application_name", "payonce worker"},
        {"search_path", "pg_catalog, pg_temp"},
        {"default_transaction_isolation", "read committed"},
        {"default_transaction_read_only", "off"},
        // Orders are never waited for; this ends what waits all the same, in a trigger perhaps.
        {"lock_timeout", "1s"},
        {"statement_timeout", "0"},
        {"idle_in_transaction_session_timeout", "0"},
        {"session_replication_role", "origin"},
        // Its statements find a few rows each, by index. A plan is kept, and those made while a
        // table was small must do when it has grown.
        {"plan_cache_mode", "force_generic_plan"},
        {"enable_seqscan", "off"},
        {"enable_hashjoin", "off"},
        {"enable_mergejoin", "off"},
        {"jit", "off"},
    };
    for (const auto& override : overrides) {
        SetConfigOption(override[0], override[1], PGC_SUSET, PGC_S_OVERRIDE);
    }
    compat::override_later_settings();
    pgstat_report_appname("payonce worker");
}

[[noreturn]] void end_without_extension() {
    set_state(WorkerState::absent);
    proc_exit(0);
}

void mark_config_stale(Datum, int, uint32) {
    worker.config_stale = true;
}

// --- Gateways ----------------------------------------------------------------------------------

std::string_view view_of(const char* text) {
    return text == nullptr ? std::string_view() : text;
}

int usable_gateways() {
    int usable = 0;
    for (int i = 0; i < worker.gateway_count; ++i) {
        usable += worker.gateways[i].unusable == nullptr ? 1 : 0;
    }
    return std::max(usable, 1);
}

void configure_engine() {
    const int share = std::max(settings.max_in_flight / usable_gateways(), 1);
    auto* plain = static_cast<bridge::Gateway*>(
        palloc0(sizeof(bridge::Gateway) * static_cast<std::size_t>(worker.gateway_count + 1)));
    int count = 0;
    for (int i = 0; i < worker.gateway_count; ++i) {
        const GatewayConfig& config = worker.gateways[i];
        if (!config.is_ready()) {
            continue;
        }
        bridge::Gateway gateway;
        gateway.name = config.name;
        gateway.options = config.driver_options();
        gateway.ca_file = view_of(config.ca_file);
        gateway.timeout_ms = config.timeout_ms;
        gateway.max_in_flight = std::min(config.max_in_flight, share);
        gateway.rate_limit_per_s = config.rate_limit_per_s;
        plain[count++] = gateway;
    }
    const bool configured = bridge::configure(plain, count, GetCurrentTimestamp());
    for (int i = 0; i < worker.gateway_count; ++i) {
        wipe_options(&worker.gateways[i]);
    }
    if (!configured) {
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("payonce: out of memory")));
    }
}

// Since when a gateway's options cannot be used.
struct Doubt {
    NameData gateway;
    TimestampTz since;  // 0: they can
};

Doubt& doubt_about(const char* gateway) {
    static List* doubts = NIL;  // one for each gateway that there ever was
    ListCell* cell = nullptr;
    foreach (cell, doubts) {
        auto* known = static_cast<Doubt*>(lfirst(cell));
        if (std::strcmp(NameStr(known->gateway), gateway) == 0) {
            return *known;
        }
    }
    const MemoryContext previous = MemoryContextSwitchTo(TopMemoryContext);
    auto* doubt = static_cast<Doubt*>(palloc0(sizeof(Doubt)));
    namestrcpy(&doubt->gateway, gateway);
    doubts = lappend(doubts, doubt);
    MemoryContextSwitchTo(previous);
    return *doubt;
}

// Refunds of a gateway whose options have just become unusable wait a moment before they go to
// attention.
void give_options_time(TimestampTz now) {
    worker.doubtful_until = 0;
    for (int i = 0; i < worker.gateway_count; ++i) {
        GatewayConfig& config = worker.gateways[i];
        Doubt& doubt = doubt_about(config.name);
        if (!config.options_unusable) {
            doubt.since = 0;
            continue;
        }
        doubt.since = doubt.since == 0 || doubt.since > now ? now : doubt.since;
        const TimestampTz end = TimestampTzPlusMilliseconds(doubt.since, option_grace_ms);
        if (now < end) {
            config.hindrance = config.unusable;
            config.unusable = nullptr;
            worker.doubtful_until =
                worker.doubtful_until == 0 ? end : std::min(worker.doubtful_until, end);
        }
    }
}

// Inside a transaction. Catalog changes mark the configuration stale; files of secrets are read
// again every minute.
void load_config() {
    const TimestampTz now = GetCurrentTimestamp();
    const bool doubtful = worker.doubtful_until != 0 && worker.doubtful_until <= now;
    if (!worker.config_stale && !doubtful &&
        !TimestampDifferenceExceeds(worker.config_loaded_at, now, config_max_age_s * 1000)) {
        return;
    }
    worker.config_stale = false;
    MemoryContextReset(worker.config_context);
    const MemoryContext previous = MemoryContextSwitchTo(worker.config_context);
    worker.gateway_count = 0;
    int count = 0;
    worker.gateways = load_gateways(worker_role(), &count);
    worker.gateway_count = count;
    give_options_time(now);
    configure_engine();
    MemoryContextSwitchTo(previous);
    worker.config_loaded_at = now;
}

// --- Statistics --------------------------------------------------------------------------------

GatewayCounters* counters_of(std::string_view gateway) {
    WorkerSlot* slot = worker.slot;
    for (int i = 0; i < slot->gateway_count; ++i) {
        if (gateway == NameStr(slot->gateways[i].gateway)) {
            return &slot->gateways[i];
        }
    }
    if (slot->gateway_count == max_counted_gateways) {
        return nullptr;
    }
    GatewayCounters* counters = &slot->gateways[slot->gateway_count++];
    MemSet(counters, 0, sizeof *counters);
    strlcpy(NameStr(counters->gateway), gateway.data(),
            std::min<std::size_t>(gateway.size() + 1, NAMEDATALEN));
    return counters;
}

void count_answer(const bridge::Finished& finished) {
    GatewayCounters* counters = counters_of(finished.call.gateway);
    if (counters == nullptr) {
        return;
    }
    switch (finished.answer.verdict) {
        case core::Verdict::succeeded:
            ++counters->succeeded;
            break;
        case core::Verdict::failed:
        case core::Verdict::rejected:
            ++counters->failed;
            break;
        case core::Verdict::processing:
            break;
        default:
            ++counters->retried;
            break;
    }
    if (finished.http_status != 0) {
        const double latency_ms = static_cast<double>(finished.duration_us) / 1000.0;
        ++counters->answers;
        counters->latency_sum_ms += latency_ms;
        counters->latency_max_ms = std::max(counters->latency_max_ms, latency_ms);
        counters->last_answer_at = GetCurrentTimestamp();
    }
}

bool any_refused_answer() {
    for (std::size_t i = 0; i < bridge::finished_count(); ++i) {
        if (bridge::finished(i).failures > 0) {
            return true;
        }
    }
    return false;
}

void publish_load() {
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    worker.slot->in_flight = bridge::transfers();
    worker.slot->kept = static_cast<int>(bridge::finished_count());
    worker.slot->record_fails = any_refused_answer();
    for (int i = 0; i < worker.slot->gateway_count; ++i) {
        GatewayCounters& counters = worker.slot->gateways[i];
        counters.in_flight = bridge::in_flight(NameStr(counters.gateway));
        counters.concurrency = bridge::current_limit(NameStr(counters.gateway));
    }
    LWLockRelease(shared->lock);
}

// --- Recording answers -------------------------------------------------------------------------

void count_recorded(const std::size_t* indexes, std::size_t count) {
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    for (std::size_t i = 0; i < count; ++i) {
        ++worker.slot->applied;
        count_answer(bridge::finished(indexes[i]));
    }
    LWLockRelease(shared->lock);
}

// The answers that can be recorded now, by their index in the bridge; ascending.
struct DueAnswers {
    std::size_t* indexes;
    Applied* applied;
    bool* recorded;
    std::size_t count;
};

// Notes when the next of the others can be.
DueAnswers due_answers(TimestampTz now) {
    const std::size_t all = bridge::finished_count();
    const std::size_t most = std::min(all, static_cast<std::size_t>(settings.batch_size));
    DueAnswers due = {static_cast<std::size_t*>(palloc(sizeof(std::size_t) * (most + 1))),
                      static_cast<Applied*>(palloc0(sizeof(Applied) * (most + 1))),
                      static_cast<bool*>(palloc0(most + 1)), 0};
    worker.record_at = never;
    for (std::size_t i = 0; i < all && due.count < most; ++i) {
        const TimestampTz retry_at = bridge::finished(i).retry_at;
        if (retry_at <= now) {
            due.indexes[due.count++] = i;
        } else {
            worker.record_at = std::min(worker.record_at, retry_at);
        }
    }
    return due;
}

// Whether to wait for more answers, since one commit does for many: not for long, and not when none
// is under way.
bool is_worth_gathering(const DueAnswers& due, TimestampTz now) {
    if (due.count >= static_cast<std::size_t>(settings.batch_size) || bridge::transfers() == 0) {
        return false;
    }
    if (!worker.gathering) {
        worker.gathering = true;
        worker.gathered_at = TimestampTzPlusMilliseconds(now, gathering_ms);
    }
    const bool clock_was_set_back =
        worker.gathered_at > TimestampTzPlusMilliseconds(now, gathering_ms);
    worker.record_at = std::min(worker.record_at, worker.gathered_at);
    return worker.gathered_at > now && !clock_was_set_back;
}

void note_applied(const DueAnswers& due, std::size_t i, TimestampTz now) {
    due.recorded[i] = due.applied[i] == Applied::recorded;
    if (due.applied[i] == Applied::locked) {
        const int shift =
            std::min(bridge::finished(due.indexes[i]).deferrals, max_locked_retry_shift);
        bridge::defer(due.indexes[i], TimestampTzPlusMilliseconds(now, locked_retry_ms << shift),
                      false);
    }
}

// One transaction. What is locked stays, to be tried again soon.
void record_range(const DueAnswers& due, std::size_t first, std::size_t last) {
    const char* schema = nullptr;
    const bool usable = begin_work(&schema);
    if (schema == nullptr) {
        commit_work();
        end_without_extension();
    }
    if (!usable) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("payonce: the role in payonce.role does not exist")));
    }
    fault_point(FaultPoint::record_begun);
    SPI_connect();
    const TimestampTz next_due = apply_finished(schema, worker.lease_owner, due.indexes + first,
                                                last - first, worker.claim_at, due.applied + first);
    SPI_finish();
    fault_point(FaultPoint::record_committing);
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    commit_work();
    for (std::size_t i = first; i < last; ++i) {
        note_applied(due, i, now);
    }
    // What is to be asked or polled again wakes nobody by its commit.
    if (worker.claim_failures == 0) {
        worker.claim_at = next_due;
    }
}

// False: the transaction failed and nothing of the range was recorded.
bool try_to_record(const DueAnswers& due, std::size_t first, std::size_t last) {
    const MemoryContext context = CurrentMemoryContext;
    volatile bool done = true;
    PG_TRY();
    { record_range(due, first, last); }
    PG_CATCH();
    {
        recover_from_error(context);
        done = false;
    }
    PG_END_TRY();
    return done;
}

// One answer that its table refuses (a trigger, a constraint) must not hold up the others: after a
// failed batch each is recorded by itself. What fails again and again is given up; its lease runs
// out, and the gateway is asked.
void record_one_by_one(const DueAnswers& due) {
    for (std::size_t i = 0; i < due.count; ++i) {
        if (try_to_record(due, i, i + 1)) {
            continue;
        }
        const int failures = bridge::finished(due.indexes[i]).failures;
        due.recorded[i] = failures >= max_record_failures;
        bridge::defer(
            due.indexes[i],
            TimestampTzPlusMilliseconds(GetCurrentTimestamp(), failed_retry_ms << failures), true);
    }
}

void record_answers() {
    const TimestampTz now = GetCurrentTimestamp();
    const DueAnswers due = due_answers(now);
    if (due.count == 0 || is_worth_gathering(due, now)) {
        return;
    }
    worker.gathering = false;
    worker.record_at = now;  // what stays is looked at anew
    fault_point(FaultPoint::answers_due);
    if (!try_to_record(due, 0, due.count)) {
        record_one_by_one(due);
    }
    fault_point(FaultPoint::answers_committed);
    std::size_t recorded = 0;
    for (std::size_t i = 0; i < due.count; ++i) {
        if (due.recorded[i]) {
            due.indexes[recorded++] = due.indexes[i];
        }
    }
    count_recorded(due.indexes, recorded);
    bridge::release(due.indexes, recorded);
    fault_point(FaultPoint::answer_released);
}

// --- Claiming and sending ----------------------------------------------------------------------

// The claim's commit may have returned without the standbys: its wait can be cancelled. Until they
// have it, a failover could forget the decision, so nothing is sent.
void wait_for_standbys(XLogRecPtr lsn) {
    if (standbys_have(lsn) || is_left_out("barrier")) {
        return;
    }
    show_since(&worker.slot->barrier_since, GetCurrentTimestamp());
    while (!standbys_have(lsn)) {
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, standby_check_ms,
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
    show_since(&worker.slot->barrier_since, 0);
}

bridge::Call bridge_call(const ClaimedCall& claimed) {
    bridge::Call call;
    call.gateway = claimed.gateway;
    call.kind = claimed.query ? core::CallKind::query : core::CallKind::refund;
    call.refund_no = claimed.refund_no;
    call.payment_id = claimed.payment_id;
    call.order_id = claimed.order_id;
    call.transaction_id = claimed.transaction_id;
    call.gateway_refund_id = claimed.gateway_refund_id;
    call.currency = claimed.currency;
    call.reason = claimed.reason;
    call.amount = claimed.amount;
    call.payment_amount = claimed.payment_amount;
    call.key_generation = claimed.key_generation;
    call.attempt = claimed.attempt;
    call.claimed_at = claimed.claimed_at;
    return call;
}

void count_claimed(const ClaimedCall& claimed) {
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    ++worker.slot->claimed;
    GatewayCounters* counters = counters_of(claimed.gateway);
    if (counters != nullptr) {
        ++(claimed.query ? counters->asked : counters->sent);
    }
    LWLockRelease(shared->lock);
}

// Why a claimed call is not made after all; null: it is made.
const char* reason_to_give_back(const bridge::Call& call, TimestampTz now) {
    // After a long wait for the standbys the lease could end before the answer comes.
    if (TimestampDifferenceExceeds(call.claimed_at, now, max_unsent_ms)) {
        return "the synchronous standbys confirmed the claim too late";
    }
    // A person ended the refund and had it tried again meanwhile: never two calls of one at a time.
    return bridge::is_in_flight(call.refund_no) ? "an earlier call is still in flight" : nullptr;
}

void start_call(const ClaimedCall& claimed) {
    const bridge::Call call = bridge_call(claimed);
    const TimestampTz now = GetCurrentTimestamp();
    const char* reason = reason_to_give_back(call, now);
    const bool handed_over = reason != nullptr ? bridge::give_back(call, reason)
                                               : bridge::start(call, now, unix_seconds(now));
    if (!handed_over) {
        ereport(LOG,
                (errmsg("payonce: refund \"%s\" was not sent: out of memory", claimed.refund_no),
                 errdetail("It is still leased, and its gateway will be asked.")));
        worker.sweep_at =
            std::min(worker.sweep_at, TimestampTzPlusMilliseconds(now, unsent_retry_ms));
        worker.claim_at = std::min(worker.claim_at, worker.sweep_at);
    }
    if (reason == nullptr) {
        count_claimed(claimed);
    }
}

bool may_dispatch(const char* schema) {
    if (!settings.dispatch) {
        return false;
    }
    SPI_connect();
    const bool activated = is_activated(schema);
    SPI_finish();
    return activated;
}

bool was_woken() {
    return pg_atomic_read_u32(&worker.slot->wakeups) != worker.wakeups_seen;
}

TimestampTz next_sweep_after(const Recovery& recovered, TimestampTz now) {
    const int most_ms = settings.naptime_s * 1000;
    const int wait_ms = recovered.any_locked   ? locked_lease_retry_ms
                        : recovered.any_failed ? failed_lease_retry_ms
                                               : most_ms;
    return TimestampTzPlusMilliseconds(now, std::min(wait_ms, most_ms));
}

// One transaction of the claim; the calls are palloc'd in the cycle's context.
void claim_in_transaction(List** calls) {
    const TimestampTz now = GetCurrentTimestamp();
    // What no gateway can be found for comes with a wake-up, or falls due: not with room for more.
    const TimestampTz planned_at = worker.claim_at;
    const bool for_room_alone = planned_at > now && !was_woken();
    worker.claim_at = TimestampTzPlusMilliseconds(now, settings.naptime_s * 1000LL);
    worker.answers_awaited = 0;
    worker.wakeups_seen = pg_atomic_read_u32(&worker.slot->wakeups);
    worker.ended_before = bridge::ended();
    const char* schema = nullptr;
    if (!begin_work(&schema)) {
        const bool gone = schema == nullptr;
        commit_work();
        if (gone) {
            end_without_extension();
        }
        return;
    }
    fault_point(FaultPoint::claim_begun);
    if (may_dispatch(schema)) {
        load_config();
        const MemoryContext transaction_context = MemoryContextSwitchTo(worker.cycle_context);
        if (worker.sweep_at <= now) {
            const Recovery recovered = recover_lost_leases(schema, worker.lease_owner,
                                                           worker.gateways, worker.gateway_count);
            worker.sweep_at = next_sweep_after(recovered, now);
            if (recovered.ended > 0) {
                fault_point(FaultPoint::leases_recovered);
                // Claimed in a transaction of its own: a second change of a row in one transaction
                // checks its foreign key, and so waits for who has locked the payment.
                MemoryContextSwitchTo(transaction_context);
                worker.claim_at = now;
                commit_work();
                return;
            }
        }
        TimestampTz next_look = std::min(worker.sweep_at, for_room_alone ? planned_at : never);
        const int given_up = for_room_alone ? 0
                                            : give_up_unreachable(schema, worker.gateways,
                                                                  worker.gateway_count, &next_look);
        const ClaimResult result =
            claim(schema, worker.lease_owner, worker.gateways, worker.gateway_count,
                  now < worker.one_by_one_until, calls);
        MemoryContextSwitchTo(transaction_context);
        worker.answers_awaited = result.answers_awaited;
        worker.claim_at = given_up > 0 ? now : std::min(next_look, result.next_due);
        if (worker.doubtful_until != 0) {
            worker.claim_at = std::min(worker.claim_at, worker.doubtful_until);
        }
    } else {
        // A restored copy that is activated begins with the leases that the original held.
        worker.sweep_at = 0;
    }
    commit_work();
}

void claim_and_send() {
    List* calls = NIL;
    claim_in_transaction(&calls);
    if (calls == NIL) {
        return;
    }
    fault_point(FaultPoint::claim_committed);
    wait_for_standbys(XactLastCommitEnd);
    fault_point(FaultPoint::claim_confirmed);
    ListCell* cell = nullptr;
    foreach (cell, calls) {
        start_call(*static_cast<const ClaimedCall*>(lfirst(cell)));
        fault_point(FaultPoint::call_started);
    }
    fault_point(FaultPoint::calls_started);
}

// For blocked_by: a queue that stands still must not look healthy.
void show_claim_failing(bool fails) {
    if (refusals.count > 0) {
        note_error(refusals.last_error);
    }
    if (worker.slot->claim_fails != fails) {
        LWLockAcquire(shared->lock, LW_EXCLUSIVE);
        worker.slot->claim_fails = fails;
        LWLockRelease(shared->lock);
    }
}

void try_to_claim_and_send() {
    const MemoryContext context = CurrentMemoryContext;
    PG_TRY();
    {
        refusals.count = 0;
        claim_and_send();
        worker.claim_failures = 0;
        show_claim_failing(refusals.count > 0);
    }
    PG_CATCH();
    {
        recover_from_error(context);
        worker.config_stale = true;
        const int shift = std::min(worker.claim_failures++, max_failed_retry_shift);
        const TimestampTz now = GetCurrentTimestamp();
        worker.claim_at = TimestampTzPlusMilliseconds(now, failed_retry_ms << shift);
        worker.one_by_one_until = TimestampTzPlusMilliseconds(now, one_by_one_s * 1000LL);
        // What the failed claim may have committed and not sent is recovered first.
        worker.sweep_at = 0;
        show_claim_failing(true);
    }
    PG_END_TRY();
}

// --- The loop ----------------------------------------------------------------------------------

bool should_claim() {
    const TimestampTz now = GetCurrentTimestamp();
    // A clock that was set back must not keep the queue waiting.
    const bool far_away =
        worker.claim_at > TimestampTzPlusMilliseconds(now, settings.naptime_s * 1000LL + 1000);
    if (worker.claim_at <= now || (far_away && worker.claim_failures == 0)) {
        return true;
    }
    const std::uint64_t ended = bridge::ended() - worker.ended_before;
    const bool enough =
        worker.answers_awaited > 0 && ended >= static_cast<std::uint64_t>(worker.answers_awaited);
    return worker.claim_failures == 0 && (was_woken() || enough);
}

long wait_ms() {
    // Since it was last asked, answers may have come in with what was sent.
    if (should_claim()) {
        return 0;
    }
    const TimestampTz now = GetCurrentTimestamp();
    long wait = std::min<long>(TimestampDifferenceMilliseconds(now, worker.claim_at),
                               settings.naptime_s * 1000L);
    const int network_ms = bridge::timeout_ms();
    if (network_ms >= 0) {
        wait = std::min<long>(wait, network_ms);
    }
    if (bridge::finished_count() > 0) {
        wait = std::min<long>(wait, TimestampDifferenceMilliseconds(now, worker.record_at));
    }
    return wait;
}

// The latch and all of curl's sockets in one wait.
void wait_for_work() {
    // A signal that came while a commit waited for the standbys: that wait has reset the latch.
    if (InterruptPending || ConfigReloadPending) {
        return;
    }
    pgstat_report_activity(STATE_IDLE, nullptr);
    WaitEvent event;
    if (WaitEventSetWait(worker.waits, wait_ms(), &event, 1, PG_WAIT_EXTENSION) > 0 &&
        (event.events & WL_LATCH_SET) != 0) {
        ResetLatch(MyLatch);
    }
}

void prepare_waits() {
    worker.waits = compat::create_wait_event_set(3);
    AddWaitEventToSet(worker.waits, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, nullptr);
    AddWaitEventToSet(worker.waits, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, nullptr, nullptr);
    AddWaitEventToSet(worker.waits, WL_SOCKET_READABLE, bridge::event_fd(), nullptr, nullptr);
}

void reload_settings() {
    if (ConfigReloadPending) {
        ConfigReloadPending = false;
        ProcessConfigFile(PGC_SIGHUP);
        worker.config_stale = true;
        worker.claim_at = 0;
        worker.sweep_at = 0;
    }
}

void move_network() {
    const TimestampTz now = GetCurrentTimestamp();
    if (!bridge::advance(now, unix_seconds(now))) {
        // What was lost is still leased; the next worker asks.
        ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY),
                        errmsg("payonce: out of memory while reading answers")));
    }
}

[[noreturn]] void run_worker() {
    for (;;) {
        // Nothing is under way that a cancel request could mean.
        QueryCancelPending = false;
        CHECK_FOR_INTERRUPTS();
        reload_settings();
        MemoryContextReset(worker.cycle_context);
        MemoryContextSwitchTo(worker.cycle_context);
        move_network();
        fault_point(FaultPoint::network_moved);
        pgstat_report_activity(STATE_RUNNING, "recording answers, sending refunds");
        // What is sent now is under way while the answers are recorded.
        if (should_claim()) {
            try_to_claim_and_send();
            move_network();
        }
        // A transaction's end leaves the context that is never emptied.
        MemoryContextSwitchTo(worker.cycle_context);
        record_answers();
        publish_load();
        wait_for_work();
    }
}

void start_worker() {
    const char* schema = nullptr;
    (void)begin_work(&schema);
    const char* database = MemoryContextStrdup(TopMemoryContext, get_database_name(MyDatabaseId));
    commit_work();
    if (schema == nullptr) {
        end_without_extension();
    }
    set_state(WorkerState::running);
    if (!bridge::open_engine()) {
        ereport(ERROR,
                (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("payonce: libcurl could not be set up")));
    }
    prepare_waits();
    worker.cycle_context =
        AllocSetContextCreate(TopMemoryContext, "payonce cycle", ALLOCSET_DEFAULT_SIZES);
    worker.config_context =
        AllocSetContextCreate(TopMemoryContext, "payonce gateways", ALLOCSET_SMALL_SIZES);
    worker.config_stale = true;
    CacheRegisterSyscacheCallback(FOREIGNSERVEROID, mark_config_stale, 0);
    CacheRegisterSyscacheCallback(FOREIGNDATAWRAPPEROID, mark_config_stale, 0);
    CacheRegisterSyscacheCallback(USERMAPPINGOID, mark_config_stale, 0);
    CacheRegisterSyscacheCallback(AUTHOID, mark_config_stale, 0);
    ereport(LOG, (errmsg("payonce: worker started for database \"%s\"", database)));
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PGDLLEXPORT void payonce_worker_main(Datum argument);

void payonce_worker_main(Datum argument) {
    using namespace payonce::pg;
    const Oid database = DatumGetObjectId(argument);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    if (!attach(database)) {
        proc_exit(0);
    }
    // Runs when the process has left the server's list of them: who waits for the pid to go is then
    // alone in the database, and an owner who may not end a superuser's process can DROP ... FORCE.
    on_shmem_exit(detach, 0);
    BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
    override_session_settings();
    // Distinct from every predecessor's: microseconds, and a server never has two workers in a
    // database.
    worker.lease_owner = worker.slot->started_at;
    start_worker();
    run_worker();
}
}
