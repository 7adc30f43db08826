// What the fuzz targets share: a target reads bytes that nobody vouches for through one parser, and
// demands what must hold whatever they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace payonce::fuzz {

// Ends the program, and so the fuzzing, when an invariant does not hold.
void demand(bool holds, const char* invariant) noexcept;

std::string_view text_of(const std::uint8_t* data, std::size_t size) noexcept;

// Takes the text up to the next line break off `rest`, without the break.
std::string_view take_line(std::string_view& rest) noexcept;

// Well-formed UTF-8 of at most max_bytes without C0, DEL or C1: read here in another way than
// clean_text() does, which it judges.
bool is_clean(std::string_view text, std::size_t max_bytes) noexcept;

// A file of test/vectors: throw-away keys.
std::string read_vector(const std::string& name);

}  // namespace payonce::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
