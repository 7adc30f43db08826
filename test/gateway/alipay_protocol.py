"""Alipay's gateway.do with RSA2, in key mode or certificate mode: refunds and notifications.

    POST /gateway.do   method=alipay.trade.refund
    POST /gateway.do   method=alipay.trade.fastpay.refund.query

As strict as the documents: whatever they do not allow is refused and counted. The HTTP status is
200 also for errors.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import time
import typing
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from http_server import Request, Response
from ledger import (
    FAILED,
    PROCESSING,
    SUCCEEDED,
    Dialect,
    Ledger,
    Refund,
    RefundDemand,
    Refused,
)
from protocol import (
    GOOD,
    OTHER,
    QUERY,
    REFUND,
    STRANGER,
    UNSIGNED,
    Call,
    Lie,
    Message,
    News,
    Outcome,
    Payment,
    Protocol,
    ProviderError,
)
from rsa_keys import Key
from strict_reading import FORM_TYPE, BadRequest, compact_json, form, is_text, json_object

REFUND_METHOD = "alipay.trade.refund"
QUERY_METHOD = "alipay.trade.fastpay.refund.query"
KINDS = {REFUND_METHOD: REFUND, QUERY_METHOD: QUERY}
FIXED = {"format": "JSON", "charset": "utf-8", "sign_type": "RSA2", "version": "1.0"}
REQUIRED = ("app_id", "method", *FIXED, "sign", "timestamp", "biz_content")
CERTIFICATE_NUMBERS = ("app_cert_sn", "alipay_root_cert_sn")
TOLERANCE_S = 600
BEIJING = timezone(timedelta(hours=8))
TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")

TRADE_NO = re.compile(r"[0-9]{28}")
OUT_TRADE_NO = re.compile(r"[0-9A-Za-z_]{1,64}")
OUT_REQUEST_NO = re.compile(r"[0-9A-Za-z_-]{1,64}")
YUAN = re.compile(r"(?:0|[1-9][0-9]{0,12})\.[0-9]{2}")
REFUND_OPTIONS = {"refund_detail_item_list", "deposit_back_info"}
QUERY_OPTIONS = REFUND_OPTIONS | {"gmt_refund_pay", "refund_voucher_detail_list"}

WRONG_NODE, UNKNOWN_SERIAL = "wrong_node", "unknown_serial"
A_CERTIFICATE_OF_NOBODY = "00000000000000000000000000009999"

MESSAGES = {
    "10000": "Success",
    "20000": "Service Currently Unavailable",
    "20001": "Insufficient Token Permissions",
    "40001": "Missing Required Arguments",
    "40002": "Invalid Arguments",
    "40003": "Insufficient Conditions",
    "40004": "Business Failed",
    "40005": "Call Limited",
    "40006": "Insufficient Permissions",
}
USUAL_SUB_CODE = {"20000": "aop.ACQ.SYSTEM_ERROR", "40005": "isv.app-call-limited"}
SUB_CODES = {
    "unknown_payment": "ACQ.TRADE_NOT_EXIST",
    "conflicting_repeat": "ACQ.DISCORDANT_REPEAT_REQUEST",
    "over_refund": "ACQ.REASON_TRADE_REFUND_FEE_ERR",
    "currency_mismatch": "ACQ.CURRENCY_NOT_SUPPORT",
    "window_is_over": "ACQ.TRADE_HAS_FINISHED",
}


def _digits(text: str, count: int) -> str:
    return str(int(hashlib.sha256(text.encode()).hexdigest(), 16))[-count:]


DIALECT = Dialect(
    # A refund has no state of its own here: it succeeded, or the query is silent about it.
    words={
        "REFUND_SUCCESS": (SUCCEEDED, "REFUND_SUCCESS"),
        SUCCEEDED: (SUCCEEDED, "REFUND_SUCCESS"),
        PROCESSING: (PROCESSING, PROCESSING),
        FAILED: (FAILED, FAILED),
    },
    transaction_id=lambda payment_id: f"20260115220014{_digits(payment_id, 14)}",
    transaction_id_form=TRADE_NO,
    refund_window_s=365 * 86400,
    retries_failed=True,
)


class Refusal(Exception):
    """A request that goes no further. Without a node the answer is an unsigned error_response."""

    def __init__(self, code: str, sub_code: str, text: str, counter: str) -> None:
        super().__init__(text)
        self.code = code
        self.sub_code = sub_code
        self.counter = counter


class Keys:
    """What Alipay knows of the application, and its own key, from a folder like the vectors'."""

    def __init__(self, directory: str) -> None:
        with open(os.path.join(directory, "params.json"), encoding="utf-8") as file:
            params = json.load(file)
        with open(os.path.join(directory, "cert_sn.json"), encoding="utf-8") as file:
            numbers = json.load(file)
        self.app_id: str = params["app_id"]
        self.seller_id: str = params["seller_id"]
        self.app = Key(directory, numbers["app_cert"]["file"])
        files = params["files"]
        self.own = Key(directory, files["gateway_side_private_key_for_mock_servers"])
        self.stranger = Key(directory, files["unrelated"][0])
        self.app_cert_sn: str = numbers["app_cert"]["app_cert_sn"]
        self.root_cert_sn: str = numbers["root_bundle"]["alipay_root_cert_sn"]
        self.alipay_cert_sn: str = numbers["alipay_cert"]["alipay_cert_sn"]


