"""Verdicts to alarms: where an anomaly begins and where it ends. Pure: no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.runtime.detector import Verdict


@dataclass(frozen=True)
class Onset:
    """The first anomalous verdict after normal ones."""

    verdict: Verdict


@dataclass(frozen=True)
class End:
    """The first normal verdict after anomalous ones."""

    verdict: Verdict
    start: int
    """Sample of the onset."""
    peak: float
    """Largest score of the episode."""

    @property
    def samples(self) -> int:
        """Length of the episode, from its first anomalous verdict to its first normal one."""
        return self.verdict.sample - self.start


class Episodes:
    """Joins anomalous verdicts that follow each other into one episode."""

    def __init__(self) -> None:
        self.start: int | None = None
        """Sample of the onset of the episode that is open, None where there is none."""
        self.peak = 0.0

    def update(self, verdict: Verdict) -> Onset | End | None:
        """What this verdict begins or ends."""
        if verdict.is_anomaly:
            if self.start is None:
                self.start, self.peak = verdict.sample, verdict.score
                return Onset(verdict)
            self.peak = max(self.peak, verdict.score)
            return None
        if self.start is None:
            return None
        end = End(verdict, self.start, self.peak)
        self.start, self.peak = None, 0.0
        return end

    def snapshot(self) -> dict[str, float | None]:
        """The open episode, JSON-able."""
        return {"start": self.start, "peak": self.peak}

    def restore(self, snapshot: dict[str, float | None]) -> None:
        """Go on from a snapshot."""
        start, peak = snapshot.get("start"), snapshot.get("peak")
        self.start = None if start is None else int(start)
        self.peak = float(peak or 0.0)
