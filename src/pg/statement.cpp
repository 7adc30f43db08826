#include "pg/statement.h"

#include <algorithm>
#include <cstring>

#include "pg/pg.h"

namespace payonce::pg {
namespace {

char* with_schema(const char* sql, const char* schema) {
    const char* quoted = quote_identifier(schema);
    StringInfoData text;
    initStringInfo(&text);
    for (const char* at = sql; *at != '\0'; ++at) {
        if (std::strncmp(at, "{s}", 3) == 0) {
            appendStringInfoString(&text, quoted);
            at += 2;
        } else {
            appendStringInfoChar(&text, *at);
        }
    }
    return text.data;
}

bool is_over_arrays(const Statement& statement) {
    return statement.parameter_count > 0 && statement.parameter_types[0] == TEXTARRAYOID;
}

void prepare(Statement& statement, const char* schema) {
    if (statement.plan != nullptr && std::strcmp(NameStr(statement.schema), schema) == 0) {
        return;
    }
    SPIPlanPtr plan = SPI_prepare_cursor(with_schema(statement.sql, schema),
                                         statement.parameter_count, statement.parameter_types,
                                         is_over_arrays(statement) ? CURSOR_OPT_GENERIC_PLAN : 0);
    if (plan == nullptr) {
        elog(ERROR, "payonce: SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    }
    if (SPI_keepplan(plan) != 0) {
        elog(ERROR, "payonce: SPI_keepplan failed");
    }
    if (statement.plan != nullptr) {
        SPI_freeplan(statement.plan);
    }
    statement.plan = plan;
    namestrcpy(&statement.schema, schema);
}

// A statement over arrays joins them to its tables, and would read a small table whole. At
// SERIALIZABLE that is to have read what others change: 40001 for nothing. The plan is kept; what
// is planned meanwhile for somebody else, in a trigger, is not touched.
void plan_by_index(const Statement& statement) {
    if (!enable_seqscan && !enable_hashjoin && !enable_mergejoin) {
        return;  // in the worker: for all of its statements
    }
    const int level = NewGUCNestLevel();
    for (const char* setting : {"enable_seqscan", "enable_hashjoin", "enable_mergejoin"}) {
        (void)set_config_option(setting, "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
                                0, false);
    }
    CachedPlan* plan = SPI_plan_get_cached_plan(statement.plan);
    if (plan != nullptr) {
        ReleaseCachedPlan(plan, CurrentResourceOwner);
    }
    AtEOXact_GUC(true, level);
}

Datum column(std::uint64_t row, int number, bool* is_null) {
    return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, is_null);
}

// Somebody may have altered a table: a value of another type must not be read as one of this type.
void check_type(int number, Oid expected) {
    const Oid type = SPI_gettypeid(SPI_tuptable->tupdesc, number);
    if (type == expected) {
        return;
    }
    const Oid base = getBaseType(type);
    if (base != expected && !(expected == TEXTOID && base == VARCHAROID)) {
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("column \"%s\" of a payonce table has type %s, not %s",
                               SPI_fname(SPI_tuptable->tupdesc, number), format_type_be(type),
                               format_type_be(expected)),
                        errhint("Undo the change of the column's type.")));
    }
}

}  // namespace

Datum typed_column(std::uint64_t row, int number, Oid type) {
    check_type(number, type);
    bool is_null = false;
    const Datum value = column(row, number, &is_null);
    if (is_null) {
        elog(ERROR, "payonce: column %d is null", number);
    }
    return value;
}

Parameters& Parameters::add_datum(Datum value) {
    Assert(count_ < max_parameters);
    values_[count_] = value;
    nulls_[count_] = ' ';
    ++count_;
    return *this;
}

Parameters& Parameters::add_null() {
    Assert(count_ < max_parameters);
    values_[count_] = 0;
    nulls_[count_] = 'n';
    ++count_;
    return *this;
}

Parameters& Parameters::add(std::string_view text) {
    return add_datum(
        PointerGetDatum(cstring_to_text_with_len(text.data(), static_cast<int>(text.size()))));
}

Parameters& Parameters::add(std::optional<std::string_view> text) {
    return text ? add(*text) : add_null();
}

Parameters& Parameters::add(std::int64_t number) {
    return add_datum(Int64GetDatum(number));
}

Parameters& Parameters::add(std::optional<std::int64_t> number) {
    return number ? add(*number) : add_null();
}

Parameters& Parameters::add(int number) {
    return add_datum(Int32GetDatum(number));
}

Parameters& Parameters::add(bool value) {
    return add_datum(BoolGetDatum(value));
}

Parameters& Parameters::add(double number) {
    return add_datum(Float8GetDatum(number));
}

Parameters& Parameters::add_time(TimestampTz time) {
    return add_datum(TimestampTzGetDatum(time));
}

Parameters& Parameters::add_time(std::optional<TimestampTz> time) {
    return time ? add_time(*time) : add_null();
}

ParameterRows::ParameterRows(const Statement& statement, std::size_t capacity)
    : statement_(statement), capacity_(capacity) {
    const std::size_t cells = capacity * static_cast<std::size_t>(statement.parameter_count);
    values_ = static_cast<Datum*>(palloc(sizeof(Datum) * (cells + 1)));
    nulls_ = static_cast<bool*>(palloc(cells + 1));
}

