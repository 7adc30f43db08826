// Foreign bytes made fit to be stored and shown.
#include "core/text.h"

#include "core/form.h"
#include "fuzz.h"

using namespace payonce;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes = fuzz::text_of(data, size);
    for (const std::size_t max_bytes : {std::size_t{0}, std::size_t{1}, std::size_t{7},
                                        std::size_t{64}, core::max_error_bytes, size}) {
        const std::string clean = core::clean_text(bytes, max_bytes);
        fuzz::demand(fuzz::is_clean(clean, max_bytes), "it is clean and within its bound");
        fuzz::demand(core::clean_text(clean, max_bytes) == clean, "what is clean stays as it is");
        fuzz::demand(clean.size() + 3 >= std::min(max_bytes, size) ||
                         core::clean_text(bytes, size).size() == clean.size(),
                     "no more is cut than must be");
    }
    fuzz::demand(!fuzz::is_clean(bytes, size) || core::clean_text(bytes, size) == bytes,
                 "what was clean stays as it was");
    const std::string encoded = core::percent_encode(bytes);
    fuzz::demand(encoded.find_first_of("/?#&=+ \r\n") == std::string::npos,
                 "it is one segment of a path");
    const core::FormFields expected = {{"a", std::string(bytes)}};
    fuzz::demand(core::read_form("a=" + encoded) == expected, "it decodes to what it was");
    return 0;
}
