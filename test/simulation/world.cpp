#include "world.h"

#include <cstdarg>
#include <cstdio>

namespace payonce::simulation {
namespace {

// A line of the story, and when it happened: since the beginning, on the true clock.
void add_line(std::string* story, Time now, const char* text) {
    const Time since = now - 365 * 24 * hour;
    char line[256];
    const int length = std::snprintf(
        line, sizeof line, "%3d d %02d:%02d:%02d.%06d  %s\n", static_cast<int>(since / (24 * hour)),
        static_cast<int>(since / hour % 24), static_cast<int>(since / minute % 60),
        static_cast<int>(since / second % 60), static_cast<int>(since % second), text);
    story->append(line, static_cast<std::size_t>(length) < sizeof line
                            ? static_cast<std::size_t>(length)
                            : sizeof line - 1);
}

}  // namespace

void World::tell(const char* format, ...) noexcept {
    if (story == nullptr) {
        return;
    }
    char text[192];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    add_line(story, now, text);
}

void World::violate(const char* invariant, const char* format, ...) noexcept {
    if (violation != nullptr) {
        return;
    }
    violation = invariant;
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(detail.data(), detail.size(), format, arguments);
    va_end(arguments);
    tell("BROKEN: %s (%s)", invariant, detail.data());
    story = nullptr;  // what would follow is no longer of interest
}

void Counts::add(const Counts& other) noexcept {
    events += other.events;
    simulated_s += other.simulated_s;
    payouts += other.payouts;
    repetitions += other.repetitions;
    not_its_lease += other.not_its_lease;
    attention += other.attention;
    crashes += other.crashes;
    promotions += other.promotions;
}

}  // namespace payonce::simulation
