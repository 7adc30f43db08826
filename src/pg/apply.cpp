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

// Locks without waiting, the payment before the refund. Where a row is missing, something is held
// or gone.
Statement lock_refunds = {
    "SELECT u.number, p.status, coalesce(p.paid_amount, p.price), p.attention,"
    " coalesce(o.paid_by = p.id, false), p.refund_reserved, " PAYONCE_REFUND_COLUMNS("r.")
    " FROM unnest($1, $2) WITH ORDINALITY u (refund_no, payment_id, number)"
    " JOIN {s}.t_order_pay p ON p.id = u.payment_id JOIN {s}.t_order o ON o.id = p.order_id"
    " JOIN {s}.t_refund r ON r.refund_no = u.refund_no"
    " FOR NO KEY UPDATE OF p, r SKIP LOCKED",
    2,
    {TEXTARRAYOID, TEXTARRAYOID}};

Statement select_exists = {"SELECT 1 FROM {s}.t_refund WHERE refund_no = $1", 1, {TEXTOID}};

// One answer on its way into the tables.
struct Answer {
    bridge::Finished finished;
    std::string_view refund_no;
    std::string_view payment_id;
    std::size_t place;  // among those that the caller asked for
    bool found;         // and locked
    RefundResult result;
};

Evidence evidence_of(const Answer& answer) {
    const bridge::Finished& finished = answer.finished;
    Evidence evidence;
    evidence.refund_no = answer.refund_no;
    evidence.gateway = finished.call.gateway;
    evidence.attempt = finished.call.attempt;
    evidence.call = finished.call.kind;
    evidence.started_at = finished.call.claimed_at;
    evidence.duration_ms = static_cast<double>(finished.duration_us) / 1000.0;
    evidence.http_status = finished.http_status;
    evidence.verdict = core::name_of(finished.answer.verdict);
    evidence.gateway_refund_id = foreign_text(finished.gateway_refund_id);
    evidence.error = foreign_text(finished.error);
    evidence.applied = answer.found && !answer.result.change.step.changes_nothing;
    return evidence;
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

struct Batch {
    Answer* answers;
    std::size_t count;
};

// In the order of their payments, so that those of the same payment are neighbours; of one payment
// in the order in which they came.
Batch taken_from_bridge(const std::size_t* indexes, std::size_t count) {
    auto* answers = static_cast<Answer*>(palloc0(sizeof(Answer) * (count + 1)));
    for (std::size_t i = 0; i < count; ++i) {
        Answer& answer = answers[i];
        answer.finished = bridge::finished(indexes[i]);
        answer.refund_no = from_utf8(answer.finished.call.refund_no);
        answer.payment_id = from_utf8(answer.finished.call.payment_id);
        answer.place = i;
    }
    std::sort(answers, answers + count, [](const Answer& a, const Answer& b) {
        return a.payment_id != b.payment_id ? a.payment_id < b.payment_id : a.place < b.place;
    });
    return {answers, count};
}

// Leaves in the batch the first of each payment, where nobody holds the order.
void keep_lockable(Batch* batch, Applied* applied) {
    std::size_t kept = 0;
    std::optional<std::string_view> payment_before;
    for (std::size_t i = 0; i < batch->count; ++i) {
        const Answer& answer = batch->answers[i];
        const bool is_first = answer.payment_id != payment_before;
        payment_before = answer.payment_id;
        if (!is_first) {
            applied[answer.place] = Applied::not_yet;
        } else if (!try_lock_order(from_utf8(answer.finished.call.order_id))) {
            applied[answer.place] = Applied::locked;
        } else {
            batch->answers[kept++] = answer;
        }
    }
    batch->count = kept;
}

void take_row(std::uint64_t row, Answer* answer) {
    answer->found = true;
    RefundResult* result = &answer->result;
    result->change.row = refund_at(row, 7);
    const RefundRow& refund = result->change.row;
    Standing payment;
    payment.status = static_cast<core::PaymentStatus>(int_column(row, 2));
    payment.arrived = int64_column(row, 3);
    payment.attention = optional_text_column(row, 4);
    payment.is_winner = bool_column(row, 5);
    result->payment_has_attention = payment.attention.has_value();
    // Whoever adds or cancels another needs the lock on the payment's row.
    if (refund.status != core::RefundStatus::cancelled && int64_column(row, 6) == refund.amount &&
        refund.payment_id == answer->payment_id) {
        result->payment = payment;
    }
}

void lock_and_read(const char* schema, const Batch& batch) {
    ParameterRows rows(lock_refunds, batch.count);
    for (std::size_t i = 0; i < batch.count; ++i) {
        Parameters row;
        row.add(batch.answers[i].refund_no).add(batch.answers[i].payment_id);
        rows.add(row);
    }
    Parameters parameters = rows.as_arrays();
    const std::uint64_t found = run(lock_refunds, schema, parameters);
    for (std::uint64_t row = 0; row < found; ++row) {
        take_row(row, &batch.answers[int64_column(row, 1) - 1]);
    }
}

// Leaves in the batch what can be recorded: of a refund that is gone, the call alone.
void keep_recordable(const char* schema, Batch* batch, Applied* applied) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < batch->count; ++i) {
        const Answer& answer = batch->answers[i];
        if (answer.found || !refund_exists(schema, answer.refund_no)) {
            applied[answer.place] = Applied::recorded;
            batch->answers[kept++] = answer;
        } else {
            applied[answer.place] = Applied::locked;
        }
    }
    batch->count = kept;
}

