// Answers and notifications as the targets read them from their input. The files of the corpus can
// be read and written by hand:
//
//     200 refund 1768443632        an answer: HTTP status, kind of the call, when it came
//     Request-ID: 08F0A5D3B8061
//                                  an empty line
//     {"status": …                 the body, byte by byte
//
// A notification begins with the time at which it came. In both a further number on the first line
// says in how many arrays the body is put: so deep nesting needs no long file.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/gateway.h"
#include "core/http_message.h"

namespace payonce::fuzz {

struct Answer {
    core::CallKind kind = core::CallKind::refund;
    core::HttpResponse response;
    std::int64_t now_unix_s = 0;
};

struct Notification {
    std::vector<core::HttpHeader> headers;
    std::string body;
    std::int64_t now_unix_s = 0;

    core::RawNotice raw() const { return {headers, body, now_unix_s}; }
};

// What cannot be read has a default: every input is some message.
Answer read_answer_input(std::string_view input);
Notification read_notification_input(std::string_view input);

// Of all drivers: what must hold of every answer and notice, whatever came in.
void check_answer(const core::RefundCall& call, const core::GatewayAnswer& answer);
void check_notice(const core::Notice& notice);

}  // namespace payonce::fuzz
