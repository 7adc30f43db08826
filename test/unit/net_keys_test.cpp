// OpensslCrypto's keys, certificates and AES-GCM against the gateways' vectors (test/vectors), and
// against what somebody may give for a key by mistake or on purpose. Whatever is refused leaves
// nothing in OpenSSL's error queue.
#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <fstream>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json_library.h"
#include "net/openssl_crypto.h"

namespace payonce::net {
namespace {

using core::Certificates;
using Json = nlohmann::json;

const OpensslCrypto crypto;

std::string vector_file(const std::string& name) {
    std::ifstream file(std::string(PAYONCE_VECTORS) + "/" + name, std::ios::binary);
    if (!file) {
        throw std::runtime_error("no vector file " + name);
    }
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// Empty when there is none.
std::string member(const Json& object, const char* name) {
    return object.contains(name) ? object[name].get<std::string>() : std::string();
}

Json vector_json(const std::string& name) {
    return Json::parse(vector_file(name));
}

const std::vector<std::string>& files_of_all_kinds() {
    static const std::vector<std::string> files = {"alipay/app_private_key_pkcs8.pem",
                                                   "alipay/app_private_key_pkcs8_bare.txt",
                                                   "alipay/app_private_key_pkcs1.pem",
                                                   "alipay/app_public_key.pem",
                                                   "alipay/alipay_public_key_bare.txt",
                                                   "alipay/alipay_root_cert.pem",
                                                   "alipay/cert_sn.json"};
    return files;
}

void expect_clean_queue() {
    EXPECT_EQ(ERR_peek_error(), 0U);
    ERR_clear_error();
}

bool is_private_key(std::string_view text) {
    const bool is_key = crypto.parse_private_key(text) != nullptr;
    expect_clean_queue();
    return is_key;
}

bool is_public_key(std::string_view text) {
    const bool is_key = crypto.parse_public_key(text) != nullptr;
    expect_clean_queue();
    return is_key;
}

std::size_t certificates_in(std::string_view text) {
    const std::size_t count = crypto.parse_certificates(text).size();
    expect_clean_queue();
    return count;
}

// What stands between the armour, in one line; the same for a text without armour.
std::string bare(const std::string& pem) {
    std::string digits;
    std::size_t start = 0;
    while (start < pem.size()) {
        const std::size_t end = std::min(pem.find('\n', start), pem.size());
        const std::string line = pem.substr(start, end - start);
        if (!line.starts_with("-----")) {
            digits += line;
        }
        start = end + 1;
    }
    return digits;
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
        text.replace(at, from.size(), to);
    }
    return text;
}

std::string wrapped(const std::string& text, std::size_t columns, std::string_view line_end) {
    std::string lines;
    for (std::size_t at = 0; at < text.size(); at += columns) {
        lines += text.substr(at, columns);
        lines += line_end;
    }
    return lines;
}

// ---- Material that the vectors lack ------------------------------------------------------------

template <auto free_function>
struct Deleter {
    template <typename T>
    void operator()(T* object) const noexcept {
        free_function(object);
    }
};
using KeyPtr = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using BioPtr = std::unique_ptr<BIO, Deleter<BIO_free_all>>;
using X509Ptr = std::unique_ptr<X509, Deleter<X509_free>>;
using NumberPtr = std::unique_ptr<BIGNUM, Deleter<BN_free>>;
using ContextPtr = std::unique_ptr<EVP_MD_CTX, Deleter<EVP_MD_CTX_free>>;
using KeyContextPtr = std::unique_ptr<EVP_PKEY_CTX, Deleter<EVP_PKEY_CTX_free>>;
using CipherContextPtr = std::unique_ptr<EVP_CIPHER_CTX, Deleter<EVP_CIPHER_CTX_free>>;

void must(bool is_good) {
    if (!is_good) {
        throw std::runtime_error("OpenSSL failed to make the test's material");
    }
}

std::string taken_from(const BioPtr& bio) {
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &bytes);
    return {bytes, static_cast<std::size_t>(size)};
}

// A writer takes the BIO and says whether it succeeded.
template <typename Writer>
std::string written_by(Writer write) {
    const BioPtr bio(BIO_new(BIO_s_mem()));
    must(write(bio.get()) == 1);
    return taken_from(bio);
}

std::string pkcs8_pem(EVP_PKEY* key, const EVP_CIPHER* cipher = nullptr) {
    std::string password = "open";
    return written_by([&](BIO* bio) {
        return PEM_write_bio_PKCS8PrivateKey(bio, key, cipher, cipher ? password.data() : nullptr,
                                             cipher ? static_cast<int>(password.size()) : 0,
                                             nullptr, nullptr);
    });
}

std::string pkcs1_pem(EVP_PKEY* key, const EVP_CIPHER* cipher = nullptr) {
    std::string password = "open";
    return written_by([&](BIO* bio) {
        auto* bytes = reinterpret_cast<unsigned char*>(password.data());
        return PEM_write_bio_PrivateKey_traditional(bio, key, cipher, cipher ? bytes : nullptr,
                                                    cipher ? static_cast<int>(password.size()) : 0,
                                                    nullptr, nullptr);
    });
}

std::string public_pem(EVP_PKEY* key) {
    return written_by([&](BIO* bio) { return PEM_write_bio_PUBKEY(bio, key); });
}

// OpenSSL's own reader.
KeyPtr private_key(const std::string& pem) {
    const BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
    must(key != nullptr);
    return key;
}

KeyPtr generated(const char* type, unsigned bits) {
    const KeyContextPtr context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
    must(EVP_PKEY_keygen_init(context.get()) == 1 &&
         EVP_PKEY_CTX_set_rsa_keygen_bits(context.get(), static_cast<int>(bits)) == 1);
    EVP_PKEY* key = nullptr;
    must(EVP_PKEY_generate(context.get(), &key) == 1);
    return KeyPtr(key);
}

// Of an odd number that nobody can factor, nor has to.
KeyPtr rsa_public_key(int bits, const char* exponent_hex) {
    const NumberPtr modulus(BN_new());
    BIGNUM* read = nullptr;
    must(BN_rand(modulus.get(), bits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ODD) == 1 &&
         BN_hex2bn(&read, exponent_hex) != 0);
    const NumberPtr exponent(read);
    OSSL_PARAM_BLD* builder = OSSL_PARAM_BLD_new();
    must(OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, modulus.get()) == 1 &&
         OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, exponent.get()) == 1);
    OSSL_PARAM* parameters = OSSL_PARAM_BLD_to_param(builder);
    const KeyContextPtr context(EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
    EVP_PKEY* key = nullptr;
    const bool is_made =
        EVP_PKEY_fromdata_init(context.get()) == 1 &&
        EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters) == 1;
    OSSL_PARAM_free(parameters);
    OSSL_PARAM_BLD_free(builder);
    must(is_made);
    return KeyPtr(key);
}

