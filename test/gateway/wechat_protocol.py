"""WeChat Pay API v3, mainland merchant in direct mode: refunds and notifications.

    POST /v3/refund/domestic/refunds
    GET  /v3/refund/domestic/refunds/{out_refund_no}

As strict as the documents: whatever they do not allow is refused and counted.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import re
import secrets
import time
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from http_client import is_loopback
from http_server import Request, Response
from ledger import (
    AMOUNT_MAX,
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
from rsa_keys import Key, seal_gcm
from strict_reading import JSON_TYPE, BadRequest, compact_json, is_text, json_object

REFUNDS = ("v3", "refund", "domestic", "refunds")
SCHEME = "WECHATPAY2-SHA256-RSA2048"
AUTHORIZATION = re.compile(rf'{SCHEME} ((?:[a-z_]+="[^"]*")(?:,[a-z_]+="[^"]*")*)')
ATTRIBUTE = re.compile(r'([a-z_]+)="([^"]*)"')
ATTRIBUTES = {"mchid", "nonce_str", "timestamp", "serial_no", "signature"}
NONCE = re.compile(r"[0-9A-Za-z]{1,32}")
TOLERANCE_S = 300
BEIJING = timezone(timedelta(hours=8))
RECEIVED_BY = "招商银行信用卡0403"

TRANSACTION_ID = re.compile(r"42[0-9]{26}")
OUT_TRADE_NO = re.compile(r"[0-9A-Za-z_|*-]{6,32}")
OUT_REFUND_NO = re.compile(r"[0-9A-Za-z_|*@-]{1,64}")
GOODS = {
    "merchant_goods_id",
    "wechatpay_goods_id",
    "goods_name",
    "unit_price",
    "refund_amount",
    "refund_quantity",
}

PROBE, UNKNOWN_SERIAL, STALE = "probe", "unknown_serial", "stale"
A_SERIAL_OF_NOBODY = "PUB_KEY_ID_0000000000000000000000000000009999"

# HTTP status and code by the ledger's reason; a gateway error's default status by its code.
REFUSALS = {
    "unknown_payment": (404, "RESOURCE_NOT_EXISTS"),
    "unknown_refund": (404, "RESOURCE_NOT_EXISTS"),
    "conflicting_repeat": (400, "INVALID_REQUEST"),
    "over_refund": (400, "INVALID_REQUEST"),
    "total_mismatch": (400, "INVALID_REQUEST"),
    "window_is_over": (400, "INVALID_REQUEST"),
    "too_many": (400, "INVALID_REQUEST"),
    "currency_mismatch": (400, "PARAM_ERROR"),
    "too_soon": (429, "FREQUENCY_LIMITED"),
}
STATUS_OF_CODE = {
    "PARAM_ERROR": 400,
    "INVALID_REQUEST": 400,
    "SIGN_ERROR": 401,
    "NOT_ENOUGH": 403,
    "USER_ACCOUNT_ABNORMAL": 403,
    "REQUEST_BLOCKED": 403,
    "NO_AUTH": 403,
    "RESOURCE_NOT_EXISTS": 404,
    "MCH_NOT_EXISTS": 404,
    "FREQUENCY_LIMITED": 429,
    "RATELIMIT_EXCEEDED": 429,
    "RATE_LIMITED": 429,
    "SYSTEM_ERROR": 500,
    "BIZ_ERR_NEED_RETRY": 500,
    "SERVICE_UNAVAILABLE": 503,
}
CODE_OF_STATUS = {404: "RESOURCE_NOT_EXISTS", 429: "FREQUENCY_LIMITED", 503: "SERVICE_UNAVAILABLE"}
SUMMARIES = {
    "TRANSACTION.SUCCESS": "支付成功",
    "REFUND.SUCCESS": "退款成功",
    "REFUND.ABNORMAL": "退款异常",
    "REFUND.CLOSED": "退款关闭",
}


def _digits(text: str, count: int) -> str:
    return str(int(hashlib.sha256(text.encode()).hexdigest(), 16))[-count:]


DIALECT = Dialect(
    words={
        "SUCCESS": (SUCCEEDED, "SUCCESS"),
        "PROCESSING": (PROCESSING, "PROCESSING"),
        "CLOSED": (FAILED, "CLOSED"),
        # The money is parked between merchant and payer: neither refunded nor free again.
        "ABNORMAL": (PROCESSING, "ABNORMAL"),
        SUCCEEDED: (SUCCEEDED, "SUCCESS"),
        PROCESSING: (PROCESSING, "PROCESSING"),
        FAILED: (FAILED, "CLOSED"),
    },
    refund_id=lambda gateway, refund_no: f"50000{_digits(f'{gateway} {refund_no}', 24)}",
    transaction_id=lambda payment_id: f"4200002026{_digits(payment_id, 18)}",
    transaction_id_form=TRANSACTION_ID,
    refund_window_s=365 * 86400,
    max_refunds=50,
)


class Refusal(Exception):
    """A request that goes no further: what is answered, and what is counted."""

    def __init__(self, status: int, code: str, message: str, counter: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.counter = counter


class Keys:
    """What WeChat Pay knows of the merchant, and its own keys, from a folder like the vectors'."""

    def __init__(self, directory: str) -> None:
        with open(os.path.join(directory, "params.json"), encoding="utf-8") as file:
            params = json.load(file)
        self.mchid: str = params["mchid"]
        self.appid: str = params["appid"]
        self.api_v3_key: bytes = params["apiv3_key"].encode()
        self.merchant_serial: str = params["merchant_cert_serial"]
        self.public_key_id: str = params["wechatpay_public_key_id"]
        self.certificate_serial: str = params["platform_cert_serial"]
        files = params["files"]
        self.merchant = Key(directory, files["merchant_cert"])
        self.stranger = Key(directory, files["unrelated_key_pair"][0])
        self.own = {
            serial: Key(directory, name)
            for serial, name in files["gateway_side_private_keys_for_mock_servers"].items()
        }


