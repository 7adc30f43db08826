#include "pg/evidence.h"

#include "pg/pg.h"
#include "pg/statement.h"

namespace payonce::pg {
namespace {

Statement insert_attempts = {
    "INSERT INTO {s}.t_refund_attempt (refund_no, attempt, call, gateway, started_at, duration_ms,"
    " http_status, verdict, gateway_refund_id, error, applied)"
    " SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    11,
    {TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, FLOAT8ARRAYOID,
     INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID}};

std::optional<std::string_view> unless_empty(std::string_view text) {
    return text.empty() ? std::nullopt : std::optional(text);
}

Parameters row_of(const Evidence& evidence) {
    Parameters row;
    row.add(evidence.refund_no)
        .add(evidence.attempt)
        .add(core::name_of(evidence.call))
        .add(evidence.gateway)
        .add_time(evidence.started_at);
    if (evidence.duration_ms) {
        row.add(*evidence.duration_ms);
    } else {
        row.add_null();
    }
    if (evidence.http_status != 0) {
        row.add(evidence.http_status);
    } else {
        row.add_null();
    }
    row.add(evidence.verdict)
        .add(unless_empty(evidence.gateway_refund_id))
        .add(unless_empty(evidence.error))
        .add(evidence.applied);
    return row;
}

}  // namespace

void write_evidence(const char* schema, const Evidence* evidence, std::size_t count) {
    ParameterRows rows(insert_attempts, count);
    for (std::size_t i = 0; i < count; ++i) {
        Parameters row = row_of(evidence[i]);
        rows.add(row);
    }
    write_rows(insert_attempts, schema, rows);
}

}  // namespace payonce::pg
