"""What the bench says while it works: a line that changes on a terminal; elsewhere only results."""

from __future__ import annotations

import sys
import time


class Progress:
    """Prints results, and in between what is being done and for how long the whole has run."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._is_terminal = sys.stdout.isatty()

    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    def doing(self, what: str) -> None:
        if self._is_terminal:
            minutes, seconds = divmod(int(self.elapsed_s()), 60)
            sys.stdout.write(f"\r\x1b[K  {minutes}:{seconds:02d}  {what}"[:110])
            sys.stdout.flush()

    def say(self, line: str = "") -> None:
        if self._is_terminal:
            sys.stdout.write("\r\x1b[K")
        print(line, flush=True)
