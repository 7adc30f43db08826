// What a process knows of a table, for row_access: whether its rows can be used without a
// statement, where its columns are, and what is kept for reading and writing them. Nothing else
// includes it.
#pragma once

#include <cstdint>

#include "pg/pg.h"
#include "pg/row_access.h"

namespace payonce::pg {

struct KnownTable {
    MemoryContext memory = nullptr;
    std::uint64_t changes = 0;  // Table::changes before it was looked at
    Oid user = InvalidOid;
    NameData schema = {};

    bool direct = false;            // otherwise by statements
    bool has_foreign_code = false;  // triggers that are not payonce's
    AclMode rights = 0;             // of `user`, on the whole table
    Oid key_index = InvalidOid;
    Oid group_index = InvalidOid;
    TupleDesc descriptor = nullptr;  // not the relation's, which belongs to a transaction
    TupleTableSlot* slot = nullptr;
    AttrNumber numbers[max_columns] = {};
    Datum* values = nullptr;  // of a whole row, while it is read
    bool* nulls = nullptr;
};

// Takes what is known out of the table, or learns it; null: use statements. Whoever has taken it
// owns it: it is freed with the current memory context, unless it is given back. So an error leaves
// nothing behind that is half in use, and a call inside a call learns for itself.
KnownTable* take_known(Table& table, const char* schema, Relation* relation);
void give_back(Table& table, KnownTable* known);

// The number of a column that has this type and can be written; 0: there is none.
AttrNumber plain_column(TupleDesc descriptor, const Column& column);

}  // namespace payonce::pg
