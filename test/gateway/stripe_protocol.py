"""Stripe's API v1: refunds, their list, and webhooks.

    POST /v1/refunds                  Idempotency-Key
    GET  /v1/refunds/{id}
    GET  /v1/refunds?payment_intent=…|charge=…&limit=…&starting_after=…

As strict as the documents: whatever they do not allow is refused and counted.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import hmac
import re
import secrets
import time
import typing
from collections.abc import Callable

from http_server import Request, Response
from ledger import (
    ACCEPTED,
    AMOUNT_MAX,
    FAILED,
    PROCESSING,
    SUCCEEDED,
    Dialect,
    Ledger,
    Refund,
    RefundDemand,
    Refused,
    Terms,
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
from stripe_keys import StripeKeys
from strict_reading import FORM_TYPE, BadRequest, compact_json, form, is_text

API_VERSION = "2026-10-28.endive"
VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(\.[a-z]+)?")
PAYMENT_INTENT = re.compile(r"pi_[0-9A-Za-z]{1,64}")
CHARGE = re.compile(r"(?:ch|py)_[0-9A-Za-z]{1,64}")
REFUND_ID = re.compile(r"(?:re|pyr)_[0-9A-Za-z]{1,64}")
SECONDS = re.compile(r"[0-9]{1,12}")
AMOUNT = re.compile(r"[1-9][0-9]{0,15}")
LIMIT = re.compile(r"[1-9][0-9]?|100")
METADATA = re.compile(r"metadata\[([^\[\]]{1,40})\]")
METADATA_PAIRS, METADATA_VALUE = 50, 500
REASONS = ("duplicate", "fraudulent", "requested_by_customer")
PARAMETERS = {"payment_intent", "charge", "amount", "reason", "instructions_email"}
LIST_PARAMETERS = {"payment_intent", "charge", "limit", "starting_after", "created[gte]"}
DEFAULT_LIMIT = 10
FAILURE_REASONS = (
    "lost_or_stolen_card",
    "expired_or_canceled_card",
    "charge_for_pending_refund_disputed",
    "insufficient_funds",
    "declined",
    "merchant_request",
)

STALE = "stale"
STALE_S = 600

STATUS_OF_CODE = {
    "idempotency_key_in_use": 409,
    "lock_timeout": 429,
    "rate_limit": 429,
    "resource_missing": 404,
}


DIALECT = Dialect(
    words={
        SUCCEEDED: (SUCCEEDED, "succeeded"),
        "pending": (PROCESSING, "pending"),
        "requires_action": (PROCESSING, "requires_action"),
        FAILED: (FAILED, "failed"),
        "canceled": (FAILED, "canceled"),
        PROCESSING: (PROCESSING, "pending"),
    },
    # Not derived: a number whose key was forgotten gets another refund.
    refund_id=lambda gateway, refund_no: f"re_3{secrets.token_hex(11)}",
    transaction_id=lambda payment_id: (
        f"pi_3{hashlib.sha256(payment_id.encode()).hexdigest()[:22]}"
    ),
    transaction_id_form=PAYMENT_INTENT,
)


class Refusal(Exception):
    """A request that goes no further."""

    def __init__(
        self,
        status: int,
        message: str,
        counter: str | None = "bad_requests",
        code: str | None = None,
        param: str | None = None,
        error_type: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.counter = counter
        self.response = _error(status, error_type, message, code, param)


def prepare(
    secret_key: str, webhook_secret: str, horizon_ms: int | None, page_limit: int
) -> tuple[Dialect, Callable[[Ledger], Protocol]]:
    make = functools.partial(StripeProtocol, secret_key, webhook_secret, horizon_ms, page_limit)
    return DIALECT, make


def check_parameters(fields: dict[str, str]) -> dict[str, str]:
    """The metadata of a refund request whose parameters are all documented."""
    metadata = {}
    for name, value in fields.items():
        if (key := METADATA.fullmatch(name)) is not None:
            if len(value) > METADATA_VALUE:
                raise Refusal(400, "a value of metadata is too long", param=name)
            metadata[key[1]] = value
        elif name not in PARAMETERS:
            raise Refusal(
                400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name
            )
    if len(metadata) > METADATA_PAIRS:
        raise Refusal(400, "metadata has too many keys", param="metadata")
    if not AMOUNT.fullmatch(fields.get("amount", "")) or int(fields["amount"]) > AMOUNT_MAX:
        # Stripe itself would send everything back that is left.
        raise Refusal(400, "amount is a positive integer", param="amount")
    if "reason" in fields and fields["reason"] not in REASONS:
        raise Refusal(400, f"reason is one of {', '.join(REASONS)}", param="reason")
    if not is_text(metadata.get("out_refund_no")):
        raise Refusal(400, "metadata[out_refund_no] says which refund this is", param="metadata")
    return metadata


def signed_event(secret: str, timestamp_s: int, body: bytes) -> str:
    """The whole secret is the key, whsec_ included."""
    text = f"{timestamp_s}.".encode() + body
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


class StripeProtocol(Protocol):
    news_signatures = (UNSIGNED, STRANGER, STALE)

    def __init__(
        self,
        secret_key: str,
        webhook_secret: str,
        horizon_ms: int | None,
        page_limit: int,
        ledger: Ledger,
    ) -> None:
        super().__init__(ledger)
        self._bearer = f"Bearer {secret_key}"
        self._webhook_secret = webhook_secret
        self._page_limit = page_limit
        self._keys = StripeKeys(ledger, horizon_ms)

    def outcomes(self) -> list[str]:
        return list(self.ledger.dialect.words)

    # -- requests

    def read(self, request: Request) -> Call:
        kind, refund_no = OTHER, None
        fields: dict[str, str] = {}
        try:
            if request.segments == ("v1", "refunds") and request.method == "POST":
                kind, fields = REFUND, _form_of(request.body)
                refund_no = fields.get("metadata[out_refund_no]")
                self._authenticate(request)
                return self._read_refund(request, fields)
            if request.method != "GET" or request.segments[:2] != ("v1", "refunds"):
                raise Refusal(404, f"Unrecognized request URL ({request.target})")
            kind = QUERY
            if len(request.segments) == 3:
                refund_no = self._number_of(request.segments[2])
                self._authenticate(request)
                return self._read_retrieve(request, refund_no)
            fields = _form_of(request.query.encode())
            refund_no = self._newest_number(fields)
            self._authenticate(request)
            if len(request.segments) != 2 or request.body:
                raise Refusal(404, f"Unrecognized request URL ({request.target})")
            return self._read_list(fields, refund_no)
        except Refusal as refusal:
            response = self.seal(Call(kind, refund_no), request, refusal.response, GOOD)
            return Call(kind, refund_no, refusal=response, refusal_counter=refusal.counter)

    def _authenticate(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode("latin-1"), self._bearer.encode()):
            raise Refusal(401, "Invalid API Key provided", "bearer_failures")
        if not VERSION.fullmatch(request.headers.get("stripe-version", "")):
            raise Refusal(400, "Stripe-Version is missing or malformed")

    def _read_refund(self, request: Request, fields: dict[str, str]) -> Call:
        if not FORM_TYPE.fullmatch(request.headers.get("content-type", "")) or request.query:
            raise Refusal(400, "Content-Type is not application/x-www-form-urlencoded")
        key = request.headers.get("idempotency-key", "")
        if not 1 <= len(key) <= 255:
            raise Refusal(400, "Idempotency-Key of 1 to 255 characters is required")
        fingerprint = hashlib.sha256(repr(sorted(fields.items())).encode()).hexdigest()
        if not self._keys.fits(key, fingerprint):
            message = "Keys for idempotent requests can only be used with the same parameters"
            raise Refusal(400, message, "idempotency_misuses", error_type="idempotency_error")
        metadata = check_parameters(fields)
        payment = self._payment(fields)
        if not self._keys.begin(key):
            message = "There is currently another in-progress request using this key"
            raise Refusal(409, message, "keys_in_use", code="idempotency_key_in_use")
        demand = RefundDemand(
            refund_no=metadata["out_refund_no"],
            payment_id=payment["payment_id"],
            order_id="",
            transaction_id=payment["transaction_id"],
            amount=int(fields["amount"]),
            currency=payment["currency"],
            reason=fields.get("reason", ""),
            details={"metadata": metadata, "idempotency_key": key},
        )
        is_known = self._keys.stored_answer(key) is not None
        details = {"key": key, "fingerprint": fingerprint, "is_known": is_known}
        return Call(REFUND, metadata["out_refund_no"], demand, details=details)

    def _read_retrieve(self, request: Request, refund_no: str | None) -> Call:
        if request.query or request.body:
            raise Refusal(400, "retrieving a refund takes no parameters")
        if refund_no is None:
            counter = None if REFUND_ID.fullmatch(request.segments[2]) else "bad_requests"
            message = f"No such refund: '{request.segments[2]}'"
            raise Refusal(404, message, counter, "resource_missing", "refund")
        return Call(QUERY, refund_no, details={"id": request.segments[2]})

    def _read_list(self, fields: dict[str, str], refund_no: str | None) -> Call:
        for name in sorted(fields.keys() - LIST_PARAMETERS):
            raise Refusal(
                400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name
            )
        if not LIMIT.fullmatch(fields.get("limit", "1")):
            raise Refusal(400, "limit is a number from 1 to 100", param="limit")
        since = fields.get("created[gte]", "0")
        if not SECONDS.fullmatch(since):
            raise Refusal(400, "created[gte] is a time in Unix seconds", param="created[gte]")
        payment = self._payment(fields)
        after = fields.get("starting_after")
        if after is not None and self._number_of(after) is None:
            message = f"No such refund: '{after}'"
            raise Refusal(400, message, code="resource_missing", param="starting_after")
        details = {
            "payment_id": payment["payment_id"],
            "limit": min(int(fields.get("limit", DEFAULT_LIMIT)), self._page_limit),
            "after": after,
            "since": int(since),
        }
        return Call(QUERY, refund_no, details=details)

    def _payment(self, fields: dict[str, str]) -> Payment:
        """The payment that a PaymentIntent or its charge names."""
        named = [name for name in ("payment_intent", "charge") if name in fields]
        if len(named) != 1:
            raise Refusal(400, "one of payment_intent and charge is required")
        name, value = named[0], fields[named[0]]
        if not (PAYMENT_INTENT if name == "payment_intent" else CHARGE).fullmatch(value):
            raise Refusal(400, f"{value} is no {name}", param=name)
        payment = self.ledger.find_payment(transaction_id=f"pi_{value.partition('_')[2]}")
        if payment is None:
            message = f"No such {name}: '{value}'"
            counter = "unknown_payment_refused"
            raise Refusal(404, message, counter, "resource_missing", name)
        return payment

    def _number_of(self, refund_id: str) -> str | None:
        """The number in the ledger of a refund that Stripe's identifier names."""
        row = self.ledger.db.execute(
            "SELECT refund_no FROM refunds WHERE refund_id = ?", (refund_id,)
        ).fetchone()
        return None if row is None else row["refund_no"]

    def _newest_number(self, fields: dict[str, str]) -> str | None:
        """Under which number a list is filed: it names none itself."""
        try:
            payment = self._payment(fields)
        except Refusal:
            return None
        refunds = self._refunds_of(payment["payment_id"])
        number: str = refunds[0].refund_no if refunds else payment["payment_id"]
        return number

    def _refunds_of(self, payment_id: str) -> list[Refund]:
        """Newest first."""
        rows = self.ledger.db.execute(
            "SELECT refund_no FROM refunds WHERE payment_id = ?"
            " ORDER BY accepted_at DESC, rowid DESC",
            (payment_id,),
        ).fetchall()
        return [self.ledger.refund(row["refund_no"]) for row in rows]

    # -- what the ledger decides

    def act(self, call: Call, terms: Terms) -> Outcome:
        if call.kind == QUERY and "limit" in call.details:
            refunds = self._refunds_of(call.details["payment_id"])
            asked = [self.ledger.ask(refund.refund_no) for refund in refunds]
            return [one for one in asked if int(one.accepted_at) >= call.details["since"]]
        if call.kind == QUERY:
            return super().act(call, terms)
        stored = self._keys.stored_answer(call.details["key"])
        if stored is not None:
            return stored
        assert call.demand is not None
        number = self._number_for_another(call.demand.refund_no)
        demand = dataclasses.replace(call.demand, refund_no=number)
        return super().act(dataclasses.replace(call, demand=demand), terms)

    def _number_for_another(self, refund_no: str) -> str:
        """Stripe knows no numbers of ours: under a new key each request is another refund. In the
        ledger the first one that did not fail has the plain number, the others get a suffix."""
        known = self.ledger.row(refund_no)
        if known is None:
            return refund_no
        count = self.ledger.db.execute(
            "SELECT count(*) FROM refunds WHERE refund_no GLOB ? || '#*'", (refund_no,)
        ).fetchone()[0]
        suffixed = f"{refund_no}#{count + 2}"
        if known["state"] != FAILED:
            return suffixed
        self.ledger.write(
            "UPDATE refunds SET refund_no = ? WHERE refund_no = ?", (suffixed, refund_no)
        )
        return refund_no

    # -- answers

    def answer(self, call: Call, outcome: Outcome, accepted_status: int, lie: Lie) -> Response:
        if isinstance(outcome, Response):
            return outcome
        if isinstance(outcome, list):
            return self._page(call, outcome, lie)
        if isinstance(outcome, Refused):
            return self._refused(call, outcome)
        return Response(200, compact_json(self._object(outcome, lie)))

    def _page(self, call: Call, refunds: list[Refund], lie: Lie) -> Response:
        after = call.details["after"]
        ids = [refund.refund_id for refund in refunds]
        start = ids.index(after) + 1 if after in ids else 0
        end = start + call.details["limit"]
        page = {
            "object": "list",
            "url": "/v1/refunds",
            "has_more": end < len(refunds),
            "data": [self._object(refund, lie) for refund in refunds[start:end]],
        }
        return Response(200, compact_json(page))

    def _refused(self, call: Call, refused: Refused) -> Response:
        error = "invalid_request_error"
        if refused.reason == "unknown_refund":
            if "limit" in call.details:
                return self._page(call, [], Lie())
            return _error(404, error, "No such refund", "resource_missing", "refund")
        if refused.reason != "over_refund":
            return _error(400, error, str(refused), None, None)
        assert call.demand is not None
        payment = self.ledger.find_payment(call.demand.payment_id, call.demand.transaction_id)
        assert payment is not None
        left = payment["amount"] - self.ledger.refunded_of(call.demand.payment_id)
        if left <= 0:
            message = f"Charge {_charge(payment)} has already been refunded."
            return _error(400, error, message, "charge_already_refunded", None)
        message = f"Refund amount ({call.demand.amount}) is greater than unrefunded amount ({left})"
        return _error(400, error, message, None, "amount")

    def _object(self, refund: Refund, lie: Lie) -> dict[str, typing.Any]:
        transaction_id = refund.transaction_id or ""
        metadata = dict(refund.details["metadata"])
        if lie.refund_no is not None:
            metadata["out_refund_no"] = lie.refund_no
        body = {
            "id": refund.refund_id,
            "object": "refund",
            "amount": refund.amount,
            "balance_transaction": f"txn_{refund.refund_id.partition('_')[2]}",
            "charge": f"ch_{transaction_id.partition('_')[2]}",
            "created": int(refund.accepted_at),
            "currency": refund.currency.lower(),
            "metadata": metadata,
            "payment_intent": transaction_id,
            "reason": refund.reason or None,
            "receipt_number": None,
            "status": lie.status_word or refund.word,
        }
        if refund.word == "pending":
            body["pending_reason"] = refund.error or "processing"
        if refund.word == "failed":
            is_known = refund.error in FAILURE_REASONS
            body["failure_reason"] = refund.error if is_known else "unknown"
            body["failure_balance_transaction"] = f"txn_f{refund.refund_id.partition('_')[2]}"
        return body

    def error(self, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
        error_type = "api_error" if status >= 500 else "invalid_request_error"
        code = {404: "resource_missing", 429: "rate_limit"}.get(status)
        response = _error(status, error_type, text, code, None)
        response.headers = headers or {}
        return response

    def provider_error(self, call: Call, error: ProviderError) -> Response:
        usual_status = STATUS_OF_CODE.get(error.code, 400)
        status = error.status or usual_status
        usual = "api_error" if status >= 500 else "invalid_request_error"
        message = error.message or "as the stand-in was told"
        return _error(status, error.error_type or usual, message, error.code, None)

    def seal(self, call: Call, request: Request, response: Response, signature: str) -> Response:
        """Answers are not signed; each has a number that helps Stripe's support."""
        response.headers["Request-Id"] = f"req_{secrets.token_hex(7)}"
        return response

    def answered(self, call: Call, response: Response, is_stored: bool | None) -> None:
        """Stored is what was executed, also what broke meanwhile; not what was refused before."""
        if call.kind != REFUND or call.details["is_known"]:
            return
        if is_stored or (is_stored is None and (response.status == 200 or response.status >= 500)):
            self._keys.store(call.details["key"], call.details["fingerprint"], response)

    def left(self, call: Call) -> None:
        if call.refusal is None and call.kind == REFUND:
            self._keys.end(call.details["key"])

    # -- webhooks

    def payment_news(self, payment: Payment, event_type: str | None) -> list[News]:
        event_type = event_type or "payment_intent.succeeded"
        is_paid = event_type == "payment_intent.succeeded"
        content = {
            "id": payment["transaction_id"],
            "object": "payment_intent",
            "amount": payment["amount"],
            "amount_capturable": 0,
            "amount_received": payment["amount"] if is_paid else 0,
            "currency": payment["currency"].lower(),
            "latest_charge": _charge(payment),
            "livemode": False,
            "metadata": {"out_trade_no": payment["payment_id"]},
            "status": "succeeded" if is_paid else "requires_payment_method",
        }
        return [_news(event_type, payment["transaction_id"], content)]

    def refund_news(self, refund: Refund, change: str, event_type: str | None) -> list[News]:
        if event_type is not None:
            return [self._refund_event(refund, event_type)]
        if change == ACCEPTED:
            types = ["refund.created"]
        else:
            types = ["refund.failed" if refund.word == "failed" else "refund.updated"]
        if refund.state == SUCCEEDED:
            types.append("charge.refunded")
        return [self._refund_event(refund, one) for one in types]

    def _refund_event(self, refund: Refund, event_type: str) -> News:
        subject = f"{refund.refund_id} {refund.word}"
        if event_type == "charge.refunded":
            return _news(event_type, subject, self._charge_object(refund))
        content = self._object(refund, Lie())
        if event_type == "refund.updated":
            content["previous_attributes"] = {"status": "pending"}
        return _news(event_type, subject, content)

    def _charge_object(self, refund: Refund) -> dict[str, typing.Any]:
        payment = self.ledger.find_payment(refund.payment_id, refund.transaction_id)
        assert payment is not None
        refunded = self.ledger.refunded_of(refund.payment_id)
        return {
            "id": _charge(payment),
            "object": "charge",
            "amount": payment["amount"],
            "amount_captured": payment["amount"],
            "amount_refunded": refunded,
            "currency": payment["currency"].lower(),
            "livemode": False,
            "metadata": {},
            "payment_intent": payment["transaction_id"],
            "refunded": refunded >= payment["amount"],
            "status": "succeeded",
        }

    def message(self, news: News, signature: str) -> Message:
        event = _event(news)
        body = compact_json(event)
        timestamp_s = int(time.time()) - (STALE_S if signature == STALE else 0)
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if signature != UNSIGNED:
            secret = "whsec_of_a_stranger" if signature == STRANGER else self._webhook_secret
            digest = signed_event(secret, timestamp_s, body)
            headers["Stripe-Signature"] = f"t={timestamp_s},v1={digest}"
        return Message(headers, body)


def _event(news: News) -> dict[str, typing.Any]:
    """`content` is the object; what an event says beside it is taken out of it."""
    content = dict(news.content)
    previous = content.pop("previous_attributes", None)
    livemode = content.get("livemode", False)
    data = {"object": content}
    if previous is not None:
        data["previous_attributes"] = previous
    return {
        "id": news.event_id,
        "object": "event",
        "api_version": API_VERSION,
        "created": int(time.time()),
        "data": data,
        "livemode": livemode,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": news.event_type,
    }


def _news(event_type: str, subject: str, content: dict[str, typing.Any]) -> News:
    digest = hashlib.sha256(f"{event_type} {subject}".encode()).hexdigest()
    return News(f"evt_1{digest[:23]}", event_type, content)


def _charge(payment: Payment) -> str:
    return f"ch_{payment['transaction_id'].partition('_')[2]}"


def _form_of(text: bytes) -> dict[str, str]:
    try:
        return form(text.decode("latin-1"))
    except BadRequest as bad:
        raise Refusal(400, str(bad)) from None


def _error(
    status: int, error_type: str, message: str, code: str | None, param: str | None
) -> Response:
    error = {"type": error_type, "code": code, "message": message, "param": param}
    kept = {name: value for name, value in error.items() if value is not None}
    return Response(status, compact_json({"error": kept}))
