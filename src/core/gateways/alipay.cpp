// Opens an Alipay gateway, signs what it sends, verifies what it is told. What verified answers and
// notices mean is in alipay_answer and alipay_notice.
#include "core/gateways/alipay.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/form.h"
#include "core/gateways/alipay_answer.h"
#include "core/gateways/alipay_notice.h"
#include "core/gateways/alipay_text.h"
#include "core/gateways/chinese_reason.h"
#include "core/json.h"
#include "core/signed_node.h"
#include "core/text.h"
#include "core/yuan.h"

namespace payonce::core {
namespace {

using alipay::EmptyValues;
using nlohmann::json;

constexpr std::size_t max_notice_bytes = 64UL * 1024;
constexpr std::size_t max_number_bytes = 64;

constexpr std::string_view new_certificate_hint =
    "Alipay may have changed its certificate: download it from the open platform and set "
    "alipay_cert";

// In certificate mode each side names the certificate that it signs with.
struct CertificateNames {
    std::string app_sn;
    std::string root_sn;
    std::string alipay_sn;
    std::int64_t alipay_not_after_unix_s = 0;
};

struct Identity {
    std::string url;
    std::string app_id;
    std::string seller_id;  // empty: not checked
    std::unique_ptr<SigningKey> private_key;
    std::unique_ptr<VerifyingKey> alipay_key;
    std::optional<CertificateNames> certificates;  // unset: key mode
};

GatewayAnswer unverifiable(const std::string& error) {
    GatewayAnswer made = answer(Verdict::unknown, error);
    made.facts.concern = Concern::unverifiable;
    return made;
}

bool is_plain(std::string_view number, std::string_view besides_letters_and_digits) noexcept {
    const auto plain = [=](char c) {
        return is_alphanumeric(c) || besides_letters_and_digits.find(c) != std::string_view::npos;
    };
    return !number.empty() && number.size() <= max_number_bytes &&
           std::all_of(number.begin(), number.end(), plain);
}

// Why Alipay could never take this refund; empty: it can. Alipay reads numbers with other
// characters in ways of its own, so they are not sent.
std::string_view obstacle_to(const RefundCall& call) noexcept {
    if (!is_plain(call.refund_no, "_-")) {
        return "Alipay takes refund numbers of letters, digits, '_' and '-' only: give payments "
               "through Alipay ids without other characters";
    }
    if (call.transaction_id.empty() && !is_plain(call.payment_id, "_")) {
        return "Alipay takes payment numbers of letters, digits and '_' only, and its own trade "
               "number, transaction_id, is not known";
    }
    if (!call.transaction_id.empty() && !is_plain(call.transaction_id, "_-")) {
        return "the payment's transaction_id is not an Alipay trade number";
    }
    if (call.currency != "CNY") {
        return "Alipay refunds in CNY only";
    }
    return call.amount > 0 ? "" : "the amount is not positive";
}

std::string_view method_of(CallKind kind) noexcept {
    return kind == CallKind::refund ? "alipay.trade.refund" : "alipay.trade.fastpay.refund.query";
}

std::string_view node_name_of(CallKind kind) noexcept {
    return kind == CallKind::refund ? "alipay_trade_refund_response"
                                    : "alipay_trade_fastpay_refund_query_response";
}

// Exactly the documented members: others are said to have led to repeated refunds.
std::string biz_content(const RefundCall& call) {
    json content = {{"out_request_no", call.refund_no}};
    if (call.transaction_id.empty()) {
        content["out_trade_no"] = call.payment_id;
    } else {
        content["trade_no"] = call.transaction_id;
    }
    if (call.kind == CallKind::refund) {
        content["refund_amount"] = yuan_of_fen(call.amount);
        content["refund_reason"] = chinese_reason(call.reason);
    }
    return content.dump();
}

std::string text_of_string(std::string_view json_text) {
    const json value = parse_json(json_text);
    return value.is_string() ? value.get<std::string>() : std::string();
}

bool says_utf8(std::string_view charset) {
    const std::string lower = lower_case(charset);
    return lower.empty() || lower == "utf-8";
}

FormFields without(FormFields fields, std::string_view name) {
    std::erase_if(fields, [=](const auto& field) { return field.first == name; });
    return fields;
}

class AlipayGateway final : public Gateway {
  public:
    AlipayGateway(Identity identity, const CryptoPort& crypto)
        : identity_(std::move(identity)), crypto_(crypto) {}

