"""What the page's history is made of, as a run goes on: every five seconds the extent of each sensor and the scores.

A sample costs the loop a copy, a verdict a comparison; all else is the disk writer's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekd.runtime.detector import Verdict
from edgekd.runtime.gateway.page.history import FINEST_S, Event, History, Interval
from edgekd.runtime.loop import Loop, Watcher
from edgekd.runtime.sources import Row

BLOCK = 512  # samples that are looked at together


class Sampler(Watcher):
    """Hands intervals and events of one stream to the history."""

    _score: float | None
    _slow: float | None
    _parts: np.ndarray

    def __init__(self, name: str, loop: Loop, history: History) -> None:
        """name: of the stream."""
        self.now = 0.0
        """Time of the newest sample in seconds since 1970: its own label, else the wall clock's."""
        self.arrived_at: float | None = None
        """When it came, on the monotonic clock."""
        self.rate_hz: float | None = None
        """Samples a second, of late."""
        self.newest = np.full(len(loop.detector.manifest.sensors), np.nan, np.float32)
        """(n,) raw units, what each sensor said last."""
        self._name = name
        self._loop = loop
        self._history = history
        self._sensors = loop.detector.manifest.names
        self._block = np.empty((BLOCK, len(self._sensors)), np.float32)
        self._told_at = time.monotonic()  # when an interval was handed over
        self._new = False  # whether a sample has come since
        self._counted = self._told_at, 0  # when, and how many samples there had been
        self._count_every_s = max(FINEST_S, 3 * loop.detector.manifest.period_s)
        self._settled = False
        self._begin(0)

    def sample(self, row: Row) -> None:
        """Into the interval of its time."""
        self.now = time.time() if row.seconds is None else row.seconds
        self.arrived_at = time.monotonic()
        if not self._time <= self.now < self._time + FINEST_S:
            self._hand_over()
            self._begin(int(self.now // FINEST_S) * FINEST_S)
        for values in (row.values,) if row.values.ndim == 1 else row.values:  # an image has several rows
            self._block[self._filled] = values
            self._filled += 1
            if self._filled == BLOCK:
                self._fold()
        self._new = True

    def verdict(self, verdict: Verdict, row: Row) -> None:
        """The largest counts."""
        self._hops += 1
        self._threshold = verdict.threshold
        self._anomalous += verdict.is_anomaly or (verdict.slow is not None and verdict.slow.is_anomaly)
        if self._score is None or verdict.score > self._score:
            self._score = verdict.score
            np.copyto(self._parts, verdict.contributions)
        if verdict.slow is not None:
            self._slow = verdict.slow.score if self._slow is None else max(self._slow, verdict.slow.score)

    def tick(self) -> None:
        """Hand over what is there, so that a power cut takes no more than the newest seconds."""
        if not self._settled:  # the state is restored by now
            self._settled = True
            episodes = {"": self._loop.episodes, "slow": self._loop.slow}
            self._history.settle(self._name, {kind for kind, of in episodes.items() if of.start is not None})
        now = time.monotonic()
        if now - self._told_at >= FINEST_S:
            self._hand_over()
        if (lasted_s := now - self._counted[0]) >= self._count_every_s:
            self.rate_hz = (self._loop.samples - self._counted[1]) / lasted_s
            self._counted = now, self._loop.samples

    def end(self) -> None:
        """The rest."""
        self._hand_over()

    def event(self, event: Mapping[str, Any]) -> None:
        """One that is told now."""
        if event["event"] == "score":
            return
        now, start = self.now or time.time(), 0.0
        if event["event"] == "anomaly":
            manifest, newest = self._loop.detector.manifest, self._loop.detector.samples_seen - 1
            samples_ago = newest - event.get("start", event["sample"])
            start = now - (max(0, samples_ago) + manifest.hop - 1) * manifest.period_s  # where its first hop begins
        self._history.add(Event(self._name, now, start, event))

    def _begin(self, interval: int) -> None:
        n = len(self._sensors)
        self._time = interval
        self._filled = self._samples = self._hops = 0
        self._anomalous = 0
        self._score = self._slow = None
        self._threshold = self._loop.detector.threshold
        self._parts = np.zeros(n, np.float32)
        self._low, self._high = np.full((2, n), np.nan, np.float32)
        self._sum, self._count = np.zeros((2, n))

    def _fold(self) -> None:
        """The block into the extent of the interval."""
        block = self._block[: self._filled]
        block[~np.isfinite(block)] = np.nan
        there = ~np.isnan(block)
        self._low = np.fmin(self._low, np.fmin.reduce(block))
        self._high = np.fmax(self._high, np.fmax.reduce(block))
        self._sum += np.where(there, block, 0.0).sum(axis=0, dtype=float)
        self._count += there.sum(axis=0)
        np.copyto(self.newest, block[-1], where=there[-1])
        self._samples += self._filled
        self._filled = 0

    def _hand_over(self) -> None:
        """The interval as far as it goes; what comes in it yet replaces this."""
        self._told_at = time.monotonic()
        if not self._new:
            return
        self._new = False
        if self._filled:
            self._fold()
        with np.errstate(invalid="ignore"):  # a sensor that was not there
            mean = (self._sum / self._count).astype(np.float32)
        size = float(np.abs(self._parts).sum())
        share = self._parts / size if 0 < size < np.inf else np.zeros_like(self._parts)
        self._history.add(Interval(
            self._name, self._time, self._sensors, self._samples, self._hops, self._anomalous, self._score,
            self._threshold, self._slow, self._low, self._high, mean, share,
        ))  # fmt: skip
