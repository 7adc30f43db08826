// One row of t_refund_attempt for each call to a gateway: the evidence in a dispute.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/gateway_answer.h"
#include "pg/pg.h"

namespace payonce::pg {

struct Evidence {
    std::string_view refund_no;
    std::string_view gateway;
    int attempt = 0;
    core::CallKind call = core::CallKind::refund;
    TimestampTz started_at = 0;
    std::optional<double> duration_ms;
    int http_status = 0;  // 0: none
    std::string_view verdict;
    std::string_view gateway_refund_id;
    std::string_view error;
    bool applied = false;
};

// Inside the caller's SPI connection.
void write_evidence(const char* schema, const Evidence* evidence, std::size_t count);

}  // namespace payonce::pg
