#include "pg/recovery.h"

#include <algorithm>

#include "core/refund.h"
#include "pg/dispatch_bridge.h"
#include "pg/encoding.h"
#include "pg/evidence.h"
#include "pg/fault_point.h"
#include "pg/pg.h"
#include "pg/settings.h"
#include "pg/statement.h"
#include "pg/store.h"
#include "pg/subtransaction.h"

namespace payonce::pg {
namespace {

// Above what a worker can have in flight.
constexpr int max_leases = 4096;

// The condition of the index t_refund_in_hand, in its words.
Statement select_leased = {
    "SELECT refund_no FROM {s}.t_refund WHERE lease_owner IS NOT NULL OR status = 100 LIMIT $1",
    1,
    {INT8OID}};

Statement clear_lease = {
    "UPDATE {s}.t_refund SET lease_owner = NULL, lease_until = NULL WHERE refund_no = $1",
    1,
    {TEXTOID}};

bool is_in_hand(const RefundRow& refund, std::int64_t lease_owner) {
    return refund.lease_owner == lease_owner &&
           bridge::holds(to_utf8(refund.refund_no), refund.attempts);
}

void record_loss(const char* schema, const RefundRow& refund) {
    Evidence evidence;
    evidence.refund_no = refund.refund_no;
    evidence.gateway = refund.gateway;
    evidence.attempt = refund.attempts;
    evidence.call = refund.status == core::RefundStatus::sending && !refund.ask_first
                        ? core::CallKind::refund
                        : core::CallKind::query;
    evidence.started_at = refund.updated_at;  // the claim was the row's last change
    evidence.verdict = "lost";
    evidence.error = "the worker ended, or its lease ran out, before the answer was recorded";
    evidence.applied = true;
    write_evidence(schema, &evidence, 1);
}

struct Recoverer {
    const char* schema;
    std::int64_t lease_owner;
    const GatewayConfig* gateways;
    int gateway_count;
};

core::GatewayTraits traits_of(const Recoverer& recoverer, std::string_view gateway) {
    for (int i = 0; i < recoverer.gateway_count; ++i) {
        const GatewayConfig& config = recoverer.gateways[i];
        if (gateway == config.name && config.driver != nullptr) {
            return config.driver->traits;
        }
    }
    return {};
}

Recovery recover(const Recoverer& recoverer, std::string_view refund_no) {
    const char* schema = recoverer.schema;
    RefundRow refund;
    if (!read_refund(schema, refund_no, RowLock::skip, &refund)) {
        return {0, true};
    }
    const bool in_hand = refund.lease_owner || refund.status == core::RefundStatus::sending;
    if (!in_hand || is_in_hand(refund, recoverer.lease_owner)) {
        return {};
    }
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    core::Moment moment;
    // The time in which nobody held it does not count against the time for retries.
    moment.now = std::min(now, refund.lease_until.value_or(now));
    const core::RefundStep step = core::after_lost_lease(
        refund.facts(now), retry_policy(traits_of(recoverer, refund.gateway)), moment);
    if (step.changes_nothing) {
        Parameters parameters;
        parameters.add(refund.refund_no);
        write_row(clear_lease, schema, parameters);
        return {1, false};
    }
    fault_point(FaultPoint::lease_found);
    if (refund.attempts > 0) {
        record_loss(schema, refund);
        fault_point(FaultPoint::lease_loss_recorded);
    }
    write_refund_step(schema, refund, step, {}, now);
    fault_point(FaultPoint::lease_ended);
    return {1, false};
}

}  // namespace

Recovery recover_lost_leases(const char* schema, std::int64_t lease_owner,
                             const GatewayConfig* gateways, int gateway_count) {
    const Recoverer recoverer = {schema, lease_owner, gateways, gateway_count};
    SPI_connect();
    Parameters parameters;
    parameters.add(std::int64_t{max_leases});
    const std::uint64_t rows = run(select_leased, schema, parameters);
    SPITupleTable* found = SPI_tuptable;
    Recovery all;
    for (std::uint64_t row = 0; row < rows; ++row) {
        SPI_tuptable = found;
        Recovery one;
        if (run_alone([&] { one = recover(recoverer, text_column(row, 1)); })) {
            all.ended += one.ended;
            all.any_locked = all.any_locked || one.any_locked;
        } else {
            all.any_failed = true;
        }
    }
    SPI_finish();
    return all;
}

}  // namespace payonce::pg
