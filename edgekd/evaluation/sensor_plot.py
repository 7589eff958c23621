"""Every sensor of a reading, small, over time: gaps and missing values shaded, what is wrong marked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from edgekd.data.gaps import true_runs
from edgekd.data.reading import Reading
from edgekd.data.suspects import Suspect
from edgekd.evaluation.plots import FAINT, INK, LABEL, RED, SCORE, clock_ticks, short, told_apart, write

BINS = 1000
"""Steps in time that are drawn, about one for each pixel of a panel's width."""
ONE_COLUMN = 8
"""Sensors above which panels stand in two columns."""
GAP_SHARE, GAPS_SHARE = 0.03, 0.2
"""Of the width that one gap may take, and all of them: a week without data is drawn no wider."""
OUTLIERS = ("sentinel", "spike")
"""Kinds whose values would flatten all others."""
TICKS = 8
GRAY, PINK = "#d9d9d9", "#f2b5ae"


def plot_sensors(path: Path | str, reading: Reading, found: Sequence[Suspect]) -> None:
    """Draw a reading. The suffix of `path` chooses the format (.png, .svg, .pdf); raises UsageError where it fails."""
    sensors = len(reading.columns)
    across = 1 if sensors <= ONE_COLUMN else 2
    down = -(-sensors // across)
    height, width, top, bottom, gap = (1.15 if across == 1 else 0.75), 15.0, 0.6, 0.35, 0.32
    total = top + down * height + (down - 1) * gap + bottom
    figure = Figure(figsize=(width, total), dpi=110)
    axes = figure.subplots(
        down, across, squeeze=False,
        gridspec_kw={
            "left": 0.05, "right": 0.97, "top": 1 - top / total, "bottom": bottom / total, "hspace": gap / height,
            "wspace": 0.12,
        },
    )  # fmt: skip
    over_time = _TimeAxis(reading)
    panels = axes.T.ravel()  # down the first column, then the second
    names = told_apart([column.name for column in reading.columns], 40)
    for ax, column, name, values in zip(panels, reading.columns, names, reading.values.T):
        wrong = [s for s in found if s.sensor == column.name]
        _draw(ax, over_time, values, column.every, wrong, reading.labels)
        name += f" [{short(column.unit, 12)}]" if column.unit else ""
        ax.set_title(name, loc="left", fontsize=8, color=INK, pad=3)
        words = "; ".join(f"{s.kind}: {s.detail}" for s in wrong)
        words = shorten(words, (190 if across == 1 else 100) - len(name), placeholder=" …")
        ax.set_title(words, loc="right", fontsize=7.5, color=RED, pad=3)
    for ax in panels[sensors:]:
        ax.set_visible(False)
    over_time.label(panels[:sensors], down)
    _heading(figure, reading, found, 1 - 0.2 / total)
    write(figure, path)


class _TimeAxis:
    """Where samples stand: evenly, and apart by their gaps. In bins, each about a pixel wide."""

    def __init__(self, reading: Reading) -> None:
        samples = len(reading.values)
        self._reading = reading
        self._shift = np.zeros(samples)
        widest = samples * min(GAP_SHARE, GAPS_SHARE / max(1, len(reading.gaps)))
        self.gaps = []
        """(left, width) of each."""
        for gap in reading.gaps:
            if gap.sample in reading.starts:  # a shorter one is filled with missing samples
                width = min(gap.seconds / reading.period_s, widest)
                self.gaps.append((gap.sample + float(self._shift[gap.sample]), width))
                self._shift[gap.sample :] += width
        self.width = samples + float(self._shift[-1])
        bins = max(1, min(BINS, int(self.width)))
        edges = np.searchsorted(np.arange(samples) + self._shift, np.linspace(0, self.width, bins + 1)[:-1])
        self._edges, self._filled = edges[edges < samples], np.diff(edges, append=samples) > 0
        self._filled = self._filled[: len(self._edges)]
        self.at = (np.arange(len(self._edges)) + 0.5) * self.width / bins
        """Middle of each bin."""
        self.step = self.width / bins

    def envelope(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest value of each bin, NaN where there is none."""
        low, high = (kind.reduceat(values, self._edges).astype(float) for kind in (np.fmin, np.fmax))
        low[~self._filled] = high[~self._filled] = np.nan
        return low, high

    def bars(self, flags: np.ndarray, whole: bool = False) -> list[tuple[float, float]]:
        """(left, width) of each run of bins with flags, bool (T,): any of them, or all (whole)."""
        flagged = (np.logical_and if whole else np.logical_or).reduceat(flags, self._edges) & self._filled
        least = self.width / 500  # two pixels
        bars = [(a * self.step, (b - a) * self.step) for a, b in true_runs(flagged)]
        return [(left - max(0.0, least - width) / 2, max(width, least)) for left, width in bars]

    def label(self, panels: np.ndarray, down: int) -> None:
        """Time under the last panel of each column."""
        at, labels = self._ticks()
        for i, ax in enumerate(panels):
            last = i == len(panels) - 1 or (i + 1) % down == 0
            ax.set_xlim(0, self.width)
            ax.set_xticks(at, labels if last else [""] * len(at))
            ax.tick_params(axis="x", colors=INK, labelsize=7, length=2)

    def _ticks(self) -> tuple[np.ndarray, list[str]]:
        reading = self._reading
        times_s = reading.times_s if reading.dated else None
        if times_s is None or not self.gaps:
            at, labels = clock_ticks(len(self._shift), reading.period_s, times_s)
            return np.array(at), labels
        samples = np.unique((np.arange(TICKS) + 0.5) * len(times_s) / TICKS).astype(
            int
        )  # full hours may all be in the gaps
        moments = [datetime.fromtimestamp(float(times_s[i]), UTC).strftime("%Y-%m-%d %H:%M") for i in samples]
        return samples + self._shift[samples], moments


def _draw(
    ax: Axes, axis: _TimeAxis, values: np.ndarray, every: int, wrong: Sequence[Suspect], labels: np.ndarray | None
) -> None:
    """One sensor, float32 (T,)."""
    marked = np.zeros(len(values), bool)
    for suspect in wrong:
        for start, end in suspect.ranges if suspect.kind not in ("empty", "late") else ():
            marked[start:end] = True
    for bars, color in (
        (axis.gaps, GRAY),
        (axis.bars(np.isnan(values), whole=True) if every == 1 else [], GRAY),
        (axis.bars(labels) if labels is not None else [], LABEL),
        (axis.bars(marked), PINK),
    ):
        ax.broken_barh(bars, (0, 1), transform=ax.get_xaxis_transform(), color=color, linewidth=0, zorder=0)
    if any(s.kind in OUTLIERS for s in wrong):
        values = np.where(marked, np.nan, values)
    low, high = axis.envelope(values)
    shown = np.flatnonzero(np.isfinite(low)) if every > 1 else np.arange(len(low))
    ax.fill_between(axis.at[shown], low[shown], high[shown], color=SCORE, alpha=0.35, linewidth=0)
    ax.plot(axis.at[shown], (low[shown] + high[shown]) / 2, color=SCORE, linewidth=0.8)
    if len(there := low[np.isfinite(low)]):
        least, most = float(there.min()), float(np.nanmax(high))
        room = 0.08 * (most - least) or max(1.0, 0.05 * abs(most))
        ax.set_ylim(least - room, most + room)
        ax.set_yticks(*zip(*((v, f"{v:.4g}") for v in dict.fromkeys((least, most)))))
    ax.tick_params(axis="y", colors=INK, labelsize=7, length=2)
    for spine in ax.spines.values():
        spine.set_color(FAINT)


def _heading(figure: Figure, reading: Reading, found: Sequence[Suspect], at: float) -> None:
    sensors = f"{len(reading.columns)} sensor{'s' * (len(reading.columns) > 1)}"
    title = f"{short(reading.source, 60)}: {len(reading.values):,} samples of {sensors}"
    figure.text(0.05, at, title, fontsize=11, color=INK, va="center")
    handles = [Patch(color=GRAY, label="no data")] if reading.gaps or np.isnan(reading.values).any() else []
    if reading.labels is not None and reading.labels.any():
        handles.append(Patch(color=LABEL, label="labeled anomaly"))
    if any(s.ranges for s in found):
        handles.append(Patch(color=PINK, label="what is wrong"))
    figure.legend(handles=handles, loc="center right", bbox_to_anchor=(0.99, at), ncols=3, frameon=False, fontsize=8)
