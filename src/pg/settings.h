// The settings of payonce: one variable for each row of the table in README.md.
#pragma once

#include "core/decide.h"
#include "core/refund.h"

namespace payonce::pg {

struct Settings {
    bool dispatch;
    char* role;  // empty: the extension's owner
    int max_in_flight;
    int batch_size;
    int request_timeout_ms;
    int lease_ms;
    int naptime_s;
    int retry_delay_ms;
    int retry_delay_max_ms;
    int retry_for_s;
    int late_payment;  // core::LatePolicy
};

extern Settings settings;

void define_settings();

core::LatePolicy late_policy();
core::RetryPolicy retry_policy();
// The lease in force: never shorter than the request's timeout and what applying its result may
// take.
int effective_lease_ms();

}  // namespace payonce::pg
