#include "pg/identity.h"

#include "pg/pg.h"
#include "pg/shared_state.h"
#include "pg/statement.h"
#include "pg/wakeup.h"

namespace payonce::pg {
namespace {

Statement select_pairs = {
    "SELECT count(*), count(*) FILTER (WHERE system_identifier = $1 AND database_oid = $2)"
    " FROM {s}.payonce_identity",
    2,
    {INT8OID, OIDOID}};
Statement delete_pairs = {"DELETE FROM {s}.payonce_identity", 0, {}};
Statement insert_pair = {
    "INSERT INTO {s}.payonce_identity (system_identifier, database_oid) VALUES ($1, $2)",
    2,
    {INT8OID, OIDOID}};

Parameters current_pair() {
    Parameters pair;
    pair.add(static_cast<std::int64_t>(GetSystemIdentifier()))
        .add_datum(ObjectIdGetDatum(MyDatabaseId));
    return pair;
}

void warn_if_not_preloaded() {
    if (shared == nullptr) {
        ereport(WARNING,
                (errmsg("payonce is not preloaded: refunds are queued, but not sent"),
                 errdetail("Everything else works."),
                 errhint("Add payonce to shared_preload_libraries and restart the server.")));
    }
}

}  // namespace

bool is_activated(const char* schema) {
    Parameters pair = current_pair();
    run(select_pairs, schema, pair);
    const std::int64_t all = int64_column(0, 1);
    return all > 0 && all == int64_column(0, 2);
}

}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_activate);

Datum payonce_activate(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    const char* schema = schema_of_function(fcinfo->flinfo->fn_oid);
    SPI_connect();
    Parameters none;
    run(delete_pairs, schema, none);
    Parameters pair = current_pair();
    write_row(insert_pair, schema, pair);
    SPI_finish();
    warn_if_not_preloaded();
    probe_at_commit();
    wake_worker_at_commit();
    PG_RETURN_VOID();
}
}
