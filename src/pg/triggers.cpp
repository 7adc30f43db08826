// The trigger functions: the invariants that CHECKs cannot express. They hold against hand-written
// SQL as well, and ask the same tables of allowed changes as the decisions do.
#include "core/identifiers.h"
#include "core/states.h"

#include <cstring>
#include <string_view>

#include "pg/pg.h"
#include "pg/prune.h"
#include "pg/statement.h"
#include "pg/store.h"
#include "pg/wakeup.h"

namespace payonce::pg {
namespace {

Statement select_origin = {
    "SELECT coalesce(paid_gateway, gateway), created_at FROM {s}.t_order_pay WHERE id = $1",
    1,
    {TEXTOID}};

[[noreturn]] void report_misuse(const char* message) {
    ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("%s", message),
                    errdetail("CREATE EXTENSION payonce makes all the triggers there are."),
                    errhint("Do not attach payonce's trigger functions to other tables.")));
    pg_unreachable();
}

TriggerData* trigger_data(FunctionCallInfo fcinfo) {
    if (!CALLED_AS_TRIGGER(fcinfo)) {
        report_misuse("this function can only be called as a trigger");
    }
    return reinterpret_cast<TriggerData*>(fcinfo->context);
}

// Whoever may execute these functions may attach them anywhere: what they then find is not trusted.
TriggerData* row_trigger_data(FunctionCallInfo fcinfo) {
    TriggerData* trigger = trigger_data(fcinfo);
    if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event)) {
        report_misuse("this function can only be called for each row");
    }
    return trigger;
}

Datum column_of(TriggerData* trigger, HeapTuple tuple, const char* name, Oid type, bool* is_null) {
    const TupleDesc descriptor = RelationGetDescr(trigger->tg_relation);
    const int number = SPI_fnumber(descriptor, name);
    if (number <= 0 || SPI_gettypeid(descriptor, number) != type) {
        report_misuse(
            psprintf("the table has no column %s of type %s", name, format_type_be(type)));
    }
    return SPI_getbinval(tuple, descriptor, number, is_null);
}

int status_of(TriggerData* trigger, HeapTuple tuple) {
    bool is_null = false;
    return DatumGetInt32(column_of(trigger, tuple, "status", INT4OID, &is_null));
}

const char* table_of(TriggerData* trigger) {
    return RelationGetRelationName(trigger->tg_relation);
}

bool may_change(const char* subject, int from, int to) {
    const auto narrow_from = static_cast<std::int16_t>(from);
    const auto narrow_to = static_cast<std::int16_t>(to);
    if (std::strcmp(subject, "order") == 0) {
        return core::order_may_change(narrow_from, narrow_to);
    }
    if (std::strcmp(subject, "payment") == 0) {
        return core::payment_may_change(narrow_from, narrow_to);
    }
    return core::refund_may_change(narrow_from, narrow_to);
}

Datum guard_status(TriggerData* trigger) {
    if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) || trigger->tg_trigger->tgnargs != 1) {
        report_misuse("this function guards updates of a named subject");
    }
    const int from = status_of(trigger, trigger->tg_trigtuple);
    const int to = status_of(trigger, trigger->tg_newtuple);
    if (!may_change(trigger->tg_trigger->tgargs[0], from, to)) {
        ereport(ERROR,
                (errcode(ERRCODE_CHECK_VIOLATION),
                 errmsg("%s: status may not change from %d to %d", table_of(trigger), from, to),
                 errdetail("The change was refused so that no money is lost or sent twice."),
                 errhint("Use payonce's functions; docs/states.md lists the allowed changes."),
                 err_generic_string(PG_DIAG_TABLE_NAME, table_of(trigger))));
    }
    return PointerGetDatum(nullptr);
}

HeapTuple row_in_force(TriggerData* trigger) {
    return TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple
                                                      : trigger->tg_trigtuple;
}

Datum guard_currency(TriggerData* trigger) {
    HeapTuple tuple = row_in_force(trigger);
    bool is_null = false;
    const Datum value = column_of(trigger, tuple, "currency", TEXTOID, &is_null);
    if (is_null) {
        return PointerGetDatum(tuple);  // NOT NULL will say so
    }
    const text* code = DatumGetTextPP(value);
    const std::string_view currency(VARDATA_ANY(code),
                                    static_cast<std::size_t>(VARSIZE_ANY_EXHDR(code)));
    if (!core::is_currency(currency)) {
        ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION),
                        errmsg("%s: currency \"%.*s\" is unknown", table_of(trigger),
                               static_cast<int>(currency.size() < 80 ? currency.size() : 80),
                               currency.data()),
                        errdetail("It is no currency of ISO 4217."),
                        errhint("Use a code of three upper-case letters, such as CNY."),
                        err_generic_string(PG_DIAG_TABLE_NAME, table_of(trigger)),
                        err_generic_string(PG_DIAG_COLUMN_NAME, "currency")));
    }
    return PointerGetDatum(tuple);
}

char* schema_of_trigger(TriggerData* trigger) {
    return get_namespace_name(RelationGetNamespace(trigger->tg_relation));
}

