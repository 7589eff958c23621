"""Two models on one stream: the one whose verdicts are told, and one in its shadow that sees the same samples.

A new model is compared with the old one twice by the same rules: in the old one's shadow, and after it has taken the
old one's place, which then goes on in its shadow. Time is counted in samples.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from edgekd.runtime.detector import BY_SENSOR, Detector, Verdict
from edgekd.runtime.engines import Engine
from edgekd.runtime.gateway.watchers.site_threshold import SiteThreshold
from edgekd.runtime.json_fields import shown

LEAST_VERDICTS = 50  # ranks and rates of fewer say little
KEPT_VERDICTS = 10_000  # whose ranks are compared, the newest: 80 KB
RANKED_VERDICTS = 200  # of fewer, ranks say little, see below
LEAST_RANK = 0.1  # of linear models of three servers (ASD, SMD; two presets, two halves of the training) on the test
# part, any two had -0.47 to 0.98 over 50 verdicts, 0.32 to 0.97 over 400
FREE_ALARMS = 10  # verdicts: a rate of a few hops in alarm is chance
_OF_INPUT = ("seen", "samples", *BY_SENSOR, "still", "since")  # of a snapshot: it follows from the samples alone


class Trial:
    """A new model against the old one, from a hop's end on."""

    def __init__(
        self, running: Detector, other: Detector, site: SiteThreshold, samples: int, factor: float, probation: bool
    ) -> None:
        """other: the one in the shadow of `running`, with the threshold of `site`; the old one where `probation`.

        samples: how long it lasts. factor: the new one may alarm so many times as often as the old one.
        """
        self.other = other
        self.site = site
        self.probation = probation
        self.problem = ""
        """Why the new one does not do."""
        self.over = False
        """Whether the new one has done for long enough, or the old one cannot be gone back to."""
        self.last: Verdict | None = None
        """Of the one in the shadow."""
        self.verdicts = self.alarms_new = self.alarms_old = 0
        """Hops that both have judged, and how many of them were anomalies."""
        self._new = running if probation else other
        self._factor = factor
        self._until = running.samples_seen + samples
        self._pairs: deque[tuple[float, float]] = deque(maxlen=KEPT_VERDICTS)
        self._diverged = self._new.diverged_steps
        self._still = 0

    def beside(self, sample: Any) -> Verdict | None:
        """What the one in the shadow says to a sample."""
        try:
            verdict = self.other.update(sample)
        except Exception as error:  # the engines' own, of many kinds
            self.over = self.probation
            if not self.probation:
                self.fail(error)
            return None
        self.other.sensor_changes(), self.other.stuck_changes()  # the running one tells them
        if (lost := _state_lost(self.other)) and not self.probation:
            self.problem = f"it fails: {lost}"
        if verdict is not None:
            self.last = verdict
            moved = self.site.update(verdict.sample, verdict.score, alarm=verdict.is_anomaly)
            self.other.threshold = moved.threshold if moved else self.other.threshold
        return verdict

    def fail(self, error: Exception) -> None:
        """The new one has raised this."""
        self.problem = f"it fails: {shown(str(error) or type(error).__name__, 200)}"

    def compare(self, new: Verdict | None, old: Verdict | None) -> None:
        """What both have said to one hop; finds the problem, if there is one."""
        if self._new.diverged_steps > self._diverged:
            self.problem = "its score is not finite"
        if new is None or old is None or self.problem:
            return  # one of them is warming up
        self.verdicts += 1
        self.alarms_new += _alarms(new)
        self.alarms_old += _alarms(old)
        new_was, old_was = self._pairs[-1] if self._pairs else (None, None)
        self._pairs.append((new.score, old.score))
        self._still = 0 if new.score != new_was else self._still + (old.score != old_was)
        if self.alarms_new > self._factor * max(self.alarms_old, FREE_ALARMS):
            self.problem = f"it alarms too often: {self.alarms_new} of {self.verdicts} verdicts, the old one"
            self.problem += f" {self.alarms_old}"
        elif self._still >= LEAST_VERDICTS - 1:
            self.problem = f"it has fallen silent: its score is {new.score:g} whatever comes"
        elif self.verdicts >= LEAST_VERDICTS and self.other.samples_seen >= self._until:
            rank = self.rank_correlation
            self.over = self.verdicts < RANKED_VERDICTS or rank >= LEAST_RANK
            self.problem = "" if self.over else f"its scores go another way: rank correlation {rank:.2f}"

    @property
    def score(self) -> float | None:
        """The newest of the one in the shadow."""
        return self.last.score if self.last else None

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of the newest scores of both."""
        new, old = np.array(self._pairs).T.argsort(axis=1).argsort(axis=1)  # ranks, (verdicts,) each
        return float(np.corrcoef(new, old)[0, 1])

    def figures(self) -> dict[str, Any]:
        """What was compared, for an event."""
        told: dict[str, Any] = {"verdicts": self.verdicts, "alarms": self.alarms_new, "alarms_old": self.alarms_old}
        if self.verdicts >= LEAST_VERDICTS:
            told["rank_correlation"] = round(self.rank_correlation, 3)
        return told


def _alarms(verdict: Verdict) -> bool:
    return verdict.is_anomaly or (verdict.slow is not None and verdict.slow.is_anomaly)


def _state_lost(detector: Detector) -> str:
    """Why the newest loss of its state since the last call was; empty where it has lost none."""
    resets = detector.state_resets()
    return resets[-1].reason if resets else ""


class Switch:
    """What a loop takes for its detector: the running one, and a trial of another beside it. See `Detector`."""

    def __init__(self, running: Detector) -> None:
        self.running = running
        self.trial: Trial | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.running, name)

    @property
    def threshold(self) -> float:
        """The running one's."""
        return self.running.threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        self.running.threshold = value

    @property
    def engine(self) -> Engine:
        """The running one's."""
        return self.running.engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        self.running.engine = engine

    def update(self, sample: Any) -> Verdict | None:
        """One sample to both; the verdict of the running one, or on probation the old one's where that has failed."""
        trial = self.trial
        if trial is None:
            return self.running.update(sample)
        beside = trial.beside(sample)
        try:
            told = self.running.update(sample)
        except Exception as error:
            if not trial.probation:
                raise
            trial.fail(error)
            return beside
        if trial.probation and (lost := _state_lost(self.running)):
            trial.problem = f"it fails: {lost}"
            return beside
        if not self.between_hops:
            return None
        trial.compare(*((told, beside) if trial.probation else (beside, told)))
        return beside if trial.probation and trial.problem else told

    def rewarm(self) -> None:
        """Both."""
        self.running.rewarm()
        if self.trial:
            self.trial.other.rewarm()

    @property
    def between_hops(self) -> bool:
        """Whether the next sample begins a hop."""
        return self.running.samples_seen % self.running.manifest.hop == 0

    def exchange(self) -> None:
        """The one in the shadow takes the place of the other, which is in its shadow then."""
        assert self.trial
        self.running, self.trial.other = self.trial.other, self.running


def carry_over(running: Detector, other: Detector) -> None:
    """Let `other` go on where `running` is, between two hops: all of the state where both are of one graph.

    Of another graph's only what follows from the samples alone: which sensors are missing, and since when. It warms up.
    """
    now, cold = running.snapshot(), other.snapshot()
    same = running.manifest.digests.file == other.manifest.digests.file
    taken = {name: now[name] for name in (now if same else _OF_INPUT) if name in now and name in cold}
    other.restore({**cold, **{name: value for name, value in taken.items() if value.shape == cold[name].shape}})
    if not same:
        other.rewarm()
