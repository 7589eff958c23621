"""The threshold of one site: what its first day sets (`calibrate-for`), and how it follows drift (`adapt`).

Both compare one figure, the 0.9 quantile of the scores here with that of the scores on normal training data, which the
manifest tells. A detector's scores grow as a whole where sensors age or an installation differs, so the threshold keeps
its ratio to that quantile: the trained rule's margin. Pure: no clock, no I/O; no label is ever seen.

Why this, by `python -m bench.detection.drift` (SMD, ASD, NAB, each as it is, with slow drift and shifted as at another
site; SKAB is too short to learn from; chosen on these same recordings):

- A day's 0.9 quantile gives fewer false alarms than the fixed threshold, or as many, in ten of twelve cases, about half
  as many on ASD under drift, and finds about as many events except where the fixed one is in alarm a fifth of the time.
  Streaming peaks over threshold give more than the fixed one in nine (DSPOT) to eleven (SPOT) of twelve: the tail is
  fitted to the few scores that an unlabeled anomaly spoils first. The median misjudges where training was short; a
  day's 0.99 quantile is one or two scores.
- A first day moves the threshold both ways. Where it raises it, there are no more false alarms in any of the twelve;
  where one quiet day lowers it, there are up to 1.6 times as many, and up to 4 of 36 events more are found: hence no
  further down than to a half, and a band of 1 to 10 for those to whom false alarms are the greater harm.

Why own code: of the packages for streaming quantiles those with few dependencies are compiled, without wheels for
32-bit ARM; P² (Jain and Chlamtac, "The P² algorithm for dynamic calculation of quantiles and histograms without storing
observations", CACM 28(10), 1985) is five markers.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

from edgekd.runtime.detector import Verdict
from edgekd.runtime.errors import UsageError
from edgekd.runtime.loop import Loop, Watcher
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import Items, Row

DAY_S = 86_400.0  # load has daily cycles: a window of another length would take them for drift
SHARE = 0.9  # of normal scores below the quantile that is compared
MIN_VERDICTS = 50  # five scores above the quantile: of fewer it wavers by more than what it is to follow
CALIBRATE_BAND = (0.5, 10.0)  # factors beyond which a first day says that something is broken, not that sites differ


class P2Quantile:
    """One quantile of a stream in five markers; exact up to five values.

    Good to a few percent of rank in any order but one: values that fall all the time leave it near the first of them.
    """

    def __init__(self, share: float) -> None:
        """share: of the values that lie below it, 0 to 1."""
        self.share = share
        self.count = 0
        self._heights: list[float] = []
        self._places = [0, 1, 2, 3, 4]
        self._wanted = (share / 2, share, (1 + share) / 2)  # of markers 1 to 3, in parts of the way to the last

    @property
    def value(self) -> float:
        """The quantile so far; NaN before the first value."""
        if self.count > 5:
            return self._heights[2]
        return self._heights[round(self.share * (self.count - 1))] if self.count else math.nan

    def add(self, value: float) -> None:
        """One more value, finite."""
        self.count += 1
        heights, places = self._heights, self._places
        if self.count <= 5:
            heights.insert(bisect_right(heights, value), value)
            return
        cell = min(max(bisect_right(heights, value), 1), 4)  # markers from here on move up by one place
        heights[0], heights[4] = min(heights[0], value), max(heights[4], value)
        for i in range(cell, 5):
            places[i] += 1
        for i, wanted in enumerate(self._wanted, 1):
            off = wanted * places[4] - places[i]
            if (off >= 1 and places[i + 1] - places[i] > 1) or (off <= -1 and places[i - 1] - places[i] < -1):
                self._move(i, 1 if off > 0 else -1)

    def _move(self, i: int, step: int) -> None:
        """Marker `i` by one place: on the parabola through its neighbors, or the line where that would cross one."""
        q, n = self._heights, self._places
        left, right = n[i] - n[i - 1], n[i + 1] - n[i]
        slope = (left + step) * (q[i + 1] - q[i]) / right + (right - step) * (q[i] - q[i - 1]) / left
        height = q[i] + step / (left + right) * slope
        if not q[i - 1] < height < q[i + 1]:
            height = q[i] + step * (q[i + step] - q[i]) / (n[i + step] - n[i])
        q[i], n[i] = height, n[i] + step

    def snapshot(self) -> list[float]:
        """Count, heights and places, JSON-able."""
        return [self.count, *self._heights, *self._places]

    def restore(self, snapshot: list[float]) -> None:
        """Go on from a snapshot; raises TypeError or ValueError, and changes nothing, where it is none."""
        count = int(snapshot[0]) if snapshot else -1
        known = min(count, 5)
        if count < 0 or len(snapshot) != 1 + known + 5 or not all(math.isfinite(value) for value in snapshot):
            raise ValueError("no snapshot of a quantile")
        self.count, self._heights = count, [float(value) for value in snapshot[1 : 1 + known]]
        self._places = [int(value) for value in snapshot[1 + known :]]


@dataclass(frozen=True)
class Moved:
    """The threshold is another one from the next verdict on."""

    event: str
    """"site_threshold" or "threshold_moved"."""
    threshold: float
    trained: float
    verdicts: int
    """How many scores it stands on."""


class SiteThreshold:
    """The threshold in force, `value`; feed it every verdict's score, and it says when it has changed.

    calibrate_samples: the first so many samples set the site's own threshold, within the two factors calibrate_band of
    the trained one, which rules until then. All scores count, those above it too: that they are above it may be what
    has to be mended, and a 0.9 quantile does not mind a few anomalies. band: follow drift within these two factors of
    the threshold that was set, moved by each day's scores; nothing is learned while an alarm is on or from a score
    above the threshold. reset: whatever is restored is forgotten. With neither, a threshold that this site had set
    before and that is restored rules.
    Raises UsageError for a model that gives no scale to compare with.
    """

    def __init__(
        self,
        manifest: Manifest,
        trained: float,
        calibrate_samples: int = 0,
        band: tuple[float, float] | None = None,
        reset: bool = False,
        calibrate_band: tuple[float, float] = CALIBRATE_BAND,
    ) -> None:
        self.trained = trained
        self._normal = manifest.score.normal_p90
        self._calibrate_samples = calibrate_samples
        self._calibrate_band = calibrate_band
        self._band = band
        self.reset = reset
        """Whether what is restored is forgotten."""
        if (calibrate_samples or band) and min(self._normal, trained) <= 0:
            raise UsageError(
                "this model tells no scores of normal data that are above 0, or no such threshold, so that this site's "
                "cannot be scaled by them; export it again, or leave out adapt and calibrate-for"
            )
        self._window = max(MIN_VERDICTS, round(DAY_S / (manifest.hop * manifest.period_s)))  # verdicts
        self.forget()

    def forget(self) -> None:
        """Back to the trained threshold; calibration, if wanted, begins again."""
        self.value = self.trained
        self.site: float | None = None
        """What the first day here has set, None where it has not."""
        self._reference = self._normal  # the quantile that belongs to `base`
        self._recent = P2Quantile(SHARE)
        self._first_day = P2Quantile(SHARE) if self._calibrate_samples else None
        self._since: int | None = None

    @property
    def base(self) -> float:
        """The threshold that drift is measured from."""
        return self.trained if self.site is None else self.site

    def update(self, sample: int, score: float, alarm: bool) -> Moved | None:
        """One verdict's sample and score, and whether an alarm is on; what this changes from the next verdict on."""
        if self._first_day is not None:
            return self._calibrate(self._first_day, sample, score)
        if self._band is None or alarm or score > self.value:
            return None
        self._recent.add(score)
        if self._recent.count < self._window:
            return None
        low, high = self._band
        factor = min(max(self._recent.value / self._reference, low), high)
        before, self.value, verdicts = self.value, self.base * factor, self._recent.count
        self._recent = P2Quantile(SHARE)
        return Moved("threshold_moved", self.value, self.trained, verdicts) if self.value != before else None

    def _calibrate(self, scores: P2Quantile, sample: int, score: float) -> Moved | None:
        """The first day's scores; the site's threshold when it is over."""
        self._since = sample if self._since is None else self._since
        scores.add(score)
        if sample - self._since < self._calibrate_samples or scores.count < MIN_VERDICTS:
            return None
        low, high = self._calibrate_band
        factor = min(max(scores.value / self._normal, low), high)
        self.value = self.site = self.trained * factor
        self._reference = self._normal * factor
        self._first_day = self._since = None
        return Moved("site_threshold", self.value, self.trained, scores.count)

    def snapshot(self) -> dict[str, Any]:
        """All that was learned here, JSON-able."""
        first_day = None if self._first_day is None else self._first_day.snapshot()
        return {
            "trained": self.trained, "value": self.value, "site": self.site, "reference": self._reference,
            "recent": self._recent.snapshot(), "first_day": first_day, "since": self._since,
        }  # fmt: skip

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a snapshot; raises KeyError, TypeError or ValueError, and changes nothing, where it is none.

        What was learned about another trained threshold (`threshold` has changed) is forgotten, and so is what these
        settings do not ask for: a place on the way to calibration, a threshold that has moved.
        """
        site, since = snapshot["site"], snapshot["since"]
        value, reference, trained = (float(snapshot[name]) for name in ("value", "reference", "trained"))
        if not all(map(math.isfinite, (value, reference, trained, 0.0 if site is None else site))):
            raise ValueError("no snapshot of a threshold")
        recent, first_day = P2Quantile(SHARE), P2Quantile(SHARE)
        recent.restore(snapshot["recent"])
        if snapshot["first_day"] is not None:
            first_day.restore(snapshot["first_day"])
        self.forget()
        if trained != self.trained or self.reset:
            return
        if site is not None:
            self.value = self.site = float(site)
            self._reference, self._first_day = reference, None
        elif self._first_day is not None:
            self._first_day, self._since = first_day, since
        if self._band is not None:
            low, high = self._band
            self._recent, self.value = recent, min(max(value, low * self.base), high * self.base)


class ThresholdWatcher(Watcher):
    """Lets the site's threshold see every score, and the detector the threshold; part of the saved state."""

    def __init__(self, loop: Loop, site: SiteThreshold) -> None:
        self._loop = loop
        self.site = site
        """Of the model that runs."""
        self._reset_untold = site.reset

    def snapshot(self) -> dict[str, Any]:
        """See `SiteThreshold.snapshot`."""
        return self.site.snapshot()

    def restore(self, snapshot: dict[str, Any]) -> None:
        """See `SiteThreshold.restore`."""
        self.site.restore(snapshot)
        self._loop.detector.threshold = self.site.value

    def arrived(self, items: Items) -> None:
        """Once the state is there: tell that what the site had learned is not."""
        if self._reset_untold:
            self._reset_untold = False
            self._loop.say(f"what this site had done to the threshold is forgotten, it is {self.site.value:g} again")
            self._loop.emit({"event": "threshold_reset", "threshold": self.site.value})

    def verdict(self, verdict: Verdict, row: Row) -> None:
        """Learn from the score, and tell where that moves the threshold."""
        if row.frame is not None:
            return
        moved = self.site.update(verdict.sample, verdict.score, alarm=not self._loop.episodes.quiet)
        if moved is None:
            return
        self._loop.detector.threshold = moved.threshold
        told = {"threshold": moved.threshold, "trained": moved.trained, "verdicts": moved.verdicts}
        self._loop.emit({"event": moved.event, "sample": verdict.sample, "time": self._loop.time_of(row)} | told)
        self._loop.say(
            f"the threshold is {moved.threshold:.6g} from now on, {moved.threshold / moved.trained:.3g} times the"
            f" trained one, by {moved.verdicts} scores of this site"
        )
