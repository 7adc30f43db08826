// The settings, with their bounds. Those that decide about money are for superusers: they belong to
// the configuration file, or (late_payment) need SET by a superuser.
#include "pg/settings.h"

#include <algorithm>

#include "pg/fault_point.h"
#include "pg/pg.h"

namespace payonce::pg {

Settings settings;

namespace {

constexpr int lease_margin_ms = 15'000;

const config_enum_entry late_payment_options[] = {
    {"refund", static_cast<int>(core::LatePolicy::refund), false},
    {"manual", static_cast<int>(core::LatePolicy::manual), false},
    {"accept", static_cast<int>(core::LatePolicy::accept), false},
    {nullptr, 0, false},
};

void define_int(const char* name, const char* short_desc, const char* long_desc, int* variable,
                int boot, int min, int max, int unit) {
    DefineCustomIntVariable(name, short_desc, long_desc, variable, boot, min, max, PGC_SIGHUP, unit,
                            nullptr, nullptr, nullptr);
}

void define_retry_settings() {
    define_int("payonce.retry_delay", "Delay before a refund's second attempt.",
               "It doubles with each further attempt, with jitter.", &settings.retry_delay_ms, 1000,
               10, 3'600'000, GUC_UNIT_MS);
    define_int("payonce.retry_delay_max", "The longest delay between two attempts of a refund.",
               "Also the longest between two polls of a refund that the gateway has accepted.",
               &settings.retry_delay_max_ms, 3'600'000, 10, 86'400'000, GUC_UNIT_MS);
    define_int("payonce.retry_for", "How long a refund is tried before it needs a person.",
               "Since its first attempt; time in which dispatch was off or the gateway paused does "
               "not count.",
               &settings.retry_for_s, 7 * 86'400, 1, 365 * 86'400, GUC_UNIT_S);
}

}  // namespace

void define_settings() {
    DefineCustomBoolVariable("payonce.dispatch", "Sends refunds. The kill switch.",
                             "Off: refunds are queued and wait; requests under way are finished.",
                             &settings.dispatch, true, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomStringVariable(
        "payonce.role", "The role that the workers run as.",
        "Empty: the owner of the extension. Its user mappings hold the secrets.", &settings.role,
        "", PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    define_int("payonce.max_in_flight", "The most requests a worker has in flight at a time.",
               "Shared out evenly among a database's gateways, so that one that hangs leaves the "
               "others their part.",
               &settings.max_in_flight, 256, 1, 1000, 0);
    define_int("payonce.batch_size", "The most refunds claimed or recorded in one transaction.",
               nullptr, &settings.batch_size, 256, 1, 10'000, 0);
    define_int("payonce.request_timeout", "How long one request to a gateway may take.",
               "A server's option timeout overrides it.", &settings.request_timeout_ms, 30'000, 100,
               600'000, GUC_UNIT_MS);
    define_int(
        "payonce.lease", "For how long a worker claims a refund.",
        "At least the request's timeout and 15 seconds, whatever is set here. Until it ends, "
        "nobody else takes the refund; what its worker lost is asked about at once.",
        &settings.lease_ms, 120'000, 1000, 3'600'000, GUC_UNIT_MS);
    define_int("payonce.naptime", "How often workers and launcher look round without being woken.",
               "Finds what no wake-up announced, such as refunds of COMMIT PREPARED.",
               &settings.naptime_s, 30, 1, 3600, GUC_UNIT_S);
    define_retry_settings();
    DefineCustomEnumVariable(
        "payonce.late_payment",
        "What happens to a payment that succeeds after its order was closed.",
        "refund: it goes back. manual: a person decides. accept: it reopens and "
        "pays the order.",
        &settings.late_payment, static_cast<int>(core::LatePolicy::refund), late_payment_options,
        PGC_SUSET, 0, nullptr, nullptr, nullptr);
    define_fault_settings();
    MarkGUCPrefixReserved("payonce");
}

core::LatePolicy late_policy() {
    return static_cast<core::LatePolicy>(settings.late_payment);
}

core::RetryPolicy retry_policy(const core::GatewayTraits& traits) {
    core::RetryPolicy policy;
    policy.retry_delay = static_cast<core::Microseconds>(settings.retry_delay_ms) * 1000;
    policy.retry_delay_max = static_cast<core::Microseconds>(
                                 std::max(settings.retry_delay_ms, settings.retry_delay_max_ms)) *
                             1000;
    policy.retry_for = static_cast<core::Microseconds>(settings.retry_for_s) * core::us_per_s;
    policy.query_delay = traits.query_delay_s * core::us_per_s;
    policy.idempotency_horizon = traits.idempotency_horizon_s * core::us_per_s;
    return policy;
}

int lease_ms(int request_timeout_ms) {
    return std::max(settings.lease_ms, request_timeout_ms + lease_margin_ms);
}

}  // namespace payonce::pg
