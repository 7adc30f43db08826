#!/usr/bin/env python3
"""A stand-in for a payment gateway, for payonce's tests and its demo.

It speaks HTTP, keeps its own durable ledger, and fails on demand in every way that gateways fail,
so that a test can ask the gateway, and not payonce, how often money moved. See README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import ssl
import sys
import typing

import ledger_report
import standard_webhooks
from admin_api import AdminApi
from faults import BadRule, FaultPlan, parse_rules
from gateway import Gateway
from generic_protocol import GenericProtocol
from http_server import Connection, Request, Server
from ledger import Ledger, LedgerError, Policy
from settlement_mode import BadMode, parse_mode


class UsageError(Exception):
    """The command line cannot be followed; the text says why."""


def json_or_word(value: str, key: str) -> typing.Any:
    """A JSON object, or a bare word as the short form of {key: word}."""
    if not value.startswith("{"):
        return {key: value}
    try:
        return json.loads(value)
    except ValueError as error:
        raise UsageError(f"{value} is not JSON: {error}") from None


def tls_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    if options.tls_cert is None and options.tls_key is None:
        return None
    if options.tls_cert is None or options.tls_key is None:
        raise UsageError("--tls-cert and --tls-key belong together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"the certificate or its key cannot be read: {error}") from None
    return context


def protocol_of(options: argparse.Namespace) -> GenericProtocol:
    if options.signing_secret is None:
        return GenericProtocol(options.bearer_token)
    try:
        key = standard_webhooks.key_of_secret(options.signing_secret)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return GenericProtocol(options.bearer_token, key)


def write_atomically(path: str, text: str) -> None:
    """Whoever waits for the file never reads half of it."""
    unfinished = f"{path}.{os.getpid()}"
    with open(unfinished, "w", encoding="ascii") as file:
        file.write(text)
    os.replace(unfinished, path)


def remove_if_there(path: str) -> None:
    try:
        os.remove(path)
    except FileNotFoundError:
        pass


async def serve(options: argparse.Namespace) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", options.name):
        raise UsageError("--name is 1 to 32 letters, digits, _ or -")
    if options.port_file is not None:
        # A file of an earlier, killed gateway must not tell a test that this one is ready.
        remove_if_there(options.port_file)
    tls = tls_context(options)
    scheme = "http" if tls is None else "https"
    protocol = protocol_of(options)
    faults = FaultPlan(options.seed)
    faults.replace(parse_rules([json_or_word(rule, "fault") for rule in options.fault]))
    mode = parse_mode(json_or_word(options.mode, "mode"))
    policy = Policy(options.strict_payments, options.idempotency_horizon_ms)
    ledger = Ledger(options.ledger, options.name, policy)
    gateway = Gateway(ledger, protocol, faults, mode, scheme)

    async def handle(connection: Connection, request: Request) -> None:
        if request.segments[0] == "admin":
            await admin_api.handle(connection, request)
        else:
            await gateway.handle(connection, request)

    server = Server(handle, tls)
    admin_api = AdminApi(gateway, server)
    gateway.settle_due()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop_signal, stopping.set)
    loop.add_signal_handler(signal.SIGUSR1, admin_api.stop_refusing)
    await server.start(options.port)
    if options.port_file is not None:
        write_atomically(options.port_file, f"{server.port}\n")
    url = f"{scheme}://127.0.0.1:{server.port}"
    print(f"stand-in gateway {options.name} ready at {url}, ledger {options.ledger}", flush=True)
    await stopping.wait()
    server.stop()
    ledger.close()
    if options.port_file is not None:
        remove_if_there(options.port_file)


def print_ledger(options: argparse.Namespace) -> None:
    totals = ledger_report.summary(ledger_report.open_read_only(options.ledger))
    print(json.dumps(totals, indent=2) if options.json else ledger_report.as_text(totals))


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="run a gateway on 127.0.0.1", allow_abbrev=False)
    serving.add_argument("--name", required=True, help="the gateway's name, kept in its ledger")
    serving.add_argument("--ledger", required=True, help="its SQLite file; made if missing")
    serving.add_argument("--port", type=int, default=0, help="0: a free one (default)")
    serving.add_argument("--port-file", help="gets the port once the gateway is ready")
    serving.add_argument("--bearer-token", help="answer 401 without it")
    serving.add_argument("--signing-secret", help="whsec_...: demand Standard Webhooks signatures")
    serving.add_argument("--strict-payments", action="store_true", help="refuse unknown payments")
    serving.add_argument(
        "--idempotency-horizon-ms", type=int, help="forget refund numbers after so long"
    )
    serving.add_argument("--mode", default="immediate", help="immediate, processing, or JSON")
    serving.add_argument("--fault", action="append", default=[], help="a name or a JSON rule")
    serving.add_argument("--seed", type=int, default=0, help="of the faults' probabilities")
    serving.add_argument("--tls-cert", help="PEM file; serve https")
    serving.add_argument("--tls-key", help="PEM file")
    printing = commands.add_parser("ledger", help="sum a ledger up", allow_abbrev=False)
    printing.add_argument("--ledger", required=True)
    printing.add_argument("--json", action="store_true")
    return parser


def main() -> int:
    options = command_line().parse_args()
    try:
        if options.command == "serve":
            asyncio.run(serve(options))
        else:
            print_ledger(options)
    except (UsageError, BadRule, BadMode, LedgerError, OSError) as error:
        print(f"stand_in_gateway.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
