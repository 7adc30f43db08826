#include "message.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/identifiers.h"
#include "core/text.h"
#include "fuzz.h"

namespace payonce::fuzz {
namespace {

using core::NoticeKind;
using core::Verdict;

// The base time of test/vectors.
constexpr std::int64_t default_unix_s = 1768443632;
constexpr std::int64_t max_unix_s = 99'999'999'999;
constexpr std::size_t max_content_bytes = 2000;
constexpr std::size_t max_page_bytes = 128;

std::string_view take_word(std::string_view& rest) noexcept {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    const std::string_view word = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return word;
}

// The clock is ours, not the sender's: it has no absurd values.
std::int64_t number_or(std::string_view digits, std::int64_t max, std::int64_t otherwise) noexcept {
    std::int64_t number = 0;
    const char* end = digits.data() + digits.size();
    const auto read = std::from_chars(digits.data(), end, number);
    const bool usable = read.ec == std::errc() && read.ptr == end && number >= 0 && number <= max;
    return usable ? number : otherwise;
}

// Deep enough to use up the stack of whatever follows it by recursion, once it is instrumented.
std::string nested_body(std::string_view body, std::string_view depth) {
    constexpr std::int64_t max_depth = 30'000;
    const auto arrays = static_cast<std::size_t>(number_or(depth, max_depth, 0));
    return std::string(arrays, '[').append(body).append(arrays, ']');
}

// libcurl and the application hand over names and values without the blanks around them.
std::vector<core::HttpHeader> take_headers(std::string_view& rest) {
    constexpr std::size_t max_headers = 100;
    std::vector<core::HttpHeader> headers;
    while (!rest.empty()) {
        std::string_view line = take_line(rest);
        if (line.ends_with('\r')) {
            line.remove_suffix(1);
        }
        if (line.empty()) {
            break;
        }
        const std::size_t colon = std::min(line.find(':'), line.size());
        std::string_view value = line.substr(std::min(colon + 1, line.size()));
        value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
        if (headers.size() < max_headers) {
            headers.push_back({std::string(line.substr(0, colon)), std::string(value)});
        }
    }
    return headers;
}

bool is_number(std::string_view text) noexcept {
    return is_clean(text, core::max_transaction_id_bytes);
}

void check_payment(const core::PaymentNotice& payment) {
    demand(is_clean(payment.payment_id, core::max_refund_no_bytes), "payment_id within its bound");
    demand(is_number(payment.transaction_id) && is_number(payment.other_transaction_id),
           "the gateway's numbers within their bound");
    demand(!payment.payment_id.empty() || !payment.transaction_id.empty(),
           "news of a payment names one");
    demand(is_clean(payment.currency, 64), "currency within its bound");
    if (payment.success) {
        demand(payment.amount && *payment.amount > 0, "money that arrived has an amount");
        demand(payment.currency.size() == 3, "money that arrived has a currency");
    }
}

void check_refund(const core::RefundNotice& refund) {
    demand(is_clean(refund.refund_no, core::max_refund_no_bytes), "refund_no within its bound");
    demand(is_number(refund.refund_id) && is_number(refund.transaction_id) &&
               is_number(refund.other_transaction_id),
           "the gateway's numbers within their bound");
    demand(!refund.refund_no.empty() || !refund.refund_id.empty(), "news of a refund names one");
    demand(is_clean(refund.currency, 64), "currency within its bound");
    demand(is_clean(refund.error, core::max_error_bytes), "a refund's error is clean");
    const Verdict verdict = refund.verdict;
    demand(verdict == Verdict::succeeded || verdict == Verdict::processing ||
               verdict == Verdict::failed || verdict == Verdict::abnormal ||
               verdict == Verdict::unknown,
           "news of a refund has a verdict that news can have");
}

}  // namespace

Answer read_answer_input(std::string_view input) {
    Answer answer;
    std::string_view line = take_line(input);
    answer.response.delivery = core::Delivery::answered;
    answer.response.status = static_cast<int>(number_or(take_word(line), 999, 200));
    answer.kind = take_word(line) == "query" ? core::CallKind::query : core::CallKind::refund;
    answer.now_unix_s = number_or(take_word(line), max_unix_s, default_unix_s);
    answer.response.headers = take_headers(input);
    answer.response.body = nested_body(input, take_word(line));
    return answer;
}

Notification read_notification_input(std::string_view input) {
    Notification notification;
    std::string_view line = take_line(input);
    notification.now_unix_s = number_or(take_word(line), max_unix_s, default_unix_s);
    notification.headers = take_headers(input);
    notification.body = nested_body(input, take_word(line));
    return notification;
}

void check_answer(const core::RefundCall& call, const core::GatewayAnswer& answer) {
    const core::AnswerFacts& facts = answer.facts;
    const bool is_query = call.kind == core::CallKind::query;
    demand(is_clean(answer.error, core::max_error_bytes), "an answer's error is clean");
    demand(is_clean(answer.refund_id, core::max_transaction_id_bytes),
           "refund_id within its bound");
    demand(is_clean(answer.next_page, max_page_bytes), "next_page within its bound");
    demand(facts.verdict != Verdict::not_sent, "what was answered was sent");
    demand(facts.verdict != Verdict::not_found || is_query, "not_found answers queries only");
    demand(!facts.confirm || (facts.verdict == Verdict::rejected && !is_query),
           "a refund that was refused is what there is to confirm");
    demand(facts.when_unknown == core::WhenUnknown::resend || facts.verdict == Verdict::unknown,
           "when_unknown goes with an unknown verdict");
    demand(answer.next_page.empty() || (is_query && facts.verdict == Verdict::unknown),
           "another page settles nothing yet");
    demand(facts.retry_after_s.value_or(0) >= 0, "a delay is not negative");
}

void check_notice(const core::Notice& notice) {
    demand(is_clean(notice.why, core::max_error_bytes), "the reason is clean");
    demand(is_clean(notice.content, max_content_bytes), "the content is clean");
    const bool is_news = notice.kind == NoticeKind::payment || notice.kind == NoticeKind::refund;
    demand(is_news == !notice.content.empty(), "news has content, and nothing else has");
    demand(is_news == notice.why.empty(), "what is no news has a reason");
    if (notice.kind == NoticeKind::payment) {
        check_payment(notice.payment);
    } else if (notice.kind == NoticeKind::refund) {
        check_refund(notice.refund);
    } else {
        demand(notice.payment.payment_id.empty() && notice.refund.refund_no.empty(),
               "what is no news names nothing");
    }
}

}  // namespace payonce::fuzz
