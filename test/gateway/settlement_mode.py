"""When the gateway pays: at once, or later as banks do. Switchable while it runs."""

from __future__ import annotations

import typing
from dataclasses import asdict, dataclass

from ledger import FAILED, PROCESSING, SUCCEEDED, Terms

ACCEPTED_STATUS = {"immediate": (200, 201), "processing": (202, 200)}


class BadMode(Exception):
    """A mode that does not exist; the text says why."""


@dataclass(frozen=True, slots=True)
class SettlementMode:
    mode: str = "immediate"
    http_status: int = 200
    after_ms: int | None = None
    after_queries: int | None = None
    outcome: str = SUCCEEDED

    def terms(self) -> Terms:
        if self.mode == "immediate":
            return Terms()
        return Terms(
            state=PROCESSING,
            settle_after_s=None if self.after_ms is None else self.after_ms / 1000,
            settle_after_queries=self.after_queries,
            settle_to=self.outcome,
        )

    def as_json(self) -> dict[str, typing.Any]:
        return asdict(self)


def parse_mode(wanted: typing.Any) -> SettlementMode:
    if not isinstance(wanted, dict) or wanted.get("mode") not in ACCEPTED_STATUS:
        raise BadMode("a mode is a JSON object with the key mode: immediate or processing")
    statuses = ACCEPTED_STATUS[wanted["mode"]]
    keys = {"mode", "http_status"}
    if wanted["mode"] == "processing":
        keys |= {"after_ms", "after_queries", "outcome"}
    unknown = sorted(wanted.keys() - keys)
    if unknown:
        raise BadMode(f"{wanted['mode']} has no parameter {unknown[0]}")
    for key in ("after_ms", "after_queries"):
        value = wanted.get(key)
        if value is not None and (type(value) is not int or value < 0):
            raise BadMode(f"{key} is a whole number")
    if wanted.get("outcome", SUCCEEDED) not in (SUCCEEDED, FAILED):
        raise BadMode("outcome is succeeded or failed")
    if wanted.get("http_status", statuses[0]) not in statuses:
        raise BadMode(f"http_status is {statuses[0]} or {statuses[1]}")
    known: dict[str, typing.Any] = {"http_status": statuses[0], **wanted}
    return SettlementMode(**known)
