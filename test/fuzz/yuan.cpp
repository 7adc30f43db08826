// Amounts in decimal yuan.
#include "core/yuan.h"

#include <cstring>

#include "fuzz.h"

using namespace payonce;

namespace {

constexpr std::int64_t max_fen = 99'999'999'999'999'999;

// Another reader: the digits alone, and where the point was.
bool reads_as(std::string_view yuan, std::int64_t fen) {
    std::string digits;
    std::size_t decimals = 0;
    bool after_point = false;
    for (const char c : yuan) {
        if (c == '.') {
            after_point = true;
        } else {
            digits += c;
            decimals += after_point ? 1 : 0;
        }
    }
    digits.append(2 - decimals, '0');
    return std::stoll(digits) == fen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text = fuzz::text_of(data, size);
    if (const auto fen = core::fen_of_yuan(text)) {
        fuzz::demand(*fen >= 0 && *fen <= max_fen, "an amount within its bounds");
        fuzz::demand(reads_as(text, *fen), "another reader reads the same");
        fuzz::demand(core::fen_of_yuan(core::yuan_of_fen(*fen)) == fen, "it is written as it was");
    }
    std::uint64_t random = 0;
    std::memcpy(&random, data, std::min(size, sizeof random));
    const auto fen = static_cast<std::int64_t>(random % (std::uint64_t{max_fen} + 1));
    fuzz::demand(core::fen_of_yuan(core::yuan_of_fen(fen)) == fen, "what is written is read");
    return 0;
}