std::string signature_of(EVP_PKEY* key, const char* digest, int padding, std::string_view message) {
    const ContextPtr context(EVP_MD_CTX_new());
    EVP_PKEY_CTX* options = nullptr;
    std::string signature(static_cast<std::size_t>(EVP_PKEY_get_size(key)), '\0');
    std::size_t size = signature.size();
    must(EVP_DigestSignInit_ex(context.get(), &options, digest, nullptr, nullptr, key, nullptr) ==
             1 &&
         EVP_PKEY_CTX_set_rsa_padding(options, padding) == 1 &&
         EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                        reinterpret_cast<const unsigned char*>(message.data()),
                        message.size()) == 1);
    return signature;
}

struct Name {
    std::string common_name;
    int type = MBSTRING_UTF8;
    std::string email;
};

struct CertificateMaker {
    Name subject;
    EVP_PKEY* key = nullptr;
    Name issuer;
    EVP_PKEY* issuer_key = nullptr;
    bool is_authority = false;
    std::vector<unsigned char> serial = {1};
    const EVP_MD* digest = EVP_sha256();
    long from_s = -3600;
    long until_s = 3600;

    std::string make() const;

  private:
    static void write(X509_NAME* to, const Name& name);
};

void CertificateMaker::write(X509_NAME* to, const Name& name) {
    const auto add = [&](const char* field, int type, const std::string& text) {
        must(X509_NAME_add_entry_by_txt(to, field, type,
                                        reinterpret_cast<const unsigned char*>(text.data()),
                                        static_cast<int>(text.size()), -1, 0) == 1);
    };
    add("C", MBSTRING_ASC, "CN");
    add("CN", name.type, name.common_name);
    if (!name.email.empty()) {
        add("emailAddress", MBSTRING_ASC, name.email);
    }
}

std::string CertificateMaker::make() const {
    const X509Ptr certificate(X509_new());
    X509_set_version(certificate.get(), X509_VERSION_3);
    ASN1_STRING_set(X509_get_serialNumber(certificate.get()), serial.data(),
                    static_cast<int>(serial.size()));
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), from_s);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), until_s);
    X509_set_pubkey(certificate.get(), key);
    write(X509_get_subject_name(certificate.get()), subject);
    X509_NAME* issuer_name = X509_NAME_new();
    write(issuer_name, issuer);
    X509_set_issuer_name(certificate.get(), issuer_name);
    X509_NAME_free(issuer_name);
    X509_EXTENSION* extension =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints,
                            is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    X509_add_ext(certificate.get(), extension, -1);
    X509_EXTENSION_free(extension);
    must(X509_sign(certificate.get(), issuer_key, digest) > 0);
    return written_by([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate.get()); });
}

EVP_PKEY* ec_key() {
    static const KeyPtr key(EVP_EC_gen("P-256"));
    return key.get();
}

EVP_PKEY* rsa_key() {
    static const KeyPtr key = private_key(vector_file("alipay/app_private_key_pkcs8.pem"));
    return key.get();
}

EVP_PKEY* other_rsa_key() {
    static const KeyPtr key = private_key(vector_file("alipay/stranger_private_key.pem"));
    return key.get();
}

// Signed by itself, unless told otherwise.
CertificateMaker maker(const std::string& name, EVP_PKEY* key, bool is_authority = false) {
    CertificateMaker made;
    made.subject.common_name = made.issuer.common_name = name;
    made.key = made.issuer_key = key;
    made.is_authority = is_authority;
    return made;
}

CertificateMaker maker(const std::string& name, EVP_PKEY* key, const std::string& issuer,
                       EVP_PKEY* issuer_key, bool is_authority = false) {
    CertificateMaker made = maker(name, key, is_authority);
    made.issuer.common_name = issuer;
    made.issuer_key = issuer_key;
    return made;
}

// ---- Signing -----------------------------------------------------------------------------------

// Every form of one key: as files, as bare base64, and as such texts come out of editors and forms.
std::vector<std::string> forms_of(std::initializer_list<std::string> pems) {
    std::vector<std::string> forms;
    for (const std::string& pem : pems) {
        const std::string digits = bare(pem);
        forms.insert(forms.end(), {
                                      pem,
                                      "\n \t" + pem + "\r\n\n ",
                                      replaced(pem, "\n", "\r\n"),
                                      replaced(pem, "\n", " "),
                                      pem.substr(0, pem.size() - 1),
                                      digits,
                                      digits + "\n",
                                      wrapped(digits, 64, "\n"),
                                      wrapped(digits, 76, "\r\n"),
                                      "  " + wrapped(digits, 1, " "),
                                  });
    }
    return forms;
}

struct SigningVectors {
    const char* file;
    const char* signature;
    const char* pkcs8;
    const char* pkcs1;
};

class SigningTest : public testing::TestWithParam<SigningVectors> {};

TEST_P(SigningTest, ReproducesEverySignatureWithEveryFormOfTheKey) {
    const SigningVectors& param = GetParam();
    const Json vectors = vector_json(param.file)["vectors"];
    ASSERT_GE(vectors.size(), 4U);
    for (const std::string& form : forms_of({vector_file(param.pkcs8), vector_file(param.pkcs1)})) {
        const auto key = crypto.parse_private_key(form);
        ASSERT_TRUE(key) << form.substr(0, 40);
        for (const Json& vector : vectors) {
            const auto signature = key->sign_sha256(vector["canonical"].get<std::string>());
            ASSERT_TRUE(signature);
            EXPECT_EQ(crypto.base64_encode(*signature), vector[param.signature]) << vector["name"];
        }
    }
    expect_clean_queue();
}

INSTANTIATE_TEST_SUITE_P(Gateways, SigningTest,
                         testing::Values(SigningVectors{"wechat/sign_requests.json", "signature",
                                                        "wechat/merchant_private_key_pkcs8.pem",
                                                        "wechat/merchant_private_key_pkcs1.pem"},
                                         SigningVectors{"alipay/sign_requests.json", "sign",
                                                        "alipay/app_private_key_pkcs8.pem",
                                                        "alipay/app_private_key_pkcs1.pem"}));

