"""Measures what each driver costs in one thread: building and signing a refund's request, verifying
and reading its answer (drivers.cpp), beside what one RSA private operation costs.
"""

from __future__ import annotations

import json
import re
import subprocess
import typing
from pathlib import Path

from measurement import Measurement
from options import Options
from progress import Progress

OPERATION = "rsa2048_private_operation"


def openssl_signatures_per_s(seconds: int) -> float:
    """As OpenSSL's own program counts them."""
    said = subprocess.run(["openssl", "speed", "-seconds", str(seconds), "rsa2048"],
                          capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    found = re.search(r"^rsa 2048 .* ([0-9.]+) +[0-9.]+$", said.stdout, flags=re.MULTILINE)
    if found is None:
        raise RuntimeError(f"openssl speed said {said.stdout}")
    return float(found[1])


def runs_ns(program: Path, options: Options) -> dict[str, list[float]]:
    """Processor time of each operation in each repetition."""
    said = subprocess.run(
        [str(program), f"--benchmark_repetitions={1 if options.quick else 5}",
         f"--benchmark_min_time={0.05 if options.quick else 0.2}", "--benchmark_format=json"],
        capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    runs: dict[str, list[float]] = {}
    for run in json.loads(said.stdout)["benchmarks"]:
        if run.get("run_type") == "iteration":
            if run.get("error_occurred"):
                raise RuntimeError(f"{run['name']}: {run['error_message']}")
            runs.setdefault(run["run_name"], []).append(run["cpu_time"])
    return runs


def measure_drivers(program: Path, options: Options, progress: Progress) -> \
        typing.Iterator[Measurement]:
    progress.doing("drivers")
    runs = runs_ns(program, options)
    rsa_per_s = openssl_signatures_per_s(1 if options.quick else 2)
    for wrapper in sorted({name.split("/")[0] for name in runs if "/" in name}):
        build, read = runs[f"{wrapper}/build"], runs[f"{wrapper}/read"]
        yield Measurement(
            "drivers", wrapper, {"openssl_rsa2048_per_s": rsa_per_s}, "refunds/s in one thread", "both",
            {
                "both": [1e9 / (b + r) for b, r in zip(build, read, strict=True)],
                "build": [1e9 / b for b in build],
                "read": [1e9 / r for r in read],
                "rsa2048": [1e9 / ns for ns in runs[OPERATION]],
            })
