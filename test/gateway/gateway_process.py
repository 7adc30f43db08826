"""Runs a stand-in gateway for a Python test, and speaks to it as its client and its admin."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import typing
from collections.abc import Callable
from urllib.parse import quote, urlencode

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.join(HERE, "stand_in_gateway.py")
DEADLINE_S = 10
Fields = dict[str, typing.Any]
Answer = tuple[int, typing.Any]


def wait_for(condition: Callable[[], typing.Any], what: str) -> typing.Any:
    """The first true value of the condition; looks often, and gives up at a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {DEADLINE_S} s in vain: {what}")
        time.sleep(0.01)
    return value


def demand(refund_no: str, **changes: typing.Any) -> Fields:
    return {
        "refund_no": refund_no,
        "payment_id": refund_no.rsplit("-", 1)[0],
        "order_id": "order-1",
        "transaction_id": "4200001",
        "amount": 3200,
        "currency": "CNY",
        "reason": "duplicate",
        **changes,
    }


def refund_headers(refund_no: str) -> dict[str, str]:
    return {"Content-Type": "application/json", "Idempotency-Key": refund_no}


def raw_refund(refund_no: str) -> bytes:
    body = json.dumps(demand(refund_no)).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in refund_headers(refund_no).items())
    start = (
        f"POST /refunds HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body)}\r\n\r\n"
    )
    return start.encode() + body


def until_closed(client: socket.socket) -> bytes:
    received = b""
    while piece := client.recv(65536):
        received += piece
    return received


class Gateway:
    """One stand-in gateway process, and the two ways to talk to it: as a client, and as admin."""

    def __init__(self, directory: str, *options: str, name: str = "wechat", port: int = 0) -> None:
        self.ledger_file = os.path.join(directory, f"{name}.ledger")
        self.port_file = os.path.join(directory, f"{name}.port")
        self._error_file = os.path.join(directory, f"{name}.stderr")
        self._tls: ssl.SSLContext | None = None
        command = [sys.executable, PROGRAM, "serve", "--name", name, "--ledger", self.ledger_file]
        command += ["--port", str(port), "--port-file", self.port_file, *options]
        with open(self._error_file, "wb") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline().decode()
        if not self.ready_line:
            self.process.wait()
            self.process.stdout.close()
            raise AssertionError(f"the gateway did not start: {self.errors()}")
        with open(self.port_file, encoding="ascii") as file:
            self.port = int(file.read())

    def trust(self, certificate: str) -> None:
        self._tls = ssl.create_default_context(cafile=certificate)

    def errors(self) -> str:
        with open(self._error_file, encoding="utf-8") as file:
            return file.read()

    def stop(self, stop_signal: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(stop_signal)
        code = self.process.wait(DEADLINE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def connect(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=DEADLINE_S, context=self._tls
            )
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)

    def call(
        self, method: str, path: str, body: typing.Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = self.connect()
        try:
            text = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, text, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def json(self, *arguments: typing.Any, **named: typing.Any) -> Answer:
        status, _, body = self.call(*arguments, **named)
        return status, json.loads(body)

    def refund(self, refund_no: str, **changes: typing.Any) -> Answer:
        return self.json(
            "POST", "/refunds", demand(refund_no, **changes), refund_headers(refund_no)
        )

    def query(self, refund_no: str) -> Answer:
        return self.json("GET", f"/refunds/{quote(refund_no, safe='')}")

    def admin(self, path: str, body: typing.Any = None, **parameters: typing.Any) -> typing.Any:
        target = f"/admin/{path}" + (f"?{urlencode(parameters)}" if parameters else "")
        status, answer = self.json("GET" if body is None else "POST", target, body)
        if status != 200:
            raise AssertionError(f"{target}: {status} {answer}")
        return answer

    def faults(self, *rules: dict[str, typing.Any]) -> None:
        self.admin("faults", list(rules))

    def row(self, refund_no: str) -> Fields:
        """The refund in the ledger."""
        row: Fields = self.admin("ledger", refund_no=refund_no)
        return row

    def knows(self, refund_no: str) -> bool:
        target = f"/admin/ledger?{urlencode({'refund_no': refund_no})}"
        return self.json("GET", target)[0] == 200

    def requests(self, refund_no: str) -> list[Fields]:
        requests: list[Fields] = self.admin("requests", refund_no=refund_no)
        return requests

    def summary(self) -> Fields:
        totals: Fields = self.admin("ledger")
        return totals

    def summary_of_file(self) -> Fields:
        """Also of a gateway that is dead."""
        command = [sys.executable, PROGRAM, "ledger", "--ledger", self.ledger_file, "--json"]
        printed = subprocess.run(command, capture_output=True, check=True).stdout
        totals: Fields = json.loads(printed)
        return totals
