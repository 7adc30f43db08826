// What must hold after every event, and what must hold in the end. Stated over what a bystander
// sees: the rows, and the money at the gateways.
#include "world.h"

namespace payonce::simulation {
namespace {

// The money. Of a winner, only what people asked for goes back.
void check_money(World& world) noexcept {
    for (int i = 0; i < world.payment_count; ++i) {
        const Truth& truth = world.truths[static_cast<std::size_t>(i)];
        if (truth.paid_out > truth.arrived) {
            world.violate("never more goes back than arrived", "payment %d: %d of %d", i,
                          static_cast<int>(truth.paid_out), static_cast<int>(truth.arrived));
        }
        if (world.primary.order.paid_by == i && truth.arrived != price) {
            world.violate("the winner has paid what the order costs", "payment %d: %d", i,
                          static_cast<int>(truth.arrived));
        }
        if (world.primary.order.paid_by == i && truth.paid_out > truth.requested) {
            world.violate("the winner is not refunded by itself", "payment %d: %d of %d", i,
                          static_cast<int>(truth.paid_out), static_cast<int>(truth.requested));
        }
    }
}

// The table of docs/states.md ("Once money has arrived"), in words of its own.
PaymentStatus expected_status(const World& world, int payment) noexcept {
    const Database& database = world.primary;
    const std::int64_t arrived = database.payments[static_cast<std::size_t>(payment)].arrived();
    const core::RefundSums sums = database.sums(payment);
    if (sums.pending + sums.refunded + sums.attention < arrived) {
        return database.order.paid_by == payment ? PaymentStatus::paid : PaymentStatus::attention;
    }
    return sums.attention > 0 ? PaymentStatus::attention
           : sums.pending > 0 ? PaymentStatus::refunding
                              : PaymentStatus::refunded;
}

void check_payments(World& world) noexcept {
    const Database& database = world.primary;
    int winners = 0;
    for (int i = 0; i < world.payment_count; ++i) {
        const PaymentRow& row = database.payments[static_cast<std::size_t>(i)];
        if (row.status == PaymentStatus::paid) {
            ++winners;
            if (database.order.paid_by != i) {
                world.violate("a payment that is kept is its order's", "payment %d", i);
            }
        }
        if (world.truths[static_cast<std::size_t>(i)].success_known &&
            !core::has_succeeded(row.status)) {
            world.violate("what was acknowledged is never lost", "payment %d is %d", i,
                          static_cast<int>(row.status));
        }
        if (core::has_succeeded(row.status) && row.status != expected_status(world, i)) {
            world.violate("a payment's status follows from its refunds", "payment %d is %d", i,
                          static_cast<int>(row.status));
        }
        const std::int64_t reserved = database.sums(i).reserved();
        if (reserved > row.arrived()) {
            world.violate("refunds do not exceed what arrived", "payment %d: %d", i,
                          static_cast<int>(reserved));
        }
    }
    if (winners > 1) {
        world.violate("an order has one winner", "%d have", winners);
    }
}

bool was_paid(const World& world, Number number) noexcept {
    for (int i = 0; i < world.record_count; ++i) {
        const Record& record = world.records[static_cast<std::size_t>(i)];
        if (record.number == number && record.was_paid) {
            return true;
        }
    }
    return false;
}

void check_refunds(World& world) noexcept {
    for (int i = 0; i < world.primary.refund_count; ++i) {
        const RefundRow& row = world.primary.refunds[static_cast<std::size_t>(i)];
        if (row.status == RefundStatus::refunded && !was_paid(world, row.number)) {
            world.violate("what counts as refunded was paid out", "refund %d", row.number);
        }
    }
    for (int number = 0; number < world.next_requested; ++number) {
        const std::int32_t released = world.tracks[static_cast<std::size_t>(number)].last_released;
        if (released == 0) {
            continue;
        }
        const RefundRow* row = world.primary.find(static_cast<Number>(number));
        if (row == nullptr || row->attempts < released) {
            world.violate("no request was sent that the primary does not know of",
                          "refund %d, attempt %d", number, released);
        }
    }
}

}  // namespace

void check_event(World& world) noexcept {
    check_money(world);
    check_payments(world);
    check_refunds(world);
}

// Everything is settled, and the rows and the gateways agree on every payment.
void check_end(World& world) noexcept {
    const Database& database = world.primary;
    for (int i = 0; i < database.refund_count; ++i) {
        const RefundRow& row = database.refunds[static_cast<std::size_t>(i)];
        if (row.status != RefundStatus::refunded && row.status != RefundStatus::cancelled) {
            world.violate("in the end every refund is settled", "refund %d is %d", row.number,
                          static_cast<int>(row.status));
        }
    }
    for (int i = 0; i < world.payment_count; ++i) {
        const Truth& truth = world.truths[static_cast<std::size_t>(i)];
        const PaymentRow& row = database.payments[static_cast<std::size_t>(i)];
        if (truth.arrived == 0) {
            continue;
        }
        if (!core::has_succeeded(row.status)) {
            world.violate("money that arrived is known", "payment %d is %d", i,
                          static_cast<int>(row.status));
        }
        if (database.sums(i).refunded != truth.paid_out) {
            world.violate("rows and gateway agree", "payment %d: %d here, %d there", i,
                          static_cast<int>(database.sums(i).refunded),
                          static_cast<int>(truth.paid_out));
        }
        if (database.order.paid_by != i && truth.paid_out != truth.arrived) {
            world.violate("what the order does not keep has gone back", "payment %d: %d of %d", i,
                          static_cast<int>(truth.paid_out), static_cast<int>(truth.arrived));
        }
    }
    if (database.order.status == OrderStatus::paid && database.order.paid_by < 0) {
        world.violate("a paid order has a winner", "%d", database.order.paid_by);
    }
}

}  // namespace payonce::simulation
