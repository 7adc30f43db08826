"""Breaks one rule at a time and looks whether a test bites: mutants.py SOURCE BUILD LOGS [NAME]...

SOURCE is a copy of the sources that may be changed; BUILD is where CMake builds them. Prints a line
for each mutant, and ends with `N mutants, N killed`. With --check, only looks whether each of them
still fits the sources: mutants.py --check SOURCE.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass

# A mutant that loops for ever is found by the clock.
TEST_LIMIT_S = 120
FOLDER = pathlib.Path(__file__).resolve().parent


@dataclass(frozen=True)
class Mutant:
    name: str
    rule: str
    file: str
    old: str
    new: str

    def apply_to(self, text: str) -> str:
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: `old` stands {found} times in {self.file}, not once")
        return text.replace(self.old, self.new)


def load_mutants() -> list[Mutant]:
    with open(FOLDER / "core.toml", "rb") as table:
        mutants = [Mutant(**entry) for entry in tomllib.load(table)["mutant"]]
    names = [mutant.name for mutant in mutants]
    if len(set(names)) != len(names):
        raise ValueError("two mutants have the same name")
    return mutants


def check(source: pathlib.Path, mutants: Iterable[Mutant]) -> None:
    for mutant in mutants:
        mutant.apply_to((source / mutant.file).read_text())


class Tests:
    """The unit tests of core, one program each."""

    def __init__(self, source: pathlib.Path, build: pathlib.Path, logs: pathlib.Path) -> None:
        self.build = build
        self.log = logs / "mutants.log"
        self.all = sorted(path.stem for path in (source / "test/unit").glob("core_*_test.cpp"))

    def in_order_for(self, file: str) -> list[str]:
        """Those of the file first: they most probably bite."""
        stem = pathlib.PurePath(file).stem
        words = {"http": "http_gateway", "webhook_signature": "http_gateway"}
        first = f"core_{words.get(stem, stem).removesuffix('_answer')}_test"
        return sorted(self.all, key=lambda test: test != first)

    def build_target(self, target: str) -> bool:
        command = ["cmake", "--build", str(self.build), "--parallel", "2", "--target", target]
        with open(self.log, "ab") as log:
            return subprocess.run(command, stdout=log, stderr=log, check=False).returncode == 0

    def failure_of(self, test: str) -> str | None:
        """The name of the first test case that fails; None if all pass."""
        command = [str(self.build / test), "--gtest_fail_fast", "--gtest_brief=1"]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=TEST_LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            return f"{test}: hangs"
        if ended.returncode == 0:
            return None
        failed = re.search(r"^\[  FAILED  \] ([^\s,]+)", ended.stdout, re.MULTILINE)
        return failed.group(1) if failed else f"{test}: exit code {ended.returncode}"

    def killer(self, file: str) -> str | None:
        for test in self.in_order_for(file):
            if not self.build_target(test):
                raise RuntimeError(f"it does not compile: see {self.log}")
            failure = self.failure_of(test)
            if failure:
                return failure
        return None


def killer_of(mutant: Mutant, source: pathlib.Path, tests: Tests) -> str | None:
    path = source / mutant.file
    original = path.read_text()
    path.write_text(mutant.apply_to(original))
    try:
        return tests.killer(mutant.file)
    finally:
        path.write_text(original)


def run(source: pathlib.Path, tests: Tests, mutants: list[Mutant]) -> bool:
    for test in tests.all:
        if not tests.build_target(test) or tests.failure_of(test):
            print(f"{test} fails without a mutant: see {tests.log}")
            return False
    killed = 0
    for number, mutant in enumerate(mutants, 1):
        killer = killer_of(mutant, source, tests)
        killed += killer is not None
        verdict = killer or "SURVIVED"
        print(f"{number:3}/{len(mutants)}  {mutant.name:42} {verdict}\n         {mutant.rule}",
              flush=True)
    print(f"{len(mutants)} mutants, {killed} killed")
    return killed == len(mutants)


def main(arguments: list[str]) -> int:
    mutants = load_mutants()
    if arguments[0] == "--check":
        check(pathlib.Path(arguments[1]), mutants)
        return 0
    source, build, logs = (pathlib.Path(argument) for argument in arguments[:3])
    names = arguments[3:]
    unknown = set(names) - {mutant.name for mutant in mutants}
    if unknown:
        print(f"There is no mutant {', '.join(sorted(unknown))}.", file=sys.stderr)
        return 2
    check(source, mutants)
    chosen = [mutant for mutant in mutants if not names or mutant.name in names]
    return 0 if run(source, Tests(source, build, logs), chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
