"""Measures whether history costs anything: the same work in an empty database, in one with millions
of settled rows, and in one in which a transaction pins the xmin horizon, so that nothing dead can be
removed. The three lie side by side in one server and take turns.

fsync is off: what history would cost is processor time, and the disk's would hide it.
"""

from __future__ import annotations

import typing

from callback_cases import CASES, FIRST_ID, RANGE, Range
from database import Database, pgbench
from dispatch import (drain, forget_refunds, point_gateway, queue_refunds, without_triggers)
from gateway_server import GatewayServer
from measurement import Measurement, in_turns
from options import Options
from progress import Progress

NAMES = ("empty", "history", "pinned")
CLIENTS = 2
CHUNK = 1_000_000
REFUNDS_SHARE = 10  # one payment of so many was refunded
IN_FLIGHT = 256
FIRST = CASES[0]

# Numbers that sort before those of the runs, as older ones do.
HISTORY = """
INSERT INTO t_order (id, price, status, paid_by, paid_at)
SELECT id, 3200, 100, id, now() FROM history WHERE NOT refunded;
INSERT INTO t_order_pay (id, order_id, price, gateway, status, paid_amount, paid_currency,
                         transaction_id, refund_reserved)
SELECT id, CASE WHEN refunded THEN other ELSE id END, 3200, 'bench',
       CASE WHEN refunded THEN 300 ELSE 100 END, 3200, 'CNY', id,
       CASE WHEN refunded THEN 3200 ELSE 0 END
FROM history;
INSERT INTO t_refund (refund_no, payment_id, amount, reason, gateway, window_from, status, attempts,
                      sent_at, key_sent_at, gateway_refund_id, finished_at)
SELECT id || '-R1', id, 3200, 'duplicate', 'bench', now(), 300, 1, now(), now(), 'r' || id, now()
FROM history WHERE refunded;
INSERT INTO t_refund_attempt (refund_no, attempt, call, gateway, started_at, duration_ms, http_status,
                              verdict, gateway_refund_id, applied)
SELECT id || '-R1', 1, 'refund', 'bench', now(), 5, 200, 'succeeded', 'r' || id, true
FROM history WHERE refunded
"""


def fill(database: Database, payments: int, progress: Progress) -> None:
    for first in range(0, payments, CHUNK):
        progress.doing(f"flatness: writing history, {first} of {payments} payments")
        database.run("DROP TABLE IF EXISTS history")
        database.run(
            "CREATE TEMP TABLE history AS SELECT '0' || lpad(g::text, 9, '0') AS id,"
            " '0' || lpad((g - 1)::text, 9, '0') AS other, g %% %(share)s = 1 AS refunded"
            " FROM generate_series(%(first)s, %(last)s) g",
            {"share": REFUNDS_SHARE, "first": first, "last": min(first + CHUNK, payments) - 1})
        without_triggers(database, HISTORY)
        # Else the WAL of all of it would lie on the disk.
        database.run("CHECKPOINT")
    database.run("DROP TABLE history")


class Flatness:
    """The three databases, and the session that pins the horizon in one of them."""

    def __init__(self, main: Database, gateway: GatewayServer, options: Options,
                 progress: Progress) -> None:
        self.options = options
        self.progress = progress
        self._next_payment = FIRST_ID
        self._next_refund = 1
        self.databases = {}
        for name in NAMES:
            main.run(f"CREATE DATABASE flat_{name}")
            database = Database(f"flat_{name}")
            database.run("CREATE EXTENSION payonce")
            point_gateway(database, gateway.url(0), IN_FLIGHT)
            self.databases[name] = database
        fill(self.databases["history"], options.rows, progress)
        self._pin = Database("flat_pinned")
        self._pin.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
        self._pin.run("SELECT FROM t_order")

    def close(self) -> None:
        for database in (self._pin, *self.databases.values()):
            database.close()

    def clear(self, name: str) -> None:
        if name == "empty":
            forget_refunds(self.databases[name])

    def callbacks_per_s(self, name: str, expected_per_s: float, seconds: float) -> float:
        database = self.databases[name]
        self.clear(name)
        part = Range(self._next_payment, max(round(expected_per_s * seconds / CLIENTS), 50), CLIENTS)
        self._next_payment += RANGE
        FIRST.prepare(database, part)
        database.settle("t_order", "t_order_pay", "t_refund", "t_refund_attempt")
        done = pgbench(database.name, FIRST.script("payonce"), CLIENTS, f"--transactions={part.share}",
                       variables={"base": part.base, "share": part.share, "n": 0, "success": "true",
                                  "amount": 3200, "currency": "CNY"})
        FIRST.check(database, part)
        return done.per_s

    def refunds_per_s(self, name: str, count: int) -> float:
        self.clear(name)
        first = self._next_refund
        self._next_refund += count
        queue_refunds(self.databases[name], first, count)
        return drain(self.databases[name], first, count)

    def measure(self) -> typing.Iterator[Measurement]:
        seconds = self.options.seconds
        speed = self.callbacks_per_s("empty", 500, 1)
        for name in NAMES:
            self.progress.doing(f"flatness: warm-up, {name}")
            speed = self.callbacks_per_s(name, speed, seconds)
        refunds = round(self.refunds_per_s("empty", 1500) * self.options.drain_s) + 500
        # What is dead under the pinned horizon is what was refunded since.
        for name, count in (("history", 1500), ("pinned", max(self.options.rows // 50, refunds))):
            self.progress.doing(f"flatness: {count} refunds beforehand, {name}")
            self.refunds_per_s(name, count)
        callbacks: dict[str, list[float]] = {name: [] for name in NAMES}
        dispatch: dict[str, list[float]] = {name: [] for name in NAMES}
        for number in range(self.options.rounds):
            for name in in_turns(NAMES, number):
                self.progress.doing(f"flatness: callbacks, {name}")
                callbacks[name].append(self.callbacks_per_s(name, speed, seconds))
            for name in in_turns(NAMES, number):
                self.progress.doing(f"flatness: dispatch, {name}")
                dispatch[name].append(self.refunds_per_s(name, refunds))
        setting = {"payments": self.options.rows, "refunds": self.options.rows // REFUNDS_SHARE,
                   "fsync": False, "clients": CLIENTS}
        yield Measurement("flatness", "first payments", setting, "callbacks/s", "empty", callbacks)
        yield Measurement("flatness", "dispatch", setting, "refunds/s", "empty", dispatch)


def measure_flatness(main: Database, gateway: GatewayServer, options: Options,
                     progress: Progress) -> typing.Iterator[Measurement]:
    main.set(payonce__dispatch="off", fsync="off")
    flatness = Flatness(main, gateway, options, progress)
    try:
        yield from flatness.measure()
    finally:
        flatness.close()
        for name in NAMES:
            main.run(f"DROP DATABASE flat_{name} WITH (FORCE)")
    main.set(fsync="on")
