// One schedule: a world drawn from the seed, a number of events of which any may come next, then an
// end to all faults, after which everything must settle.
#include <algorithm>

#include "world.h"

namespace payonce::simulation {
namespace {

constexpr int fewest_events = 40;
constexpr int most_events = 200;
constexpr int most_quiet_turns = 600;

int any_payment(World& world) noexcept {
    return world.random.below(world.payment_count);
}

// Mostly the worker that should be there.
Worker& any_worker(World& world) noexcept {
    return world.workers[world.workers[1].alive && world.random.one_in(3) ? 1 : 0];
}

RefundRow* any_refund_in_attention(World& world) noexcept {
    if (world.primary.refund_count == 0) {
        return nullptr;
    }
    RefundRow& row =
        world.primary
            .refunds[static_cast<std::size_t>(world.random.below(world.primary.refund_count))];
    return row.status == RefundStatus::attention ? &row : nullptr;
}

Record* any_record(World& world) noexcept {
    return world.record_count == 0
               ? nullptr
               : &world.records[static_cast<std::size_t>(world.random.below(world.record_count))];
}

// --- Money and callbacks -----------------------------------------------------------------------

void pay(World& world) noexcept {
    const int payment = any_payment(world);
    Truth& truth = world.truths[static_cast<std::size_t>(payment)];
    if (truth.arrived == 0) {
        truth.arrived = world.random.one_in(16) ? price - 10 : price;
        world.tell("customer: pays %d as payment %d", static_cast<int>(truth.arrived), payment);
    }
}

void tell_success(World& world) noexcept {
    const int payment = any_payment(world);
    if (world.truths[static_cast<std::size_t>(payment)].arrived > 0) {
        begin_callback(world, payment, true);
    }
}

void tell_failure(World& world) noexcept {
    begin_callback(world, any_payment(world), false);
}

void commit_any(World& world) noexcept {
    for (Transaction& transaction : world.transactions) {
        if (transaction.open && world.random.one_in(2)) {
            commit_callback(world, transaction);
        }
    }
}

void request_part(World& world) noexcept {
    request_refund(world, any_payment(world), world.random.one_in(2) ? price / 2 : price / 5);
}

void queue_forgotten(World& world) noexcept {
    queue_forgotten_refund(world, any_payment(world));
}

// --- Servers -----------------------------------------------------------------------------------

void replicate(World& world) noexcept {
    if (world.synchronous && world.standby.lsn != world.primary.lsn) {
        world.standby.copy_from(world.primary);
    }
}

// What was only in the memory of the server's processes.
void lose_memory(World& world) noexcept {
    world.transactions = {};
    for (Acknowledgement& made : world.acknowledgements) {
        made.waiting = false;
    }
    world.unqueued = {};
}

void crash(World& world) noexcept {
    world.tell("the server crashes and starts again");
    ++world.counts.crashes;
    lose_memory(world);
    world.workers = {};
    start_worker(world, false);
}

// The primary is gone, or cut off: its worker may go on with what it has, and what it commits is
// seen by nobody.
void promote(World& world) noexcept {
    if (!world.synchronous) {
        return;
    }
    world.tell("the standby is promoted: %d commits are lost",
               static_cast<int>(world.primary.lsn - world.standby.lsn));
    ++world.counts.promotions;
    lose_memory(world);
    world.primary.copy_from(world.standby);
    world.promoted_lsn = world.standby.lsn;
    ++world.epoch;
    world.skew = world.random.between(-largest_skew, largest_skew);
    world.workers[1].alive = false;
    start_worker(world, world.random.one_in(2));
}

void replace_worker(World& world) noexcept {
    start_worker(world, world.random.one_in(2));
}

void end_zombie(World& world) noexcept {
    world.workers[1].alive = false;
}

// --- Workers -----------------------------------------------------------------------------------

void sweep_any(World& world) noexcept {
    sweep(world, any_worker(world));
}
void claim_any(World& world) noexcept {
    Worker& worker = any_worker(world);
    if (worker.sweep_due) {
        sweep(world, worker);
    }
    claim(world, worker);
}
void pass_any_barrier(World& world) noexcept {
    pass_barrier(world, any_worker(world));
}
void start_any(World& world) noexcept {
    start_calls(world, any_worker(world));
}

// In the order in which the answers came, or not: locked rows are put off.
void record_any(World& world) noexcept {
    Worker& worker = any_worker(world);
    for (HeldCall& held : worker.calls) {
        if (held.state == CallState::answered && !world.random.one_in(4)) {
            record_answer(world, worker, held);
        }
    }
}

// Out of memory, or its row cannot be written: the answer is lost, the lease stays.
void lose_answer(World& world) noexcept {
    Worker& worker = any_worker(world);
    HeldCall& held = worker.calls[static_cast<std::size_t>(world.random.below(max_calls))];
    if (held.state == CallState::answered) {
        held.state = CallState::none;
    }
}

// --- Network and gateways ----------------------------------------------------------------------

void deliver_any(World& world) noexcept {
    if (world.message_count > 0) {
        const int message = world.random.below(world.message_count);
        if (world.messages[static_cast<std::size_t>(message)].not_before <= world.now) {
            deliver(world, message);
        }
    }
}

void duplicate_any(World& world) noexcept {
    if (world.message_count > 0) {
        const Message copy =
            world.messages[static_cast<std::size_t>(world.random.below(world.message_count))];
        post(world, copy);
    }
}

void lose_any(World& world) noexcept {
    if (world.message_count > 0) {
        world.tell("the network loses something");
        drop(world, world.random.below(world.message_count));
    }
}

void work_on(World& world) noexcept {
    if (Record* record = any_record(world)) {
        finish_work(world, *record);
    }
}

void settle_any(World& world) noexcept {
    if (Record* record = any_record(world)) {
        settle_accepted(world, *record);
    }
}

void bounce_any(World& world) noexcept {
    if (Record* record = any_record(world)) {
        bounce(world, *record);
    }
}

void send_any_news(World& world) noexcept {
    if (world.record_count > 0) {
        send_news(world, world.random.below(world.record_count));
    }
}

// --- Clocks ------------------------------------------------------------------------------------

void pass_moment(World& world) noexcept {
    pass_time(world, world.random.between(ms, 4 * second));
}

Time until_next_due(const World& world) noexcept {
    Time due = minute;
    bool any = false;
    for (int i = 0; i < world.primary.refund_count; ++i) {
        const RefundRow& row = world.primary.refunds[static_cast<std::size_t>(i)];
        if (!core::is_settled(row.status)) {
            const Time left = row.next_attempt_at - world.database_now();
            due = any ? std::min(due, left) : left;
            any = true;
        }
    }
    return std::max<Time>(due, 0) + 1;
}

void pass_to_next_due(World& world) noexcept {
    pass_time(world, std::min(until_next_due(world), 2 * hour));
}

void pass_minutes(World& world) noexcept {
    pass_time(world, world.random.between(second, 10 * minute));
}

// To about the time at which a gateway forgets a key: an hour earlier payonce must have stopped.
Time until_forgotten(World& world) noexcept {
    const RefundRow* sent = nullptr;
    for (int i = 0; i < world.primary.refund_count; ++i) {
        const RefundRow& row = world.primary.refunds[static_cast<std::size_t>(i)];
        if (row.key_sent_at && !core::is_settled(row.status) &&
            world.policies[static_cast<std::size_t>(row.payment)].idempotency_horizon > 0) {
            sent = &row;
        }
    }
    return sent == nullptr ? 0
                           : *sent->key_sent_at + key_memory - world.database_now() +
                                 world.random.between(-90 * minute, 30 * minute);
}

void pass_hours(World& world) noexcept {
    const Time forgotten = until_forgotten(world);
    const Time pause =
        forgotten > 0 && world.random.one_in(2)
            ? forgotten
            : world.random.between(hour, world.random.one_in(4) ? 200 * hour : 26 * hour);
    world.tell("%d minutes pass", static_cast<int>(pause / minute));
    pass_time(world, pause);
}

void set_clock(World& world) noexcept {
    world.skew = world.random.between(-largest_skew, largest_skew);
    world.tell("the server's clock is set: now %d s off", static_cast<int>(world.skew / second));
}

// --- People ------------------------------------------------------------------------------------

// refund_retry is safe for who has not looked, too; but not past the horizon, where it means "I
// have looked for it".
void retry_any(World& world) noexcept {
    RefundRow* row = any_refund_in_attention(world);
    if (row == nullptr || (row->number_dead && world.primary.refund_count >= enough_refunds)) {
        return;
    }
    const Time now = world.database_now();
    const bool new_key =
        core::is_beyond_horizon(row->facts(now), policy_of(world, row->payment), now);
    if (!new_key ||
        (look_at(world, row->number) == Look::nothing && !is_on_its_way(world, row->number))) {
        retry_refund(world, *row);
    }
}

void resolve_any(World& world) noexcept {
    RefundRow* row = any_refund_in_attention(world);
    if (row == nullptr || is_on_its_way(world, row->number)) {
        return;
    }
    const Look found = look_at(world, row->number);
    if (found != Look::under_way) {
        resolve_refund(world, *row, found == Look::paid);
    }
}

void refund_any_payment(World& world) noexcept {
    if (world.primary.refund_count < enough_refunds) {
        refund_payment(world, any_payment(world));
    }
}

// --- The events and how often they come --------------------------------------------------------

struct Event {
    void (*happen)(World&) noexcept;
    int weight;
    bool may_be_left_out;  // a schedule without it goes where others rarely go
};

constexpr Event events[] = {
    {pay, 6, false},
    {tell_success, 10, false},
    {tell_failure, 2, true},
    {commit_any, 12, false},
    {accept_acknowledgements, 8, true},
    {close_order, 1, true},
    {request_part, 2, true},
    {queue_forgotten, 1, true},
    {replicate, 16, true},
    {promote, 2, true},
    {crash, 2, true},
    {replace_worker, 3, true},
    {end_zombie, 1, true},
    {sweep_any, 2, true},
    {claim_any, 28, false},
    {pass_any_barrier, 24, false},
    {start_any, 24, false},
    {record_any, 24, false},
    {lose_answer, 1, true},
    {deliver_any, 40, false},
    {duplicate_any, 2, true},
    {lose_any, 2, true},
    {work_on, 4, true},
    {settle_any, 4, true},
    {bounce_any, 1, true},
    {send_any_news, 4, true},
    {pass_moment, 6, true},
    {pass_to_next_due, 18, true},
    {pass_minutes, 4, true},
    {pass_hours, 3, true},
    {set_clock, 1, true},
    {retry_any, 5, true},
    {resolve_any, 2, true},
    {refund_any_payment, 2, true},
};

constexpr int weight_of_all() noexcept {
    int all = 0;
    for (const Event& event : events) {
        all += event.weight;
    }
    return all;
}

// Which event a draw stands for.
using Wheel = std::array<std::uint8_t, weight_of_all()>;

constexpr Wheel make_wheel() noexcept {
    Wheel wheel = {};
    std::size_t slot = 0;
    for (std::size_t event = 0; event < std::size(events); ++event) {
        for (int i = 0; i < events[event].weight; ++i) {
            wheel[slot++] = static_cast<std::uint8_t>(event);
        }
    }
    return wheel;
}
constexpr Wheel wheel = make_wheel();

// Most schedules begin where it becomes interesting: an order is paid twice, one refund is queued.
void open_with_duplicate(World& world) noexcept {
    for (int payment = 0; payment < 2; ++payment) {
        world.truths[static_cast<std::size_t>(payment)].arrived = price;
        begin_callback(world, payment, true);
        commit_callback(world, world.transactions[0]);
    }
    replicate(world);
    accept_acknowledgements(world);
}

void disturb(World& world) noexcept {
    const std::uint64_t left_out = world.random.next() & world.random.next();
    if (!world.random.one_in(4)) {
        open_with_duplicate(world);
    }
    const int count = fewest_events + world.random.below(most_events - fewest_events);
    for (int i = 0; i < count && world.violation == nullptr; ++i) {
        const std::size_t event =
            wheel[static_cast<std::size_t>(world.random.below(static_cast<int>(wheel.size())))];
        if (events[event].may_be_left_out && (left_out >> event & 1U) != 0) {
            continue;
        }
        events[event].happen(world);
        ++world.counts.events;
        check_event(world);
    }
}

// --- The end of all faults ---------------------------------------------------------------------

// Whoever is asked looks at the gateway, and ends what is in attention.
void help(World& world) noexcept {
    for (int i = 0; i < world.primary.refund_count; ++i) {
        RefundRow& row = world.primary.refunds[static_cast<std::size_t>(i)];
        if (row.status != RefundStatus::attention || is_on_its_way(world, row.number)) {
            continue;
        }
        const Look found = look_at(world, row.number);
        if (found == Look::paid) {
            resolve_refund(world, row, true);
        } else if (found == Look::nothing) {
            retry_refund(world, row);
        }
    }
    for (int i = 0; i < world.payment_count; ++i) {
        refund_payment(world, i);
    }
}

void finish_gateways(World& world) noexcept {
    for (int i = 0; i < world.record_count; ++i) {
        Record& record = world.records[static_cast<std::size_t>(i)];
        finish_work(world, record);
        settle_accepted(world, record);
        send_news(world, i);
    }
    for (int i = 0; i < world.payment_count; ++i) {
        const Truth& truth = world.truths[static_cast<std::size_t>(i)];
        if (truth.arrived > 0 && !truth.success_known) {
            begin_callback(world, i, true);
        }
    }
}

void finish_worker(World& world, Worker& worker) noexcept {
    sweep(world, worker);
    claim(world, worker);
    replicate(world);
    pass_barrier(world, worker);
    start_calls(world, worker);
    while (world.message_count > 0) {
        deliver(world, 0);
    }
    for (HeldCall& held : worker.calls) {
        if (held.state == CallState::answered) {
            record_answer(world, worker, held);
        }
    }
}

bool is_settled(const World& world) noexcept {
    for (int i = 0; i < world.primary.refund_count; ++i) {
        const RefundStatus status = world.primary.refunds[static_cast<std::size_t>(i)].status;
        if (status != RefundStatus::refunded && status != RefundStatus::cancelled) {
            return false;
        }
    }
    for (int i = 0; i < world.record_count; ++i) {
        if (world.records[static_cast<std::size_t>(i)].news_pending) {
            return false;
        }
    }
    for (int i = 0; i < world.payment_count; ++i) {
        const Truth& truth = world.truths[static_cast<std::size_t>(i)];
        const PaymentRow& row = world.primary.payments[static_cast<std::size_t>(i)];
        if ((truth.arrived > 0 && !truth.success_known) || row.status == PaymentStatus::attention) {
            return false;
        }
    }
    return true;
}

// From now on everything works. What was on its way may still arrive.
void calm_down(World& world) noexcept {
    world.tell("--- no more faults ---");
    world.quiet = true;
    end_zombie(world);
    for (int turn = 0; turn < most_quiet_turns && world.violation == nullptr; ++turn) {
        finish_gateways(world);
        for (Transaction& transaction : world.transactions) {
            if (transaction.open) {
                commit_callback(world, transaction);
            }
        }
        finish_worker(world, world.workers[0]);
        replicate(world);
        accept_acknowledgements(world);
        help(world);
        replicate(world);
        ++world.counts.events;
        check_event(world);
        if (is_settled(world)) {
            return;
        }
        pass_time(world, std::max(until_next_due(world), request_timeout / 4));
    }
    if (world.violation == nullptr) {
        world.violate("in the end everything is settled", "not after %d turns", most_quiet_turns);
    }
}

core::RetryPolicy draw_policy(World& world, Habit habit) noexcept {
    const core::GatewayTraits& traits = traits_of(habit);
    core::RetryPolicy policy;
    policy.retry_delay = second;
    policy.retry_delay_max = hour;
    policy.retry_for = world.random.one_in(4) ? 10 * minute : 7 * 24 * hour;
    policy.query_delay = traits.query_delay_s * second;
    policy.idempotency_horizon = traits.idempotency_horizon_s * second;
    return policy;
}

void draw_world(World& world) noexcept {
    world.payment_count = 2 + world.random.below(max_payments - 1);
    world.synchronous = world.random.one_in(2);
    world.now = 365 * 24 * hour;
    world.skew = world.random.between(-largest_skew, largest_skew);
    world.late_policy = world.random.one_in(2)
                            ? core::LatePolicy::refund
                            : static_cast<core::LatePolicy>(world.random.below(3));
    world.tell("%d payments; %s; late payments: %d", world.payment_count,
               world.synchronous ? "a synchronous standby" : "no standby",
               static_cast<int>(world.late_policy));
    for (int i = 0; i < world.payment_count; ++i) {
        const auto habit = static_cast<Habit>(world.random.below(3));
        world.truths[static_cast<std::size_t>(i)].habit = habit;
        world.policies[static_cast<std::size_t>(i)] = draw_policy(world, habit);
        world.tell("payment %d: its gateway %s", i, name_of(habit));
    }
    for (int number = 0; number < first_requested; ++number) {
        world.tracks[static_cast<std::size_t>(number)].payment =
            static_cast<std::int8_t>(number / generations);
    }
    start_worker(world, false);
}

}  // namespace

void run_schedule(World& world, std::uint64_t seed, Rules rules, std::string* story) noexcept {
    world = World{};
    world.random = Random(seed);
    world.rules = rules;
    world.story = story;
    draw_world(world);
    const Time start = world.now;
    disturb(world);
    if (world.violation == nullptr) {
        calm_down(world);
    }
    if (world.violation == nullptr) {
        check_end(world);
    }
    world.counts.simulated_s += (world.now - start) / second;
}

}  // namespace payonce::simulation
