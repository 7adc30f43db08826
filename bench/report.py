"""The results as tables: aligned for a terminal, or in Markdown."""

from __future__ import annotations

import typing

from measurement import Measurement

Cell = str


class Table(typing.NamedTuple):
    """A heading, the columns' names, and rows of cells."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


def times(ratio: float) -> Cell:
    return f"{ratio:.2f} ×"


def number(value: float) -> Cell:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def on_off(value: bool) -> Cell:
    return "on" if value else "off"


def callbacks_table(found: list[Measurement]) -> Table:
    others = ("plpgsql", "statement", "application", "floor")
    rows = []
    for m in found:
        ratios = [times(m.ratio(other)) if other in m.figures else "" for other in others]
        rows.append((m.title, on_off(m.setting["fsync"]), str(m.setting["clients"]),
                     number(m.median("payonce")), *ratios))
    return Table("pay_callback, as a multiple of what decides the same",
                 ("case", "fsync", "clients", "callbacks/s", "plpgsql function", "one SQL statement",
                  "application", "floor (bare writes)"), rows)


def batch_table(found: list[Measurement]) -> Table:
    others = ("batch10", "batch100", "batch1000", "plpgsql_batch100")
    rows = [(on_off(m.setting["fsync"]), str(m.setting["clients"]), number(m.median("payonce")),
             *(times(m.ratio("payonce", of=other)) for other in others)) for m in found]
    return Table("pay_callback_batch, as a multiple of single calls",
                 ("fsync", "clients", "single calls/s", "batches of 10", "of 100", "of 1000",
                  "plpgsql function, 100 in a transaction"), rows)


def dispatch_table(found: list[Measurement]) -> Table:
    rows = []
    for m in found:
        limit = times(m.ratio("limit")) if "limit" in m.figures else ""
        rows.append((f"{m.setting['delay_ms']} ms" if m.setting["delay_ms"] else "at once",
                     str(m.setting["in_flight"]), number(m.median("payonce")),
                     times(m.ratio("curl_multi")), times(m.ratio("wrk")), limit))
    return Table("refunds a second, claimed, sent, answered and recorded, fsync on",
                 ("nginx answers", "in flight", "refunds/s", "bare curl-multi client", "wrk",
                  "in flight / delay"), rows)


def latency_table(found: list[Measurement]) -> Table:
    rows = [(f"{m.setting['delay_ms']} ms" if m.setting["delay_ms"] else "at once",
             *(f"{m.median(name):.1f}" for name in ("p50", "p99", "max"))) for m in found]
    return Table("from a callback's commit to the request on the wire, ms",
                 ("nginx answers", "p50", "p99", "max"), rows)


def drivers_table(found: list[Measurement]) -> Table:
    rows = []
    for m in found:
        signs = m.title in ("payonce_wechat", "payonce_alipay")
        rows.append((m.title, number(m.median("build")), number(m.median("read")),
                     number(m.median("both")),
                     f"{m.ratio('rsa2048'):.0%}" if signs else ""))
    rsa = found[0]
    rows.append((f"RSA 2048, private operation alone; {number(rsa.setting['openssl_rsa2048_per_s'])}"
                 " by `openssl speed`", "", "", number(rsa.median("rsa2048")), ""))
    return Table("refunds a second that a driver can handle in one thread",
                 ("driver", "build, sign", "verify, read", "both", "of RSA's limit"), rows)


def flatness_table(found: list[Measurement]) -> Table:
    rows = [(m.title, number(m.median("empty")), times(m.ratio("empty", of="history")),
             times(m.ratio("empty", of="pinned"))) for m in found]
    setting = found[0].setting
    return Table("with history, as a multiple of an empty database, fsync off",
                 ("case", "empty, per second",
                  f"{setting['payments']:,} payments, {setting['refunds']:,} finished refunds",
                  "xmin horizon pinned"), rows)


MAKERS: tuple[tuple[tuple[str, ...], typing.Callable[[list[Measurement]], Table]], ...] = (
    (("first", "duplicates", "repeated", "hot"), callbacks_table),
    (("batch",), batch_table),
    (("dispatch",), dispatch_table),
    (("latency",), latency_table),
    (("drivers",), drivers_table),
    (("flatness",), flatness_table),
)


def tables(measurements: list[Measurement]) -> list[Table]:
    made = []
    for cases, make in MAKERS:
        found = [m for m in measurements if m.case in cases]
        if found:
            made.append(make(found))
    return made


def as_text(table: Table) -> str:
    lines = [table.columns, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]
    text = [table.title]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        text.append("  " + "  ".join(cells).rstrip())
    return "\n".join(text)


def as_markdown(table: Table) -> str:
    lines = [f"**{table.title}**", "", "| " + " | ".join(table.columns) + " |",
             "| --- |" + " ---: |" * (len(table.columns) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in table.rows]
    return "\n".join(lines)


def machine_line(machine: dict[str, typing.Any]) -> str:
    return (f"{machine['cpu']}, {machine['processors']} processors, {machine['memory_gb']} GB,"
            f" Linux {machine['kernel']}, PostgreSQL {machine['postgresql']}; one flush of 8 kB takes"
            f" {machine['flush_ms']} ms ({machine['file_system']})")


def markdown(machine: dict[str, typing.Any], measurements: list[Measurement]) -> str:
    parts = [machine_line(machine) + ".", *(as_markdown(table) for table in tables(measurements))]
    return "\n\n".join(parts) + "\n"
