// Base64: one text for each sequence of bytes.
#include "fuzz.h"
#include "net/openssl_crypto.h"

using namespace payonce;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const net::OpensslCrypto crypto;
    const std::string_view text = fuzz::text_of(data, size);
    if (const auto decoded = crypto.base64_decode(text)) {
        fuzz::demand(crypto.base64_encode(*decoded) == text, "it is encoded as it was");
    }
    fuzz::demand(crypto.base64_decode(crypto.base64_encode(text)) == text, "it decodes as it was");
    return 0;
}
