#include "core/states.h"

#include <algorithm>
#include <span>

namespace payonce::core {
namespace {

struct Change {
    std::int16_t from;
    std::int16_t to;
};

bool listed(std::span<const Change> changes, std::int16_t from, std::int16_t to) noexcept {
    return std::any_of(changes.begin(), changes.end(), [=](const Change& change) {
        return change.from == from && change.to == to;
    });
}

constexpr Change order_changes[] = {
    {0, 100},
    {0, 400},
    {400, 100},  // a late payment was accepted
    {400, 0},    // reopened by a person
};

constexpr Change payment_changes[] = {
    {0, 100},   {0, 200},   {0, 400},   {0, 500},  // news while paying
    {400, 100}, {400, 200}, {400, 500},            // success after failure: the money did arrive
    {100, 200},                                    // the whole of it is to be refunded
    {200, 100},                                    // its refund was cancelled and it is the winner
    {200, 300}, {200, 500}, {300, 500},            // 300→500: a refund that failed after all
    {500, 100}, {500, 200}, {500, 300},            // a person or a retry found the way out
};

constexpr Change refund_changes[] = {
    {0, 100},   {0, 400},   {0, 500},                            // queued
    {100, 0},   {100, 150}, {100, 200}, {100, 300}, {100, 500},  // sending
    {150, 0},   {150, 100}, {150, 200}, {150, 300}, {150, 500},  // unconfirmed
    {200, 0},   {200, 300}, {200, 500},                          // processing
    {300, 500},                                                  // failed after all
    {500, 0},   {500, 300}, {500, 400},                          // a person decided
};

}  // namespace

const char* name_of(RefundReason reason) noexcept {
    switch (reason) {
        case RefundReason::duplicate:
            return "duplicate";
        case RefundReason::late:
            return "late";
        case RefundReason::request:
            return "request";
        case RefundReason::mismatch:
            return "mismatch";
    }
    return "request";
}

bool order_may_change(std::int16_t from, std::int16_t to) noexcept {
    return listed(order_changes, from, to);
}

bool payment_may_change(std::int16_t from, std::int16_t to) noexcept {
    return listed(payment_changes, from, to);
}

bool refund_may_change(std::int16_t from, std::int16_t to) noexcept {
    return listed(refund_changes, from, to);
}

}  // namespace payonce::core
