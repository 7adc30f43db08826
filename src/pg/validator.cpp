// The validator of the wrappers: options are checked when the DDL runs, not when money is to be
// sent. An error never shows the value of an option that may hold a secret, and keeps the
// statement, which does, out of the server's log.
#include "core/gateway.h"
#include "net/url.h"

#include <cstring>
#include <optional>
#include <string_view>

#include "pg/arguments.h"
#include "pg/encoding.h"
#include "pg/gateway_bridge.h"
#include "pg/gateway_config.h"
#include "pg/pg.h"

namespace payonce::pg {
namespace {

enum class OptionKind : std::uint8_t {
    url,
    file,  // absolute path on the server: superuser or pg_read_server_files
    duration,
    count,
    boolean,
    driver,  // the driver's own: judged with the others, when the gateway is opened
};

struct OptionCheck {
    OptionKind kind;
    int min;
    int max;
};

struct CommonOption {
    const char* name;
    OptionCheck check;
};

// Of every gateway's server.
constexpr CommonOption common_options[] = {
    {"url", {OptionKind::url, 0, 0}},
    {"ca_file", {OptionKind::file, 0, 0}},
    {"timeout", {OptionKind::duration, 100, 600'000}},
    {"max_in_flight", {OptionKind::count, 1, 1000}},
    {"rate_limit", {OptionKind::count, 1, 1'000'000}},
    {"paused", {OptionKind::boolean, 0, 0}},
};

[[noreturn]] void report_value(const char* option, const char* detail, const char* hint) {
    ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
                    errmsg("the value of option \"%s\" is invalid", option),
                    errdetail("%s", detail), errhint("%s", hint), errhidestmt(true)));
    pg_unreachable();
}

core::OptionScope scope_of(Oid catalog) {
    return catalog == UserMappingRelationId ? core::OptionScope::user_mapping
                                            : core::OptionScope::server;
}

void append_name(StringInfo names, const char* name, const char* suffix = "") {
    appendStringInfo(names, "%s%s%s", names->len > 0 ? ", " : "", name, suffix);
}

[[noreturn]] void report_unknown_option(const core::Driver& driver, const char* option,
                                        Oid catalog) {
    StringInfoData known;
    initStringInfo(&known);
    if (catalog == ForeignServerRelationId) {
        for (const CommonOption& common : common_options) {
            append_name(&known, common.name);
        }
    }
    for (const core::OptionRule& rule : driver.options) {
        const bool fits =
            catalog != ForeignDataWrapperRelationId && rule.scope == scope_of(catalog);
        if (fits) {
            append_name(&known, rule.name.data());
        }
        if (fits && rule.has_file) {
            append_name(&known, rule.name.data(), "_file");
        }
    }
    ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
                    errmsg("invalid option \"%.*s\"", shown_bytes(option), option),
                    errdetail("%s does not know it here.", driver.wrapper.data()),
                    known.len > 0 ? errhint("Valid options in this context are: %s.", known.data)
                                  : errhint("There are no valid options in this context."),
                    errhidestmt(true)));
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
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("permission denied to set option \"%s\"", option),
                        errdetail("It has the server read a file."),
                        errhint("Only superusers and members of pg_read_server_files may set it."),
                        errhidestmt(true)));
    }
    if (!is_absolute_path(value)) {
        report_value(option, "It is not an absolute path.",
                     "Give the whole path of a file that the server's user can read.");
    }
}

