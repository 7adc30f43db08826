"""When the gateway pays: at once, or later as banks do. Switchable while it runs."""

from __future__ import annotations

import typing
from dataclasses import asdict, dataclass

from ledger import PROCESSING, SUCCEEDED, Terms
from protocol import Protocol


class BadMode(Exception):
    """A mode that does not exist; the text says why."""


@dataclass(frozen=True, slots=True)
class SettlementMode:
    mode: str = "immediate"
    http_status: int = 200
    after_ms: int | None = None
    after_queries: int | None = None
    outcome: str = SUCCEEDED
    state: str = PROCESSING
    reason: str | None = None

    def terms(self) -> Terms:
        if self.mode == "immediate":
            return Terms()
        return Terms(
            state=self.state,
            error=self.reason,
            settle_after_s=None if self.after_ms is None else self.after_ms / 1000,
            settle_after_queries=self.after_queries,
            settle_to=self.outcome,
        )

    def as_json(self) -> dict[str, typing.Any]:
        return asdict(self)


def parse_mode(wanted: typing.Any, protocol: Protocol) -> SettlementMode:
    if not isinstance(wanted, dict) or wanted.get("mode") not in protocol.accepted_statuses:
        raise BadMode("a mode is a JSON object with the key mode: immediate or processing")
    statuses = protocol.accepted_statuses[wanted["mode"]]
    keys = {"mode", "http_status"}
    if wanted["mode"] == "processing":
        keys |= {"after_ms", "after_queries", "outcome", "state", "reason"}
    unknown = sorted(wanted.keys() - keys)
    if unknown:
        raise BadMode(f"{wanted['mode']} has no parameter {unknown[0]}")
    for key in ("after_ms", "after_queries"):
        value = wanted.get(key)
        if value is not None and (type(value) is not int or value < 0):
            raise BadMode(f"{key} is a whole number")
    _check_words(wanted, protocol)
    if wanted.get("http_status", statuses[0]) not in statuses:
        raise BadMode(f"http_status is {' or '.join(map(str, statuses))}")
    known: dict[str, typing.Any] = {"http_status": statuses[0], **wanted}
    return SettlementMode(**known)


def _check_words(wanted: dict[str, typing.Any], protocol: Protocol) -> None:
    words = protocol.ledger.dialect.words
    waiting = [word for word, (state, _) in words.items() if state == PROCESSING]
    if wanted.get("state", PROCESSING) not in waiting:
        raise BadMode(f"state is one of {', '.join(waiting)}")
    outcomes = protocol.outcomes()
    if wanted.get("outcome", SUCCEEDED) not in outcomes:
        raise BadMode(f"outcome is one of {', '.join(outcomes)}")
    reason = wanted.get("reason")
    if reason is not None and not isinstance(reason, str):
        raise BadMode("reason is a text")
