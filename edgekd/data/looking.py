"""What was read of a file, for people and as JSON: `edgekd look`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from edgekd.data.gaps import true_runs
from edgekd.data.reading import Column, Reading
from edgekd.data.save import layout_fields
from edgekd.data.suspects import KINDS, Suspect, all_notes, options_of, remedy
from edgekd.runtime.duration import duration
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import Layout

LISTED = 4
"""Gaps, entities or words that a line names before it only counts."""
RANGES = 100
"""Ranges of one suspect that JSON gives."""
EVEN = 0.9
"""Share of the steps in time below which rows are said to come unevenly."""
_SEPARATORS = {"\t": "tabs", " ": "blanks", ",": "commas", ";": "semicolons", "|": "bars"}


def next_command(data: str, given: Sequence[str], reading: Reading, found: Sequence[Suspect]) -> str:
    """The command line to go on with.

    data: the argument as the user wrote it. given: options of the same reading that the user gave.
    """
    options = [*given, *options_of([s for s in found if s.option[0] != "--resample"])]
    if reading.even < EVEN and "--resample" not in given:
        options += ["--resample", "mean"]
    if reading.labels is not None and reading.labels.any():
        return " ".join(["edgekd evaluate student.pt", shlex.quote(data), *options])
    return " ".join(["edgekd distill", shlex.quote(data), *options, "-o student.pt"])


def to_json(reading: Reading, found: Sequence[Suspect], following: str) -> dict[str, Any]:
    """All of it. following: the next command."""
    labels = reading.labels
    return {
        "source": reading.source,
        "samples": len(reading.values),
        "period_s": reading.period_s,
        "even": round(reading.even, 4),
        "start": _start(reading),
        "gaps": [{"sample": gap.sample, "seconds": gap.seconds} for gap in reading.gaps],
        "entities": [{"name": name, "start": a, "samples": b - a} for name, a, b in _entities(reading)],
        "sensors": [_sensor(column, values) for column, values in zip(reading.columns, reading.values.T)],
        "left_out": reading.left_out,
        "labels": None if labels is None else {"events": len(true_runs(labels)), "share": float(labels.mean())},
        "layout": layout_fields(reading.layout),
        "notes": all_notes(reading.notes, found),
        "suspects": [
            {"sensor": s.sensor, "kind": s.kind, "words": s.words, "ranges": s.ranges[:RANGES]} for s in found
        ],
        "next": following,
    }  # fmt: skip


def _sensor(column: Column, values: np.ndarray) -> dict[str, Any]:
    low, middle, high, missing = _range(values)
    facts = {"min": low, "median": middle, "max": high, "missing": missing, "every": column.every}
    return {"name": column.name, "unit": column.unit, **facts}


def render(reading: Reading, found: Sequence[Suspect], following: str) -> Group:
    """The same for a rich console."""
    lines = [_headline(reading), f"layout: {in_words(reading.layout)}", *_about_time(reading), *_about_rows(reading)]
    notes = [Text(f"note: {shown(note, 400)}") for note in reading.notes]
    after = [Text(f"\nnext: {following}", style="bold")]
    return Group(*map(Text, lines), Text(), _table(reading, found), Text(), *notes, *after)


def in_words(layout: Layout) -> str:
    """A layout in one line."""
    words = [layout.form or "table"]
    if layout.separator:
        words.append(f"separated by {_SEPARATORS[layout.separator]}")
    if layout.decimal == ",":
        words.append("decimal commas")
    if layout.thousands:
        words.append(f"thousands by '{layout.thousands}'")
    if layout.encoding not in ("", "utf-8"):
        words.append(layout.encoding)
    if layout.skip:
        words.append(f"{layout.skip} lines above the rows")
    if layout.time:
        form = "ISO 8601" if layout.time_format in ("", "iso") else layout.time_format
        words.append(f"time in {' and '.join(map(repr, layout.time))} as {form}")
        words += [layout.timezone] * bool(layout.timezone)
    if layout.sort:
        words.append("rows not in order")
    if layout.tag:
        words.append(f"sensors named in {layout.tag!r}, values in {layout.value!r}")
    told = {"missing": layout.missing, "units": layout.suffixes, "steps of": layout.difference, "only": layout.only}
    words += [f"{name} {', '.join(map(str, each[:LISTED]))}" for name, each in told.items() if each]
    words += [f"{name} {each}" for name, each in (("group", layout.group), ("resampled by", layout.resample)) if each]
    return shown(", ".join(words), 400)


def _headline(reading: Reading) -> str:
    samples, period_s = len(reading.values), reading.period_s
    every = f"{1 / period_s:g} a second" if period_s < 1 else f"one in {duration(period_s)}"
    span = ""
    if reading.times_s is not None and reading.dated:
        first, last = (_when(float(reading.times_s[i])) for i in (0, -1))
        asked = "; --timezone tells another zone" if _says_no_zone(reading.layout) else ""
        span = f", {first} to {last} UTC{asked}"
    lasting = duration(samples * period_s)
    return f"{shown(reading.source)}: {samples:,} samples of {len(reading.columns)} sensors, {every} ({lasting}){span}"


def _says_no_zone(layout: Layout) -> bool:
    """Whether labels may be of a clock at the plant: they are words, and hold no zone by their format."""
    words = layout.time_format == "iso" or ("%" in layout.time_format and "%z" not in layout.time_format)
    return words and not layout.timezone and not layout.time_format.endswith(("Z", "UTC", "GMT"))


def _about_time(reading: Reading) -> list[str]:
    """Regularity and gaps, where there is something to say."""
    lines = []
    if reading.times_s is None:
        lines.append("time: none in the file")
    elif reading.even < 1:
        lines.append(f"time: {reading.even:.1%} of the steps are {duration(reading.period_s)}")
    if reading.gaps:
        longest = sorted(reading.gaps, key=lambda gap: -gap.seconds)[:LISTED]
        words = [
            f"{duration(gap.seconds)} before sample {gap.sample:,}" for gap in sorted(longest, key=lambda g: g.sample)
        ]
        count = len(reading.gaps)
        lines.append(f"{count:,} gap{'s' * (count > 1)}: {', '.join(words)}{' …' * (count > LISTED)}")
    return lines


def _about_rows(reading: Reading) -> list[str]:
    """Machines, or parts between gaps, and labels."""
    lines = []
    entities = _entities(reading)
    if len(entities) > 1:
        words = [f"{shown(name) or f'from sample {a:,}'} ({b - a:,})" for name, a, b in entities[:LISTED]]
        lines.append(f"{len(entities):,} entities: {', '.join(words)}{' …' * (len(entities) > LISTED)}")
    if reading.labels is not None:
        share = float(reading.labels.mean())
        lines.append(f"labels: {len(true_runs(reading.labels)):,} anomalies, {share:.1%} of the samples")
    return lines


def _table(reading: Reading, found: Sequence[Suspect]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for header in ("sensor", "unit"):
        table.add_column(header, overflow="fold")
    for header in ("lowest", "median", "highest", "missing"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("what is wrong", overflow="fold")
    for column, values in zip(reading.columns, reading.values.T):
        low, middle, high, missing = _range(values)
        wrong = [s for s in found if s.sensor == column.name]
        cells = [shown(column.name), shown(column.unit), *(_number(v) for v in (low, middle, high))]
        cells += [f"{missing:.2g}" if 0 < missing < 0.001 else f"{missing:.1%}" if missing else "", _wrong(wrong)]
        table.add_row(*map(Text, cells), style="yellow" if wrong else None)
    return table


def _wrong(found: Sequence[Suspect]) -> str:
    """What is wrong with one sensor."""
    return ". ".join(f"{KINDS[s.kind]}{f' ({s.detail})' if s.detail else ''}{remedy([s])}" for s in found)


def _range(values: np.ndarray) -> tuple[float | None, float | None, float | None, float]:
    """Lowest, median, highest (None without any) and the share that is missing, of float32 (T,)."""
    there = values[np.isfinite(values)]
    missing = 1 - len(there) / max(1, len(values))
    if not len(there):
        return None, None, None, missing
    return float(there.min()), float(np.median(there)), float(there.max()), missing


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e10 else f"{value:,.5g}"


def _entities(reading: Reading) -> list[tuple[str, int, int]]:
    """Name and [start, end) of each."""
    return list(zip(reading.entities, reading.starts, (*reading.starts[1:], len(reading.values))))


def _start(reading: Reading) -> float | None:
    """Seconds since 1970 of the first sample, where the file tells."""
    return float(reading.times_s[0]) if reading.times_s is not None and reading.dated else None


def _when(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
