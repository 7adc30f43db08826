// Chance that can be repeated: everything in a schedule that is not fixed is drawn from here, so
// the seed alone replays it bit by bit.
#pragma once

#include <cstdint>

namespace payonce::simulation {

class Random {
  public:
    explicit Random(std::uint64_t seed = 0) noexcept : state_(seed) {}

    // SplitMix64: neighbouring seeds give unrelated streams.
    std::uint64_t next() noexcept {
        std::uint64_t mixed = state_ += 0x9e3779b97f4a7c15U;
        mixed = (mixed ^ (mixed >> 30U)) * 0xbf58476d1ce4e5b9U;
        mixed = (mixed ^ (mixed >> 27U)) * 0x94d049bb133111ebU;
        return mixed ^ (mixed >> 31U);
    }
    // 0 … end-1.
    int below(int end) noexcept {
        return static_cast<int>(((next() >> 32U) * static_cast<std::uint64_t>(end)) >> 32U);
    }
    bool one_in(int many) noexcept { return below(many) == 0; }
    // From [first, last].
    std::int64_t between(std::int64_t first, std::int64_t last) noexcept {
        return first +
               static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(last - first + 1));
    }

  private:
    std::uint64_t state_;
};

}  // namespace payonce::simulation
