// The world of one schedule: a primary and its standby, workers, a network, gateways, clocks.
// Everything is plain data in fixed arrays: a schedule allocates nothing.
//
// What is simulated and what is not: the decisions are those of src/core, called, not copied. What
// src/pg does around them (which rows a claim takes, what is written when, who may write) is
// modelled in database.cpp and worker.cpp, next to the names of the functions it stands for.
//
// What the model assumes of the world, since payonce does too:
//  - a request is acted upon at most `longest_delay` after it was released, or never;
//  - a server's clock is off by at most `largest_skew`;
//  - who cancels a refund has looked at the gateway, and waited until nothing is on its way.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "core/decide.h"
#include "core/gateway.h"
#include "core/payment_standing.h"
#include "core/refund.h"
#include "core/states.h"
#include "random.h"
#include "rules.h"

namespace payonce::simulation {

using core::OrderStatus;
using core::PaymentStatus;
using core::RefundStatus;
using Time = core::Microseconds;
using Lsn = std::int64_t;

inline constexpr Time ms = 1000;
inline constexpr Time second = core::us_per_s;
inline constexpr Time minute = 60 * second;
inline constexpr Time hour = 60 * minute;

// Together they must stay within the hour between a driver's horizon and the gateway's memory.
inline constexpr Time longest_delay = 20 * minute;
inline constexpr Time largest_skew = 15 * minute;
inline constexpr Time request_timeout = 30 * second;
inline constexpr Time lease = 120 * second;
inline constexpr Time longest_unsent = 5 * second;
inline constexpr Time key_memory = 24 * hour;  // of a gateway that forgets

inline constexpr std::int64_t price = 100;

inline constexpr int max_payments = 3;
inline constexpr int max_refunds = 14;
inline constexpr int enough_refunds = 5;  // gateways let no further one fail: all must fit in
inline constexpr int max_records = 24;
inline constexpr int max_messages = 12;
inline constexpr int max_calls = 4;

// --- Numbers of refunds ------------------------------------------------------------------------

// Automatic ones are <payment>-R<generation>, thus the same again after a failover that forgot
// them; requested ones are random, thus never the same: here they count up in the world, not in a
// database.
using Number = std::uint8_t;
inline constexpr int generations = 16;
inline constexpr int first_requested = max_payments * generations;
inline constexpr int max_numbers = 80;

constexpr Number automatic_number(int payment, int generation) noexcept {
    return static_cast<Number>(payment * generations + generation);
}
constexpr bool is_automatic(Number number) noexcept {
    return number < first_requested;
}

// For the story: p0-R1, or p-Q07.
struct NumberName {
    char text[8];
    explicit constexpr NumberName(Number number) noexcept
        : text{'p', '-', 'Q', static_cast<char>('0' + number / 10),
               static_cast<char>('0' + number % 10)} {
        if (is_automatic(number)) {
            const char generation = static_cast<char>(number % generations);
            text[1] = static_cast<char>('0' + number / generations);
            text[2] = '-';
            text[3] = 'R';
            text[4] = static_cast<char>(generation < 10 ? '0' + generation : 'a' + generation - 10);
        }
    }
    const char* c_str() const noexcept { return text; }
};

// --- The database ------------------------------------------------------------------------------

struct OrderRow {
    OrderStatus status = OrderStatus::unpaid;
    int paid_by = -1;
    int version = 0;  // who writes it has seen its last one, or fails (40001)
};

struct PaymentRow {
    PaymentStatus status = PaymentStatus::paying;
    int transaction = 0;           // 0: unknown
    std::int64_t paid_amount = 0;  // 0: not said
    bool conflict = false;         // of attention: another transaction
    bool contradiction = false;    // of attention: a cancelled or failed refund succeeded
    int version = 0;

    std::int64_t arrived() const noexcept { return paid_amount > 0 ? paid_amount : price; }
};

struct RefundRow {
    Number number = 0;
    std::int8_t payment = 0;
    bool ask_first = false;
    bool number_dead = false;
    // Not a column: the gateway's last word was no, so only a person may have it sent again. It is
    // here since a failover may forget an answer; then the gateway is asked.
    bool refused = false;
    RefundStatus status = RefundStatus::queued;
    core::WhenUnknown when_unknown = core::WhenUnknown::resend;
    std::int32_t attempts = 0;
    std::int32_t failed_attempts = 0;
    std::int32_t key_generation = 1;
    std::int64_t amount = 0;
    Time next_attempt_at = 0;
    std::optional<Time> retry_since;
    std::optional<Time> accepted_at;
    std::optional<Time> sent_at;
    std::optional<Time> key_sent_at;
    std::optional<Time> lease_until;
    std::optional<std::int64_t> lease_owner;