TEST(SigningKey, TakesTheBareFilesOfAlipaysTools) {
    const auto key = crypto.parse_private_key(vector_file("alipay/app_private_key_pkcs8.pem"));
    ASSERT_TRUE(key);
    for (const char* file :
         {"alipay/app_private_key_pkcs8_bare.txt", "alipay/app_private_key_pkcs1_bare.txt"}) {
        const auto same = crypto.parse_private_key(vector_file(file));
        ASSERT_TRUE(same) << file;
        EXPECT_EQ(same->public_der(), key->public_der());
        EXPECT_EQ(same->sign_sha256("text"), key->sign_sha256("text"));
    }
}

TEST(SigningKey, HasThePublicHalfOfItsPublicKeyAndItsCertificate) {
    const auto ours = crypto.parse_private_key(vector_file("alipay/app_private_key_pkcs1.pem"));
    const auto theirs = crypto.parse_public_key(vector_file("alipay/alipay_public_key.pem"));
    const auto half = crypto.parse_public_key(vector_file("alipay/app_public_key.pem"));
    const Certificates certificate = crypto.parse_certificates(vector_file("alipay/app_cert.pem"));
    ASSERT_TRUE(ours && theirs && half);
    ASSERT_EQ(certificate.size(), 1U);
    EXPECT_FALSE(ours->public_der().empty());
    EXPECT_EQ(ours->public_der(), half->public_der());
    EXPECT_EQ(ours->public_der(), certificate[0]->public_key()->public_der());
    EXPECT_NE(ours->public_der(), theirs->public_der());
    EXPECT_EQ(crypto.base64_encode(half->public_der()),
              bare(vector_file("alipay/app_public_key.pem")));
}

TEST(SigningKey, SignsTheEmptyTextAndZeroBytes) {
    const auto key = crypto.parse_private_key(vector_file("alipay/app_private_key_pkcs8.pem"));
    const auto half = crypto.parse_public_key(vector_file("alipay/app_public_key.pem"));
    ASSERT_TRUE(key && half);
    for (const std::string& text :
         {std::string(), std::string("a\0b", 3), std::string(100000, 'x')}) {
        const auto signature = key->sign_sha256(text);
        ASSERT_TRUE(signature);
        EXPECT_TRUE(half->verify_sha256(text, *signature));
    }
    EXPECT_EQ(key->sign_sha256(std::string_view()), key->sign_sha256(""));
}

// ---- Verifying ---------------------------------------------------------------------------------

std::string lower_case(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

std::map<std::string, std::unique_ptr<core::VerifyingKey>> wechat_keys() {
    const Json params = vector_json("wechat/params.json");
    std::map<std::string, std::unique_ptr<core::VerifyingKey>> keys;
    for (const auto& [serial, file] : params["files"]["verify_keys_by_serial"].items()) {
        const std::string text = vector_file("wechat/" + file.get<std::string>());
        const Certificates certificates = crypto.parse_certificates(text);
        keys[serial] =
            certificates.empty() ? crypto.parse_public_key(text) : certificates[0]->public_key();
    }
    return keys;
}

// The verdicts about the signature alone: the others are the gateway's.
TEST(VerifyingKey, AgreesWithWechatsVectors) {
    const auto keys = wechat_keys();
    ASSERT_EQ(keys.size(), 2U);
    int good = 0;
    int bad = 0;
    for (const char* file : {"wechat/verify_responses.json", "wechat/verify_notifications.json"}) {
        const Json vectors = vector_json(file)["vectors"];
        for (const Json& vector : vectors) {
            const Json& expect = vector["expect"];
            const std::string verdict = expect.is_string() ? expect : expect["verify"];
            if (verdict != "ok" && verdict != "bad_signature") {
                continue;
            }
            std::map<std::string, std::string> headers;
            for (const auto& [name, value] : vector["headers"].items()) {
                headers[lower_case(name)] = value;
            }
            const auto signature = crypto.base64_decode(headers["wechatpay-signature"]);
            const std::string text = headers["wechatpay-timestamp"] + "\n" +
                                     headers["wechatpay-nonce"] + "\n" +
                                     vector["body"].get<std::string>() + "\n";
            const auto key = keys.find(headers["wechatpay-serial"]);
            ASSERT_NE(key, keys.end()) << vector["name"];
            const bool is_good = signature && key->second->verify_sha256(text, *signature);
            EXPECT_EQ(is_good, verdict == "ok") << vector["name"];
            ++(is_good ? good : bad);
        }
    }
    EXPECT_GE(good, 5);
    EXPECT_GE(bad, 5);
    expect_clean_queue();
}

TEST(VerifyingKey, AgreesWithAlipaysVectors) {
    const auto key = crypto.parse_public_key(vector_file("alipay/alipay_public_key_bare.txt"));
    const Certificates certificate =
        crypto.parse_certificates(vector_file("alipay/alipay_cert.pem"));
    ASSERT_TRUE(key && certificate.size() == 1);
    const auto certified = certificate[0]->public_key();
    ASSERT_TRUE(certified);
    const Json responses = vector_json("alipay/verify_responses.json")["vectors"];
    for (const Json& vector : responses) {
        if (vector["expect"] != "ok") {
            continue;
        }
        const Json answer = Json::parse(vector["raw"].get<std::string>());
        const auto signature = crypto.base64_decode(answer["sign"].get<std::string>());
        ASSERT_TRUE(signature);
        const auto& used = member(vector, "mode") == "certificate" ? certified : key;
        EXPECT_TRUE(used->verify_sha256(vector["signed_text"].get<std::string>(), *signature))
            << vector["name"];
    }
    int good = 0;
    int bad = 0;
    const Json notifications = vector_json("alipay/verify_notifications.json")["vectors"];
    for (const Json& vector : notifications) {
        const std::string verdict = member(vector["expect"], "verify");
        const std::string sign = member(vector["decoded"], "sign");
        if ((verdict != "ok" && verdict != "bad_signature") || sign.empty()) {
            continue;
        }
        const auto signature = crypto.base64_decode(sign);
        const bool is_good =
            signature && key->verify_sha256(vector["canonical"].get<std::string>(), *signature);
        EXPECT_EQ(is_good, verdict == "ok") << vector["name"];
        ++(is_good ? good : bad);
    }
    EXPECT_GE(good, 10);
    EXPECT_GE(bad, 4);
    expect_clean_queue();
}

TEST(VerifyingKey, TakesEveryFormOfAPublicKey) {
    const std::string pem = vector_file("alipay/alipay_public_key.pem");
    const auto key = crypto.parse_public_key(pem);
    ASSERT_TRUE(key);
    for (const std::string& form : forms_of({pem})) {
        const auto same = crypto.parse_public_key(form);
        ASSERT_TRUE(same) << form.substr(0, 40);
        EXPECT_EQ(same->public_der(), key->public_der());
    }
    const auto same = crypto.parse_public_key(vector_file("alipay/alipay_public_key_bare.txt"));
    ASSERT_TRUE(same);
    EXPECT_EQ(same->public_der(), key->public_der());
}

TEST(VerifyingKey, RefusesEveryOtherSignature) {
    const auto ours = crypto.parse_private_key(vector_file("alipay/app_private_key_pkcs8.pem"));
    const auto half = crypto.parse_public_key(vector_file("alipay/app_public_key.pem"));
    ASSERT_TRUE(ours && half);
    const std::string text = "refund";
    const std::string good = *ours->sign_sha256(text);
    ASSERT_TRUE(half->verify_sha256(text, good));
    for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
        std::string bad = good;
        bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
        EXPECT_FALSE(half->verify_sha256(text, bad)) << "bit " << bit;
    }
    for (const std::string& bad : {std::string(), good.substr(1), good.substr(0, good.size() - 1),
                                   good + '\0', '\0' + good, std::string(good.size(), '\0'),
                                   std::string(good.size(), '\xff'), std::string(1000000, 'x')}) {
        EXPECT_FALSE(half->verify_sha256(text, bad)) << bad.size() << " bytes";
    }
    EXPECT_FALSE(half->verify_sha256(text, std::string_view()));
    EXPECT_FALSE(half->verify_sha256("refunD", good));
    EXPECT_FALSE(half->verify_sha256("", good));
    EXPECT_FALSE(half->verify_sha256(text + '\0', good));
    expect_clean_queue();
}

