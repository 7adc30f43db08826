#include "pg/known_table.h"

#include <cstring>

#include "pg/compat.h"
#include "pg/fault_point.h"
#include "pg/pg.h"

namespace payonce::pg {
namespace {

constexpr int max_tables = 8;
Table* tables[max_tables];
int table_count = 0;

void forget_all() {
    for (int i = 0; i < table_count; ++i) {
        ++tables[i]->changes;
    }
}

// These run inside the reading of other processes' news: they neither fail nor allocate.
void on_relation_change(Datum, Oid relation) {
    for (int i = 0; i < table_count; ++i) {
        if (relation == InvalidOid || relation == tables[i]->relation) {
            ++tables[i]->changes;
        }
    }
}

void on_catalog_change(Datum, int, std::uint32_t) {
    forget_all();
}

// The table's own catalogs are announced as its relation's. Of functions the compiled conditions of
// triggers and constraints may have parts, and of roles the rights.
void watch(Table& table) {
    if (table_count == 0) {
        CacheRegisterRelcacheCallback(on_relation_change, 0);
        for (const int cache : {PROCOID, TYPEOID, NAMESPACEOID, AUTHOID, AUTHMEMROLEMEM}) {
            CacheRegisterSyscacheCallback(cache, on_catalog_change, 0);
        }
    }
    for (int i = 0; i < table_count; ++i) {
        if (tables[i] == &table) {
            return;
        }
    }
    if (table_count == max_tables) {
        elog(ERROR, "payonce: too many tables are watched");
    }
    tables[table_count++] = &table;
}

bool is_foreign_function(Oid function, void*) {
    return function >= FirstUnpinnedObjectId;
}

// Whether an expression calls anything that is not the server's own.
bool calls_foreign_code(Node* node, void* context) {
    if (node == nullptr) {
        return false;
    }
    if (IsA(node, CoerceToDomain) || IsA(node, NextValueExpr) ||
        check_functions_in_node(node, is_foreign_function, context)) {
        return true;
    }
    return compat::walk_expression(node, calls_foreign_code, context);
}

bool has_plain_expressions(Relation relation) {
    const TupleDesc descriptor = RelationGetDescr(relation);
    const TupleConstr* constraints = descriptor->constr;
    for (int i = 0; constraints != nullptr && i < constraints->num_check; ++i) {
        auto* condition = static_cast<Node*>(stringToNode(constraints->check[i].ccbin));
        if (calls_foreign_code(condition, nullptr)) {
            return false;
        }
    }
    for (int i = 0; i < descriptor->natts; ++i) {
        const FormData_pg_attribute* column = TupleDescAttr(descriptor, i);
        if (column->attgenerated != '\0' ||
            (column->atthasdef && !column->attisdropped &&
             calls_foreign_code(build_column_default(relation, i + 1), nullptr))) {
            return false;
        }
    }
    return true;
}

bool is_payonces(Oid function) {
    const Oid extension = extension_oid_or_invalid();
    return OidIsValid(extension) &&
           getExtensionOfObject(ProcedureRelationId, function) == extension;
}

// What fires once for a statement, or can keep a row from being written, is left to a statement.
bool has_row_triggers_only(Relation relation, bool* has_foreign_code) {
    const TriggerDesc* triggers = relation->trigdesc;
    for (int i = 0; triggers != nullptr && i < triggers->numtriggers; ++i) {
        const Trigger& trigger = triggers->triggers[i];
        if (trigger.tgisinternal || is_payonces(trigger.tgfoid)) {
            continue;
        }
        *has_foreign_code = true;
        if ((trigger.tgtype & (TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE)) != 0 &&
            (!TRIGGER_FOR_ROW(trigger.tgtype) || !TRIGGER_FOR_AFTER(trigger.tgtype) ||
             trigger.tgoldtable != nullptr || trigger.tgnewtable != nullptr)) {
            return false;
        }
    }
    return true;
}

bool is_plain_index(Relation index) {
    if (index->rd_rel->relam != BTREE_AM_OID || index->rd_index->indisexclusion) {
        return false;
    }
    for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); ++i) {
        if (index->rd_opfamily[i] >= FirstUnpinnedObjectId) {
            return false;
        }
    }
    List* expressions = RelationGetIndexExpressions(index);
    List* predicate = RelationGetIndexPredicate(index);
    return !calls_foreign_code(reinterpret_cast<Node*>(expressions), nullptr) &&
           !calls_foreign_code(reinterpret_cast<Node*>(predicate), nullptr);
}

// An index in which a row with this value in the column is found, whatever else is in the row.
bool finds_by(Relation index, AttrNumber column) {
    const FormData_pg_index* form = index->rd_index;
    return form->indisvalid && !form->indcheckxmin && form->indnkeyatts == 1 &&
           form->indkey.values[0] == column && index->rd_indcollation[0] == C_COLLATION_OID &&
           RelationGetIndexPredicate(index) == NIL;
}

bool has_plain_indexes(Relation relation, const Table& table, KnownTable* known) {
    bool plain = true;
    ListCell* at = nullptr;
    foreach (at, RelationGetIndexList(relation)) {
        Relation index = index_open(lfirst_oid(at), AccessShareLock);
        plain = plain && is_plain_index(index);
        const FormData_pg_index* form = index->rd_index;
        if (finds_by(index, known->numbers[0]) && form->indisunique && form->indimmediate) {
            known->key_index = RelationGetRelid(index);
        }
        if (table.group_column > 0 && finds_by(index, known->numbers[table.group_column])) {
            known->group_index = RelationGetRelid(index);
        }
        index_close(index, NoLock);
    }
    return plain && OidIsValid(known->key_index) &&
           (table.group_column == 0 || OidIsValid(known->group_index));
}

