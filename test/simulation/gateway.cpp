// The model of the gateways: what they do with a request, and what they say.
//
// They are as unkind as a gateway may be, and keep the one promise on which everything rests: under
// a number (and key) that they know, nothing happens twice. They do not look at how much was
// refunded before: under another number, or one that was forgotten, the money goes out again.
#include <algorithm>

#include "world.h"

namespace payonce::simulation {
namespace {

using core::AnswerFacts;
using core::Verdict;

Truth& truth_of(World& world, const Record& record) noexcept {
    return world.truths[static_cast<std::size_t>(world.tracks[record.number].payment)];
}

Verdict verdict_of(RecordState state) noexcept {
    switch (state) {
        case RecordState::working:
        case RecordState::error:
            break;
        case RecordState::accepted:
            return Verdict::processing;
        case RecordState::paid:
            return Verdict::succeeded;
        case RecordState::failed:
        case RecordState::bounced:
            return Verdict::failed;
        case RecordState::abnormal:
            return Verdict::abnormal;
    }
    return Verdict::unknown;
}

void make_news(World& world, Record& record) noexcept {
    record.news = verdict_of(record.state);
    record.news_pending = true;
    world.tell("gateway: %s has news: %s", NumberName(record.number).c_str(),
               core::name_of(record.news));
}

void pay_out(World& world, Record& record, RecordState state) noexcept {
    record.state = state;
    record.was_paid = true;
    ++world.counts.payouts;
    truth_of(world, record).paid_out += record.amount;
    world.tell("gateway: %s: %d go back", NumberName(record.number).c_str(),
               static_cast<int>(record.amount));
}

// Refunds may fail, as long as the model has room for those that replace them.
bool may_fail(const World& world) noexcept {
    return !world.quiet && world.primary.refund_count < enough_refunds;
}

// A request is carried out: at once, or after it was found to be slow.
void carry_out(World& world, Record& record) noexcept {
    const int chance = world.quiet ? 15 : world.random.below(16);
    if (chance == 0 && may_fail(world)) {
        record.state = RecordState::failed;
        world.tell("gateway: %s has failed", NumberName(record.number).c_str());
    } else if (chance == 1 && may_fail(world)) {
        pay_out(world, record, RecordState::abnormal);
    } else if (chance == 2) {
        record.state = RecordState::error;
        record.error_stored = true;
        world.tell("gateway: %s ended in an error", NumberName(record.number).c_str());
    } else if (chance < 8) {
        record.state = RecordState::accepted;
        world.tell("gateway: %s is accepted", NumberName(record.number).c_str());
    } else {
        pay_out(world, record, RecordState::paid);
        if (world.random.one_in(2)) {
            make_news(world, record);
        }
    }
    record.stored = verdict_of(record.state);
    // It ends in an error although it was done.
    record.error_stored = record.error_stored || (!world.quiet && world.random.one_in(16));
}

// The record under the number and key of a call, unless it was forgotten.
Record* find_record(World& world, const Call& call, Habit habit) noexcept {
    for (int i = world.record_count - 1; i >= 0; --i) {
        Record& record = world.records[static_cast<std::size_t>(i)];
        const bool forgotten =
            habit == Habit::stripe && world.now >= record.first_seen + key_memory;
        if (record.number == call.number && record.variant == call.variant && !forgotten) {
            return &record;
        }
    }
    return nullptr;
}

// The same number and key again: nothing happens, and the answer says what is known.
AnswerFacts repeat(World& world, Record& record, Habit habit) noexcept {
    AnswerFacts answer;
    if (record.state == RecordState::working) {
        answer.verdict = habit == Habit::stripe ? Verdict::wait : Verdict::unknown;
        return answer;
    }
    if (habit == Habit::stripe) {
        // The answer that was stored under the key, whatever became of the refund since.
        answer.verdict = record.error_stored ? Verdict::unknown : record.stored;
        answer.when_unknown =
            record.error_stored ? core::WhenUnknown::new_key : core::WhenUnknown::resend;
        return answer;
    }
    if (record.state == RecordState::error) {
        carry_out(world, record);  // it is tried anew under its number
    }
    answer.verdict = verdict_of(record.state);
    return answer;
}

// Before anything is done with a request. False: there is no such answer.
bool turn_away(World& world, const Call& call, Habit habit, AnswerFacts* answer) noexcept {
    if (world.quiet) {
        return false;
    }
    switch (world.random.below(16)) {
        case 0:
            answer->verdict = Verdict::wait;
            answer->retry_after_s = world.random.below(120);
            return true;
        case 1:
            answer->verdict = Verdict::unknown;
            return true;
        case 2:
            if (!world.random.one_in(3)) {
                return false;
            }
            answer->verdict = Verdict::rejected;
            answer->confirm = !call.query && habit != Habit::generic && world.random.one_in(2);
            return true;
        default:
            return false;
    }
}

AnswerFacts refund(World& world, const Call& call, Habit habit) noexcept {
    AnswerFacts answer;
    if (Record* known = find_record(world, call, habit)) {
        return repeat(world, *known, habit);
    }
    if (turn_away(world, call, habit, &answer) || world.record_count == max_records) {
        return answer;
    }
    Record& record = world.records[static_cast<std::size_t>(world.record_count++)];
    record = Record{};
    record.number = call.number;
    record.variant = call.variant;
    record.amount = call.amount;
    record.first_seen = world.now;
    const Time lag = traits_of(habit).query_delay_s * second;
    record.visible_at =
        world.now + (habit == Habit::wechat && !world.quiet ? world.random.between(0, lag) : 0);
    if (!world.quiet && world.random.one_in(8)) {
        // Slow: it goes on after whoever asked has given up.
        world.tell("gateway: %s is slow", NumberName(record.number).c_str());
        return answer;
    }
    carry_out(world, record);
    answer.verdict = record.error_stored ? Verdict::unknown : record.stored;
    return answer;
}

// What a list by number shows. Two that are not dead under one number: a person must look.
AnswerFacts query(World& world, const Call& call, Habit habit) noexcept {
    AnswerFacts answer;
    if (turn_away(world, call, habit, &answer)) {
        return answer;
    }
    int live = 0;
    answer.verdict = Verdict::not_found;
    for (int i = 0; i < world.record_count; ++i) {
        const Record& record = world.records[static_cast<std::size_t>(i)];
        const bool shown = record.state != RecordState::working &&
                           record.state != RecordState::error && world.now >= record.visible_at;
        const bool ours = record.number == call.number &&
                          (habit == Habit::stripe || record.variant == call.variant);
        if (!shown || !ours) {
            continue;
        }
        const Verdict verdict = verdict_of(record.state);
        live += verdict == Verdict::failed ? 0 : 1;
        answer.verdict = live > 1                                 ? Verdict::abnormal
                         : verdict == Verdict::failed && live > 0 ? answer.verdict
                                                                  : verdict;
    }
    // A gateway that is careless with what it has accepted; not the one that forgets keys: there a
    // list is one of the two proofs that allow a new key.
    if (answer.verdict == Verdict::processing && habit != Habit::stripe && !world.quiet &&
        world.random.one_in(16)) {
        answer.verdict = Verdict::not_found;
    }
    return answer;
}

}  // namespace

const core::GatewayTraits& traits_of(Habit habit) noexcept {
    // The extension's own: with another horizon in a driver, other schedules are dangerous.
    static const std::array<core::GatewayTraits, 3> traits = {
        core::find_driver("payonce_http")->traits,
        core::find_driver("payonce_wechat")->traits,
        core::find_driver("payonce_stripe")->traits,
    };
    return traits[static_cast<std::size_t>(habit)];
}

const char* name_of(Habit habit) noexcept {
    switch (habit) {
        case Habit::generic:
            return "never forgets a number";
        case Habit::wechat:
            return "never forgets a number, shows late what it made";
        case Habit::stripe:
            return "counts keys, forgets them after 24 hours, repeats stored errors";
    }
    return "";
}

core::AnswerFacts handle(World& world, const Call& call) noexcept {
    const Habit habit =
        world.truths[static_cast<std::size_t>(world.tracks[call.number].payment)].habit;
    const AnswerFacts answer = call.query ? query(world, call, habit) : refund(world, call, habit);
    world.tell("gateway: %s %s: %s", call.query ? "asked about" : "to refund",
               NumberName(call.number).c_str(), core::name_of(answer.verdict));
    return answer;
}

// A slow request is done.
void finish_work(World& world, Record& record) noexcept {
    if (record.state == RecordState::working) {
        carry_out(world, record);
    }
}

void settle_accepted(World& world, Record& record) noexcept {
    if (record.state != RecordState::accepted) {
        return;
    }
    const int chance = world.quiet ? 15 : world.random.below(16);
    if (chance < 2 && may_fail(world)) {
        record.state = RecordState::failed;
    } else if (chance == 2 && may_fail(world)) {
        pay_out(world, record, RecordState::abnormal);
    } else {
        pay_out(world, record, RecordState::paid);
    }
    make_news(world, record);
}

// The bank sends it back. It takes days: whatever was said of it before has arrived.
void bounce(World& world, Record& record) noexcept {
    if (record.state == RecordState::paid && may_fail(world) &&
        !is_on_its_way(world, record.number)) {
        record.state = RecordState::bounced;
        truth_of(world, record).paid_out -= record.amount;
        make_news(world, record);
    }
}

// What a person finds in the gateway's console.
Look look_at(const World& world, Number number) noexcept {
    Look found = Look::nothing;
    for (int i = 0; i < world.record_count; ++i) {
        const Record& record = world.records[static_cast<std::size_t>(i)];
        if (record.number != number) {
            continue;
        }
        if (record.state == RecordState::paid || record.state == RecordState::abnormal) {
            return Look::paid;
        }
        if (record.state == RecordState::working || record.state == RecordState::accepted) {
            found = Look::under_way;
        }
    }
    return found;
}

}  // namespace payonce::simulation
