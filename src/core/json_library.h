// The JSON library, which is included through here alone.
//
// A JSON value's destructor needs memory: it takes the value apart on a heap-allocated list, so as
// not to recurse. A destructor must not throw; without memory it would end the process, and with a
// worker or a backend the whole server restarts. So such lists (and arrays) have a reserve.
#pragma once

#include <cstddef>
#include <memory>
#include <nlohmann/json_fwd.hpp>

// Not thread-safe once memory has run out: JSON is a matter of one thread here.
template <>
struct std::allocator<nlohmann::json> {
    using value_type = nlohmann::json;  // NOLINT(readability-identifier-naming): the standard's

    allocator() noexcept = default;
    template <typename Other>
    // NOLINTNEXTLINE(google-explicit-constructor): containers convert one into the other
    explicit(false) allocator(const std::allocator<Other>& /*other*/) noexcept {}

    static nlohmann::json* allocate(std::size_t count);
    static void deallocate(nlohmann::json* values, std::size_t count) noexcept;

    friend bool operator==(const allocator& /*a*/, const allocator& /*b*/) noexcept { return true; }
};

#include <nlohmann/json.hpp>
