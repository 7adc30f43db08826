// Rows of payonce's own tables without a planned statement: found through the index of their key,
// read again and locked by their place (TID), and written by the executor's own row operations, so
// that triggers, constraints, indexes, predicate locks, logical decoding and statistics are those
// of SQL.
//
// Where that could differ from what a statement does (statement triggers, an application's BEFORE
// triggers, rules, row security that binds the user, rights on columns alone, a column of another
// type, generated columns, unusual indexes) the same call runs the statement through SPI instead.
// So callers need not know which way a row went, nor be connected to SPI. What is known of a table
// is kept for the life of the process, until the catalogs change.
//
// One row's life:
//
//     TableUse use = begin_use(table, schema);
//     begin_view();                       // what has been committed until now
//     find_row(use, key, RowLock::none, &row);
//     end_view();
//     ...                                 // wait for the order's lock
//     begin_view();
//     read_again(use, &row);              // its version of now, usually without the index
//     lock_again(use, &row);              // in the same view
//     end_view();
//     update_row(write, use, &row, values);
//     end_use(use);
//
// Rows and the texts in them live in the memory context that was the current one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "pg/pg.h"
#include "pg/statement.h"

namespace payonce::pg {

struct KnownTable;
struct Writer;

enum class RowLock : std::uint8_t {
    none,
    wait,  // FOR NO KEY UPDATE; at REPEATABLE READ a newer version of the row is 40001
    skip,  // the same, but a row that somebody holds counts as not found
};

struct Column {
    const char* name = nullptr;
    Oid type = InvalidOid;
};

inline constexpr int max_columns = 24;

// A table in the extension's schema, with the columns that are read; the first is its key.
struct Table {
    const char* name = nullptr;
    int column_count = 0;
    Column columns[max_columns] = {};
    // A column of `columns` by which several rows are found: it has an index. 0: none.
    int group_column = 0;

    KnownTable* known = nullptr;
    Oid relation = InvalidOid;
    std::uint64_t changes = 0;  // of the catalogs, as far as they may concern the table
    Statement select[3] = {};
    Statement select_group = {};
};

struct Row {
    HeapTuple tuple = nullptr;  // null: read by a statement
    CommandId locked_at = InvalidCommandId;
    Datum values[max_columns] = {};
    bool nulls[max_columns] = {};
};

// The columns that one UPDATE or INSERT writes; triggers on columns fire for these.
struct RowWrite {
    Table* table = nullptr;
    CmdType command = CMD_UPDATE;
    int column_count = 0;
    Column columns[max_parameters] = {};

    Writer* writer = nullptr;
    Statement statement = {};
};

struct TableUse {
    Table* table = nullptr;
    const char* schema = nullptr;
    KnownTable* known = nullptr;  // null: by statements
    Relation relation = nullptr;
    bool locked_for_write = false;
};

TableUse begin_use(Table& table, const char* schema);
void end_use(TableUse& use);

// What is committed, and what this transaction has done until now; at REPEATABLE READ and above the
// transaction's snapshot.
void begin_view();
void end_view();

// Each returns false where there is no such row in the view, or (with RowLock::skip) it is held.
bool find_row(TableUse& use, std::string_view key, RowLock lock, Row* row);
bool read_again(TableUse& use, Row* row);
// Waits. The row's newest version, in the view in which it was found or read.
bool lock_again(TableUse& use, Row* row);

// All rows with this value of the table's group column, in no order.
std::span<const Row> find_group(TableUse& use, std::string_view value);

// Updates a row that is locked; `values` are its key and then the columns of `write`. The row may
// not be used afterwards. 27000 where the row was not written: a trigger, rule or policy of the
// application must not make a silent true of it.
void update_row(RowWrite& write, TableUse& use, Row* row, Parameters& values);
// Locks the row with this key and updates it.
void update_by_key(RowWrite& write, const char* schema, std::string_view key, Parameters& values);
// Inserts a row; columns that `write` does not name have their defaults.
void insert_row(RowWrite& write, const char* schema, Parameters& values);

// What a statement has read of the table's columns, in their order: `number` is the row of
// SPI_tuptable, `first` the number of the first column. It lives until SPI_finish.
Row row_at(const Table& table, std::uint64_t number, int first);

std::string_view text_of(const Row& row, int column);
std::optional<std::string_view> optional_text_of(const Row& row, int column);
std::int64_t int64_of(const Row& row, int column);
std::optional<std::int64_t> optional_int64_of(const Row& row, int column);
int int_of(const Row& row, int column);
bool bool_of(const Row& row, int column);
std::optional<TimestampTz> optional_time_of(const Row& row, int column);

}  // namespace payonce::pg
