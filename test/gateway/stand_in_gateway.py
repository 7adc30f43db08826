#!/usr/bin/env python3
"""A stand-in for a payment gateway, for payonce's tests and its demo.

It speaks HTTP, keeps its own durable ledger, and fails on demand in every way that gateways fail,
so that a test can ask the gateway, and not payonce, how often money moved. See README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
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
from http_client import is_loopback
from http_server import Connection, Request, Server
from ledger import Dialect, Ledger, LedgerError, Policy
from notifier import Notifier
from protocol import Protocol
from settlement_mode import BadMode, parse_mode

VECTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vectors")
ORDER_SPACING_MS = {"wechat": 60_000, "alipay": 3_000}
# The options that only one protocol has; anywhere else they would be silently without effect.
OWN_OPTIONS = {
    "http": ("bearer_token", "signing_secret"),
    "wechat": ("keys", "answer_key", "order_spacing_ms"),
    "alipay": ("keys", "certificate_mode", "order_spacing_ms"),
    "stripe": ("secret_key", "webhook_secret", "page_limit"),
}


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


MakeProtocol = typing.Callable[[Ledger], Protocol]


def prepared_protocol(options: argparse.Namespace) -> tuple[Dialect, MakeProtocol]:
    """How the provider's books differ, and what makes its protocol once there are books. Only the
    wanted provider's files are imported: the generic protocol needs nothing but Python."""
    if options.protocol == "http":
        return _generic(options)
    directory = options.keys or os.path.join(VECTORS, options.protocol)
    try:
        if options.protocol == "wechat":
            import wechat_protocol

            return wechat_protocol.prepare(directory, options.answer_key or "public_key")
        if options.protocol == "alipay":
            import alipay_protocol

            return alipay_protocol.prepare(directory, options.certificate_mode)
    except ModuleNotFoundError as error:
        raise UsageError(f"{error}: python3-pycryptodome is needed") from None
    except (KeyError, ValueError) as error:
        raise UsageError(f"the keys in {directory} cannot be read: {error}") from None
    import stripe_protocol

    return stripe_protocol.prepare(
        options.secret_key or "sk_test_payonce_not_a_real_key",
        options.webhook_secret or "whsec_payonce_test_secret_0123456789abcdef",
        options.idempotency_horizon_ms,
        options.page_limit or 100,
    )


def _generic(options: argparse.Namespace) -> tuple[Dialect, MakeProtocol]:
    import generic_protocol

    key = None
    if options.signing_secret is not None:
        try:
            key = standard_webhooks.key_of_secret(options.signing_secret)
        except ValueError as error:
            raise UsageError(str(error)) from None
    make = functools.partial(
        generic_protocol.GenericProtocol, bearer_token=options.bearer_token, signing_key=key
    )
    return Dialect(), make


def check_own_options(options: argparse.Namespace) -> None:
    own = OWN_OPTIONS[options.protocol]
    for name in sorted({name for names in OWN_OPTIONS.values() for name in names}):
        if getattr(options, name) and name not in own:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is not for --protocol {options.protocol}")


def policy_of(options: argparse.Namespace) -> Policy:
    spacing_ms = options.order_spacing_ms
    if spacing_ms is None:
        spacing_ms = ORDER_SPACING_MS.get(options.protocol, 0)
    return Policy(
        options.strict_payments or options.protocol != "http",
        options.idempotency_horizon_ms,
        spacing_ms,
    )


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
    check_own_options(options)
    if options.notify_url is not None and not is_loopback(options.notify_url):
        raise UsageError("--notify-url is not a loopback address")
    dialect, make_protocol = prepared_protocol(options)
    ledger = Ledger(options.ledger, options.name, policy_of(options), dialect)
    protocol = make_protocol(ledger)
    faults = FaultPlan(options.seed)
    rules = [json_or_word(rule, "fault") for rule in options.fault]
    faults.replace(parse_rules(rules, protocol))
    wanted_mode = protocol.default_mode
    if options.mode is not None:
        wanted_mode = json_or_word(options.mode, "mode")
    mode = parse_mode(wanted_mode, protocol)
    notifier = Notifier(
        ledger, protocol, faults, options.notify_url, options.notify_retry_ms, options.notify_tries
    )
    gateway = Gateway(ledger, protocol, faults, mode, notifier, scheme)

    async def handle(connection: Connection, request: Request) -> None:
        if request.segments[0] == "admin":
            await admin_api.handle(connection, request)
        else:
            await gateway.handle(connection, request)

    server = Server(handle, tls)
    admin_api = AdminApi(gateway, server)
    gateway.settle_due()
    notifier.resume()
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
    notifier.stop()
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
    serving.add_argument("--protocol", choices=sorted(OWN_OPTIONS), default="http")
    serving.add_argument("--bearer-token", help="answer 401 without it")
    serving.add_argument("--signing-secret", help="whsec_...: demand Standard Webhooks signatures")
    serving.add_argument("--strict-payments", action="store_true", help="refuse unknown payments")
    serving.add_argument(
        "--idempotency-horizon-ms", type=int, help="forget refund numbers after so long"
    )
    _add_provider_options(serving)
    serving.add_argument("--mode", help="immediate, processing, or JSON")
    serving.add_argument("--fault", action="append", default=[], help="a name or a JSON rule")
    serving.add_argument("--seed", type=int, default=0, help="of the faults' probabilities")
    serving.add_argument("--tls-cert", help="PEM file; serve https")
    serving.add_argument("--tls-key", help="PEM file")
    serving.add_argument("--notify-url", help="where notifications go")
    serving.add_argument("--notify-retry-ms", type=int, default=200, help="between two tries")
    serving.add_argument("--notify-tries", type=int, default=50, help="then it gives up")
    printing = commands.add_parser("ledger", help="sum a ledger up", allow_abbrev=False)
    printing.add_argument("--ledger", required=True)
    printing.add_argument("--json", action="store_true")
    return parser


def _add_provider_options(serving: argparse.ArgumentParser) -> None:
    serving.add_argument("--keys", help="wechat, alipay: a folder like test/vectors/wechat")
    serving.add_argument(
        "--answer-key", choices=("public_key", "certificate"), help="wechat: what signs answers"
    )
    serving.add_argument("--certificate-mode", action="store_true", help="alipay")
    serving.add_argument(
        "--order-spacing-ms", type=int, help="wechat, alipay: between two refunds of an order"
    )
    serving.add_argument("--secret-key", help="stripe: sk_...")
    serving.add_argument("--webhook-secret", help="stripe: whsec_...")
    serving.add_argument("--page-limit", type=int, help="stripe: refunds on a page at most")


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
