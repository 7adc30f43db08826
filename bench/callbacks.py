"""Times callbacks: pay_callback and its peers, in turns, on rows made for the run."""

from __future__ import annotations

import math
import statistics
import typing

from callback_cases import BATCHES, CASES, FIRST_ID, RANGE, Case, Range
from database import Database, pgbench
from measurement import Measurement, in_turns
from options import Options
from progress import Progress

TABLES = ("t_order", "t_order_pay", "t_refund")
WARM_UP_SHARE = 0.3
PROBED_CALLBACKS = 300

Speeds = dict[str, float]  # callbacks a second


class Timing:
    """Runs one case in one setting, in rounds in which all that are compared take their turns."""

    def __init__(self, database: Database, case: Case, clients: int) -> None:
        self.database = database
        self.case = case
        self.clients = clients

    def round(self, number: int, expected: Speeds, seconds: float) -> Speeds:
        parts = self._prepare(expected, seconds)
        return {name: self._run(name, parts[name]) for name in in_turns(list(parts), number)}

    def _prepare(self, expected: Speeds, seconds: float) -> dict[str, Range]:
        self.database.truncate("t_order CASCADE")
        parts = {}
        for number, (name, per_s) in enumerate(expected.items()):
            calls = max(math.ceil(per_s * seconds / self.clients / self.case.size_of(name)), 2)
            parts[name] = Range(FIRST_ID + number * RANGE, calls * self.case.size_of(name), self.clients)
            self.case.prepare(self.database, parts[name])
        return parts

    def _run(self, name: str, part: Range) -> float:
        self.database.settle(*TABLES)
        size = self.case.size_of(name)
        # Its own limit of time has whole seconds; and so every prepared row is called back once.
        done = pgbench(
            self.database.name, self.case.script(name), self.clients,
            f"--transactions={part.share // size}",
            variables={"base": part.base, "share": part.share, "size": size, "n": 0,
                       "success": "true", "amount": 3200, "currency": "CNY"})
        self.case.check(self.database, part)
        return done.per_s * size


def time_case(database: Database, case: Case, clients: int, options: Options,
              expected: Speeds | None) -> dict[str, list[float]]:
    """The speeds of all rounds. `expected`: of another setting; without it, a short run finds out."""
    timing = Timing(database, case, clients)
    if expected is None:
        expected = timing.round(0, {name: PROBED_CALLBACKS for name in case.peers}, 1)
    expected = timing.round(0, expected, options.seconds * WARM_UP_SHARE)
    speeds: dict[str, list[float]] = {name: [] for name in case.peers}
    for number in range(options.rounds):
        measured = timing.round(number, expected, options.seconds)
        for name, per_s in measured.items():
            speeds[name].append(per_s)
            expected[name] = per_s
    return speeds


def settings_of(case: Case, options: Options) -> typing.Iterator[tuple[bool, int]]:
    """fsync on and all numbers of clients; without it the cost of the processor alone, with few."""
    for clients in options.clients:
        if clients in case.clients:
            yield True, clients
    for clients in options.clients:
        if clients in case.clients and clients in (2, 16):
            yield False, clients


def has_batches(database: Database) -> bool:
    return bool(database.value("SELECT count(*) FROM pg_proc WHERE proname = 'pay_callback_batch'"))


def chosen_cases(database: Database, options: Options, progress: Progress) -> list[Case]:
    cases = [case for case in CASES if case.name in options.cases]
    if "batch" in options.cases:
        if has_batches(database):
            cases += BATCHES
        else:
            progress.say("  batches are left out: this payonce has no pay_callback_batch")
    return cases


def measure_callbacks(database: Database, options: Options, progress: Progress) -> \
        typing.Iterator[Measurement]:
    for case in chosen_cases(database, options, progress):
        expected: Speeds | None = None
        for fsync, clients in settings_of(case, options):
            setting = f"{case.title}, fsync {'on' if fsync else 'off'}, {clients} clients"
            progress.doing(setting)
            database.set(fsync="on" if fsync else "off")
            speeds = time_case(database, case, clients, options, expected)
            expected = {name: statistics.median(runs) for name, runs in speeds.items()}
            yield Measurement(case.name, case.title, {"fsync": fsync, "clients": clients},
                              "callbacks/s", case.peers[0], speeds)
    database.set(fsync="on")
    database.truncate("t_order CASCADE")
