#include "net/nonce.h"

#include <openssl/rand.h>

#include <array>
#include <cstddef>
#include <string_view>

namespace payonce::net {

std::optional<std::string> random_nonce() {
    constexpr std::size_t length = 32;
    constexpr std::string_view alphabet =
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // Bytes from here on would favour the first characters of the alphabet.
    constexpr std::size_t limit = 256 / alphabet.size() * alphabet.size();
    std::string nonce;
    std::array<unsigned char, 64> bytes{};
    while (nonce.size() < length) {
        if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) {
            return std::nullopt;
        }
        for (const unsigned char byte : bytes) {
            if (byte < limit && nonce.size() < length) {
                nonce.push_back(alphabet[byte % alphabet.size()]);
            }
        }
    }
    return nonce;
}

}  // namespace payonce::net