TEST(VerifyingKey, RefusesOtherDigestsAndPaddings) {
    const auto half = crypto.parse_public_key(vector_file("alipay/app_public_key.pem"));
    ASSERT_TRUE(half);
    EXPECT_TRUE(half->verify_sha256(
        "refund", signature_of(rsa_key(), "SHA256", RSA_PKCS1_PADDING, "refund")));
    for (const char* digest : {"SHA1", "MD5", "SHA224", "SHA384", "SHA512"}) {
        EXPECT_FALSE(half->verify_sha256(
            "refund", signature_of(rsa_key(), digest, RSA_PKCS1_PADDING, "refund")))
            << digest;
    }
    EXPECT_FALSE(half->verify_sha256(
        "refund", signature_of(rsa_key(), "SHA256", RSA_PKCS1_PSS_PADDING, "refund")));
    expect_clean_queue();
}

// ---- What is no key ----------------------------------------------------------------------------

TEST(PrivateKey, IsNothingElse) {
    for (const std::string& file : files_of_all_kinds()) {
        EXPECT_EQ(is_private_key(vector_file(file)), file.find("private") != std::string::npos)
            << file;
    }
    EXPECT_FALSE(is_private_key(bare(vector_file("alipay/app_public_key.pem"))));
    EXPECT_FALSE(is_private_key(bare(vector_file("alipay/app_cert.pem"))));
    // PKCS#1's structure of a public key.
    unsigned char* der = nullptr;
    const int size = i2d_PublicKey(rsa_key(), &der);
    must(size > 0);
    const std::string public_half(der, der + size);
    OPENSSL_free(der);
    EXPECT_FALSE(is_private_key(crypto.base64_encode(public_half)));
    EXPECT_FALSE(is_public_key(crypto.base64_encode(public_half)));
}

TEST(PublicKey, IsNothingElse) {
    for (const std::string& file : files_of_all_kinds()) {
        EXPECT_EQ(is_public_key(vector_file(file)), file.find("public") != std::string::npos)
            << file;
    }
    EXPECT_FALSE(is_public_key(bare(vector_file("alipay/app_cert.pem"))));
    EXPECT_FALSE(is_public_key(bare(vector_file("alipay/app_private_key_pkcs1.pem"))));
}

// The parser that asked for a password would hang here.
TEST(PrivateKey, IsRefusedWhenEncrypted) {
    for (const std::string& pem :
         {pkcs8_pem(rsa_key(), EVP_aes_256_cbc()), pkcs1_pem(rsa_key(), EVP_aes_256_cbc())}) {
        EXPECT_NE(pem.find("ENCRYPTED"), std::string::npos);
        EXPECT_FALSE(is_private_key(pem));
        EXPECT_FALSE(is_private_key(bare(pem)));
        EXPECT_FALSE(is_private_key(replaced(pem, "ENCRYPTED PRIVATE", "PRIVATE")));
    }
}

TEST(PrivateKey, IsOfRsa) {
    EXPECT_TRUE(is_private_key(pkcs8_pem(rsa_key())));
    const KeyPtr restricted = generated("RSA-PSS", 2048);
    for (EVP_PKEY* key : {ec_key(), restricted.get()}) {
        EXPECT_FALSE(is_private_key(pkcs8_pem(key)));
        EXPECT_FALSE(is_private_key(bare(pkcs8_pem(key))));
        EXPECT_FALSE(is_public_key(public_pem(key)));
        EXPECT_FALSE(is_public_key(bare(public_pem(key))));
    }
    EXPECT_FALSE(is_private_key(pkcs1_pem(ec_key())));
    EXPECT_FALSE(is_private_key(bare(pkcs1_pem(ec_key()))));
}

TEST(PrivateKey, HasEnoughBits) {
    const KeyPtr small = generated("RSA", 1024);
    EXPECT_FALSE(is_private_key(pkcs8_pem(small.get())));
    EXPECT_FALSE(is_private_key(pkcs1_pem(small.get())));
    EXPECT_FALSE(is_private_key(bare(pkcs1_pem(small.get()))));
    EXPECT_FALSE(is_public_key(public_pem(small.get())));
}

TEST(PublicKey, HasABoundedModulusAndASoundExponent) {
    const struct {
        const char* exponent;
        int bits;
        bool is_key;
    } keys[] = {
        {"10001", 2047, false},
        {"10001", 2048, true},
        {"10001", 8192, true},
        {"10001", 8193, false},
        {"10001", 20000, false},
        {"3", 2048, true},
        {"1", 2048, false},
        {"10000", 2048, false},
        {"8000000000000001", 2048, true},
        {"10000000000000001", 2048, false},
    };
    for (const auto& key : keys) {
        EXPECT_EQ(is_public_key(public_pem(rsa_public_key(key.bits, key.exponent).get())),
                  key.is_key)
            << key.bits << " bits, exponent " << key.exponent;
    }
}

