// The arguments of SQL functions, checked: what is NULL (22004) or malformed (22023) never gets
// further. The views point into detoasted memory of the function call.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "pg/pg.h"

namespace payonce::pg {

// Reports 22004 for NULL.
void require_value(FunctionCallInfo fcinfo, int index, const char* name);
std::string_view required_text(FunctionCallInfo fcinfo, int index, const char* name);
std::optional<std::string_view> optional_text(FunctionCallInfo fcinfo, int index);
bool required_bool(FunctionCallInfo fcinfo, int index, const char* name);
std::int64_t required_int64(FunctionCallInfo fcinfo, int index, const char* name);
std::optional<std::int64_t> optional_int64(FunctionCallInfo fcinfo, int index);

// Each reports 22023 and does not return when the value is not of its form.
void check_payment_id(std::string_view id, const char* name);
void check_order_id(std::string_view id);
void check_refund_no(std::string_view refund_no);
void check_amount(std::int64_t amount, const char* name);
void check_currency(std::string_view code, const char* name);
void check_transaction_id(std::string_view id, const char* name);
void check_note(std::string_view note, const char* name);

// no_data_found, for a number that is in no row of `table`.
[[noreturn]] void report_unknown(const char* what, std::string_view id, const char* table,
                                 const char* hint);

// An int for printf's "%.*s"; long texts are shortened, so that an error stays readable.
int shown_bytes(std::string_view text);

}  // namespace payonce::pg
