// The validators of the wrappers: options are checked when the DDL runs, not when money is to be
// sent. An error never shows the value of an option that may hold a secret.
#include "core/gateways/http.h"
#include "net/openssl_crypto.h"
#include "net/url.h"

#include <cstring>
#include <string_view>

#include "pg/pg.h"

namespace payonce::pg {
namespace {

enum class OptionKind : std::uint8_t {
    url,
    file,  // absolute path on the server: superuser or pg_read_server_files
    duration,
    count,
    boolean,
    token,
    signing_secret,
};

struct OptionRule {
    const char* name;
    Oid catalog;
    OptionKind kind;
    int min;
    int max;
};

constexpr OptionRule http_options[] = {
    {"url", ForeignServerRelationId, OptionKind::url, 0, 0},
    {"ca_file", ForeignServerRelationId, OptionKind::file, 0, 0},
    {"timeout", ForeignServerRelationId, OptionKind::duration, 100, 600'000},
    {"max_in_flight", ForeignServerRelationId, OptionKind::count, 1, 1000},
    {"rate_limit", ForeignServerRelationId, OptionKind::count, 1, 1'000'000},
    {"paused", ForeignServerRelationId, OptionKind::boolean, 0, 0},
    {"bearer_token", UserMappingRelationId, OptionKind::token, 0, 0},
    {"bearer_token_file", UserMappingRelationId, OptionKind::file, 0, 0},
    {"signing_secret", UserMappingRelationId, OptionKind::signing_secret, 0, 0},
    {"signing_secret_file", UserMappingRelationId, OptionKind::file, 0, 0},
};

[[noreturn]] void report_value(const char* option, const char* detail, const char* hint) {
    ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
                    errmsg("the value of option \"%s\" is invalid", option),
                    errdetail("%s", detail), errhint("%s", hint)));
    pg_unreachable();
}

[[noreturn]] void report_unknown_option(const char* option, Oid catalog) {
    StringInfoData known;
    initStringInfo(&known);
    for (const OptionRule& rule : http_options) {
        if (rule.catalog == catalog) {
            appendStringInfo(&known, "%s%s", known.len > 0 ? ", " : "", rule.name);
        }
    }
    ereport(ERROR,
            (errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errmsg("invalid option \"%s\"", option),
             errdetail("payonce_http does not know it here."),
             known.len > 0 ? errhint("Valid options in this context are: %s.", known.data)
                           : errhint("There are no valid options in this context.")));
    pg_unreachable();
}

void check_url(const char* option, const char* value) {
    using net::UrlVerdict;
    constexpr const char* form =
        "Give the base of the gateway's API, such as https://pay.example.com/v1.";
    switch (net::judge_base_url(value)) {
        case UrlVerdict::ok:
            return;
        case UrlVerdict::malformed:
            report_value(option, "It is not a URL with a scheme and a host.", form);
        case UrlVerdict::scheme_unsupported:
            report_value(option, "Only https, and http to loopback, are supported.", form);
        case UrlVerdict::has_credentials:
            report_value(option, "It holds a user name or password.",
                         "Put secrets into the user mapping.");
        case UrlVerdict::has_query_or_fragment:
            report_value(option, "It holds a query or a fragment.", form);
        case UrlVerdict::plain_http:
            report_value(option, "Plain http is only allowed to loopback.", "Use https.");
        case UrlVerdict::too_long:
            report_value(option, "It is longer than 2000 bytes.", form);
    }
}

void check_file(const char* option, const char* value) {
    if (!superuser() && !has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES)) {
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                 errmsg("permission denied to set option \"%s\"", option),
                 errdetail("It has the server read a file."),
                 errhint("Only superusers and members of pg_read_server_files may set it.")));
    }
    if (!is_absolute_path(value)) {
        report_value(option, "It is not an absolute path.",
                     "Give the whole path of a file that the server's user can read.");
    }
}

