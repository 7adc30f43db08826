// The settings of payonce: one variable for each row of the table in README.md.
#pragma once

#include "core/decide.h"
#include "core/gateway.h"
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
// With the habits of the gateway concerned.
core::RetryPolicy retry_policy(const core::GatewayTraits& traits);
// The lease of a call with this timeout: it outlasts the request and the recording of its answer.
int lease_ms(int request_timeout_ms);

}  // namespace payonce::pg
