"""Verdicts to alarms: where an anomaly begins and where it ends. Pure: no clock, no I/O; time is counted in samples."""

from __future__ import annotations

from typing import Any, NamedTuple

from edgekd.runtime.detector import LARGEST_SCORE, Verdict

COOLDOWN_HOPS = 6
"""What a device is cool for after an end where nobody says otherwise, and what budgets of false alarms count with."""


class Onset(NamedTuple):
    """The verdict with which an episode is told."""

    verdict: Verdict
    start: int  # sample of the episode's first anomalous verdict: this one's, unless the episode had to last first


class End(NamedTuple):
    """The first verdict after an episode."""

    verdict: Verdict
    start: int  # sample of the episode's first anomalous verdict
    peak: float  # largest score of the episode

    @property
    def samples(self) -> int:
        """Length of the episode, from its first anomalous verdict to the first after it."""
        return self.verdict.sample - self.start


class Episodes:
    """Joins anomalous verdicts that follow each other into one episode, told once.

    By itself an episode begins with the first anomalous verdict and ends with the first normal one. Debounced:

    min_samples: it is told once verdicts have been anomalous without a break for so many samples, first to last; one
        that is over before is never told. Its start is that of the first of them.
    cooldown_samples: after an end none is told for so many samples. Verdicts that are still anomalous then, or are for
        the first time, begin one as ever: what lasts is told late, not never.
    hysteresis: an open one ends only where a score is not above this share of the threshold, 1 being the threshold
        itself. It keeps a score that wavers about the threshold in one episode, and delays no onset.
    """

    def __init__(self, min_samples: int = 0, cooldown_samples: int = 0, hysteresis: float = 1.0) -> None:
        self._min_samples = min_samples
        self._cooldown_samples = cooldown_samples
        self._hysteresis = hysteresis
        self.start: int | None = None  # sample at which the episode that is open began, None where there is none
        self.peak = 0.0
        self._since: int | None = None  # first anomalous verdict of a run that is not told (yet)
        self._ended: int | None = None  # sample of the newest end

    @property
    def quiet(self) -> bool:
        """Whether nothing is open and the newest verdict was normal."""
        return self.start is None and self._since is None

    def update(self, verdict: Verdict) -> Onset | End | None:
        """What this verdict begins or ends."""
        if self.start is not None:
            if verdict.is_anomaly or verdict.score > self._hysteresis * verdict.threshold:
                self.peak = max(self.peak, verdict.score)
                return None
            end = End(verdict, self.start, self.peak)
            self.start, self.peak, self._ended = None, 0.0, verdict.sample
            return end
        if not verdict.is_anomaly:
            self._since = None
            return None
        if self._since is None:
            self._since, self.peak = verdict.sample, verdict.score
        self.peak = max(self.peak, verdict.score)
        cooling = self._ended is not None and verdict.sample - self._ended < self._cooldown_samples
        if cooling or verdict.sample - self._since < self._min_samples:
            return None
        self.start, self._since = self._since, None
        return Onset(verdict, self.start)

    def interrupt(self) -> None:
        """Samples are missing here: anomalous verdicts before and after do not follow each other."""
        self._since = None

    def snapshot(self) -> dict[str, Any]:
        """The open episode and what debouncing knows, JSON-able."""
        return {"start": self.start, "peak": self.peak, "since": self._since, "ended": self._ended}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a snapshot; raises KeyError, TypeError or ValueError, and changes nothing, where it is none."""
        at = (snapshot[name] for name in ("start", "since", "ended"))
        start, since, ended = (None if sample is None else int(min(max(0, sample), 2**63)) for sample in at)
        self.peak = min(LARGEST_SCORE, max(-LARGEST_SCORE, float(snapshot["peak"])))
        self.start, self._since, self._ended = start, since, ended
