"""The gateway's own books: what was paid in, what was sent back, and every request that asked.

An SQLite file in WAL mode. A commit reaches the operating system before it returns, so whatever
was committed before an answer left survives kill -9 of the gateway (a power cut is not tested
here, so nothing waits for the disk).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import sqlite3
import time
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

CURRENCY = re.compile(r"[A-Z]{3}")
SUCCEEDED, PROCESSING, FAILED = "succeeded", "processing", "failed"
# What happened to a refund since the last commit, for those who tell the merchant.
ACCEPTED, SETTLED = "accepted", "settled"
KEPT_BODY_BYTES = 4096
# The largest number that JSON carries everywhere; it also keeps the sums within 64 bits.
AMOUNT_MAX = 2**53 - 1

# Times are Unix seconds; amounts are minor units. paid_out_count is how often the money left and
# stayed away: 1 for a refund that went well, 2 is the catastrophe that payonce exists to prevent.
# word is the provider's own name for the state, details is what only its protocol understands.
SCHEMA = """
CREATE TABLE IF NOT EXISTS gateway (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS payments (
    payment_id TEXT NOT NULL, transaction_id TEXT NOT NULL, amount INTEGER NOT NULL,
    currency TEXT NOT NULL, arrived_at REAL NOT NULL,
    PRIMARY KEY (payment_id, transaction_id));
CREATE INDEX IF NOT EXISTS payments_of_transaction ON payments (transaction_id);
CREATE TABLE IF NOT EXISTS refunds (
    refund_no TEXT PRIMARY KEY, payment_id TEXT NOT NULL, order_id TEXT NOT NULL,
    transaction_id TEXT, amount INTEGER NOT NULL, currency TEXT NOT NULL, reason TEXT NOT NULL,
    state TEXT NOT NULL, error TEXT, refund_id TEXT NOT NULL UNIQUE,
    unknown_payment INTEGER NOT NULL, accepted_at REAL NOT NULL, settled_at REAL,
    paid_out_count INTEGER NOT NULL, asked_count INTEGER NOT NULL, sent_count INTEGER NOT NULL,
    settle_at REAL, settle_after_queries INTEGER, settle_to TEXT,
    word TEXT NOT NULL, details TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS refunds_of_payment ON refunds (payment_id);
CREATE INDEX IF NOT EXISTS refunds_to_settle ON refunds (settle_at) WHERE settle_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, answered_at REAL, method TEXT NOT NULL,
    path TEXT NOT NULL, kind TEXT NOT NULL, refund_no TEXT, fault TEXT, status INTEGER,
    connection INTEGER NOT NULL, headers TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS requests_of_refund ON requests (refund_no, kind);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS nonces (nonce TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class LedgerError(Exception):
    """The ledger file cannot be used; the text says why."""


class Refused(Exception):
    """The gateway's books say no. The protocol words it by `reason`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RefundDemand:
    refund_no: str
    payment_id: str
    order_id: str
    transaction_id: str | None
    amount: int
    currency: str
    reason: str
    # What the merchant believes was paid in all, where the provider asks for it.
    total: int | None = None
    details: dict[str, typing.Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund as the protocols see it; `is_new` when the call it answers made the money move."""

    refund_no: str
    payment_id: str
    transaction_id: str | None
    amount: int
    currency: str
    reason: str
    state: str
    word: str
    refund_id: str
    error: str | None
    accepted_at: float
    settled_at: float | None
    details: dict[str, typing.Any]
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """How a refund that is accepted now goes on: its state, and when a processing one settles.
    States are words of the dialect."""

    state: str = SUCCEEDED
    error: str | None = None
    settle_after_s: float | None = None
    settle_after_queries: int | None = None
    settle_to: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """`idempotency_horizon_ms`: how long a refund number protects against paying twice; None is
    for ever, and a good gateway's answer. A gateway that forgets lets the judge convict."""

    strict_payments: bool = False
    idempotency_horizon_ms: int | None = None
    order_spacing_ms: int = 0


def generic_refund_id(gateway: str, refund_no: str) -> str:
    return f"{gateway}-{hashlib.sha256(refund_no.encode()).hexdigest()[:20]}"


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where a provider's books differ from the generic gateway's.

    `words`: every name of a state that commands may use, with the ledger's state and the
    provider's word. Identifiers are derived, so that they are the same whenever the gateway is
    asked or restarted.
    """

    words: Mapping[str, tuple[str, str]] = field(
        default_factory=lambda: {word: (word, word) for word in (SUCCEEDED, PROCESSING, FAILED)}
    )
    refund_id: Callable[[str, str], str] = generic_refund_id
    # Of a payment that names none; without a form the administrator has to name one.
    transaction_id: Callable[[str], str] = str
    transaction_id_form: re.Pattern[str] | None = None
    refund_window_s: float | None = None
    max_refunds: int | None = None
    # Whether a refund that failed may be tried again under its number.
    retries_failed: bool = False


class Ledger:
    """Writes open a transaction; nothing is durable before commit(), so answers wait for that."""

    def __init__(
        self, path: str, name: str, policy: Policy, dialect: Dialect | None = None
    ) -> None:
        self._policy = policy
        self.dialect = dialect or Dialect()
        self.changes: list[tuple[str, str]] = []
        self._lock_fd = _lock_file(path)
        try:
            self.db = sqlite3.connect(path, isolation_level=None)
            self.db.row_factory = sqlite3.Row
            self.db.execute("PRAGMA busy_timeout = 5000")
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = OFF")
            self.db.executescript(SCHEMA)
            owner = self.db.execute("SELECT name FROM gateway").fetchone()
            if owner is None:
                self.db.execute("INSERT INTO gateway VALUES (?)", (name,))
        except sqlite3.Error as error:
            raise LedgerError(f"{path}: {error}") from None
        if owner is not None and owner["name"] != name:
            raise LedgerError(f"{path} is the ledger of {owner['name']}, not of {name}")
        self._name = name

    def commit(self) -> None:
        if self.db.in_transaction:
            self.db.execute("COMMIT")

    def close(self) -> None:
        self.commit()
        self.db.close()
        os.close(self._lock_fd)

    def write(self, sql: str, values: tuple[typing.Any, ...]) -> sqlite3.Cursor:
        if not self.db.in_transaction:
            self.db.execute("BEGIN IMMEDIATE")
        return self.db.execute(sql, values)

    def count(self, counter: str) -> None:
        self.write(
            "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1",
            (counter,),
        )

    # -- requests

    def add_request(
        self,
        at: float,
        method: str,
        path: str,
        kind: str,
        refund_no: str | None,
        fault: str | None,
        connection: int,
        headers: dict[str, str],
        body: bytes,
    ) -> int:
        """Files a request that arrived, not yet answered; every one counts for its refund."""
        kept_body = body[:KEPT_BODY_BYTES].decode("utf-8", "replace")
        row = (at, method, path, kind, refund_no, fault, connection, json.dumps(headers), kept_body)
        cursor = self.write(
            "INSERT INTO requests (at, method, path, kind, refund_no, fault, connection, headers,"
            " body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        if refund_no is not None:
            self.write(
                "UPDATE refunds SET sent_count = sent_count + (?1 = 'refund'),"
                " asked_count = asked_count + (?1 = 'query') WHERE refund_no = ?2",
                (kind, refund_no),
            )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def answered(self, request_id: int, status: int) -> None:
        self.write(
            "UPDATE requests SET status = ?, answered_at = ? WHERE id = ?",
            (status, time.time(), request_id),
        )

    def requests_seen(self) -> list[tuple[str | None, str, int]]:
        rows = self.db.execute(
            "SELECT refund_no, kind, count(*) FROM requests GROUP BY refund_no, kind"
        )
        return [(refund_no, kind, count) for refund_no, kind, count in rows]

    def use_nonce(self, nonce: str) -> bool:
        """False if it was used before, also before a restart."""
        return self.write("INSERT OR IGNORE INTO nonces VALUES (?)", (nonce,)).rowcount == 1

    # -- payments

    def add_payment(
        self,
        payment_id: str,
        amount: int,
        currency: str,
        transaction_id: str,
        paid_at: float | None = None,
    ) -> None:
        """Money that a customer paid; the same news twice is one payment."""
        known = self.db.execute(
            "SELECT amount, currency FROM payments WHERE payment_id = ? AND transaction_id = ?",
            (payment_id, transaction_id),
        ).fetchone()
        if known is not None:
            if (known["amount"], known["currency"]) != (amount, currency):
                raise Refused("conflicting_payment", f"{payment_id} is known with another amount")
            return
        self.write(
            "INSERT INTO payments (payment_id, transaction_id, amount, currency, arrived_at)"
            " VALUES (?, ?, ?, ?, ?)",
            (payment_id, transaction_id, amount, currency, paid_at or time.time()),
        )
        self.write("UPDATE refunds SET unknown_payment = 0 WHERE payment_id = ?", (payment_id,))

    def find_payment(
        self, payment_id: str | None = None, transaction_id: str | None = None
    ) -> dict[str, typing.Any] | None:
        """The payment that these name; of one that was taken twice, the first."""
        named = {"payment_id": payment_id, "transaction_id": transaction_id}
        given = {column: value for column, value in named.items() if value is not None}
        rows = self.db.execute(
            f"SELECT * FROM payments WHERE {' AND '.join(f'{column} = ?' for column in given)}"
            " ORDER BY arrived_at LIMIT 1",
            tuple(given.values()),
        )
        row = rows.fetchone()
        return None if row is None else dict(row)

    def refunded_of(self, payment_id: str) -> int:
        """What went back of a payment and stayed away."""
        total: int = self.db.execute(
            "SELECT coalesce(sum(amount * paid_out_count), 0) FROM refunds WHERE payment_id = ?",
            (payment_id,),
        ).fetchone()[0]
        return total

    # -- refunds

    def row(self, refund_no: str) -> sqlite3.Row | None:
        rows = self.db.execute("SELECT * FROM refunds WHERE refund_no = ?", (refund_no,))
        row: sqlite3.Row | None = rows.fetchone()
        return row

    def accept(self, demand: RefundDemand, terms: Terms) -> Refund:
        """Sends the money back, once per refund_no; a repetition gets the stored answer."""
        known = self.row(demand.refund_no)
        if known is None:
            self._insert(demand, terms, self._check_payment(demand))
            return self.refund(demand.refund_no, is_new=True)
        self._check_repeat(demand, known)
        if known["state"] == FAILED and self.dialect.retries_failed:
            self._check_payment(demand)
            self._set_state(demand.refund_no, terms.state, terms.error)
            self._set_terms(demand.refund_no, terms)
            self.changes.append((SETTLED, demand.refund_no))
            return self.refund(demand.refund_no, is_new=True)
        if self._horizon_has_passed(known):
            self._check_payment(demand)
            self.write(
                "UPDATE refunds SET paid_out_count = paid_out_count + 1 WHERE refund_no = ?",
                (demand.refund_no,),
            )
            return self.refund(demand.refund_no, is_new=True)
        return self.refund(demand.refund_no)

    def ask(self, refund_no: str) -> Refund:
        """A query's answer; may settle a processing refund that waits for enough queries."""
        known = self.row(refund_no)
        if known is None:
            raise Refused("unknown_refund", f"{refund_no} is not known here")
        left = known["settle_after_queries"]
        if known["state"] == PROCESSING and left is not None:
            if left == 0:
                self.settle(refund_no, known["settle_to"])
            else:
                self.write(
                    "UPDATE refunds SET settle_after_queries = ? WHERE refund_no = ?",
                    (left - 1, refund_no),
                )
        return self.refund(refund_no)

    def settle(self, refund_no: str, word: str, error: str | None = None) -> None:
        """The end of a refund, or its reversal: a bank may bounce one that had succeeded."""
        known = self.row(refund_no)
        if known is None:
            raise Refused("unknown_refund", f"{refund_no} is not known here")
        self._set_state(refund_no, word, error)
        if self.dialect.words[word][1] != known["word"]:
            self.changes.append((SETTLED, refund_no))

    def _set_state(self, refund_no: str, word: str, error: str | None) -> None:
        state, word = self.dialect.words[word]
        if state == FAILED and error is None:
            error = "the bank refused the refund"
        self.write(
            "UPDATE refunds SET state = ?1, word = ?2, error = ?3, settled_at = ?4,"
            " settle_at = NULL, settle_after_queries = NULL, settle_to = NULL,"
            " paid_out_count = CASE WHEN ?1 = 'succeeded' THEN max(paid_out_count, 1) ELSE 0 END"
            " WHERE refund_no = ?5",
            (state, word, error, time.time(), refund_no),
        )

    def settle_due(self) -> float | None:
        """Settles what has waited long enough; returns when the next one will be due."""
        due = self.db.execute(
            "SELECT refund_no, settle_to FROM refunds WHERE settle_at <= ?",
            (time.time(),),
        ).fetchall()
        for row in due:
            self.settle(row["refund_no"], row["settle_to"])
        next_due: float | None = self.db.execute(
            "SELECT min(settle_at) FROM refunds WHERE settle_at IS NOT NULL"
        ).fetchone()[0]
        return next_due

    def refund(self, refund_no: str, is_new: bool = False) -> Refund:
        row = self.row(refund_no)
        if row is None:
            raise Refused("unknown_refund", f"{refund_no} is not known here")
        return as_refund(row, is_new)

    def _check_repeat(self, demand: RefundDemand, known: sqlite3.Row) -> None:
        same = ("payment_id", "amount", "currency")
        if any(getattr(demand, column) != known[column] for column in same):
            self.count("conflicting_repeats")
            raise Refused(
                "conflicting_repeat",
                f"{demand.refund_no} is known with another payment, amount or currency",
            )
        self._check_total(demand)

    def _horizon_has_passed(self, known: sqlite3.Row) -> bool:
        horizon_ms = self._policy.idempotency_horizon_ms
        if horizon_ms is None or known["state"] != SUCCEEDED:
            return False
        accepted_at: float = known["accepted_at"]
        return time.time() - accepted_at >= horizon_ms / 1000

    def _check_payment(self, demand: RefundDemand) -> bool:
        """Whether the payment is unknown; Refused if its money cannot cover this refund."""
        paid = self.db.execute(
            "SELECT sum(amount) AS amount, min(currency) AS currency, max(arrived_at) AS arrived_at"
            " FROM payments WHERE payment_id = ?",
            (demand.payment_id,),
        ).fetchone()
        if paid["amount"] is None:
            if self._policy.strict_payments:
                self.count("unknown_payment_refused")
                raise Refused("unknown_payment", f"no payment {demand.payment_id} came in here")
            return True
        if paid["currency"] != demand.currency:
            self.count("currency_mismatch_refused")
            raise Refused("currency_mismatch", f"the payment was made in {paid['currency']}")
        self._check_total(demand)
        self._check_age(demand, paid["arrived_at"])
        refunded = self.db.execute(
            "SELECT coalesce(sum(amount * max(paid_out_count, 1)), 0) FROM refunds"
            " WHERE payment_id = ? AND state <> 'failed'",
            (demand.payment_id,),
        ).fetchone()[0]
        if refunded + demand.amount > paid["amount"]:
            self.count("over_refund_refused")
            raise Refused("over_refund", f"of {paid['amount']} paid, {refunded} went back already")
        self._check_other_refunds(demand)
        return False

    def _check_total(self, demand: RefundDemand) -> None:
        if demand.total is None:
            return
        payment = self.find_payment(demand.payment_id, demand.transaction_id)
        if payment is None or payment["amount"] != demand.total:
            self.count("total_mismatch_refused")
            raise Refused("total_mismatch", f"{demand.total} is not what was paid")

    def _check_age(self, demand: RefundDemand, paid_at: float) -> None:
        window_s = self.dialect.refund_window_s
        if window_s is not None and time.time() - paid_at > window_s:
            self.count("refund_window_refused")
            raise Refused("window_is_over", f"{demand.payment_id} was paid too long ago")

    def _check_other_refunds(self, demand: RefundDemand) -> None:
        count, latest = self.db.execute(
            "SELECT count(*), max(accepted_at) FROM refunds"
            " WHERE payment_id = ? AND refund_no <> ?",
            (demand.payment_id, demand.refund_no),
        ).fetchone()
        if self.dialect.max_refunds is not None and count >= self.dialect.max_refunds:
            self.count("refund_count_refused")
            raise Refused("too_many", f"{demand.payment_id} has {count} refunds already")
        if latest is not None and time.time() - latest < self._policy.order_spacing_ms / 1000:
            self.count("spacing_refused")
            raise Refused("too_soon", f"{demand.payment_id} had a refund a moment ago")

    def _insert(self, demand: RefundDemand, terms: Terms, unknown_payment: bool) -> None:
        now = time.time()
        state, word = self.dialect.words[terms.state]
        sent, asked = self.db.execute(
            "SELECT count(*) FILTER (WHERE kind = 'refund'), count(*) FILTER (WHERE kind = 'query')"
            " FROM requests WHERE refund_no = ?",
            (demand.refund_no,),
        ).fetchone()
        columns = {
            "refund_no": demand.refund_no,
            "payment_id": demand.payment_id,
            "order_id": demand.order_id,
            "transaction_id": demand.transaction_id,
            "amount": demand.amount,
            "currency": demand.currency,
            "reason": demand.reason,
            "state": state,
            "word": word,
            "error": terms.error,
            "refund_id": self.dialect.refund_id(self._name, demand.refund_no),
            "unknown_payment": int(unknown_payment),
            "accepted_at": now,
            "settled_at": None if state == PROCESSING else now,
            "paid_out_count": int(state == SUCCEEDED),
            "asked_count": asked,
            "sent_count": sent,
            "details": json.dumps(demand.details),
        }
        self.write(
            f"INSERT INTO refunds ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            tuple(columns.values()),
        )
        self._set_terms(demand.refund_no, terms)
        self.changes.append((ACCEPTED, demand.refund_no))

    def _set_terms(self, refund_no: str, terms: Terms) -> None:
        settle_at = None if terms.settle_after_s is None else time.time() + terms.settle_after_s
        self.write(
            "UPDATE refunds SET settle_at = ?, settle_after_queries = ?, settle_to = ?"
            " WHERE refund_no = ?",
            (settle_at, terms.settle_after_queries, terms.settle_to, refund_no),
        )


def as_refund(row: sqlite3.Row, is_new: bool = False) -> Refund:
    columns = {name: row[name] for name in Refund.__dataclass_fields__ if name in row.keys()}
    return Refund(**{**columns, "details": json.loads(row["details"]), "is_new": is_new})


def _lock_file(path: str) -> int:
    """Two gateways writing one ledger would spoil the evidence, so the second one is refused.

    flock does not meet SQLite's own locks, but closing any descriptor of the file would drop
    those: this one stays open as long as the database.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise LedgerError(f"{path} is in use by a running stand-in gateway") from None
    return fd