void decide(Answer* answer, std::int64_t lease_owner, TimestampTz now) {
    RefundChange& change = answer->result.change;
    change.step = decide_step(change.row, answer->finished, lease_owner, now);
    change.news = news_of(change.row, answer->finished, change.step, now);
    forget_unsent(&change.row, answer->finished, change.step);
}

void apply_batch(const char* schema, const Batch& batch, std::int64_t lease_owner,
                 TimestampTz now) {
    auto* results = static_cast<RefundResult*>(palloc(sizeof(RefundResult) * (batch.count + 1)));
    std::size_t count = 0;
    for (std::size_t i = 0; i < batch.count; ++i) {
        Answer& answer = batch.answers[i];
        if (answer.found) {
            decide(&answer, lease_owner, now);
            results[count++] = answer.result;
        }
    }
    if (count > 0) {
        fault_point(FaultPoint::answer_locked);
        apply_refund_results(schema, results, count, now);
        fault_point(FaultPoint::answer_applied);
    }
}

void record_calls(const char* schema, const Batch& batch) {
    auto* evidence = static_cast<Evidence*>(palloc(sizeof(Evidence) * (batch.count + 1)));
    for (std::size_t i = 0; i < batch.count; ++i) {
        evidence[i] = evidence_of(batch.answers[i]);
    }
    write_evidence(schema, evidence, batch.count);
    fault_point(FaultPoint::answer_recorded);
}

}  // namespace

TimestampTz apply_finished(const char* schema, std::int64_t lease_owner, const std::size_t* indexes,
                           std::size_t count, TimestampTz next_due, Applied* applied) {
    Batch batch = taken_from_bridge(indexes, count);
    keep_lockable(&batch, applied);
    if (batch.count == 0) {
        return next_due;
    }
    lock_and_read(schema, batch);
    keep_recordable(schema, &batch, applied);
    if (batch.count == 0) {
        return next_due;
    }
    apply_batch(schema, batch, lease_owner, GetCurrentTransactionStartTimestamp());
    record_calls(schema, batch);
    for (std::size_t i = 0; i < batch.count; ++i) {
        const core::RefundStep& step = batch.answers[i].result.change.step;
        if (batch.answers[i].found && !step.changes_nothing && !core::is_settled(step.status)) {
            next_due = std::min(next_due, step.next_attempt_at);
        }
    }
    return next_due;
}

}  // namespace payonce::pg