    core::RefundFacts facts(Time now) const noexcept;
};

struct Database {
    OrderRow order;
    std::array<PaymentRow, max_payments> payments;
    Lsn lsn = 0;  // of the last commit
    int refund_count = 0;
    std::array<RefundRow, max_refunds> refunds;

    RefundRow* find(Number number) noexcept;
    const RefundRow* find(Number number) const noexcept;
    core::RefundSums sums(int payment) const noexcept;
    // Only the rows that there are.
    void copy_from(const Database& other) noexcept;
};

// --- Calls, workers, the network ---------------------------------------------------------------

struct Call {
    Number number = 0;
    bool query = false;
    // The idempotency key: for gateways that count keys; 0 where the number is the key.
    std::int32_t variant = 0;
    std::int32_t attempt = 0;
    std::int64_t amount = 0;
    Time claimed_at = 0;   // by the database's clock
    Time released_at = 0;  // by the true one: may be sent from now on
};

enum class CallState : std::uint8_t { none, claimed, released, in_flight, answered };

struct HeldCall {
    CallState state = CallState::none;
    Call call;
    Lsn lsn = 0;  // of its claim
    core::AnswerFacts answer;
};

struct Worker {
    bool alive = false;
    bool sweep_due = false;
    int epoch = 0;  // of the primary it is connected to
    std::int64_t lease_owner = 0;
    std::array<HeldCall, max_calls> calls;
};

enum class MessageKind : std::uint8_t { request, answer, news };

struct Message {
    MessageKind kind = MessageKind::request;
    Call call;
    std::int64_t worker = 0;  // whose call it is
    core::AnswerFacts answer;
    int record = -1;  // of news
    Time not_before = 0;
};

// --- The gateways and the truth ----------------------------------------------------------------

enum class Habit : std::uint8_t { generic, wechat, stripe };
const core::GatewayTraits& traits_of(Habit habit) noexcept;
const char* name_of(Habit habit) noexcept;

enum class RecordState : std::uint8_t {
    working,   // being carried out, shown to nobody yet
    error,     // it ended in an error and no money left
    accepted,  // later it is paid, or fails
    paid,
    failed,    // and the number is dead
    abnormal,  // the money left and did not arrive
    bounced,   // it was paid and came back: the number is dead
};

// What a gateway has under one number and key.
struct Record {
    Number number = 0;
    RecordState state = RecordState::working;
    bool was_paid = false;
    bool error_stored = false;  // the answer under the key is an error, whatever came of it
    bool news_pending = false;
    core::Verdict stored = core::Verdict::unknown;
    core::Verdict news = core::Verdict::unknown;
    std::int32_t variant = 0;
    std::int64_t amount = 0;
    Time first_seen = 0;
    Time visible_at = 0;  // to queries
};

struct Truth {
    Habit habit = Habit::generic;
    std::int64_t arrived = 0;    // 0: the customer has not paid
    bool success_known = false;  // it was acknowledged to the gateway
    std::int64_t requested = 0;  // refunds that people asked for
    std::int64_t paid_out = 0;   // what went back and stayed there
};

// What was seen of a number from outside.
struct Track {
    std::int8_t payment = -1;
    // The last attempt whose request may have left, and the last one at which it was known that
    // none before had an effect yet: the gateway did not know the number, or let it wait.
    std::int32_t last_released = 0;
    std::int32_t cleared_at = 0;
};

// --- Transactions of the application -----------------------------------------------------------

struct Transaction {
    bool open = false;
    bool success = false;
    int payment = 0;
    int transaction = 0;
    std::int64_t amount = 0;
    // What its snapshot shows: decided on, however old it is at the commit.
    OrderRow order;
    PaymentRow row;
};

// A gateway waits for its answer: true when the commit that says so is where it must be.
struct Acknowledgement {
    bool waiting = false;
    int payment = -1;  // or
    int record = -1;
    core::Verdict verdict = core::Verdict::unknown;
    Lsn lsn = 0;
};

// What happened in one or many schedules: a run in which little happens proves little.
struct Counts {
    std::int64_t events = 0;
    std::int64_t simulated_s = 0;
    std::int64_t payouts = 0;
    std::int64_t repetitions = 0;    // requests that were sent again
    std::int64_t not_its_lease = 0;  // answers of an attempt that no longer held the lease
    std::int64_t attention = 0;      // refunds that went to a person
    std::int64_t crashes = 0;
    std::int64_t promotions = 0;

