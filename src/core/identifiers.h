// What the numbers that payonce takes and makes may look like.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace payonce::core {

// A payment's id is the merchant's number at the gateway. 56 leaves room for a refund's suffix
// within the 64 that the strictest gateway allows.
inline constexpr std::size_t max_payment_id_bytes = 56;
inline constexpr std::size_t max_order_id_bytes = 128;
inline constexpr std::size_t max_transaction_id_bytes = 128;
inline constexpr std::size_t max_refund_no_bytes = 64;
inline constexpr std::size_t max_note_bytes = 2000;
inline constexpr std::int32_t max_refund_generation = 99999;

// 1–56 of [0-9A-Za-z_*|@-].
bool is_payment_id(std::string_view id) noexcept;

// 1–128 bytes of printable ASCII without blanks: every gateway's transaction number is such.
bool is_transaction_id(std::string_view id) noexcept;

// A code of ISO 4217 that money is paid in (upper case; no metals, funds or test codes).
bool is_currency(std::string_view code) noexcept;

// The six characters of a requested refund's number from 8 random bytes: uniform over [0-9a-z].
// `out` takes 6 characters, no terminating zero.
void request_suffix(std::uint64_t random, char* out) noexcept;

// The generation of `<payment id>-R<generation>`, or 0 when `refund_no` is not of that form.
std::int32_t refund_generation(std::string_view refund_no, std::string_view payment_id) noexcept;

}  // namespace payonce::core
