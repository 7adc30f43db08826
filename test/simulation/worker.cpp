// The model of the worker: src/pg/worker.cpp, claim.cpp, recovery.cpp, apply.cpp.
#include <algorithm>

#include "world.h"

namespace payonce::simulation {
namespace {

using core::CallKind;
using core::Verdict;

bool is_connected(const World& world, const Worker& worker) noexcept {
    return worker.alive && worker.epoch == world.epoch;
}

HeldCall* free_slot(Worker& worker) noexcept {
    for (HeldCall& held : worker.calls) {
        if (held.state == CallState::none) {
            return &held;
        }
    }
    return nullptr;
}

// is_in_hand of recovery.cpp.
bool is_in_hand(const Worker& worker, const RefundRow& row) noexcept {
    return row.lease_owner == worker.lease_owner &&
           std::any_of(worker.calls.begin(), worker.calls.end(), [&](const HeldCall& held) {
               return held.state != CallState::none && held.call.number == row.number &&
                      held.call.attempt == row.attempts;
           });
}

bool is_in_flight(const Worker& worker, Number number) noexcept {
    return std::any_of(worker.calls.begin(), worker.calls.end(), [&](const HeldCall& held) {
        return (held.state == CallState::released || held.state == CallState::in_flight) &&
               held.call.number == number;
    });
}

// What the call carries to the gateway as its identity.
std::int32_t variant_of(const World& world, const RefundRow& row) noexcept {
    const Truth& truth = world.truths[static_cast<std::size_t>(row.payment)];
    const std::int32_t key = truth.habit == Habit::stripe ? row.key_generation : 0;
    return world.rules.kept(Rule::same_number) ? key : key + 16 * row.attempts;
}

// An invariant of its own: what the last request may have done is known before the next is decided
// on. Seen from outside, by what was sent and what answered.
void check_repetition(World& world, const RefundRow& row) noexcept {
    const Track& track = world.tracks[row.number];
    if (track.last_released > track.cleared_at) {
        world.violate("nothing is sent again before its gateway does not know it",
                      "refund %d, attempt %d may have left", row.number, track.last_released);
    }
    if (row.refused) {
        world.violate("what was refused is not sent again by a program", "refund %d", row.number);
    }
}

// PAYONCE_TAKE of claim.cpp, for one row.
void take(World& world, Worker& worker, RefundRow& row, bool is_query, HeldCall& held) noexcept {
    const Time now = world.database_now();
    if (!is_query) {
        check_repetition(world, row);
    }
    const bool was_queued = row.status == RefundStatus::queued;
    if (was_queued) {
        set_refund_status(world, row, RefundStatus::sending);
    }
    row.attempts += 1;
    row.retry_since = row.retry_since ? *row.retry_since + (now - row.next_attempt_at) : now;
    row.ask_first = was_queued && is_query;
    if (!is_query) {
        row.sent_at = now;
        row.key_sent_at = row.key_sent_at.value_or(now);
        row.when_unknown = core::WhenUnknown::resend;
    }
    row.next_attempt_at = now + lease;
    row.lease_until = now + lease;
    row.lease_owner = worker.lease_owner;
    held.state = CallState::claimed;
    held.call = {row.number, is_query, variant_of(world, row), row.attempts, row.amount, now, 0};
    held.answer = {};
    world.tell("worker %d claims %s: attempt %d, to %s", static_cast<int>(worker.lease_owner),
               NumberName(row.number).c_str(), row.attempts, is_query ? "ask" : "send");
}

// after_answer as the rules that are left out would have it.
core::RefundStep step_after_answer(const World& world, const RefundRow& row, const HeldCall& held,
                                   bool holds_lease, std::uint64_t random) noexcept {
    const Rules& rules = world.rules;
    const Time now = world.database_now();
    const core::RefundFacts facts = row.facts(now);
    core::AnswerFacts answer = held.answer;
    if (answer.verdict == Verdict::unknown) {
        answer.verdict =
            rules.kept(Rule::unknown_is_unknown) ? Verdict::unknown : Verdict::succeeded;
        answer.when_unknown =
            rules.kept(Rule::replay_proof) ? answer.when_unknown : core::WhenUnknown::new_key;
    }
    const CallKind kind = held.call.query ? CallKind::query : CallKind::refund;
    core::RefundStep step =
        core::after_answer(facts, kind, answer, holds_lease || !rules.kept(Rule::fencing),
                           policy_of(world, row.payment), {now, random});
    if (!holds_lease && !rules.kept(Rule::late_success)) {
        step.changes_nothing = true;
    }
    if (step.when_unknown == core::WhenUnknown::give_up && !rules.kept(Rule::refusal_stays)) {
        step.when_unknown = core::WhenUnknown::resend;
    }
    if (step.status == RefundStatus::processing && !rules.kept(Rule::accepted_stays)) {
        step.status = RefundStatus::unconfirmed;
    }
    const bool asks = !step.changes_nothing && step.status == RefundStatus::unconfirmed &&
                      facts.status == RefundStatus::sending;
    const bool wants_key = step.when_unknown == core::WhenUnknown::new_key;
    if (asks && (!rules.kept(Rule::ask_first) || (wants_key && !rules.kept(Rule::list_proof)))) {
        step.status = RefundStatus::queued;
        step.new_key = wants_key;
    }
    return step;
}

// Whether a person is asked for a reason that the rules know.
bool is_justified(const World& world, const RefundRow& row, const core::AnswerFacts& answer) {
    const Time now = world.database_now();
    const core::RefundFacts facts = row.facts(now);
    const core::RetryPolicy policy = policy_of(world, row.payment);
    switch (answer.verdict) {
        case Verdict::failed:
        case Verdict::abnormal:
        case Verdict::rejected:
            return true;
        case Verdict::not_found:
            if (facts.when_unknown == core::WhenUnknown::give_up ||
                core::is_beyond_horizon(facts, policy, now)) {
                return true;
            }
            break;
        default:
            break;
    }
    return now >= facts.retry_since + policy.retry_for;
}

void note_clearing(World& world, const HeldCall& held) noexcept {
    const Verdict verdict = held.answer.verdict;
    const bool clears = held.call.query ? verdict == Verdict::not_found
                                        : verdict == Verdict::wait || verdict == Verdict::not_sent;
    if (clears) {
        Track& track = world.tracks[held.call.number];
        track.cleared_at = std::max(track.cleared_at, held.call.attempt);
    }
}

// What the gateway says of a number as a whole.
void note_word(RefundRow& row, const HeldCall& held, bool holds_lease) noexcept {
    switch (held.answer.verdict) {
        case Verdict::rejected:
            row.refused = row.refused || (holds_lease && held.answer.confirm);
            break;
        case Verdict::processing:
        case Verdict::succeeded:
        case Verdict::failed:
        case Verdict::abnormal:
            row.refused = false;
            break;
        default:
            break;
    }
}

void check_accepted(World& world, const RefundRow& row, const HeldCall& held,
                    bool was_open) noexcept {
    if (was_open && held.answer.verdict == Verdict::processing &&
        row.status != RefundStatus::processing) {
        world.violate("what was accepted is processing", "refund %d is %d", row.number,
                      static_cast<int>(row.status));
    }
}

// That the money went back must not be forgotten, whoever said it.
void check_success_counts(World& world, const RefundRow& row) noexcept {
    if (row.status != RefundStatus::refunded &&
        !world.primary.payments[static_cast<std::size_t>(row.payment)].contradiction) {
        world.violate("a verified success of any attempt counts", "refund %d is %d", row.number,
                      static_cast<int>(row.status));
    }
}

void give_back(HeldCall& held) noexcept {
    held.state = CallState::answered;
    held.answer = {};
    held.answer.verdict = Verdict::not_sent;
}

}  // namespace

// The launcher starts a worker. Its predecessor is gone; or, as only an error could have it, it
// still runs and believes that it holds what it held.
void start_worker(World& world, bool leaves_zombie) noexcept {
    Worker& current = world.workers[0];
    if (leaves_zombie && current.alive) {
        world.workers[1] = current;
        world.tell("worker %d goes on as if it were not replaced",
                   static_cast<int>(current.lease_owner));
    }
    current = Worker{};
    current.alive = true;
    current.epoch = world.epoch;
    current.sweep_due = true;
    current.lease_owner = ++world.last_lease_owner;
    world.tell("worker %d starts", static_cast<int>(current.lease_owner));
}

// recover_lost_leases of recovery.cpp.
void sweep(World& world, Worker& worker) noexcept {
    if (!is_connected(world, worker)) {
        return;
    }
    worker.sweep_due = false;
    const Time now = world.database_now();
    for (int i = 0; i < world.primary.refund_count; ++i) {
        RefundRow& row = world.primary.refunds[static_cast<std::size_t>(i)];
        const bool in_hand = row.lease_owner || row.status == RefundStatus::sending;
        if (!in_hand || is_in_hand(worker, row)) {
            continue;
        }
        core::RefundStep step =
            core::after_lost_lease(row.facts(now), policy_of(world, row.payment),
                                   {std::min(now, row.lease_until.value_or(now)), 0});
        if (step.changes_nothing) {
            row.lease_owner = std::nullopt;
            row.lease_until = std::nullopt;
            continue;
        }
        if (!world.rules.kept(Rule::recovery_asks) && row.status == RefundStatus::sending) {
            step.status = RefundStatus::queued;
        }
        world.tell("worker %d takes over %s", static_cast<int>(worker.lease_owner),
                   NumberName(row.number).c_str());
        write_refund_step(world, row, step, false);
    }
    commit(world);
}

// PAYONCE_CANDIDATE of claim.cpp: due, and nobody holds it.
void claim(World& world, Worker& worker) noexcept {
    if (!is_connected(world, worker) || worker.sweep_due) {
        return;
    }
    const Time now = world.database_now();
    std::array<HeldCall*, max_calls> claimed = {};
    std::size_t count = 0;
    for (int i = 0; i < world.primary.refund_count; ++i) {
        RefundRow& row = world.primary.refunds[static_cast<std::size_t>(i)];
        if (core::is_settled(row.status) || row.status == RefundStatus::sending ||
            row.next_attempt_at > now || row.lease_owner) {
            continue;
        }
        HeldCall* held = free_slot(worker);
        if (held == nullptr) {
            break;
        }
        const bool accepted = row.status == RefundStatus::processing;
        const bool is_query =
            accepted
                ? world.rules.kept(Rule::accepted_is_polled)
                : row.status != RefundStatus::queued || row.ask_first ||
                      core::is_beyond_horizon(row.facts(now), policy_of(world, row.payment), now);
        take(world, worker, row, is_query, *held);
        claimed[count++] = held;
    }
    if (count == 0) {
        return;
    }
    commit(world);
    for (std::size_t i = 0; i < count; ++i) {
        claimed[i]->lsn = world.primary.lsn;
    }
}

// wait_for_standbys, then reason_to_give_back of worker.cpp. A worker of the former primary may
// still learn what was confirmed before the promotion.
void pass_barrier(World& world, Worker& worker) noexcept {
    for (HeldCall& held : worker.calls) {
        if (held.state != CallState::claimed) {
            continue;
        }
        const bool confirmed = worker.epoch == world.epoch ? world.standby_has(held.lsn)
                                                           : held.lsn <= world.promoted_lsn;
        if (!confirmed && world.rules.kept(Rule::barrier)) {
            continue;
        }
        if (world.database_now() > held.call.claimed_at + longest_unsent ||
            is_in_flight(worker, held.call.number)) {
            give_back(held);
            continue;
        }
        held.state = CallState::released;
        held.call.released_at = world.now;
        if (!held.call.query) {
            Track& track = world.tracks[held.call.number];
            world.counts.repetitions += track.last_released > 0 ? 1 : 0;
            track.last_released = std::max(track.last_released, held.call.attempt);
        }
    }
}

// bridge::start: the request leaves, or is seen not to.
void start_calls(World& world, Worker& worker) noexcept {
    for (HeldCall& held : worker.calls) {
        if (held.state != CallState::released) {
            continue;
        }
        if (!world.quiet && world.random.one_in(16)) {
            world.tell("worker %d cannot connect for %s", static_cast<int>(worker.lease_owner),
                       NumberName(held.call.number).c_str());
            give_back(held);
            continue;
        }
        held.state = CallState::in_flight;
        world.tell("worker %d %s %s", static_cast<int>(worker.lease_owner),
                   held.call.query ? "asks about" : "sends", NumberName(held.call.number).c_str());
        Message message;
        message.kind = MessageKind::request;
        message.call = held.call;
        message.worker = worker.lease_owner;
        post(world, message);
    }
}

// apply_finished of apply.cpp.
void record_answer(World& world, Worker& worker, HeldCall& held) noexcept {
    held.state = CallState::none;
    if (!is_connected(world, worker)) {
        return;
    }
    note_clearing(world, held);
    RefundRow* row = world.primary.find(held.call.number);
    if (row == nullptr) {
        return;
    }
    const bool holds_lease =
        row->lease_owner == worker.lease_owner && row->attempts == held.call.attempt;
    const core::RefundStep step =
        step_after_answer(world, *row, held, holds_lease, world.random.next());
    world.tell("worker %d records %s for %s, attempt %d%s", static_cast<int>(worker.lease_owner),
               core::name_of(held.answer.verdict), NumberName(row->number).c_str(),
               held.call.attempt, holds_lease ? "" : " (not its lease)");
    world.counts.not_its_lease += holds_lease ? 0 : 1;
    const bool goes_to_person = !step.changes_nothing && step.status == RefundStatus::attention &&
                                row->status != RefundStatus::attention;
    if (goes_to_person && !is_justified(world, *row, held.answer)) {
        world.violate("a person is asked only for a reason", "refund %d", row->number);
        return;
    }
    // forget_unsent of apply.cpp.
    const bool forget_key = step.unsent && row->key_sent_at == held.call.claimed_at;
    note_word(*row, held, holds_lease);
    const bool was_open = holds_lease && !core::is_settled(row->status);
    apply_refund_step(world, *row, step, forget_key);
    commit(world);
    check_accepted(world, *row, held, was_open);
    if (held.answer.verdict == Verdict::succeeded) {
        check_success_counts(world, *row);
    }
}

// Whoever has waited for longer than the request's timeout gives up, the gateway does not.
void time_out(World& world) noexcept {
    for (Worker& worker : world.workers) {
        for (HeldCall& held : worker.calls) {
            if (worker.alive && held.state == CallState::in_flight &&
                world.now > held.call.released_at + request_timeout) {
                held.state = CallState::answered;
                held.answer = {};
                world.tell("worker %d hears nothing about %s", static_cast<int>(worker.lease_owner),
                           NumberName(held.call.number).c_str());
            }
        }
    }
}

}  // namespace payonce::simulation
