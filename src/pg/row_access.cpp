#include "pg/row_access.h"

#include "pg/compat.h"
#include "pg/known_table.h"
#include "pg/pg.h"
#include "pg/search_path.h"
#include "pg/writer.h"

namespace payonce::pg {
namespace {

constexpr const char* lock_clauses[] = {"", " FOR NO KEY UPDATE", " FOR NO KEY UPDATE SKIP LOCKED"};

std::string_view text_in_datum(Datum value) {
    const text* packed = DatumGetTextPP(value);
    return {VARDATA_ANY(packed), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(packed))};
}

// By statements, where the row's own operations do not do.

void compose_select(Statement& statement, const Table& table, int by, const char* lock) {
    if (statement.sql != nullptr) {
        return;
    }
    const MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
    StringInfoData sql;
    initStringInfo(&sql);
    for (int i = 0; i < table.column_count; ++i) {
        appendStringInfo(&sql, "%s %s", i == 0 ? "SELECT" : ",", table.columns[i].name);
    }
    appendStringInfo(&sql, " FROM {s}.%s WHERE %s = $1%s", table.name, table.columns[by].name,
                     lock);
    statement.parameter_count = 1;
    statement.parameter_types[0] = table.columns[by].type;
    statement.sql = sql.data;
    MemoryContextSwitchTo(caller);
}

void copy_result(const Table& table, std::uint64_t number, MemoryContext memory, Row* row) {
    const MemoryContext spi = MemoryContextSwitchTo(memory);
    *row = row_at(table, number, 1);
    for (int i = 0; i < table.column_count; ++i) {
        if (!row->nulls[i]) {
            const Form_pg_attribute form = TupleDescAttr(SPI_tuptable->tupdesc, i);
            row->values[i] = datumCopy(row->values[i], form->attbyval, form->attlen);
        }
    }
    MemoryContextSwitchTo(spi);
}

bool select_row(const TableUse& use, std::string_view key, RowLock lock, Row* row) {
    const auto number = static_cast<std::size_t>(lock);
    Table& table = *use.table;
    compose_select(table.select[number], table, 0, lock_clauses[number]);
    const MemoryContext caller = CurrentMemoryContext;
    SPI_connect();
    Parameters parameters;
    parameters.add(key);
    const bool found = run(table.select[number], use.schema, parameters) == 1;
    if (found) {
        copy_result(table, 0, caller, row);
    }
    SPI_finish();
    return found;
}

std::span<const Row> select_group(const TableUse& use, std::string_view value) {
    Table& table = *use.table;
    compose_select(table.select_group, table, table.group_column, "");
    const MemoryContext caller = CurrentMemoryContext;
    SPI_connect();
    Parameters parameters;
    parameters.add(value);
    const std::uint64_t count = run(table.select_group, use.schema, parameters);
    auto* rows = static_cast<Row*>(MemoryContextAllocZero(caller, (count + 1) * sizeof(Row)));
    for (std::uint64_t i = 0; i < count; ++i) {
        copy_result(table, i, caller, &rows[i]);
    }
    SPI_finish();
    return {rows, count};
}

// Directly.

// The version in the slot, copied: no page stays pinned while a lock is waited for.
void keep(const TableUse& use, Row* row) {
    KnownTable* known = use.known;
    row->tuple = ExecCopySlotHeapTuple(known->slot);
    heap_deform_tuple(row->tuple, known->descriptor, known->values, known->nulls);
    for (int i = 0; i < use.table->column_count; ++i) {
        const int at = known->numbers[i] - 1;
        row->values[i] = known->values[at];
        row->nulls[i] = known->nulls[at];
    }
}

bool has_key(const KnownTable* known, std::string_view key) {
    bool is_null = false;
    const Datum value = slot_getattr(known->slot, known->numbers[0], &is_null);
    return !is_null && text_in_datum(value) == key;
}

struct IndexScan {
    Relation index;
    IndexScanDesc scan;
};

IndexScan begin_scan(const TableUse& use, Oid index_oid, std::string_view value) {
    Relation index = index_open(index_oid, AccessShareLock);
    IndexScanDesc scan = compat::begin_index_scan(use.relation, index, GetActiveSnapshot());
    ScanKeyData key;
    ScanKeyInit(
        &key, 1, BTEqualStrategyNumber, F_TEXTEQ,
        PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size()))));
    key.sk_collation = index->rd_indcollation[0];
    index_rescan(scan, &key, 1, nullptr, 0);
    return {index, scan};
}

void end_scan(const IndexScan& scan) {
    index_endscan(scan.scan);
    index_close(scan.index, NoLock);
}

