"""Stripe's memory of idempotency keys: the first answer under a key is every later one's.

The memory ends at a horizon: after it the same request is another refund.
"""

from __future__ import annotations

import time

from http_server import Response
from ledger import Ledger

SCHEMA = """
CREATE TABLE IF NOT EXISTS stored_answers (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL,
    at REAL NOT NULL);
"""


class StripeKeys:
    def __init__(self, ledger: Ledger, horizon_ms: int | None) -> None:
        self._ledger = ledger
        self._horizon_ms = horizon_ms
        self._in_use: set[str] = set()
        ledger.db.executescript(SCHEMA)

    def fits(self, key: str, fingerprint: str) -> bool:
        """Whether the key is new, forgotten, or known with the same parameters."""
        if self._horizon_ms is not None:
            oldest = time.time() - self._horizon_ms / 1000
            self._ledger.write(
                "DELETE FROM stored_answers WHERE key = ? AND at <= ?", (key, oldest)
            )
        row = self._ledger.db.execute(
            "SELECT fingerprint FROM stored_answers WHERE key = ?", (key,)
        ).fetchone()
        return row is None or row["fingerprint"] == fingerprint

    def begin(self, key: str) -> bool:
        """False while another request with this key is not over."""
        if key in self._in_use:
            return False
        self._in_use.add(key)
        return True

    def end(self, key: str) -> None:
        self._in_use.discard(key)

    def stored_answer(self, key: str) -> Response | None:
        row = self._ledger.db.execute(
            "SELECT status, body FROM stored_answers WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        return Response(row["status"], row["body"], {"Idempotent-Replayed": "true"})

    def store(self, key: str, fingerprint: str, response: Response) -> None:
        """Keeps when the key was first used."""
        self._ledger.write(
            "INSERT INTO stored_answers VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
            " SET status = excluded.status, body = excluded.body",
            (key, fingerprint, response.status, response.body, time.time()),
        )
