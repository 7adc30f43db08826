// pay_notify: takes a gateway's raw notification, verifies it, applies it, and returns the response
// that the gateway expects.
//
// The reply is part of the decision: `accepted` must never be sent for what was not recorded. So
// what is applied runs in a subtransaction, and an error in it becomes the reply that has the
// gateway repeat. Errors by which callers retry (40001, 40P01) or end (57…) pass through.
#include "core/gateway.h"

#include <optional>
#include <string_view>

#include "pg/apply_notice.h"
#include "pg/arguments.h"
#include "pg/encoding.h"
#include "pg/fault_point.h"
#include "pg/gateway_bridge.h"
#include "pg/notice_gateway.h"
#include "pg/pg.h"
#include "pg/statement.h"
#include "pg/unix_time.h"

namespace payonce::pg {
namespace {

// Far above what any gateway sends.
constexpr std::size_t max_body_bytes = std::size_t{1024} * 1024;
constexpr int max_headers = 200;

// --- Headers -----------------------------------------------------------------------------------

[[noreturn]] void report_headers(const char* detail) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("headers are malformed"),
                    errdetail("%s Nothing was recorded.", detail),
                    errhint("Pass the request's headers as an object: names to values, or to "
                            "arrays of values.")));
    pg_unreachable();
}

struct Headers {
    bridge::Header* list;
    int count;
};

std::string_view text_of(const JsonbValue& value) {
    if (value.type == jbvString) {
        return {value.val.string.val, static_cast<std::size_t>(value.val.string.len)};
    }
    if (value.type == jbvNumeric) {
        return DatumGetCString(
            DirectFunctionCall1(numeric_out, NumericGetDatum(value.val.numeric)));
    }
    report_headers("A value is neither a text nor a number.");
}

void add_header(Headers* headers, std::string_view name, const JsonbValue& value) {
    if (value.type == jbvNull) {
        return;
    }
    if (headers->count == max_headers) {
        report_headers(psprintf("There are more than %d.", max_headers));
    }
    headers->list[headers->count++] = bridge::Header{to_utf8(name), to_utf8(text_of(value))};
}

Headers read_headers(Jsonb* object) {
    if (!JB_ROOT_IS_OBJECT(object)) {
        report_headers("They are not a JSON object.");
    }
    Headers headers = {static_cast<bridge::Header*>(palloc0(sizeof(bridge::Header) * max_headers)),
                       0};
    JsonbIterator* iterator = JsonbIteratorInit(&object->root);
    JsonbValue value;
    std::string_view name;
    int objects = 0;
    for (;;) {
        switch (JsonbIteratorNext(&iterator, &value, false)) {
            case WJB_DONE:
                return headers;
            case WJB_BEGIN_OBJECT:
                if (++objects > 1) {
                    report_headers("A value is an object.");
                }
                break;
            case WJB_KEY:
                name = text_of(value);
                break;
            case WJB_VALUE:
            case WJB_ELEM:
                add_header(&headers, name, value);
                break;
            default:
                break;
        }
    }
}

// --- Judging and applying ----------------------------------------------------------------------

// For whoever runs the server; the gateway, or a stranger, is told nothing.
void log_reason(const char* what, const char* gateway, std::string_view why) {
    ereport(LOG,
            (errmsg("payonce: a notification for gateway \"%s\" was %s", gateway, what),
             errdetail_log("%.*s", static_cast<int>(why.size()), why.data()), errhidestmt(true)));
}

const char* foreign_copy(std::string_view utf8) {
    const std::string_view text = foreign_text(utf8);
    return pnstrdup(text.data(), text.size());
}

NoticeResult cannot_judge(const char* gateway, std::string_view why) {
    ereport(WARNING,
            (errmsg("a notification for gateway \"%s\" could not be judged", gateway),
             errdetail("The reason: %.*s. Nothing was recorded; the gateway will repeat it.",
                       static_cast<int>(why.size()), why.data()),
             errhint("Complete the gateway's user mapping.")));
    return {core::ReplyKind::failed, "error"};
}

bool passes_through(int sqlstate) {
    const int category = ERRCODE_TO_CATEGORY(sqlstate);
    return category == ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_QUERY_CANCELED);
}

