// Bundles of certificates in PEM, and who issued whom.
#include "fuzz.h"
#include "net/openssl_crypto.h"

using namespace payonce;

namespace {

void check_certificate(const core::Certificate& certificate) {
    const std::string hex = certificate.serial_hex();
    fuzz::demand(!certificate.serial_decimal().empty() && hex.size() <= 129,
                 "a serial number within its bound");
    fuzz::demand(hex.find_first_not_of("-0123456789ABCDEF") == std::string::npos,
                 "hexadecimal is upper case");
    fuzz::demand(hex.starts_with('-') == certificate.serial_decimal().starts_with('-'),
                 "both forms of a serial number have its sign");
    static_cast<void>(certificate.issuer());
    static_cast<void>(certificate.not_after_unix_s());
    static_cast<void>(certificate.is_rsa_signed());
    if (const auto key = certificate.public_key()) {
        fuzz::demand(!key->verify_sha256("message", ""), "nothing is no signature");
    }
}

std::string armoured(const net::OpensslCrypto& crypto, std::string_view der) {
    return "-----BEGIN CERTIFICATE-----\n" + crypto.base64_encode(der) +
           "\n-----END CERTIFICATE-----\n";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const net::OpensslCrypto crypto;
    static const core::Certificates roots =
        crypto.parse_certificates(fuzz::read_vector("alipay/alipay_root_cert.pem"));
    fuzz::demand(!roots.empty(), "the root certificates of test/vectors can be read");
    const std::string_view text = fuzz::text_of(data, size);
    // Base64 hides the structure from the fuzzer: so the input is also taken for the DER itself.
    for (const std::string& bundle : {std::string(text), armoured(crypto, text)}) {
        const core::Certificates certificates = crypto.parse_certificates(bundle);
        fuzz::demand(certificates.size() <= 64, "a bundle within its bound");
        for (const auto& certificate : certificates) {
            check_certificate(*certificate);
            crypto.is_issued_by(*certificate, roots);
            crypto.is_issued_by(*certificate, certificates);
        }
    }
    return 0;
}
