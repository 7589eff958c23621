"""The report of one detector on one recording: every figure beside what chance gives, each with its protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekd.data.recording import Recording
from edgekd.evaluation import chance
from edgekd.evaluation.affiliation import affiliation
from edgekd.evaluation.events import SECONDS_PER_DAY, check_verdicts, false_alarms, find_events, point_scores
from edgekd.evaluation.metrics import BestPointAdjusted, auc_pr, pa_k_auc, point_adjusted, pointwise, vus
from edgekd.evaluation.ucr_score import SLACK, ucr_reference, ucr_strict
from edgekd.runtime.errors import UsageError

MAX_BUFFER = 100  # points, half of them on either side of an event: the widest tolerance of VUS, TSB-AD's default
N_CHANCE = 10  # seeded runs of random scores, and of labels laid out anew: enough for a standard deviation
QUANTILES = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)

RANKS = "every threshold"
HIGHEST = "the highest score alone"
AT_THRESHOLD = "at the threshold"
BEST = "at the threshold that is best on the test labels"


@dataclass(frozen=True)
class Measure:
    """What a figure is called and how it came about."""

    name: str
    thresholds: str
    """RANKS, HIGHEST, AT_THRESHOLD or BEST."""
    detail: str = ""
    unit: str = ""

    @property
    def uses_test_labels(self) -> bool:
        """True where the threshold was chosen by the labels that the figure is measured on."""
        return self.thresholds == BEST

    @property
    def protocol(self) -> str:
        """How the figure came about, in one line."""
        only = "only to compare with published tables" if self.uses_test_labels else ""
        return "; ".join(part for part in (self.thresholds, self.detail, only) if part)


MEASURES: dict[str, Measure] = {
    "vus_pr": Measure("VUS-PR", RANKS, f"buffer 0 to {MAX_BUFFER}"),
    "auc_pr": Measure("AUC-PR", RANKS, "average precision"),
    "vus_roc": Measure("VUS-ROC", RANKS, f"buffer 0 to {MAX_BUFFER}"),
    "ucr_strict": Measure("points at the event", HIGHEST, f"within its length, at least {SLACK} points"),
    "ucr_reference": Measure("  or less strictly", HIGHEST, "rule of AnomalyLLM's code"),
    "event_recall": Measure("event recall", AT_THRESHOLD),
    "false_alarms_per_day": Measure("false alarms", AT_THRESHOLD, "in normal time", "/day"),
    "false_alarms_trailing_per_day": Measure("  outlasting an event", AT_THRESHOLD, "of the above", "/day"),
    "normal_time_in_alarm": Measure("normal time in alarm", AT_THRESHOLD),
    "delay_median_samples": Measure("median delay", AT_THRESHOLD, "found events", "samples"),
    "delay_median_s": Measure("median delay", AT_THRESHOLD, "found events", "s"),
    "delay_max_s": Measure("longest delay", AT_THRESHOLD, "found events", "s"),
    "precision": Measure("precision", AT_THRESHOLD, "pointwise"),
    "recall": Measure("recall", AT_THRESHOLD, "pointwise"),
    "f1": Measure("F1", AT_THRESHOLD, "pointwise"),
    "pa_k_auc": Measure("PA%K F1", AT_THRESHOLD, "mean over K"),
    "pa_f1": Measure("PA F1", AT_THRESHOLD, "point-adjusted"),
    "affiliation_precision": Measure("affiliation precision", AT_THRESHOLD, "near events"),
    "affiliation_recall": Measure("affiliation recall", AT_THRESHOLD, "near alarms"),
    "affiliation_f1": Measure("affiliation F1", AT_THRESHOLD, "Huet et al. 2022"),
    "best_f1": Measure("F1", BEST, "pointwise"),
    "best_pa_k_auc": Measure("PA%K F1", BEST, "mean over K"),
    "best_pa_f1": Measure("PA F1", BEST, "point-adjusted"),
}


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) over the seeded runs in which the figure was defined."""

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """None where no run has a value."""
        finite = np.asarray([v for v in values if math.isfinite(v)])
        if not len(finite):
            return None
        return cls(float(finite.mean()), float(finite.std(ddof=1)) if len(finite) > 1 else 0.0)


