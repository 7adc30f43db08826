// The model of the rows, and of what the SQL functions do to them. Each function stands for one of
// src/pg, which its comment names; what is decided in it is decided by src/core.
#include <algorithm>
#include <string_view>

#include "world.h"

namespace payonce::simulation {
namespace {

constexpr std::int16_t code(OrderStatus status) noexcept {
    return static_cast<std::int16_t>(status);
}
constexpr std::int16_t code(PaymentStatus status) noexcept {
    return static_cast<std::int16_t>(status);
}
constexpr std::int16_t code(RefundStatus status) noexcept {
    return static_cast<std::int16_t>(status);
}

constexpr std::string_view currency = "CNY";

// The gateways' numbers of payments, as views that outlive everything.
std::string_view transaction_name(int transaction) noexcept {
    constexpr std::array<std::string_view, 2 * max_payments + 1> names = {"",   "t1", "t2", "t3",
                                                                          "t4", "t5", "t6"};
    return names[static_cast<std::size_t>(transaction)];
}

// The guards of triggers.cpp: an UPDATE to another status must be in the table.
bool set_order_status(World& world, OrderStatus status) noexcept {
    OrderRow& order = world.primary.order;
    if (order.status == OrderStatus::closed && status == OrderStatus::paid &&
        world.late_policy != core::LatePolicy::accept) {
        world.violate("a closed order takes a payment only where it may", "order %d to %d",
                      code(order.status), code(status));
    }
    if (order.status != status && !core::order_may_change(code(order.status), code(status))) {
        world.violate("no status changes but as the table allows", "order %d to %d",
                      code(order.status), code(status));
        return false;
    }
    order.status = status;
    ++order.version;
    return true;
}

bool set_payment_status(World& world, int payment, PaymentStatus status) noexcept {
    PaymentRow& row = world.primary.payments[static_cast<std::size_t>(payment)];
    if (row.status != status && !core::payment_may_change(code(row.status), code(status))) {
        world.violate("no status changes but as the table allows", "payment %d from %d to %d",
                      payment, code(row.status), code(status));
        return false;
    }
    if (row.status != status) {
        world.tell("  payment %d: %d to %d", payment, code(row.status), code(status));
    }
    row.status = status;
    ++row.version;
    return true;
}

// queue_refund of store.cpp, and the CHECK on refund_reserved.
bool insert_refund(World& world, int payment, Number number, std::int64_t amount) noexcept {
    Database& database = world.primary;
    const std::int64_t arrived = database.payments[static_cast<std::size_t>(payment)].arrived();
    if (database.refund_count == max_refunds ||
        (world.rules.kept(Rule::reserve) && database.sums(payment).reserved() + amount > arrived)) {
        return false;
    }
    RefundRow row;
    row.number = number;
    row.payment = static_cast<std::int8_t>(payment);
    row.amount = amount;
    row.next_attempt_at = world.database_now();
    database.refunds[static_cast<std::size_t>(database.refund_count++)] = row;
    world.tracks[number].payment = static_cast<std::int8_t>(payment);
    world.tell("  refund %s of %d is queued", NumberName(number).c_str(), static_cast<int>(amount));
    return true;
}

// next_automatic_refund_no of store.cpp; 0: none is left.
int next_generation(const Database& database, int payment) noexcept {
    int highest = 0;
    for (int i = 0; i < database.refund_count; ++i) {
        const RefundRow& row = database.refunds[static_cast<std::size_t>(i)];
        if (row.payment == payment && is_automatic(row.number)) {
            highest = std::max(highest, row.number % generations);
        }
    }
    return highest + 1 < generations ? highest + 1 : 0;
}

// new_requested_refund_no: random, so never one that there ever was.
Number next_requested(World& world) noexcept {
    return static_cast<Number>(world.next_requested++);
}

// update_payment_standing of store.cpp.
void update_payment_standing(World& world, int payment) noexcept {
    const PaymentRow& row = world.primary.payments[static_cast<std::size_t>(payment)];
    if (!core::has_succeeded(row.status)) {
        return;
    }
    const bool is_winner = world.primary.order.paid_by == payment;
    const PaymentStatus target =
        core::payment_status_after(is_winner, row.arrived(), world.primary.sums(payment));
    for (int steps = 0; row.status != target && steps < 4; ++steps) {
        if (!set_payment_status(world, payment, core::payment_step_towards(row.status, target))) {
            return;
        }
    }
}

core::Decision decide_on(const World& world, const Transaction& transaction) noexcept {
    const core::OrderFacts order{transaction.order.status, price, currency};
    core::PaymentFacts payment{transaction.row.status, price, currency, std::nullopt};
    if (transaction.row.transaction != 0) {
        payment.transaction_id = transaction_name(transaction.row.transaction);
    }
    core::PaymentNews news;
    news.success = transaction.success;
    if (transaction.success) {
        news.paid_amount = transaction.amount;
        news.paid_currency = currency;
        news.transaction_id = transaction_name(transaction.transaction);
    }
    if (!world.rules.kept(Rule::success_stays) && !news.success) {
        payment.status = PaymentStatus::paying;
    }
    return core::decide(order, payment, news, world.late_policy);
}

void acknowledge(World& world, const Acknowledgement& made) noexcept {
    for (Acknowledgement& slot : world.acknowledgements) {
        if (!slot.waiting) {
            slot = made;
            slot.waiting = true;
            return;
        }
    }
    // No room: the answer is lost and the gateway will repeat its news.
}

// write_decision of pay_callback.cpp.
bool write_decision(World& world, const Transaction& transaction,
                    const core::Decision& decision) noexcept {
    const int payment = transaction.payment;
    PaymentRow& row = world.primary.payments[static_cast<std::size_t>(payment)];
    if (decision.order_becomes_paid) {
        if (!set_order_status(world, OrderStatus::paid)) {
            return false;
        }
        world.primary.order.paid_by = payment;
    }
    if (decision.fill_transaction_id) {
        row.transaction = transaction.transaction;
    }
    if (decision.fill_paid_amount) {
        row.paid_amount = transaction.amount;
    }
    row.conflict = row.conflict || decision.attention == core::AttentionReason::second_transaction;
    if (!set_payment_status(world, payment, decision.payment_status.value_or(row.status))) {
        return false;
    }
    if (!decision.refund) {
        return true;
    }
    if (!world.rules.kept(Rule::one_commit)) {
        world.unqueued[static_cast<std::size_t>(payment)] = true;
        return true;
    }
    return insert_refund(world, payment,
                         automatic_number(payment, next_generation(world.primary, payment)),
                         row.arrived());
}

}  // namespace

core::RefundFacts RefundRow::facts(Time now) const noexcept {
    core::RefundFacts facts;
    facts.status = status;
    facts.failed_attempts = failed_attempts;
    facts.retry_since = retry_since.value_or(now);
    facts.accepted_at = accepted_at.value_or(now);
    facts.sent_at = sent_at;
    facts.key_sent_at = key_sent_at;
    facts.when_unknown = when_unknown;
    return facts;
}

RefundRow* Database::find(Number number) noexcept {
    const auto end = refunds.begin() + refund_count;
    const auto found = std::find_if(refunds.begin(), end,
                                    [=](const RefundRow& row) { return row.number == number; });
    return found == end ? nullptr : &*found;
}

const RefundRow* Database::find(Number number) const noexcept {
    const auto end = refunds.begin() + refund_count;
    const auto found = std::find_if(refunds.begin(), end,
                                    [=](const RefundRow& row) { return row.number == number; });
    return found == end ? nullptr : &*found;
}

core::RefundSums Database::sums(int payment) const noexcept {
    core::RefundSums sums;
    for (int i = 0; i < refund_count; ++i) {
        const RefundRow& row = refunds[static_cast<std::size_t>(i)];
        if (row.payment != payment || row.status == RefundStatus::cancelled) {
            continue;
        }
        if (row.status == RefundStatus::refunded) {
            sums.refunded += row.amount;
        } else if (row.status == RefundStatus::attention) {
            sums.attention += row.amount;
        } else {
            sums.pending += row.amount;
        }
    }
    return sums;
}

void Database::copy_from(const Database& other) noexcept {
    order = other.order;
    payments = other.payments;
    lsn = other.lsn;
    refund_count = other.refund_count;
    std::copy_n(other.refunds.begin(), other.refund_count, refunds.begin());
}

void commit(World& world) noexcept {
    ++world.primary.lsn;
}

core::RetryPolicy policy_of(const World& world, int payment) noexcept {
    core::RetryPolicy policy = world.policies[static_cast<std::size_t>(payment)];
    if (!world.rules.kept(Rule::horizon)) {
        policy.idempotency_horizon = 0;
    }
    return policy;
}

bool set_refund_status(World& world, RefundRow& row, RefundStatus status) noexcept {
    if (row.status == status) {
        return true;
    }
    if (!core::refund_may_change(code(row.status), code(status))) {
        world.violate("no status changes but as the table allows", "refund %d from %d to %d",
                      row.number, code(row.status), code(status));
        return false;
    }
    world.tell("  refund %s: %d to %d", NumberName(row.number).c_str(), code(row.status),
               code(status));
    row.status = status;
    world.counts.attention += status == RefundStatus::attention ? 1 : 0;
    return true;
}

// write_refund_step of store.cpp.
void write_refund_step(World& world, RefundRow& row, const core::RefundStep& step,
                       bool forget_key) noexcept {
    const Time now = world.database_now();
    if (step.via_sending && !set_refund_status(world, row, RefundStatus::sending)) {
        return;
    }
    if (!set_refund_status(world, row, step.status)) {
        return;
    }
    if (step.status == RefundStatus::processing && !row.accepted_at) {
        row.accepted_at = now;
    } else if (step.status == RefundStatus::queued) {
        row.accepted_at = std::nullopt;
    }
    row.failed_attempts = step.failed_attempts;
    row.next_attempt_at = core::is_settled(step.status) ? now : step.next_attempt_at;
    row.ask_first = step.ask_first;
    row.number_dead = row.number_dead || step.number_dead;
    row.when_unknown = step.when_unknown;
    if (step.new_key || forget_key) {
        row.key_sent_at = std::nullopt;
    }
    row.key_generation += step.new_key ? 1 : 0;
    row.lease_owner = std::nullopt;
    row.lease_until = std::nullopt;
}

// apply_refund_step of refund_result.cpp.
void apply_refund_step(World& world, RefundRow& row, const core::RefundStep& step,
                       bool forget_key) noexcept {
    if (step.changes_nothing) {
        return;
    }
    const bool contradicts = step.flag == core::Flag::contradiction;
    const bool revived = contradicts && row.status == RefundStatus::attention && row.number_dead;
    row.number_dead = row.number_dead && !revived;
    if (!core::is_settled(row.status) || step.status != row.status || revived) {
        write_refund_step(world, row, step, forget_key);
    }
    if (contradicts) {
        world.primary.payments[static_cast<std::size_t>(row.payment)].contradiction = true;
        world.tell("  payment %d wants attention: %s succeeded after all", row.payment,
                   NumberName(row.number).c_str());
    }
    update_payment_standing(world, row.payment);
}

// decide_callback of pay_callback.cpp up to its decision. At READ COMMITTED with the lock its
// snapshot is new, and the commit follows at once; without the lock, or at REPEATABLE READ,
// anything may be committed in between: the model lets it.
void begin_callback(World& world, int payment, bool success) noexcept {
    for (Transaction& transaction : world.transactions) {
        if (transaction.open) {
            continue;
        }
        const Truth& truth = world.truths[static_cast<std::size_t>(payment)];
        transaction.open = true;
        transaction.success = success;
        transaction.payment = payment;
        transaction.transaction = payment + 1;
        transaction.amount = truth.arrived;
        // Now and then a gateway takes the money twice under one number.
        if (success && !world.quiet && world.random.one_in(64)) {
            transaction.transaction += max_payments;
        }
        transaction.order = world.primary.order;
        transaction.row = world.primary.payments[static_cast<std::size_t>(payment)];
        world.tell("callback: payment %d %s", payment, success ? "succeeded" : "failed");
        return;
    }
}

void commit_callback(World& world, Transaction& transaction) noexcept {
    transaction.open = false;
    const int payment = transaction.payment;
    const PaymentRow& row = world.primary.payments[static_cast<std::size_t>(payment)];
    const core::Decision decision = decide_on(world, transaction);
    Acknowledgement answer;
    answer.payment = transaction.success ? payment : -1;
    if (decision.writes_nothing()) {
        // rely_on_visible_rows of durability.cpp: what was seen is older than this.
        answer.lsn = world.rules.kept(Rule::visible_is_durable) ? world.primary.lsn : 0;
    } else {
        // Who writes a row that was changed after its snapshot gets 40001.
        const bool outdated = (decision.order_becomes_paid &&
                               world.primary.order.version != transaction.order.version) ||
                              row.version != transaction.row.version;
        if (outdated && world.rules.kept(Rule::arbiter)) {
            world.tell("callback: payment %d must be decided again (40001)", payment);
            return;
        }
        world.tell("callback: payment %d is %s", payment, core::name_of(decision.outcome));
        if (!write_decision(world, transaction, decision)) {
            return;
        }
        commit(world);
        answer.lsn = world.rules.kept(Rule::durable_answer) ? world.primary.lsn : 0;
    }
    if (answer.payment >= 0) {
        acknowledge(world, answer);
    }
}

// Without the rule one_commit: the second of the two commits.
void queue_forgotten_refund(World& world, int payment) noexcept {
    bool& unqueued = world.unqueued[static_cast<std::size_t>(payment)];
    if (unqueued) {
        unqueued = false;
        insert_refund(world, payment,
                      automatic_number(payment, next_generation(world.primary, payment)),
                      world.primary.payments[static_cast<std::size_t>(payment)].arrived());
        commit(world);
    }
}

// order_close.cpp.
void close_order(World& world) noexcept {
    if (world.primary.order.status == OrderStatus::unpaid) {
        world.tell("the order is closed");
        set_order_status(world, OrderStatus::closed);
        commit(world);
    }
}

// refund_request.cpp.
void request_refund(World& world, int payment, std::int64_t amount) noexcept {
    const PaymentRow& row = world.primary.payments[static_cast<std::size_t>(payment)];
    const std::int64_t left = row.arrived() - world.primary.sums(payment).reserved();
    if (!core::has_succeeded(row.status) || world.primary.refund_count >= enough_refunds ||
        world.next_requested == max_numbers || (amount > left && world.rules.kept(Rule::reserve))) {
        return;
    }
    world.tell("refund_request: %d of payment %d", static_cast<int>(amount), payment);
    if (insert_refund(world, payment, next_requested(world), amount)) {
        world.truths[static_cast<std::size_t>(payment)].requested += amount;
        update_payment_standing(world, payment);
        commit(world);
    }
}

// apply_verdict of apply_notice.cpp.
void apply_refund_news(World& world, int record, core::Verdict verdict) noexcept {
    const Number number = world.records[static_cast<std::size_t>(record)].number;
    RefundRow* row = world.primary.find(number);
    world.tell("news of refund %s: %s", NumberName(number).c_str(), core::name_of(verdict));
    Acknowledgement answer;
    answer.record = record;
    answer.verdict = verdict;
    if (row != nullptr) {
        row->refused = false;
        const Time now = world.database_now();
        const core::RefundStep step = core::after_news(
            row->facts(now), verdict, policy_of(world, row->payment), {now, world.random.next()});
        if (!step.changes_nothing) {
            apply_refund_step(world, *row, step, false);
            commit(world);
        }
    }
    answer.lsn = world.primary.lsn;
    acknowledge(world, answer);
}

// refund_retry.cpp.
void retry_refund(World& world, RefundRow& row) noexcept {
    const int payment = row.payment;
    const Time now = world.database_now();
    core::RefundStep step;
    row.refused = false;
    if (row.number_dead || !world.rules.kept(Rule::dead_numbers_only)) {
        const bool automatic = is_automatic(row.number);
        const int generation = next_generation(world.primary, payment);
        if (world.primary.refund_count == max_refunds ||
            (automatic ? generation == 0 : world.next_requested == max_numbers)) {
            return;
        }
        const std::int64_t amount = row.amount;
        const Number next =
            automatic ? automatic_number(payment, generation) : next_requested(world);
        world.tell("refund_retry: %s is replaced by %s", NumberName(row.number).c_str(),
                   NumberName(next).c_str());
        step.status = RefundStatus::cancelled;
        step.failed_attempts = row.failed_attempts;
        write_refund_step(world, row, step, false);
        insert_refund(world, payment, next, amount);
    } else {
        world.tell("refund_retry: %s again", NumberName(row.number).c_str());
        step.new_key = core::is_beyond_horizon(row.facts(now), policy_of(world, payment), now);
        row.retry_since = std::nullopt;
        step.status = RefundStatus::queued;
        step.next_attempt_at = now;
        step.ask_first = row.attempts > 0;
        write_refund_step(world, row, step, false);
    }
    update_payment_standing(world, payment);
    commit(world);
}

// refund_resolve.cpp.
void resolve_refund(World& world, RefundRow& row, bool refunded) noexcept {
    world.tell("refund_resolve: %s is %s", NumberName(row.number).c_str(),
               refunded ? "done" : "cancelled");
    core::RefundStep step;
    step.status = refunded ? RefundStatus::refunded : RefundStatus::cancelled;
    step.failed_attempts = row.failed_attempts;
    write_refund_step(world, row, step, false);
    update_payment_standing(world, row.payment);
    commit(world);
}

// payment_resolve(…, 'refund', …).
void refund_payment(World& world, int payment) noexcept {
    const PaymentRow& row = world.primary.payments[static_cast<std::size_t>(payment)];
    const std::int64_t left = row.arrived() - world.primary.sums(payment).reserved();
    const int generation = next_generation(world.primary, payment);
    if (row.status != PaymentStatus::attention || left <= 0 || generation == 0) {
        return;
    }
    world.tell("payment_resolve: payment %d goes back", payment);
    if (insert_refund(world, payment, automatic_number(payment, generation), left)) {
        // Of a winner it is what a person asked for.
        world.truths[static_cast<std::size_t>(payment)].requested += left;
        update_payment_standing(world, payment);
        commit(world);
    }
}

}  // namespace payonce::simulation
