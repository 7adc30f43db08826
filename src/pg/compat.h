// What differs between the PostgreSQL versions that payonce supports (15 to 18), and nothing else.
#pragma once

#include "pg/pg.h"

namespace payonce::pg::compat {

inline bool owns_database(Oid database, Oid role) {
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(DatabaseRelationId, database, role);
#else
    return pg_database_ownercheck(database, role);
#endif
}

// A WAL record that belongs to the transaction, says nothing, and so makes its commit wait for the
// synchronous standbys.
inline void log_empty_message() {
    static const char nothing[] = "";
#if PG_VERSION_NUM >= 170000
    LogLogicalMessage("payonce", nothing, 0, true, false);
#else
    LogLogicalMessage("payonce", nothing, 0, true);
#endif
}

// Whether synchronous standbys are configured, as every commit sees it. Also differs between minor
// releases: some know only a boolean.
inline bool standbys_configured() {
#ifdef SYNC_STANDBY_DEFINED
    if ((WalSndCtl->sync_standbys_status & SYNC_STANDBY_INIT) != 0) {
        return (WalSndCtl->sync_standbys_status & SYNC_STANDBY_DEFINED) != 0;
    }
    return SyncRepStandbyNames != nullptr && SyncRepStandbyNames[0] != '\0';
#else
    return WalSndCtl->sync_standbys_defined;
#endif
}

// Settings that a worker overrides and that older versions do not know.
inline void override_later_settings() {
#if PG_VERSION_NUM >= 170000
    SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
#endif
}

}  // namespace payonce::pg::compat
