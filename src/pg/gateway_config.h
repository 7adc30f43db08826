// A gateway as PostgreSQL's catalogs describe it: a foreign server of one of payonce's wrappers,
// and the user mapping of the worker's role, which holds its secrets.
#pragma once

#include "pg/pg.h"

namespace payonce::pg {

inline constexpr int default_gateway_max_in_flight =
    1000;  // then the share of payonce.max_in_flight rules
inline constexpr int no_rate_limit = 0;

// Strings are palloc'd, never null unless said.
struct GatewayConfig {
    const char* name;
    const char* url;
    const char* ca_file;         // null: the system's authorities
    const char* bearer_token;    // null: none
    const char* signing_secret;  // null: requests are not signed
    int timeout_ms;
    int max_in_flight;
    int rate_limit_per_s;
    bool paused;
    // Null: it may be used. Otherwise why it never may as things are set up: its refunds need a
    // person.
    const char* unusable;
    // Null: it can be used. Otherwise why not at present (a file that cannot be read): its refunds
    // wait.
    const char* hindrance;
};

// Every server of payonce's wrappers in this database; palloc'd array.
GatewayConfig* load_gateways(Oid role, int* count);

// Why the gateway of this name cannot be used or does not send at present; null: it does.
const char* gateway_blocked_by(const char* name, Oid role);

// payonce.role, or the extension's owner. InvalidOid: the role named in payonce.role does not
// exist, or the extension is not installed.
Oid worker_role();

}  // namespace payonce::pg
