"""What the figures were measured on, and how busy it was."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import time
import typing
from pathlib import Path

from database import Database

FLUSHES = 100


def cpu_model() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    return found[1] if found else platform.machine()


def flush_ms(folder: Path) -> float:
    """How long the disk under the server takes to make 8 kB durable: the median of many."""
    path = folder / "flush"
    took = []
    with open(path, "wb") as file:
        file.write(b"\0" * 8192 * 2)
        for _ in range(FLUSHES):
            file.seek(0)
            file.write(os.urandom(8192))
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - start) * 1000)
    path.unlink()
    return statistics.median(took)


def file_system(folder: Path) -> str:
    return subprocess.run(["stat", "--file-system", "--format=%T", str(folder)], capture_output=True,
                          text=True, check=True).stdout.strip()


def describe(database: Database, folder: Path) -> dict[str, typing.Any]:
    return {
        "cpu": cpu_model(),
        "processors": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "postgresql": database.value("SHOW server_version"),
        "shared_buffers": database.value("SHOW shared_buffers"),
        "file_system": file_system(folder),
        "flush_ms": round(flush_ms(folder), 3),
        "load_at_start": os.getloadavg()[0],
    }


def warnings(machine: dict[str, typing.Any]) -> list[str]:
    said = []
    if machine["file_system"] in ("tmpfs", "ramfs") or machine["flush_ms"] < 0.02:
        said.append("the work directory's disk flushes nothing: figures with fsync are as without;"
                    " TMPDIR or PAYONCE_WORK_DIR names another")
    if machine["load_at_start"] > 0.5 * machine["processors"]:
        said.append(f"the machine is busy (load {machine['load_at_start']:.1f}): absolute figures"
                    " are too low, and ratios noisy")
    return said
