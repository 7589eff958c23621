"""The comparison as tables for people, at most 110 columns wide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from edgekd.compare.machine import in_words
from edgekd.runtime.step_cost import microseconds

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], str]]


def render(result: dict[str, Any]) -> Group:
    """Size and start, speed, quality where it was measured; then the machine and what to keep in mind."""
    rows = result["rows"]
    parts: list[Table | Text] = [Text("Size and start", style="italic"), _table(rows, SIZE), Text("")]
    parts += [Text("Speed, one thread each, in turn", style="italic"), _table(rows, SPEED), Text("")]
    if result["data"]:
        parts += [Text(f"Detection on {result['data']['source']}", style="italic"), _table(rows, QUALITY), Text("")]
    notes = _notes(result)
    return Group(*parts, Text(in_words(result["machine"]), style="dim"), *(Text(note, style="dim") for note in notes))


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("")
    for header, _ in columns:
        table.add_column(header, justify="right")
    for row in rows:
        table.add_row(Text(row["name"]), *(cell(row) for _, cell in columns))
    return table


def _count(key: str) -> Callable[[Row], str]:
    return lambda row: "-" if row[key] is None else f"{row[key]:,}"


def _bytes(row: Row) -> str:
    return f"{row['weights_bytes'] or row['file_bytes']:,}"


def _ratio(row: Row) -> str:
    if row["step_to_teacher"] is None:
        return "1" if row["kind"] == "teacher" else "-"
    return f"{row['step_to_teacher']:.2g}"


def _proof(key: str, style: str) -> Callable[[Row], str]:
    return lambda row: "-" if not row["parity"] or row["parity"][key] is None else format(row["parity"][key], style)


def _start(row: Row) -> str:
    return "-" if row["cold_start_s"] is None else f"{row['cold_start_s']:.2f} s"


def _memory(row: Row) -> str:
    return "-" if row["peak_rss_bytes"] is None else f"{row['peak_rss_bytes'] / 2**20:.0f} MiB"


def _vus(row: Row) -> str:
    q = row["quality"]
    return "-" if q["vus_pr"] is None else f"{q['vus_pr']:.3f}"


def _random(row: Row) -> str:
    q = row["quality"]
    return "-" if q["vus_pr_random"] is None else f"{q['vus_pr_random']:.3f} ± {q['vus_pr_random_sd']:.3f}"


def _events(row: Row) -> str:
    q = row["quality"]
    return "-" if q["events"] is None else f"{q['events_found']} of {q['events']}"


def _alarms(row: Row) -> str:
    rate = row["quality"]["false_alarms_per_day"]
    return "-" if rate is None else f"{rate:.2f}"


SIZE: tuple[Column, ...] = (
    ("parameters", _count("parameters")),
    ("multiply-adds a step", _count("multiply_adds")),
    ("bytes", _bytes),
    ("state bytes", _count("state_bytes")),
    ("cold start", _start),
    ("peak memory", _memory),
)
SPEED: tuple[Column, ...] = (
    ("step µs", lambda row: microseconds(row["step_us"]["p50"])),
    ("p99", lambda row: microseconds(row["step_us"]["p99"])),
    ("µs a sample", lambda row: microseconds(row["us_per_sample"])),
    ("of the teacher", _ratio),
    ("worst error", _proof("max_score_error", ".1e")),
    ("rank corr.", _proof("rank_correlation", ".5f")),
    ("changed", _proof("changed_decisions", ".2%")),
)
QUALITY: tuple[Column, ...] = (
    ("VUS-PR", _vus),
    ("of random scores", _random),
    ("events found", _events),
    ("false alarms/day", _alarms),
)


def _notes(result: dict[str, Any]) -> list[str]:
    """What the figures mean, for those rows that there are."""
    rows = result["rows"]
    notes = ["A step is the whole detector, its state handed back; cold start is a new process up to its first score."]
    if any(row["weights_bytes"] for row in rows):
        notes.append("Bytes of torch rows are the weights alone; a checkpoint also carries normal samples.")
    if any(row["parity"] for row in rows):
        against = sorted({row["parity"]["against"] for row in rows if row["parity"]})
        steps = next(row["parity"]["steps"] for row in rows if row["parity"])
        notes.append(f"Error and correlation: scores against {', '.join(against)} over {steps:,} steps of this run.")
        notes.append("Changed: decisions that differ, each model at its own threshold.")
    return [*notes, *(f"note: {note}" for note in result["notes"])]
