#include "pg/refund_result.h"

#include "pg/fault_point.h"
#include "pg/pg.h"

namespace payonce::pg {
namespace {

const char* flag_words(core::Flag flag, core::RefundStatus status) {
    switch (flag) {
        case core::Flag::none:
            break;
        case core::Flag::overdue:
            return "is processing for more than 30 days";
        case core::Flag::contradiction:
            return status == core::RefundStatus::cancelled
                       ? "is cancelled, but the gateway reports that the money went back"
                       : "is in attention, but the gateway reports that the money went back";
        case core::Flag::balance:
            return "waits: the merchant's balance at the gateway is too small";
        case core::Flag::unverifiable:
            return "gets answers that cannot be verified: a key may be wrong";
        case core::Flag::customer:
            return "waits for the customer, who has to do something at the gateway";
        case core::Flag::not_told:
            return "was accepted, and now the gateway refuses to say what became of it";
    }
    return status == core::RefundStatus::attention ? "is in attention" : nullptr;
}

// Without the gateway's own words: those are in last_error, and could hold a separator.
std::optional<std::string_view> attention_words(const RefundRow& refund,
                                                const core::RefundStep& step) {
    const char* words = flag_words(step.flag, step.status);
    return words == nullptr ? std::nullopt
                            : std::optional<std::string_view>(psprintf(
                                  "refund %.*s %s", static_cast<int>(refund.refund_no.size()),
                                  refund.refund_no.data(), words));
}

// What succeeded is not dead: a retry must ask about this number, not send under a new one.
bool is_revived(const RefundChange& change) {
    return change.step.flag == core::Flag::contradiction &&
           change.row.status == core::RefundStatus::attention && change.row.number_dead;
}

bool changes_refund(const RefundChange& change) {
    return !core::is_settled(change.row.status) || change.step.status != change.row.status ||
           is_revived(change);
}

bool concerns_payment(const RefundResult& result) {
    const auto& [row, step, news] = result.change;
    // What its attention said about this refund may be over.
    return core::is_settled(step.status) || step.flag != core::Flag::none ||
           core::is_settled(row.status) || result.payment_has_attention;
}

core::RefundSums sums_of_only(std::int64_t amount, core::RefundStatus status) {
    core::RefundSums sums;
    if (status == core::RefundStatus::refunded) {
        sums.refunded = amount;
    } else if (status == core::RefundStatus::attention) {
        sums.attention = amount;
    } else if (status != core::RefundStatus::cancelled) {
        sums.pending = amount;
    }
    return sums;
}

StandingChange standing_change(const RefundResult& result) {
    const auto& [row, step, news] = result.change;
    StandingChange change = {row.payment_id, row.refund_no, attention_words(row, step),
                             result.payment};
    if (change.known) {
        change.known->sums =
            sums_of_only(row.amount, changes_refund(result.change) ? step.status : row.status);
    }
    return change;
}

}  // namespace

void apply_refund_results(const char* schema, const RefundResult* results, std::size_t count,
                          TimestampTz now) {
    auto* changes = static_cast<RefundChange*>(palloc(sizeof(RefundChange) * (count + 1)));
    auto* standings = static_cast<StandingChange*>(palloc(sizeof(StandingChange) * (count + 1)));
    std::size_t changed = 0;
    std::size_t concerned = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const RefundChange& change = results[i].change;
        if (change.step.changes_nothing) {
            continue;
        }
        if (changes_refund(change)) {
            RefundChange& written = changes[changed++] = change;
            written.row.number_dead = change.row.number_dead && !is_revived(change);
        }
        if (concerns_payment(results[i])) {
            standings[concerned++] = standing_change(results[i]);
        }
    }
    write_refund_steps(schema, changes, changed, now);
    if (changed > 0) {
        fault_point(FaultPoint::refund_step_written);
    }
    update_payment_standings(schema, standings, concerned);
}

void apply_refund_step(const char* schema, const PaymentRow& payment, const RefundRow& refund,
                       const core::RefundStep& step, const RefundNews& news, TimestampTz now) {
    const RefundResult result = {{refund, step, news}, payment.attention.has_value(), std::nullopt};
    apply_refund_results(schema, &result, 1, now);
}

}  // namespace payonce::pg
