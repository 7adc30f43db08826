// The model of the network: a bag of messages out of which any may come next, twice, or never.
#include "world.h"

namespace payonce::simulation {
namespace {

void deliver_answer(World& world, const Message& message) noexcept {
    for (Worker& worker : world.workers) {
        if (!worker.alive || worker.lease_owner != message.worker) {
            continue;
        }
        for (HeldCall& held : worker.calls) {
            if (held.state == CallState::in_flight && held.call.number == message.call.number &&
                held.call.attempt == message.call.attempt) {
                held.state = CallState::answered;
                held.answer = message.answer;
                return;
            }
        }
    }
    // Nobody waits for it any more.
}

bool is_overdue(const Message& message, Time then) noexcept {
    return then > message.call.released_at + longest_delay;
}

// Of what would be overdue by `then`, a part arrives in the last moment.
void clear_overdue(World& world, Time then) noexcept {
    for (Worker& worker : world.workers) {
        for (const HeldCall& held : worker.calls) {
            if (worker.alive && held.state == CallState::released &&
                then > held.call.released_at + longest_delay) {
                start_calls(world, worker);
            }
        }
    }
    for (int i = 0; i < world.message_count;) {
        if (!is_overdue(world.messages[static_cast<std::size_t>(i)], then)) {
            ++i;
        } else if (world.random.one_in(2)) {
            deliver(world, i);
            i = 0;  // it may have been answered
        } else {
            drop(world, i);
        }
    }
    for (int i = 0; i < world.record_count; ++i) {
        Record& record = world.records[static_cast<std::size_t>(i)];
        if (then > record.first_seen + longest_delay) {
            finish_work(world, record);
        }
    }
}

}  // namespace

void post(World& world, const Message& message) noexcept {
    if (world.message_count == max_messages) {
        return;
    }
    Message& posted = world.messages[static_cast<std::size_t>(world.message_count++)];
    posted = message;
    // Some are slow: much that was sent later overtakes them.
    posted.not_before = world.quiet || !world.random.one_in(8)
                            ? 0
                            : world.now + world.random.between(0, longest_delay);
}

void drop(World& world, int message) noexcept {
    // Their order means nothing.
    world.messages[static_cast<std::size_t>(message)] =
        world.messages[static_cast<std::size_t>(--world.message_count)];
}

void deliver(World& world, int message) noexcept {
    Message delivered = world.messages[static_cast<std::size_t>(message)];
    drop(world, message);
    switch (delivered.kind) {
        case MessageKind::request:
            delivered.answer = handle(world, delivered.call);
            delivered.kind = MessageKind::answer;
            post(world, delivered);
            break;
        case MessageKind::answer:
            deliver_answer(world, delivered);
            break;
        case MessageKind::news:
            apply_refund_news(world, delivered.record, delivered.answer.verdict);
            break;
    }
}

void pass_time(World& world, Time duration) noexcept {
    clear_overdue(world, world.now + duration);
    world.now += duration;
    time_out(world);
}

bool is_on_its_way(const World& world, Number number) noexcept {
    for (int i = 0; i < world.message_count; ++i) {
        if (world.messages[static_cast<std::size_t>(i)].call.number == number) {
            return true;
        }
    }
    for (const Worker& worker : world.workers) {
        for (const HeldCall& held : worker.calls) {
            if (worker.alive && held.state != CallState::none && held.call.number == number) {
                return true;
            }
        }
    }
    return false;
}

// A notification leaves the gateway, which repeats it until it is acknowledged.
void send_news(World& world, int record) noexcept {
    const Record& told = world.records[static_cast<std::size_t>(record)];
    if (!told.news_pending) {
        return;
    }
    Message message;
    message.kind = MessageKind::news;
    message.call.number = told.number;
    message.call.released_at = world.now;
    message.answer.verdict = told.news;
    message.record = record;
    post(world, message);
}

// The answers to the gateways' news, as soon as the commits behind them are where they must be.
void accept_acknowledgements(World& world) noexcept {
    for (Acknowledgement& made : world.acknowledgements) {
        if (!made.waiting || !world.standby_has(made.lsn)) {
            continue;
        }
        made.waiting = false;
        if (made.payment >= 0) {
            world.truths[static_cast<std::size_t>(made.payment)].success_known = true;
            world.tell("gateway: payment %d is acknowledged", made.payment);
        } else {
            Record& record = world.records[static_cast<std::size_t>(made.record)];
            record.news_pending = record.news_pending && record.news != made.verdict;
        }
    }
}

}  // namespace payonce::simulation
