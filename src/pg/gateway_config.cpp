#include "pg/gateway_config.h"

#include <cctype>
#include <cerrno>
#include <cstring>

#include "pg/encoding.h"
#include "pg/pg.h"
#include "pg/settings.h"
#include "pg/statement.h"

namespace payonce::pg {
namespace {

constexpr int max_secret_file_bytes = 64 * 1024;

bool is_payonce_wrapper(Oid wrapper) {
    return getExtensionOfObject(ForeignDataWrapperRelationId, wrapper) ==
           extension_oid_or_invalid();
}

int int_option(List* options, const char* name, int otherwise, int flags) {
    const char* value = option_value(options, name);
    int parsed = 0;
    return value != nullptr && parse_int(value, &parsed, flags, nullptr) ? parsed : otherwise;
}

bool bool_option(List* options, const char* name) {
    const char* value = option_value(options, name);
    bool parsed = false;
    return value != nullptr && parse_bool(value, &parsed) && parsed;
}

List* mapping_options_of(Oid user, Oid server, bool* found) {
    HeapTuple tuple =
        SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(user), ObjectIdGetDatum(server));
    *found = HeapTupleIsValid(tuple);
    if (!*found) {
        return NIL;
    }
    bool is_null = false;
    const Datum options =
        SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &is_null);
    List* list = is_null ? NIL : untransformRelOptions(options);
    ReleaseSysCache(tuple);
    return list;
}

// The mapping of the worker's role, or PUBLIC's. GetUserMapping would raise where there is none.
List* mapping_options(Oid role, Oid server) {
    bool found = false;
    List* options = mapping_options_of(role, server, &found);
    return found ? options : mapping_options_of(InvalidOid, server, &found);
}

// Who owns a server can point its url elsewhere, so only those are trusted who could take the
// secrets anyway.
bool is_trusted_owner(Oid owner, Oid role) {
    return owner == role || superuser_arg(owner);
}

const core::Driver* driver_of_wrapper(Oid wrapper) {
    return is_payonce_wrapper(wrapper) ? core::find_driver(GetForeignDataWrapper(wrapper)->fdwname)
                                       : nullptr;
}

// A copy, so that it can be wiped without harm to the catalogs' cache.
void add_option(GatewayConfig* config, const char* name, std::string_view utf8) {
    char* text = pnstrdup(utf8.data(), utf8.size());
    config->option_texts[config->option_count] = text;
    config->options[config->option_count++] = bridge::Option{name, text};
}

void read_options(GatewayConfig* config, const ForeignServer* server, List* mapping) {
    const auto& rules = config->driver->options;
    config->options =
        static_cast<bridge::Option*>(palloc0(sizeof(bridge::Option) * (rules.size() + 1)));
    config->option_texts = static_cast<char**>(palloc0(sizeof(char*) * (rules.size() + 1)));
    add_option(config, "url", to_utf8(option_value(server->options, "url")));
    for (const core::OptionRule& rule : rules) {
        // The names are literals: ended by a zero.
        const char* name = rule.name.data();
        List* given = rule.scope == core::OptionScope::server ? server->options : mapping;
        const char* value = option_value(given, name);
        const char* path = rule.has_file ? option_value(given, psprintf("%s_file", name)) : nullptr;
        if (value != nullptr) {
            add_option(config, name, to_utf8(value));
        } else if (path != nullptr) {
            char* content = read_secret_file(path, &config->hindrance);
            // Bytes, whatever the database's encoding is.
            if (content != nullptr) {
                add_option(config, name, content);
                explicit_bzero(content, std::strlen(content));
            }
        }
    }
}

void judge_options(GatewayConfig* config) {
    bridge::Problem problem = {};
    if (config->hindrance == nullptr &&
        !bridge::check_options(config->driver_options(), &problem)) {
        const char* words = psprintf("server \"%s\", option %s: %s %s", config->name,
                                     problem.option, problem.detail, problem.hint);
        (problem.out_of_memory ? config->hindrance : config->unusable) = words;
        config->options_unusable = !problem.out_of_memory;
    }
}

GatewayConfig load_server(const ForeignServer* server, Oid role) {
    GatewayConfig config = {};
    config.name = pstrdup(server->servername);
    config.server = server->serverid;
    config.driver = driver_of_wrapper(server->fdwid);
    config.ca_file = option_value(server->options, "ca_file");
    config.timeout_ms =
        int_option(server->options, "timeout", settings.request_timeout_ms, GUC_UNIT_MS);
    config.max_in_flight =
        int_option(server->options, "max_in_flight", default_gateway_max_in_flight, 0);
    config.paused = bool_option(server->options, "paused");
    if (config.driver == nullptr) {
        config.unusable = psprintf("server \"%s\" is not of a payonce wrapper", config.name);
        return config;
    }
    config.rate_limit_per_s =
        int_option(server->options, "rate_limit", config.driver->traits.rate_limit_per_s, 0);
    if (option_value(server->options, "url") == nullptr) {
        config.unusable = psprintf("server \"%s\" has no url", config.name);
    } else if (!is_trusted_owner(server->owner, role)) {
        config.unusable = psprintf(
            "server \"%s\" is owned by neither a superuser nor the worker's role", config.name);
    } else {
        read_options(&config, server, mapping_options(role, server->serverid));
        judge_options(&config);
    }
    return config;
}

