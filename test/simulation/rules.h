// The rules that keep money safe, each of which can be left out. A simulation that finds nothing
// proves something only if it finds what is wrong without them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace payonce::simulation {

enum class Rule : std::uint8_t {
    barrier,
    fencing,
    ask_first,
    recovery_asks,
    same_number,
    horizon,
    arbiter,
    accepted_is_polled,
    late_success,
    durable_answer,
    visible_is_durable,
    dead_numbers_only,
    one_commit,
    reserve,
    replay_proof,
    list_proof,
    unknown_is_unknown,
    success_stays,
    refusal_stays,
    accepted_stays,
};

struct RuleText {
    Rule rule;
    std::string_view name;
    const char* says;
};

inline constexpr std::array rule_texts = {
    RuleText{Rule::barrier, "barrier", "no byte leaves before the standby has the claim"},
    RuleText{Rule::fencing, "fencing",
             "an answer counts only from the attempt that holds the lease"},
    RuleText{Rule::ask_first, "ask-first", "after an unknown outcome ask, do not send again"},
    RuleText{Rule::recovery_asks, "recovery-asks", "what a dead worker held is asked about first"},
    RuleText{Rule::same_number, "same-number", "a repetition carries the same number"},
    RuleText{Rule::horizon, "horizon", "past the idempotency horizon nothing is sent"},
    RuleText{Rule::arbiter, "arbiter",
             "the order's row lets one payment win, with stale snapshots too"},
    RuleText{Rule::accepted_is_polled, "accepted-is-polled", "what was accepted is not sent again"},
    RuleText{Rule::late_success, "late-success", "a success counts, whichever attempt says it"},
    RuleText{Rule::durable_answer, "durable-answer",
             "a callback is answered once the standby has it"},
    RuleText{Rule::visible_is_durable, "visible-is-durable",
             "already_processed, too, waits until the standby has what it relies on"},
    RuleText{Rule::dead_numbers_only, "dead-numbers-only",
             "refund_retry takes a new number only for a dead one"},
    RuleText{Rule::one_commit, "one-commit", "a decision and its refund are one commit"},
    RuleText{Rule::reserve, "reserve", "a payment's refunds do not exceed what arrived"},
    RuleText{Rule::replay_proof, "replay-proof",
             "a new key only after a stored error was replayed"},
    RuleText{Rule::list_proof, "list-proof",
             "a new key only after the gateway does not list the refund"},
    RuleText{Rule::unknown_is_unknown, "unknown-is-unknown", "an unknown outcome is no success"},
    RuleText{Rule::success_stays, "success-stays", "a failure never undoes a success"},
    RuleText{Rule::refusal_stays, "refusal-stays",
             "what was refused is not sent again by a program"},
    RuleText{Rule::accepted_stays, "accepted-stays",
             "what was accepted is polled, however long it takes"},
};

class Rules {
  public:
    bool kept(Rule rule) const noexcept { return (removed_ & bit(rule)) == 0; }
    void remove(Rule rule) noexcept { removed_ |= bit(rule); }

  private:
    static std::uint32_t bit(Rule rule) noexcept { return 1U << static_cast<unsigned>(rule); }
    std::uint32_t removed_ = 0;
};

inline std::optional<Rule> rule_of(std::string_view name) noexcept {
    for (const RuleText& text : rule_texts) {
        if (text.name == name) {
            return text.rule;
        }
    }
    return std::nullopt;
}

}  // namespace payonce::simulation
