"""What a gateway's protocol is to the rest of the stand-in.

A protocol reads requests and words answers. It neither keeps books (ledger.py), nor misbehaves
(faults.py), nor sees a socket (http_server.py), so that each provider's is one file beside
generic_protocol.py.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass

from http_server import Request, Response
from ledger import Refund, RefundDemand, Refused

# What a request wants: to refund, to query a refund, or something this protocol does not know.
REFUND, QUERY, OTHER = "refund", "query", "other"


@dataclass(frozen=True, slots=True)
class Call:
    """A request as its protocol understands it; with a `refusal` it goes no further."""

    kind: str
    refund_no: str | None
    demand: RefundDemand | None = None
    refusal: Response | None = None
    refusal_counter: str | None = None


class Protocol(typing.Protocol):
    def read(self, request: Request) -> Call:
        """Authenticates and understands a request."""

    def answer(
        self,
        call: Call,
        outcome: Refund | Refused,
        accepted_status: int,
        status_word: str | None = None,
        refund_no: str | None = None,
    ) -> Response:
        """Words what the ledger decided. `accepted_status` answers an accepted refund request;
        `status_word` and `refund_no` are the lies of the faults of those names."""

    def error(self, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
        """An error in this protocol's form."""