@dataclass(frozen=True)
class Figure:
    """One measured number beside what chance gives."""

    value: float | None
    """None where it is not defined, say a delay where no event was found."""
    random: Spread | None
    """The same of random scores, one drawn for each verdict, as many of them positive."""
    relaid: Spread | None
    """The same of the detector's own scores against the labeled segments laid out anew."""
    measure: Measure

    @property
    def sd_above_random(self) -> float | None:
        """How many standard deviations the value stands above random scores."""
        if self.value is None or self.random is None or self.random.sd == 0:
            return None
        return (self.value - self.random.mean) / self.random.sd

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict."""
        found: dict[str, Any] = {"name": self.measure.name.strip(), "value": self.value}
        for key, spread in (("random", self.random), ("relaid", self.relaid)):
            found[f"{key}_mean"] = None if spread is None else spread.mean
            found[f"{key}_sd"] = None if spread is None else spread.sd
        return found | {
            "unit": self.measure.unit,
            "protocol": self.measure.protocol,
            "uses_test_labels": self.measure.uses_test_labels,
        }


@dataclass(frozen=True)
class Report:
    """What a detector did on a recording."""

    recording: dict[str, Any]
    """source, samples, sensors, entities, period_s, days; events and anomalous_share, None without labels."""
    threshold: float
    threshold_rule: str
    hop: int
    verdicts: int
    unscored_share: float
    """Part of the points that no verdict speaks for (warm-up, what is left of a hop at an entity's end)."""
    alarm_share: float
    """Part of the verdicts that lie above the threshold."""
    score_quantiles: dict[str, float]
    figures: dict[str, Figure]
    """By the keys of MEASURES, the headline first. Without both labels only alarms are measured."""
    missed: tuple[tuple[int, int], ...]
    """[begin, end) in samples of the events that were not found."""

    def headline(self) -> dict[str, Any]:
        """The figures that stand beside a model's cost, None where they are not defined."""
        vus_pr, alarms = self.figures.get("vus_pr"), self.figures.get("false_alarms_per_day")
        random = None if vus_pr is None else vus_pr.random
        events = self.recording["events"]
        return {
            "vus_pr": None if vus_pr is None else vus_pr.value,
            "vus_pr_random": None if random is None else random.mean,
            "vus_pr_random_sd": None if random is None else random.sd,
            "events": events,
            "events_found": None if events is None else events - len(self.missed),
            "false_alarms_per_day": None if alarms is None else alarms.value,
        }

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict."""
        plain = {name: value for name, value in vars(self).items() if name not in ("figures", "missed")}
        return plain | {
            "figures": {key: figure.to_json() for key, figure in self.figures.items()},
            "missed": [list(segment) for segment in self.missed],
        }


def evaluate_scores(
    recording: Recording,
    verdict_samples: np.ndarray,
    verdict_scores: np.ndarray,
    threshold: float,
    hop: int,
    threshold_rule: str = "from normal data, without labels",
    chance_runs: int = N_CHANCE,
    seed: int = 0,
) -> Report:
    """Measure one detector's verdicts on a recording.

    verdict_samples: int (V,), newest sample of each verdict, ascending; verdict_scores: float (V,), positive above the
    threshold; seed: of the first of the chance runs. Where the recording has no labels, or only one kind of them, all
    that can be said is how often it alarms. Raises UsageError where verdicts and recording do not fit.
    """
    if hop < 1:
        raise UsageError(f"hop is {hop}; a verdict speaks for at least one sample")
    if not math.isfinite(threshold):
        raise UsageError(f"--threshold {threshold}: give a finite number")
    samples, scores = check_verdicts(verdict_samples, verdict_scores, len(recording))
    positive = scores > threshold
    labels = recording.labels
    events = None if labels is None else find_events(labels, samples, positive, hop, recording.starts)
    measured = _measure(recording, labels, samples, scores, positive, hop)
    by_random, by_layout = [], []
    for run in range(seed, seed + chance_runs):
        random = chance.random_scores(len(scores), run)
        chosen = chance.same_share(random, int(positive.sum()))
        by_random.append(_measure(recording, labels, samples, random, chosen, hop))
        if labels is not None:
            by_layout.append(_measure(recording, chance.relaid_labels(labels, run), samples, scores, positive, hop))
    _, scored = point_scores(samples, scores, hop, len(recording), recording.starts)
    return Report(
        recording=_describe(recording, None if events is None else len(events.segments)),
        threshold=float(threshold),
        threshold_rule=threshold_rule,
        hop=hop,
        verdicts=len(samples),
        unscored_share=float(1 - scored.mean()),
        alarm_share=float(positive.mean()),
        score_quantiles={f"{q:g}": float(v) for q, v in zip(QUANTILES, np.quantile(scores, QUANTILES))},
        figures=_beside(measured, by_random, by_layout),
        missed=() if events is None else tuple((int(a), int(b)) for a, b in events.segments[~events.detected]),
    )


def _beside(
    measured: dict[str, float], by_random: list[dict[str, float]], by_layout: list[dict[str, float]]
) -> dict[str, Figure]:
    """The figures that were measured, each with its chance runs, in the order of MEASURES."""
    return {
        key: Figure(
            value=measured[key] if math.isfinite(measured[key]) else None,
            random=Spread.of(run[key] for run in by_random if key in run),
            relaid=Spread.of(run[key] for run in by_layout if key in run),
            measure=measure,
        )
        for key, measure in MEASURES.items()
        if key in measured
    }


def _describe(recording: Recording, events: int | None) -> dict[str, Any]:
    return {
        "source": recording.source,
        "samples": len(recording),
        "sensors": recording.n_sensors,
        "entities": len(recording.starts),
        "period_s": recording.period_s,
        "days": len(recording) * recording.period_s / SECONDS_PER_DAY,
        "events": events,
        "anomalous_share": None if recording.labels is None else float(np.mean(recording.labels)),
    }


def _measure(
    recording: Recording,
    labels: np.ndarray | None,
    samples: np.ndarray,
    scores: np.ndarray,
    positive: np.ndarray,
    hop: int,
) -> dict[str, float]:
    """Every figure that is defined, by key; NaN where it has no value."""
    starts, length, period_s = recording.starts, len(recording), recording.period_s
    alarms = false_alarms(labels, samples, positive, hop, period_s, length, starts)
    measured = {
        "false_alarms_per_day": alarms.per_day,
        "false_alarms_trailing_per_day": alarms.trailing / alarms.normal_days if alarms.normal_days else math.nan,
        "normal_time_in_alarm": alarms.normal_share,
    }
    if labels is None or labels.all() or not labels.any():
        return measured
    points, _ = point_scores(samples, scores, hop, length, starts)
    alarmed = point_scores(samples, positive.astype(float), hop, length, starts)[0] > 0.5
    events = find_events(labels, samples, positive, hop, starts)
    delays = events.delays if len(events.delays) else np.array([math.nan])
    pr, roc = vus(labels, points, MAX_BUFFER, starts)
    counts = pointwise(labels, alarmed)
    best = BestPointAdjusted(labels, points, starts)
    if len(events.segments) == 1:
        begin, end = map(int, events.segments[0])
        measured["ucr_strict"] = float(ucr_strict(samples, scores, hop, begin, end - 1))
        measured["ucr_reference"] = float(ucr_reference(samples, scores, hop, begin, end - 1))
    near = dict(zip(("precision", "recall", "f1"), affiliation(labels, alarmed, starts)))
    return measured | {
        "vus_pr": pr,
        "vus_roc": roc,
        "auc_pr": auc_pr(labels, points),
        "event_recall": events.recall,
        "delay_median_samples": float(np.median(delays)),
        "delay_median_s": float(np.median(delays)) * period_s,
        "delay_max_s": float(np.max(delays)) * period_s,
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
        "pa_k_auc": pa_k_auc(labels, alarmed, starts),
        "pa_f1": point_adjusted(labels, alarmed, starts).f1,
        **{f"affiliation_{name}": value for name, value in near.items()},
        "best_f1": best.f1(100),
        "best_pa_k_auc": best.auc_over_k(),
        "best_pa_f1": best.f1(0),
    }
