#include "pg/gateway_bridge.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "net/openssl_crypto.h"
#include "pg/fault_point.h"

namespace payonce::pg::bridge {
namespace {

using Gateways = std::map<std::uint32_t, std::unique_ptr<core::Gateway>>;

const net::OpensslCrypto& crypto() {
    static const net::OpensslCrypto port;
    return port;
}

// A static object that is never destroyed, since OpenSSL may be gone before it at a backend's end,
// and whose making cannot fail.
template <typename T>
T& lasting() noexcept {
    static_assert(std::is_nothrow_default_constructible_v<T>);
    alignas(T) static std::byte room[sizeof(T)];
    static T* object = new (room) T();
    return *object;
}

Gateways& kept() noexcept {
    return lasting<Gateways>();
}

core::Notice& last_notice() noexcept {
    return lasting<core::Notice>();
}

template <std::size_t size>
void copy_text(char (&to)[size], std::string_view from) noexcept {
    const std::size_t length = std::min(from.size(), size - 1);
    std::copy_n(from.begin(), length, to);
    to[length] = '\0';
}

void report(const core::OptionProblem& from, Problem* to) noexcept {
    copy_text(to->option, from.option);
    copy_text(to->detail, from.detail);
    copy_text(to->hint, from.hint);
}

void report_no_memory(Problem* problem) noexcept {
    problem->out_of_memory = true;
    copy_text(problem->option, "");
    copy_text(problem->detail, "Out of memory.");
    copy_text(problem->hint, "Try again.");
}

std::unique_ptr<core::Gateway> open(const Options& options, Problem* problem) {
    core::OpenedGateway opened = options.driver->open(gateway_options(options), crypto());
    if (opened.gateway == nullptr) {
        report(opened.problem, problem);
    }
    return std::move(opened.gateway);
}

Notice plain(const core::Notice& notice) noexcept {
    Notice made;
    made.kind = notice.kind;
    made.why = notice.why;
    made.content = notice.content;
    if (notice.kind == core::NoticeKind::payment) {
        made.payment_id = notice.payment.payment_id;
        made.success = notice.payment.success;
        made.amount = notice.payment.amount;
        made.currency = notice.payment.currency;
        made.transaction_id = notice.payment.transaction_id;
        made.other_transaction_id = notice.payment.other_transaction_id;
    } else if (notice.kind == core::NoticeKind::refund) {
        made.refund_no = notice.refund.refund_no;
        made.verdict = notice.refund.verdict;
        made.amount = notice.refund.amount;
        made.currency = notice.refund.currency;
        made.transaction_id = notice.refund.transaction_id;
        made.other_transaction_id = notice.refund.other_transaction_id;
        made.refund_id = notice.refund.refund_id;
        made.error = notice.refund.error;
    }
    return made;
}

}  // namespace

core::GatewayOptions gateway_options(const Options& options) {
    core::GatewayOptions made;
    for (int i = 0; i < options.count; ++i) {
        made.set(options.options[i].name, options.options[i].value);
    }
    return made;
}

bool check_options(const Options& options, Problem* problem) noexcept {
    try {
        return open(options, problem) != nullptr;
    } catch (...) {
        report_no_memory(problem);
        return false;
    }
}

bool keep_gateway(std::uint32_t server, const Options& options, Problem* problem) noexcept {
    try {
        const AllocationFault fault(AllocationPoint::notice_keep_gateway);
        kept().erase(server);
        std::unique_ptr<core::Gateway> gateway = open(options, problem);
        if (gateway == nullptr) {
            return false;
        }
        kept().emplace(server, std::move(gateway));
        return true;
    } catch (...) {
        report_no_memory(problem);
        return false;
    }
}

bool is_kept(std::uint32_t server) noexcept {
    return kept().contains(server);
}

void forget_gateways() noexcept {
    kept().clear();
}

Notice read_notice(std::uint32_t server, const Message& message) noexcept {
    try {
        const AllocationFault fault(AllocationPoint::notice_read);
        std::vector<core::HttpHeader> headers;
        headers.reserve(static_cast<std::size_t>(message.header_count));
        for (int i = 0; i < message.header_count; ++i) {
            headers.push_back(
                {std::string(message.headers[i].name), std::string(message.headers[i].value)});
        }
        last_notice() = kept().at(server)->read_notice(
            core::RawNotice{headers, message.body, message.now_unix_s});
        return plain(last_notice());
    } catch (...) {
        Notice notice;
        notice.kind = core::NoticeKind::unusable;
        notice.why = "out of memory";
        return notice;
    }
}

core::NoticeReply reply(std::uint32_t server, core::ReplyKind kind) noexcept {
    const auto found = kept().find(server);
    return found == kept().end() ? core::NoticeReply{500, "text/plain", "try again"}
                                 : found->second->reply(kind);
}

}  // namespace payonce::pg::bridge