    BuiltRequest build(const RefundCall& call, const SigningMoment& moment) const override;
    GatewayAnswer read_answer(const RefundCall& call, const HttpResponse& response,
                              std::int64_t now_unix_s) const override;
    Notice read_notice(const RawNotice& raw) const override;
    NoticeReply reply(ReplyKind kind) const noexcept override;

  private:
    GatewayAnswer read_body(const RefundCall& call, std::string_view body,
                            std::int64_t now_unix_s) const;
    std::string doubt_about(const std::vector<JsonMember>& members, std::string_view node_text,
                            std::int64_t now_unix_s) const;
    bool is_expired(std::int64_t now_unix_s) const noexcept;
    bool is_signed(const FormFields& fields) const;

    Identity identity_;
    const CryptoPort& crypto_;
};

BuiltRequest AlipayGateway::build(const RefundCall& call, const SigningMoment& moment) const {
    if (const std::string_view obstacle = obstacle_to(call); !obstacle.empty()) {
        return answer(Verdict::rejected, obstacle);
    }
    FormFields fields = {
        {"app_id", identity_.app_id}, {"method", std::string(method_of(call.kind))},
        {"format", "JSON"},           {"charset", "utf-8"},
        {"sign_type", "RSA2"},        {"timestamp", alipay::beijing_time(moment.unix_s)},
        {"version", "1.0"},
    };
    if (identity_.certificates) {
        fields.emplace_back("app_cert_sn", identity_.certificates->app_sn);
        fields.emplace_back("alipay_root_cert_sn", identity_.certificates->root_sn);
    }
    fields.emplace_back("biz_content", biz_content(call));
    const auto signature =
        identity_.private_key->sign_sha256(alipay::signed_text(fields, EmptyValues::dropped));
    if (!signature) {
        return answer(Verdict::not_sent, "the request could not be signed");
    }
    fields.emplace_back("sign", crypto_.base64_encode(*signature));
    HttpRequest request;
    request.method = HttpMethod::post;
    request.url = identity_.url;
    request.headers.push_back({"Accept", "application/json"});
    // The charset here too: Alipay may decode the body before it has read the field.
    request.headers.push_back({"Content-Type", "application/x-www-form-urlencoded;charset=utf-8"});
    request.body = write_form(fields);
    return request;
}

GatewayAnswer AlipayGateway::read_answer(const RefundCall& call, const HttpResponse& response,
                                         std::int64_t now_unix_s) const {
    GatewayAnswer made;
    if (const auto none = unanswered(response)) {
        made = *none;
    } else if (response.status != 200) {
        // Not Alipay's word: it answers what it has processed with 200, errors too.
        made = answer(Verdict::unknown, "HTTP " + std::to_string(response.status) + ": " +
                                            clean_text(response.body, 200));
        made.facts.slow_down = response.status == 429 || response.status == 503;
    } else {
        made = read_body(call, response.body, now_unix_s);
    }
    made.facts.retry_after_s = response.retry_after_s;
    return made;
}

GatewayAnswer AlipayGateway::read_body(const RefundCall& call, std::string_view body,
                                       std::int64_t now_unix_s) const {
    const auto members = json_members(body);
    if (!members) {
        return answer(Verdict::unknown, "Alipay's answer is not a well-formed JSON object");
    }
    const std::string_view node_text = member_text(*members, node_name_of(call.kind));
    if (node_text.empty()) {
        const json error_node = parse_json(member_text(*members, "error_response"));
        return error_node.is_object()
                   ? alipay::read_error_response(error_node)
                   : answer(Verdict::unknown, "Alipay's answer is to another method");
    }
    const json node = parse_json(node_text);
    // Also of the node, that no member is there twice.
    if (!json_members(node_text)) {
        return answer(Verdict::unknown, "Alipay's answer holds no well-formed result");
    }
    const std::string doubt = doubt_about(*members, node_text, now_unix_s);
    return doubt.empty() ? alipay::read_node(call, node)
                         : unverifiable(doubt + ". It says: " + alipay::said_by(node));
}

// Why the answer cannot be believed; empty: it can.
std::string AlipayGateway::doubt_about(const std::vector<JsonMember>& members,
                                       std::string_view node_text, std::int64_t now_unix_s) const {
    const std::string sign = text_of_string(member_text(members, "sign"));
    if (sign.empty()) {
        return "Alipay's answer is not signed";
    }
    if (identity_.certificates) {
        const std::string sn = text_of_string(member_text(members, "alipay_cert_sn"));
        if (sn != identity_.certificates->alipay_sn) {
            return "Alipay's answer is signed with another certificate than alipay_cert (" +
                   (sn.empty() ? "it names none" : "alipay_cert_sn " + clean_text(sn, 64)) + "). " +
                   std::string(new_certificate_hint);
        }
        if (is_expired(now_unix_s)) {
            return "alipay_cert has expired. " + std::string(new_certificate_hint);
        }
    }
    const auto signature = crypto_.base64_decode(sign);
    if (!signature || !identity_.alipay_key->verify_sha256(node_text, *signature)) {
        return "the signature of Alipay's answer is wrong. Check that " +
               std::string(identity_.certificates ? "alipay_cert" : "alipay_public_key") +
               " is Alipay's, of this application and environment";
    }
    return {};
}

bool AlipayGateway::is_expired(std::int64_t now_unix_s) const noexcept {
    return identity_.certificates && now_unix_s > identity_.certificates->alipay_not_after_unix_s;
}

bool AlipayGateway::is_signed(const FormFields& fields) const {
    const auto signature = crypto_.base64_decode(form_value(fields, "sign"));
    if (!signature) {
        return false;
    }
    const auto verifies = [&](const FormFields& covered) {
        const std::string text = alipay::signed_text(covered, EmptyValues::dropped);
        // Alipay's own libraries disagree about empty values.
        const std::string whole = alipay::signed_text(covered, EmptyValues::kept);
        return identity_.alipay_key->verify_sha256(text, *signature) ||
               (whole != text && identity_.alipay_key->verify_sha256(whole, *signature));
    };
    const FormFields unsigned_fields = without(fields, "sign");
    return verifies(without(unsigned_fields, "sign_type")) ||
           (alipay::is_message(fields) && verifies(unsigned_fields));
}

Notice AlipayGateway::read_notice(const RawNotice& raw) const {
    if (raw.body.size() > max_notice_bytes) {
        return notice(NoticeKind::forged, "the body is longer than 64 KiB");
    }
    const auto fields = read_form(raw.body);
    if (!fields) {
        return notice(NoticeKind::forged, "the body is not a form of distinct fields");
    }
    if (!says_utf8(form_value(*fields, "charset"))) {
        return notice(NoticeKind::forged, "charset is not utf-8");
    }
    if (form_value(*fields, "sign").empty()) {
        return notice(NoticeKind::forged, "it has no sign");
    }
    if (form_value(*fields, "sign_type") != "RSA2") {
        return notice(NoticeKind::forged, "sign_type is not RSA2");
    }
    if (is_expired(raw.now_unix_s)) {
        return notice(NoticeKind::unusable,
                      "alipay_cert has expired: download Alipay's certificate from the open "
                      "platform and set alipay_cert");
    }
    if (!is_signed(*fields)) {
        return notice(
            NoticeKind::forged,
            identity_.certificates
                ? "the signature is wrong (if all are: alipay_cert is no longer Alipay's)"
                : "the signature is wrong (if all are: alipay_public_key is not Alipay's)");
    }
    if (form_value(*fields, "app_id") != identity_.app_id) {
        return notice(NoticeKind::forged, "app_id is not ours");
    }
    if (!identity_.seller_id.empty() && !alipay::is_message(*fields) &&
        form_value(*fields, "seller_id") != identity_.seller_id) {
        return notice(NoticeKind::forged, "seller_id is not ours");
    }
    return alipay::read_fields(*fields);
}

NoticeReply AlipayGateway::reply(ReplyKind kind) const noexcept {
    constexpr std::string_view text = "text/plain";
    switch (kind) {
        case ReplyKind::accepted:
            return {200, text, "success"};
        case ReplyKind::refused:
            return {400, text, "fail"};
        case ReplyKind::failed:
            break;
    }
    return {500, text, "fail"};
}

OptionProblem problem(std::string_view option, std::string_view detail, std::string_view hint) {
    return {std::string(option), std::string(detail), std::string(hint)};
}

using MaybeProblem = std::optional<OptionProblem>;

MaybeProblem check_ids(const GatewayOptions& options) {
    const std::string_view app_id = options.get("app_id");
    if (app_id.empty() || app_id.size() > 32 || !is_plain(app_id, "")) {
        return problem("app_id", "It must be 1 to 32 letters and digits.",
                       "Give the application's APPID from Alipay's open platform.");
    }
    const std::string_view seller_id = options.get("seller_id");
    const bool is_seller_id = seller_id.starts_with("2088") && seller_id.size() <= 30 &&
                              std::all_of(seller_id.begin(), seller_id.end(), is_digit);
    if (!seller_id.empty() && !is_seller_id) {
        return problem("seller_id", "It is not a number that begins with 2088.",
                       "Give the merchant's PID, or leave the option out.");
    }
    return std::nullopt;
}

MaybeProblem check_mode(const GatewayOptions& options) {
    constexpr std::string_view both_modes =
        "Set either alipay_public_key, or app_cert, alipay_cert and alipay_root_cert, as the "
        "application is set up at Alipay.";
    const bool by_key = options.has("alipay_public_key");
    bool by_certificate = false;
    std::string_view missing;
    for (const std::string_view name : {"app_cert", "alipay_cert", "alipay_root_cert"}) {
        by_certificate = by_certificate || options.has(name);
        missing = options.has(name) ? missing : name;
    }
    if (by_key && by_certificate) {
        return problem("alipay_public_key", "It is set together with certificates.", both_modes);
    }
    if (!by_key && !by_certificate) {
        return problem("alipay_public_key", "There is nothing to verify Alipay's signatures with.",
                       both_modes);
    }
    if (by_certificate && !missing.empty()) {
        return problem(missing, "It is missing: certificate mode needs all three certificates.",
                       both_modes);
    }
    return std::nullopt;
}

MaybeProblem take_private_key(const GatewayOptions& options, const CryptoPort& crypto,
                              Identity& identity) {
    identity.private_key = crypto.parse_private_key(options.get("private_key"));
    if (identity.private_key) {
        return std::nullopt;
    }
    return problem("private_key", "It is not an RSA private key of 2048 bits or more.",
                   "Give the application's private key as Alipay's key tool wrote it: PEM, or one "
                   "line of base64.");
}

MaybeProblem take_public_key(const GatewayOptions& options, const CryptoPort& crypto,
                             Identity& identity) {
    identity.alipay_key = crypto.parse_public_key(options.get("alipay_public_key"));
    if (!identity.alipay_key) {
        return problem("alipay_public_key", "It is not an RSA public key of 2048 bits or more.",
                       "Copy Alipay's public key from the open platform: PEM, or one line of "
                       "base64.");
    }
    if (identity.alipay_key->public_der() == identity.private_key->public_der()) {
        return problem("alipay_public_key",
                       "It is the application's own public key, the other half of private_key.",
                       "Copy the key that the open platform calls Alipay's public key; the "
                       "application's stays at Alipay.");
    }
    return std::nullopt;
}

// Alipay's files may bring intermediate certificates along; they count only by way of a root.
bool leads_to_root(const CryptoPort& crypto, const Certificates& chain, const Certificates& roots) {
    const std::span<const std::unique_ptr<Certificate>> all(chain);
    std::size_t current = 0;
    for (std::size_t step = 0; step < all.size(); ++step) {
        if (crypto.is_issued_by(*all[current], roots)) {
            return true;
        }
        std::size_t issuer = 1;
        while (issuer < all.size() &&
               (issuer == current || !crypto.is_issued_by(*all[current], all.subspan(issuer, 1)))) {
            ++issuer;
        }
        if (issuer == all.size()) {
            return false;
        }
        current = issuer;
    }
    return false;
}

MaybeProblem take_certificates(const GatewayOptions& options, std::string_view name,
                               const CryptoPort& crypto, Certificates& certificates) {
    certificates = crypto.parse_certificates(options.get(name));
    if (!certificates.empty()) {
        return std::nullopt;
    }
    return problem(name, "It is not a certificate, or a bundle of them, in PEM.",
                   "Download the file again from Alipay's open platform.");
}

MaybeProblem check_certificates(const CryptoPort& crypto, const Certificates& app_cert,
                                const Certificates& alipay_cert, const Certificates& roots,
                                const Identity& identity) {
    constexpr std::string_view same_set =
        "Download the three certificates of this application again: they belong together.";
    const auto app_key = app_cert.front()->public_key();
    if (!app_key || app_key->public_der() != identity.private_key->public_der()) {
        return problem("app_cert", "Its key is not the other half of private_key.",
                       "Give the certificate that was made for this private key.");
    }
    if (!identity.alipay_key) {
        return problem(
            "alipay_cert", "Its key is not an RSA key of 2048 bits or more.",
            "Give the certificate whose file name begins with alipayCertPublicKey_RSA2.");
    }
    if (identity.alipay_key->public_der() == app_key->public_der()) {
        return problem(
            "alipay_cert", "It is the application's own certificate.",
            "Give the certificate whose file name begins with alipayCertPublicKey_RSA2.");
    }
    if (!leads_to_root(crypto, app_cert, roots)) {
        return problem("app_cert", "It was not issued by a certificate of alipay_root_cert.",
                       same_set);
    }
    if (!leads_to_root(crypto, alipay_cert, roots)) {
        return problem("alipay_cert", "It was not issued by a certificate of alipay_root_cert.",
                       same_set);
    }
    return std::nullopt;
}

MaybeProblem name_certificates(const CryptoPort& crypto, const Certificate& app_cert,
                               const Certificate& alipay_cert, const Certificates& roots,
                               Identity& identity) {
    auto app_sn = alipay::certificate_sn(app_cert, crypto);
    auto alipay_sn = alipay::certificate_sn(alipay_cert, crypto);
    auto root_sn = alipay::root_certificate_sn(roots, crypto);
    if (!app_sn || !alipay_sn || !root_sn) {
        return problem("app_cert", "Its serial number cannot be computed: MD5 is not available.",
                       "Let OpenSSL's configuration allow MD5, or use alipay_public_key.");
    }
    if (root_sn->empty()) {
        return problem("alipay_root_cert", "It holds no certificate that is signed with RSA.",
                       "Give the whole file alipayRootCert.crt.");
    }
    identity.certificates = CertificateNames{std::move(*app_sn), std::move(*root_sn),
                                             std::move(*alipay_sn), alipay_cert.not_after_unix_s()};
    return std::nullopt;
}

MaybeProblem take_certificate_mode(const GatewayOptions& options, const CryptoPort& crypto,
                                   Identity& identity) {
    Certificates app_cert;
    Certificates alipay_cert;
    Certificates roots;
    MaybeProblem found = take_certificates(options, "app_cert", crypto, app_cert);
    if (!found) {
        found = take_certificates(options, "alipay_cert", crypto, alipay_cert);
    }
    if (!found) {
        found = take_certificates(options, "alipay_root_cert", crypto, roots);
    }
    if (!found) {
        // Of a bundle the first is the one that is meant, as in Alipay's own libraries.
        identity.alipay_key = alipay_cert.front()->public_key();
        found = check_certificates(crypto, app_cert, alipay_cert, roots, identity);
    }
    if (!found) {
        found = name_certificates(crypto, *app_cert.front(), *alipay_cert.front(), roots, identity);
    }
    return found;
}

OpenedGateway open_alipay(const GatewayOptions& options, const CryptoPort& crypto) {
    Identity identity;
    identity.url = options.get("url");
    identity.app_id = options.get("app_id");
    identity.seller_id = options.get("seller_id");
    MaybeProblem found = check_ids(options);
    if (!found) {
        found = check_mode(options);
    }
    if (!found) {
        found = take_private_key(options, crypto, identity);
    }
    if (!found) {
        found = options.has("alipay_public_key") ? take_public_key(options, crypto, identity)
                                                 : take_certificate_mode(options, crypto, identity);
    }
    if (found) {
        return {nullptr, std::move(*found)};
    }
    return {std::make_unique<AlipayGateway>(std::move(identity), crypto), {}};
}

constexpr OptionRule alipay_options[] = {
    {.name = "app_id"},
    {.name = "seller_id"},
    {.name = "private_key", .has_file = true},
    {.name = "alipay_public_key", .has_file = true},
    {.name = "app_cert", .has_file = true},
    {.name = "alipay_cert", .has_file = true},
    {.name = "alipay_root_cert", .has_file = true},
};

}  // namespace

const Driver alipay_driver = {
    .wrapper = "payonce_alipay",
    .options = alipay_options,
    .traits =
        {
            .query_delay_s = 10,
            .payment_spacing_s = 3,
            // Of common contracts; others differ, and Alipay's answer decides.
            .refund_window_s = 365LL * 24 * 3600,
            .idempotency_horizon_s = 0,
            .rate_limit_per_s = 10,
        },
    .open = open_alipay,
};

}  // namespace payonce::core
