#include "pg/writer.h"

#include <algorithm>

#include "pg/compat.h"
#include "pg/pg.h"

namespace payonce::pg {

struct Writer {
    MemoryContext memory = nullptr;
    std::uint64_t changes = 0;  // Table::changes before it was made
    Oid user = InvalidOid;
    Oid relation = InvalidOid;
    RowWrite* write = nullptr;
    TupleDesc descriptor = nullptr;
    AttrNumber numbers[max_parameters] = {};
    EState* executor = nullptr;
    ResultRelInfo* target = nullptr;
    EPQState recheck = {};
    TupleTableSlot* place = nullptr;  // of the old row
    TupleTableSlot* row = nullptr;
    int index_count = 0;
    Oid* indexes = nullptr;
    ExprState** defaults = nullptr;  // of all columns, for INSERT
};

namespace {

bool find_columns(const RowWrite& write, TupleDesc descriptor, Writer* writer) {
    for (int i = 0; i < write.column_count; ++i) {
        writer->numbers[i] = plain_column(descriptor, write.columns[i]);
        if (writer->numbers[i] == 0) {
            return false;
        }
    }
    return true;
}

Bitmapset* columns_of(const RowWrite& write, const Writer* writer) {
    Bitmapset* columns = nullptr;
    for (int i = 0; i < write.column_count; ++i) {
        columns = bms_add_member(columns, writer->numbers[i] - FirstLowInvalidHeapAttributeNumber);
    }
    return columns;
}

void remember_indexes(Writer* writer) {
    const ResultRelInfo* target = writer->target;
    writer->index_count = target->ri_NumIndices;
    writer->indexes = static_cast<Oid*>(
        palloc(sizeof(Oid) * static_cast<std::size_t>(target->ri_NumIndices + 1)));
    for (int i = 0; i < target->ri_NumIndices; ++i) {
        writer->indexes[i] = RelationGetRelid(target->ri_IndexRelationDescs[i]);
        index_close(target->ri_IndexRelationDescs[i], NoLock);
    }
}

// Slots of our own: the executor's would hold on to the relation's description of itself, which
// belongs to the transaction.
void make_slots(Relation relation, Writer* writer) {
    const TupleDesc descriptor = writer->descriptor;
    const TupleTableSlotOps* stored = table_slot_callbacks(relation);
    writer->place = MakeSingleTupleTableSlot(descriptor, stored);
    writer->row = MakeSingleTupleTableSlot(descriptor, &TTSOpsVirtual);
    writer->target->ri_TrigOldSlot = MakeSingleTupleTableSlot(descriptor, stored);
    writer->target->ri_TrigNewSlot = MakeSingleTupleTableSlot(descriptor, stored);
}

void compile_defaults(Relation relation, Writer* writer) {
    const TupleDesc descriptor = writer->descriptor;
    writer->defaults = static_cast<ExprState**>(
        palloc0(sizeof(ExprState*) * static_cast<std::size_t>(descriptor->natts)));
    for (int i = 0; i < descriptor->natts; ++i) {
        const bool given =
            std::count(writer->numbers, writer->numbers + writer->write->column_count, i + 1) > 0;
        if (given || TupleDescAttr(descriptor, i)->attisdropped) {
            continue;
        }
        if (Node* expression = build_column_default(relation, i + 1)) {
            writer->defaults[i] =
                ExecPrepareExpr(reinterpret_cast<Expr*>(expression), writer->executor);
        }
    }
}

// Looked up here, where what they keep between calls lasts as long as the writer.
void look_up_triggers(const Writer* writer) {
    const TriggerDesc* triggers = writer->target->ri_TrigDesc;
    for (int i = 0; triggers != nullptr && i < triggers->numtriggers; ++i) {
        fmgr_info_cxt(triggers->triggers[i].tgfoid, &writer->target->ri_TrigFunctions[i],
                      writer->executor->es_query_cxt);
    }
}

void begin_executor(const RowWrite& write, Relation relation, Writer* writer) {
    writer->executor = CreateExecutorState();
    MemoryContextSwitchTo(writer->executor->es_query_cxt);
    compat::init_range_table(writer->executor, relation, write.command, columns_of(write, writer));
    writer->target = makeNode(ResultRelInfo);
    InitResultRelInfo(writer->target, relation, 1, nullptr, 0);
    // Where triggers that fire at the end find it.
    writer->executor->es_opened_result_relations = list_make1(writer->target);
    ExecOpenIndices(writer->target, false);
    remember_indexes(writer);
    compat::init_recheck(&writer->recheck, writer->executor);
    make_slots(relation, writer);
    look_up_triggers(writer);
    if (write.command == CMD_INSERT) {
        compile_defaults(relation, writer);
    }
}

void open(Relation relation, Writer& writer) {
    writer.target->ri_RelationDesc = relation;
    for (int i = 0; i < writer.index_count; ++i) {
        writer.target->ri_IndexRelationDescs[i] = index_open(writer.indexes[i], RowExclusiveLock);
        writer.target->ri_IndexRelationInfo[i]->ii_CheckedUnchanged = false;
    }
    writer.executor->es_snapshot = GetActiveSnapshot();
    writer.executor->es_output_cid = GetCurrentCommandId(true);
}

void close(Writer& writer) {
    ExecClearTuple(writer.row);
    ExecClearTuple(writer.target->ri_TrigOldSlot);
    ExecClearTuple(writer.target->ri_TrigNewSlot);
    ResetPerTupleExprContext(writer.executor);
    writer.executor->es_snapshot = nullptr;
    for (int i = 0; i < writer.index_count; ++i) {
        index_close(writer.target->ri_IndexRelationDescs[i], NoLock);
    }
}

// `first`: which of the values is the first column's.
void set_columns(const Writer& writer, Parameters& values, int first) {
    for (int i = 0; i < writer.write->column_count; ++i) {
        const int at = writer.numbers[i] - 1;
        writer.row->tts_values[at] = values.values()[first + i];
        writer.row->tts_isnull[at] = values.nulls()[first + i] == 'n';
    }
}

void set_defaults(const Writer& writer) {
    TupleTableSlot* row = writer.row;
    ExprContext* context = GetPerTupleExprContext(writer.executor);
    const MemoryContext caller = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);
    for (int i = 0; i < row->tts_tupleDescriptor->natts; ++i) {
        row->tts_isnull[i] = true;
        row->tts_values[i] = 0;
        if (writer.defaults[i] != nullptr) {
            row->tts_values[i] = ExecEvalExpr(writer.defaults[i], context, &row->tts_isnull[i]);
        }
    }
    MemoryContextSwitchTo(caller);
}

void give_back(Writer* writer) {
    RowWrite& write = *writer->write;
    if (write.writer != nullptr) {
        MemoryContextDelete(writer->memory);
        return;
    }
    MemoryContextSetParent(writer->memory, CacheMemoryContext);
    write.writer = writer;
}

void end_write(Writer* writer) {
    // Whoever suppresses a row leaves its new place unset. Only payonce's own BEFORE triggers can
    // be there, but a silent true would be money lost.
    if (!ItemPointerIsValid(&writer->row->tts_tid)) {
        report_not_written(*writer->write, get_namespace_name(get_rel_namespace(writer->relation)));
    }
    AfterTriggerEndQuery(writer->executor);
    close(*writer);
    give_back(writer);
}

void compose_update(StringInfo sql, const RowWrite& write) {
    appendStringInfo(sql, "UPDATE {s}.%s", write.table->name);
    for (int i = 0; i < write.column_count; ++i) {
        appendStringInfo(sql, "%s %s = $%d", i == 0 ? " SET" : ",", write.columns[i].name, i + 2);
    }
    appendStringInfo(sql, " WHERE %s = $1", write.table->columns[0].name);
}

void compose_insert(StringInfo sql, const RowWrite& write) {
    appendStringInfo(sql, "INSERT INTO {s}.%s", write.table->name);
    for (int i = 0; i < write.column_count; ++i) {
        appendStringInfo(sql, "%s%s", i == 0 ? " (" : ", ", write.columns[i].name);
    }
    for (int i = 0; i < write.column_count; ++i) {
        appendStringInfo(sql, "%s$%d", i == 0 ? ") VALUES (" : ", ", i + 1);
    }
    appendStringInfoChar(sql, ')');
}

Statement& statement_of(RowWrite& write) {
    Statement& statement = write.statement;
    if (statement.sql == nullptr) {
        const MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
        StringInfoData sql;
        initStringInfo(&sql);
        int count = 0;
        if (write.command == CMD_UPDATE) {
            compose_update(&sql, write);
            statement.parameter_types[count++] = write.table->columns[0].type;
        } else {
            compose_insert(&sql, write);
        }
        for (int i = 0; i < write.column_count; ++i) {
            statement.parameter_types[count++] = write.columns[i].type;
        }
        statement.parameter_count = count;
        statement.sql = sql.data;
        MemoryContextSwitchTo(caller);
    }
    return statement;
}

}  // namespace

