"""Pictures of a detector at work: the score over time, and quality against cost.

Drawn for files (Agg), legible at any length: what falls into one column of pixels is drawn by its largest value, and a
labeled segment is never thinner than a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from edgekd.data.recording import Recording
from edgekd.evaluation.events import Events, check_verdicts, find_events, runs, verdict_points
from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import atomic

COLUMNS = 1400  # time bins, about one for each pixel of the plotted width
TOP_SENSORS = 6  # rows of the strip, as many as a glance takes in
LOG_ABOVE = 30.0  # a peak this many times the median would flatten everything else on a linear axis
NAMED_ENTITIES = 16  # more names than this would overlap
THINNEST = 1 / 700  # of the width: two pixels
TITLE = 62  # characters, as many as fit beside the legend
CLOCK_STEPS_S = (
    *(unit * count for unit in (1, 60) for count in (1, 2, 5, 10, 15, 30)),
    *(3600 * hours for hours in (1, 2, 3, 6, 12, 24, 48, 168)),
)
CLOCK_TICKS = 9  # more labels than this would meet

INK, FAINT = "#333333", "#c9c9c9"
SCORE, RED, GREEN, LABEL = "#1f5fa8", "#c0392b", "#2a7f3f", "#f5d58a"


def plot_scores(
    path: Path | str,
    recording: Recording,
    verdict_samples: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    contributions: np.ndarray | None = None,
    title: str = "",
    hop: int | None = None,
    slow: np.ndarray | None = None,
) -> None:
    """Draw a detector's score over a recording, its alarms, the labels and the sensors behind them.

    verdict_samples: int (V,); scores: float (V,); contributions: float (V, n) or None; hop: samples that a verdict
    speaks for, by default the usual step between verdicts; slow: float (V,), slow scores, which alarm above 1, or None.
    An event is found by either. The suffix of `path` chooses the format (.png, .svg, .pdf).
    Raises UsageError where verdicts and recording do not fit.
    """
    samples, scores = check_verdicts(verdict_samples, scores, len(recording))
    if contributions is not None and contributions.shape != (len(samples), recording.n_sensors):
        raise UsageError(
            f"contributions {contributions.shape}, but {len(samples)} verdicts of {recording.n_sensors} sensors"
        )
    hop = hop or (int(np.median(np.diff(samples))) if len(samples) > 1 else 1)
    lanes = {"alarms": scores > threshold} | ({} if slow is None else {"slow alarms": slow > 1})
    positive = np.logical_or.reduce(list(lanes.values()))
    events = (
        None if recording.labels is None else find_events(recording.labels, samples, positive, hop, recording.starts)
    )

    figure, axes = _panels([3.4, 0.3 * len(lanes)] + ([1.5] if contributions is not None else []))
    _draw_score(axes[0], recording, samples, scores, threshold, events)
    _draw_alarms(axes[1], recording, samples, lanes, hop, events)
    if contributions is not None:
        _draw_contributions(axes[2], recording, samples, scores, contributions, threshold)
    _time_axis(axes[0], axes[-1], recording)
    axes[0].set_title(short(title, TITLE), loc="left", fontsize=12, color=INK, y=1.0, pad=24)
    write(figure, path)


def _panels(heights: list[float]) -> tuple[Figure, np.ndarray]:
    """A figure with panels of these heights in inches, one above the other over one time axis.

    The margins are fixed: they fit the longest names that are drawn, and the panels of two plots then line up.
    """
    width, left, right, top, bottom, gap = 14.0, 1.55, 0.85, 0.7, 0.6, 0.13
    total = top + sum(heights) + gap * (len(heights) - 1) + bottom
    figure = Figure(figsize=(width, total), dpi=110)
    axes = figure.subplots(
        len(heights), 1, sharex=True, squeeze=False, height_ratios=heights,
        gridspec_kw={
            "left": left / width, "right": 1 - right / width, "top": 1 - top / total, "bottom": bottom / total,
            "hspace": gap * len(heights) / sum(heights),
        },
    )  # fmt: skip
    return figure, axes[:, 0]


def _draw_score(
    ax: Axes, recording: Recording, samples: np.ndarray, scores: np.ndarray, threshold: float, events: Events | None
) -> None:
    x, top, low = _columns(samples, scores, recording)
    if low is not None:
        ax.fill_between(x, low, top, color=SCORE, alpha=0.25, linewidth=0)
    ax.plot(x, top, color=SCORE, linewidth=0.8)
    ax.axhline(threshold, color=RED, linewidth=1.1, linestyle=(0, (5, 2)))
    median, peak = float(np.median(scores)), max(float(scores.max()), threshold)
    if median > 0 and peak > LOG_ABOVE * median:
        ax.set_yscale("log")
        ax.set_ylim(float(np.quantile(scores[scores > 0], 0.01)) / 1.5, peak * 2.5)
    else:
        low_end = min(0.0, float(scores.min()))
        ax.set_ylim(low_end, low_end + (peak - low_end) * 1.15)
    ax.set_ylabel("score", color=INK)
    handles: list[Artist] = [
        Line2D([], [], color=SCORE, label="score"),
        Line2D([], [], color=RED, linestyle=(0, (5, 2)), label=f"threshold {threshold:.4g}"),
    ]
    if events is not None and len(events.segments):
        _shade(ax, events.segments, len(recording))
        middle = events.segments.mean(axis=1)
        ax.plot(middle[events.detected], _top(ax, events.detected), "v", color=GREEN, markersize=6, clip_on=False)
        ax.plot(middle[~events.detected], _top(ax, ~events.detected), "x", color=RED, markersize=6, markeredgewidth=1.6)
        found = int(events.detected.sum())
        handles += [
            Patch(color=LABEL, label="labeled anomaly"),
            Line2D([], [], marker="v", linestyle="", color=GREEN, label=f"found ({found})"),
            Line2D([], [], marker="x", linestyle="", color=RED, label=f"missed ({len(events.segments) - found})"),
        ]
    ax.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.055), ncols=5, frameon=False, fontsize=9)


def _top(ax: Axes, chosen: np.ndarray) -> np.ndarray:
    """Heights for marks just under the upper edge, whatever the scale of the axis."""
    low, high = ax.get_ylim()
    level = low * (high / low) ** 0.95 if ax.get_yscale() == "log" else low + (high - low) * 0.95
    return np.full(int(chosen.sum()), level)


def _shade(ax: Axes, segments: np.ndarray, length: int) -> None:
    ax.broken_barh(
        _bars(segments, length), (0, 1), transform=ax.get_xaxis_transform(), color=LABEL, linewidth=0, zorder=0
    )


def _bars(segments: np.ndarray, length: int) -> list[tuple[float, float]]:
    """(left, width) of each [begin, end), none thinner than a line."""
    width = np.maximum(segments[:, 1] - segments[:, 0], length * THINNEST)
    return list(zip(segments.mean(axis=1) - width / 2, width))


def _draw_alarms(
    ax: Axes, recording: Recording, samples: np.ndarray, lanes: dict[str, np.ndarray], hop: int, events: Events | None
) -> None:
    """A lane for each kind of alarm, with every run of its positive verdicts, bool (V,): green where they speak for
    labeled points, red elsewhere."""
    owner = verdict_points(samples, hop, len(recording), recording.starts)
    touching = np.zeros(len(samples) + 1, bool)  # the last one stands for "no verdict"
    if events is not None and recording.labels is not None:
        _shade(ax, events.segments, len(recording))
        touching[owner[recording.labels]] = True
    for lane, positive in enumerate(lanes.values()):
        alarmed = (owner >= 0) & positive[owner]
        shades = {SCORE: alarmed}
        if events is not None:
            shades = {RED: alarmed & ~touching[owner], GREEN: alarmed & touching[owner]}
        for color, mask in shades.items():
            bars = _bars(runs(mask, recording.starts), len(recording))
            ax.broken_barh(bars, (lane + 0.2, 0.6), color=color, linewidth=0)
    ax.set_ylim(len(lanes), 0)
    ax.set_yticks(np.arange(len(lanes)) + 0.5, list(lanes))
    ax.tick_params(axis="y", length=0, labelcolor=INK)


def _draw_contributions(
    ax: Axes,
    recording: Recording,
    samples: np.ndarray,
    scores: np.ndarray,
    contributions: np.ndarray,
    threshold: float,
) -> None:
    """A strip with a row for each of the sensors that contribute most where the score is highest."""
    high = scores > threshold if np.any(scores > threshold) else scores >= np.quantile(scores, 0.99)
    order = np.argsort(-contributions[high].mean(axis=0), kind="stable")[: min(TOP_SENSORS, recording.n_sensors)]
    n_columns = min(COLUMNS, len(samples))
    column = samples * n_columns // len(recording)
    strip = np.full((len(order), n_columns), np.nan)
    for row, sensor in enumerate(order):
        np.fmax.at(strip[row], column, contributions[:, sensor])
    if threshold > 0:
        strip /= threshold
    largest = float(np.nanmax(strip))
    image = ax.imshow(
        strip,
        aspect="auto",
        interpolation="nearest",
        cmap="Blues",
        vmin=0,
        vmax=min(1.0, largest) if threshold > 0 and largest > 0 else None,
        extent=(0, len(recording), len(order) - 0.5, -0.5),
    )
    ax.set_yticks(range(len(order)), [short(recording.sensors[i]) for i in order], fontsize=8, color=INK)
    ax.tick_params(axis="y", length=0)
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.008, 0, 0.009, 1)), extend="max" if largest > 1 else "neither")
    bar.set_label("contribution /\nthreshold" if threshold > 0 else "contribution", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)  # type: ignore[operator]


def short(name: str, limit: int = 20) -> str:
    """A name cut to so many characters."""
    return name if len(name) <= limit else f"{name[: limit - 1]}…"


def _columns(
    samples: np.ndarray, scores: np.ndarray, recording: Recording
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """x, largest and smallest score of each column of pixels; the verdicts themselves (no smallest) where they are few.

    NaN stands where nothing was scored and between two entities, so that no line joins what is unrelated.
    """
    if len(samples) <= 4 * COLUMNS:
        cut = np.flatnonzero(np.diff(np.searchsorted(recording.starts, samples, side="right"))) + 1
        return np.insert(samples.astype(float), cut, np.nan), np.insert(scores, cut, np.nan), None
    column = samples * COLUMNS // len(recording)
    top, low = np.full(COLUMNS, np.nan), np.full(COLUMNS, np.nan)
    np.fmax.at(top, column, scores)
    np.fmin.at(low, column, scores)
    return (np.arange(COLUMNS) + 0.5) * len(recording) / COLUMNS, top, low


def _time_axis(upper: Axes, lower: Axes, recording: Recording) -> None:
    """Samples below, as in every other output; above them clock or elapsed time, or the names of the entities."""
    length = len(recording)
    lower.set_xlim(0, length)
    lower.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    lower.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    lower.set_xlabel("sample", color=INK)
    for ax in upper.figure.axes:
        ax.tick_params(colors=INK)
        for spine in ax.spines.values():
            spine.set_color(FAINT)
    for start in recording.starts[1:]:
        upper.axvline(start, color=INK, linewidth=0.5, alpha=0.5)
    above = upper.secondary_xaxis("top")
    above.spines["top"].set_color(FAINT)
    above.tick_params(colors=INK, labelsize=8, length=2)
    if len(recording.starts) > 1:
        named = len(recording.starts) <= NAMED_ENTITIES
        middles = [(a + b) / 2 for a, b in recording.bounds]
        above.set_xticks(middles if named else [], [short(e, 12) for e in recording.entities] if named else [])
        above.tick_params(length=0)
    else:
        above.set_xticks(*clock_ticks(len(recording), recording.period_s, recording.times_s))


def clock_ticks(samples: int, period_s: float, times_s: np.ndarray | None) -> tuple[list[float], list[str]]:
    """Where to write the time, in samples, and what: the source's own clock, else the time since the start.

    times_s: float64 (samples,) since 1970, or None.
    """
    span_s = samples * period_s
    if times_s is None:
        unit, size = next(
            (u, s) for u, s in (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 0.0)) if span_s > 3 * s
        )
        size = size or 1.0
        ticks = [t for t in MaxNLocator(9).tick_values(0, span_s / size) if 0 <= t * size < span_s]
        return [t * size / period_s for t in ticks], [f"{t:g} {unit}" for t in ticks]
    times_s = np.maximum.accumulate(times_s)  # a clock that was set back stands still
    first, last = float(times_s[0]), float(times_s[-1])
    weeks = 604_800 * -(-(last - first) // (CLOCK_TICKS * 604_800))
    step = next((step for step in CLOCK_STEPS_S if (last - first) / step <= CLOCK_TICKS), weeks)
    moments = np.arange(-(-first // step) * step, last + 1e-9, step)  # midnights and full hours, not the start's minute
    moments = moments[::-1]
    at, which = np.unique(np.searchsorted(times_s, moments), return_index=True)  # of those in a gap the last
    style = "%Y-%m-%d" if step >= 86400 else "%m-%d %H:%M" if last - first > 86400 else "%H:%M:%S"
    labels = [datetime.fromtimestamp(float(moment), UTC).strftime(style) for moment in moments[which]]
    if labels and step < 86400:
        labels[0] = datetime.fromtimestamp(float(moments[which[0]]), UTC).strftime("%Y-%m-%d %H:%M")
    return at.astype(float).tolist(), labels


def write(figure: Figure, path: Path | str) -> None:
    """Save a figure in the format of the path's suffix; raises UsageError where it cannot be."""
    FigureCanvasAgg(figure)
    try:
        with atomic(Path(path)) as file:
            figure.savefig(file, format=Path(path).suffix[1:])
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot write the plot ({error}); give --plot another name or place") from None


