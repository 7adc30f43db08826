#!/usr/bin/env python3
"""Mutants: payonce with one rule broken. Each must be noticed by a test.

mutants.py check ROOT                 every mutant still fits the sources
mutants.py list KIND                  the names of the mutants of a kind (core, pg)
mutants.py show NAME FIELD            a mutant's field: rule, file, tests
mutants.py apply NAME ROOT            breaks the sources below ROOT
mutants.py run-core ROOT BUILD JOBS NAME...
                                      breaks, compiles and tests what needs no server

KIND.mutants, beside this file, lists them. A mutant is a paragraph: `mutant`, `rule` (what it
breaks, in the words of docs/states.md), `file`, `tests` (who is expected to notice it, the
likeliest first), then the lines that are replaced, each after a `-`, and what replaces them, each
after a `+`. The old text must be in the file exactly once: whoever changes it changes the mutant,
too, or finds out that its rule has gone.
"""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).resolve().parent
KINDS = ("core", "pg")
FIELDS = ("mutant", "rule", "file", "tests")
# Far above what a test program takes: what hangs is noticed, too.
TEST_LIMIT_S = 120


class Mutant:
    def __init__(self, kind, fields, old, new):
        self.kind = kind
        self.name = fields["mutant"]
        self.rule = fields["rule"]
        self.file = fields["file"]
        self.tests = fields["tests"].split()
        self.old = old
        self.new = new

    def broken(self, root):
        """The text of its file with the rule broken."""
        text = (pathlib.Path(root) / self.file).read_text(encoding="utf-8")
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.name}: {self.file} has its old text {count} times:\n{self.old}")
        return text.replace(self.old, self.new)


def read_mutant(kind, paragraph):
    fields, old, new = {}, [], []
    for line in paragraph.split("\n"):
        if line.startswith("-"):
            old.append(line[1:])
        elif line.startswith("+"):
            new.append(line[1:])
        else:
            name, _, value = line.partition(": ")
            fields[name] = value.strip()
    if tuple(fields) != FIELDS or not all(fields.values()) or not old or old == new:
        raise ValueError(f"{kind}.mutants: not a mutant:\n{paragraph}")
    if not fields["file"].endswith((".cpp", ".sql")):
        raise ValueError(f"{fields['mutant']}: only one object may depend on what is broken")
    return Mutant(kind, fields, "\n".join(old), "\n".join(new))


def read_mutants():
    mutants = {}
    for kind in KINDS:
        text = (FOLDER / f"{kind}.mutants").read_text(encoding="utf-8")
        lines = [line for line in text.split("\n") if not line.startswith("#")]
        for paragraph in re.split(r"\n{2,}", "\n".join(lines).strip("\n")):
            if not paragraph:
                continue
            mutant = read_mutant(kind, paragraph)
            if mutant.name in mutants:
                raise ValueError(f"two mutants are named {mutant.name}")
            mutants[mutant.name] = mutant
    return mutants


def check(mutants, root):
    problems = []
    for mutant in mutants.values():
        try:
            mutant.broken(root)
        except (OSError, ValueError) as error:
            problems.append(str(error))
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(mutants)} mutants, {len(problems)} do not fit the sources")
    return 1 if problems else 0


class CoreRunner:
    """Links a mutant's one object before the libraries that have the unbroken one."""

    def __init__(self, root, build):
        self.root = pathlib.Path(root)
        self.build = pathlib.Path(build)
        self.programs = sorted(path.stem for path in (self.root / "test/unit").glob("*_test.cpp"))
        self.libraries = [str(self.build / f"libpayonce_{name}.a") for name in ("net", "core")]

    def test_program(self, mutant, broken_object, program, scratch):
        """None when the program passes, otherwise which of its tests noticed."""
        binary = scratch / program
        test_object = self.build / f"CMakeFiles/{program}.dir/test/unit/{program}.cpp.o"
        subprocess.run(
            ["g++", "-o", binary, test_object, broken_object, *self.libraries, "-lgtest_main",
             "-lgtest", "-lcurl", "-lssl", "-lcrypto", "-lpthread"], check=True)
        try:
            done = subprocess.run(
                [binary, "--gtest_fail_fast", "--gtest_brief=1"], cwd=scratch, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TEST_LIMIT_S,
                errors="replace", stdin=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired:
            return f"{program}: hangs"
        finally:
            binary.unlink()
        if done.returncode == 0:
            return None
        failed = re.search(r"\[  FAILED  \] ([\w./]+)", done.stdout)
        return f"{program}: {failed.group(1) if failed else f'ends with {done.returncode}'}"

    def run(self, mutant):
        """Who killed the mutant; None when nobody did."""
        with tempfile.TemporaryDirectory(prefix="mutant.") as folder:
            scratch = pathlib.Path(folder)
            source = scratch / pathlib.Path(mutant.file).name
            source.write_text(mutant.broken(self.root), encoding="utf-8")
            broken_object = scratch / "broken.o"
            # Without warnings: what a broken rule leaves unused is of no interest.
            subprocess.run(["g++", "-std=c++20", "-O0", "-w", "-I", self.root / "src", "-c", source,
                            "-o", broken_object], check=True)
            others = [name for name in self.programs if name not in mutant.tests]
            for program in mutant.tests + others:
                if program.startswith("core_") and mutant.file.startswith("src/net/"):
                    continue
                killed_by = self.test_program(mutant, broken_object, program, scratch)
                if killed_by:
                    return killed_by
        return None


def run_core(mutants, root, build, jobs, names):
    runner = CoreRunner(root, build)
    unknown = {test for name in names for test in mutants[name].tests} - set(runner.programs)
    if unknown:
        raise ValueError(f"there are no such test programs: {' '.join(sorted(unknown))}")
    survived = 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=jobs) as pool:
        running = {pool.submit(runner.run, mutants[name]): mutants[name] for name in names}
        for future in concurrent.futures.as_completed(running):
            mutant = running[future]
            try:
                killed_by = future.result()
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                # What does not compile breaks no rule.
                killed_by = None
                print(error, file=sys.stderr)
            survived += killed_by is None
            report(mutant, killed_by)
    return 1 if survived else 0


def report(mutant, killed_by):
    """A row of the table; the script that calls counts them."""
    print(f"{mutant.name} | {mutant.rule} | {killed_by or 'SURVIVED'}", flush=True)


def main(arguments):
    command, arguments = arguments[0], arguments[1:]
    mutants = read_mutants()
    if command == "check":
        return check(mutants, *arguments)
    if command == "list":
        print("\n".join(name for name, mutant in mutants.items() if mutant.kind == arguments[0]))
        return 0
    if command == "show":
        value = getattr(mutants[arguments[0]], arguments[1])
        print("\n".join(value) if isinstance(value, list) else value)
        return 0
    if command == "apply":
        mutant = mutants[arguments[0]]
        path = pathlib.Path(arguments[1]) / mutant.file
        broken = mutant.broken(arguments[1])
        # The original stays beside it, as it was.
        shutil.copy2(path, f"{path}.unbroken")
        path.write_text(broken, encoding="utf-8")
        os.utime(path)
        return 0
    if command == "run-core":
        root, build, jobs, *names = arguments
        return run_core(mutants, root, build, int(jobs), names)
    raise ValueError(f"there is no command {command}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (KeyError, IndexError, ValueError) as error:
        sys.exit(f"mutants.py: {error}")
