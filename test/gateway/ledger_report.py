"""Sums a ledger up: the judge's view of it.

Reads nothing but the SQLite file, so that it works beside a running gateway and after its death.
"""

from __future__ import annotations

import os
import sqlite3
import typing
from urllib.parse import quote

from ledger import LedgerError

LISTED_AT_MOST = 20


def open_read_only(path: str) -> sqlite3.Connection:
    if not os.path.exists(path):
        raise LedgerError(f"{path}: no such ledger")
    try:
        uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
        db = sqlite3.connect(uri, uri=True, isolation_level=None)
        db.row_factory = sqlite3.Row
        # One snapshot for all the sums, however busy the gateway is.
        db.execute("BEGIN")
        db.execute("SELECT name FROM gateway").fetchone()
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: {error}") from None
    return db


def summary(db: sqlite3.Connection) -> dict[str, typing.Any]:
    total_in = _sums(db, "SELECT currency, sum(amount) FROM payments GROUP BY 1")
    total_refunded = _sums(
        db, "SELECT currency, sum(amount * paid_out_count) FROM refunds GROUP BY 1"
    )
    refunded_of_known = _sums(
        db,
        "SELECT currency, sum(amount * paid_out_count) FROM refunds WHERE NOT unknown_payment"
        " GROUP BY 1",
    )
    states = _sums(db, "SELECT state, count(*) FROM refunds GROUP BY 1")
    duplicates = _column(
        db,
        f"SELECT {NUMBER} AS number FROM refunds GROUP BY number"
        " HAVING sum(paid_out_count) > 1 ORDER BY 1",
    )
    counters = _sums(db, "SELECT name, value FROM counters")
    most = db.execute("SELECT max(asked_count), max(sent_count) FROM refunds").fetchone()
    return {
        "name": db.execute("SELECT name FROM gateway").fetchone()[0],
        "payments": db.execute("SELECT count(*) FROM payments").fetchone()[0],
        "total_in": total_in,
        "total_refunded": total_refunded,
        "kept": {
            currency: amount - refunded_of_known.get(currency, 0)
            for currency, amount in total_in.items()
        },
        "refunds": sum(states.values()),
        "succeeded": states.get("succeeded", 0),
        "processing": states.get("processing", 0),
        "failed": states.get("failed", 0),
        "duplicates": len(duplicates),
        "duplicate_refund_nos": duplicates[:LISTED_AT_MOST],
        "payments_refunded_twice": _column(
            db,
            "SELECT payment_id FROM refunds WHERE paid_out_count > 0 GROUP BY 1"
            f" HAVING count(DISTINCT {NUMBER}) > 1 ORDER BY 1 LIMIT {LISTED_AT_MOST}",
        ),
        "payments_over_refunded": _over_refunded(db),
        "unknown_payment": db.execute(
            "SELECT count(*) FROM refunds WHERE unknown_payment"
        ).fetchone()[0],
        "max_asked": most[0] or 0,
        "max_sent": most[1] or 0,
        **{name: counters.get(name, 0) for name in COUNTERS},
        "refused_requests": sum(counters.get(name, 0) for name in REFUSALS),
        "counters": counters,
        **_requests(db),
    }


# Where a provider's own numbers go by another key, a number may have several refunds: see
# stripe_protocol.py for the suffix.
NUMBER = "substr(refund_no, 1, instr(refund_no || '#', '#') - 1)"

COUNTERS = (
    "signature_failures",
    "bearer_failures",
    "bad_requests",
    "conflicting_repeats",
    "over_refund_refused",
    "currency_mismatch_refused",
    "unknown_payment_refused",
)
# Everything that a client must not do, whichever the provider. What only time heals (the spacing
# of refunds, a key in use) is not among them.
REFUSALS = (
    *COUNTERS,
    "identity_failures",
    "stale_timestamps",
    "bad_nonces",
    "reused_nonces",
    "idempotency_misuses",
    "total_mismatch_refused",
    "refund_window_refused",
    "refund_count_refused",
)


def _requests(db: sqlite3.Connection) -> dict[str, typing.Any]:
    row = db.execute(
        "SELECT count(*) AS requests, coalesce(sum(status IS NULL), 0) AS requests_unanswered,"
        " coalesce(sum(path LIKE '/redirected/%'), 0) AS redirects_followed FROM requests"
    ).fetchone()
    faults = _sums(
        db, "SELECT fault, count(*) FROM requests WHERE fault IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
    return {**dict(row), "faults": faults}


def _over_refunded(db: sqlite3.Connection) -> list[str]:
    return _column(
        db,
        "SELECT p.payment_id FROM (SELECT payment_id, sum(amount) AS amount FROM payments"
        " GROUP BY 1) p JOIN (SELECT payment_id, sum(amount * paid_out_count) AS amount"
        " FROM refunds GROUP BY 1) r ON r.payment_id = p.payment_id"
        f" WHERE r.amount > p.amount ORDER BY 1 LIMIT {LISTED_AT_MOST}",
    )


def _sums(db: sqlite3.Connection, sql: str) -> dict[str, int]:
    return {key: value for key, value in db.execute(sql)}


def _column(db: sqlite3.Connection, sql: str) -> list[str]:
    return [row[0] for row in db.execute(sql)]


def as_text(totals: dict[str, typing.Any]) -> str:
    """The summary for a person; amounts are minor units (fen, cent)."""
    lines = [
        f"{totals['name']}: ledger of the stand-in gateway",
        f"  money in      {_money(totals['total_in'])} in {totals['payments']} payments",
        f"  sent back     {_money(totals['total_refunded'])} in {totals['refunds']} refunds"
        f" ({totals['succeeded']} succeeded, {totals['processing']} processing,"
        f" {totals['failed']} failed)",
        f"  kept          {_money(totals['kept'])}",
        f"  paid twice    {totals['duplicates']} refund numbers"
        + _named(totals["duplicate_refund_nos"]),
        f"  payments      {len(totals['payments_refunded_twice'])} with several refunds"
        + _named(totals["payments_refunded_twice"])
        + f", {len(totals['payments_over_refunded'])} refunded beyond what was paid"
        + _named(totals["payments_over_refunded"]),
        f"  requests      {totals['requests']}, {totals['requests_unanswered']} unanswered;"
        f" one refund was sent up to {totals['max_sent']} times,"
        f" asked for up to {totals['max_asked']} times",
    ]
    trouble = [f"unknown_payment {totals['unknown_payment']}"] if totals["unknown_payment"] else []
    trouble += [f"{name} {count}" for name, count in sorted(totals["counters"].items())]
    trouble += [f"{name} {count}" for name, count in totals["faults"].items()]
    lines.append(f"  counted       {', '.join(trouble) or 'nothing unusual'}")
    return "\n".join(lines)


def _money(sums: dict[str, int]) -> str:
    return " + ".join(f"{amount} {currency}" for currency, amount in sums.items()) or "0"


def _named(items: list[str]) -> str:
    return f" ({', '.join(items)})" if items else ""
