#include "core/signed_node.h"

#include <algorithm>

#include "core/json.h"

namespace payonce::core {
namespace {

// The end of the string whose opening quote is at `at`: behind its closing quote, or `text`'s end.
std::size_t end_of_string(std::string_view text, std::size_t at) noexcept {
    for (++at; at < text.size(); ++at) {
        if (text[at] == '\\') {
            ++at;
        } else if (text[at] == '"') {
            return at + 1;
        }
    }
    return text.size();
}

// Before the parser sees it, which has no limit.
bool is_shallow(std::string_view text) noexcept {
    std::size_t depth = 0;
    for (std::size_t at = 0; at < text.size();) {
        const char c = text[at];
        at = c == '"' ? end_of_string(text, at) : at + 1;
        if (c == '{' || c == '[') {
            if (++depth > max_json_depth) {
                return false;
            }
        } else if ((c == '}' || c == ']') && depth > 0) {
            --depth;
        }
    }
    return true;
}

// Reads valid JSON; stays within its bounds on any other.
class MemberReader {
  public:
    explicit MemberReader(std::string_view text) : text_(text) {}

    // Moves past the next character, if it is `c`, and past the blanks before it.
    bool take(char c) noexcept {
        skip_blanks();
        if (at_ >= text_.size() || text_[at_] != c) {
            return false;
        }
        ++at_;
        return true;
    }

    std::string_view take_value() noexcept {
        skip_blanks();
        const std::size_t begin = at_;
        std::size_t depth = 0;
        while (at_ < text_.size() && (depth > 0 || !ends_value(text_[at_]))) {
            const char c = text_[at_];
            depth += c == '{' || c == '[' ? 1 : 0;
            depth -= c == '}' || c == ']' ? 1 : 0;
            at_ = c == '"' ? end_of_string(text_, at_) : at_ + 1;
        }
        return text_.substr(begin, at_ - begin);
    }

  private:
    static bool is_blank(char c) noexcept {
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
    }
    static bool ends_value(char c) noexcept {
        return is_blank(c) || c == ',' || c == ':' || c == '}' || c == ']';
    }
    void skip_blanks() noexcept {
        while (at_ < text_.size() && is_blank(text_[at_])) {
            ++at_;
        }
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

}  // namespace

std::optional<std::vector<JsonMember>> json_members(std::string_view object) {
    if (!is_shallow(object) || !parse_json(object).is_object()) {
        return std::nullopt;
    }
    std::vector<JsonMember> members;
    MemberReader reader(object);
    // A byte order mark, which the parser lets pass.
    if (!reader.take('{')) {
        return std::nullopt;
    }
    while (!reader.take('}')) {
        const std::string_view quoted = reader.take_value();
        if (quoted.size() < 2) {
            return std::nullopt;
        }
        const std::string_view name = quoted.substr(1, quoted.size() - 2);
        reader.take(':');
        members.push_back({name, reader.take_value()});
        reader.take(',');
        const bool known = std::any_of(members.begin(), members.end() - 1,
                                       [=](const JsonMember& m) { return m.name == name; });
        if (known || name.find('\\') != std::string_view::npos ||
            members.size() > max_json_members) {
            return std::nullopt;
        }
    }
    return members;
}

std::string_view member_text(const std::vector<JsonMember>& members,
                             std::string_view name) noexcept {
    const auto found = std::find_if(members.begin(), members.end(),
                                    [=](const JsonMember& member) { return member.name == name; });
    return found == members.end() ? std::string_view() : found->text;
}

}  // namespace payonce::core