bool has_columns(Relation relation, const Table& table, KnownTable* known) {
    for (int i = 0; i < table.column_count; ++i) {
        known->numbers[i] = plain_column(RelationGetDescr(relation), table.columns[i]);
        if (known->numbers[i] == 0) {
            return false;
        }
    }
    return true;
}

// Row security may bind the owner too, and policies are for statements.
bool is_unsecured(Relation relation) {
    return !relation->rd_rel->relrowsecurity ||
           (!relation->rd_rel->relforcerowsecurity &&
            check_enable_rls(RelationGetRelid(relation), InvalidOid, true) != RLS_ENABLED);
}

bool is_direct(Relation relation, const Table& table, KnownTable* known) {
    const FormData_pg_class* form = relation->rd_rel;
    return form->relkind == RELKIND_RELATION && form->relam == HEAP_TABLE_AM_OID &&
           form->relpersistence == RELPERSISTENCE_PERMANENT && !form->relispartition &&
           !form->relhassubclass && relation->rd_rules == nullptr && is_unsecured(relation) &&
           has_columns(relation, table, known) && has_plain_indexes(relation, table, known) &&
           has_plain_expressions(relation) &&
           has_row_triggers_only(relation, &known->has_foreign_code);
}

void prepare_for_reading(Relation relation, KnownTable* known) {
    known->descriptor = CreateTupleDescCopyConstr(RelationGetDescr(relation));
    known->slot = MakeSingleTupleTableSlot(known->descriptor, table_slot_callbacks(relation));
    const auto count = static_cast<std::size_t>(known->descriptor->natts);
    known->values = static_cast<Datum*>(palloc(count * sizeof(Datum)));
    known->nulls = static_cast<bool*>(palloc(count * sizeof(bool)));
}

KnownTable* learn(Table& table, const char* schema, Relation relation) {
    MemoryContext memory =
        AllocSetContextCreate(CurrentMemoryContext, "payonce table", ALLOCSET_DEFAULT_SIZES);
    auto* known = static_cast<KnownTable*>(MemoryContextAllocZero(memory, sizeof(KnownTable)));
    known->memory = memory;
    known->changes = table.changes;
    known->user = GetUserId();
    namestrcpy(&known->schema, schema);
    known->rights = pg_class_aclmask(RelationGetRelid(relation), known->user,
                                     ACL_SELECT | ACL_INSERT | ACL_UPDATE, ACLMASK_ALL);
    known->direct = (known->rights & ACL_SELECT) != 0 &&
                    compat::may_use_schema(RelationGetNamespace(relation), known->user) &&
                    is_direct(relation, table, known);
    if (known->direct) {
        const MemoryContext caller = MemoryContextSwitchTo(memory);
        prepare_for_reading(relation, known);
        MemoryContextSwitchTo(caller);
    }
    return known;
}

bool is_up_to_date(const Table& table, const KnownTable* known, const char* schema) {
    return known->changes == table.changes && known->user == GetUserId() &&
           std::strcmp(NameStr(known->schema), schema) == 0;
}

// The lock on the table is what makes this process hear of changes to it.
Relation open_table(Table& table, const char* schema) {
    if (table.known == nullptr || !OidIsValid(table.relation) ||
        !is_up_to_date(table, table.known, schema)) {
        const Oid space = get_namespace_oid(schema, true);
        table.relation = OidIsValid(space) ? get_relname_relid(table.name, space) : InvalidOid;
    }
    return OidIsValid(table.relation) ? try_table_open(table.relation, AccessShareLock) : nullptr;
}

}  // namespace

AttrNumber plain_column(TupleDesc descriptor, const Column& column) {
    for (int i = 0; i < descriptor->natts; ++i) {
        const FormData_pg_attribute* attribute = TupleDescAttr(descriptor, i);
        if (!attribute->attisdropped &&
            std::strcmp(NameStr(attribute->attname), column.name) == 0) {
            return attribute->atttypid == column.type ? attribute->attnum : AttrNumber{0};
        }
    }
    return 0;
}

KnownTable* take_known(Table& table, const char* schema, Relation* relation) {
    if (is_left_out("row_access")) {
        return nullptr;
    }
    watch(table);
    *relation = open_table(table, schema);
    if (*relation == nullptr) {
        return nullptr;
    }
    KnownTable* known = table.known;
    table.known = nullptr;
    if (known != nullptr && !is_up_to_date(table, known, schema)) {
        MemoryContextDelete(known->memory);
        known = nullptr;
    }
    if (known == nullptr) {
        known = learn(table, schema, *relation);
    } else {
        MemoryContextSetParent(known->memory, CurrentMemoryContext);
    }
    if (!known->direct) {
        give_back(table, known);
        table_close(*relation, NoLock);
        *relation = nullptr;
        return nullptr;
    }
    return known;
}

void give_back(Table& table, KnownTable* known) {
    if (table.known != nullptr) {
        MemoryContextDelete(known->memory);
        return;
    }
    MemoryContextSetParent(known->memory, CacheMemoryContext);
    table.known = known;
}

}  // namespace payonce::pg
