// What differs between the PostgreSQL versions that payonce supports (15 to 18), and nothing else.
#pragma once

#include "pg/pg.h"

namespace payonce::pg::compat {

inline bool owns_database(Oid database, Oid role) {
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(DatabaseRelationId, database, role);
#else
    return pg_database_ownercheck(database, role);
#endif
}

inline bool may_use_schema(Oid schema, Oid role) {
#if PG_VERSION_NUM >= 160000
    return object_aclcheck(NamespaceRelationId, schema, role, ACL_USAGE) == ACLCHECK_OK;
#else
    return pg_namespace_aclcheck(schema, role, ACL_USAGE) == ACLCHECK_OK;
#endif
}

// A WAL record that belongs to the transaction, says nothing, and so makes its commit wait for the
// synchronous standbys.
inline void log_empty_message() {
    static const char nothing[] = "";
#if PG_VERSION_NUM >= 170000
    LogLogicalMessage("payonce", nothing, 0, true, false);
#else
    LogLogicalMessage("payonce", nothing, 0, true);
#endif
}

// Whether synchronous standbys are configured, as every commit sees it. Also differs between minor
// releases: some know only a boolean.
inline bool standbys_configured() {
#ifdef SYNC_STANDBY_DEFINED
    if ((WalSndCtl->sync_standbys_status & SYNC_STANDBY_INIT) != 0) {
        return (WalSndCtl->sync_standbys_status & SYNC_STANDBY_DEFINED) != 0;
    }
    return SyncRepStandbyNames != nullptr && SyncRepStandbyNames[0] != '\0';
#else
    return WalSndCtl->sync_standbys_defined;
#endif
}

// Settings that a worker overrides and that older versions do not know.
inline void override_later_settings() {
#if PG_VERSION_NUM >= 170000
    SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
#endif
}

using ExpressionWalker = bool (*)(Node* node, void* context);

// Whether `walker` says so of any node below this one.
inline bool walk_expression(Node* node, ExpressionWalker walker, void* context) {
#if PG_VERSION_NUM >= 160000
    return expression_tree_walker(node, walker, context);
#else
    return expression_tree_walker(
        node, reinterpret_cast<bool (*)()>(reinterpret_cast<void (*)()>(walker)), context);
#endif
}

// Makes `relation` the only one of an executor's range table, with the columns that are written, as
// the server's offsets count them: triggers on columns ask for these.
inline void init_range_table(EState* executor, Relation relation, CmdType command,
                             Bitmapset* columns) {
    RangeTblEntry* entry = makeNode(RangeTblEntry);
    entry->rtekind = RTE_RELATION;
    entry->relid = RelationGetRelid(relation);
    entry->relkind = relation->rd_rel->relkind;
    entry->rellockmode = RowExclusiveLock;
#if PG_VERSION_NUM >= 160000
    List* permissions = NIL;
    RTEPermissionInfo* rights = addRTEPermissionInfo(&permissions, entry);
    (command == CMD_INSERT ? rights->insertedCols : rights->updatedCols) = columns;
#if PG_VERSION_NUM >= 180000
    ExecInitRangeTable(executor, list_make1(entry), permissions, bms_make_singleton(1));
#else
    ExecInitRangeTable(executor, list_make1(entry), permissions);
#endif
#else
    (command == CMD_INSERT ? entry->insertedCols : entry->updatedCols) = columns;
    ExecInitRangeTable(executor, list_make1(entry));
#endif
}

// For rows that are locked already: nothing is evaluated again.
inline void init_recheck(EPQState* recheck, EState* executor) {
#if PG_VERSION_NUM >= 160000
    EvalPlanQualInit(recheck, executor, nullptr, NIL, -1, NIL);
#else
    EvalPlanQualInit(recheck, executor, nullptr, NIL, -1);
#endif
}

inline IndexScanDesc begin_index_scan(Relation table, Relation index, Snapshot snapshot) {
#if PG_VERSION_NUM >= 180000
    return index_beginscan(table, index, snapshot, nullptr, 1, 0);
#else
    return index_beginscan(table, index, snapshot, 1, 0);
#endif
}

// For the life of the process.
inline WaitEventSet* create_wait_event_set(int count) {
#if PG_VERSION_NUM >= 170000
    return CreateWaitEventSet(nullptr, count);
#else
    return CreateWaitEventSet(TopMemoryContext, count);
#endif
}

}  // namespace payonce::pg::compat