def prepare(
    directory: str, is_certificate_mode: bool
) -> tuple[Dialect, Callable[[Ledger], Protocol]]:
    return DIALECT, functools.partial(AlipayProtocol, Keys(directory), is_certificate_mode)


# -- signatures and money


def canonical(fields: Mapping[str, str], *left_out: str) -> bytes:
    """What is signed: raw values, by name, without empty ones."""
    kept = sorted((name, value) for name, value in fields.items() if name not in left_out and value)
    return "&".join(f"{name}={value}" for name, value in kept).encode()


def yuan(fen: int) -> str:
    return f"{fen // 100}.{fen % 100:02d}"


def fen(amount: str) -> int:
    return int(amount.replace(".", ""))


def beijing(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, BEIJING).strftime("%Y-%m-%d %H:%M:%S")


# -- what a merchant may send


def _is_price(value: typing.Any) -> bool:
    return is_text(value, 16) and YUAN.fullmatch(value) is not None and fen(value) > 0


def _are_options(known: set[str]) -> Callable[[typing.Any], bool]:
    return (
        lambda value: isinstance(value, list)
        and bool(value)
        and all(isinstance(option, str) and option in known for option in value)
    )


IDENTIFIERS: dict[str, Callable[[typing.Any], object]] = {
    "trade_no": lambda value: is_text(value) and TRADE_NO.fullmatch(value),
    "out_trade_no": lambda value: is_text(value) and OUT_TRADE_NO.fullmatch(value),
    "out_request_no": lambda value: is_text(value) and OUT_REQUEST_NO.fullmatch(value),
}
BIZ_FIELDS: dict[str, dict[str, Callable[[typing.Any], object]]] = {
    REFUND: {
        **IDENTIFIERS,
        "refund_amount": _is_price,
        "refund_reason": lambda value: is_text(value, 256),
        "query_options": _are_options(REFUND_OPTIONS),
        "operator_id": lambda value: is_text(value, 30),
        "store_id": lambda value: is_text(value, 32),
        "terminal_id": lambda value: is_text(value, 32),
    },
    QUERY: {**IDENTIFIERS, "query_options": _are_options(QUERY_OPTIONS)},
}
BIZ_REQUIRED = {REFUND: ("out_request_no", "refund_amount"), QUERY: ("out_request_no",)}


def check_biz_content(kind: str, fields: dict[str, typing.Any]) -> None:
    for name in BIZ_REQUIRED[kind]:
        if name not in fields:
            raise BadRequest(f"the field {name} is missing")
    if "trade_no" not in fields and "out_trade_no" not in fields:
        raise BadRequest("one of trade_no and out_trade_no is required")
    for name, value in fields.items():
        if name not in BIZ_FIELDS[kind]:
            raise BadRequest(f"the field {name} is not documented")
        if not BIZ_FIELDS[kind][name](value):
            raise BadRequest(f"the field {name} is not valid")


