#include "pg/evidence.h"

#include "pg/pg.h"
#include "pg/statement.h"

namespace payonce::pg {
namespace {

Statement insert_attempt = {
    "INSERT INTO {s}.t_refund_attempt (refund_no, attempt, call, gateway, started_at, duration_ms,"
    " http_status, verdict, gateway_refund_id, error, applied)"
    " VALUES ($1, $2, $3, $4, $5, $6, nullif($7, 0), $8, nullif($9, ''), nullif($10, ''), $11)",
    11,
    {TEXTOID, INT4OID, TEXTOID, TEXTOID, TIMESTAMPTZOID, FLOAT8OID, INT4OID, TEXTOID, TEXTOID,
     TEXTOID, BOOLOID}};

}  // namespace

void write_evidence(const char* schema, const Evidence& evidence) {
    Parameters parameters;
    parameters.add(evidence.refund_no)
        .add(evidence.attempt)
        .add(core::name_of(evidence.call))
        .add(evidence.gateway)
        .add_time(evidence.started_at);
    if (evidence.duration_ms) {
        parameters.add(*evidence.duration_ms);
    } else {
        parameters.add_null();
    }
    parameters.add(evidence.http_status)
        .add(evidence.verdict)
        .add(evidence.gateway_refund_id)
        .add(evidence.error)
        .add(evidence.applied);
    write_row(insert_attempt, schema, parameters);
}

}  // namespace payonce::pg
