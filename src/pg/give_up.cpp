#include "pg/give_up.h"

#include <algorithm>
#include <cstring>

#include "core/refund.h"
#include "pg/fault_point.h"
#include "pg/lock.h"
#include "pg/pace.h"
#include "pg/pg.h"
#include "pg/refund_result.h"
#include "pg/settings.h"
#include "pg/statement.h"
#include "pg/store.h"
#include "pg/subtransaction.h"

namespace payonce::pg {
namespace {

// The distinct gateways of the queue, one index descent for each.
Statement select_queue_gateways = {
    "WITH RECURSIVE g AS ((SELECT gateway FROM {s}.t_refund WHERE status IN (0, 100, 150, 200)"
    " ORDER BY gateway LIMIT 1) UNION ALL SELECT (SELECT r.gateway FROM {s}.t_refund r"
    " WHERE r.status IN (0, 100, 150, 200) AND r.gateway > g.gateway ORDER BY r.gateway LIMIT 1)"
    " FROM g WHERE g.gateway IS NOT NULL) SELECT gateway FROM g WHERE gateway IS NOT NULL",
    0,
    {}};

Statement select_of_gateway = {
    "SELECT r.refund_no, r.payment_id, p.order_id FROM {s}.t_refund r"
    " JOIN {s}.t_order_pay p ON p.id = r.payment_id"
    " WHERE r.gateway = $1 AND r.status IN (0, 150, 200) AND (r.status = 0 OR $3)"
    " AND r.lease_owner IS NULL LIMIT $2",
    3,
    {TEXTOID, INT8OID, BOOLOID}};

struct Unreachable {
    const char* gateway;
    const char* reason;
    // Only its options are unusable: what it has been sent, or accepted, waits for them to be put
    // right, since it can still be asked about then.
    bool may_come_back;
};

// The gateway of this name when it cannot be used; false: it can, or only not at present.
bool is_unreachable(const GatewayConfig* gateways, int gateway_count, const char* name,
                    Unreachable* found) {
    for (int i = 0; i < gateway_count; ++i) {
        const GatewayConfig& gateway = gateways[i];
        if (std::strcmp(gateway.name, name) == 0) {
            *found = {name, gateway.unusable, gateway.options_unusable};
            return gateway.unusable != nullptr;
        }
    }
    *found = {name,
              psprintf("there is no server \"%s\": refund by hand and call refund_resolve, or "
                       "create the server and call refund_retry",
                       name),
              false};
    return true;
}

bool give_up(const char* schema, std::string_view refund_no, std::string_view payment_id,
             std::string_view order_id, const char* reason) {
    PaymentRow payment;
    RefundRow refund;
    if (!try_lock_order(order_id) || !read_payment(schema, payment_id, RowLock::skip, &payment) ||
        !read_refund(schema, refund_no, RowLock::skip, &refund) ||
        core::is_settled(refund.status)) {
        return false;
    }
    fault_point(FaultPoint::give_up_locked);
    core::RefundStep step;
    step.status = core::RefundStatus::attention;
    step.failed_attempts = refund.failed_attempts;
    RefundNews news;
    news.last_error = reason;
    apply_refund_step(schema, payment, refund, step, news, GetCurrentTransactionStartTimestamp());
    fault_point(FaultPoint::given_up);
    return true;
}

int give_up_gateway(const char* schema, const Unreachable& gateway, int limit) {
    Parameters parameters;
    parameters.add(gateway.gateway)
        .add(static_cast<std::int64_t>(limit))
        .add(!gateway.may_come_back);
    const std::uint64_t rows = run(select_of_gateway, schema, parameters);
    SPITupleTable* found = SPI_tuptable;
    int given_up = 0;
    for (std::uint64_t row = 0; row < rows; ++row) {
        SPI_tuptable = found;
        bool ended = false;
        const bool done = run_alone([&] {
            ended = give_up(schema, text_column(row, 1), text_column(row, 2), text_column(row, 3),
                            gateway.reason);
        });
        given_up += done && ended ? 1 : 0;
    }
    return given_up;
}

}  // namespace

int give_up_unreachable(const char* schema, const GatewayConfig* gateways, int gateway_count,
                        TimestampTz* next_look) {
    static Pace pace;
    if (!pace.is_due(GetCurrentTimestamp())) {
        *next_look = std::min(*next_look, pace.next_at());
        return 0;
    }
    SPI_connect();
    Parameters none;
    pace.begin();
    const std::uint64_t rows = run(select_queue_gateways, schema, none);
    pace.end();
    SPITupleTable* found = SPI_tuptable;
    int given_up = 0;
    for (std::uint64_t row = 0; row < rows && given_up < settings.batch_size; ++row) {
        SPI_tuptable = found;
        const std::string_view name = text_column(row, 1);
        Unreachable gateway = {};
        if (is_unreachable(gateways, gateway_count, pnstrdup(name.data(), name.size()), &gateway)) {
            given_up += give_up_gateway(schema, gateway, settings.batch_size - given_up);
        }
    }
    SPI_finish();
    if (given_up > 0) {
        pace = {};  // there may be more
    }
    return given_up;
}

}  // namespace payonce::pg