// The error that ended the subtransaction. That is rolled back first, whatever becomes of the
// error: nobody else knows of it.
NoticeResult take_error(const char* gateway, MemoryContext context) {
    MemoryContextSwitchTo(context);
    ErrorData* error = CopyErrorData();
    FlushErrorState();
    RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    if (passes_through(error->sqlerrcode)) {
        ReThrowError(error);
    }
    ereport(WARNING, (errcode(error->sqlerrcode),
                      errmsg("a notification for gateway \"%s\" was not recorded: %s", gateway,
                             error->message != nullptr ? error->message : "error"),
                      errdetail("The gateway is asked to repeat it."),
                      error->hint != nullptr ? errhint("%s", error->hint) : 0));
    return {core::ReplyKind::failed, "error"};
}

// Copies of the texts: a trigger of the application may call pay_notify itself, and the bridge
// keeps the last notice only.
bridge::Notice own_copy(const bridge::Notice& notice) {
    bridge::Notice own = notice;
    for (std::string_view* text :
         {&own.why, &own.content, &own.payment_id, &own.currency, &own.transaction_id,
          &own.other_transaction_id, &own.refund_no, &own.refund_id, &own.error}) {
        *text = std::string_view(pnstrdup(text->data(), text->size()), text->size());
    }
    return own;
}

NoticeResult apply_alone(const char* schema, const char* gateway, const bridge::Notice& notice) {
    const MemoryContext context = CurrentMemoryContext;
    const ResourceOwner owner = CurrentResourceOwner;
    NoticeResult result = {core::ReplyKind::failed, "error"};
    NoticeResult* const out = &result;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        SPI_connect();
        fault_point(FaultPoint::notice_begun);
        *out = apply_notice(schema, gateway, notice);
        fault_point(FaultPoint::notice_applied);
        SPI_finish();
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    { *out = take_error(gateway, context); }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    fault_point(FaultPoint::notice_released);
    return result;
}

NoticeResult process(const char* schema, const NoticeGateway& gateway, const Headers& headers,
                     std::string_view body) {
    if (gateway.hindrance != nullptr) {
        return cannot_judge(gateway.name, gateway.hindrance);
    }
    if (body.size() > max_body_bytes) {
        log_reason("refused", gateway.name, "its body is too long");
        return {core::ReplyKind::refused, "forged"};
    }
    bridge::Message message;
    message.headers = headers.list;
    message.header_count = headers.count;
    message.body = to_utf8(body);
    message.now_unix_s = unix_seconds(GetCurrentTimestamp());
    const bridge::Notice notice = own_copy(bridge::read_notice(gateway.server, message));
    switch (notice.kind) {
        case core::NoticeKind::forged:
            log_reason("refused", gateway.name, foreign_text(notice.why));
            return {core::ReplyKind::refused, "forged"};
        case core::NoticeKind::unusable:
            return cannot_judge(gateway.name, foreign_text(notice.why));
        case core::NoticeKind::ignored:
            ereport(DEBUG1, (errmsg_internal("payonce: a notification for gateway \"%s\" was "
                                             "ignored: %s",
                                             gateway.name, foreign_copy(notice.why)),
                             errhidestmt(true)));
            return {core::ReplyKind::accepted, "ignored"};
        case core::NoticeKind::payment:
        case core::NoticeKind::refund:
            break;
    }
    return apply_alone(schema, gateway.name, notice);
}

Datum text_datum(std::string_view text) {
    return PointerGetDatum(cstring_to_text_with_len(text.data(), static_cast<int>(text.size())));
}

Datum response_row(FunctionCallInfo fcinfo, const NoticeGateway& gateway,
                   const NoticeResult& result) {
    TupleDesc descriptor = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE) {
        elog(ERROR, "payonce: pay_notify must return a record");
    }
    const core::NoticeReply reply = bridge::reply(gateway.server, result.reply);
    Datum values[] = {Int32GetDatum(reply.http_status), text_datum(reply.content_type),
                      text_datum(reply.body), text_datum(result.outcome)};
    bool nulls[] = {false, false, false, false};
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls));
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_pay_notify);

Datum payonce_pay_notify(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    const std::string_view name = required_text(fcinfo, 0, "gateway");
    require_value(fcinfo, 1, "headers");
    const std::string_view body = required_text(fcinfo, 2, "body");
    const Headers headers = read_headers(PG_GETARG_JSONB_P(1));
    const NoticeGateway gateway = open_notice_gateway(name);
    const char* schema = schema_of_function(fcinfo->flinfo->fn_oid);
    const NoticeResult result = process(schema, gateway, headers, body);
    PG_RETURN_DATUM(response_row(fcinfo, gateway, result));
}
}
