#include "pg/apply.h"

#include <algorithm>

#include "core/refund.h"
#include "pg/dispatch_bridge.h"
#include "pg/encoding.h"
#include "pg/evidence.h"
#include "pg/fault_point.h"
#include "pg/lock.h"
#include "pg/pg.h"
#include "pg/refund_result.h"
#include "pg/settings.h"
#include "pg/statement.h"
#include "pg/store.h"

namespace payonce::pg {
namespace {

Statement select_exists = {"SELECT 1 FROM {s}.t_refund WHERE refund_no = $1", 1, {TEXTOID}};

void record_call(const char* schema, const bridge::Finished& finished, std::string_view refund_no,
                 bool applied) {
    Evidence evidence;
    evidence.refund_no = refund_no;
    evidence.gateway = finished.call.gateway;
    evidence.attempt = finished.call.attempt;
    evidence.call = finished.call.kind;
    evidence.started_at = finished.call.claimed_at;
    evidence.duration_ms = static_cast<double>(finished.duration_us) / 1000.0;
    evidence.http_status = finished.http_status;
    evidence.verdict = core::name_of(finished.answer.verdict);
    evidence.gateway_refund_id = foreign_text(finished.gateway_refund_id);
    evidence.error = foreign_text(finished.error);
    evidence.applied = applied;
    write_evidence(schema, evidence);
}

bool refund_exists(const char* schema, std::string_view refund_no) {
    Parameters parameters;
    parameters.add(refund_no);
    return run(select_exists, schema, parameters) > 0;
}

core::RefundStep decide_step(const RefundRow& refund, const bridge::Finished& finished,
                             std::int64_t lease_owner, TimestampTz now) {
    const bool holds_lease =
        refund.lease_owner == lease_owner && refund.attempts == finished.call.attempt;
    core::Moment moment;
    moment.now = now;
    moment.random = pg_prng_uint64(&pg_global_prng_state);
    return core::after_answer(refund.facts(now), finished.call.kind, finished.answer, holds_lease,
                              retry_policy(finished.traits), moment);
}

// While a refused refund is asked about, its row keeps why it was refused: that is what the person
// will want to know, not that the gateway did not know it.
bool keeps_refusal(const RefundRow& refund, core::Verdict verdict) {
    return refund.when_unknown == core::WhenUnknown::give_up && verdict != core::Verdict::failed &&
           verdict != core::Verdict::abnormal && verdict != core::Verdict::rejected;
}

RefundNews news_of(const RefundRow& refund, const bridge::Finished& finished,
                   const core::RefundStep& step, TimestampTz now) {
    RefundNews news;
    if (!finished.gateway_refund_id.empty()) {
        news.gateway_refund_id = foreign_text(finished.gateway_refund_id);
    }
    if (keeps_refusal(refund, finished.answer.verdict)) {
        return news;
    }
    if (step.status != core::RefundStatus::refunded && !finished.error.empty()) {
        news.last_error = foreign_text(finished.error);
    }
    if (step.status != core::RefundStatus::attention) {
        return news;
    }
    const bool forgotten =
        finished.answer.verdict == core::Verdict::not_found &&
        core::is_beyond_horizon(refund.facts(now), retry_policy(finished.traits), now);
    if (forgotten) {
        news.last_error =
            "the gateway does not know it, and may have forgotten its idempotency key: look for it "
            "there, then call refund_retry";
    } else if (!news.last_error) {
        news.last_error = "the time for retries is used up";
    }
    return news;
}

// The claim noted that it was sent under its key; the request did not leave after all.
void forget_unsent(RefundRow* refund, const bridge::Finished& finished,
                   const core::RefundStep& step) {
    if (step.unsent && refund->key_sent_at == finished.call.claimed_at) {
        refund->key_sent_at = std::nullopt;
    }
}

}  // namespace

Applied apply_finished(const char* schema, std::int64_t lease_owner, std::size_t index,
                       TimestampTz* next_due) {
    const bridge::Finished finished = bridge::finished(index);
    const std::string_view refund_no = from_utf8(finished.call.refund_no);
    if (!try_lock_order(from_utf8(finished.call.order_id))) {
        return Applied::locked;
    }
    PaymentRow payment;
    RefundRow refund;
    if (!read_payment(schema, from_utf8(finished.call.payment_id), RowLock::skip, &payment) ||
        !read_refund(schema, refund_no, RowLock::skip, &refund)) {
        if (refund_exists(schema, refund_no)) {
            return Applied::locked;
        }
        record_call(schema, finished, refund_no, false);
        return Applied::recorded;
    }
    fault_point(FaultPoint::answer_locked);
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    const core::RefundStep step = decide_step(refund, finished, lease_owner, now);
    const RefundNews news = news_of(refund, finished, step, now);
    forget_unsent(&refund, finished, step);
    apply_refund_step(schema, payment, refund, step, news, now);
    fault_point(FaultPoint::answer_applied);
    record_call(schema, finished, refund_no, !step.changes_nothing);
    fault_point(FaultPoint::answer_recorded);
    if (!step.changes_nothing && !core::is_settled(step.status)) {
        *next_due = std::min(*next_due, step.next_attempt_at);
    }
    return Applied::recorded;
}

}  // namespace payonce::pg
