"""The results as one SVG: a panel for each case, in which bars are compared with the one that counts
as 1. Written by hand, so that it needs no library, and readable without colours: each bar says whose
it is and how long.
"""

from __future__ import annotations

import dataclasses
import typing
from xml.sax.saxutils import escape

from measurement import Measurement

WIDTH = 1100
COLUMNS = 2
MARGIN = 20
PANEL_WIDTH = (WIDTH - MARGIN * (COLUMNS + 1)) // COLUMNS
LABEL_WIDTH = 190
BAR_HEIGHT = 13
GROUP_GAP = 10
HEAD_HEIGHT = 44
LONGEST = 1.5  # bars end here; their figure says by how much they go on
PLAIN, OURS, BOUND = "#9db4c8", "#0b6e4f", "#d9c28f"


class Bar(typing.NamedTuple):
    """One figure."""

    label: str
    length: float
    colour: str
    # Beside the bar, where the length alone does not say it.
    remark: str = ""


class Group(typing.NamedTuple):
    """Figures that were measured side by side."""

    label: str
    bars: list[Bar]


@dataclasses.dataclass
class Panel:
    """One case."""

    title: str
    subtitle: str
    groups: list[Group]

    def height(self) -> int:
        bars = sum(len(group.bars) for group in self.groups)
        return HEAD_HEIGHT + bars * BAR_HEIGHT + len(self.groups) * (BAR_HEIGHT + GROUP_GAP) + 10


TITLES = {
    "payonce": "pay_callback", "plpgsql": "plpgsql function", "statement": "one SQL statement",
    "application": "application", "floor": "floor: bare writes", "curl_multi": "bare curl-multi client",
    "wrk": "wrk", "limit": "in flight / delay", "batch10": "batches of 10", "batch100": "batches of 100",
    "batch1000": "batches of 1000", "plpgsql_batch100": "plpgsql, 100 at once",
    "empty": "empty", "history": "with history", "pinned": "horizon pinned",
}


def bars_of(m: Measurement, unit_name: str, ours: typing.Collection[str],
            titles: dict[str, str] | None = None) -> list[Bar]:
    """All figures of a measurement, with that of `unit_name` as 1."""
    bars = []
    for name in m.figures:
        colour = OURS if name in ours else BOUND if name in ("floor", "limit") else PLAIN
        remark = f"{m.median(name):,.0f} {m.unit}" if name == unit_name else ""
        bars.append(Bar({**TITLES, **(titles or {})}[name], m.ratio(unit_name, of=name), colour, remark))
    return bars


def callback_panels(measurements: list[Measurement]) -> list[Panel]:
    panels = []
    for case in ("first", "duplicates", "repeated", "hot"):
        found = [m for m in measurements if m.case == case]
        if found:
            groups = [Group(f"fsync {'on' if m.setting['fsync'] else 'off'}, {m.setting['clients']}"
                            f" client{'s' if m.setting['clients'] > 1 else ''}",
                            bars_of(m, "payonce", ["payonce"])) for m in found]
            panels.append(Panel(f"Callbacks: {found[0].title}",
                                "callbacks a second; pay_callback = 1", groups))
    return panels


def other_panels(measurements: list[Measurement]) -> list[Panel]:
    panels = []
    batch = [m for m in measurements if m.case == "batch"]
    if batch:
        groups = [Group(f"fsync {'on' if m.setting['fsync'] else 'off'}, {m.setting['clients']} clients",
                        bars_of(m, "batch100", ["batch10", "batch100", "batch1000"],
                                {"payonce": "single calls"})) for m in batch]
        panels.append(Panel("Batches", "callbacks a second; batches of 100 = 1", groups))
    dispatch = [m for m in measurements if m.case == "dispatch"]
    if dispatch:
        groups = [Group(f"nginx answers after {m.setting['delay_ms']} ms,"
                        f" {m.setting['in_flight']} in flight",
                        bars_of(m, "curl_multi", ["payonce"], {"payonce": "payonce, recorded"}))
                  for m in dispatch]
        panels.append(Panel("Dispatch", "refunds or requests a second; bare curl-multi client = 1",
                            groups))
    flat = [m for m in measurements if m.case == "flatness"]
    if flat:
        groups = [Group(m.title, bars_of(m, "empty", ["history", "pinned"])) for m in flat]
        panels.append(Panel(f"History: {flat[0].setting['payments']:,} payments",
                            "per second; an empty database = 1", groups))
    return panels


def text(x: float, y: float, content: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}>{escape(content)}</text>'


def draw_bar(bar: Bar, x: float, y: float) -> list[str]:
    scale = (PANEL_WIDTH - LABEL_WIDTH - 60) / LONGEST
    length = min(bar.length, LONGEST) * scale
    figure = f"{bar.length:.2f}" + (" →" if bar.length > LONGEST else "")
    if bar.remark:
        figure += f"  ({bar.remark})"
    start = x + LABEL_WIDTH
    return [text(start - 6, y + 10, bar.label, ' text-anchor="end"'),
            f'<rect x="{start:.1f}" y="{y + 1:.1f}" width="{max(length, 1):.1f}"'
            f' height="{BAR_HEIGHT - 2}" fill="{bar.colour}"/>',
            text(start + length + 4, y + 10, figure)]


def draw_panel(panel: Panel, x: float, y: float) -> list[str]:
    parts = [text(x, y + 14, panel.title, ' class="title"'), text(x, y + 30, panel.subtitle, ' class="sub"')]
    at = y + HEAD_HEIGHT
    for group in panel.groups:
        parts.append(text(x, at + 10, group.label, ' class="group"'))
        at += BAR_HEIGHT
        for bar in group.bars:
            parts += draw_bar(bar, x, at)
            at += BAR_HEIGHT
        at += GROUP_GAP
    one = x + LABEL_WIDTH + (PANEL_WIDTH - LABEL_WIDTH - 60) / LONGEST
    parts.append(f'<line x1="{one:.1f}" y1="{y + HEAD_HEIGHT - 4:.1f}" x2="{one:.1f}"'
                 f' y2="{at - GROUP_GAP:.1f}" stroke="#444" stroke-dasharray="3 3"/>')
    return parts


def svg(subtitle: str, measurements: list[Measurement]) -> str:
    panels = callback_panels(measurements) + other_panels(measurements)
    heights = [70] * COLUMNS
    parts = []
    for panel in panels:
        column = heights.index(min(heights))
        parts += draw_panel(panel, MARGIN + column * (PANEL_WIDTH + MARGIN), heights[column])
        heights[column] += panel.height() + MARGIN
    height = max(heights) + MARGIN
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11" fill="#222">',
        "<style>.head{font-size:18px;font-weight:bold}.title{font-size:14px;font-weight:bold}"
        ".sub{fill:#555}.group{font-weight:bold}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        text(MARGIN, 28, "payonce, measured side by side", ' class="head"'),
        text(MARGIN, 48, subtitle, ' class="sub"'), *parts, "</svg>"]) + "\n"
