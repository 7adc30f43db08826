"""What the bench says while it works: a line that changes on a terminal; elsewhere results, and a sign
of life every minute.
"""

from __future__ import annotations

import sys
import time


SILENCE_S = 60


class Progress:
    """Prints results, and in between what is being done and for how long the whole has run."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._said_at = self._start
        self._is_terminal = sys.stdout.isatty()

    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    def doing(self, what: str) -> None:
        minutes, seconds = divmod(int(self.elapsed_s()), 60)
        line = f"  {minutes}:{seconds:02d}  {what}"
        if self._is_terminal:
            sys.stdout.write(f"\r\x1b[K{line:.76}")
            sys.stdout.flush()
        elif time.monotonic() - self._said_at >= SILENCE_S:
            self.say(line)

    def say(self, line: str = "") -> None:
        if self._is_terminal:
            sys.stdout.write("\r\x1b[K")
        print(line, flush=True)
        self._said_at = time.monotonic()