// No prefix is a key, nor one with something behind it: not as text, not as DER.
TEST(PrivateKey, IsRefusedWhenCutOff) {
    for (const std::string& pem : {pkcs8_pem(rsa_key()), pkcs1_pem(rsa_key())}) {
        // The last character is a line break that may be missing.
        for (std::size_t size = 0; size + 1 < pem.size(); ++size) {
            ASSERT_FALSE(is_private_key(pem.substr(0, size))) << size;
        }
        const std::string der = *crypto.base64_decode(bare(pem));
        for (std::size_t size = 0; size < der.size(); size += 7) {
            ASSERT_FALSE(is_private_key(crypto.base64_encode(der.substr(0, size)))) << size;
        }
        EXPECT_TRUE(is_private_key(crypto.base64_encode(der)));
        EXPECT_FALSE(is_private_key(crypto.base64_encode(der + '\0')));
        EXPECT_FALSE(is_private_key(crypto.base64_encode(der + der)));
    }
}

TEST(PublicKey, IsRefusedWhenCutOff) {
    const std::string pem = public_pem(rsa_key());
    for (std::size_t size = 0; size + 1 < pem.size(); ++size) {
        ASSERT_FALSE(is_public_key(pem.substr(0, size))) << size;
    }
    const std::string der = *crypto.base64_decode(bare(pem));
    for (std::size_t size = 0; size < der.size(); ++size) {
        ASSERT_FALSE(is_public_key(crypto.base64_encode(der.substr(0, size)))) << size;
    }
    EXPECT_FALSE(is_public_key(crypto.base64_encode(der + '\0')));
}

TEST(Keys, AreRefusedWhenTheTextIsDamaged) {
    const std::string pem = pkcs8_pem(rsa_key());
    const std::string bad[] = {
        "",
        " \n",
        "secret",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY----------END PRIVATE KEY-----",
        std::string(5, '\0'),
        pem + "more",
        "before\n" + pem,
        pem + pem,
        pem + '\0',
        '\0' + pem,
        replaced(pem, "END PRIVATE", "END RSA PRIVATE"),
        replaced(pem, "-----END", "----END"),
        replaced(pem, "KEY-----\n", "KEY-----\n\v"),
        replaced(pem, "\n", "\\n"),
        replaced(pem, "\n", std::string_view("\0", 1)),
        replaced(pem, "PRIVATE KEY", "PUBLIC KEY"),
        replaced(pem, "PRIVATE KEY", "CERTIFICATE"),
        bare(pem) + "=",
        "\xef\xbb\xbf" + pem,
        "\"" + bare(pem) + "\"",
        std::string(std::size_t{40} * 1024, ' ') + pem,
        std::string(std::size_t{40} * 1024, 'A'),
        std::string(std::size_t{10} * 1024 * 1024, 'A'),
        std::string(std::size_t{10} * 1024 * 1024, '-'),
    };
    for (const std::string& text : bad) {
        EXPECT_FALSE(is_private_key(text)) << text.substr(0, 100);
        EXPECT_FALSE(is_public_key(text)) << text.substr(0, 100);
    }
    EXPECT_FALSE(is_private_key(std::string_view()));
    EXPECT_FALSE(is_public_key(std::string_view()));
}

// Whatever a flipped bit makes of a key, looking at it and using it does no harm.
TEST(Keys, SurviveEveryDamagedByte) {
    const std::string private_der = *crypto.base64_decode(bare(pkcs8_pem(rsa_key())));
    const std::string public_der = *crypto.base64_decode(bare(public_pem(rsa_key())));
    for (std::size_t at = 0; at < private_der.size(); at += at < 64 ? 1 : 13) {
        std::string der = private_der;
        der[at] = static_cast<char>(der[at] ^ 0x55);
        if (const auto key = crypto.parse_private_key(crypto.base64_encode(der))) {
            key->sign_sha256("text");
        }
        expect_clean_queue();
    }
    for (std::size_t at = 0; at < public_der.size(); ++at) {
        std::string der = public_der;
        der[at] = static_cast<char>(der[at] ^ 0x55);
        if (const auto key = crypto.parse_public_key(crypto.base64_encode(der))) {
            EXPECT_FALSE(key->verify_sha256("text", std::string(256, '\1')));
        }
        expect_clean_queue();
    }
}

// ---- Certificates ------------------------------------------------------------------------------

void expect_facts(const core::Certificate& certificate, const Json& expect) {
    EXPECT_EQ(certificate.issuer(), expect["issuer"]);
    EXPECT_EQ(certificate.serial_decimal(), expect["serial_decimal"]);
}

TEST(CertificateTest, AgreesWithAlipaysVectors) {
    const Json expect = vector_json("alipay/cert_sn.json");
    for (const char* name : {"app_cert", "alipay_cert"}) {
        const Json& of_one = expect[name];
        const Certificates certificates =
            crypto.parse_certificates(vector_file("alipay/" + of_one["file"].get<std::string>()));
        ASSERT_EQ(certificates.size(), 1U);
        const core::Certificate& certificate = *certificates[0];
        expect_facts(certificate, of_one);
        EXPECT_TRUE(certificate.is_rsa_signed());
        EXPECT_EQ(crypto.md5_hex(certificate.issuer() + certificate.serial_decimal()),
                  of_one[std::string(name) + "_sn"]);
        // 2045-01-01, as the vectors' description says.
        EXPECT_EQ(certificate.not_after_unix_s(), 2366841600);
    }
    const Json& bundle = expect["root_bundle"];
    const Certificates roots =
        crypto.parse_certificates(vector_file("alipay/alipay_root_cert.pem"));
    ASSERT_EQ(roots.size(), bundle["certificates"].size());
    for (std::size_t i = 0; i < roots.size(); ++i) {
        const Json& of_one = bundle["certificates"][i];
        expect_facts(*roots[i], of_one);
        EXPECT_EQ(roots[i]->is_rsa_signed(), of_one["used"]);
        EXPECT_EQ(roots[i]->public_key() != nullptr, of_one["used"]);
        EXPECT_EQ(crypto.md5_hex(roots[i]->issuer() + roots[i]->serial_decimal()), of_one["sn"]);
    }
    expect_clean_queue();
}

TEST(CertificateTest, HasWechatsSerialNumbers) {
    const Json params = vector_json("wechat/params.json");
    const auto serial = [](const char* file) {
        return crypto.parse_certificates(vector_file(file)).at(0)->serial_hex();
    };
    EXPECT_EQ(serial("wechat/merchant_cert.pem"), params["merchant_cert_serial"]);
    EXPECT_EQ(serial("wechat/platform_cert.pem"), params["platform_cert_serial"]);
}

