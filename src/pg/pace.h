// How often something that may be costly is done: so that it takes a small part of the time. What
// it costs is not known before. A look through the queue's index is over in a moment, until a
// transaction that lasts for hours keeps VACUUM, and the index scans themselves, from forgetting
// the entries of all refunds that were settled meanwhile.
#pragma once

#include <algorithm>
#include <cstdint>

#include "pg/pg.h"
#include "pg/settings.h"

namespace payonce::pg {

class Pace {
  public:
    bool is_due(TimestampTz now) const {
        return now >= next_at_ || next_at_ > TimestampTzPlusMilliseconds(now, longest_ms());
    }
    TimestampTz next_at() const { return next_at_; }
    void begin() { begun_at_ = GetCurrentTimestamp(); }
    void end() {
        const TimestampTz now = GetCurrentTimestamp();
        const std::int64_t took_us = now - begun_at_;
        next_at_ = took_us <= little_us ? 0 : now + std::min(took_us * rests, longest_ms() * 1000);
    }

  private:
    static constexpr std::int64_t little_us = 250;  // as much is always worth it
    static constexpr std::int64_t rests = 40;       // as long as it took
    // The look round at every payonce.naptime leaves nothing out.
    static std::int64_t longest_ms() { return settings.naptime_s * std::int64_t{1000}; }

    TimestampTz begun_at_ = 0;
    TimestampTz next_at_ = 0;
};

}  // namespace payonce::pg
