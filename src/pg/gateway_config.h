// A gateway as PostgreSQL's catalogs describe it: a foreign server of one of payonce's wrappers,
// and the user mapping of the worker's role, which holds its secrets.
#pragma once

#include "core/gateway.h"
#include "pg/gateway_bridge.h"
#include "pg/pg.h"

namespace payonce::pg {

inline constexpr int default_gateway_max_in_flight =
    1000;  // then the share of payonce.max_in_flight rules

// Strings are palloc'd, never null unless said.
struct GatewayConfig {
    const char* name;
    Oid server;
    const core::Driver* driver;  // null: there is none, and the gateway is unusable
    const char* ca_file;         // null: the system's authorities
    int timeout_ms;
    int max_in_flight;
    int rate_limit_per_s;  // 0: none
    bool paused;
    // What its driver reads: the url, and the driver's options with their files' contents. Secret:
    // see wipe_options().
    bridge::Option* options;
    char** option_texts;  // their values' memory
    int option_count;
    // Null: it may be used. Otherwise why it never may as things are set up: its refunds need a
    // person.
    const char* unusable;
    // Whether `unusable` is about its options: they may be on their way (a file that is being
    // written, a user mapping in the next transaction).
    bool options_unusable;
    // Null: it can be used. Otherwise why not at present (a file that cannot be read): its refunds
    // wait.
    const char* hindrance;

    bool is_ready() const { return unusable == nullptr && hindrance == nullptr; }
    bridge::Options driver_options() const { return {driver, options, option_count}; }
};

// Every server of payonce's wrappers in this database; palloc'd array.
GatewayConfig* load_gateways(Oid role, int* count);

// The gateway of this name; false: there is no server of that name.
bool load_gateway(const char* name, Oid role, GatewayConfig* config);

// Overwrites the options' values, once they have been handed over.
void wipe_options(GatewayConfig* config);

// The driver of a server's wrapper, or of the wrapper of this name; null: it is none of payonce's.
const core::Driver* driver_of_server(const char* name);
const core::Driver* driver_of_wrapper_named(const char* name);
// The habits of the gateway of this name; none for one that is not there.
core::GatewayTraits gateway_traits(const char* name);

// Of a server or user mapping; null when it is not given.
const char* option_value(List* options, const char* name);

// The text of a file with a secret, without blanks at its end, palloc'd. Null, and the reason, when
// there is none.
char* read_secret_file(const char* path, const char** why_not);

// Why the gateway of this name cannot be used or does not send at present; null: it does.
const char* gateway_blocked_by(const char* name, Oid role);

// payonce.role, or the extension's owner. InvalidOid: the role named in payonce.role does not
// exist, or the extension is not installed.
Oid worker_role();

}  // namespace payonce::pg