TEST(CertificateTest, SerialNumberKeepsItsBytes) {
    const struct {
        std::vector<unsigned char> bytes;
        const char* hex;
        const char* decimal;
    } serials[] = {
        {{0x00}, "00", "0"},
        {{0x01}, "01", "1"},
        {{0x0a, 0xbc}, "0ABC", "2748"},
        {{0x80}, "80", "128"},
        {{0xff, 0x00, 0x00}, "FF0000", "16711680"},
    };
    for (const auto& serial : serials) {
        CertificateMaker made = maker("a", ec_key());
        made.serial = serial.bytes;
        const Certificates certificates = crypto.parse_certificates(made.make());
        ASSERT_EQ(certificates.size(), 1U);
        EXPECT_EQ(certificates[0]->serial_hex(), serial.hex);
        EXPECT_EQ(certificates[0]->serial_decimal(), serial.decimal);
    }
    CertificateMaker made = maker("a", ec_key());
    made.serial.assign(64, 0x7f);
    EXPECT_EQ(certificates_in(made.make()), 1U);
    made.serial.assign(65, 0x7f);
    EXPECT_EQ(certificates_in(made.make()), 0U);
}

// The names' types differ, what they say does not.
TEST(CertificateTest, IssuerIsUtf8) {
    const std::string chinese = "蚂蚁 Root";
    for (const int type : {MBSTRING_UTF8, V_ASN1_UTF8STRING}) {
        CertificateMaker made = maker("a", ec_key());
        made.issuer = {chinese, type, ""};
        EXPECT_EQ(crypto.parse_certificates(made.make()).at(0)->issuer(),
                  "CN=" + chinese + ",C=CN");
    }
    CertificateMaker made = maker("a", ec_key());
    made.issuer = {std::string("\x86\x82\x86\x81\0A", 6), V_ASN1_BMPSTRING, ""};
    EXPECT_EQ(crypto.parse_certificates(made.make()).at(0)->issuer(), "CN=蚂蚁A,C=CN");
    made.issuer = {"Root R1", V_ASN1_PRINTABLESTRING, ""};
    EXPECT_EQ(crypto.parse_certificates(made.make()).at(0)->issuer(), "CN=Root R1,C=CN");
    made.issuer = {" a,b+c\"d\\e<f>g;h#", MBSTRING_UTF8, "x@example.com"};
    EXPECT_EQ(crypto.parse_certificates(made.make()).at(0)->issuer(),
              R"(emailAddress=x@example.com,CN=\ a\,b\+c\"d\\e\<f\>g\;h#,C=CN)");
    made.issuer = {std::string("a\0\nb", 4), V_ASN1_UTF8STRING, ""};
    EXPECT_EQ(crypto.parse_certificates(made.make()).at(0)->issuer(), R"(CN=a\00\0Ab,C=CN)");
    expect_clean_queue();
}

TEST(CertificateTest, SaysWhoSigned) {
    const Certificates by_ec =
        crypto.parse_certificates(maker("a", rsa_key(), "b", ec_key()).make());
    ASSERT_EQ(by_ec.size(), 1U);
    EXPECT_FALSE(by_ec[0]->is_rsa_signed());
    EXPECT_TRUE(by_ec[0]->public_key());
    const Certificates by_rsa =
        crypto.parse_certificates(maker("a", ec_key(), "b", rsa_key()).make());
    ASSERT_EQ(by_rsa.size(), 1U);
    EXPECT_TRUE(by_rsa[0]->is_rsa_signed());
    EXPECT_FALSE(by_rsa[0]->public_key());
    const KeyPtr small = generated("RSA", 1024);
    EXPECT_FALSE(crypto.parse_certificates(maker("a", small.get()).make()).at(0)->public_key());
    expect_clean_queue();
}

TEST(CertificateTest, EndsWhenItSays) {
    CertificateMaker made = maker("a", ec_key());
    made.from_s = -7200;
    made.until_s = -3600;
    const std::int64_t end = crypto.parse_certificates(made.make()).at(0)->not_after_unix_s();
    const std::int64_t now = std::time(nullptr);
    EXPECT_LE(end, now - 3590);
    EXPECT_GE(end, now - 3700);
}

TEST(Certificates, ComeInTheOrderOfTheFileWhateverStandsBetween) {
    std::string bundle = "Certificate:\n    Data:\n        Version: 3 (0x2)\n";
    for (int i = 0; i < 5; ++i) {
        bundle += maker("number " + std::to_string(i), ec_key()).make();
        bundle += i % 2 == 0 ? "\r\n# – text\r\n" : "";
        bundle += '\0';
    }
    const Certificates certificates = crypto.parse_certificates(bundle);
    ASSERT_EQ(certificates.size(), 5U);
    for (std::size_t i = 0; i < 5; ++i) {
        EXPECT_EQ(certificates[i]->issuer(), "CN=number " + std::to_string(i) + ",C=CN");
    }
    const std::string one = maker("a", ec_key()).make();
    EXPECT_EQ(certificates_in(replaced(one, "\n", "\r\n")), 1U);
    EXPECT_EQ(certificates_in(replaced(one, "\n", "")), 1U);
    EXPECT_EQ(certificates_in("text" + one.substr(0, one.size() - 1)), 1U);
}

TEST(Certificates, AreNotMoreThan64) {
    const std::string one = maker("a", ec_key()).make();
    std::string bundle;
    for (int i = 0; i < 64; ++i) {
        bundle += one;
    }
    EXPECT_EQ(certificates_in(bundle), 64U);
    EXPECT_EQ(certificates_in(bundle + one), 0U);
    EXPECT_EQ(certificates_in(one + std::string(std::size_t{2} * 1024 * 1024, ' ')), 0U);
}

// A bundle is read as a whole or not at all: a missing root is no smaller mistake than a wrong one.
TEST(Certificates, AreNoneWhenOneCannotBeRead) {
    const std::string one = maker("a", ec_key()).make();
    for (std::size_t size = 0; size + 1 < one.size(); ++size) {
        ASSERT_EQ(certificates_in(one.substr(0, size)), 0U) << size;
        // A text of blanks and dashes that is no mark is text.
        if (size >= std::string_view("-----BEGIN ").size()) {
            ASSERT_EQ(certificates_in(one + one.substr(0, size)), 0U) << size;
        }
    }
    for (std::size_t size = 1; size < one.find("-----END"); ++size) {
        ASSERT_EQ(certificates_in(one.substr(size)), 0U) << size;
    }
    const std::string der = *crypto.base64_decode(bare(one));
    const auto armoured = [](const std::string& bytes) {
        return "-----BEGIN CERTIFICATE-----\n" + crypto.base64_encode(bytes) +
               "\n-----END CERTIFICATE-----\n";
    };
    ASSERT_EQ(certificates_in(armoured(der)), 1U);
    for (std::size_t size = 0; size < der.size(); ++size) {
        ASSERT_EQ(certificates_in(armoured(der.substr(0, size))), 0U) << size;
    }
    EXPECT_EQ(certificates_in(armoured(der + '\0')), 0U);
    EXPECT_EQ(certificates_in(armoured(der) + armoured("")), 0U);
    EXPECT_EQ(certificates_in(one + vector_file("alipay/app_private_key_pkcs8.pem")), 0U);
    EXPECT_EQ(certificates_in(one + replaced(one, "CERTIFICATE", "TRUSTED CERTIFICATE")), 0U);
    EXPECT_EQ(certificates_in(bare(one)), 0U);
    EXPECT_EQ(certificates_in(std::string_view()), 0U);
    EXPECT_EQ(certificates_in(std::string(1000, '\0')), 0U);
}

