"""The generic protocol of payonce: refunds as JSON over HTTP.

    POST /refunds               Idempotency-Key: <refund_no>
    GET  /refunds/{refund_no}

It is deliberately strict: whatever departs from the contract is answered with 400, so that a
client that is almost right does not pass.
"""

from __future__ import annotations

import hashlib
import re
import time
import typing
from collections.abc import Callable
from hmac import compare_digest

import standard_webhooks
from http_server import Request, Response
from ledger import (
    AMOUNT_MAX,
    CURRENCY,
    FAILED,
    PROCESSING,
    Ledger,
    Refund,
    RefundDemand,
    Refused,
)
from protocol import (
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
from strict_reading import JSON_TYPE, BadRequest, compact_json, is_text, json_object

REFUND_NO = re.compile(r"[0-9A-Za-z_*|@-]{1,64}")
PAYMENT_ID = re.compile(r"[0-9A-Za-z_*|@-]{1,56}")
STALE = "stale"
STRANGERS_KEY = b"a key that the merchant has never seen"
STALE_S = 600

STATUS_OF_REFUSAL = {
    "conflicting_repeat": 409,
    "currency_mismatch": 422,
    "over_refund": 422,
    "unknown_payment": 400,
    "unknown_refund": 404,
}

FIELDS: dict[str, Callable[[typing.Any], object]] = {
    "refund_no": lambda value: is_text(value) and REFUND_NO.fullmatch(value),
    "payment_id": lambda value: is_text(value) and PAYMENT_ID.fullmatch(value),
    "order_id": is_text,
    "transaction_id": lambda value: value is None or is_text(value),
    "amount": lambda value: type(value) is int and 0 < value <= AMOUNT_MAX,
    "currency": lambda value: is_text(value) and CURRENCY.fullmatch(value),
    "reason": is_text,
}


def _check_demand(request: Request, fields: dict[str, typing.Any]) -> RefundDemand:
    if not JSON_TYPE.fullmatch(request.headers.get("content-type", "")):
        raise BadRequest("Content-Type is not application/json")
    for name, is_valid in FIELDS.items():
        if name not in fields:
            raise BadRequest(f"the field {name} is missing")
        if not is_valid(fields[name]):
            raise BadRequest(f"the field {name} is not valid")
    unknown = sorted(fields.keys() - FIELDS.keys())
    if unknown:
        raise BadRequest(f"the field {unknown[0]} is not part of the contract")
    if request.headers.get("idempotency-key") != fields["refund_no"]:
        raise BadRequest("Idempotency-Key is not the refund_no")
    return RefundDemand(**fields)


def _news(event_type: str, content: dict[str, typing.Any]) -> News:
    what = f"{event_type} {sorted(content.items())}"
    return News(f"msg_{hashlib.sha256(what.encode()).hexdigest()[:24]}", event_type, content)


class GenericProtocol(Protocol):
    news_signatures = (UNSIGNED, STRANGER, STALE)
    accepted_statuses = {"immediate": (200, 201), "processing": (202, 200)}

    def __init__(
        self, ledger: Ledger, bearer_token: str | None = None, signing_key: bytes | None = None
    ) -> None:
        super().__init__(ledger)
        self._bearer = None if bearer_token is None else f"Bearer {bearer_token}".encode("latin-1")
        self._signing_key = signing_key

    def read(self, request: Request) -> Call:
        if request.segments == ("refunds",):
            return self._read_refund(request)
        if len(request.segments) == 2 and request.segments[0] == "refunds":
            return self._read_query(request)
        return self._refuse(OTHER, None, self.error(404, "there is nothing at this path"))

    def answer(self, call: Call, outcome: Outcome, accepted_status: int, lie: Lie) -> Response:
        if isinstance(outcome, Refused):
            return self.error(STATUS_OF_REFUSAL[outcome.reason], str(outcome))
        assert isinstance(outcome, Refund)
        body = {"status": lie.status_word or outcome.word, "refund_id": outcome.refund_id}
        if outcome.error is not None:
            body["error"] = outcome.error
        if lie.refund_no is not None:
            body["refund_no"] = lie.refund_no
        return Response(accepted_status if call.kind == REFUND else 200, compact_json(body))

    def error(self, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
        return Response(status, compact_json({"error": text}), headers or {})

    def provider_error(self, call: Call, error: ProviderError) -> Response:
        return self.error(error.status or 400, error.message or error.code)

    def payment_news(self, payment: Payment, event_type: str | None) -> list[News]:
        content = {name: payment[name] for name in ("payment_id", "amount", "currency")}
        content["transaction_id"] = payment["transaction_id"]
        return [_news(event_type or "payment.succeeded", content)]

    def refund_news(self, refund: Refund, change: str, event_type: str | None) -> list[News]:
        if event_type is None and refund.state == PROCESSING:
            return []
        usual = "refund.failed" if refund.state == FAILED else "refund.succeeded"
        event_type = event_type or usual
        content = {name: getattr(refund, name) for name in ("refund_no", "amount", "currency")}
        return [_news(event_type, {**content, "refund_id": refund.refund_id})]

    def message(self, news: News, signature: str) -> Message:
        """Signed as the requests are; unsigned where there is no secret."""
        body = compact_json({"type": news.event_type, **news.content})
        headers = {"Content-Type": "application/json"}
        key = STRANGERS_KEY if signature == STRANGER else self._signing_key
        if key is not None and signature != UNSIGNED:
            timestamp_s = int(time.time()) - (STALE_S if signature == STALE else 0)
            headers["webhook-id"] = news.event_id
            headers["webhook-timestamp"] = str(timestamp_s)
            headers["webhook-signature"] = standard_webhooks.sign(
                key, news.event_id, timestamp_s, body
            )
        return Message(headers, body)

    def _read_refund(self, request: Request) -> Call:
        problem = None
        fields: dict[str, typing.Any] = {}
        try:
            fields = json_object(request.body)
        except BadRequest as bad:
            problem = bad
        # Also a refused request is filed under the number that it claims.
        claimed = fields.get("refund_no", request.headers.get("idempotency-key"))
        refund_no = claimed if is_text(claimed) else None
        if request.method != "POST":
            allow = {"Allow": "POST"}
            return self._refuse(OTHER, None, self.error(405, "only POST is allowed", allow))
        if (refused := self._authenticate(request, REFUND, refund_no)) is not None:
            return refused
        try:
            if problem is not None:
                raise problem
            return Call(REFUND, refund_no, _check_demand(request, fields))
        except BadRequest as bad:
            return self._refuse(REFUND, refund_no, self.error(400, str(bad)), "bad_requests")

    def _read_query(self, request: Request) -> Call:
        refund_no = request.segments[1]
        if request.method != "GET":
            allow = {"Allow": "GET"}
            return self._refuse(OTHER, refund_no, self.error(405, "only GET is allowed", allow))
        if (refused := self._authenticate(request, QUERY, refund_no)) is not None:
            return refused
        if request.query or request.body or not REFUND_NO.fullmatch(refund_no):
            text = "a query is GET /refunds/{refund_no}, without parameters or a body"
            return self._refuse(QUERY, refund_no, self.error(400, text), "bad_requests")
        return Call(QUERY, refund_no)

    def _authenticate(self, request: Request, kind: str, refund_no: str | None) -> Call | None:
        if self._bearer is not None:
            given = request.headers.get("authorization", "").encode("latin-1")
            if not compare_digest(given, self._bearer):
                refusal = self.error(401, "the bearer token is missing or wrong")
                return self._refuse(kind, refund_no, refusal, "bearer_failures")
        if self._signing_key is not None:
            failure = standard_webhooks.failure(
                self._signing_key, request.headers, request.body, request.arrived_at
            )
            if failure is not None:
                refusal = self.error(401, failure)
                return self._refuse(kind, refund_no, refusal, "signature_failures")
        return None

    @staticmethod
    def _refuse(
        kind: str, refund_no: str | None, refusal: Response, counter: str | None = None
    ) -> Call:
        return Call(kind, refund_no, refusal=refusal, refusal_counter=counter)
