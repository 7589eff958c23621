"""What was read of a table, before it becomes a recording: `edgekd look` tells it, methods train on it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgekd.data.gaps import hold
from edgekd.data.recording import Recording
from edgekd.runtime.layout import Layout


@dataclass(frozen=True)
class Column:
    """One sensor, as far as its float32 values no longer show it."""

    name: str
    unit: str = ""
    largest: float = 0.0
    """Of |value|, as written."""
    least_step: float = 0.0
    """Smallest difference of two samples that differ, as written; 0: never."""
    every: int = 1
    """It says something every so many samples only, and is held between."""


@dataclass(frozen=True)
class TimeGap:
    """Time that is missing before a sample."""

    sample: int
    seconds: float


@dataclass
class Reading:
    """One table: samples in the order of time, one a period, missing values still missing."""

    source: str
    """Name for messages, never an absolute path."""
    layout: Layout
    """All that was found or told, complete enough for a device to read the same."""
    columns: tuple[Column, ...]
    """n sensors."""
    values: np.ndarray
    """float32 (T, n), NaN where a value is missing; steps where the layout says `difference`."""
    period_s: float
    times_s: np.ndarray | None = None
    """float64 (T,), since 1970 or since the first sample."""
    dated: bool = False
    """Whether `times_s` is since 1970 (UTC)."""
    labels: np.ndarray | None = None
    """bool (T,)"""
    starts: tuple[int, ...] = (0,)
    """First sample of each entity."""
    entities: tuple[str, ...] = ("",)
    even: float = 1.0
    """Share of the steps in time that are within half a period of one."""
    gaps: tuple[TimeGap, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    """Column: why it is no sensor."""
    notes: list[str] = field(default_factory=list)
    """What was guessed, mended or left out, a line each. An ordinary file has none."""

    def recording(self) -> Recording:
        """What methods train on: missing values are held, within an entity. `values` is filled in place."""
        hold(self.values, self.starts)
        return self.as_read()

    def as_read(self) -> Recording:
        """The same with what is missing still missing."""
        every = max(column.every for column in self.columns)
        return Recording(
            values=self.values,
            sensors=tuple(column.name for column in self.columns),
            period_s=self.period_s,
            labels=self.labels,
            starts=self.starts,
            entities=self.entities,
            times_s=self.times_s if self.dated else None,
            source=self.source,
            units=tuple(column.unit for column in self.columns) if any(column.unit for column in self.columns) else (),
            layout=self.layout,
            held_samples=every if every > 1 else 0,
            notes=tuple(self.notes),
        )