class AlipayProtocol(Protocol):
    answer_signatures: tuple[str, ...] = (UNSIGNED, STRANGER, WRONG_NODE)
    news_signatures = (UNSIGNED, STRANGER)

    def __init__(self, keys: Keys, is_certificate_mode: bool, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._keys = keys
        self._is_certificate_mode = is_certificate_mode
        if is_certificate_mode:
            self.answer_signatures = (*self.answer_signatures, UNKNOWN_SERIAL)

    # -- requests

    def read(self, request: Request) -> Call:
        fields: dict[str, str] = {}
        biz: dict[str, typing.Any] = {}
        if request.segments != ("gateway.do",) or request.method != "POST":
            refusal = self.error(404, "only POST /gateway.do")
            return Call(OTHER, None, refusal=refusal, refusal_counter="bad_requests")
        try:
            fields, problem = _parameters(request), None
            biz = json_object(fields.get("biz_content", ""))
        except BadRequest as bad:
            problem = bad
        kind = KINDS.get(fields.get("method", ""), OTHER)
        claimed = biz.get("out_request_no")
        refund_no = claimed if is_text(claimed) else None
        node = fields.get("method", "").replace(".", "_") + "_response"
        call = Call(kind, refund_no, details={"node": node, "biz": biz})
        try:
            if problem is not None:
                raise Refusal("40002", "isv.invalid-parameter", str(problem), "bad_requests")
            self._authenticate(request, fields)
            if kind == OTHER:
                raise Refusal("40002", "isv.invalid-method", fields["method"], "bad_requests")
        except Refusal as refusal:
            body = compact_json({"error_response": _node_of(refusal)})
            return _refused(call, Response(200, body), refusal.counter)
        try:
            payment = self._payment(kind, biz)
        except Refusal as refusal:
            node_response = Response(200, compact_json(_node_of(refusal)))
            sealed = self.seal(call, request, node_response, GOOD)
            return _refused(call, sealed, refusal.counter)
        call.details["payment"] = payment
        return Call(kind, refund_no, self._demand(kind, biz, payment), details=call.details)

    def _authenticate(self, request: Request, fields: dict[str, str]) -> None:
        for name in REQUIRED:
            if name not in fields:
                word = "signature" if name == "sign" else name.replace("_", "-")
                raise Refusal("40001", f"isv.missing-{word}", name, "bad_requests")
        if fields["app_id"] != self._keys.app_id:
            raise Refusal("40002", "isv.invalid-app-id", "app_id", "identity_failures")
        for name, value in FIXED.items():
            if fields[name] != value:
                sub_code = f"isv.invalid-{name.replace('_', '-').replace('sign', 'signature')}"
                raise Refusal("40002", sub_code, name, "bad_requests")
        self._check_certificates(fields)
        if not _is_near(fields["timestamp"], request.arrived_at):
            raise Refusal("40002", "isv.invalid-timestamp", "timestamp", "stale_timestamps")
        if not self._keys.app.has_signed(canonical(fields, "sign"), fields["sign"]):
            raise Refusal("40002", "isv.invalid-signature", "sign", "signature_failures")
        known = {*REQUIRED, "app_auth_token"}
        known.update(CERTIFICATE_NUMBERS if self._is_certificate_mode else ())
        # Also the documented notify_url: these methods have none.
        for name in sorted(fields.keys() - known):
            raise Refusal("40002", "isv.invalid-parameter", name, "bad_requests")

    def _check_certificates(self, fields: dict[str, str]) -> None:
        if not self._is_certificate_mode:
            return
        expected = (self._keys.app_cert_sn, self._keys.root_cert_sn)
        for name, number in zip(CERTIFICATE_NUMBERS, expected, strict=True):
            if fields.get(name) != number:
                sub_code = f"isv.invalid-{name.replace('_', '-')}"
                raise Refusal("40002", sub_code, name, "identity_failures")

    def _payment(self, kind: str, biz: dict[str, typing.Any]) -> Payment:
        try:
            check_biz_content(kind, biz)
        except BadRequest as bad:
            raise Refusal("40004", "ACQ.INVALID_PARAMETER", str(bad), "bad_requests") from None
        if "trade_no" in biz:
            payment = self.ledger.find_payment(transaction_id=biz["trade_no"])
        else:
            payment = self.ledger.find_payment(payment_id=biz["out_trade_no"])
        if payment is None:
            sub_code = SUB_CODES["unknown_payment"]
            raise Refusal("40004", sub_code, "no such trade", "unknown_payment_refused")
        return payment

    @staticmethod
    def _demand(kind: str, biz: dict[str, typing.Any], payment: Payment) -> RefundDemand | None:
        if kind != REFUND:
            return None
        return RefundDemand(
            refund_no=biz["out_request_no"],
            payment_id=payment["payment_id"],
            order_id="",
            transaction_id=payment["transaction_id"],
            amount=fen(biz["refund_amount"]),
            currency="CNY",
            reason=biz.get("refund_reason", ""),
        )

    # -- answers

    def answer(self, call: Call, outcome: Outcome, accepted_status: int, lie: Lie) -> Response:
        if isinstance(outcome, Refused) and outcome.reason != "unknown_refund":
            return Response(200, compact_json(self._refusal(call, outcome)))
        node: dict[str, typing.Any] = {"code": "10000", "msg": MESSAGES["10000"]}
        if call.kind == QUERY:
            node |= self._query_fields(call, outcome, lie)
        else:
            assert isinstance(outcome, Refund)
            node |= self._refund_fields(call, outcome, lie)
        return Response(200, compact_json(node))

    def _refusal(self, call: Call, refused: Refused) -> dict[str, str]:
        if refused.reason == "too_soon":
            return _node("40005", USUAL_SUB_CODE["40005"], str(refused))
        payment = call.details["payment"]
        sub_code = SUB_CODES[refused.reason]
        if refused.reason == "over_refund":
            is_used_up = self.ledger.refunded_of(payment["payment_id"]) >= payment["amount"]
            sub_code = "ACQ.TRADE_HAS_CLOSE" if is_used_up else sub_code
        return _node("40004", sub_code, str(refused))

    def _refund_fields(self, call: Call, refund: Refund, lie: Lie) -> dict[str, str]:
        has_moved = refund.is_new and refund.state == SUCCEEDED
        fields = {
            "buyer_logon_id": "159****5620",
            "fund_change": lie.status_word or ("Y" if has_moved else "N"),
            "out_trade_no": lie.refund_no or refund.payment_id,
            "refund_fee": yuan(self.ledger.refunded_of(refund.payment_id)),
            "send_back_fee": "0.00",
            "trade_no": refund.transaction_id or "",
            "buyer_user_id": "2088000000000002",
        }
        if refund.state == SUCCEEDED:
            fields["gmt_refund_pay"] = beijing(refund.settled_at or refund.accepted_at)
        return fields

    def _query_fields(self, call: Call, outcome: Outcome, lie: Lie) -> dict[str, str]:
        """Nothing for what is not refunded: not yet, not at all, or not of this trade."""
        payment = call.details["payment"]
        if not isinstance(outcome, Refund) or outcome.payment_id != payment["payment_id"]:
            return {}
        if outcome.state != SUCCEEDED and lie.status_word is None:
            return {}
        fields = {
            "out_request_no": lie.refund_no or outcome.refund_no,
            "out_trade_no": outcome.payment_id,
            "refund_amount": yuan(outcome.amount),
            "refund_status": lie.status_word or outcome.word,
            "total_amount": yuan(payment["amount"]),
            "trade_no": payment["transaction_id"],
        }
        if "gmt_refund_pay" in call.details["biz"].get("query_options", ()):
            fields["gmt_refund_pay"] = beijing(outcome.settled_at or outcome.accepted_at)
        return fields

    def error(self, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
        """Not of the gateway but of what stands before it: a page, not JSON."""
        page = f"<html><body><h1>{text}</h1></body></html>".encode()
        return Response(status, page, headers or {}, "text/html")

    def provider_error(self, call: Call, error: ProviderError) -> Response:
        is_public = error.code.isdigit()
        code = error.code if is_public else "40004"
        usual = USUAL_SUB_CODE.get(code, "isv.unknown") if is_public else error.code
        node = _node(code, error.sub_code or usual, error.message or "as the stand-in was told")
        return Response(error.status or 200, compact_json(node))

    def seal(self, call: Call, request: Request, response: Response, signature: str) -> Response:
        """Puts the node between the braces of an answer, and signs its very bytes."""
        if response.status != 200 or not response.body.startswith(b"{"):
            return response
        node, is_success = response.body, response.body.startswith(b'{"code":"10000"')
        if signature == UNSIGNED and not is_success:
            response.body = b'{"error_response":' + node + b"}"
            return response
        name = "alipay_trade_query_response" if signature == WRONG_NODE else call.details["node"]
        members = [b'"%b":%b' % (name.encode(), node)]
        if self._is_certificate_mode:
            is_unknown = signature == UNKNOWN_SERIAL
            number = A_CERTIFICATE_OF_NOBODY if is_unknown else self._keys.alipay_cert_sn
            members.append(b'"alipay_cert_sn":"%b"' % number.encode())
        if signature != UNSIGNED:
            key = self._keys.stranger if signature == STRANGER else self._keys.own
            members.append(b'"sign":"%b"' % key.sign(node).encode())
        response.body = b"{" + b",".join(members) + b"}"
        return response

    # -- notifications

    def payment_news(self, payment: Payment, event_type: str | None) -> list[News]:
        content = self._trade_fields(payment, event_type or "TRADE_SUCCESS")
        return [_news("payment", payment["transaction_id"], content)]

    def refund_news(self, refund: Refund, change: str, event_type: str | None) -> list[News]:
        if event_type is None and refund.state != SUCCEEDED:
            return []
        payment = self.ledger.find_payment(refund.payment_id, refund.transaction_id)
        assert payment is not None
        refunded = self.ledger.refunded_of(refund.payment_id)
        is_full = refunded >= payment["amount"]
        status = event_type or ("TRADE_CLOSED" if is_full else "TRADE_SUCCESS")
        settled_at = refund.settled_at or time.time()
        content = self._trade_fields(payment, status)
        content["refund_fee"] = yuan(refunded)
        content["gmt_refund"] = f"{beijing(settled_at)}.{int(settled_at * 1000) % 1000:03d}"
        content["out_biz_no"] = refund.refund_no
        if status == "TRADE_CLOSED":
            content["gmt_close"] = beijing(settled_at)
        return [_news("refund", refund.refund_no, content)]

    def _trade_fields(self, payment: Payment, status: str) -> dict[str, str]:
        amount, paid_at = yuan(payment["amount"]), payment["arrived_at"]
        bills = compact_json([{"amount": amount, "fundChannel": "ALIPAYACCOUNT"}])
        return {
            "gmt_create": beijing(paid_at - 10),
            "charset": "utf-8",
            "seller_email": "seller@example.com",
            "subject": "测试商品 A+B 100%",
            "buyer_id": "2088000000000002",
            "invoice_amount": amount,
            "fund_bill_list": bills.decode(),
            "notify_type": "trade_status_sync",
            "trade_status": status,
            "receipt_amount": amount,
            "buyer_pay_amount": amount,
            "app_id": self._keys.app_id,
            "auth_app_id": self._keys.app_id,
            "sign_type": "RSA2",
            "seller_id": self._keys.seller_id,
            "gmt_payment": beijing(paid_at),
            "notify_time": beijing(time.time()),
            "version": "1.0",
            "out_trade_no": payment["payment_id"],
            "total_amount": amount,
            "trade_no": payment["transaction_id"],
            "buyer_logon_id": "159****5620",
            "point_amount": "0.00",
        }

    def message(self, news: News, signature: str) -> Message:
        """The same form at every repetition, notify_id and notify_time included."""
        fields = {"notify_id": news.event_id, **news.content}
        if signature != UNSIGNED:
            key = self._keys.stranger if signature == STRANGER else self._keys.own
            fields["sign"] = key.sign(canonical(fields, "sign", "sign_type"))
        pairs = (f"{quote(name, safe='')}={_form_value(value)}" for name, value in fields.items())
        content_type = "application/x-www-form-urlencoded; charset=utf-8"
        return Message({"Content-Type": content_type}, "&".join(pairs).encode())

    def is_acknowledged(self, status: int, body: bytes) -> bool:
        return status == 200 and body == b"success"


def _parameters(request: Request) -> dict[str, str]:
    """The parameters of query and body together."""
    content_type = request.headers.get("content-type", "")
    if not FORM_TYPE.fullmatch(content_type):
        raise BadRequest("Content-Type is not application/x-www-form-urlencoded")
    query = form(request.query)
    body = form(request.body.decode("latin-1"))
    if query.keys() & body.keys():
        raise BadRequest("a parameter is both in the query and in the body")
    if "charset" not in query and "charset" not in content_type.lower():
        raise BadRequest("the charset is only known after the body has been decoded")
    fields = {**query, **body}
    if "" in fields.values():
        raise BadRequest("an empty parameter is not signed, and so must not be sent")
    return fields


def _is_near(timestamp: str, now_s: float) -> bool:
    if not TIMESTAMP.fullmatch(timestamp):
        return False
    try:
        at = datetime.strptime(timestamp, "%Y-%m-%d %H:%M:%S").replace(tzinfo=BEIJING)
    except ValueError:
        return False
    return abs(now_s - at.timestamp()) <= TOLERANCE_S


def _node(code: str, sub_code: str, text: str) -> dict[str, str]:
    message = MESSAGES.get(code, "Unknown")
    return {"code": code, "msg": message, "sub_code": sub_code, "sub_msg": text}


def _node_of(refusal: Refusal) -> dict[str, str]:
    return _node(refusal.code, refusal.sub_code, str(refusal))


def _refused(call: Call, response: Response, counter: str) -> Call:
    return Call(
        call.kind, call.refund_no, refusal=response, refusal_counter=counter, details=call.details
    )


def _form_value(value: str) -> str:
    return quote(value, safe="*").replace("%20", "+")


def _news(kind: str, subject: str, content: dict[str, str]) -> News:
    status = content["trade_status"]
    number = _digits(f"{kind} {subject} {status}", 26)
    return News(f"20260115{number}", status, content)
