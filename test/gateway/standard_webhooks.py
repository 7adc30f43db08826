"""Verifies Standard Webhooks signatures (symmetric, v1).

Written from the specification with hashlib and hmac alone, so that payonce's signing is checked
against an implementation that is not its own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping

PREFIX = "whsec_"
TOLERANCE_S = 300
WHOLE_SECONDS = re.compile(r"[0-9]{1,12}")


def key_of_secret(secret: str) -> bytes:
    """The HMAC key of a `whsec_...` secret; ValueError says what is wrong with it."""
    if not secret.startswith(PREFIX):
        raise ValueError(f"a signing secret begins with {PREFIX}")
    try:
        key = base64.b64decode(secret[len(PREFIX) :], validate=True)
    except binascii.Error as error:
        raise ValueError(f"what follows {PREFIX} is not base64: {error}") from None
    if not key:
        raise ValueError(f"nothing follows {PREFIX}")
    return key


def sign(key: bytes, webhook_id: str, timestamp_s: int, body: bytes) -> str:
    signed = f"{webhook_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def failure(key: bytes, headers: Mapping[str, str], body: bytes, now_s: float) -> str | None:
    """Why the request is not authentic, or None when it is. Header names are lower case."""
    webhook_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    signatures = headers.get("webhook-signature", "")
    if not webhook_id or not timestamp or not signatures:
        return "webhook-id, webhook-timestamp and webhook-signature are required"
    if not WHOLE_SECONDS.fullmatch(timestamp):
        return "webhook-timestamp is not a whole number of seconds"
    if abs(now_s - int(timestamp)) > TOLERANCE_S:
        return f"webhook-timestamp is more than {TOLERANCE_S} s away"
    expected = sign(key, webhook_id, int(timestamp), body).encode()
    # One match is enough: while a secret is rotated there are two signatures.
    given = (signature.encode("latin-1") for signature in signatures.split(" "))
    if not any(hmac.compare_digest(expected, signature) for signature in given):
        return "no signature of webhook-signature is right"
    return None
