"""The generic protocol of payonce: refunds as JSON over HTTP.

    POST /refunds               Idempotency-Key: <refund_no>
    GET  /refunds/{refund_no}

It is deliberately strict: whatever departs from the contract is answered with 400, so that a
client that is almost right does not pass.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Callable
from hmac import compare_digest

import standard_webhooks
from http_server import Request, Response
from ledger import AMOUNT_MAX, CURRENCY, Refund, RefundDemand, Refused
from protocol import OTHER, QUERY, REFUND, Call

REFUND_NO = re.compile(r"[0-9A-Za-z_*|@-]{1,64}")
PAYMENT_ID = re.compile(r"[0-9A-Za-z_*|@-]{1,56}")
CONTENT_TYPE = re.compile(r'application/json(\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)
LONE_SURROGATE_OR_NUL = re.compile("[\ud800-\udfff\x00]")

STATUS_OF_REFUSAL = {
    "conflicting_repeat": 409,
    "currency_mismatch": 422,
    "over_refund": 422,
    "unknown_payment": 400,
    "unknown_refund": 404,
}


def _text(value: typing.Any) -> bool:
    """Text that every database can keep: JSON also allows lone surrogates and NUL."""
    return isinstance(value, str) and value != "" and LONE_SURROGATE_OR_NUL.search(value) is None


FIELDS: dict[str, Callable[[typing.Any], object]] = {
    "refund_no": lambda value: _text(value) and REFUND_NO.fullmatch(value),
    "payment_id": lambda value: _text(value) and PAYMENT_ID.fullmatch(value),
    "order_id": _text,
    "transaction_id": lambda value: value is None or _text(value),
    "amount": lambda value: type(value) is int and 0 < value <= AMOUNT_MAX,
    "currency": lambda value: _text(value) and CURRENCY.fullmatch(value),
    "reason": _text,
}


class BadRequest(Exception):
    """Breaks the contract; the text says how."""


def _unique_keys(pairs: list[tuple[str, typing.Any]]) -> dict[str, typing.Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadRequest("a field is there twice")
    return fields


def _read_fields(body: bytes) -> dict[str, typing.Any]:
    try:
        fields = json.loads(body.decode("utf-8"), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON in UTF-8") from None
    if not isinstance(fields, dict):
        raise BadRequest("the body is not a JSON object")
    return fields


def _check_demand(request: Request, fields: dict[str, typing.Any]) -> RefundDemand:
    if not CONTENT_TYPE.fullmatch(request.headers.get("content-type", "")):
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


class GenericProtocol:
    def __init__(self, bearer_token: str | None = None, signing_key: bytes | None = None) -> None:
        self._bearer = None if bearer_token is None else f"Bearer {bearer_token}".encode("latin-1")
        self._signing_key = signing_key

    def read(self, request: Request) -> Call:
        if request.segments == ("refunds",):
            return self._read_refund(request)
        if len(request.segments) == 2 and request.segments[0] == "refunds":
            return self._read_query(request)
        return self._refuse(OTHER, None, self.error(404, "there is nothing at this path"))

    def answer(
        self,
        call: Call,
        outcome: Refund | Refused,
        accepted_status: int,
        status_word: str | None = None,
        refund_no: str | None = None,
    ) -> Response:
        if isinstance(outcome, Refused):
            return self.error(STATUS_OF_REFUSAL[outcome.reason], str(outcome))
        body = {"status": status_word or outcome.state, "refund_id": outcome.refund_id}
        if outcome.error is not None:
            body["error"] = outcome.error
        if refund_no is not None:
            body["refund_no"] = refund_no
        return Response(accepted_status if call.kind == REFUND else 200, _encode(body))

    def error(self, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
        return Response(status, _encode({"error": text}), headers or {})

    def _read_refund(self, request: Request) -> Call:
        problem = None
        fields: dict[str, typing.Any] = {}
        try:
            fields = _read_fields(request.body)
        except BadRequest as bad:
            problem = bad
        # Also a refused request is filed under the number that it claims.
        claimed = fields.get("refund_no", request.headers.get("idempotency-key"))
        refund_no = claimed if _text(claimed) else None
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


def _encode(body: dict[str, typing.Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
