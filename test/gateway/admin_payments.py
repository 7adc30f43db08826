"""Reads what an administrator says about a payment."""

from __future__ import annotations

import typing
from dataclasses import dataclass

from http_client import is_loopback
from ledger import AMOUNT_MAX, CURRENCY, Dialect

REQUIRED = {"payment_id", "amount", "currency"}
OPTIONAL = {"transaction_id", "paid_at", "notify", "notify_url"}


class BadCommand(Exception):
    """A command that cannot be followed; the text says why."""


@dataclass(frozen=True, slots=True)
class AdminPayment:
    row: dict[str, typing.Any]
    notify: bool
    notify_url: str | None


def checked(payment: typing.Any, dialect: Dialect) -> AdminPayment:
    if not isinstance(payment, dict) or not REQUIRED <= payment.keys() <= REQUIRED | OPTIONAL:
        raise BadCommand(
            f"a payment is a JSON object with the keys {', '.join(sorted(REQUIRED))}"
            f" and perhaps {', '.join(sorted(OPTIONAL))}"
        )
    if not isinstance(payment["payment_id"], str) or not payment["payment_id"]:
        raise BadCommand("payment_id is a text")
    if type(payment["amount"]) is not int or not 0 < payment["amount"] <= AMOUNT_MAX:
        raise BadCommand(f"amount is a whole number of minor units from 1 to {AMOUNT_MAX}")
    if not isinstance(payment["currency"], str) or not CURRENCY.fullmatch(payment["currency"]):
        raise BadCommand("currency is an ISO 4217 code")
    paid_at = payment.get("paid_at")
    if paid_at is not None and (type(paid_at) not in (int, float) or paid_at <= 0):
        raise BadCommand("paid_at is a time in Unix seconds")
    row = {name: payment[name] for name in sorted(REQUIRED)}
    row["transaction_id"] = _transaction_id(payment, dialect)
    row["paid_at"] = paid_at
    return AdminPayment(row, *_notification(payment))


def _transaction_id(payment: dict[str, typing.Any], dialect: Dialect) -> str:
    """Providers name their payments themselves, in their own form."""
    given, form = payment.get("transaction_id"), dialect.transaction_id_form
    if given is None and form is not None:
        return dialect.transaction_id(payment["payment_id"])
    if not isinstance(given, str) or not given:
        raise BadCommand("transaction_id is a text")
    if form is not None and not form.fullmatch(given):
        raise BadCommand(f"transaction_id is not {form.pattern}; leave it out to have one made")
    return given


def _notification(payment: dict[str, typing.Any]) -> tuple[bool, str | None]:
    notify, url = payment.get("notify", False), payment.get("notify_url")
    if type(notify) is not bool:
        raise BadCommand("notify is true or false")
    if url is not None and not (isinstance(url, str) and is_loopback(url)):
        raise BadCommand("notify_url is a loopback address")
    return notify, url
