"""The report of a detector on labeled images: each is judged by itself, so there is no time, no event and no delay."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from edgekd.data.recording import Recording
from edgekd.evaluation import chance
from edgekd.evaluation.report import AT_THRESHOLD, N_CHANCE, RANKS, Spread

MEASURES = {
    "roc_auc": ("ROC-AUC", RANKS),
    "auc_pr": ("AUC-PR", RANKS),
    "recall": ("anomalous images found", AT_THRESHOLD),
    "false_alarm_rate": ("normal images in alarm", AT_THRESHOLD),
}


@dataclass(frozen=True)
class ImageReport:
    """What a detector did on images; figures are None where the labels do not define them."""

    source: str
    images: int
    anomalous: int | None
    """None without labels."""
    threshold: float
    threshold_rule: str
    alarm_share: float
    figures: dict[str, float | None]
    """By the keys of MEASURES."""
    random: dict[str, Spread | None]
    """The same of random scores."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate_images(
    recording: Recording, samples: np.ndarray, scores: np.ndarray, threshold: float, rule: str, seed: int = 0
) -> ImageReport:
    """`samples` int (V,) newest row of each image that has a verdict; `scores` float (V,)."""
    labels = None if recording.labels is None else recording.labels[samples]
    positive = scores > threshold
    runs = []
    for run in range(seed, seed + N_CHANCE):
        drawn = chance.random_scores(len(scores), run)
        runs.append(_measure(labels, drawn, chance.same_share(drawn, int(positive.sum()))))
    measured = _measure(labels, scores, positive)
    return ImageReport(
        source=recording.source,
        images=len(scores),
        anomalous=None if labels is None else int(labels.sum()),
        threshold=threshold,
        threshold_rule=rule,
        alarm_share=float(positive.mean()),
        figures={key: value if math.isfinite(value) else None for key, value in measured.items()},
        random={key: Spread.of(run[key] for run in runs) for key in measured},
    )


def _measure(labels: np.ndarray | None, scores: np.ndarray, positive: np.ndarray) -> dict[str, float]:
    """Every figure by key, NaN where it has no value."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    nothing = dict.fromkeys(MEASURES, math.nan)
    if labels is None:
        return nothing
    if not labels.any() or labels.all():
        share = float(positive.mean())
        return nothing | ({"recall": share} if labels.any() else {"false_alarm_rate": share})
    return {
        "roc_auc": float(roc_auc_score(labels, scores)),
        "auc_pr": float(average_precision_score(labels, scores)),
        "recall": float(positive[labels].mean()),
        "false_alarm_rate": float(positive[~labels].mean()),
    }


def render(report: ImageReport) -> Group:
    """The report for a rich console."""
    labeled = "no labels" if report.anomalous is None else f"{report.anomalous:,} of them anomalous"
    head = Text(
        f"{report.source}: {report.images:,} images, {labeled}\nthreshold {report.threshold:.6g} "
        f"({report.threshold_rule}); {report.alarm_share:.2%} of the images above it\n"
    )
    table = Table(box=None, header_style="dim", pad_edge=False)
    for header in ("", "this detector", "random scores", "protocol"):
        table.add_column(header, justify="left" if header in ("", "protocol") else "right")
    for key, (name, protocol) in MEASURES.items():
        value, spread = report.figures[key], report.random[key]
        if value is not None:
            by_chance = "" if spread is None else f"{spread.mean:.3f} ± {spread.sd:.3f}"
            table.add_row(name, f"{value:.3f}", by_chance, protocol, style="bold" if key == "roc_auc" else None)
    return Group(head, table)