// The new row with what the INSERT left out of the origin in SPI_tuptable.
HeapTuple with_origin(TriggerData* trigger, MemoryContext caller) {
    const TupleDesc descriptor = RelationGetDescr(trigger->tg_relation);
    const Datum origin[] = {PointerGetDatum(text_in(caller, text_column(0, 1))),
                            TimestampTzGetDatum(optional_time_column(0, 2).value_or(0))};
    int numbers[] = {SPI_fnumber(descriptor, "gateway"), SPI_fnumber(descriptor, "window_from")};
    Datum values[2];
    bool nulls[2];
    for (int i = 0; i < 2; ++i) {
        values[i] = SPI_getbinval(trigger->tg_trigtuple, descriptor, numbers[i], &nulls[i]);
        values[i] = nulls[i] ? origin[i] : values[i];
        nulls[i] = false;
    }
    const MemoryContext spi = MemoryContextSwitchTo(caller);
    HeapTuple completed =
        heap_modify_tuple_by_cols(trigger->tg_trigtuple, descriptor, 2, numbers, values, nulls);
    MemoryContextSwitchTo(spi);
    return completed;
}

Datum complete_refund(TriggerData* trigger) {
    if (!TRIGGER_FIRED_BY_INSERT(trigger->tg_event)) {
        report_misuse("this function completes inserted rows");
    }
    bool is_null = false;
    const Datum payment_id =
        column_of(trigger, trigger->tg_trigtuple, "payment_id", TEXTOID, &is_null);
    if (is_null) {
        return PointerGetDatum(trigger->tg_trigtuple);
    }
    const MemoryContext caller = CurrentMemoryContext;
    SPI_connect();
    Parameters parameters;
    parameters.add_datum(payment_id);
    HeapTuple completed = trigger->tg_trigtuple;
    if (run(select_origin, schema_of_trigger(trigger), parameters) == 1) {
        completed = with_origin(trigger, caller);
    }
    SPI_finish();
    return PointerGetDatum(completed);
}

void recompute_reserved(TriggerData* trigger, HeapTuple tuple) {
    const char* schema = schema_of_trigger(trigger);
    bool is_null = false;
    const Datum payment_id = column_of(trigger, tuple, "payment_id", TEXTOID, &is_null);
    if (!is_null) {
        const text* id = DatumGetTextPP(payment_id);
        write_reserved(schema, {VARDATA_ANY(id), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(id))});
    }
}

Datum reserve(TriggerData* trigger) {
    recompute_reserved(trigger, trigger->tg_trigtuple);
    if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event)) {
        recompute_reserved(trigger, trigger->tg_newtuple);
    }
    return PointerGetDatum(nullptr);
}

[[noreturn]] void refuse_change_of_sent_refund(TriggerData* trigger) {
    ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION),
                    errmsg("%s: what was sent to a gateway may not change", table_of(trigger)),
                    errdetail("Under another number, payment, amount or gateway the money could be "
                              "sent a second time."),
                    errhint("End this refund with refund_resolve, and request another."),
                    err_generic_string(PG_DIAG_TABLE_NAME, table_of(trigger))));
    pg_unreachable();
}

// Evidence goes with its refund, when payonce_prune removes that, and in no other way.
Datum guard_evidence(TriggerData* trigger) {
    if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event) && TRIGGER_FIRED_FOR_ROW(trigger->tg_event) &&
        is_pruning()) {
        return PointerGetDatum(trigger->tg_trigtuple);
    }
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("%s is append-only", table_of(trigger)),
             errdetail("Its rows are the evidence of what was asked of a gateway, and when."),
             errhint("Insert a further row instead, or let payonce_prune remove what is old.")));
    pg_unreachable();
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_status_guard);
PG_FUNCTION_INFO_V1(payonce_currency_guard);
PG_FUNCTION_INFO_V1(payonce_refund_complete);
PG_FUNCTION_INFO_V1(payonce_refund_reserve);
PG_FUNCTION_INFO_V1(payonce_refund_wake);
PG_FUNCTION_INFO_V1(payonce_refund_fixed);
PG_FUNCTION_INFO_V1(payonce_append_only);

Datum payonce_status_guard(PG_FUNCTION_ARGS) {
    return payonce::pg::guard_status(payonce::pg::row_trigger_data(fcinfo));
}

Datum payonce_currency_guard(PG_FUNCTION_ARGS) {
    return payonce::pg::guard_currency(payonce::pg::row_trigger_data(fcinfo));
}

Datum payonce_refund_complete(PG_FUNCTION_ARGS) {
    return payonce::pg::complete_refund(payonce::pg::row_trigger_data(fcinfo));
}

Datum payonce_refund_reserve(PG_FUNCTION_ARGS) {
    return payonce::pg::reserve(payonce::pg::row_trigger_data(fcinfo));
}

Datum payonce_refund_wake(PG_FUNCTION_ARGS) {
    payonce::pg::trigger_data(fcinfo);
    payonce::pg::wake_worker_at_commit();
    return PointerGetDatum(nullptr);
}

Datum payonce_refund_fixed(PG_FUNCTION_ARGS) {
    payonce::pg::refuse_change_of_sent_refund(payonce::pg::trigger_data(fcinfo));
}

Datum payonce_append_only(PG_FUNCTION_ARGS) {
    return payonce::pg::guard_evidence(payonce::pg::trigger_data(fcinfo));
}
}