def prepare(directory: str, answer_key: str) -> tuple[Dialect, Callable[[Ledger], Protocol]]:
    return DIALECT, functools.partial(WechatProtocol, Keys(directory), answer_key)


# -- what a merchant may send


def is_notify_url(value: typing.Any) -> bool:
    """https and public; plain http only where a test listens."""
    if not is_text(value, 256) or "?" in value or "#" in value:
        return False
    return bool(re.match(r"https://[^/]", value)) or is_loopback(value)


def _is_amount(value: typing.Any) -> bool:
    return type(value) is int and 0 < value <= AMOUNT_MAX


def _is_goods(value: typing.Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict) and item.keys() <= GOODS for item in value
    )


FIELDS: dict[str, Callable[[typing.Any], object]] = {
    "transaction_id": lambda value: is_text(value) and TRANSACTION_ID.fullmatch(value),
    "out_trade_no": lambda value: is_text(value) and OUT_TRADE_NO.fullmatch(value),
    "out_refund_no": lambda value: is_text(value) and OUT_REFUND_NO.fullmatch(value),
    # Whether 80 counts characters or bytes is not documented: bytes are the safe reading.
    "reason": lambda value: is_text(value) and len(value.encode()) <= 80,
    "notify_url": is_notify_url,
    "funds_account": lambda value: value in ("AVAILABLE", "UNSETTLED"),
    "amount": lambda value: isinstance(value, dict),
    "goods_detail": _is_goods,
}
AMOUNT_FIELDS: dict[str, Callable[[typing.Any], object]] = {
    "refund": _is_amount,
    "total": _is_amount,
    "currency": lambda value: value == "CNY",
    "from": lambda value: isinstance(value, list),
}


def check_fields(fields: dict[str, typing.Any]) -> None:
    if ("transaction_id" in fields) == ("out_trade_no" in fields):
        raise BadRequest("one of transaction_id and out_trade_no is required")
    _check(fields, FIELDS, {"out_refund_no", "amount"})
    _check(fields["amount"], AMOUNT_FIELDS, {"refund", "total", "currency"})


def _check(
    fields: dict[str, typing.Any],
    known: dict[str, Callable[[typing.Any], object]],
    required: set[str],
) -> None:
    for name in sorted(required - fields.keys()):
        raise BadRequest(f"the field {name} is missing")
    for name, value in fields.items():
        if name not in known:
            raise BadRequest(f"the field {name} is not documented")
        if not known[name](value):
            raise BadRequest(f"the field {name} is not valid")


# -- signatures


def authorization_attributes(header: str) -> dict[str, str]:
    """The five attributes; BadRequest when they are not exactly those."""
    found = AUTHORIZATION.fullmatch(header)
    if found is None:
        raise BadRequest("Authorization is missing or malformed")
    pairs = ATTRIBUTE.findall(found[1])
    attributes = dict(pairs)
    if len(pairs) != len(ATTRIBUTES) or attributes.keys() != ATTRIBUTES:
        raise BadRequest(f"Authorization does not have the attributes {sorted(ATTRIBUTES)}")
    return attributes


