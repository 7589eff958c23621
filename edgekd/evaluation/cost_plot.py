"""The picture of quality against cost of several detectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from edgekd.evaluation.plots import FAINT, GREEN, INK, RED, SCORE, short, write
from edgekd.runtime.errors import UsageError

PALETTE = (SCORE, "#d9822b", GREEN, "#7d4fa3", RED, "#5c6b73")
MARKERS = "os^DvPX*"
GRAY = "#777777"


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
    figure = Figure(figsize=(9.5, 5), dpi=130, layout="constrained")
    ax = figure.subplots()
    kinds = list(dict.fromkeys(row.kind for row in rows))
    for i, row in enumerate(sorted(rows, key=lambda row: row.us_per_sample)):
        us = row.us_per_sample
        ax.scatter(
            us, row.vus_pr, s=90, marker=MARKERS[i % len(MARKERS)], linewidth=1.6, zorder=3,
            facecolor="none", edgecolor=PALETTE[kinds.index(row.kind) % len(PALETTE)],  # what lies behind shows through
            label=f"{short(row.name, 40)}, {us:,.{0 if us >= 100 else 1}f} µs",
        )  # fmt: skip
    cost = [row.us_per_sample for row in rows]
    ax.set_xscale("log")
    ax.set_xlim(min(cost) / 2.5, max(cost) * 2.5)
    values = [row.vus_pr for row in rows] + ([random_vus_pr] if random_vus_pr is not None else [])
    ax.set_ylim(0, min(1.05, max(values) * 1.2) or 1.0)
    if random_vus_pr is not None:
        ax.axhline(random_vus_pr, color=GRAY, linestyle=(0, (4, 3)), linewidth=1, label="random scores", zorder=1)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9, labelcolor=INK)
    decades = math.log10(max(cost) / min(cost)) + 0.8
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("microseconds per sample (log scale, one core)", color=INK)
    ax.set_ylabel("VUS-PR", color=INK)
    ax.set_title(short(title, 75), loc="left", fontsize=11, color=INK)
    ax.grid(color=FAINT, linewidth=0.5, alpha=0.6)
    ax.tick_params(colors=INK)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    write(figure, path)