TEST(Certificates, SurviveEveryDamagedByte) {
    for (const std::string& pem :
         {maker("a", ec_key(), true).make(), vector_file("alipay/alipay_cert.pem")}) {
        const std::string good = *crypto.base64_decode(bare(pem));
        const Certificates roots =
            crypto.parse_certificates(vector_file("alipay/alipay_root_cert.pem"));
        for (std::size_t at = 0; at < good.size(); ++at) {
            std::string der = good;
            der[at] = static_cast<char>(der[at] ^ 0x21);
            const Certificates certificates =
                crypto.parse_certificates("-----BEGIN CERTIFICATE-----" +
                                          crypto.base64_encode(der) + "-----END CERTIFICATE-----");
            for (const auto& certificate : certificates) {
                certificate->public_key();
                EXPECT_FALSE(crypto.is_issued_by(*certificate, roots)) << at;
            }
            expect_clean_queue();
        }
    }
}

// ---- Chains ------------------------------------------------------------------------------------

bool is_issued(const std::string& certificate, const std::string& roots) {
    const Certificates leaf = crypto.parse_certificates(certificate);
    const Certificates trusted = crypto.parse_certificates(roots);
    if (leaf.size() != 1 || (trusted.empty() && !roots.empty())) {
        throw std::runtime_error("the test's certificates cannot be read");
    }
    const bool is_good = crypto.is_issued_by(*leaf[0], trusted);
    expect_clean_queue();
    return is_good;
}

TEST(IsIssuedBy, AgreesWithAlipaysVectors) {
    const Json chain = vector_json("alipay/cert_sn.json")["chain"];
    ASSERT_EQ(chain.size(), 3U);
    const std::string roots = vector_file("alipay/alipay_root_cert.pem");
    for (const Json& link : chain) {
        const std::string file = link["file"];
        EXPECT_EQ(is_issued(vector_file("alipay/" + file), roots), link["verifies_against_root"])
            << file;
    }
    EXPECT_FALSE(is_issued(vector_file("wechat/platform_cert.pem"), roots));
    EXPECT_FALSE(is_issued(vector_file("alipay/alipay_cert.pem"), ""));
}

TEST(IsIssuedBy, GoesThroughOthersOfTheRoots) {
    const std::string root = maker("root", ec_key(), true).make();
    const std::string middle = maker("middle", rsa_key(), "root", ec_key(), true).make();
    const std::string leaf = maker("leaf", other_rsa_key(), "middle", rsa_key()).make();
    EXPECT_TRUE(is_issued(leaf, root + middle));
    EXPECT_TRUE(is_issued(leaf, middle + root));
    EXPECT_TRUE(is_issued(middle, root));
    // One that another authority signed is trusted as well, when it is named.
    EXPECT_TRUE(is_issued(leaf, middle));
    EXPECT_FALSE(is_issued(leaf, root));
}

TEST(IsIssuedBy, TakesNoNameForASignature) {
    const std::string root = maker("root", ec_key(), true).make();
    EXPECT_TRUE(is_issued(maker("leaf", rsa_key(), "root", ec_key()).make(), root));
    EXPECT_FALSE(is_issued(maker("leaf", rsa_key(), "root", other_rsa_key()).make(), root));
    EXPECT_FALSE(is_issued(maker("leaf", rsa_key()).make(), root));
    // A signature by the right key in another's name.
    EXPECT_FALSE(is_issued(maker("leaf", rsa_key(), "other", ec_key()).make(), root));
}

TEST(IsIssuedBy, TakesNobodyForAnAuthority) {
    const std::string root = maker("root", ec_key(), true).make();
    const std::string merchant = maker("merchant", rsa_key(), "root", ec_key()).make();
    const std::string forged = maker("forged", other_rsa_key(), "merchant", rsa_key()).make();
    EXPECT_FALSE(is_issued(forged, root + merchant));
    EXPECT_FALSE(is_issued(forged, merchant));
}

TEST(IsIssuedBy, NeedsAnotherCertificate) {
    const std::string root = maker("root", ec_key(), true).make();
    const std::string leaf = maker("leaf", rsa_key(), "root", ec_key()).make();
    EXPECT_FALSE(is_issued(root, root));
    EXPECT_FALSE(is_issued(leaf, leaf));
    EXPECT_TRUE(is_issued(leaf, leaf + root));
}

TEST(IsIssuedBy, LooksAtNoClock) {
    CertificateMaker root = maker("root", ec_key(), true);
    root.from_s = -7200;
    root.until_s = -3600;
    CertificateMaker leaf = maker("leaf", rsa_key(), "root", ec_key());
    leaf.from_s = 3600;
    leaf.until_s = 7200;
    EXPECT_TRUE(is_issued(leaf.make(), root.make()));
}

TEST(IsIssuedBy, TakesNoBrokenDigestAndNoShortKey) {
    const std::string root = maker("root", rsa_key(), true).make();
    CertificateMaker leaf = maker("leaf", other_rsa_key(), "root", rsa_key());
    EXPECT_TRUE(is_issued(leaf.make(), root));
    for (const EVP_MD* digest : {EVP_sha1(), EVP_md5()}) {
        leaf.digest = digest;
        EXPECT_FALSE(is_issued(leaf.make(), root));
    }
    const KeyPtr small = generated("RSA", 1024);
    const std::string small_root = maker("root", small.get(), true).make();
    EXPECT_FALSE(is_issued(maker("leaf", rsa_key(), "root", small.get()).make(), small_root));
}

// Its own signature says nothing about a root, so its digest matters to nobody.
TEST(IsIssuedBy, TakesRootsWithAnOldDigest) {
    CertificateMaker root = maker("root", rsa_key(), true);
    root.digest = EVP_sha1();
    EXPECT_TRUE(is_issued(maker("leaf", other_rsa_key(), "root", rsa_key()).make(), root.make()));
}