void ParameterRows::add(Parameters& row) {
    Assert(row.count() == statement_.parameter_count && count_ < capacity_);
    for (int column = 0; column < row.count(); ++column) {
        const std::size_t cell = static_cast<std::size_t>(column) * capacity_ + count_;
        values_[cell] = row.values()[column];
        nulls_[cell] = row.nulls()[column] == 'n';
    }
    ++count_;
}

Parameters ParameterRows::as_arrays() const {
    Parameters arrays;
    for (int column = 0; column < statement_.parameter_count; ++column) {
        const std::size_t first = static_cast<std::size_t>(column) * capacity_;
        const Oid element = get_element_type(statement_.parameter_types[column]);
        std::int16_t length = 0;
        bool by_value = false;
        char alignment = 0;
        get_typlenbyvalalign(element, &length, &by_value, &alignment);
        int size = static_cast<int>(count_);
        int lower_bound = 1;
        arrays.add_datum(PointerGetDatum(construct_md_array(values_ + first, nulls_ + first, 1,
                                                            &size, &lower_bound, element, length,
                                                            by_value, alignment)));
    }
    return arrays;
}

std::uint64_t run(Statement& statement, const char* schema, Parameters& parameters) {
    Assert(parameters.count() == statement.parameter_count);
    prepare(statement, schema);
    if (is_over_arrays(statement)) {
        plan_by_index(statement);
    }
    const int result =
        SPI_execute_plan(statement.plan, parameters.values(), parameters.nulls(), false, 0);
    if (result < 0) {
        elog(ERROR, "payonce: SPI_execute_plan failed: %s", SPI_result_code_string(result));
    }
    return SPI_processed;
}

Portal open_cursor(Statement& statement, const char* schema, Parameters& parameters) {
    Assert(parameters.count() == statement.parameter_count);
    prepare(statement, schema);
    return SPI_cursor_open(nullptr, statement.plan, parameters.values(), parameters.nulls(), false);
}

void write_row(Statement& statement, const char* schema, Parameters& parameters) {
    if (run(statement, schema, parameters) != 1) {
        report_not_written(statement, schema);
    }
}

void write_rows(Statement& statement, const char* schema, const ParameterRows& rows) {
    if (rows.count() == 0) {
        return;
    }
    Parameters arrays = rows.as_arrays();
    if (run(statement, schema, arrays) != rows.count()) {
        report_not_written(statement, schema);
    }
}

void report_not_written(const Statement& statement, const char* schema) {
    ereport(ERROR, (errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
                    errmsg("a row that payonce writes was not written"),
                    errdetail("A trigger, rule or policy of the table suppressed: %s",
                              with_schema(statement.sql, schema)),
                    errhint("Have it let the row pass; a BEFORE trigger must not return NULL.")));
    pg_unreachable();
}

bool column_is_null(std::uint64_t row, int number) {
    bool is_null = false;
    column(row, number, &is_null);
    return is_null;
}

std::string_view text_column(std::uint64_t row, int number) {
    const text* value = DatumGetTextPP(typed_column(row, number, TEXTOID));
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

std::optional<std::string_view> optional_text_column(std::uint64_t row, int number) {
    if (column_is_null(row, number)) {
        return std::nullopt;
    }
    return text_column(row, number);
}

std::int64_t int64_column(std::uint64_t row, int number) {
    return DatumGetInt64(typed_column(row, number, INT8OID));
}

std::optional<std::int64_t> optional_int64_column(std::uint64_t row, int number) {
    if (column_is_null(row, number)) {
        return std::nullopt;
    }
    return int64_column(row, number);
}

int int_column(std::uint64_t row, int number) {
    return DatumGetInt32(typed_column(row, number, INT4OID));
}

bool bool_column(std::uint64_t row, int number) {
    return DatumGetBool(typed_column(row, number, BOOLOID));
}

std::optional<TimestampTz> optional_time_column(std::uint64_t row, int number) {
    if (column_is_null(row, number)) {
        return std::nullopt;
    }
    return DatumGetTimestampTz(typed_column(row, number, TIMESTAMPTZOID));
}

text* text_in(MemoryContext context, std::string_view value) {
    const MemoryContext previous = MemoryContextSwitchTo(context);
    text* made = cstring_to_text_with_len(value.data(), static_cast<int>(value.size()));
    MemoryContextSwitchTo(previous);
    return made;
}

const char* text_copy(MemoryContext context, std::string_view value) {
    auto* copy = static_cast<char*>(MemoryContextAlloc(context, value.size() + 1));
    std::copy(value.begin(), value.end(), copy);
    copy[value.size()] = '\0';
    return copy;
}

char* schema_of_function(Oid function) {
    char* name = get_namespace_name(get_func_namespace(function));
    if (name == nullptr) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                        errmsg("the extension was dropped while its function was being called")));
    }
    return name;
}

Oid extension_oid_or_invalid() {
    return get_extension_oid("payonce", true);
}

char* schema_of_extension() {
    const Oid extension = extension_oid_or_invalid();
    if (!OidIsValid(extension)) {
        return nullptr;
    }
    Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(extension));
    SysScanDesc scan = systable_beginscan(catalog, ExtensionOidIndexId, true, nullptr, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    char* name = HeapTupleIsValid(tuple)
                     ? get_namespace_name(
                           reinterpret_cast<Form_pg_extension>(GETSTRUCT(tuple))->extnamespace)
                     : nullptr;
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return name;
}

}  // namespace payonce::pg
