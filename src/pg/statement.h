// One SQL statement with its saved plan, kept for the life of the process and run through SPI.
//
// `{s}` in the text stands for the extension's schema, quoted: tables are never found through
// search_path. Functions and operators are: callers run with search_path pinned to pg_catalog.
// The plan is made again when the schema's name has changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "pg/pg.h"

namespace payonce::pg {

inline constexpr int max_parameters = 20;

struct Statement {
    const char* sql = nullptr;
    int parameter_count = 0;
    Oid parameter_types[max_parameters] = {};
    SPIPlanPtr plan = nullptr;
    NameData schema = {};
};

// The values of one execution, filled in order.
class Parameters {
  public:
    Parameters& add(std::string_view text);
    // Or a literal would silently become a bool.
    Parameters& add(const char* text) { return add(std::string_view(text)); }
    Parameters& add(std::optional<std::string_view> text);
    Parameters& add(std::int64_t number);
    Parameters& add(std::optional<std::int64_t> number);
    Parameters& add(int number);
    Parameters& add(bool value);
    Parameters& add_time(TimestampTz time);
    Parameters& add_time(std::optional<TimestampTz> time);
    Parameters& add(double number);
    Parameters& add_null();
    Parameters& add_datum(Datum value);

    Datum* values() { return values_; }
    const char* nulls() const { return nulls_; }
    int count() const { return count_; }

  private:
    Datum values_[max_parameters] = {};
    char nulls_[max_parameters] = {};
    int count_ = 0;
};

// The values of many rows for one execution: its parameters are arrays, one for each column, which
// the statement takes apart with unnest.
class ParameterRows {
  public:
    // For at most `capacity` rows.
    ParameterRows(const Statement& statement, std::size_t capacity);
    void add(Parameters& row);
    std::size_t count() const { return count_; }
    Parameters as_arrays() const;

  private:
    const Statement& statement_;
    std::size_t capacity_;
    std::size_t count_ = 0;
    Datum* values_;  // column by column
    bool* nulls_;
};

// Runs it inside the caller's SPI connection with a fresh snapshot (at READ COMMITTED); the rows
// are in SPI_tuptable until SPI_finish. Returns their number (or that of the rows changed).
std::uint64_t run(Statement& statement, const char* schema, Parameters& parameters);

// The same as a cursor, for rows that are too many to be held at once: SPI_cursor_fetch brings
// those that follow.
Portal open_cursor(Statement& statement, const char* schema, Parameters& parameters);

// Runs an action in an SPI connection of its own: what it reads is freed at its end, so that
// repeating it for many rows needs no more memory than for one.
template <typename Action>
void with_memory_of_its_own(Action action) {
    CHECK_FOR_INTERRUPTS();
    SPI_connect();
    action();
    SPI_finish();
}

// Runs a statement that is to insert a row, or to update one that is known to be there. An error
// where it did not: a trigger or rule of the application must not make a silent true of it.
void write_row(Statement& statement, const char* schema, Parameters& parameters);
// The same for a statement that is to write each of these rows.
void write_rows(Statement& statement, const char* schema, const ParameterRows& rows);

// The error of write_row, for whoever writes rows otherwise.
[[noreturn]] void report_not_written(const Statement& statement, const char* schema);

// A column that is not null, checked to be of this type.
Datum typed_column(std::uint64_t row, int number, Oid type);
// Columns of row `row` of SPI_tuptable; 1-based. Text lives as long as the SPI connection.
bool column_is_null(std::uint64_t row, int number);
std::string_view text_column(std::uint64_t row, int number);
std::optional<std::string_view> optional_text_column(std::uint64_t row, int number);
std::int64_t int64_column(std::uint64_t row, int number);
std::optional<std::int64_t> optional_int64_column(std::uint64_t row, int number);
int int_column(std::uint64_t row, int number);
bool bool_column(std::uint64_t row, int number);
std::optional<TimestampTz> optional_time_column(std::uint64_t row, int number);

// A text in `context`: for a result that must outlive SPI_finish.
text* text_in(MemoryContext context, std::string_view value);

// The same as a string ended by a zero.
const char* text_copy(MemoryContext context, std::string_view value);

// The name of the schema that holds a function of the extension, palloc'd.
char* schema_of_function(Oid function);
// The extension's schema, or null where the extension is not installed in this database.
char* schema_of_extension();
Oid extension_oid_or_invalid();

}  // namespace payonce::pg
