#!/usr/bin/env python3
"""Prints what memcheck found in payonce: valgrind_findings.py SOURCE_FOLDER REPORT...

Reports name the source files with their whole paths. An error counts if payonce's sources are
anywhere among its callers. What was never freed counts if payonce, or a library that it called,
asked for it: what the server asked for below payonce is in its memory contexts, and those end with
the process.
"""
import re
import sys
from pathlib import Path
from typing import Iterator

FRAME = re.compile(r"   (?:at|by) 0x[0-9A-F]+: .*\((?:in )?(/[^:)]+)(?::\d+)?\)$")
VARYING = re.compile(r"0x[0-9A-F]+|[\d,]+ (bytes|blocks|direct|indirect)|record .*")
SERVER_SOURCE = re.compile(r"/src/(?:backend|common|port)/|/src/include/|/bin/postgres")


def errors_of(report: Path) -> Iterator[list[str]]:
    """An error's lines; a line without text ends it."""
    lines: list[str] = []
    for line in report.read_text(encoding="utf-8", errors="replace").splitlines():
        text = re.sub(r"^==\d+== ?", "", line)
        if text:
            lines.append(text)
        elif lines:
            yield lines
            lines = []
    if lines:
        yield lines


def callers(lines: list[str]) -> list[str]:
    """The files of the first stack, from the inside."""
    files = []
    for line in lines:
        frame = FRAME.match(line)
        if frame:
            files.append(frame.group(1))
        elif line.startswith(("   at ", "   by ")):
            files.append("?")
        elif files:
            break
    return files


def is_ours(lines: list[str], sources: str) -> bool:
    files = callers(lines)
    if "lost in loss record" not in lines[0]:
        return any(name.startswith(sources) for name in files)
    askers = (name for name in files if name.startswith(sources) or SERVER_SOURCE.search(name))
    return next(askers, "").startswith(sources)


def main() -> int:
    sources, *reports = sys.argv[1:]
    found: dict[str, str] = {}
    others = 0
    for report in map(Path, reports):
        for lines in errors_of(report):
            if not callers(lines):
                continue
            if is_ours(lines, sources):
                # The same place in every process is one finding.
                text = "\n".join(lines)
                place = VARYING.sub("", text)
                found.setdefault(place, f"finding, in {report.name}:\n{text}")
            elif "lost in loss record" not in lines[0]:
                others += 1
                print("not payonce's:\n" + "\n".join(lines) + "\n")
    print("\n\n".join(found.values()))
    print(f"{len(reports)} processes, {len(found)} findings, {others} errors elsewhere")
    return 1 if found or not reports else 0


if __name__ == "__main__":
    sys.exit(main())
