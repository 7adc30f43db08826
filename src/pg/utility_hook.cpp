#include "pg/utility_hook.h"

#include <csignal>
#include <cstring>

#include "pg/compat.h"
#include "pg/gateway_config.h"
#include "pg/pg.h"
#include "pg/shared_state.h"
#include "pg/wakeup.h"

namespace payonce::pg {
namespace {

constexpr int stop_wait_ms = 10;
constexpr int stop_deadline_ms = 30'000;

ProcessUtility_hook_type previous_hook = nullptr;

// Whether this backend's transaction keeps a worker away from a database. RENAME may come more than
// once in one.
bool holds_databases = false;

void hold(Oid database) {
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    if (shared->kept_away_count < max_kept_away) {
        shared->kept_away[shared->kept_away_count++] = KeptAway{database, MyProcPid};
        holds_databases = true;
    }
    LWLockRelease(shared->lock);
}

// The pid of the database's worker, after asking it to end; 0: there is none any more.
pid_t stop_worker(Oid database) {
    LWLockAcquire(shared->lock, LW_SHARED);
    const WorkerSlot* slot = find_slot(database);
    const pid_t pid = slot != nullptr ? slot->pid : 0;
    if (pid != 0) {
        kill(pid, SIGTERM);
    }
    LWLockRelease(shared->lock);
    return pid;
}

void keep_worker_away(Oid database) {
    hold(database);
    for (int waited_ms = 0; waited_ms < stop_deadline_ms && stop_worker(database) != 0;
         waited_ms += stop_wait_ms) {
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, stop_wait_ms,
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

// Only for whom the statement itself would be allowed: nobody else may stop a worker.
void keep_away_if_owner(const char* name) {
    const Oid database = get_database_oid(name, true);
    if (OidIsValid(database) && compat::owns_database(database, GetUserId())) {
        keep_worker_away(database);
    }
}

bool is_database_template(Oid database) {
    HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
    if (!HeapTupleIsValid(tuple)) {
        return false;
    }
    const bool is_template = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple))->datistemplate;
    ReleaseSysCache(tuple);
    return is_template;
}

// The server's own function for this is not exported by every minor release.
bool may_create_databases() {
    if (superuser()) {
        return true;
    }
    HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
    if (!HeapTupleIsValid(tuple)) {
        return false;
    }
    const bool may = reinterpret_cast<Form_pg_authid>(GETSTRUCT(tuple))->rolcreatedb;
    ReleaseSysCache(tuple);
    return may;
}

void before_create_database(const CreatedbStmt* statement) {
    const char* source = "template1";
    ListCell* cell = nullptr;
    foreach (cell, statement->options) {
        auto* option = static_cast<DefElem*>(lfirst(cell));
        if (std::strcmp(option->defname, "template") == 0 && option->arg != nullptr) {
            source = defGetString(option);
        }
    }
    const Oid database = get_database_oid(source, true);
    if (!OidIsValid(database)) {
        return;
    }
    if (compat::owns_database(database, GetUserId()) ||
        (may_create_databases() && is_database_template(database))) {
        keep_worker_away(database);
    }
}

bool moves_tablespace(const AlterDatabaseStmt* statement) {
    ListCell* cell = nullptr;
    foreach (cell, statement->options) {
        if (std::strcmp(static_cast<DefElem*>(lfirst(cell))->defname, "tablespace") == 0) {
            return true;
        }
    }
    return false;
}

void before_statement(const Node* statement) {
    switch (nodeTag(statement)) {
        case T_DropdbStmt:
            keep_away_if_owner(reinterpret_cast<const DropdbStmt*>(statement)->dbname);
            break;
        case T_CreatedbStmt:
            before_create_database(reinterpret_cast<const CreatedbStmt*>(statement));
            break;
        case T_RenameStmt: {
            const auto* rename = reinterpret_cast<const RenameStmt*>(statement);
            if (rename->renameType == OBJECT_DATABASE) {
                keep_away_if_owner(rename->subname);
            }
            break;
        }
        case T_AlterDatabaseStmt: {
            const auto* alter = reinterpret_cast<const AlterDatabaseStmt*>(statement);
            if (moves_tablespace(alter)) {
                keep_away_if_owner(alter->dbname);
            }
            break;
        }
        default:
            break;
    }
}

enum class Concern : std::uint8_t { nobody, worker, launcher };

// Who should hear at commit of what the statement changed.
Concern concern_of(const Node* statement) {
    switch (nodeTag(statement)) {
        case T_AlterDatabaseStmt:
        case T_CreatedbStmt:
        case T_DropdbStmt:
            return Concern::launcher;
        case T_CreateForeignServerStmt:
        case T_AlterForeignServerStmt:
        case T_CreateUserMappingStmt:
        case T_AlterUserMappingStmt:
        case T_DropUserMappingStmt:
        case T_AlterOwnerStmt:
        case T_DropOwnedStmt:
            return Concern::worker;
        case T_DropStmt: {
            // A schema may take the extension with it.
            const ObjectType kind = reinterpret_cast<const DropStmt*>(statement)->removeType;
            return kind == OBJECT_EXTENSION || kind == OBJECT_FOREIGN_SERVER ||
                           kind == OBJECT_SCHEMA
                       ? Concern::worker
                       : Concern::nobody;
        }
        case T_TransactionStmt:
            return reinterpret_cast<const TransactionStmt*>(statement)->kind ==
                           TRANS_STMT_COMMIT_PREPARED
                       ? Concern::worker
                       : Concern::nobody;
        default:
            return Concern::nobody;
    }
}

// The driver that the options in the statement are for; null: none of payonce's, or no options.
const core::Driver* driver_of_statement(const Node* statement) {
    switch (nodeTag(statement)) {
        case T_CreateForeignServerStmt:
            return driver_of_wrapper_named(
                reinterpret_cast<const CreateForeignServerStmt*>(statement)->fdwname);
        case T_AlterForeignServerStmt:
            return driver_of_server(
                reinterpret_cast<const AlterForeignServerStmt*>(statement)->servername);
        case T_CreateUserMappingStmt:
            return driver_of_server(
                reinterpret_cast<const CreateUserMappingStmt*>(statement)->servername);
        case T_AlterUserMappingStmt:
            return driver_of_server(
                reinterpret_cast<const AlterUserMappingStmt*>(statement)->servername);
        default:
            return nullptr;
    }
}

// The options may be secrets (of a server by mistake: it is refused, but was written), and
// pg_stat_activity shows a session's last statement for as long as it is idle.
void hide_options(const Node* statement) {
    if (driver_of_statement(statement) != nullptr) {
        pgstat_report_activity(STATE_RUNNING, "<gateway of payonce: options are not shown>");
    }
}

void process_utility(PlannedStmt* planned, const char* query, bool read_only_tree,
                     ProcessUtilityContext context, ParamListInfo parameters,
                     QueryEnvironment* environment, DestReceiver* destination,
                     QueryCompletion* completion) {
    // Before it runs: a statement that ends its transaction may free its own tree.
    const Concern concern = concern_of(planned->utilityStmt);
    before_statement(planned->utilityStmt);
    hide_options(planned->utilityStmt);
    if (previous_hook != nullptr) {
        previous_hook(planned, query, read_only_tree, context, parameters, environment, destination,
                      completion);
    } else {
        standard_ProcessUtility(planned, query, read_only_tree, context, parameters, environment,
                                destination, completion);
    }
    if (concern == Concern::worker) {
        wake_worker_at_commit();
    } else if (concern == Concern::launcher) {
        wake_launcher_at_commit();
    }
}

}  // namespace

void install_utility_hook() {
    previous_hook = ProcessUtility_hook;
    ProcessUtility_hook = process_utility;
}

void release_databases() {
    if (!holds_databases) {
        return;
    }
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    for (int i = shared->kept_away_count; i-- > 0;) {
        if (shared->kept_away[i].holder == MyProcPid) {
            shared->kept_away[i] = shared->kept_away[--shared->kept_away_count];
        }
    }
    if (shared->launcher_latch != nullptr) {
        SetLatch(shared->launcher_latch);
    }
    LWLockRelease(shared->lock);
    holds_databases = false;
}

}  // namespace payonce::pg
