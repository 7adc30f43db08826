"""What each fault does to a request, down to the bytes.

A behaviour gets the exchange (one request and its way to an answer) and the parameters of its
rule. Only valid, authentic requests get here.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate

from http_server import Response
from ledger import FAILED, Refused, Terms
from protocol import GOOD, NOTIFICATION, QUERY, STRANGER, Lie, ProviderError

if typing.TYPE_CHECKING:
    from gateway import Exchange

NOT_JSON = b'\x00\xff\xfe<html>Bad Gateway {"status":'
CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Parameter:
    default: typing.Any
    is_valid: Callable[[typing.Any], bool]
    wanted: str


@dataclass(frozen=True)
class Fault:
    """Faults of notifications have nothing to do with an exchange: notifier.py follows them."""

    behave: Callable[..., Awaitable[None]]
    parameters: dict[str, Parameter]
    only_on: str | None


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, only_on: str | None = None, **parameters: Parameter
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]:
    def register(behave: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        FAULTS[name] = Fault(behave, parameters, only_on)
        return behave

    return register


def whole(default: int | None, lowest: int, highest: int = 2**31) -> Parameter:
    return Parameter(
        default,
        lambda value: type(value) is int and lowest <= value <= highest,
        f"a whole number from {lowest} to {highest}",
    )


def text(default: str | None) -> Parameter:
    return Parameter(default, lambda value: isinstance(value, str) and value != "", "a text")


def optional(parameter: Parameter) -> Parameter:
    return Parameter(
        parameter.default,
        lambda value: value is None or parameter.is_valid(value),
        f"{parameter.wanted}, or null",
    )


def redirect_status() -> Parameter:
    statuses = (301, 302, 303, 307, 308)
    return Parameter(302, lambda value: value in statuses, f"one of {statuses}")


def one_of(default: str, *others: str) -> Parameter:
    words = (default, *others)
    return Parameter(default, lambda value: value in words, " or ".join(words))


def flag(default: bool | None) -> Parameter:
    return Parameter(default, lambda value: type(value) is bool, "true or false")


# -- slow


@fault("delay", ms=whole(None, 0), when=one_of("before", "after"))
async def delay(exchange: Exchange, ms: int, when: str) -> None:
    """Acts also if the client has given up meanwhile, as a busy gateway would."""
    if when == "after":
        exchange.act()
    await exchange.committed()
    await asyncio.sleep(ms / 1000)
    await exchange.send(exchange.act())


@fault("trickle", interval_ms=whole(100, 1))
async def trickle(exchange: Exchange, interval_ms: int) -> None:
    answer = exchange.act()
    await exchange.start_answer(answer.status)
    for byte in answer.head() + answer.body:
        exchange.connection.write(bytes((byte,)))
        await asyncio.sleep(interval_ms / 1000)
        if exchange.connection.is_closed:
            return


@fault("hang")
async def hang(exchange: Exchange) -> None:
    await exchange.committed()
    await exchange.connection.wait_closed()


@fault("hang_after")
async def hang_after(exchange: Exchange) -> None:
    exchange.act()
    await hang(exchange)


# -- refused for now


def _retry_after(seconds: int | None, form: str) -> dict[str, str]:
    if seconds is None:
        return {}
    if form == "date":
        return {"Retry-After": formatdate(time.time() + seconds, usegmt=True)}
    return {"Retry-After": str(seconds)}


def seconds_or_none(default: int) -> Parameter:
    return Parameter(
        default,
        lambda value: value is None or (type(value) is int and value >= 0),
        "seconds or null",
    )


@fault("429", retry_after_s=seconds_or_none(1), form=one_of("seconds", "date"))
async def too_many_requests(exchange: Exchange, retry_after_s: int | None, form: str) -> None:
    await exchange.send_error(429, "too many requests", _retry_after(retry_after_s, form))


@fault("503", retry_after_s=seconds_or_none(1), form=one_of("seconds", "date"))
async def unavailable(exchange: Exchange, retry_after_s: int | None, form: str) -> None:
    await exchange.send_error(503, "not available now", _retry_after(retry_after_s, form))


# -- errors


@fault("500_before")
async def error_before(exchange: Exchange) -> None:
    await exchange.send_error(500, "something broke")


@fault("500_after")
async def error_after(exchange: Exchange) -> None:
    exchange.act()
    await exchange.send_error(500, "something broke")


@fault("408")
async def request_timeout(exchange: Exchange) -> None:
    await exchange.send_error(408, "the request took too long")


@fault("4xx", status=whole(400, 400, 499), error=text("the gateway does not want this"))
async def client_error(exchange: Exchange, status: int, error: str) -> None:
    await exchange.send_error(status, error)


@fault("failed", error=text("the account of the customer is closed"))
async def failed(exchange: Exchange, error: str) -> None:
    """Ends an unsettled refund as failed; money that has moved is not talked away."""
    exchange.fail_if_processing(error)
    await exchange.send(exchange.act(Terms(state=FAILED, error=error)))


@fault("forget", only_on=QUERY)
async def forget(exchange: Exchange) -> None:
    exchange.act()
    forgotten = Refused("unknown_refund", f"{exchange.call.refund_no} is not known here")
    await exchange.send(exchange.pretend(forgotten))


@fault("redirect", status=redirect_status(), location=optional(text(None)))
async def redirect(exchange: Exchange, status: int, location: str | None) -> None:
    """By default to a path of this gateway, where the ledger sees who followed."""
    host = exchange.request.headers.get("host", "127.0.0.1")
    here = f"{exchange.scheme}://{host}/redirected{exchange.request.target}"
    await exchange.send_error(status, "moved", {"Location": location or here})


# -- broken connections


def _end(exchange: Exchange, how: str) -> None:
    if how == "reset":
        exchange.connection.reset()
    else:
        exchange.connection.close()


@fault("drop_before", how=one_of("close", "reset"))
async def drop_before(exchange: Exchange, how: str) -> None:
    await exchange.committed()
    _end(exchange, how)


@fault("drop_after", how=one_of("close", "reset"))
async def drop_after(exchange: Exchange, how: str) -> None:
    exchange.act()
    await exchange.committed()
    _end(exchange, how)


@fault("truncated", missing_bytes=whole(64, 1))
async def truncated(exchange: Exchange, missing_bytes: int) -> None:
    """What is sent is the whole JSON, so that only the missing bytes tell that it is not."""
    answer = exchange.act()
    await exchange.start_answer(answer.status)
    framing = f"Content-Length: {len(answer.body) + missing_bytes}"
    exchange.connection.write(answer.head(framing) + answer.body)
    exchange.connection.close()


# -- wrong answers


@fault("garbage", acted=flag(True))
async def garbage(exchange: Exchange, acted: bool) -> None:
    if acted:
        exchange.act()
    await exchange.send(Response(200, NOT_JSON))


@fault("huge", megabytes=whole(64, 1, 4096), declared=flag(False))
async def huge(exchange: Exchange, megabytes: int, declared: bool) -> None:
    """Correct JSON all the way, in chunks unless its length is declared."""
    exchange.act()
    opening, closing = b'{"status":"succeeded","refund_id":"', b'"}'
    total_bytes = megabytes * 1024 * 1024
    padding_bytes = total_bytes - len(opening) - len(closing)
    await exchange.start_answer(200)
    framing = f"Content-Length: {total_bytes}" if declared else "Transfer-Encoding: chunked"
    exchange.connection.write(Response(200).head(framing))
    for piece in itertools.chain((opening,), _padding(padding_bytes), (closing,)):
        chunk = piece if declared else b"%x\r\n%b\r\n" % (len(piece), piece)
        exchange.connection.write(chunk)
        await exchange.connection.drain()
        if exchange.connection.is_closed:
            return
    if not declared:
        exchange.connection.write(b"0\r\n\r\n")


def _padding(count_bytes: int) -> typing.Iterator[bytes]:
    block = b"x" * CHUNK_BYTES
    for _ in range(count_bytes // CHUNK_BYTES):
        yield block
    if count_bytes % CHUNK_BYTES:
        yield block[: count_bytes % CHUNK_BYTES]


@fault("wrong_status_word", word=text("weird"))
async def wrong_status_word(exchange: Exchange, word: str) -> None:
    await exchange.send(exchange.act(lie=Lie(status_word=word)))


@fault("wrong_refund_no", refund_no=text("of-someone-else-R1"))
async def wrong_refund_no(exchange: Exchange, refund_no: str) -> None:
    await exchange.send(exchange.act(lie=Lie(refund_no=refund_no)))


# -- what only providers do


@fault(
    "provider_error",
    code=text(None),
    sub_code=optional(text(None)),
    status=optional(whole(None, 200, 599)),
    message=optional(text(None)),
    type=optional(text(None)),
    acted=flag(False),
    signature=text(GOOD),
    stored=optional(flag(None)),
)
async def provider_error(
    exchange: Exchange,
    code: str,
    sub_code: str | None,
    status: int | None,
    message: str | None,
    type: str | None,
    acted: bool,
    signature: str,
    stored: bool | None,
) -> None:
    """Any error that the provider's documents list, with its usual HTTP status."""
    if acted:
        exchange.act()
    error = ProviderError(code, status, sub_code, message, type)
    await exchange.send(exchange.provider_error(error, signature, stored))


@fault("bad_signature", how=text(STRANGER))
async def bad_signature(exchange: Exchange, how: str) -> None:
    await exchange.send(exchange.act(lie=Lie(signature=how)))


# -- notifications


async def _notification_only(exchange: Exchange) -> None:
    raise AssertionError("a fault of notifications was chosen for a request")


NOTIFICATION_FAULTS: dict[str, dict[str, Parameter]] = {
    "notify_early": {},
    "notify_lost": {},
    "notify_reordered": {},
    "notify_forged": {"how": text(STRANGER)},
    "notify_duplicated": {"times": whole(2, 2, 100), "parallel": flag(False)},
}
for _name, _parameters in NOTIFICATION_FAULTS.items():
    FAULTS[_name] = Fault(_notification_only, _parameters, NOTIFICATION)
