"""A small HTTP/1.1 server on asyncio that gives its handler the connection itself.

The stand-in gateways must be able to misbehave byte by byte (half an answer, a reset, one byte a
second), which ready-made servers prevent. So this one parses strictly, keeps connections alive,
and leaves every byte of the answer to the handler.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

HEAD_LIMIT_BYTES = 32 * 1024
BODY_LIMIT_BYTES = 1024 * 1024
BACKLOG = 1024

# RFC 3986: what may stand in a path or query unencoded; anything else must be percent-encoded.
TARGET = re.compile(
    r"(/[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*)(?:\?([A-Za-z0-9\-._~!$&'()*+,;=:@/?%]*))?"
)
BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")


@dataclass(slots=True)
class Request:
    method: str
    target: str
    segments: tuple[str, ...]
    query: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    arrived_at: float


@dataclass(slots=True)
class Response:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def head(self, framing: str | None = None, keep_alive: bool = True) -> bytes:
        """The status line and headers; `framing` replaces the true Content-Length."""
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}"]
        if self.body or framing is not None:
            lines.append(f"Content-Type: {self.content_type}")
        lines.append(framing or f"Content-Length: {len(self.body)}")
        lines.extend(f"{name}: {value}" for name, value in self.headers.items())
        if not keep_alive:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class MalformedRequest(Exception):
    """A request that is not HTTP as this server understands it: answered, then closed."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unnamed"


def _parse_target(target: str) -> tuple[tuple[str, ...], str]:
    parts = TARGET.fullmatch(target)
    if parts is None or BAD_PERCENT.search(target):
        raise MalformedRequest(400, "the request target is not a correctly encoded path")
    try:
        # Split before decoding: an encoded slash belongs to its segment.
        segments = tuple(unquote_to_bytes(raw).decode("utf-8") for raw in parts[1][1:].split("/"))
    except UnicodeDecodeError:
        raise MalformedRequest(400, "the path is not UTF-8") from None
    return segments, parts[2] or ""


def _parse_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not TOKEN.fullmatch(name):
            raise MalformedRequest(400, "a header line is malformed")
        name = name.lower()
        value = value.strip(" \t")
        # A repeated header is joined, so that a repeated Content-Length or key cannot pass.
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _body_length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise MalformedRequest(411, "only bodies with a Content-Length are read")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise MalformedRequest(400, "Content-Length is not a number")
    if len(length) > 9 or int(length) > BODY_LIMIT_BYTES:
        raise MalformedRequest(413, f"the body is longer than {BODY_LIMIT_BYTES} bytes")
    return int(length)


def _parse_head(head: str) -> tuple[Request, int]:
    request_line, *header_lines = head.split("\r\n")
    words = request_line.split(" ")
    if len(words) != 3 or not TOKEN.fullmatch(words[0]):
        raise MalformedRequest(400, "the request line is malformed")
    method, target, version = words
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise MalformedRequest(505, "only HTTP/1.1 and HTTP/1.0 are spoken")
    headers = _parse_headers(header_lines)
    if version == "HTTP/1.1" and "host" not in headers:
        raise MalformedRequest(400, "HTTP/1.1 needs a Host header")
    segments, query = _parse_target(target)
    keep_alive = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    request = Request(method, target, segments, query, headers, b"", keep_alive, time.time())
    return request, _body_length(headers)


