"""What to measure, and for how long."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import typing

CASES = {
    "first": "callbacks that are each an order's first payment",
    "duplicates": "callbacks of orders that are paid already: a refund is queued",
    "repeated": "callbacks that were processed before",
    "hot": "all clients at the payments of one order",
    "batch": "pay_callback_batch against single calls",
    "dispatch": "refunds a second, from claim to record, against a local nginx",
    "latency": "from the commit of a callback to its refund's request on the wire",
    "drivers": "what each driver costs, beside RSA's own limit",
    "flatness": "an empty database, one with history, and one whose xmin horizon is pinned",
}


CLIENTS = (1, 2, 16, 64)


@dataclasses.dataclass
class Options:
    """As the command line says."""

    cases: list[str]
    quick: bool
    seconds: float
    rounds: int
    clients: list[int]
    rows: int

    @property
    def drain_s(self) -> float:
        """For how long refunds are drained at a time."""
        return 0.5 if self.quick else 4

    @property
    def callbacks_on_the_wire(self) -> int:
        return 50 if self.quick else 300


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def read_options(arguments: typing.Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="scripts/bench", add_help=False)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--clients", type=numbers)
    parser.add_argument("--rows", type=int)
    given = parser.parse_args(arguments)
    quick = given.quick
    for case in given.cases:
        if case not in CASES:
            parser.error(f"there is no case '{case}'; there are: {', '.join(CASES)}")
    usual = Options(given.cases or list(CASES), quick, seconds=0.3 if quick else 1.2,
                    rounds=1 if quick else 3, clients=[2, 16] if quick else list(CLIENTS),
                    rows=20_000 if quick else 1_000_000)
    asked = {name: value for name, value in vars(given).items() if value is not None}
    options = dataclasses.replace(usual, **{**asked, "cases": usual.cases})
    if not set(options.clients) <= set(CLIENTS):
        parser.error(f"--clients are some of {', '.join(map(str, CLIENTS))}")
    if options.seconds <= 0 or options.rounds < 1 or options.rows < 10:
        parser.error("--seconds and --rounds must be positive, and --rows at least 10")
    return options


if __name__ == "__main__":
    # Before anything is built.
    read_options(sys.argv[1:])
