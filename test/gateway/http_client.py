"""Sends one POST and reads the answer: how a gateway delivers its notifications.

Only to loopback: a stand-in never knocks at a real merchant's door.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

TIMEOUT_S = 5.0
ANSWER_LIMIT_BYTES = 64 * 1024


def is_loopback(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False
    try:
        return ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return parts.hostname == "localhost"


async def post(url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
    """The answer's status and body; OSError or ValueError when there is none."""
    async with asyncio.timeout(TIMEOUT_S):
        return await _exchange(url, headers, body)


async def _exchange(url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
    parts = urlsplit(url)
    tls = None
    if parts.scheme == "https":
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # a test's own certificate
    port = parts.port or (443 if tls else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        writer.write("\r\n".join(lines).encode("latin-1") + body)
        await writer.drain()
        return await _read_answer(reader)
    finally:
        writer.close()


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise ConnectionError("the receiver closed the connection without an answer") from None
    status_line, *header_lines = head.decode("latin-1").split("\r\n")
    status = int(status_line.split(" ")[1])
    named = (line.partition(":") for line in header_lines if line)
    headers = {name.lower(): value.strip() for name, _, value in named}
    if "content-length" in headers:
        length = min(int(headers["content-length"]), ANSWER_LIMIT_BYTES)
        try:
            return status, await reader.readexactly(length)
        except asyncio.IncompleteReadError:
            raise ConnectionError("the receiver's answer is cut off") from None
    return status, await reader.read(ANSWER_LIMIT_BYTES)