    void add(const Counts& other) noexcept;
};

// --- The world ---------------------------------------------------------------------------------

struct World {
    Random random = Random(0);
    Rules rules;
    std::string* story = nullptr;       // null: nobody listens
    const char* violation = nullptr;    // the invariant that was broken
    std::array<char, 160> detail = {};  // in numbers
    Counts counts;

    Time now = 0;   // the true one
    Time skew = 0;  // of the primary's clock
    bool quiet = false;

    bool synchronous = false;  // there is a standby, and commits wait for it
    int epoch = 0;             // counts promotions
    Database primary;
    Database standby;
    Lsn promoted_lsn = 0;  // the last commit of the former primary that survived

    int payment_count = 2;
    core::LatePolicy late_policy = core::LatePolicy::refund;
    std::array<Truth, max_payments> truths;
    std::array<core::RetryPolicy, max_payments> policies;
    std::array<bool, max_payments> unqueued = {};  // without one_commit: refunds still to be queued

    std::array<Worker, 2> workers;  // the worker; one that should be gone
    std::int64_t last_lease_owner = 0;
    std::array<Transaction, 2> transactions;
    std::array<Acknowledgement, 4> acknowledgements;

    int message_count = 0;
    std::array<Message, max_messages> messages;
    int record_count = 0;
    std::array<Record, max_records> records;
    std::array<Track, max_numbers> tracks;
    int next_requested = first_requested;

    Time database_now() const noexcept { return now + skew; }
    bool standby_has(Lsn lsn) const noexcept { return !synchronous || standby.lsn >= lsn; }
    [[gnu::format(printf, 2, 3)]] void tell(const char* format, ...) noexcept;
    // The first one counts.
    [[gnu::format(printf, 3, 4)]] void violate(const char* invariant, const char* format,
                                               ...) noexcept;
};

// database.cpp: what the SQL functions do.
void commit(World& world) noexcept;
bool set_refund_status(World& world, RefundRow& row, RefundStatus status) noexcept;
void write_refund_step(World& world, RefundRow& row, const core::RefundStep& step,
                       bool forget_key) noexcept;
void apply_refund_step(World& world, RefundRow& row, const core::RefundStep& step,
                       bool forget_key) noexcept;
void begin_callback(World& world, int payment, bool success) noexcept;
void commit_callback(World& world, Transaction& transaction) noexcept;
void queue_forgotten_refund(World& world, int payment) noexcept;
void close_order(World& world) noexcept;
void request_refund(World& world, int payment, std::int64_t amount) noexcept;
void apply_refund_news(World& world, int record, core::Verdict verdict) noexcept;
void retry_refund(World& world, RefundRow& row) noexcept;
void resolve_refund(World& world, RefundRow& row, bool refunded) noexcept;
void refund_payment(World& world, int payment) noexcept;
core::RetryPolicy policy_of(const World& world, int payment) noexcept;

// worker.cpp
void start_worker(World& world, bool leaves_zombie) noexcept;
void sweep(World& world, Worker& worker) noexcept;
void claim(World& world, Worker& worker) noexcept;
void pass_barrier(World& world, Worker& worker) noexcept;
void start_calls(World& world, Worker& worker) noexcept;
void record_answer(World& world, Worker& worker, HeldCall& held) noexcept;
void time_out(World& world) noexcept;

// gateway.cpp
core::AnswerFacts handle(World& world, const Call& call) noexcept;
void finish_work(World& world, Record& record) noexcept;
void settle_accepted(World& world, Record& record) noexcept;
void bounce(World& world, Record& record) noexcept;
enum class Look : std::uint8_t { nothing, under_way, paid };
Look look_at(const World& world, Number number) noexcept;

// network.cpp
void deliver(World& world, int message) noexcept;
void drop(World& world, int message) noexcept;
// On the true clock; what has been on its way for too long arrives before, or never.
void pass_time(World& world, Time duration) noexcept;
void post(World& world, const Message& message) noexcept;
bool is_on_its_way(const World& world, Number number) noexcept;
void send_news(World& world, int record) noexcept;
void accept_acknowledgements(World& world) noexcept;

// schedule.cpp
// The world of a seed from its beginning until everything is settled, or a violation.
void run_schedule(World& world, std::uint64_t seed, Rules rules, std::string* story) noexcept;

// invariants.cpp
void check_event(World& world) noexcept;
void check_end(World& world) noexcept;

}  // namespace payonce::simulation