Oid extension_owner(Oid extension) {
    Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(extension));
    SysScanDesc scan = systable_beginscan(catalog, ExtensionOidIndexId, true, nullptr, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    const Oid owner = HeapTupleIsValid(tuple)
                          ? reinterpret_cast<Form_pg_extension>(GETSTRUCT(tuple))->extowner
                          : InvalidOid;
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return owner;
}

}  // namespace

const char* option_value(List* options, const char* name) {
    ListCell* cell = nullptr;
    foreach (cell, options) {
        auto* option = static_cast<DefElem*>(lfirst(cell));
        if (std::strcmp(option->defname, name) == 0) {
            return defGetString(option);
        }
    }
    return nullptr;
}

GatewayConfig* load_gateways(Oid role, int* count) {
    Relation catalog = table_open(ForeignServerRelationId, AccessShareLock);
    SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, nullptr, 0, nullptr);
    List* servers = NIL;
    HeapTuple tuple = nullptr;
    while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
        const auto* row = reinterpret_cast<Form_pg_foreign_server>(GETSTRUCT(tuple));
        if (is_payonce_wrapper(row->srvfdw)) {
            servers = lappend_oid(servers, row->oid);
        }
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);

    *count = list_length(servers);
    auto* configs = static_cast<GatewayConfig*>(
        palloc0(sizeof(GatewayConfig) * static_cast<std::size_t>(*count + 1)));
    int index = 0;
    ListCell* cell = nullptr;
    foreach (cell, servers) {
        configs[index++] = load_server(GetForeignServer(lfirst_oid(cell)), role);
    }
    return configs;
}

bool load_gateway(const char* name, Oid role, GatewayConfig* config) {
    const ForeignServer* server = GetForeignServerByName(name, true);
    if (server == nullptr) {
        return false;
    }
    *config = load_server(server, role);
    return true;
}

void wipe_options(GatewayConfig* config) {
    for (int i = 0; i < config->option_count; ++i) {
        explicit_bzero(config->option_texts[i], std::strlen(config->option_texts[i]));
    }
    config->option_count = 0;
}

const core::Driver* driver_of_server(const char* name) {
    const ForeignServer* server = GetForeignServerByName(name, true);
    return server == nullptr ? nullptr : driver_of_wrapper(server->fdwid);
}

const core::Driver* driver_of_wrapper_named(const char* name) {
    const Oid wrapper = get_foreign_data_wrapper_oid(name, true);
    return OidIsValid(wrapper) ? driver_of_wrapper(wrapper) : nullptr;
}

core::GatewayTraits gateway_traits(const char* name) {
    const core::Driver* driver = driver_of_server(name);
    return driver == nullptr ? core::GatewayTraits{} : driver->traits;
}

char* read_secret_file(const char* path, const char** why_not) {
    // Not blocking: a pipe would hang the worker, and DROP DATABASE with it.
    const int file = OpenTransientFile(path, O_RDONLY | O_NONBLOCK);
    struct stat status = {};
    if (file < 0 || fstat(file, &status) != 0) {
        *why_not = psprintf("the file \"%s\" cannot be read: %s", path, strerror(errno));
        return nullptr;
    }
    char* content = static_cast<char*>(palloc(max_secret_file_bytes + 1));
    const bool fits = S_ISREG(status.st_mode) && status.st_size <= max_secret_file_bytes;
    const ssize_t bytes = fits ? read(file, content, max_secret_file_bytes) : -1;
    CloseTransientFile(file);
    if (bytes < 0 || bytes != status.st_size) {
        *why_not = psprintf("the file \"%s\" cannot be read whole", path);
        return nullptr;
    }
    auto length = static_cast<std::size_t>(bytes);
    while (length > 0 && std::isspace(static_cast<unsigned char>(content[length - 1])) != 0) {
        --length;
    }
    if (length == 0) {
        *why_not = psprintf("the file \"%s\" is empty", path);
        return nullptr;
    }
    content[length] = '\0';
    return content;
}

const char* gateway_blocked_by(const char* name, Oid role) {
    GatewayConfig config = {};
    if (!load_gateway(name, role, &config)) {
        return psprintf("there is no server \"%s\"", name);
    }
    wipe_options(&config);
    if (config.unusable != nullptr) {
        return config.unusable;
    }
    return config.paused ? psprintf("server \"%s\" is paused", name) : config.hindrance;
}

Oid worker_role() {
    const Oid extension = extension_oid_or_invalid();
    if (!OidIsValid(extension)) {
        return InvalidOid;
    }
    if (settings.role != nullptr && settings.role[0] != '\0') {
        return get_role_oid(settings.role, true);
    }
    return extension_owner(extension);
}

}  // namespace payonce::pg
