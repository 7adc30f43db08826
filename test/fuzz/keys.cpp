// Keys, in PEM or bare base64.
#include "fuzz.h"
#include "net/openssl_crypto.h"

using namespace payonce;

namespace {

void check_public_key(const net::OpensslCrypto& crypto, const core::VerifyingKey& key) {
    const std::string der = key.public_der();
    fuzz::demand(!der.empty(), "a key has a DER");
    const auto again = crypto.parse_public_key(crypto.base64_encode(der));
    fuzz::demand(again && again->public_der() == der, "a key is read again as it was written");
    fuzz::demand(!key.verify_sha256("message", ""), "nothing is no signature");
    fuzz::demand(!key.verify_sha256("message", std::string(256, 'x')),
                 "any bytes are no signature");
}

void check_private_key(const net::OpensslCrypto& crypto, const core::SigningKey& key) {
    const auto half = crypto.parse_public_key(crypto.base64_encode(key.public_der()));
    fuzz::demand(half != nullptr, "a private key has a public half");
    // Its numbers need not belong together: then what it signs is of no use, and nothing worse.
    const auto signature = key.sign_sha256("message");
    fuzz::demand(!signature || signature->size() >= 256, "a signature is as long as the key");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const net::OpensslCrypto crypto;
    const std::string_view text = fuzz::text_of(data, size);
    // Base64 hides a key's structure from the fuzzer: so the input is also taken for the DER
    // itself.
    for (const std::string& given : {std::string(text), crypto.base64_encode(text)}) {
        const auto public_key = crypto.parse_public_key(given);
        if (public_key) {
            check_public_key(crypto, *public_key);
        }
        const auto private_key = crypto.parse_private_key(given);
        if (private_key) {
            check_private_key(crypto, *private_key);
        }
        fuzz::demand(!public_key || !private_key, "a key is public or private");
    }
    return 0;
}
