"""The tests' hand on a running gateway: everything under /admin/.

Its requests are neither filed in the ledger nor counted as traffic, and no fault touches them.
"""

from __future__ import annotations

import asyncio
import json
import typing
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

import admin_notify
import admin_payments
import ledger_report
from admin_payments import BadCommand
from faults import BadRule, parse_rules
from gateway import Gateway
from http_server import Connection, Request, Response, Server
from ledger import Refused
from protocol import QUERY, REFUND
from settlement_mode import BadMode, parse_mode

LISTED_REQUESTS = 1000
WAIT_TIMEOUT_MS = 10_000
LONGEST_MS = 3_600_000


class AdminApi:
    def __init__(self, gateway: Gateway, server: Server) -> None:
        self._gateway = gateway
        self._server = server
        self._listen_again: asyncio.TimerHandle | None = None
        self._commands: dict[
            tuple[str, str], Callable[[typing.Any], Awaitable[tuple[int, typing.Any]]]
        ] = {
            ("GET", "faults"): self._show_faults,
            ("POST", "faults"): self._replace_faults,
            ("GET", "mode"): self._show_mode,
            ("POST", "mode"): self._change_mode,
            ("POST", "payments"): self._add_payments,
            ("POST", "settle"): self._settle,
            ("POST", "refuse"): self._refuse,
            ("GET", "ledger"): self._ledger,
            ("GET", "requests"): self._requests,
            ("GET", "connections"): self._connections,
            ("GET", "wait"): self._wait,
            ("GET", "notifications"): self._notifications,
            ("POST", "notify"): self._notify,
        }

    async def handle(self, connection: Connection, request: Request) -> None:
        self._server.mark_admin(connection)
        status, body = await self._run(request)
        response = Response(status, json.dumps(body).encode() + b"\n")
        connection.send(response, request)

    async def _run(self, request: Request) -> tuple[int, typing.Any]:
        command = self._commands.get((request.method, "/".join(request.segments[1:])))
        if command is None:
            known = ", ".join(f"{method} /admin/{name}" for method, name in self._commands)
            return 404, {"error": f"there is no such command; there are {known}"}
        try:
            if request.method == "GET":
                parameters: typing.Any = dict(parse_qsl(request.query, keep_blank_values=True))
            else:
                parameters = json.loads(request.body)
            return await command(parameters)
        except Refused as refused:
            return 404 if refused.reason == "unknown_refund" else 409, {"error": str(refused)}
        except (BadCommand, BadRule, BadMode, ValueError) as bad:
            return 400, {"error": str(bad)}

    async def _show_faults(self, parameters: dict[str, str]) -> tuple[int, typing.Any]:
        _only(parameters)
        return 200, [rule.as_json() for rule in self._gateway.faults.rules]

    async def _replace_faults(self, rules: typing.Any) -> tuple[int, typing.Any]:
        self._gateway.faults.replace(parse_rules(rules, self._gateway.protocol))
        return await self._show_faults({})

    async def _show_mode(self, parameters: dict[str, str]) -> tuple[int, typing.Any]:
        _only(parameters)
        return 200, self._gateway.mode.as_json()

    async def _change_mode(self, mode: typing.Any) -> tuple[int, typing.Any]:
        self._gateway.mode = parse_mode(mode, self._gateway.protocol)
        return await self._show_mode({})

    async def _add_payments(self, payments: typing.Any) -> tuple[int, typing.Any]:
        payments = payments if isinstance(payments, list) else [payments]
        dialect = self._gateway.ledger.dialect
        filled = [admin_payments.checked(payment, dialect) for payment in payments]
        for payment in filled:
            self._gateway.ledger.add_payment(**payment.row)
        await self._gateway.group_commit.committed()
        for payment in filled:
            if payment.notify:
                row = self._gateway.ledger.find_payment(
                    payment.row["payment_id"], payment.row["transaction_id"]
                )
                assert row is not None
                self._gateway.notifier.payment_arrived(row, payment.notify_url)
        transaction_ids = [payment.row["transaction_id"] for payment in filled]
        return 200, {"payments": len(payments), "transaction_ids": transaction_ids}

    async def _notifications(self, parameters: dict[str, str]) -> tuple[int, typing.Any]:
        _only(parameters, "refund_no", "payment_id")
        return 200, self._gateway.notifier.listed(**parameters)

    async def _notify(self, wanted: typing.Any) -> tuple[int, typing.Any]:
        return 200, admin_notify.notify(self._gateway, wanted)

    async def _settle(self, wanted: typing.Any) -> tuple[int, typing.Any]:
        if not isinstance(wanted, dict):
            raise BadCommand("settle takes a JSON object")
        _only(wanted, "refund_no", "state", "error")
        refund_no, error = wanted.get("refund_no"), wanted.get("error")
        states = self._gateway.protocol.outcomes()
        if not isinstance(refund_no, str) or wanted.get("state") not in states:
            raise BadCommand(f"settle takes refund_no and state: {' or '.join(states)}")
        if error is not None and not isinstance(error, str):
            raise BadCommand("error is a text")
        self._gateway.ledger.settle(refund_no, wanted["state"], error)
        await self._gateway.group_commit.committed()
        return await self._ledger({"refund_no": refund_no})

    async def _refuse(self, wanted: typing.Any) -> tuple[int, typing.Any]:
        if not isinstance(wanted, dict):
            raise BadCommand("refuse takes a JSON object")
        _only(wanted, "ms")
        ms = wanted.get("ms")
        if ms is not None and (type(ms) is not int or not 0 < ms <= LONGEST_MS):
            raise BadCommand(f"ms is a whole number from 1 to {LONGEST_MS}, or null")
        self._server.refuse()
        if self._listen_again is not None:
            self._listen_again.cancel()
            self._listen_again = None
        if ms is not None:
            loop = asyncio.get_running_loop()
            self._listen_again = loop.call_later(ms / 1000, self.stop_refusing)
        return 200, {"refusing_ms": ms}

    def stop_refusing(self) -> None:
        """Ends a refusal, whichever way it was to end (SIGUSR1 comes here too)."""
        if self._listen_again is not None:
            self._listen_again.cancel()
            self._listen_again = None
        # Kept, because asyncio itself does not keep a running task alive.
        self._listening = asyncio.get_running_loop().create_task(self._server.listen())

    async def _ledger(self, parameters: dict[str, str]) -> tuple[int, typing.Any]:
        _only(parameters, "refund_no")
        if "refund_no" not in parameters:
            return 200, ledger_report.summary(self._gateway.ledger.db)
        row = self._gateway.ledger.row(parameters["refund_no"])
        if row is None:
            raise Refused("unknown_refund", f"{parameters['refund_no']} is not known here")
        return 200, dict(row)

    async def _requests(self, parameters: dict[str, str]) -> tuple[int, typing.Any]:
        _only(parameters, "refund_no")
        which = "WHERE refund_no = :refund_no" if "refund_no" in parameters else ""
        rows = self._gateway.ledger.db.execute(
            f"SELECT * FROM requests {which} ORDER BY id DESC LIMIT {LISTED_REQUESTS}", parameters
        ).fetchall()
        return 200, [{**dict(row), "headers": json.loads(row["headers"])} for row in reversed(rows)]

    async def _connections(self, parameters: dict[str, str]) -> tuple[int, typing.Any]:
        _only(parameters)
        server, traffic = self._server, self._gateway.traffic
        return 200, {
            "accepted": server.connection_count - server.admin_connection_count,
            "open": sum(not connection.is_admin for connection in server.connections),
            "admin": server.admin_connection_count,
            "in_flight": traffic.in_flight[None, None],
            "max_in_flight": traffic.max_in_flight,
            "malformed_requests": server.malformed_count,
        }

    async def _wait(self, parameters: dict[str, str]) -> tuple[int, typing.Any]:
        _only(parameters, "what", "at_least", "timeout_ms", "refund_no", "on")
        traffic = self._gateway.traffic
        counted = {"requests": traffic.seen, "in_flight": traffic.in_flight}
        what, on = parameters.get("what", ""), parameters.get("on", "any")
        if what not in counted:
            raise BadCommand("what is requests or in_flight")
        if on not in ("any", REFUND, QUERY):
            raise BadCommand("on is refund, query or any")
        key = parameters.get("refund_no"), None if on == "any" else on
        at_least = _whole(parameters, "at_least", 1)
        timeout_ms = _whole(parameters, "timeout_ms", WAIT_TIMEOUT_MS)
        is_reached = await traffic.wait_until(lambda: counted[what][key] >= at_least, timeout_ms)
        # An error status on timeout, so that `curl --fail` in a test fails.
        return 200 if is_reached else 504, {"reached": is_reached, what: counted[what][key]}


def _only(parameters: dict[str, typing.Any], *known: str) -> None:
    unknown = sorted(parameters.keys() - set(known))
    if unknown:
        raise BadCommand(f"there is no parameter {unknown[0]}")


def _whole(parameters: dict[str, str], name: str, default: int) -> int:
    value = parameters.get(name, str(default))
    if not (value.isascii() and value.isdigit()) or int(value) > LONGEST_MS:
        raise BadCommand(f"{name} is a whole number up to {LONGEST_MS}")
    return int(value)
