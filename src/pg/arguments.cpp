#include "pg/arguments.h"

#include "core/identifiers.h"
#include "pg/pg.h"

namespace payonce::pg {
namespace {

constexpr std::size_t max_shown_bytes = 80;

[[noreturn]] void report_null(const char* name) {
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", name),
                    errdetail("Nothing was recorded."), errhint("Pass a value for %s.", name)));
    pg_unreachable();
}

[[noreturn]] void report_malformed(const char* name, std::string_view value, const char* detail,
                                   const char* hint) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("%s is malformed: \"%.*s\"", name, shown_bytes(value), value.data()),
                    errdetail("%s Nothing was recorded.", detail), errhint("%s", hint)));
    pg_unreachable();
}

}  // namespace

int shown_bytes(std::string_view text) {
    const int limit =
        static_cast<int>(text.size() < max_shown_bytes ? text.size() : max_shown_bytes);
    return pg_mbcliplen(text.data(), static_cast<int>(text.size()), limit);
}

void require_value(FunctionCallInfo fcinfo, int index, const char* name) {
    if (PG_ARGISNULL(index)) {
        report_null(name);
    }
}

std::string_view required_text(FunctionCallInfo fcinfo, int index, const char* name) {
    require_value(fcinfo, index, name);
    return *optional_text(fcinfo, index);
}

std::optional<std::string_view> optional_text(FunctionCallInfo fcinfo, int index) {
    if (PG_ARGISNULL(index)) {
        return std::nullopt;
    }
    const text* value = PG_GETARG_TEXT_PP(index);
    return std::string_view(VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value)));
}

bool required_bool(FunctionCallInfo fcinfo, int index, const char* name) {
    require_value(fcinfo, index, name);
    return PG_GETARG_BOOL(index);
}

std::int64_t required_int64(FunctionCallInfo fcinfo, int index, const char* name) {
    require_value(fcinfo, index, name);
    return PG_GETARG_INT64(index);
}

std::optional<std::int64_t> optional_int64(FunctionCallInfo fcinfo, int index) {
    if (PG_ARGISNULL(index)) {
        return std::nullopt;
    }
    return PG_GETARG_INT64(index);
}

void check_payment_id(std::string_view id, const char* name) {
    if (!core::is_payment_id(id)) {
        report_malformed(name, id, "A payment's id is 1 to 56 of 0-9 A-Z a-z _ * | @ -.",
                         "Pass the number that was given to the gateway as out_trade_no.");
    }
}

void check_order_id(std::string_view id) {
    if (id.empty() || id.size() > core::max_order_id_bytes) {
        report_malformed("order_id", id, "An order's id is 1 to 128 bytes long.",
                         "Pass the id of a row of t_order.");
    }
}

void check_refund_no(std::string_view refund_no) {
    if (refund_no.empty() || refund_no.size() > core::max_refund_no_bytes) {
        report_malformed("refund_no", refund_no, "A refund's number is 1 to 64 bytes long.",
                         "Pass the refund_no of a row of t_refund.");
    }
}

void check_amount(std::int64_t amount, const char* name) {
    if (amount <= 0) {
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("%s must be positive, not %lld", name, static_cast<long long>(amount)),
                 errdetail("Amounts are in the currency's minor unit (fen, cent). Nothing was "
                           "recorded."),
                 errhint("Pass the amount as a positive whole number of minor units.")));
    }
}

void check_currency(std::string_view code, const char* name) {
    if (!core::is_currency(code)) {
        report_malformed(name, code, "It is no currency of ISO 4217.",
                         "Pass a code of three upper-case letters, such as CNY.");
    }
}

void check_transaction_id(std::string_view id, const char* name) {
    if (!core::is_transaction_id(id)) {
        report_malformed(
            name, id, "A gateway's number is 1 to 128 printable ASCII characters without blanks.",
            "Pass the gateway's own number, or NULL when it is not known.");
    }
}

void check_note(std::string_view note, const char* name) {
    if (note.size() > core::max_note_bytes) {
        report_malformed(name, note, "It is longer than 2000 bytes.", "Shorten it.");
    }
}

void report_unknown(const char* what, std::string_view id, const char* table, const char* hint) {
    ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND),
                    errmsg("%s \"%.*s\" is unknown", what, shown_bytes(id), id.data()),
                    errdetail("No row of %s has this number. Nothing was recorded.", table),
                    errhint("%s", hint)));
    pg_unreachable();
}

}  // namespace payonce::pg
