#include "pg/apply_notice.h"

#include "core/identifiers.h"
#include "core/refund.h"

#include <optional>

#include "pg/case.h"
#include "pg/durability.h"
#include "pg/encoding.h"
#include "pg/fault_point.h"
#include "pg/gateway_config.h"
#include "pg/pay_callback.h"
#include "pg/pg.h"
#include "pg/refund_result.h"
#include "pg/settings.h"
#include "pg/statement.h"
#include "pg/store.h"

namespace payonce::pg {
namespace {

using core::ReplyKind;

// In the words of the partial index t_order_pay_payment_intent.
Statement select_by_transaction = {
    "SELECT id FROM {s}.t_order_pay WHERE transaction_id = $1 AND transaction_id ^@ 'pi_'"
    " AND gateway = $2 LIMIT 2",
    2,
    {TEXTOID, TEXTOID}};

Statement insert_stray = {
    "INSERT INTO {s}.t_stray_notification (gateway, kind, number, gateway_number, body)"
    " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (gateway, kind, number, gateway_number)"
    " WHERE number <> '' OR gateway_number <> '' DO NOTHING",
    5,
    {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

// What was kept of the same money: under its payment's number, or under the gateway's alone.
Statement settle_stray = {
    "UPDATE {s}.t_stray_notification SET handled_at = now(),"
    " note = coalesce(note, 'it came again, and its payment was there')"
    " WHERE gateway = $1 AND kind = 'payment' AND number IN ($2, '') AND gateway_number = $3"
    " AND (number <> '' OR gateway_number <> '') AND handled_at IS NULL",
    3,
    {TEXTOID, TEXTOID, TEXTOID}};

std::string_view known_number(std::string_view number) {
    return core::is_transaction_id(number) ? number : std::string_view();
}

// Verified news of money that matches nothing here: never lost, and once however often it comes.
void keep_stray(const char* schema, std::string_view gateway, const char* kind,
                std::string_view number, std::string_view gateway_number,
                std::string_view content) {
    begin_decision();
    Parameters parameters;
    parameters.add(gateway)
        .add(kind)
        .add(foreign_text(number))
        .add(known_number(gateway_number))
        .add(foreign_text(content));
    if (run(insert_stray, schema, parameters) == 0) {
        rely_on_visible_rows();
    }
    fault_point(FaultPoint::notice_stray_kept);
}

// --- Payments ----------------------------------------------------------------------------------

// The payment's id: as the notice names it, or found by the gateway's number. Empty: there is no
// such payment.
std::string_view payment_of(const char* schema, std::string_view gateway,
                            const bridge::Notice& notice) {
    if (!notice.payment_id.empty()) {
        PaymentRow found;
        return core::is_payment_id(notice.payment_id) &&
                       read_payment(schema, notice.payment_id, RowLock::none, &found)
                   ? found.id
                   : std::string_view();
    }
    if (known_number(notice.transaction_id).empty()) {
        return {};
    }
    Parameters parameters;
    parameters.add(notice.transaction_id).add(gateway);
    return run(select_by_transaction, schema, parameters) == 1 ? text_column(0, 1)
                                                               : std::string_view();
}

// A driver lets no other through; what is written must never depend on that.
void check_success(const bridge::Notice& notice) {
    const bool complete = notice.amount && *notice.amount > 0 &&
                          (notice.currency.empty() || core::is_currency(notice.currency));
    if (notice.success && !complete) {
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("the notification says no amount that could be compared"),
                        errdetail("Nothing was recorded; the gateway will repeat it."),
                        errhint("Look at the payment at the gateway.")));
    }
}

core::PaymentNews news_of(const bridge::Notice& notice) {
    core::PaymentNews news;
    news.success = notice.success;
    if (notice.success) {
        news.paid_amount = notice.amount;
        if (!notice.currency.empty()) {
            news.paid_currency = notice.currency;
        }
    }
    const std::string_view transaction_id = known_number(notice.transaction_id);
    if (!transaction_id.empty()) {
        news.transaction_id = transaction_id;
    }
    const std::string_view other = known_number(notice.other_transaction_id);
    if (!other.empty()) {
        news.other_transaction_id = other;
    }
    return news;
}

NoticeResult apply_payment(const char* schema, std::string_view gateway,
                           const bridge::Notice& notice) {
    check_success(notice);
    const std::string_view payment_id = payment_of(schema, gateway, notice);
    if (payment_id.empty()) {
        if (notice.success) {
            keep_stray(schema, gateway, "payment", notice.payment_id, notice.transaction_id,
                       notice.content);
        }
        // Perhaps its row is about to be committed: let the gateway repeat it.
        return {ReplyKind::failed, "unknown"};
    }
    Callback callback;
    callback.payment_id = payment_id;
    callback.news = news_of(notice);
    callback.gateway = gateway;
    const core::Outcome outcome = decide_callback(schema, callback);
    fault_point(FaultPoint::notice_decided);
    if (notice.success) {
        Parameters parameters;
        parameters.add(gateway).add(payment_id).add(known_number(notice.transaction_id));
        run(settle_stray, schema, parameters);
    }
    return {ReplyKind::accepted, core::name_of(outcome)};
}

// --- Refunds -----------------------------------------------------------------------------------

const char* outcome_of(core::Verdict verdict, const core::RefundStep& step) {
    if (step.flag == core::Flag::contradiction) {
        return "conflict";
    }
    switch (verdict) {
        case core::Verdict::succeeded:
            return "refunded";
        case core::Verdict::failed:
        case core::Verdict::abnormal:
            return "refund_failed";
        case core::Verdict::processing:
            return "refund_processing";
        default:
            return "refund_asked";
    }
}

bool is_other_currency(const PaymentRow& payment, const bridge::Notice& notice) {
    return !notice.currency.empty() && notice.currency != payment.arrived_currency();
}

// Whether the notice is about a refund of another payment: our number alone could have been copied.
bool is_other_payment(const PaymentRow& payment, const bridge::Notice& notice) {
    const bool comparable = payment.transaction_id && !notice.transaction_id.empty();
    return comparable && *payment.transaction_id != notice.transaction_id &&
           *payment.transaction_id != notice.other_transaction_id;
}

// Another refund than ours, with our number: what became of it says nothing about ours.
bool is_other_refund(const RefundRow& refund, const bridge::Notice& notice) {
    return refund.gateway_refund_id && !notice.refund_id.empty() &&
           *refund.gateway_refund_id != notice.refund_id;
}

// Not by words that begin "refund <refund_no> ": no later step of the refund shall take them away.
void tell_person(const char* schema, const PaymentRow& payment, const char* words) {
    PaymentRow row = payment;
    row.attention = with_attention(row.attention, words);
    if (row.attention != payment.attention) {
        write_payment(schema, row);
    } else {
        rely_on_visible_rows();
    }
}

// Another amount than was asked for went back: a person must know, and the refund is not settled by
// it.
NoticeResult report_amount(const char* schema, const RefundCase& taken,
                           const bridge::Notice& notice) {
    const RefundRow& refund = taken.refund;
    tell_person(
        schema, taken.payment.payment,
        psprintf("mismatch: the gateway reports %lld%s%.*s for refund %.*s of %lld",
                 static_cast<long long>(notice.amount.value_or(0)),
                 notice.currency.empty() ? "" : " ", static_cast<int>(notice.currency.size()),
                 notice.currency.data(), static_cast<int>(refund.refund_no.size()),
                 refund.refund_no.data(), static_cast<long long>(refund.amount)));
    return {ReplyKind::accepted, "mismatch"};
}

// A second refund under our number that is not dead: the money may have gone back twice.
NoticeResult report_other_refund(const char* schema, const RefundCase& taken,
                                 const bridge::Notice& notice) {
    if (notice.verdict != core::Verdict::succeeded && notice.verdict != core::Verdict::processing) {
        rely_on_visible_rows();
        return {ReplyKind::accepted, "ignored"};
    }
    const RefundRow& refund = taken.refund;
    tell_person(schema, taken.payment.payment,
                psprintf("conflict: the gateway has refund %.*s twice, as %.*s and as %.*s",
                         static_cast<int>(refund.refund_no.size()), refund.refund_no.data(),
                         static_cast<int>(refund.gateway_refund_id->size()),
                         refund.gateway_refund_id->data(),
                         static_cast<int>(notice.refund_id.size()), notice.refund_id.data()));
    return {ReplyKind::accepted, "conflict"};
}

RefundNews refund_news_of(const bridge::Notice& notice) {
    RefundNews news;
    const std::string_view refund_id = known_number(notice.refund_id);
    if (!refund_id.empty()) {
        news.gateway_refund_id = refund_id;
    }
    if (notice.verdict == core::Verdict::failed || notice.verdict == core::Verdict::abnormal) {
        news.last_error = notice.error.empty() ? "the gateway reported that the refund failed"
                                               : foreign_text(notice.error);
    }
    return news;
}

NoticeResult apply_verdict(const char* schema, const RefundCase& taken,
                           const bridge::Notice& notice) {
    const RefundRow& refund = taken.refund;
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    core::Moment moment;
    moment.now = now;
    moment.random = pg_prng_uint64(&pg_global_prng_state);
    const char* gateway = pnstrdup(refund.gateway.data(), refund.gateway.size());
    const core::RefundStep step = core::after_news(refund.facts(now), notice.verdict,
                                                   retry_policy(gateway_traits(gateway)), moment);
    if (step.changes_nothing) {
        rely_on_visible_rows();
        return {ReplyKind::accepted, "already_processed"};
    }
    apply_refund_step(schema, taken.payment.payment, refund, step, refund_news_of(notice), now);
    return {ReplyKind::accepted, outcome_of(notice.verdict, step)};
}

NoticeResult apply_refund(const char* schema, std::string_view gateway,
                          const bridge::Notice& notice) {
    RefundRow found;
    const bool is_ours =
        !notice.refund_no.empty() && notice.refund_no.size() <= core::max_refund_no_bytes &&
        read_refund(schema, foreign_text(notice.refund_no), RowLock::none, &found) &&
        found.gateway == gateway;
    if (!is_ours) {
        // Made in the gateway's console, perhaps; repeating it would not help.
        keep_stray(schema, gateway, "refund", notice.refund_no, notice.refund_id, notice.content);
        return {ReplyKind::accepted, "unknown"};
    }
    const RefundCase taken = take_refund(schema, found.refund_no);
    fault_point(FaultPoint::notice_refund_locked);
    const PaymentRow& payment = taken.payment.payment;
    if (is_other_payment(payment, notice)) {
        keep_stray(schema, gateway, "refund", notice.refund_no, notice.refund_id, notice.content);
        return {ReplyKind::accepted, "unknown"};
    }
    if (is_other_refund(taken.refund, notice)) {
        return report_other_refund(schema, taken, notice);
    }
    const bool other_amount = notice.amount && *notice.amount != taken.refund.amount;
    return other_amount || is_other_currency(payment, notice)
               ? report_amount(schema, taken, notice)
               : apply_verdict(schema, taken, notice);
}

}  // namespace

NoticeResult apply_notice(const char* schema, std::string_view gateway,
                          const bridge::Notice& notice) {
    return notice.kind == core::NoticeKind::payment ? apply_payment(schema, gateway, notice)
                                                    : apply_refund(schema, gateway, notice);
}

}  // namespace payonce::pg