// Into the slot.
bool fetch_by_key(const TableUse& use, std::string_view key) {
    const IndexScan scan = begin_scan(use, use.known->key_index, key);
    const bool found = index_getnext_slot(scan.scan, ForwardScanDirection, use.known->slot);
    end_scan(scan);
    return found;
}

// Into the slot: the version that is current in the view. Where the row was not changed since, that
// is the one at its old place; otherwise something else may be there now.
bool fetch_again(const TableUse& use, HeapTuple tuple, std::string_view key) {
    return (table_tuple_fetch_row_version(use.relation, &tuple->t_self, GetActiveSnapshot(),
                                          use.known->slot) &&
            has_key(use.known, key)) ||
           fetch_by_key(use, key);
}

[[noreturn]] void report_concurrent_update() {
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("could not serialize access due to concurrent update")));
    pg_unreachable();
}

// Locks the newest version of the row of which a version in the view is at `place`, and puts it
// into the slot. As FOR NO KEY UPDATE: what is gone, or has become another, is not found.
bool lock_version(const TableUse& use, ItemPointerData place, std::string_view key, RowLock lock,
                  bool* moved) {
    TM_FailureData failure;
    failure.traversed = false;
    ExecClearTuple(use.known->slot);
    const TM_Result result = table_tuple_lock(
        use.relation, &place, GetActiveSnapshot(), use.known->slot, GetCurrentCommandId(false),
        LockTupleNoKeyExclusive, lock == RowLock::skip ? LockWaitSkip : LockWaitBlock,
        IsolationUsesXactSnapshot() ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
    *moved = failure.traversed;
    switch (result) {
        case TM_Ok:
            return !failure.traversed || has_key(use.known, key);
        case TM_Updated:
        case TM_Deleted:
            if (IsolationUsesXactSnapshot()) {
                report_concurrent_update();
            }
            return false;
        case TM_SelfModified:
        case TM_WouldBlock:
            return false;
        default:
            elog(ERROR, "payonce: a row could not be locked: %d", static_cast<int>(result));
    }
    return false;
}

TableUse used_directly(Table& table, const char* schema, KnownTable* known, Relation relation) {
    TableUse use;
    use.table = &table;
    use.schema = schema;
    use.known = known;
    use.relation = relation;
    if (known == nullptr || known->has_foreign_code) {
        pin_search_path();
    }
    return use;
}

}  // namespace

TableUse begin_use(Table& table, const char* schema) {
    Relation relation = nullptr;
    KnownTable* known = take_known(table, schema, &relation);
    return used_directly(table, schema, known, relation);
}

void end_use(TableUse& use) {
    if (use.known != nullptr) {
        give_back(*use.table, use.known);
        table_close(use.relation, NoLock);
        use.known = nullptr;
        use.relation = nullptr;
    }
}

namespace {

// Before a row is locked or written. Where the user lacks the rights, a statement says so.
void lock_for_write(TableUse& use, AclMode rights) {
    if (use.known != nullptr && !use.locked_for_write) {
        LockRelationOid(RelationGetRelid(use.relation), RowExclusiveLock);
        if (use.known->changes != use.table->changes) {
            // A trigger or an index may have come since the table was opened.
            Table& table = *use.table;
            const char* schema = use.schema;
            end_use(use);
            use = begin_use(table, schema);
        }
        use.locked_for_write = true;
    }
    if (use.known != nullptr && (use.known->rights & rights) != rights) {
        end_use(use);
    }
}

}  // namespace

void begin_view() {
    CommandCounterIncrement();
    PushActiveSnapshot(GetTransactionSnapshot());
}

void end_view() {
    PopActiveSnapshot();
}

bool find_row(TableUse& use, std::string_view key, RowLock lock, Row* row) {
    if (lock != RowLock::none) {
        lock_for_write(use, ACL_UPDATE);
    }
    if (use.known == nullptr) {
        return select_row(use, key, lock, row);
    }
    bool found = fetch_by_key(use, key);
    if (found && lock != RowLock::none) {
        bool moved = false;
        found = lock_version(use, use.known->slot->tts_tid, key, lock, &moved);
        row->locked_at = GetCurrentCommandId(false);
    }
    if (found) {
        keep(use, row);
    }
    ExecClearTuple(use.known->slot);
    return found;
}

bool read_again(TableUse& use, Row* row) {
    const std::string_view key = text_of(*row, 0);
    if (use.known == nullptr || row->tuple == nullptr) {
        return find_row(use, key, RowLock::none, row);
    }
    const bool found = fetch_again(use, row->tuple, key);
    if (found) {
        keep(use, row);
    }
    ExecClearTuple(use.known->slot);
    return found;
}

