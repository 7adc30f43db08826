// One UPDATE or INSERT of row_access: the executor's state for it, made once and kept until the
// catalogs change, so that conditions of triggers, constraints and indexes are compiled once and
// not for each row. Nothing but row_access includes it.
#pragma once

#include "pg/known_table.h"
#include "pg/pg.h"
#include "pg/row_access.h"

namespace payonce::pg {

// Takes the writer out, or makes one; null where a column cannot be written directly. It belongs to
// the caller as what take_known gives does, and the write gives it back.
Writer* take_writer(RowWrite& write, const TableUse& use);

// In the current view, in a relation that is locked for it. `tuple` is the row's newest version,
// and locked.
void write_update(Writer* writer, Relation relation, HeapTuple tuple, Parameters& values);
void write_insert(Writer* writer, Relation relation, Parameters& values);

void write_by_statement(RowWrite& write, const char* schema, Parameters& values);

// 27000.
[[noreturn]] void report_not_written(RowWrite& write, const char* schema);

}  // namespace payonce::pg
