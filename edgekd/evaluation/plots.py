"""The picture of a detector at work: score, alarms, labels and the sensors behind them over time.

Drawn for files (Agg), legible at any length: what falls into one column of pixels is drawn by its largest value, and a
labeled segment is never thinner than a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from edgekd.data.recording import Recording
from edgekd.evaluation.events import Events, check_verdicts, find_events, runs, verdict_points
from edgekd.runtime.detector import StuckChange
from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import atomic

COLUMNS = 1200  # time bins, about one for each pixel of the plotted width
TOP_SENSORS = 6  # rows of the strip for alarms, as many as a glance takes in; as many more for missed faults
ROW = 0.25  # inches
LOG_ABOVE = 30.0  # a peak this many times the median would flatten everything else on a linear axis
NAMED_ENTITIES = 16  # more names than this would overlap
THINNEST = 1 / 700  # of the width: two pixels
TITLE = 125  # characters, as many as fit
NAME = 26  # characters of a sensor's name
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
    stuck: Sequence[StuckChange] = (),
    missed: Sequence[tuple[int, int]] | None = None,
) -> None:
    """Draw a detector's score over a recording, its alarms, the labels and the sensors behind them.

    verdict_samples: int (V,); scores: float (V,); contributions: float (V, n) or None; hop: samples that a verdict
    speaks for, by default the usual step between verdicts; slow: float (V,), slow scores, which alarm above 1, or None;
    stuck: sensors that are told to be; missed: [begin, end) of the labeled segments that are not found, by default
    those without a verdict above either threshold. The suffix of `path` chooses the format (.png, .svg, .pdf).
    Raises UsageError where verdicts and recording do not fit.
    """
    samples, scores = check_verdicts(verdict_samples, scores, len(recording))
    if contributions is not None and contributions.shape != (len(samples), recording.n_sensors):
        raise UsageError(
            f"contributions {contributions.shape}, but {len(samples)} verdicts of {recording.n_sensors} sensors"
        )
    hop = hop or (int(np.median(np.diff(samples))) if len(samples) > 1 else 1)
    lanes = {"alarms": scores > threshold} | ({} if slow is None else {"slow alarms": slow > 1})
    events = None if recording.labels is None else _events(recording, samples, lanes, hop, missed)
    owner = verdict_points(samples, hop, len(recording), recording.starts)
    points = {lane: (owner >= 0) & positive[owner] for lane, positive in lanes.items()}
    if stuck:
        points["stuck sensors"] = _standing(stuck, len(recording))
    high = scores > threshold if np.any(scores > threshold) else scores >= np.quantile(scores, 0.99)
    rows = [] if contributions is None else _rows(contributions, high, owner, events)

    figure, axes = _panels([3.4, 0.3 * len(points)] + ([ROW * max(len(rows), 2)] if rows else []))
    _draw_score(axes[0], recording, samples, scores, threshold, events)
    _draw_alarms(axes[1], recording, points, owner, events)
    if contributions is not None:
        _draw_contributions(axes[2], recording, samples, contributions, rows, threshold)
    _time_axis(axes[0], axes[-1], recording)
    axes[0].set_title(short(title, TITLE), loc="left", fontsize=12, color=INK, y=1.0, pad=48)
    write(figure, path)


def _events(
    recording: Recording,
    samples: np.ndarray,
    lanes: dict[str, np.ndarray],
    hop: int,
    missed: Sequence[tuple[int, int]] | None,
) -> Events:
    """The labeled segments, and which of them are found."""
    assert recording.labels is not None
    positive = np.logical_or.reduce(list(lanes.values()))
    events = find_events(recording.labels, samples, positive, hop, recording.starts)
    if missed is None:
        return events
    return Events(events.segments, np.where(np.isin(events.segments[:, 0], [begin for begin, _ in missed]), -1, 0))


def _standing(stuck: Sequence[StuckChange], length: int) -> np.ndarray:
    """bool (T,): where a sensor stands still that is told to, until it is."""
    standing = np.zeros(length, bool)
    for change in stuck:
        standing[change.start : change.sample + 1] = True
    return standing


def _rows(contributions: np.ndarray, high: np.ndarray, owner: np.ndarray, events: Events | None) -> list[int]:
    """Sensors worth a row: those that contribute most to the `high` verdicts, bool (V,), and the one that rises most in
    each missed fault. owner: int (T,), the verdict of each point."""
    order = np.argsort(-contributions[high].mean(axis=0), kind="stable")
    chosen = order[:TOP_SENSORS].tolist()
    usual, more = contributions.mean(axis=0), []
    for begin, end in [] if events is None else events.segments[~events.detected]:
        verdicts = np.unique(owner[begin:end])
        if len(verdicts := verdicts[verdicts >= 0]):
            more.append(int((contributions[verdicts].mean(axis=0) - usual).argmax()))
    return chosen + [sensor for sensor in dict.fromkeys(more) if sensor not in chosen][:TOP_SENSORS]


def _panels(heights: list[float]) -> tuple[Figure, np.ndarray]:
    """A figure with panels of these heights in inches, one above the other over one time axis.

    The margins are fixed: they fit the longest names that are drawn, and the panels of two plots then line up.
    """
    width, left, right, top, bottom, gap = 14.0, 1.95, 1.0, 0.95, 0.6, 0.13
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
    x, low, middle, top = _columns(samples, scores, recording)
    ax.fill_between(x, low, top, color=SCORE, alpha=0.35, linewidth=0.3)
    ax.plot(x, middle, color=SCORE, linewidth=0.8)
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
    ax.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.07), borderpad=0, ncols=5, frameon=False, fontsize=9
    )


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
    ax: Axes, recording: Recording, lanes: dict[str, np.ndarray], owner: np.ndarray, events: Events | None
) -> None:
    """A lane for each kind of alarm, with every run of its points, bool (T,): green in labels, and where a verdict
    speaks for a labeled point too, red elsewhere. owner: int (T,), the verdict of each point."""
    labeled = np.zeros(len(recording), bool)
    if events is not None and recording.labels is not None:
        _shade(ax, events.segments, len(recording))
        labeled = recording.labels | np.isin(owner, owner[recording.labels & (owner >= 0)])
    for lane, alarmed in enumerate(lanes.values()):
        shades = {SCORE: alarmed} if events is None else {RED: alarmed & ~labeled, GREEN: alarmed & labeled}
        for color, mask in shades.items():
            bars = _bars(runs(mask, recording.starts), len(recording))
            ax.broken_barh(bars, (lane + 0.2, 0.6), color=color, linewidth=0)
    ax.set_ylim(len(lanes), 0)
    ax.set_yticks(np.arange(len(lanes)) + 0.5, list(lanes))
    ax.tick_params(axis="y", length=0, labelcolor=INK)


def _draw_contributions(
    ax: Axes, recording: Recording, samples: np.ndarray, contributions: np.ndarray, rows: list[int], threshold: float
) -> None:
    """A strip for each sensor of `rows`; the colors end at the threshold, so that those of two plots mean the same."""
    n_columns = min(COLUMNS, len(samples))
    column = samples * n_columns // len(recording)
    strip = np.full((len(rows), n_columns), np.nan)
    for row, sensor in enumerate(rows):
        np.fmax.at(strip[row], column, contributions[:, sensor])
    if threshold > 0:
        strip /= threshold
    largest = float(np.nanmax(strip))
    image = ax.imshow(
        strip,
        aspect="auto",
        interpolation="nearest",
        cmap="Blues",
        norm=PowerNorm(0.7, 0, 1.0 if threshold > 0 else max(1.0, largest), clip=True),
        extent=(0, len(recording), len(rows) - 0.5, -0.5),
    )
    names = told_apart([recording.sensors[i] for i in rows], NAME)
    names[TOP_SENSORS:] = [f"× {name}" for name in names[TOP_SENSORS:]]  # of missed faults
    ax.set_yticks(range(len(rows)), names, fontsize=8, color=INK)
    ax.tick_params(axis="y", length=0)
    bar = ax.figure.colorbar(
        image, cax=ax.inset_axes((1.008, 0, 0.009, 1)), extend="max" if threshold > 0 and largest > 1 else "neither"
    )
    bar.set_label("contribution /\nthreshold" if threshold > 0 else "contribution", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)  # type: ignore[operator]


def short(name: str, limit: int) -> str:
    """A name cut to so many characters in its middle: names of one plant differ at their ends."""
    head = (limit - 1) // 3
    return name if len(name) <= limit else f"{name[:head]}…{name[head + 1 - limit :]}"


def told_apart(names: list[str], limit: int) -> list[str]:
    """Names cut to so many characters, around what they do not share."""
    if len(names) == 1 or max(map(len, names)) <= limit:
        return [short(name, limit) for name in names]
    alike, end = _alike(names), _alike([name[::-1] for name in names])
    found = []
    for name in names:
        around = max(0, limit - 2 - (len(name) - alike - end))  # characters of what is shared
        start = max(0, min(alike - around // 2, len(name) - limit + 1))
        cut = f"…{name[start:]}" if start else name
        found.append(cut if len(cut) <= limit else f"{cut[: limit - 1]}…")
    return found


def _alike(names: list[str]) -> int:
    """Characters with which all of them begin."""
    return next((i for i, letters in enumerate(zip(*names)) if len(set(letters)) > 1), min(map(len, names)))


def _columns(
    samples: np.ndarray, scores: np.ndarray, recording: Recording
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, smallest, median and largest score of each column of pixels; of the verdicts themselves where they are few.

    NaN stands where nothing was scored and between two entities, so that no line joins what is unrelated.
    """
    if len(samples) <= COLUMNS:
        cut = np.flatnonzero(np.diff(np.searchsorted(recording.starts, samples, side="right"))) + 1
        drawn = np.insert(scores, cut, np.nan)
        return np.insert(samples.astype(float), cut, np.nan), drawn, drawn, drawn
    column = samples * COLUMNS // len(recording)
    order = np.lexsort((scores, column))
    filled, first, count = np.unique(column, return_index=True, return_counts=True)
    found = np.full((3, COLUMNS), np.nan)
    found[:, filled] = scores[order[[first, first + count // 2, first + count - 1]]]
    return (np.arange(COLUMNS) + 0.5) * len(recording) / COLUMNS, *found


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