Writer* take_writer(RowWrite& write, const TableUse& use) {
    Writer* writer = write.writer;
    write.writer = nullptr;
    if (writer != nullptr && writer->relation == RelationGetRelid(use.relation) &&
        writer->changes == use.known->changes && writer->user == use.known->user) {
        MemoryContextSetParent(writer->memory, CurrentMemoryContext);
        return writer;
    }
    if (writer != nullptr) {
        MemoryContextDelete(writer->memory);
    }
    MemoryContext memory =
        AllocSetContextCreate(CurrentMemoryContext, "payonce writer", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext caller = MemoryContextSwitchTo(memory);
    writer = static_cast<Writer*>(palloc0(sizeof(Writer)));
    writer->memory = memory;
    writer->changes = use.known->changes;
    writer->user = use.known->user;
    writer->relation = RelationGetRelid(use.relation);
    writer->write = &write;
    writer->descriptor = CreateTupleDescCopyConstr(RelationGetDescr(use.relation));
    const bool fits = find_columns(write, writer->descriptor, writer);
    if (fits) {
        begin_executor(write, use.relation, writer);
    }
    MemoryContextSwitchTo(caller);
    return fits ? writer : nullptr;
}

void write_update(Writer* writer, Relation relation, HeapTuple tuple, Parameters& values) {
    Assert(values.count() == writer->write->column_count + 1);
    TupleTableSlot* row = writer->row;
    open(relation, *writer);
    heap_deform_tuple(tuple, writer->descriptor, row->tts_values, row->tts_isnull);
    for (int i = 0; i < writer->descriptor->natts; ++i) {
        if (TupleDescAttr(writer->descriptor, i)->attisdropped) {
            row->tts_isnull[i] = true;
        }
    }
    set_columns(*writer, values, 1);
    ExecStoreVirtualTuple(row);
    writer->place->tts_tid = tuple->t_self;
    ItemPointerSetInvalid(&row->tts_tid);
    AfterTriggerBeginQuery();
    ExecSimpleRelationUpdate(writer->target, writer->executor, &writer->recheck, writer->place,
                             row);
    end_write(writer);
}

void write_insert(Writer* writer, Relation relation, Parameters& values) {
    Assert(values.count() == writer->write->column_count);
    open(relation, *writer);
    set_defaults(*writer);
    set_columns(*writer, values, 0);
    ExecStoreVirtualTuple(writer->row);
    ItemPointerSetInvalid(&writer->row->tts_tid);
    AfterTriggerBeginQuery();
    ExecSimpleRelationInsert(writer->target, writer->executor, writer->row);
    end_write(writer);
}

void write_by_statement(RowWrite& write, const char* schema, Parameters& values) {
    SPI_connect();
    write_row(statement_of(write), schema, values);
    SPI_finish();
}

void report_not_written(RowWrite& write, const char* schema) {
    report_not_written(statement_of(write), schema);
}

}  // namespace payonce::pg