@dataclass(frozen=True)
class CostPoint:
    """One detector in the picture of quality against cost."""

    name: str
    us_per_sample: float
    """Microseconds of one core for one input sample."""
    vus_pr: float
    kind: str = ""
    """Family, one color each: "teacher", "student", "int8", "linear" ..."""


def plot_quality_against_cost(
    path: Path | str, rows: Sequence[CostPoint], random_vus_pr: float | None = None, title: str = ""
) -> None:
    """Draw VUS-PR against microseconds for a sample (log axis); up and to the left is better.

    random_vus_pr: what random scores get, drawn as a line. Raises UsageError without rows.
    """
    if not rows:
        raise UsageError("nothing to draw: no detector was measured")
    figure = Figure(figsize=(8, 5), dpi=130, layout="constrained")
    ax = figure.subplots()
    kinds = list(dict.fromkeys(row.kind for row in rows))
    palette = [SCORE, "#d9822b", GREEN, "#7d4fa3", RED, "#5c6b73"]
    cost = np.array([row.us_per_sample for row in rows])
    for kind in kinds:
        mine = [row for row in rows if row.kind == kind]
        color = palette[kinds.index(kind) % len(palette)]
        ax.scatter([r.us_per_sample for r in mine], [r.vus_pr for r in mine], s=64, color=color, zorder=3)
    ax.set_xscale("log")
    ax.set_xlim(cost.min() / 2.5, cost.max() * 4)
    values = [row.vus_pr for row in rows] + ([random_vus_pr] if random_vus_pr is not None else [])
    ax.set_ylim(0, min(1.0, max(values) * 1.2) or 1.0)
    if random_vus_pr is not None:
        ax.axhline(random_vus_pr, color=FAINT, linestyle=(0, (4, 3)), linewidth=1)
        ax.annotate(
            "random scores", (1, random_vus_pr), xycoords=("axes fraction", "data"), xytext=(-4, 4),
            textcoords="offset points", ha="right", fontsize=8, color="#777777",
        )  # fmt: skip
    _label_points(ax, rows)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.set_xlabel("microseconds per sample (log scale, one core)", color=INK)
    ax.set_ylabel("VUS-PR", color=INK)
    ax.set_title(title, loc="left", fontsize=11, color=INK)
    ax.grid(color=FAINT, linewidth=0.5, alpha=0.6)
    ax.tick_params(colors=INK)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    write(figure, path)