void check_number(const char* option, const OptionCheck& check, const char* value, int flags) {
    int parsed = 0;
    if (!parse_int(value, &parsed, flags, nullptr) || parsed < check.min || parsed > check.max) {
        report_value(
            option,
            psprintf("It must be from %d to %d%s.", check.min, check.max,
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

void check_given(const char* option, const char* value) {
    if (value[0] == '\0') {
        report_value(option, "It is empty.", "Give its value, or leave the option out.");
    }
}

void check_value(const char* option, const OptionCheck& check, const char* value) {
    switch (check.kind) {
        case OptionKind::url:
            check_url(option, value);
            break;
        case OptionKind::file:
            check_file(option, value);
            break;
        case OptionKind::duration:
            check_number(option, check, value, GUC_UNIT_MS);
            break;
        case OptionKind::count:
            check_number(option, check, value, 0);
            break;
        case OptionKind::boolean:
            check_boolean(option, value);
            break;
        case OptionKind::driver:
            check_given(option, value);
            break;
    }
}

bool is_file_of(const core::OptionRule& rule, std::string_view option) {
    constexpr std::string_view suffix = "_file";
    return rule.has_file && option.ends_with(suffix) &&
           option.substr(0, option.size() - suffix.size()) == rule.name;
}

OptionCheck find_check(const core::Driver& driver, const char* option, Oid catalog) {
    for (const CommonOption& common : common_options) {
        if (catalog == ForeignServerRelationId && std::strcmp(common.name, option) == 0) {
            return common.check;
        }
    }
    for (const core::OptionRule& rule : driver.options) {
        const bool is_it = rule.name == option || is_file_of(rule, option);
        if (is_it && catalog != ForeignDataWrapperRelationId && rule.scope == scope_of(catalog)) {
            return {is_file_of(rule, option) ? OptionKind::file : OptionKind::driver, 0, 0};
        }
    }
    report_unknown_option(driver, option, catalog);
}

void check_one_of(List* options, const char* name) {
    const char* file = psprintf("%s_file", name);
    if (option_value(options, name) != nullptr && option_value(options, file) != nullptr) {
        report_value(name, psprintf("%s is given as well.", file), "Give one of the two.");
    }
}

// Unset when it is not given, or its file cannot be read at present: a dump must be restored where
// its files are not yet.
std::optional<std::string_view> content_of(List* options, const core::OptionRule& rule,
                                           bool* readable) {
    const char* name = rule.name.data();
    const char* value = option_value(options, name);
    const char* path = rule.has_file ? option_value(options, psprintf("%s_file", name)) : nullptr;
    if (value != nullptr) {
        return to_utf8(value);
    }
    if (path == nullptr) {
        return std::nullopt;
    }
    const char* why_not = nullptr;
    const char* content = read_secret_file(path, &why_not);
    if (content == nullptr) {
        *readable = false;
        ereport(WARNING,
                (errmsg("option \"%s_file\" could not be checked", name), errdetail("%s", why_not),
                 errhint("Refunds of this gateway wait until the file can be read.")));
        return std::nullopt;
    }
    return content;
}

bool is_of_scope(const core::Driver& driver, std::string_view option, core::OptionScope scope) {
    for (const core::OptionRule& rule : driver.options) {
        if (rule.name == option) {
            return rule.scope == scope;
        }
    }
    return false;
}

// The driver judges its own: keys are parsed, and compared with one another. What is found here is
// not found with money under way. Of a server and its user mapping one is still missing, so that
// only the given one's problems count.
void check_driver_options(const core::Driver& driver, List* options, core::OptionScope scope) {
    auto* given =
        static_cast<bridge::Option*>(palloc0(sizeof(bridge::Option) * (driver.options.size() + 1)));
    int count = 0;
    bool readable = true;
    for (const core::OptionRule& rule : driver.options) {
        const auto content =
            rule.scope == scope ? content_of(options, rule, &readable) : std::nullopt;
        if (content) {
            given[count++] = bridge::Option{rule.name, *content};
        }
    }
    bridge::Problem problem = {};
    if (!readable || bridge::check_options({&driver, given, count}, &problem)) {
        return;
    }
    if (problem.out_of_memory) {
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
                        errdetail("The options could not be checked."), errhidestmt(true)));
    }
    if (is_of_scope(driver, problem.option, scope)) {
        report_value(problem.option, problem.detail, problem.hint);
    }
}

void validate(const core::Driver& driver, List* options, Oid catalog) {
    ListCell* cell = nullptr;
    foreach (cell, options) {
        auto* option = static_cast<DefElem*>(lfirst(cell));
        check_value(option->defname, find_check(driver, option->defname, catalog),
                    defGetString(option));
    }
    if (catalog == ForeignServerRelationId && option_value(options, "url") == nullptr) {
        ereport(ERROR,
                (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND), errmsg("option \"url\" is missing"),
                 errdetail("A gateway needs the address to which refunds are sent."),
                 errhint("Add OPTIONS (url 'https://…').")));
    }
    for (const core::OptionRule& rule : driver.options) {
        if (rule.has_file) {
            check_one_of(options, rule.name.data());
        }
    }
    if (catalog == ForeignServerRelationId || catalog == UserMappingRelationId) {
        check_driver_options(driver, options, scope_of(catalog));
    }
}

[[noreturn]] void report_no_driver() {
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                    errmsg("payonce has no driver for this validator"),
                    errdetail("A validator is named after its wrapper: payonce_…_validator."),
                    errhint("Use the wrappers that CREATE EXTENSION payonce makes.")));
    pg_unreachable();
}

// The function's own name says which wrapper it is of: so a wrapper needs no C function.
const core::Driver& driver_of_validator(Oid function) {
    constexpr std::string_view suffix = "_validator";
    const char* name = get_func_name(function);
    std::string_view wrapper = name == nullptr ? std::string_view() : std::string_view(name);
    wrapper.remove_suffix(wrapper.ends_with(suffix) ? suffix.size() : 0);
    const core::Driver* driver = core::find_driver(wrapper);
    if (driver != nullptr) {
        return *driver;
    }
    report_no_driver();
}

}  // namespace
}  // namespace payonce::pg

extern "C" {
PG_FUNCTION_INFO_V1(payonce_gateway_validator);

Datum payonce_gateway_validator(PG_FUNCTION_ARGS) {
    using namespace payonce::pg;
    List* options = untransformRelOptions(PG_GETARG_DATUM(0));
    validate(driver_of_validator(fcinfo->flinfo->fn_oid), options, PG_GETARG_OID(1));
    PG_RETURN_VOID();
}
}
