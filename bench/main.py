#!/usr/bin/env python3
"""Measures payonce beside its peers, and writes what it found. Started by scripts/bench, with a
server of its own; README.md says what is measured and how.

usage: main.py JSON_FD SVG_FD MARKDOWN_FD PROGRAMS_FOLDER SCRATCH_FOLDER [OPTION]... [CASE]...
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import sys
import typing
from pathlib import Path

import callback_equality
import chart
import machine
import report
from callbacks import measure_callbacks
from database import Database
from dispatch import Clients, measure_dispatch, measure_latency
from drivers import measure_drivers
from flatness import measure_flatness
from gateway_server import GatewayServer
from measurement import Measurement
from options import Options, read_options
from progress import Progress

CALLBACK_CASES = ("first", "duplicates", "repeated", "hot", "batch")
SHORTEST_CLIENT_RUN_S = 1.0


class Results:
    """What has been measured so far, in the three files: also a run that is ended early leaves some.

    The files were opened by whoever called scripts/bench, and may lie where we may not go."""

    def __init__(self, descriptors: list[int], about: dict[str, typing.Any]) -> None:
        self._files = [os.fdopen(descriptor, "w", encoding="utf-8") for descriptor in descriptors]
        self._about = about
        self.measurements: list[Measurement] = []

    def add(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)
        self.write(complete=False)

    def write(self, complete: bool) -> None:
        about = {**self._about, "complete": complete}
        result = {**about, "measurements": [m.as_json() for m in self.measurements]}
        contents = (
            json.dumps(result, indent=1) + "\n",
            chart.svg(report.machine_line(self._about["machine"]), self.measurements),
            report.markdown(self._about["machine"], self.measurements),
        )
        for file, content in zip(self._files, contents, strict=True):
            file.seek(0)
            file.truncate()
            file.write(content)
            file.flush()


def check_equality(database: Database, progress: Progress) -> None:
    """Nothing is timed that does not decide the same."""
    progress.doing("checking that all peers decide the same")
    callback_equality.install(database)
    database.set(fsync="off")
    found = callback_equality.differences(database)
    database.set(fsync="on")
    wrong = [f"{name}: {difference}" for name, difference in found if difference]
    if wrong:
        raise SystemExit("\n".join(wrong))
    progress.say(f"  all peers decide the same: {len(found)} comparisons of outcomes and rows")


def measure(database: Database, gateway: GatewayServer, programs: Path, options: Options,
            progress: Progress) -> typing.Iterator[Measurement]:
    if any(case in options.cases for case in CALLBACK_CASES):
        check_equality(database, progress)
        yield from measure_callbacks(database, options, progress)
    if "dispatch" in options.cases:
        clients = Clients(programs / "bench_curl_multi", max(options.seconds, SHORTEST_CLIENT_RUN_S))
        yield from measure_dispatch(database, gateway, clients, options, progress)
    if "latency" in options.cases:
        yield from measure_latency(database, gateway, options, progress)
    if "drivers" in options.cases:
        yield from measure_drivers(programs / "bench_drivers", options, progress)
    if "flatness" in options.cases:
        yield from measure_flatness(database, gateway, options, progress)


def one_line(m: Measurement) -> str:
    setting = ", ".join(f"{name} {value}" for name, value in m.setting.items())
    figures = "  ".join(f"{name} {report.number(m.median(name))}" for name in m.figures)
    return f"  {m.title} ({setting}): {figures} {m.unit}"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    descriptors = [int(argument) for argument in sys.argv[1:4]]
    programs, scratch = Path(sys.argv[4]), Path(sys.argv[5])
    options = read_options(sys.argv[6:])
    progress = Progress()
    database = Database()
    about = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine.describe(database, scratch),
        "options": vars(options),
    }
    for warning in machine.warnings(about["machine"]):
        progress.say(f"  note: {warning}")
    results = Results(descriptors, about)
    with GatewayServer(scratch / "nginx") as gateway:
        for measurement in measure(database, gateway, programs, options, progress):
            progress.say(one_line(measurement))
            results.add(measurement)
    results.write(complete=True)
    for table in report.tables(results.measurements):
        progress.say()
        progress.say(report.as_text(table))
    progress.say(f"\n  after {progress.elapsed_s() / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