def signed_request(method: str, target: str, timestamp: str, nonce: str, body: bytes) -> bytes:
    return f"{method}\n{target}\n{timestamp}\n{nonce}\n".encode() + body + b"\n"


def signed_answer(timestamp: str, nonce: str, body: bytes) -> bytes:
    return f"{timestamp}\n{nonce}\n".encode() + body + b"\n"


@dataclass(frozen=True, slots=True)
class Signer:
    serial: str
    key: Key

    def headers(self, body: bytes, timestamp_s: int) -> dict[str, str]:
        nonce = secrets.token_hex(16)
        return {
            "Wechatpay-Timestamp": str(timestamp_s),
            "Wechatpay-Nonce": nonce,
            "Wechatpay-Signature": self.key.sign(signed_answer(str(timestamp_s), nonce, body)),
            "Wechatpay-Signature-Type": SCHEME,
            "Wechatpay-Serial": self.serial,
        }


class WechatProtocol(Protocol):
    answer_signatures = news_signatures = (UNSIGNED, STRANGER, PROBE, UNKNOWN_SERIAL, STALE)
    default_mode = {"mode": "processing", "after_queries": 0}

    def __init__(self, keys: Keys, answer_key: str, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._keys = keys
        self._serial = keys.public_key_id if answer_key == "public_key" else keys.certificate_serial

    def outcomes(self) -> list[str]:
        return [*super().outcomes(), "ABNORMAL"]

    # -- requests

    def read(self, request: Request) -> Call:
        if request.segments == REFUNDS:
            kind, method, refund_no = REFUND, "POST", _claimed(request.body)
        elif request.segments[:-1] == REFUNDS:
            kind, method, refund_no = QUERY, "GET", request.segments[-1]
        else:
            refusal = Refusal(404, "RESOURCE_NOT_EXISTS", "there is nothing here", "bad_requests")
            return self._refuse(request, OTHER, None, refusal)
        try:
            if request.method != method:
                raise Refusal(405, "METHOD_NOT_ALLOWED", f"only {method}", "bad_requests")
            self._authenticate(request)
            if kind == REFUND:
                return Call(REFUND, refund_no, self._demand(request))
            if request.query or request.body or not OUT_REFUND_NO.fullmatch(refund_no or ""):
                raise Refusal(400, "PARAM_ERROR", "not a refund query", "bad_requests")
            return Call(QUERY, refund_no)
        except Refusal as refusal:
            return self._refuse(request, kind, refund_no, refusal)

    def _refuse(self, request: Request, kind: str, refund_no: str | None, refusal: Refusal) -> Call:
        detail = {}
        if refusal.status == 401:
            detail = {"detail": {"sign_information": _sign_information(request)}}
        response = _error(refusal.status, refusal.code, str(refusal), **detail)
        call = Call(kind, refund_no)
        return Call(
            kind,
            refund_no,
            refusal=self.seal(call, request, response, GOOD),
            refusal_counter=refusal.counter,
        )

    def _authenticate(self, request: Request) -> None:
        headers = request.headers
        if not headers.get("user-agent"):
            raise Refusal(400, "INVALID_REQUEST", "User-Agent is missing", "bad_requests")
        try:
            given = authorization_attributes(headers.get("authorization", ""))
        except BadRequest as bad:
            raise Refusal(401, "SIGN_ERROR", str(bad), "signature_failures") from None
        if given["mchid"] != self._keys.mchid:
            raise Refusal(404, "MCH_NOT_EXISTS", "another merchant", "identity_failures")
        if given["serial_no"].upper() != self._keys.merchant_serial:
            raise Refusal(401, "SIGN_ERROR", "serial_no does not match", "identity_failures")
        timestamp = given["timestamp"]
        is_number = timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12
        if not is_number or abs(request.arrived_at - int(timestamp)) > TOLERANCE_S:
            raise Refusal(401, "SIGN_ERROR", "timestamp is too far away", "stale_timestamps")
        if not NONCE.fullmatch(given["nonce_str"]):
            raise Refusal(401, "SIGN_ERROR", "nonce_str is not 1 to 32 of 0-9A-Za-z", "bad_nonces")
        text = signed_request(
            request.method, request.target, timestamp, given["nonce_str"], request.body
        )
        if not self._keys.merchant.has_signed(text, given["signature"]):
            raise Refusal(401, "SIGN_ERROR", "the signature is wrong", "signature_failures")
        if not self.ledger.use_nonce(given["nonce_str"]):
            raise Refusal(401, "SIGN_ERROR", "nonce_str was used before", "reused_nonces")
        if headers.get("accept") != "application/json":
            raise Refusal(400, "PARAM_ERROR", "Accept is not application/json", "bad_requests")
        serial = headers.get("wechatpay-serial")
        if serial is not None and serial not in self._keys.own:
            raise Refusal(400, "PARAM_ERROR", "Wechatpay-Serial is not ours", "identity_failures")

    def _demand(self, request: Request) -> RefundDemand:
        try:
            if not JSON_TYPE.fullmatch(request.headers.get("content-type", "")):
                raise BadRequest("Content-Type is not application/json")
            fields = json_object(request.body)
            check_fields(fields)
        except BadRequest as bad:
            raise Refusal(400, "PARAM_ERROR", str(bad), "bad_requests") from None
        payment = self.ledger.find_payment(fields.get("out_trade_no"), fields.get("transaction_id"))
        if payment is None:
            message = "there is no such paid order"
            raise Refusal(404, "RESOURCE_NOT_EXISTS", message, "unknown_payment_refused")
        return RefundDemand(
            refund_no=fields["out_refund_no"],
            payment_id=payment["payment_id"],
            order_id="",
            transaction_id=payment["transaction_id"],
            amount=fields["amount"]["refund"],
            currency=fields["amount"]["currency"],
            reason=fields.get("reason", ""),
            total=fields["amount"]["total"],
            details={"notify_url": fields.get("notify_url")},
        )

    # -- answers

    def answer(self, call: Call, outcome: Outcome, accepted_status: int, lie: Lie) -> Response:
        if isinstance(outcome, Refused):
            status, code = REFUSALS[outcome.reason]
            return _error(status, code, str(outcome))
        assert isinstance(outcome, Refund)
        body: dict[str, typing.Any] = {
            "refund_id": outcome.refund_id,
            "out_refund_no": lie.refund_no or outcome.refund_no,
            "transaction_id": outcome.transaction_id,
            "out_trade_no": outcome.payment_id,
            "channel": "ORIGINAL",
            "user_received_account": RECEIVED_BY,
            "create_time": _rfc3339(outcome.accepted_at),
            "status": lie.status_word or outcome.word,
            "funds_account": "AVAILABLE",
            "amount": self._amount(outcome, is_whole=True),
            "promotion_detail": [],
        }
        if outcome.word == "SUCCESS":
            body["success_time"] = _rfc3339(outcome.settled_at)
        return Response(200, compact_json(body))

    def _amount(self, refund: Refund, is_whole: bool) -> dict[str, typing.Any]:
        payment = self.ledger.find_payment(refund.payment_id, refund.transaction_id)
        assert payment is not None
        total = payment["amount"]
        amount = {
            "total": total,
            "refund": refund.amount,
            "payer_total": total,
            "payer_refund": refund.amount,
        }
        if not is_whole:
            return amount
        return {
            **amount,
            "settlement_total": total,
            "settlement_refund": refund.amount,
            "discount_refund": 0,
            "currency": refund.currency,
            "from": [],
        }

    def error(self, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
        code = CODE_OF_STATUS.get(status, "SYSTEM_ERROR" if status >= 500 else "INVALID_REQUEST")
        response = _error(status, code, text)
        response.headers = headers or {}
        return response

    def provider_error(self, call: Call, error: ProviderError) -> Response:
        usual_status = STATUS_OF_CODE.get(error.code, 400)
        status = error.status or usual_status
        return _error(status, error.code, error.message or "as the stand-in was told")

    def seal(self, call: Call, request: Request, response: Response, signature: str) -> Response:
        """Errors of authentication carry no signature: then there is no merchant to sign for."""
        response.headers["Request-ID"] = secrets.token_hex(8).upper()
        if response.status != 401:
            wanted = request.headers.get("wechatpay-serial", "")
            serial = wanted if wanted in self._keys.own else self._serial
            response.headers.update(self._signature(serial, response.body, signature))
        return response

    def _signature(self, serial: str, body: bytes, signature: str) -> dict[str, str]:
        if signature == UNSIGNED:
            return {}
        key = self._keys.stranger if signature == STRANGER else self._keys.own[serial]
        named = A_SERIAL_OF_NOBODY if signature == UNKNOWN_SERIAL else serial
        timestamp_s = int(time.time()) - (2 * TOLERANCE_S if signature == STALE else 0)
        headers = Signer(named, key).headers(body, timestamp_s)
        if signature == PROBE:
            probe = base64.b64encode(secrets.token_bytes(240)).decode()
            headers["Wechatpay-Signature"] = f"WECHATPAY/SIGNTEST/{probe}"
        return headers

    # -- notifications

    def payment_news(self, payment: Payment, event_type: str | None) -> list[News]:
        content = {
            "mchid": self._keys.mchid,
            "appid": self._keys.appid,
            "out_trade_no": payment["payment_id"],
            "transaction_id": payment["transaction_id"],
            "trade_type": "JSAPI",
            "trade_state": "SUCCESS",
            "trade_state_desc": "支付成功",
            "bank_type": "CMB_CREDIT",
            "attach": "",
            "success_time": _rfc3339(payment["arrived_at"]),
            "payer": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
            "amount": {
                "total": payment["amount"],
                "payer_total": payment["amount"],
                "currency": payment["currency"],
                "payer_currency": payment["currency"],
            },
        }
        event_type = event_type or "TRANSACTION.SUCCESS"
        return [_news(event_type, payment["transaction_id"], content)]

    def refund_news(self, refund: Refund, change: str, event_type: str | None) -> list[News]:
        if event_type is None and refund.word == "PROCESSING":
            return []
        event_type = event_type or f"REFUND.{refund.word}"
        status = event_type.removeprefix("REFUND.")
        content = {
            "mchid": self._keys.mchid,
            "out_trade_no": refund.payment_id,
            "transaction_id": refund.transaction_id,
            "out_refund_no": refund.refund_no,
            "refund_id": refund.refund_id,
            "refund_status": status,
            "user_received_account": RECEIVED_BY,
            "amount": self._amount(refund, is_whole=False),
        }
        if status == "SUCCESS":
            content["success_time"] = _rfc3339(refund.settled_at or time.time())
        return [_news(event_type, refund.refund_no, content)]

    def message(self, news: News, signature: str) -> Message:
        kind = "transaction" if news.event_type.startswith("TRANSACTION.") else "refund"
        nonce = secrets.token_hex(6)
        resource = {
            "original_type": kind,
            "algorithm": "AEAD_AES_256_GCM",
            "ciphertext": seal_gcm(
                self._keys.api_v3_key, nonce.encode(), kind.encode(), compact_json(news.content)
            ),
            "associated_data": kind,
            "nonce": nonce,
        }
        body = compact_json(
            {
                "id": news.event_id,
                "create_time": _rfc3339(time.time()),
                "resource_type": "encrypt-resource",
                "event_type": news.event_type,
                "summary": SUMMARIES.get(news.event_type, ""),
                "resource": resource,
            }
        )
        headers = {"Content-Type": "application/json", "Request-ID": secrets.token_hex(8).upper()}
        return Message({**headers, **self._signature(self._serial, body, signature)}, body)

    def is_acknowledged(self, status: int, body: bytes) -> bool:
        return status in (200, 204)


def _news(event_type: str, subject: str, content: dict[str, typing.Any]) -> News:
    digest = hashlib.sha256(f"{event_type} {subject}".encode()).hexdigest()
    return News(f"EV-{digest[:32]}", event_type, content)


def _claimed(body: bytes) -> str | None:
    """Also a refused request is filed under the number that it claims."""
    try:
        claimed = json_object(body).get("out_refund_no")
    except BadRequest:
        return None
    return claimed if is_text(claimed) else None


def _error(status: int, code: str, message: str, **more: typing.Any) -> Response:
    return Response(status, compact_json({"code": code, "message": message, **more}))


def _sign_information(request: Request) -> dict[str, typing.Any]:
    """What helps to find out why a signature is wrong."""
    attributes = dict(ATTRIBUTE.findall(request.headers.get("authorization", "")))
    text = signed_request(
        request.method,
        request.target,
        attributes.get("timestamp", ""),
        attributes.get("nonce_str", ""),
        request.body,
    )
    return {
        "method": request.method,
        "url": request.target,
        "truncated_sign_message": text[:64].decode("utf-8", "replace"),
        "sign_message_length": len(text),
    }


def _rfc3339(at_s: float | None) -> str:
    assert at_s is not None
    return datetime.fromtimestamp(int(at_s), BEIJING).isoformat()
