#include "core/payment_standing.h"

#include "pg/pg.h"
#include "pg/statement.h"
#include "pg/store.h"

namespace payonce::pg {
namespace {

Statement select_standings = {
    "SELECT u.number, p.status, coalesce(p.paid_amount, p.price), p.attention,"
    " coalesce(o.paid_by = p.id, false), s.pending, s.refunded, s.attention"
    " FROM unnest($1) WITH ORDINALITY u (id, number)"
    " JOIN {s}.t_order_pay p ON p.id = u.id JOIN {s}.t_order o ON o.id = p.order_id"
    " CROSS JOIN LATERAL (SELECT"
    " coalesce(sum(r.amount) FILTER (WHERE r.status IN (0, 100, 150, 200)), 0)::bigint AS pending,"
    " coalesce(sum(r.amount) FILTER (WHERE r.status = 300), 0)::bigint AS refunded,"
    " coalesce(sum(r.amount) FILTER (WHERE r.status = 500), 0)::bigint AS attention"
    " FROM {s}.t_refund r WHERE r.payment_id = p.id) s",
    1,
    {TEXTARRAYOID}};
Statement update_standings = {
    "UPDATE {s}.t_order_pay p SET status = u.status, attention = u.attention, updated_at = now()"
    " FROM unnest($1, $2, $3) u (id, status, attention) WHERE p.id = u.id",
    3,
    {TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID}};

// A payment on its way to what its refunds say.
struct Move {
    std::string_view payment_id;
    core::PaymentStatus status;
    core::PaymentStatus target;
    std::optional<std::string_view> attention;
};

struct Moves {
    Move* moves;
    std::size_t count;
};

void add_move(Moves* moves, const StandingChange& change, const Standing& standing) {
    if (!core::has_succeeded(standing.status)) {
        return;
    }
    Move move = {change.payment_id, standing.status,
                 core::payment_status_after(standing.is_winner, standing.arrived, standing.sums),
                 without_attention(standing.attention, change.refund_no)};
    if (change.reason) {
        move.attention = with_attention(move.attention, *change.reason);
    }
    if (move.target != move.status || move.attention != standing.attention) {
        moves->moves[moves->count++] = move;
    }
}

Standing standing_in(std::uint64_t row) {
    Standing standing;
    standing.status = static_cast<core::PaymentStatus>(int_column(row, 2));
    standing.arrived = int64_column(row, 3);
    standing.attention = optional_text_column(row, 4);
    standing.is_winner = bool_column(row, 5);
    standing.sums.pending = int64_column(row, 6);
    standing.sums.refunded = int64_column(row, 7);
    standing.sums.attention = int64_column(row, 8);
    return standing;
}

void add_moves_to_be_read(Moves* moves, const char* schema, const StandingChange* changes,
                          std::size_t count) {
    ParameterRows payments(select_standings, count);
    auto* asked = static_cast<std::size_t*>(palloc(sizeof(std::size_t) * (count + 1)));
    for (std::size_t i = 0; i < count; ++i) {
        if (!changes[i].known) {
            Parameters row;
            row.add(changes[i].payment_id);
            asked[payments.count()] = i;
            payments.add(row);
        }
    }
    if (payments.count() == 0) {
        return;
    }
    Parameters parameters = payments.as_arrays();
    const std::uint64_t found = run(select_standings, schema, parameters);
    for (std::uint64_t row = 0; row < found; ++row) {
        add_move(moves, changes[asked[int64_column(row, 1) - 1]], standing_in(row));
    }
}

// One step of each towards its target; leaves in the list what has not arrived.
void write_steps(Moves* moves, const char* schema) {
    ParameterRows rows(update_standings, moves->count);
    std::size_t left = 0;
    for (std::size_t i = 0; i < moves->count; ++i) {
        Move move = moves->moves[i];
        move.status = core::payment_step_towards(move.status, move.target);
        Parameters row;
        row.add(move.payment_id).add(static_cast<int>(move.status)).add(move.attention);
        rows.add(row);
        if (move.status != move.target) {
            moves->moves[left++] = move;
        }
    }
    moves->count = left;
    write_rows(update_standings, schema, rows);
}

}  // namespace

void update_payment_standings(const char* schema, const StandingChange* changes,
                              std::size_t count) {
    Moves moves = {static_cast<Move*>(palloc(sizeof(Move) * (count + 1))), 0};
    for (std::size_t i = 0; i < count; ++i) {
        if (changes[i].known) {
            add_move(&moves, changes[i], *changes[i].known);
        }
    }
    add_moves_to_be_read(&moves, schema, changes, count);
    while (moves.count > 0) {
        write_steps(&moves, schema);
    }
}

void update_payment_standing(const char* schema, std::string_view payment_id,
                             std::string_view refund_no, std::optional<std::string_view> reason) {
    const StandingChange change = {payment_id, refund_no, reason, std::nullopt};
    update_payment_standings(schema, &change, 1);
}

}  // namespace payonce::pg
