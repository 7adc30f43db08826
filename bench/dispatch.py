"""Measures dispatch: how many refunds a second a worker drains, beside bare HTTP clients at the same
nginx, and how long it takes from a callback's commit to the request on the wire.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import time
import typing
from pathlib import Path

from database import Database
from gateway_server import GatewayServer
from measurement import Measurement, in_turns
from options import Options
from progress import Progress

GATEWAY = "bench"
# With a delay, the requests in flight are what limits: delay and this together stay below what the
# processors allow.
IN_FLIGHT = {0: 256, 20: 64, 200: 256}
DRAIN_LIMIT_S = 600

QUEUE = """
INSERT INTO t_order (id, price, status, paid_by, paid_at)
SELECT 'o' || g, 3200, 100, 'w' || g, now() FROM generate_series(%(first)s, %(last)s) g;
INSERT INTO t_order_pay (id, order_id, price, status, paid_amount, paid_currency)
SELECT 'w' || g, 'o' || g, 3200, 100, 3200, 'CNY' FROM generate_series(%(first)s, %(last)s) g;
INSERT INTO t_order_pay (id, order_id, price, gateway, status, paid_amount, paid_currency,
                         refund_reserved)
SELECT 'p' || g, 'o' || g, 3200, %(gateway)s, 200, 3200, 'CNY', 3200
FROM generate_series(%(first)s, %(last)s) g;
INSERT INTO t_refund (refund_no, payment_id, amount, reason, gateway, window_from)
SELECT 'p' || g || '-R1', 'p' || g, 3200, 'duplicate', %(gateway)s, now()
FROM generate_series(%(first)s, %(last)s) g;
"""
FROM_CLAIM_TO_RECORD_S = """
SELECT extract(epoch FROM max(recorded_at) - min(started_at))::float
FROM t_refund_attempt
WHERE refund_no IN (SELECT 'p' || g || '-R1' FROM generate_series(%(first)s, %(last)s) g)
"""


class DispatchWasWrong(Exception):
    """Refunds did not end as the figure would say."""


def point_gateway(database: Database, url: str, in_flight: int) -> None:
    """The one gateway of the database: others would have a share of what may be in flight."""
    if database.value("SELECT count(*) FROM pg_foreign_server WHERE srvname = %(name)s",
                      {"name": GATEWAY}) == 0:
        database.run(f"CREATE SERVER {GATEWAY} FOREIGN DATA WRAPPER payonce_http"
                     f" OPTIONS (url '{url}', max_in_flight '{in_flight}')")
    else:
        database.run(f"ALTER SERVER {GATEWAY} OPTIONS (SET url '{url}', SET max_in_flight '{in_flight}')")


def without_triggers(database: Database, sql: str, parameters: dict[str, typing.Any] | None = None) \
        -> None:
    database.run("SET session_replication_role = replica")
    database.run(sql, parameters)
    database.run("SET session_replication_role = origin")


def forget_refunds(database: Database) -> None:
    """By DELETE: a TRUNCATE can deadlock with the worker, which would then go slow for a while."""
    without_triggers(database, "DELETE FROM t_refund_attempt; DELETE FROM t_refund;"
                               "DELETE FROM t_order_pay; DELETE FROM t_order")


def queue_refunds(database: Database, first: int, count: int) -> None:
    """Unsent: dispatch must be off."""
    without_triggers(database, QUEUE, {"first": first, "last": first + count - 1, "gateway": GATEWAY})
    database.settle("t_order", "t_order_pay", "t_refund", "t_refund_attempt")


def drain(database: Database, first: int, count: int) -> float:
    """Refunds a second, from the first claim to the last record."""
    applied = "coalesce((SELECT applied FROM payonce_stat_worker), 0)"
    database.wait_for("SELECT coalesce((SELECT state FROM payonce_stat_worker) = 'running', false)")
    before = database.value(f"SELECT {applied}")
    database.set(payonce__dispatch="on")
    # Shared memory tells; the tables are not read meanwhile.
    database.wait_for(f"SELECT {applied} >= {before + count}", DRAIN_LIMIT_S)
    database.wait_for("SELECT NOT EXISTS (SELECT FROM t_refund WHERE status IN (0, 100, 150, 200))",
                      DRAIN_LIMIT_S)
    database.set(payonce__dispatch="off")
    numbers = {"first": first, "last": first + count - 1}
    refunded = database.value(
        "SELECT count(*) FROM t_refund r JOIN t_order_pay p ON p.id = r.payment_id"
        " WHERE r.status = 300 AND p.status = 300 AND r.attempts = 1 AND r.refund_no IN"
        " (SELECT 'p' || g || '-R1' FROM generate_series(%(first)s, %(last)s) g)", numbers)
    if refunded != count:
        raise DispatchWasWrong(f"{refunded} of {count} refunds were refunded at the first attempt")
    return count / float(database.value(FROM_CLAIM_TO_RECORD_S, numbers))


class Clients:
    """The bare clients beside which dispatch is measured."""

    def __init__(self, curl_multi: Path, seconds: float) -> None:
        self.curl_multi = curl_multi
        self.seconds = seconds

    def curl_per_s(self, url: str, in_flight: int) -> float:
        return float(self._run([str(self.curl_multi), url, str(in_flight), str(self.seconds)]))

    def wrk_per_s(self, url: str, in_flight: int) -> float:
        script = Path(__file__).resolve().parent / "refund.lua"
        seconds = max(round(self.seconds), 1)
        said = self._run(["wrk", "--threads=1", f"--connections={in_flight}",
                          f"--duration={seconds}s", f"--script={script}", url])
        if "Non-2xx" in said:
            raise DispatchWasWrong(said)
        found = re.search(r"Requests/sec:\s+([0-9.]+)", said)
        if found is None:
            raise DispatchWasWrong(said)
        return float(found[1])

    @staticmethod
    def _run(command: list[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise DispatchWasWrong(f"{' '.join(command)}: {done.stderr}")
        return done.stdout


def drain_new(database: Database, count: int) -> float:
    forget_refunds(database)
    queue_refunds(database, 1, count)
    return drain(database, 1, count)


def turns_of(database: Database, gateway: GatewayServer, clients: Clients, delay_ms: int,
             refunds: int) -> dict[str, typing.Callable[[], float]]:
    url = f"{gateway.url(delay_ms)}/refunds"
    in_flight = IN_FLIGHT[delay_ms]
    return {
        "payonce": lambda: drain_new(database, refunds),
        "curl_multi": lambda: clients.curl_per_s(url, in_flight),
        "wrk": lambda: clients.wrk_per_s(url, in_flight),
    }


def measure_dispatch(database: Database, gateway: GatewayServer, clients: Clients, options: Options,
                     progress: Progress) -> typing.Iterator[Measurement]:
    database.set(payonce__dispatch="off")
    for delay_ms, in_flight in IN_FLIGHT.items():
        point_gateway(database, gateway.url(delay_ms), in_flight)
        # The first drain is warm-up (the worker's plans, its connections, the tables' files), and
        # tells how many refunds take as long as is wanted.
        progress.doing(f"dispatch, {delay_ms} ms, warm-up")
        refunds = round(drain_new(database, 1500) * options.drain_s) + 1000
        runs = turns_of(database, gateway, clients, delay_ms, refunds)
        figures: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(options.rounds):
            for name in in_turns(list(runs), number):
                progress.doing(f"dispatch, {delay_ms} ms, {name}")
                figures[name].append(runs[name]())
        if delay_ms > 0:
            figures["limit"] = [in_flight * 1000 / delay_ms] * options.rounds
        yield Measurement("dispatch", "dispatch", {"delay_ms": delay_ms, "in_flight": in_flight},
                          "refunds/s", "payonce", figures)
    forget_refunds(database)


PAUSE_S = 0.01


def latencies_ms(database: Database, gateway: GatewayServer, delay_ms: int, count: int) -> list[float]:
    """Single duplicates, one after another: the worker has gone back to sleep before the next."""
    forget_refunds(database)
    gateway.forget_arrivals()
    point_gateway(database, gateway.url(delay_ms, logged=True), IN_FLIGHT[delay_ms])
    database.run(
        "INSERT INTO t_order (id, price, status, paid_by, paid_at)"
        " SELECT 'o' || g, 3200, 100, 'w' || g, now() FROM generate_series(1, %(count)s) g;"
        "INSERT INTO t_order_pay (id, order_id, price, status)"
        " SELECT 'w' || g, 'o' || g, 3200, 100 FROM generate_series(1, %(count)s) g;"
        "INSERT INTO t_order_pay (id, order_id, price, gateway)"
        " SELECT 'p' || g, 'o' || g, 3200, %(gateway)s FROM generate_series(1, %(count)s) g",
        {"count": count, "gateway": GATEWAY})
    database.settle("t_order", "t_order_pay", "t_refund")
    transactions = {}
    for number in range(1, count + 1):
        transactions[f"p{number}-R1"] = database.value(
            "SELECT pg_current_xact_id()::xid::text FROM pay_callback(%(id)s, true)",
            {"id": f"p{number}"})
        time.sleep(PAUSE_S)
    database.wait_for("SELECT NOT EXISTS (SELECT FROM t_refund WHERE status <> 300)")
    arrived = {arrival.refund_no: arrival.at for arrival in gateway.arrivals()}
    found = []
    for refund_no, transaction in transactions.items():
        committed_at = database.value(
            "SELECT extract(epoch FROM pg_xact_commit_timestamp(%(xid)s::xid))::float",
            {"xid": transaction})
        found.append((arrived[refund_no] - committed_at) * 1000)
    return found


def percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]


def measure_latency(database: Database, gateway: GatewayServer, options: Options,
                    progress: Progress) -> typing.Iterator[Measurement]:
    # The clock starts with the commit's own time-stamp, taken before the commit is flushed.
    database.restart(track_commit_timestamp="on")
    database.set(payonce__dispatch="on")
    for delay_ms in IN_FLIGHT:
        progress.doing(f"commit to wire, {delay_ms} ms")
        point_gateway(database, gateway.url(delay_ms, logged=True), IN_FLIGHT[delay_ms])
        database.wait_for(
            "SELECT coalesce((SELECT state FROM payonce_stat_worker) = 'running', false)")
        latencies_ms(database, gateway, delay_ms, 20)
        measured = latencies_ms(database, gateway, delay_ms, options.callbacks_on_the_wire)
        yield Measurement("latency", "commit to wire", {"delay_ms": delay_ms}, "ms", "p50",
                          {"p50": [statistics.median(measured)], "p99": [percentile(measured, 99)],
                           "max": [max(measured)]})
    database.set(payonce__dispatch="off")
    forget_refunds(database)
    database.restart(track_commit_timestamp="off")
