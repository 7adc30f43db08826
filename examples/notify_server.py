#!/usr/bin/env python3
"""An application's whole part in a gateway's notifications: hand them to pay_notify, return what it
answers.

    PGDATABASE=shop ./notify_server.py --port 8080

    POST /notify/<gateway>     <gateway> is the name of the foreign server

The connection is libpq's: PGHOST, PGUSER, PGPASSWORD and the like. The role needs EXECUTE on
pay_notify(text, jsonb, text) and nothing else. Put a proxy that speaks https in front of it.

It needs Python 3 and psycopg2 (Debian: python3-psycopg2).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
from psycopg2 import errors

MAX_BODY_BYTES = 1024 * 1024
# Gateways wait about five seconds for the answer, and then repeat.
OPTIONS = "-c statement_timeout=4s -c lock_timeout=3s"
COLLISIONS = (errors.SerializationFailure, errors.DeadlockDetected)
MAX_TRIES = 3

local = threading.local()


def connection() -> psycopg2.extensions.connection:
    """One for each thread, made again when it is lost."""
    if getattr(local, "connection", None) is None or local.connection.closed:
        local.connection = psycopg2.connect(options=OPTIONS)
    return local.connection


def pay_notify(gateway: str, headers: str, body: str) -> tuple[int, str, str, str]:
    """The answer is returned only after the commit: what was not recorded is not acknowledged."""
    for tries_left in reversed(range(MAX_TRIES)):
        try:
            with connection() as transaction, transaction.cursor() as cursor:
                cursor.execute(
                    "SELECT http_status, content_type, body, outcome FROM pay_notify(%s, %s, %s)",
                    (gateway, headers, body),
                )
                row = cursor.fetchone()
            return row
        except COLLISIONS:
            if tries_left == 0:
                raise
    raise AssertionError("not reached")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        prefix = "/notify/"
        length = int(self.headers.get("Content-Length") or 0)
        if not self.path.startswith(prefix) or not 0 <= length <= MAX_BODY_BYTES:
            self.close_connection = True
            return self.answer(404, "text/plain", "", "not for us")
        raw = self.rfile.read(length)
        # Lists, since a header may come several times; pay_notify judges that.
        headers: dict[str, list[str]] = {}
        for name, value in self.headers.items():
            headers.setdefault(name, []).append(value)
        try:
            # The signature covers the bytes as they came: never parse and print them again.
            body = raw.decode()
            self.answer(*pay_notify(self.path[len(prefix) :], json.dumps(headers), body))
        except (psycopg2.Error, UnicodeDecodeError, ValueError) as error:
            # Not recorded, so the gateway must repeat it. Why is for the log alone.
            self.answer(500, "text/plain", "", f"error: {error}".strip())

    def answer(self, status: int, content_type: str, body: str, outcome: str) -> None:
        content = body.encode()
        self.send_response_only(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        print(f"{self.path} {status} {outcome}", flush=True)

    def log_message(self, *_: object) -> None:
        """answer() says more."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--port-file", help="gets the port once requests are taken")
    arguments = parser.parse_args()
    with Server(("127.0.0.1", arguments.port), Handler) as server:
        port = server.server_address[1]
        print(f"taking notifications at http://127.0.0.1:{port}/notify/<gateway>", flush=True)
        if arguments.port_file:
            with open(f"{arguments.port_file}.new", "w", encoding="ascii") as file:
                file.write(f"{port}\n")
            os.rename(f"{arguments.port_file}.new", arguments.port_file)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            sys.exit(0)


if __name__ == "__main__":
    main()
