// One UPDATE or INSERT of row_access: the executor's state for it, made once and kept with what is
// known of the table, so that conditions of triggers, constraints and indexes are compiled once and
// not for each row. Nothing but row_access includes it.
#pragma once

#include "pg/known_table.h"
#include "pg/pg.h"
#include "pg/row_access.h"

namespace payonce::pg {

// Null where a column cannot be written directly.
Writer* writer_for(RowWrite& write, const TableUse& use);

// In the current view. `tuple` is the row's newest version, and locked.
void write_update(RowWrite& write, Writer& writer, const TableUse& use, HeapTuple tuple,
                  Parameters& values);
void write_insert(RowWrite& write, Writer& writer, const TableUse& use, Parameters& values);

void write_by_statement(RowWrite& write, const char* schema, Parameters& values);

// 27000.
[[noreturn]] void report_not_written(RowWrite& write, const char* schema);

}  // namespace payonce::pg
