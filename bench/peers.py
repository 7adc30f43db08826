"""The peers of pay_callback: how each decides the same callback, as pgbench scripts.

The scripts are made of peers/*.sql, in which {id}, {success}, {amount}, {currency} and
{transaction_id} stand for the news. Timed, they are variables of pgbench; in the equality check,
values.
"""

from __future__ import annotations

import re
import typing
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
TYPES = {
    "id": "text",
    "success": "boolean",
    "amount": "bigint",
    "currency": "text",
    "transaction_id": "text",
}
OUTCOMES = ("already_processed", "conflict", "failed", "mismatch", "duplicate", "late", "paid")


class Peer(typing.NamedTuple):
    """One way to decide a callback."""

    name: str
    title: str


PAYONCE = Peer("payonce", "pay_callback")
PLPGSQL = Peer("plpgsql", "plpgsql function")
STATEMENT = Peer("statement", "one SQL statement")
APPLICATION = Peer("application", "application, a round trip each")
FLOOR = Peer("floor", "floor: bare writes")
# Those that decide the same.
EQUALS = (PAYONCE, PLPGSQL, STATEMENT, APPLICATION)


class News(typing.NamedTuple):
    """A callback's arguments."""

    id: str
    success: bool = True
    amount: int | None = None
    currency: str | None = None
    transaction_id: str | None = None


def literal(value: str | int | bool | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("'", "''") + "'"


def template(name: str) -> str:
    return (FOLDER / "peers" / f"{name}.sql").read_text()


def with_news(script: str, values: dict[str, str]) -> str:
    """Fills in the news: with their types in SQL, bare where pgbench itself calculates."""
    lines = []
    for line in script.splitlines():
        for name, value in values.items():
            typed = value if line.startswith("\\") else f"{value}::{TYPES[name]}"
            line = line.replace("{" + name + "}", typed)
        lines.append(line)
    return "\n".join(lines) + "\n"


def send_variables_once(script: str) -> str:
    """A variable that a statement names again is its parameter's number: pgbench would send it again."""
    commands = re.split(r"(;\n|\\gset\n|^\\[a-z]+.*\n)", script, flags=re.MULTILINE)
    for i, command in enumerate(commands):
        if command.startswith("\\"):
            continue
        numbers: dict[str, int] = {}

        def numbered(match: re.Match[str]) -> str:
            known = match[1] in numbers
            number = numbers.setdefault(match[1], len(numbers) + 1)
            return f"${number}" if known else match[0]

        commands[i] = re.sub(r"(?<!:):([a-z_]+)", numbered, command)
    return "".join(commands)


def timed_script(name: str) -> str:
    """For -M prepared; expects the news in variables of pgbench."""
    script = template(name).replace("{record}", "" if name == APPLICATION.name else ";")
    return send_variables_once(with_news(script, {field: f":{field}" for field in TYPES}))


def recording_script(peer: Peer, news: News) -> str:
    """Decides one callback, and writes the outcome to bench.outcome."""
    script = template(peer.name)
    if peer == APPLICATION:
        names = ", ".join(literal(outcome) for outcome in OUTCOMES)
        record = f"INSERT INTO bench.outcome SELECT (ARRAY[{names}])[:outcome::integer];"
    else:
        script = script.replace("SELECT pay_callback(", "SELECT pay_callback_outcome(")
        record = " \\gset\nINSERT INTO bench.outcome SELECT :outcome::text;"
    script = script.replace("{record}", record)
    return with_news(script, {name: literal(value) for name, value in news._asdict().items()})