void check_number(const OptionRule& rule, const char* value, int flags) {
    int parsed = 0;
    if (!parse_int(value, &parsed, flags, nullptr) || parsed < rule.min || parsed > rule.max) {
        report_value(
            rule.name,
            psprintf("It must be from %d to %d%s.", rule.min, rule.max,
                     flags == GUC_UNIT_MS ? " ms" : ""),
            flags == GUC_UNIT_MS ? "Give a time, such as 30s or 500ms." : "Give a whole number.");
    }
}

void check_boolean(const char* option, const char* value) {
    bool parsed = false;
    if (!parse_bool(value, &parsed)) {
        report_value(option, "It must be a boolean.", "Give true or false.");
    }
}

// It becomes a header: a line break would let it add others.
void check_token(const char* option, const char* value) {
    bool printable = value[0] != '\0' && std::strlen(value) <= 4096;
    for (const char* at = value; *at != '\0'; ++at) {
        printable = printable && *at > ' ' && *at < '\x7f';
    }
    if (!printable) {
        report_value(option, "It must be 1 to 4096 printable ASCII characters without blanks.",
                     "Give the token as the gateway handed it out.");
    }
}

// The C++ phase: allocates, so it may throw, and reports nothing.
bool is_signing_secret(const char* value) noexcept {
    try {
        return core::http_gateway::signing_key(value, net::OpensslCrypto()).has_value();
    } catch (...) {
        return false;
    }
}

void check_value(const OptionRule& rule, const char* value) {
    switch (rule.kind) {
        case OptionKind::url:
            check_url(rule.name, value);
            break;
        case OptionKind::file:
            check_file(rule.name, value);
            break;
        case OptionKind::duration:
            check_number(rule, value, GUC_UNIT_MS);
            break;
        case OptionKind::count:
            check_number(rule, value, 0);
            break;
        case OptionKind::boolean:
            check_boolean(rule.name, value);
            break;
        case OptionKind::token:
            check_token(rule.name, value);
            break;
        case OptionKind::signing_secret:
            if (!is_signing_secret(value)) {
                report_value(rule.name, "It must be the base64 of 24 to 64 bytes, after whsec_.",
                             "Give the secret as Standard Webhooks writes it.");
            }
            break;
    }
}

const OptionRule* find_rule(const char* name, Oid catalog) {
    for (const OptionRule& rule : http_options) {
        if (rule.catalog == catalog && std::strcmp(rule.name, name) == 0) {
            return &rule;
        }
    }
    return nullptr;
}

bool has_option(List* options, const char* name) {
    ListCell* cell = nullptr;
    foreach (cell, options) {
        if (std::strcmp(static_cast<DefElem*>(lfirst(cell))->defname, name) == 0) {
            return true;
        }
    }
    return false;
}

void check_one_of(List* options, const char* name) {
    const char* file = psprintf("%s_file", name);
    if (has_option(options, name) && has_option(options, file)) {
        report_value(name, psprintf("%s is given as well.", file), "Give one of the two.");
    }
}

void validate(List* options, Oid catalog) {
    ListCell* cell = nullptr;
    foreach (cell, options) {
        auto* option = static_cast<DefElem*>(lfirst(cell));
        const OptionRule* rule = find_rule(option->defname, catalog);
        if (rule == nullptr) {
            report_unknown_option(option->defname, catalog);
        }
        check_value(*rule, defGetString(option));
    }
    if (catalog == ForeignServerRelationId && !has_option(options, "url")) {
        ereport(ERROR,
                (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND), errmsg("option \"url\" is missing"),
                 errdetail("A gateway needs the address to which refunds are sent."),
                 errhint("Add OPTIONS (url 'https://…').")));
    }
    check_one_of(options, "bearer_token");
    check_one_of(options, "signing_secret");
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_http_validator);

Datum payonce_http_validator(PG_FUNCTION_ARGS) {
    List* options = untransformRelOptions(PG_GETARG_DATUM(0));
    payonce::pg::validate(options, PG_GETARG_OID(1));
    PG_RETURN_VOID();
}
}