def _label_points(ax: Axes, rows: Sequence[CostPoint]) -> None:
    """Names beside their points, at the first place around each where they cover neither a point nor a name."""
    canvas = FigureCanvasAgg(ax.get_figure(root=True))
    canvas.draw()
    edge, scale = ax.get_window_extent().x0, 72 / canvas.figure.dpi
    points = ax.transData.transform([(row.us_per_sample, row.vus_pr) for row in rows])  # (rows, 2) pixels
    taken = [(x - 8, x + 8, y - 8, y + 8) for x, y in points]  # left, right, bottom, top
    for row, (x, y) in zip(rows, points):
        name = ax.annotate(
            row.name, (row.us_per_sample, row.vus_pr), xytext=(0, 0), textcoords="offset points",
            va="center", fontsize=9, color=INK,
        )  # fmt: skip
        width = name.get_window_extent(canvas.get_renderer()).width
        places = [(x + 12, y), (x - 12 - width, y), (x - width / 2, y + 20), (x - width / 2, y - 20)]
        places += [(x + 12, y + side * step) for step in (20, 36, 52) for side in (-1, 1)]
        for left, middle in places:
            box = (left, left + width, middle - 8, middle + 8)
            if left > edge and not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)
        name.set_position(((left - x) * scale, (middle - y) * scale))


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two boxes (left, right, bottom, top) share a pixel."""
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]