class ForeignCertificate final : public core::Certificate {
  public:
    std::unique_ptr<core::VerifyingKey> public_key() const override { return nullptr; }
    std::string issuer() const override { return {}; }
    std::string serial_decimal() const override { return {}; }
    std::string serial_hex() const override { return {}; }
    bool is_rsa_signed() const override { return false; }
    std::int64_t not_after_unix_s() const override { return 0; }
};

TEST(IsIssuedBy, TakesNoCertificateThatItDidNotMake) {
    Certificates roots = crypto.parse_certificates(vector_file("alipay/alipay_root_cert.pem"));
    const Certificates leaf = crypto.parse_certificates(vector_file("alipay/alipay_cert.pem"));
    EXPECT_FALSE(crypto.is_issued_by(ForeignCertificate(), roots));
    ASSERT_TRUE(crypto.is_issued_by(*leaf.at(0), roots));
    roots.push_back(nullptr);
    EXPECT_FALSE(crypto.is_issued_by(*leaf.at(0), roots));
    roots.back() = std::make_unique<ForeignCertificate>();
    EXPECT_FALSE(crypto.is_issued_by(*leaf.at(0), roots));
    expect_clean_queue();
}

// ---- AES-GCM and MD5 ---------------------------------------------------------------------------

std::string sealed(std::string_view key, std::string_view nonce, std::string_view associated_data,
                   std::string_view plaintext) {
    const auto bytes = [](std::string_view text) {
        return reinterpret_cast<const unsigned char*>(text.data());
    };
    const CipherContextPtr context(EVP_CIPHER_CTX_new());
    std::string text(plaintext.size(), '\0');
    std::array<unsigned char, 16> tag{};
    auto* to = reinterpret_cast<unsigned char*>(text.data());
    int size = 0;
    must(EVP_EncryptInit_ex2(context.get(), EVP_aes_256_gcm(), bytes(key), bytes(nonce), nullptr) ==
         1);
    if (!associated_data.empty()) {
        must(EVP_EncryptUpdate(context.get(), nullptr, &size, bytes(associated_data),
                               static_cast<int>(associated_data.size())) == 1);
    }
    if (!plaintext.empty()) {
        must(EVP_EncryptUpdate(context.get(), to, &size, bytes(plaintext),
                               static_cast<int>(plaintext.size())) == 1);
    }
    must(EVP_EncryptFinal_ex(context.get(), tag.data(), &size) == 1 &&
         EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, 16, tag.data()) == 1);
    return text + std::string(tag.begin(), tag.end());
}

std::string with_flipped_bit(std::string text, std::size_t bit) {
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << (bit % 8)));
    return text;
}

TEST(AesGcm, AgreesWithTheVectorsAndWithNothingNearThem) {
    const Json vectors = vector_json("wechat/aes_gcm.json")["vectors"];
    ASSERT_EQ(vectors.size(), 4U);
    for (const Json& vector : vectors) {
        const std::string key = vector["key_ascii"];
        const std::string nonce = vector["nonce_ascii"];
        const std::string data = vector["associated_data"];
        const std::string plaintext = vector["plaintext"];
        const std::string text =
            *crypto.base64_decode(vector["ciphertext_base64"].get<std::string>());
        EXPECT_EQ(sealed(key, nonce, data, plaintext), text);
        EXPECT_EQ(crypto.open_aes_256_gcm(key, nonce, data, text), plaintext);
        const std::array<std::string, 4> parts = {key, nonce, data, text};
        for (std::size_t part = 0; part < parts.size(); ++part) {
            for (std::size_t bit = 0; bit < parts[part].size() * 8; ++bit) {
                auto bad = parts;
                bad[part] = with_flipped_bit(bad[part], bit);
                EXPECT_EQ(crypto.open_aes_256_gcm(bad[0], bad[1], bad[2], bad[3]), std::nullopt)
                    << vector["name"] << ", part " << part << ", bit " << bit;
            }
        }
        for (std::size_t size = 0; size < text.size(); ++size) {
            EXPECT_EQ(crypto.open_aes_256_gcm(key, nonce, data, text.substr(0, size)),
                      std::nullopt);
            EXPECT_EQ(crypto.open_aes_256_gcm(key, nonce, data, text.substr(text.size() - size)),
                      std::nullopt);
        }
        EXPECT_EQ(crypto.open_aes_256_gcm(key, nonce, data, text + '\0'), std::nullopt);
    }
    expect_clean_queue();
}

TEST(AesGcm, OpensWhatIsEmptyAndWhatIsLong) {
    const std::string key(32, 'k');
    const std::string nonce(12, '\0');
    for (const std::size_t size : {0, 1, 15, 16, 17, 1000000}) {
        const std::string text(size, 't');
        for (const std::string& data : {std::string(), std::string("a\0b", 3)}) {
            EXPECT_EQ(crypto.open_aes_256_gcm(key, nonce, data, sealed(key, nonce, data, text)),
                      text);
        }
    }
    const std::string tag = sealed(key, nonce, "", "");
    EXPECT_EQ(crypto.open_aes_256_gcm(key, nonce, std::string_view(), tag), "");
    EXPECT_EQ(crypto.open_aes_256_gcm(key, nonce, "x", tag), std::nullopt);
}

TEST(AesGcm, TakesKeysAndNoncesOfTheirLengthOnly) {
    const std::string text = sealed(std::string(32, 'k'), std::string(12, 'n'), "", "text");
    for (std::size_t size = 0; size < 70; ++size) {
        EXPECT_EQ(crypto.open_aes_256_gcm(std::string(size, 'k'), std::string(12, 'n'), "", text)
                      .has_value(),
                  size == 32);
        EXPECT_EQ(crypto.open_aes_256_gcm(std::string(32, 'k'), std::string(size, 'n'), "", text)
                      .has_value(),
                  size == 12);
    }
    EXPECT_EQ(crypto.open_aes_256_gcm({}, {}, {}, {}), std::nullopt);
    expect_clean_queue();
}

TEST(Md5, MatchesRfc1321) {
    EXPECT_EQ(crypto.md5_hex(""), "d41d8cd98f00b204e9800998ecf8427e");
    EXPECT_EQ(crypto.md5_hex(std::string_view()), "d41d8cd98f00b204e9800998ecf8427e");
    EXPECT_EQ(crypto.md5_hex("abc"), "900150983cd24fb0d6963f7d28e17f72");
    EXPECT_EQ(crypto.md5_hex("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    EXPECT_NE(crypto.md5_hex(std::string_view("a\0b", 3)), crypto.md5_hex("a"));
}

}  // namespace
}  // namespace payonce::net
