#include "pg/lock.h"

#include "pg/pg.h"

namespace payonce::pg {
namespace {

// Sets payonce's keys apart from those of others who hash the same text. Never change it: a server
// with two versions of the library loaded would lock two different keys for one order.
constexpr std::uint64_t key_seed = 0x7061796f6e6365;

}  // namespace

std::int64_t order_lock_key(std::string_view order_id) {
    return static_cast<std::int64_t>(
        hash_bytes_extended(reinterpret_cast<const unsigned char*>(order_id.data()),
                            static_cast<int>(order_id.size()), key_seed));
}

// The test-only build without the lock shows that the order's row and the unique index hold the
// invariants by themselves (test/isolation).
#ifdef PAYONCE_TEST_WITHOUT_LOCK
void lock_order(std::string_view) {}
bool try_lock_order(std::string_view) {
    return true;
}
#else
void lock_order(std::string_view order_id) {
    DirectFunctionCall1(pg_advisory_xact_lock_int8, Int64GetDatum(order_lock_key(order_id)));
}

bool try_lock_order(std::string_view order_id) {
    return DatumGetBool(DirectFunctionCall1(pg_try_advisory_xact_lock_int8,
                                            Int64GetDatum(order_lock_key(order_id))));
}
#endif

}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_order_lock_key);

Datum payonce_order_lock_key(PG_FUNCTION_ARGS) {
    if (PG_ARGISNULL(0)) {
        ereport(ERROR,
                (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("order_id must not be null"),
                 errdetail("The lock key of no order is asked for."),
                 errhint("Pass the id of a row of t_order.")));
    }
    const text* order_id = PG_GETARG_TEXT_PP(0);
    PG_RETURN_INT64(payonce::pg::order_lock_key(
        {VARDATA_ANY(order_id), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(order_id))}));
}
}
