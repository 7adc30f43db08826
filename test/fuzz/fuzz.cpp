#include "fuzz.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace payonce::fuzz {
namespace {

struct Character {
    char32_t code = 0;
    std::size_t bytes = 0;
};

// The bits of a sequence, whether they are allowed or not; no bytes when it is none.
Character read_character(std::string_view text) noexcept {
    const auto byte_at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = byte_at(0);
    if (lead < 0x80) {
        return {lead, 1};
    }
    Character read;
    if ((lead & 0xE0U) == 0xC0U) {
        read = {lead & 0x1FU, 2};
    } else if ((lead & 0xF0U) == 0xE0U) {
        read = {lead & 0x0FU, 3};
    } else if ((lead & 0xF8U) == 0xF0U) {
        read = {lead & 0x07U, 4};
    }
    if (read.bytes == 0 || read.bytes > text.size()) {
        return {};
    }
    for (std::size_t i = 1; i < read.bytes; ++i) {
        if ((byte_at(i) & 0xC0U) != 0x80U) {
            return {};
        }
        read.code = read.code << 6U | (byte_at(i) & 0x3FU);
    }
    return read;
}

bool is_allowed(Character read) noexcept {
    constexpr char32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const bool is_surrogate = read.code >= 0xD800 && read.code <= 0xDFFF;
    const bool is_control = read.code < 0x20 || (read.code >= 0x7F && read.code < 0xA0);
    return read.bytes > 0 && read.code >= least[read.bytes] && read.code <= 0x10FFFF &&
           !is_surrogate && !is_control;
}

}  // namespace

void demand(bool holds, const char* invariant) noexcept {
    if (!holds) {
        std::fprintf(stderr, "does not hold: %s\n", invariant);
        std::abort();
    }
}

std::string_view text_of(const std::uint8_t* data, std::size_t size) noexcept {
    return {reinterpret_cast<const char*>(data), size};
}

std::string_view take_line(std::string_view& rest) noexcept {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return line;
}

bool is_clean(std::string_view text, std::size_t max_bytes) noexcept {
    if (text.size() > max_bytes) {
        return false;
    }
    while (!text.empty()) {
        const Character read = read_character(text);
        if (!is_allowed(read)) {
            return false;
        }
        text.remove_prefix(read.bytes);
    }
    return true;
}

std::string read_vector(const std::string& name) {
    std::ifstream file(PAYONCE_VECTORS "/" + name, std::ios::binary);
    demand(file.is_open(), "test/vectors is there");
    return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace payonce::fuzz
