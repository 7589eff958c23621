"""Which threshold follows drift: streaming quantiles and streaming peaks over threshold, beside the fixed one.

    python -m bench.detection.drift --data DIR

Scores of the linear ensemble on real recordings, as they are and with a shift laid into the test part: a random half of
the sensors moves by a part of its training deviation, slowly to the end, or from the start as at another site. Every
candidate sees one score after the other and no label, is kept within 0.5 to 2 times the trained threshold, and learns
nothing from scores above the one in force. `first day` ones are set once, by the scores of the first day.

Recordings on which the fixed threshold is in alarm for more than a tenth of the first fifth's normal time stand apart:
what is frozen from the start cannot follow, and its alarm that never ends counts as one. The oracle knows the labels:
the trained rule's margin over the largest normal score of the three days around, within the same band.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import click
import numpy as np
from scipy.stats import genpareto

from bench.results import save, table
from edgekd.blocks.threshold import MARGIN
from edgekd.data import Recording, load
from edgekd.distillation import distill
from edgekd.evaluation.events import false_alarms, find_events, runs
from edgekd.runtime.gateway.watchers.site_threshold import DAY_S, MIN_VERDICTS, P2Quantile

GROUPS: dict[str, tuple[str, ...]] = {
    "SMD": tuple(f"smd/machine-{k}.npz" for k in ("1-2", "1-6", "2-1")),
    "ASD": tuple(f"asd/omi-{k}.npz" for k in (2, 4, 5, 6, 7, 9)),
    "SKAB": tuple(f"skab/SKAB.npz#valve1/{k}@400" for k in (4, 5, 6, 7, 10, 12)),
    "NAB": tuple(
        f"nab/NAB.npz#{name}"
        for name in (
            "realKnownCause/machine_temperature_system_failure",
            "realKnownCause/ambient_temperature_system_failure",
            "realKnownCause/nyc_taxi",
            "realKnownCause/cpu_utilization_asg_misconfiguration",
            "realTraffic/occupancy_6005",
            "realAWSCloudwatch/ec2_cpu_utilization_5f5533",
            "realTweets/Twitter_volume_AAPL",
        )
    ),
}
# training deviations that are laid into the test part, by its end or from its start; scores are near to their squares
CASES = {"as it is": (0.0, 0.0), "drift 0.25": (0.0, 0.25), "drift 0.5": (0.0, 0.5), "other site": (0.25, 0.25)}
BAND = (0.5, 2.0)
RAISED = "only raised"
SEED = 0


@dataclass(frozen=True)
class Series:
    """The scores of one detector on one recording."""

    group: str
    name: str
    case: str
    recording: Recording
    samples: np.ndarray
    scores: np.ndarray
    threshold: float
    normal: np.ndarray
    """Scores on the training recording."""
    hop: int

    @property
    def per_day(self) -> int:
        """Verdicts in a day, or as many as a median needs."""
        return max(MIN_VERDICTS, round(DAY_S / (self.hop * self.recording.period_s)))

    @property
    def labels(self) -> np.ndarray:
        """bool (T,)"""
        assert self.recording.labels is not None
        return self.recording.labels


class Follower(Protocol):
    """What a candidate does with the scores that it may learn from."""

    def update(self, score: float) -> float | None:
        """One score; the threshold from now on, None where it stays."""


class Fixed:
    """The trained threshold."""

    def update(self, score: float) -> float | None:
        return None


class WindowQuantile:
    """The trained threshold times a quantile of the newest scores over the same one of normal training data: exact, so
    that a t-digest could only be worse."""

    def __init__(self, series: Series, q: float, days: float, once: bool = False) -> None:
        self._q, self._once = q, once
        self._scores: deque[float] = deque(maxlen=round(days * series.per_day))
        self._margin = series.threshold / float(np.quantile(series.normal, q))
        self._done = False

    def update(self, score: float) -> float | None:
        if self._done:
            return None
        self._scores.append(score)
        if len(self._scores) < (self._scores.maxlen or 0):
            return None
        self._done = self._once
        return self._margin * float(np.quantile(self._scores, self._q))


class Daily:
    """The same a day, by P², as the runtime does it."""

    def __init__(self, series: Series, q: float) -> None:
        self._q, self._window = q, series.per_day
        self._margin = series.threshold / float(np.quantile(series.normal, q))
        self._recent = P2Quantile(q)

    def update(self, score: float) -> float | None:
        self._recent.add(score)
        if self._recent.count < self._window:
            return None
        moved, self._recent = self._margin * self._recent.value, P2Quantile(self._q)
        return moved


class Largest:
    """The trained rule over the scores of the first day."""

    def __init__(self, series: Series) -> None:
        self._largest, self._left = 0.0, series.per_day

    def update(self, score: float) -> float | None:
        self._largest, self._left = max(self._largest, score), self._left - 1
        return MARGIN * self._largest if self._left == 0 else None


def moments(excesses: np.ndarray) -> tuple[float, float]:
    """Shape and scale of a generalized Pareto distribution by the method of moments."""
    mean, variance = float(excesses.mean()), float(excesses.var())
    ratio = mean * mean / variance if variance > 0 else 1.0
    return 0.5 * (1 - ratio), 0.5 * mean * (ratio + 1)


def likelihood(excesses: np.ndarray) -> tuple[float, float]:
    """The same by maximum likelihood."""
    shape, _, scale = genpareto.fit(excesses, floc=0)
    return float(shape), float(scale)


class Spot:
    """Streaming peaks over threshold, SPOT, and with `depth` DSPOT (Siffer et al., KDD 2017)."""

    LEVEL, KEPT = 0.98, 200

    def __init__(
        self,
        series: Series,
        risk: float,
        fit: Callable[[np.ndarray], tuple[float, float]] = moments,
        depth: int = 0,
    ) -> None:
        self._risk, self._fit, self._depth = risk, fit, depth
        self._newest: deque[float] = deque(maxlen=max(depth, 1))
        first = np.asarray(series.normal, float)
        if depth:  # what is left of training scores without their moving mean
            mean = np.convolve(first, np.ones(depth) / depth, "valid")[:-1] if len(first) > depth else first[:1]
            first = first[depth:] - mean if len(first) > depth else first * 0.0
        self._initial = float(np.quantile(first, self.LEVEL))
        self._excesses = deque(first[first > self._initial] - self._initial, maxlen=self.KEPT)
        self._seen, self._above = len(first), len(self._excesses)

    def update(self, score: float) -> float | None:
        mean = 0.0
        if self._depth:
            if len(self._newest) < self._depth:
                self._newest.append(score)
                return None
            mean = float(np.mean(self._newest))
            self._newest.append(score)
            score -= mean
        self._seen += 1
        if score > self._initial:
            self._excesses.append(score - self._initial)
            self._above += 1
        elif not self._depth:
            return None
        return None if len(self._excesses) < 5 else mean + self._quantile()

    def _quantile(self) -> float:
        shape, scale = self._fit(np.array(self._excesses))
        rate = self._risk * self._seen / max(self._above, 1)
        return self._initial + (scale / shape * (rate**-shape - 1) if abs(shape) > 1e-6 else -scale * np.log(rate))


CANDIDATES: dict[str, Callable[[Series], Follower]] = {
    "fixed": lambda series: Fixed(),
    **{f"P² {q} a day": partial(Daily, q=q) for q in (0.5, 0.9)},
    **{f"quantile {q}, {days} d": partial(WindowQuantile, q=q, days=days) for q in (0.5, 0.9, 0.99) for days in (1, 3)},
    **{f"SPOT {risk:g}": partial(Spot, risk=risk) for risk in (1e-3, 1e-4)},
    "SPOT 0.001, likelihood": partial(Spot, risk=1e-3, fit=likelihood),
    "DSPOT 0.001": lambda series: Spot(series, 1e-3, depth=min(series.per_day, 20)),
    **{f"first day, quantile {q}": partial(WindowQuantile, q=q, days=1, once=True) for q in (0.5, 0.9, 0.99)},
    f"first day, quantile 0.9, {RAISED}": partial(WindowQuantile, q=0.9, days=1, once=True),
    "first day, largest": Largest,
}


def thresholds(name: str, series: Series) -> np.ndarray:
    """The threshold that each verdict (V,) is compared with."""
    follower, value = CANDIDATES[name](series), series.threshold
    low, high = (factor * series.threshold for factor in BAND)
    low = value if name.endswith(RAISED) else low
    found = np.empty(len(series.scores))
    for i, score in enumerate(series.scores):
        found[i] = value
        if score <= value or (name.startswith("first day") and i <= series.per_day):
            moved = follower.update(float(score))
            value = value if moved is None else min(max(moved, low), high)
    return found


def oracle(series: Series) -> np.ndarray:
    """The threshold of one who knows the labels, (V,)."""
    normal = np.array([not series.labels[max(0, k - 60) : k + 1].any() for k in series.samples])
    around = 3 * series.per_day // 2
    low, high = (factor * series.threshold for factor in BAND)
    found = np.empty(len(series.scores))
    for i in range(len(found)):
        near = slice(max(0, i - around), i + around + 1)
        scores = series.scores[near][normal[near]]
        found[i] = np.clip(MARGIN * scores.max(), low, high) if len(scores) else series.threshold
    return found


def all_series(data: Path) -> list[Series]:
    """Every recording in every case."""
    found = []
    for group, specs in GROUPS.items():
        for spec in specs:
            train, test = load(str(data / spec), "train"), load(str(data / spec), "test")
            with TemporaryDirectory() as folder:
                checkpoint = distill(train, Path(folder) / "s.pt", method="linear", preset="ensemble")
            step, random = checkpoint.step(), np.random.default_rng(SEED)
            moving = random.permutation(train.n_sensors) < (train.n_sensors + 1) // 2
            move = train.values.std(axis=0) * moving * random.choice([-1.0, 1.0], train.n_sensors)
            for case, (first, last) in CASES.items():
                off = np.linspace(first, last, len(test))[:, None] * move
                moved = replace(test, values=(test.values + off).astype(np.float32))
                scores = step.score(moved)
                found.append(Series(
                    group, spec, case, moved, scores.samples, scores.scores.astype(float),
                    float(checkpoint.threshold["value"]), checkpoint.normal_scores.numpy(), step.hop,
                ))  # fmt: skip
    return found


def measured(series: Series, found: np.ndarray) -> dict[str, Any]:
    """Alarms and events at these thresholds (V,)."""
    positive, length = series.scores > found, len(series.recording)
    alarms = false_alarms(series.labels, series.samples, positive, series.hop, series.recording.period_s, length)
    events = find_events(series.labels, series.samples, positive, series.hop)
    return {
        "episodes": alarms.episodes, "days": alarms.normal_days, "in_alarm": alarms.normal_share,
        "found": int(events.detected.sum()), "events": len(runs(series.labels)),
    }  # fmt: skip


def fits(series: Series) -> bool:
    """Whether the trained threshold means something on the recording's first fifth."""
    first = len(series.scores) // 5
    normal = ~series.labels[series.samples[:first]]
    return bool((series.scores[:first][normal] > series.threshold).mean() <= 0.1)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sums over the recordings of a group in one case, for each candidate."""
    found = []
    for key in dict.fromkeys((row["group"], row["fits"], row["case"], row["threshold"]) for row in rows):
        own = [row for row in rows if (row["group"], row["fits"], row["case"], row["threshold"]) == key]
        days = sum(row["days"] for row in own)
        found.append({
            "recordings": f"{key[0]}, {len(own)}" + ("" if key[1] else " that do not fit"), "case": key[2],
            "threshold": key[3], "false alarms a day": sum(row["episodes"] for row in own) / days,
            "normal time in alarm": float(np.average([r["in_alarm"] for r in own], weights=[r["days"] for r in own])),
            "events found": f"{sum(row['found'] for row in own)} of {sum(row['events'] for row in own)}",
        })  # fmt: skip
    return found


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
def main(data: Path) -> None:
    """Measure, print and save."""
    rows = []
    series = all_series(data)
    fitting = {one.name for one in series if one.case == "as it is" and fits(one)}
    for one in series:
        for name in [*CANDIDATES, "oracle"]:
            found = oracle(one) if name == "oracle" else thresholds(name, one)
            rows.append({
                "group": one.group, "recording": one.name, "fits": one.name in fitting, "case": one.case,
                "threshold": name, **measured(one, found),
            })  # fmt: skip
    figures = summary(rows)
    print(table(figures))
    save("drift", figures, recordings={group: list(specs) for group, specs in GROUPS.items()}, band=BAND, seed=SEED)


if __name__ == "__main__":
    main()
