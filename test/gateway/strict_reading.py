"""Reads what a client sent, and refuses what a careless reader would let pass."""

from __future__ import annotations

import json
import re
import typing
from urllib.parse import unquote_to_bytes

LONE_SURROGATE_OR_NUL = re.compile("[\ud800-\udfff\x00]")
FORM_PIECE = re.compile(r"[A-Za-z0-9\-._~*+!$'()/:;@,?\[\]%]*")
BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
JSON_TYPE = re.compile(r'application/json(\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)
FORM_TYPE = re.compile(
    r'application/x-www-form-urlencoded(\s*;\s*charset="?utf-8"?)?', re.IGNORECASE
)


class BadRequest(Exception):
    """Breaks the contract; the text says how."""


def is_text(value: typing.Any, longest: int | None = None) -> bool:
    """Text that every database can keep: JSON also allows lone surrogates and NUL."""
    return (
        isinstance(value, str)
        and value != ""
        and LONE_SURROGATE_OR_NUL.search(value) is None
        and (longest is None or len(value) <= longest)
    )


def json_object(text: bytes | str) -> dict[str, typing.Any]:
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        fields = json.loads(decoded, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON in UTF-8") from None
    if not isinstance(fields, dict):
        raise BadRequest("the body is not a JSON object")
    return fields


def form(text: str) -> dict[str, str]:
    """The fields of a form or a query; none may be there twice."""
    fields: dict[str, str] = {}
    for pair in text.split("&") if text else []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadRequest("a field of the form has no name or no value")
        name, value = _decode(name), _decode(value)
        if name in fields:
            raise BadRequest(f"the field {name} is there twice")
        fields[name] = value
    return fields


def compact_json(body: typing.Any) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _decode(piece: str) -> str:
    if not FORM_PIECE.fullmatch(piece) or BAD_PERCENT.search(piece):
        raise BadRequest("the form is not correctly percent-encoded")
    try:
        return unquote_to_bytes(piece.replace("+", " ")).decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest("the form is not in UTF-8") from None


def _unique_keys(pairs: list[tuple[str, typing.Any]]) -> dict[str, typing.Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadRequest("a field is there twice")
    return fields
