// payonce_simulate: runs schedules on all cores, replays one, or shows that each rule is needed.
#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

#include "world.h"

namespace payonce::simulation {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* usage_text =
    "usage: simulate [OPTION]... [SCHEDULES [SEED]]\n"
    "\n"
    "Runs so many schedules (default: 10 million), with the seeds SEED, SEED+1, ... (default: "
    "from\n"
    "chance; it is printed). Ends with 1 at the first violation, and tells its story.\n"
    "\n"
    "  --replay SEED    tell the story of one schedule\n"
    "  --without RULE   leave out a rule that keeps money safe (may be repeated)\n"
    "  --twins          for each rule: leave it out, and expect a violation within the SCHEDULES\n"
    "                   (default here: 10 million) and 60 seconds\n"
    "  --rules          list the rules\n"
    "  --check-replay   run each schedule three times and compare the stories and the ends\n"
    "  --threads N      default: one for each core\n";

struct Options {
    enum class Task { run, replay, twins, rules, check_replay, help };
    Task task = Task::run;
    Rules rules;
    std::string without;  // the options again, to be shown in a command
    std::uint64_t schedules = 10'000'000;
    std::uint64_t seed = 0;
    bool has_seed = false;
    unsigned threads = std::max(std::thread::hardware_concurrency(), 1U);
};

constexpr std::uint64_t none = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t chunk = 512;
constexpr auto twin_limit = std::chrono::seconds(60);

// One run of many schedules, shared by its threads. The result does not depend on their number: the
// violation that is reported is the one with the lowest seed.
struct Run {
    Rules rules;
    std::uint64_t seed = 0;
    std::uint64_t schedules = 0;
    Clock::time_point deadline = Clock::time_point::max();
    std::atomic<std::uint64_t> next = 0;
    std::atomic<std::uint64_t> done = 0;
    std::atomic<std::uint64_t> broken = none;
    std::mutex mutex;
    Counts counts;
};

void note_violation(Run* run, std::uint64_t index) {
    std::uint64_t known = run->broken.load();
    while (index < known && !run->broken.compare_exchange_weak(known, index)) {
    }
}

void work(Run* run) {
    const auto world = std::make_unique<World>();
    Counts counts;
    while (Clock::now() < run->deadline) {
        const std::uint64_t first = run->next.fetch_add(chunk);
        const std::uint64_t end = std::min(first + chunk, run->schedules);
        for (std::uint64_t i = first; i < end && i < run->broken.load(std::memory_order_relaxed);
             ++i) {
            run_schedule(*world, run->seed + i, run->rules, nullptr);
            counts.add(world->counts);
            run->done.fetch_add(1, std::memory_order_relaxed);
            if (world->violation != nullptr) {
                note_violation(run, i);
            }
        }
        if (end >= run->schedules || first >= run->broken.load()) {
            break;
        }
    }
    const std::lock_guard lock(run->mutex);
    run->counts.add(counts);
}

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// On a terminal, until all threads have ended.
void show_progress(const Run& run, const std::atomic<bool>& ended) {
    const Clock::time_point start = Clock::now();
    while (!ended.load()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        const double seconds = seconds_since(start);
        const auto done = static_cast<double>(run.done.load());
        std::fprintf(stderr, "\r\033[K%.1f of %.1f million schedules, %.1f million a minute",
                     done / 1e6, static_cast<double>(run.schedules) / 1e6,
                     done / seconds * 60 / 1e6);
    }
    std::fprintf(stderr, "\r\033[K");
}

void run_all(Run* run, unsigned thread_count, bool with_progress) {
    std::atomic<bool> ended = false;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < thread_count; ++i) {
        threads.emplace_back(work, run);
    }
    std::thread progress;
    if (with_progress && isatty(STDERR_FILENO) != 0) {
        progress = std::thread([&] { show_progress(*run, ended); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    ended = true;
    if (progress.joinable()) {
        progress.join();
    }
}

std::string story_of(World* world, std::uint64_t seed, Rules rules) {
    std::string story;
    run_schedule(*world, seed, rules, &story);
    return story;
}

int report_violation(const Options& options, std::uint64_t seed) {
    const auto world = std::make_unique<World>();
    const std::string story = story_of(world.get(), seed, options.rules);
    std::printf("seed %" PRIu64 "\n%s\n", seed, story.c_str());
    std::printf("violation: %s (%s)\n", world->violation, world->detail.data());
    std::printf("again: scripts/simulate%s --replay %" PRIu64 "\n", options.without.c_str(), seed);
    return 1;
}

int run_many(const Options& options) {
    Run run;
    run.rules = options.rules;
    run.seed = options.seed;
    run.schedules = options.schedules;
    std::printf("seeds from %" PRIu64 "\n", run.seed);
    std::fflush(stdout);
    const Clock::time_point start = Clock::now();
    run_all(&run, options.threads, true);
    const double seconds = seconds_since(start);
    const bool broken = run.broken.load() != none;
    const Counts& counts = run.counts;
    if (broken) {
        report_violation(options, run.seed + run.broken.load());
    }
    std::printf("%" PRIu64 " schedules, %d with a violation, in %.1f s (%.2f million a minute)\n",
                run.done.load(), broken ? 1 : 0, seconds,
                static_cast<double>(run.done.load()) / seconds * 60 / 1e6);
    std::printf("%" PRId64 " events over %" PRId64 " years: %" PRId64 " payouts, %" PRId64
                " requests repeated, %" PRId64 " answers fenced off, %" PRId64
                " refunds to a person, %" PRId64 " crashes, %" PRId64 " promotions\n",
                counts.events, counts.simulated_s / (365 * 24 * 3600), counts.payouts,
                counts.repetitions, counts.not_its_lease, counts.attention, counts.crashes,
                counts.promotions);
    return broken ? 1 : 0;
}

int run_twins(const Options& options) {
    int harmless = 0;
    for (const RuleText& text : rule_texts) {
        Run run;
        run.rules.remove(text.rule);
        run.seed = options.seed;
        run.schedules = options.schedules;
        const Clock::time_point start = Clock::now();
        run.deadline = start + twin_limit;
        run_all(&run, options.threads, false);
        const std::uint64_t broken = run.broken.load();
        if (broken == none) {
            ++harmless;
            std::printf("%-19s NOTHING FOUND in %" PRIu64 " schedules, %.1f s\n",
                        std::string(text.name).c_str(), run.done.load(), seconds_since(start));
            continue;
        }
        const auto world = std::make_unique<World>();
        run_schedule(*world, run.seed + broken, run.rules, nullptr);
        std::printf("%-19s found after %" PRIu64 " schedules (%.2f s, seed %" PRIu64 "): %s\n",
                    std::string(text.name).c_str(), broken + 1, seconds_since(start),
                    run.seed + broken, world->violation);
        std::fflush(stdout);
    }
    std::printf("%d rules, %d that nothing needs\n", static_cast<int>(rule_texts.size()), harmless);
    return harmless == 0 ? 0 : 1;
}

int replay(const Options& options) {
    const auto world = std::make_unique<World>();
    const std::string story = story_of(world.get(), options.seed, options.rules);
    std::printf("seed %" PRIu64 "\n%s", options.seed, story.c_str());
    if (world->violation != nullptr) {
        std::printf("violation: %s (%s)\n", world->violation, world->detail.data());
        return 1;
    }
    std::printf("everything is settled\n");
    return 0;
}

// The story must be the same each time, and must not depend on whether it is told.
int check_replay(const Options& options) {
    const auto first = std::make_unique<World>();
    const auto second = std::make_unique<World>();
    for (std::uint64_t seed = options.seed; seed < options.seed + options.schedules; ++seed) {
        const std::string story = story_of(first.get(), seed, options.rules);
        const bool same_story = story_of(second.get(), seed, options.rules) == story;
        run_schedule(*second, seed, options.rules, nullptr);
        const bool same_end = first->violation == second->violation && first->now == second->now &&
                              first->random.next() == second->random.next();
        if (!same_story || !same_end) {
            std::printf("seed %" PRIu64 " does not replay: another %s\n", seed,
                        same_story ? "end without the story" : "story");
            return 1;
        }
    }
    std::printf("%" PRIu64 " schedules replay bit by bit\n", options.schedules);
    return 0;
}

// --- The command line --------------------------------------------------------------------------

bool read_number(const char* text, std::uint64_t* number) {
    const char* end = text + std::strlen(text);
    const auto [stopped, error] = std::from_chars(text, end, *number);
    return error == std::errc() && stopped == end && *number != none;
}

bool remove_rule(const char* name, Options* options) {
    const std::optional<Rule> rule = rule_of(name);
    if (!rule) {
        std::fprintf(stderr, "There is no rule \"%s\"; --rules lists them.\n", name);
        return false;
    }
    options->rules.remove(*rule);
    options->without += std::string(" --without ") + name;
    return true;
}

bool read_seed(const char* text, Options* options) {
    options->has_seed = true;
    return read_number(text, &options->seed);
}

// An option that takes a value; `value` may be null.
bool read_option(const std::string& option, const char* value, Options* options) {
    if (value == nullptr) {
        return false;
    }
    if (option == "--replay") {
        options->task = Options::Task::replay;
        return read_seed(value, options);
    }
    if (option == "--without") {
        return remove_rule(value, options);
    }
    std::uint64_t threads = 0;
    if (option == "--threads" && read_number(value, &threads) && threads > 0 && threads <= 1024) {
        options->threads = static_cast<unsigned>(threads);
        return true;
    }
    return false;
}

bool read_arguments(const std::vector<std::string>& arguments, Options* options) {
    int numbers = 0;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string& argument = arguments[i];
        const std::size_t equals = argument.find('=');
        if (argument == "--twins") {
            options->task = Options::Task::twins;
        } else if (argument == "--rules") {
            options->task = Options::Task::rules;
        } else if (argument == "--check-replay") {
            options->task = Options::Task::check_replay;
        } else if (argument == "--help" || argument == "-h") {
            options->task = Options::Task::help;
        } else if (argument.starts_with("--") && equals != std::string::npos) {
            if (!read_option(argument.substr(0, equals), &argument[equals + 1], options)) {
                return false;
            }
        } else if (argument.starts_with("--")) {
            const bool has_value = i + 1 < arguments.size();
            if (!read_option(argument, has_value ? arguments[++i].c_str() : nullptr, options)) {
                return false;
            }
        } else if (numbers == 0) {
            ++numbers;
            if (!read_number(argument.c_str(), &options->schedules) || options->schedules == 0) {
                return false;
            }
        } else if (numbers++ > 1 || !read_seed(argument.c_str(), options)) {
            return false;
        }
    }
    return true;
}

int perform(const Options& options) {
    switch (options.task) {
        case Options::Task::run:
            return run_many(options);
        case Options::Task::replay:
            return replay(options);
        case Options::Task::twins:
            return run_twins(options);
        case Options::Task::check_replay:
            return check_replay(options);
        case Options::Task::rules:
            for (const RuleText& text : rule_texts) {
                std::printf("%-19s %s\n", std::string(text.name).c_str(), text.says);
            }
            return 0;
        case Options::Task::help:
            std::fputs(usage_text, stdout);
            return 0;
    }
    return 2;
}

}  // namespace
}  // namespace payonce::simulation

int main(int argc, char** argv) {
    using namespace payonce::simulation;
    Options options;
    if (!read_arguments({argv + 1, argv + argc}, &options)) {
        std::fputs(usage_text, stderr);
        return 2;
    }
    if (!options.has_seed) {
        std::random_device device;
        options.seed = device() % 1'000'000'000ULL * 1'000'000'000ULL + device() % 1'000'000'000ULL;
    }
    return perform(options);
}
