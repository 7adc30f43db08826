"""POST /admin/notify: news about a payment or a refund, on demand.

Sent like any other, or only returned as it would be sent, so that a test can hand it over itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import typing

import admin_payments
from admin_payments import BadCommand
from gateway import Gateway
from http_client import is_loopback
from ledger import SETTLED, Refused
from notifier import Delivery
from protocol import GOOD, News, Payment

ABOUT_PAYMENT = {"payment_id", "amount", "currency", "transaction_id", "paid_at"}
KEYS = ABOUT_PAYMENT | {
    "kind",
    "refund_no",
    "type",
    "changes",
    "signature",
    "deliver",
    "url",
    "times",
    "parallel",
}


def notify(gateway: Gateway, wanted: typing.Any) -> typing.Any:
    if not isinstance(wanted, dict) or wanted.get("kind") not in ("payment", "refund"):
        raise BadCommand("notify takes a JSON object with kind: payment or refund")
    unknown = sorted(wanted.keys() - KEYS)
    if unknown:
        raise BadCommand(f"there is no parameter {unknown[0]}")
    event_type, changes = wanted.get("type"), wanted.get("changes", {})
    if event_type is not None and not isinstance(event_type, str):
        raise BadCommand("type is a text")
    if not isinstance(changes, dict):
        raise BadCommand("changes is a JSON object")
    signature = wanted.get("signature", GOOD)
    signatures = (GOOD, *gateway.protocol.news_signatures)
    if signature not in signatures:
        raise BadCommand(f"signature is {' or '.join(signatures)}")
    if wanted["kind"] == "payment":
        payment, refund_no = _payment(gateway, wanted), None
        news = gateway.protocol.payment_news(payment, event_type)
        payment_id = payment["payment_id"]
    else:
        refund_no = wanted.get("refund_no")
        if not isinstance(refund_no, str):
            raise BadCommand("refund_no is a text")
        refund = gateway.ledger.refund(refund_no)
        news = gateway.protocol.refund_news(refund, SETTLED, event_type)
        payment_id = refund.payment_id
        if not news:
            raise BadCommand(f"{refund_no} is {refund.word}: there is no news without a type")
    news = [_changed(one, changes) for one in news]
    if wanted.get("deliver", True):
        return _deliver(gateway, wanted, news, payment_id, refund_no, signature)
    return {"notifications": [_as_returned(gateway, one, signature) for one in news]}


def _payment(gateway: Gateway, wanted: dict[str, typing.Any]) -> Payment:
    """One that the ledger knows, or, with an amount, one that it need not know."""
    given = {name: wanted[name] for name in sorted(ABOUT_PAYMENT & wanted.keys())}
    if "amount" in given:
        row = admin_payments.checked(given, gateway.ledger.dialect).row
        return {**row, "arrived_at": row["paid_at"] or time.time()}
    payment_id, transaction_id = given.get("payment_id"), given.get("transaction_id")
    if not isinstance(payment_id, str):
        raise BadCommand("payment_id is a text")
    known = gateway.ledger.find_payment(payment_id, transaction_id)
    if known is None:
        raise Refused("unknown_refund", f"no payment {payment_id} came in here; give its amount")
    return known


def _changed(news: News, changes: dict[str, typing.Any]) -> News:
    """Objects are changed member by member; null takes a member away. Another content is other
    news, and so has another number."""
    if not changes:
        return news
    content = _merged(news.content, changes)
    digest = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()
    number = f"{int(digest, 16) % 10**6:06d}"
    return dataclasses.replace(
        news, event_id=news.event_id[: -len(number)] + number, content=content
    )


def _merged(old: dict[str, typing.Any], changes: dict[str, typing.Any]) -> dict[str, typing.Any]:
    merged = dict(old)
    for name, value in changes.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merged(merged[name], value)
        else:
            merged[name] = value
    return merged


def _as_returned(gateway: Gateway, news: News, signature: str) -> dict[str, typing.Any]:
    message = gateway.protocol.message(news, signature)
    return {
        "event_id": news.event_id,
        "type": news.event_type,
        "headers": message.headers,
        "body": message.body.decode(),
    }


def _deliver(
    gateway: Gateway,
    wanted: dict[str, typing.Any],
    news: list[News],
    payment_id: str,
    refund_no: str | None,
    signature: str,
) -> typing.Any:
    url = wanted.get("url", gateway.notifier.url)
    if not isinstance(url, str) or not is_loopback(url):
        raise BadCommand("url is a loopback address; without --notify-url it is required")
    times, is_parallel = wanted.get("times", 1), wanted.get("parallel", False)
    if type(times) is not int or not 1 <= times <= 100 or type(is_parallel) is not bool:
        raise BadCommand("times is a whole number from 1 to 100, parallel is true or false")
    delivery = Delivery(url, signature, times, is_parallel)
    gateway.notifier.tell(news, payment_id, refund_no, delivery)
    return {"notifications": [{"event_id": one.event_id, "type": one.event_type} for one in news]}
