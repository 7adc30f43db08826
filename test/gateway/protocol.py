"""What a gateway's protocol is to the rest of the stand-in.

A protocol reads requests, words answers and news, and signs what it says. It neither decides about
money (ledger.py), nor misbehaves (faults.py), nor sees a socket (http_server.py), so that each
provider's is one file beside generic_protocol.py.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field

from http_server import Request, Response
from ledger import PROCESSING, Ledger, Refund, RefundDemand, Refused, Terms

# What a request wants: to refund, to query a refund, or something this protocol does not know.
REFUND, QUERY, OTHER = "refund", "query", "other"
# What the gateway sends by itself; a fault may spoil that too.
NOTIFICATION = "notification"

GOOD, UNSIGNED, STRANGER = "good", "none", "stranger"


@dataclass(frozen=True, slots=True)
class Call:
    """A request as its protocol understands it; with a `refusal` it goes no further."""

    kind: str
    refund_no: str | None
    demand: RefundDemand | None = None
    refusal: Response | None = None
    refusal_counter: str | None = None
    # What only its protocol needs to answer it.
    details: dict[str, typing.Any] = field(default_factory=dict)


# What the ledger says to a call; some queries are answered with several refunds, and some
# repetitions with the very answer that was given before.
Outcome = Refund | Refused | list[Refund] | Response


@dataclass(frozen=True, slots=True)
class Lie:
    """What a fault makes the gateway say instead of the truth."""

    status_word: str | None = None
    refund_no: str | None = None
    signature: str = GOOD


@dataclass(frozen=True, slots=True)
class ProviderError:
    """An error of the provider's own, as a fault wants it; None is what the provider would say."""

    code: str
    status: int | None = None
    sub_code: str | None = None
    message: str | None = None
    error_type: str | None = None


@dataclass(frozen=True, slots=True)
class News:
    """Something that the gateway tells the merchant. `event_id` stays the same however often it is
    delivered; `content` is what is said, before signing and encryption."""

    event_id: str
    event_type: str
    content: dict[str, typing.Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery of a piece of news, signed when it leaves."""

    headers: dict[str, str]
    body: bytes


# A row of the ledger's payments.
Payment = Mapping[str, typing.Any]


class Protocol:
    """What all protocols share; the rest is each provider's."""

    # The ways to sign an answer, or a notification, wrongly that a fault may choose.
    answer_signatures: tuple[str, ...] = ()
    news_signatures: tuple[str, ...] = ()
    # The HTTP statuses of an accepted refund request: of one that is settled, and of another.
    accepted_statuses: dict[str, tuple[int, ...]] = {"immediate": (200,), "processing": (200,)}
    default_mode: dict[str, typing.Any] = {"mode": "immediate"}

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def outcomes(self) -> list[str]:
        """The names of states in which a refund can end, for those who command it."""
        words = self.ledger.dialect.words
        return [name for name, (state, _) in words.items() if state != PROCESSING]

    def read(self, request: Request) -> Call:
        """Authenticates and understands a request."""
        raise NotImplementedError

    def act(self, call: Call, terms: Terms) -> Outcome:
        """Lets the ledger decide."""
        try:
            if call.kind == QUERY:
                assert call.refund_no is not None
                return self.ledger.ask(call.refund_no)
            assert call.kind == REFUND and call.demand is not None
            return self.ledger.accept(call.demand, terms)
        except Refused as refused:
            return refused

    def answer(self, call: Call, outcome: Outcome, accepted_status: int, lie: Lie) -> Response:
        """Words what the ledger decided, unsigned. `accepted_status` answers an accepted refund
        request."""
        raise NotImplementedError

    def error(self, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
        """An error of the transport, in this protocol's form."""
        raise NotImplementedError

    def provider_error(self, call: Call, error: ProviderError) -> Response:
        """An error of the provider's own, unsigned."""
        raise NotImplementedError

    def seal(self, call: Call, request: Request, response: Response, signature: str) -> Response:
        """Signs an answer, or does so wrongly."""
        return response

    def answered(self, call: Call, response: Response, is_stored: bool | None) -> None:
        """An answer is about to leave; `is_stored` is a fault's wish to have it kept."""

    def left(self, call: Call) -> None:
        """The request is over, answered or not."""

    def payment_news(self, payment: Payment, event_type: str | None) -> list[News]:
        """What a payment makes the gateway say; `event_type` instead of the usual."""
        raise NotImplementedError

    def refund_news(self, refund: Refund, change: str, event_type: str | None) -> list[News]:
        """What a refund that was accepted or settled makes the gateway say, if anything."""
        raise NotImplementedError

    def message(self, news: News, signature: str) -> Message:
        """Encrypts and signs one delivery."""
        raise NotImplementedError

    def is_acknowledged(self, status: int, body: bytes) -> bool:
        return 200 <= status <= 299