Handler = Callable[["Connection", Request], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One client's connection: requests one after the other, answers as the handler writes them."""

    def __init__(self, server: Server, number: int) -> None:
        self.number = number
        self.is_admin = False
        self._server = server
        self._buffer = bytearray()
        self._head: tuple[Request, int] | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        # The handler is not cancelled: a real gateway acts on a request whose sender has gone.
        self._lost.set()
        self._writable.set()
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None:
            self._start_next()
        elif len(self._buffer) > HEAD_LIMIT_BYTES + BODY_LIMIT_BYTES:
            self.reset()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- what handlers use

    @property
    def is_closed(self) -> bool:
        return self._transport.is_closing()

    def write(self, data: bytes) -> None:
        if not self.is_closed:
            self._transport.write(data)

    def send(self, response: Response, request: Request) -> None:
        self.write(response.head(keep_alive=request.keep_alive) + response.body)

    async def drain(self) -> None:
        await asyncio.sleep(0)  # a long answer to a fast reader must leave others their turn
        await self._writable.wait()

    async def wait_closed(self) -> None:
        await self._lost.wait()

    def close(self) -> None:
        """Sends what was written, then ends the connection in order (FIN)."""
        self._transport.close()

    def reset(self) -> None:
        """Ends the connection with a RST; what was not sent yet is lost."""
        if self.is_closed:  # the client was quicker, and its socket is gone
            return
        linger_for_0_s = struct.pack("ii", 1, 0)
        client = self._transport.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_0_s)
        self._transport.abort()

    # -- requests

    def _start_next(self) -> None:
        request = self._take_request()
        if request is not None:
            self._task = asyncio.get_running_loop().create_task(self._serve(request))

    def _take_request(self) -> Request | None:
        """The next request of the buffer if it is complete; a malformed one is answered here."""
        try:
            return self._parse_buffer()
        except MalformedRequest as malformed:
            self._server.malformed_count += 1
            body = f'{{"error": "{malformed}"}}'.encode()
            self.write(Response(malformed.status, body).head(keep_alive=False) + body)
            self.close()
            return None

    def _parse_buffer(self) -> Request | None:
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end > HEAD_LIMIT_BYTES or (end < 0 and len(self._buffer) > HEAD_LIMIT_BYTES):
                raise MalformedRequest(431, f"the head is longer than {HEAD_LIMIT_BYTES} bytes")
            if end < 0:
                return None
            self._head = _parse_head(self._buffer[:end].decode("latin-1"))
            del self._buffer[: end + 4]
            if self._head[0].headers.get("expect", "").lower() == "100-continue":
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request, length = self._head
        if len(self._buffer) < length:
            return None
        request.body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._head = None
        return request

    async def _serve(self, request: Request | None) -> None:
        while request is not None:
            try:
                await self._server.handler(self, request)
            except Exception:
                # A defect of the stand-in itself: loud, and never an answer that looks right.
                traceback.print_exc(file=sys.stderr)
                self.reset()
            if not request.keep_alive and not self.is_closed:
                self.close()
            request = None if self.is_closed else self._take_request()
        self._task = None


class Server:
    """Listens on one loopback port, and can stop and resume listening without losing it."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self.handler = handler
        self.connections: set[Connection] = set()
        self.connection_count = 0
        self.admin_connection_count = 0
        self.malformed_count = 0
        self.port = 0
        self._tls = tls
        self._listener: asyncio.Server | None = None
        self._reservation: socket.socket | None = None

    async def start(self, port: int) -> None:
        # Bound but never listening, it keeps the port ours while connections are refused.
        self._reservation = self._bind(port)
        self.port = self._reservation.getsockname()[1]
        await self.listen()

    @property
    def is_listening(self) -> bool:
        return self._listener is not None

    async def listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.get_running_loop().create_server(
                self._new_connection, sock=self._bind(self.port), ssl=self._tls, backlog=BACKLOG
            )

    def refuse(self) -> None:
        """Closes the listening socket and every connection but the administrator's."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self.connections):
            if not connection.is_admin:
                connection.reset()

    def stop(self) -> None:
        self.refuse()
        for connection in list(self.connections):
            connection.close()
        if self._reservation is not None:
            self._reservation.close()

    def mark_admin(self, connection: Connection) -> None:
        """Sets an administrator's connection apart: not counted as a client's, never refused."""
        if not connection.is_admin:
            connection.is_admin = True
            self.admin_connection_count += 1

    def _new_connection(self) -> Connection:
        self.connection_count += 1
        return Connection(self, self.connection_count)

    @staticmethod
    def _bind(port: int) -> socket.socket:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        return listening
