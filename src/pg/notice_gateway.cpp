#include "pg/notice_gateway.h"

#include <string_view>

#include "pg/arguments.h"
#include "pg/gateway_bridge.h"
#include "pg/gateway_config.h"
#include "pg/pg.h"

namespace payonce::pg {
namespace {

// Files of secrets are read again so often; what the catalogs say is known at once.
constexpr int max_age_ms = 60'000;

bool registered = false;
bool stale = true;
TimestampTz opened_at = 0;

void mark_stale(Datum, int, uint32) {
    stale = true;
}

void register_for_changes() {
    if (registered) {
        return;
    }
    for (const int cache : {FOREIGNSERVEROID, FOREIGNDATAWRAPPEROID, USERMAPPINGOID, AUTHOID}) {
        CacheRegisterSyscacheCallback(cache, mark_stale, 0);
    }
    registered = true;
}

void forget_what_is_old() {
    const TimestampTz now = GetCurrentTimestamp();
    if (stale || TimestampDifferenceExceeds(opened_at, now, max_age_ms) || opened_at > now) {
        bridge::forget_gateways();
        stale = false;
        opened_at = now;
    }
}

[[noreturn]] void report_no_gateway(std::string_view name) {
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                    errmsg("gateway \"%.*s\" does not exist", shown_bytes(name), name.data()),
                    errdetail("Nothing was recorded."),
                    errhint("A gateway is a foreign server: CREATE SERVER ... FOREIGN DATA WRAPPER "
                            "payonce_...")));
    pg_unreachable();
}

// Why it cannot be opened; null: it is open.
const char* open_anew(const char* name, Oid server) {
    GatewayConfig config = {};
    if (!load_gateway(name, worker_role(), &config)) {
        return "it was dropped meanwhile";
    }
    bridge::Problem problem = {};
    const char* hindrance = config.unusable != nullptr ? config.unusable : config.hindrance;
    if (hindrance == nullptr && !bridge::keep_gateway(server, config.driver_options(), &problem)) {
        hindrance = pstrdup(problem.detail);
    }
    wipe_options(&config);
    return hindrance;
}

}  // namespace

NoticeGateway open_notice_gateway(std::string_view name) {
    register_for_changes();
    NoticeGateway gateway = {};
    gateway.name = pnstrdup(name.data(), name.size());
    // Before the server is looked up: what is invalidated meanwhile is opened anew.
    forget_what_is_old();
    const ForeignServer* server = GetForeignServerByName(gateway.name, true);
    if (server == nullptr) {
        report_no_gateway(name);
    }
    if (driver_of_server(gateway.name) == nullptr) {
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("server \"%s\" is no gateway", gateway.name),
                        errdetail("It is not of a payonce wrapper. Nothing was recorded."),
                        errhint("Pass the name of a server of payonce_http, payonce_wechat, "
                                "payonce_alipay or payonce_stripe.")));
    }
    gateway.server = server->serverid;
    if (!bridge::is_kept(gateway.server)) {
        gateway.hindrance = open_anew(gateway.name, gateway.server);
    }
    return gateway;
}

}  // namespace payonce::pg
