"""What was measured: for each setting the figures of everything that ran side by side, and ratios.

A ratio is taken between figures of the same round, which were measured within seconds of each other,
and is the median of those of all rounds: what disturbs the machine for a while hits both.
"""

from __future__ import annotations

import dataclasses
import statistics
import typing


@dataclasses.dataclass
class Measurement:
    """A case under one setting. `figures` has a figure for each round of each that ran."""

    case: str
    title: str
    setting: dict[str, typing.Any]
    unit: str
    # Whose figure is divided by that of each other one.
    subject: str
    figures: dict[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.figures[name])

    def ratios(self, other: str, of: str | None = None) -> list[float]:
        pairs = zip(self.figures[of or self.subject], self.figures[other], strict=True)
        return [mine / theirs for mine, theirs in pairs if theirs > 0]

    def ratio(self, other: str, of: str | None = None) -> float:
        """Of the subject, or of another, to another."""
        return statistics.median(self.ratios(other, of) or [0.0])

    def others(self) -> list[str]:
        return [name for name in self.figures if name != self.subject]

    def as_json(self) -> dict[str, typing.Any]:
        return {
            **dataclasses.asdict(self),
            "medians": {name: self.median(name) for name in self.figures},
            "ratios": {
                other: {
                    "median": self.ratio(other),
                    "lowest": min(self.ratios(other), default=0.0),
                    "highest": max(self.ratios(other), default=0.0),
                }
                for other in self.others()
            },
        }


def in_turns(names: typing.Sequence[str], round_number: int) -> list[str]:
    """The order of a round: each round begins with another, so that no place is always the same one's."""
    start = round_number % len(names)
    return [*names[start:], *names[:start]]