bool lock_again(TableUse& use, Row* row) {
    const std::string_view key = text_of(*row, 0);
    lock_for_write(use, ACL_UPDATE);
    if (use.known == nullptr || row->tuple == nullptr) {
        return find_row(use, key, RowLock::wait, row);
    }
    bool moved = false;
    const bool found = lock_version(use, row->tuple->t_self, key, RowLock::wait, &moved);
    row->locked_at = GetCurrentCommandId(false);
    if (found && moved) {
        keep(use, row);
    }
    ExecClearTuple(use.known->slot);
    return found;
}

std::span<const Row> find_group(TableUse& use, std::string_view value) {
    if (use.known == nullptr) {
        return select_group(use, value);
    }
    std::size_t room = 2;
    std::size_t count = 0;
    auto* rows = static_cast<Row*>(palloc(room * sizeof(Row)));
    IndexScan scan = begin_scan(use, use.known->group_index, value);
    while (index_getnext_slot(scan.scan, ForwardScanDirection, use.known->slot)) {
        if (count == room) {
            room *= 2;
            rows = static_cast<Row*>(repalloc(rows, room * sizeof(Row)));
        }
        rows[count] = Row();
        keep(use, &rows[count]);
        ++count;
    }
    end_scan(scan);
    ExecClearTuple(use.known->slot);
    return {rows, count};
}

void update_row(RowWrite& write, TableUse& use, Row* row, Parameters& values) {
    lock_for_write(use, ACL_UPDATE);
    Writer* writer = use.known == nullptr ? nullptr : take_writer(write, use);
    if (writer == nullptr) {
        write_by_statement(write, use.schema, values);
        return;
    }
    begin_view();
    // What our own triggers did since the row was locked belongs to it.
    if (row->locked_at != GetCurrentCommandId(false)) {
        if (!fetch_again(use, row->tuple, text_of(*row, 0))) {
            report_not_written(write, use.schema);
        }
        keep(use, row);
        ExecClearTuple(use.known->slot);
    }
    write_update(writer, use.relation, row->tuple, values);
    end_view();
    CommandCounterIncrement();
    row->tuple = nullptr;
}

void update_by_key(RowWrite& write, const char* schema, std::string_view key, Parameters& values) {
    TableUse use = begin_use(*write.table, schema);
    if (use.known == nullptr) {
        write_by_statement(write, schema, values);
        return;
    }
    Row row;
    begin_view();
    if (!find_row(use, key, RowLock::wait, &row)) {
        report_not_written(write, schema);
    }
    end_view();
    update_row(write, use, &row, values);
    end_use(use);
}

void insert_row(RowWrite& write, const char* schema, Parameters& values) {
    TableUse use = begin_use(*write.table, schema);
    lock_for_write(use, ACL_INSERT);
    Writer* writer = use.known == nullptr ? nullptr : take_writer(write, use);
    if (writer == nullptr) {
        end_use(use);
        write_by_statement(write, schema, values);
        return;
    }
    // What is known is for the triggers to use.
    Relation relation = table_open(RelationGetRelid(use.relation), NoLock);
    end_use(use);
    begin_view();
    write_insert(writer, relation, values);
    end_view();
    CommandCounterIncrement();
    table_close(relation, NoLock);
}

namespace {

Datum present(const Row& row, int column) {
    if (row.nulls[column]) {
        elog(ERROR, "payonce: column %d is null", column + 1);
    }
    return row.values[column];
}

}  // namespace

Row row_at(const Table& table, std::uint64_t number, int first) {
    Row row;
    for (int i = 0; i < table.column_count; ++i) {
        row.nulls[i] = column_is_null(number, first + i);
        if (!row.nulls[i]) {
            row.values[i] = typed_column(number, first + i, table.columns[i].type);
        }
    }
    return row;
}

std::string_view text_of(const Row& row, int column) {
    return text_in_datum(present(row, column));
}

std::optional<std::string_view> optional_text_of(const Row& row, int column) {
    return row.nulls[column] ? std::nullopt : std::optional(text_of(row, column));
}

std::int64_t int64_of(const Row& row, int column) {
    return DatumGetInt64(present(row, column));
}

std::optional<std::int64_t> optional_int64_of(const Row& row, int column) {
    return row.nulls[column] ? std::nullopt : std::optional(int64_of(row, column));
}

int int_of(const Row& row, int column) {
    return DatumGetInt32(present(row, column));
}

bool bool_of(const Row& row, int column) {
    return DatumGetBool(present(row, column));
}

std::optional<TimestampTz> optional_time_of(const Row& row, int column) {
    return row.nulls[column] ? std::nullopt
                             : std::optional(DatumGetTimestampTz(present(row, column)));
}

}  // namespace payonce::pg
