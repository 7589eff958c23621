"""The one loop: source -> detector -> episodes -> sink. Whatever else a run does looks on, as a `Watcher`.

Events are written before the state that has seen them is saved, so after a kill the last few may be told again, never
lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from edgekd.runtime.detector import Detector, SensorChange, StuckChange, Verdict, severity_of
from edgekd.runtime.duration import duration
from edgekd.runtime.episodes import COOLDOWN_HOPS, End, Episodes, Onset
from edgekd.runtime.errors import InputLost, ModelRefused, UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sinks import json_score, json_time, rounded, wall_time
from edgekd.runtime.sources import TICK_S, InputEvent, Items, Row, Source

SLOW_HYSTERESIS = 0.8  # averages waver about the threshold for hours

Emit = Callable[[Mapping[str, Any]], None]
Say = Callable[[str], None]


class Watcher:
    """Something that looks on; it overrides what it wants to see. Nothing here may block, but `begin` and `end`."""

    def begin(self) -> None:
        """Before the input is asked for the first time."""

    def arrived(self, items: Items) -> None:
        """The source was asked; `items` came, possibly none."""

    def sample(self, row: Row) -> None:
        """This sample goes to the detector next."""

    def verdict(self, verdict: Verdict, row: Row) -> None:
        """The detector has judged the hop that ends with this sample, and the verdict was told."""

    def tick(self) -> None:
        """All that came has gone through."""

    def end(self) -> None:
        """No sample will come any more."""


class Loop:
    """One stream from its source to its events. `run` drives it; so can others, by `begin`, `turn` and `end`."""

    def __init__(
        self, source: Source, detector: Detector, episodes: Episodes, emit: Emit, say: Say, scores: bool = False
    ) -> None:
        """scores: tell every verdict, not only the anomalies."""
        self.source = source
        self.detector = detector
        self.episodes = episodes
        self.slow = Episodes(cooldown_samples=COOLDOWN_HOPS * detector.manifest.hop, hysteresis=SLOW_HYSTERESIS)
        """Of slow verdicts, which have their own."""
        self.watchers: list[Watcher] = []
        self.emit = emit  # takes every event
        self.say = say  # words for people
        self.samples = self.verdicts = self.anomalies = 0  # of this run; episodes that began count as anomalies
        self.last: Verdict | None = None  # the newest verdict
        self.stopped = False  # whether it was told to stop
        self._scores = scores

    def stop(self) -> None:
        """End after the sample in hand; for a signal handler."""
        self.stopped = True

    def run(self) -> None:
        """Until the input ends, or `stop`. Raises InputLost where the input fails for good."""
        self.begin()
        try:
            with contextlib.closing(iter(self.source)) as arriving:  # type: ignore[type-var]
                for items in arriving:
                    self.turn(items)
                    if self.stopped:
                        break
                    if not items and self.source.idle:
                        self.source.wait(TICK_S)
        except (InputLost, ModelRefused):  # of an engine that fails: what is saved is not what it fails with
            self.end()
            raise
        self.end(whole=True)

    def begin(self) -> None:
        """Before the first turn."""
        for watcher in self.watchers:
            watcher.begin()

    def end(self, whole: bool = False) -> None:
        """After the last turn. whole: the input was read to its end; raises InputLost or UsageError if for nothing."""
        for watcher in self.watchers:
            watcher.end()
        rows = self.source.rows
        if whole and self.source.live and rows.bad and not (self.samples or self.stopped):
            raise InputLost(f"{self.source.name}: none of its {rows.bad} {rows.unit} is a sample ({rows.last_bad})")
        if whole and not (self.detector.samples_seen or self.source.live):
            reason = f" ({rows.last_bad})" if rows.bad else ""
            raise UsageError(f"{shown(self.source.name, 300)}: holds no samples{reason}")

    def turn(self, items: Items) -> None:
        """What has come, through the detector and out."""
        for watcher in self.watchers:
            watcher.arrived(items)
        for item in items:
            if isinstance(item, InputEvent):
                self._input(item)
            else:
                self._sample(item)
            if self.stopped:
                break
        for watcher in self.watchers:
            watcher.tick()

    def time_of(self, row: Row) -> str | float | None:
        """The source's own label; a live source that gives none gets the wall clock's."""
        return wall_time() if row.time is None and self.source.live else json_time(row.time)

    def summary(self) -> str:
        """What has been done, for people."""
        if not self.samples and not self.source.live:
            where = f"sample {self.detector.samples_seen}, where the saved state is"
            return f"{shown(self.source.name, 300)} has nothing after {where}"
        held = sum(self.detector.held_values.values())
        more = f", {held} missing values held" if held else ""
        return f"{self.samples} samples, {self.verdicts} verdicts, {self.anomalies} anomalies{more}"

    def _input(self, event: InputEvent) -> None:
        if event.rewarm:
            self.detector.rewarm()
        if event.told:
            self.emit({"event": event.event, "time": wall_time(), **event.fields})
            self.say(event.words)

    def _sample(self, row: Row) -> None:
        self.samples += 1
        for watcher in self.watchers:
            watcher.sample(row)
        verdict = self.detector.update(row.values)
        if self.detector.samples_seen % self.detector.manifest.hop:  # nothing is found within a hop
            return
        for change in self.detector.sensor_changes():
            self._sensor(change, row)
        for stuck in self.detector.stuck_changes():
            self._stuck(stuck, row)
        for sample, reason in self.detector.state_resets():
            self.emit({"event": "state_reset", "sample": sample, "time": self.time_of(row), "reason": reason})
            self.say(f"the model's state is lost: {reason}; verdicts come again after the warm-up")
        if verdict is not None:
            self.verdicts += 1
            self.last = verdict
            self._tell(verdict, row)
            for watcher in self.watchers:
                watcher.verdict(verdict, row)

    def _tell(self, verdict: Verdict, row: Row) -> None:
        """The verdict, and the episodes that it begins or ends."""
        frame = {} if row.frame is None else {"frame": row.frame}
        if self._scores:
            score = {"score": json_score(verdict.score), "severity": rounded(verdict.severity)}
            judged = {"anomaly": verdict.is_anomaly}
            slow = {"slow": json_score(verdict.slow.score)} if verdict.slow else {}
            self.emit({"event": "score", "sample": verdict.sample, **score, **judged, **slow, **frame})
        if row.frame is None:
            self._turn(self.episodes.update(verdict), row, {})
        elif verdict.is_anomaly:  # images have nothing to do with one another: each is told
            self._turn(Onset(verdict, verdict.sample), row, frame)
        if verdict.slow is not None:
            self._turn(self.slow.update(verdict.slow), row, {"kind": "slow"})

    def _turn(self, turn: Onset | End | None, row: Row, more: dict[str, Any]) -> None:
        if turn is None:
            return
        self.anomalies += isinstance(turn, Onset)
        event, told = _told(turn, self.detector.manifest.period_s)
        self.emit({"event": event, "sample": turn.verdict.sample, "time": self.time_of(row), **told, **more})

    def _sensor(self, change: SensorChange, row: Row) -> None:
        event = "sensor_missing" if change.missing else "sensor_back"
        self.emit({"event": event, "sample": change.sample, "time": self.time_of(row), "sensor": change.sensor})
        state = "is missing and left out of the score" if change.missing else "is back"
        self.say(f"sensor '{change.sensor}' {state}")

    def _stuck(self, change: StuckChange, row: Row) -> None:
        spec = self.detector.manifest.sensors[self.detector.manifest.names.index(change.sensor)]
        value, low, high = map(json_score, (change.value, spec.low, spec.high))
        lasted_s = (change.sample + 1 - change.start) * self.detector.manifest.period_s
        at = {"sample": change.sample, "time": self.time_of(row), "sensor": change.sensor, "start": change.start}
        event = "sensor_stuck" if change.stuck else "sensor_stuck_end"
        self.emit({"event": event, **at, "duration_s": lasted_s, "value": value, "low": low, "high": high})
        state = "has said" if change.stuck else "moves again; it had said"
        usual = f"in training it moved within {duration(spec.longest_still_s)}, from {low:g} to {high:g}"
        self.say(f"sensor '{change.sensor}' {state} {value:g} for {duration(lasted_s)}; {usual}")


def _told(turn: Onset | End, period_s: float) -> tuple[str, dict[str, Any]]:
    """The event of an episode's beginning or end, and its fields but for the time."""
    verdict = turn.verdict
    if isinstance(turn, End):
        return "anomaly_end", {
            "start": turn.start,
            "peak": json_score(turn.peak),
            "severity": rounded(severity_of(turn.peak, verdict.threshold)),
            "duration_s": turn.samples * period_s,
        }
    return "anomaly", {
        "score": json_score(verdict.score),
        "threshold": verdict.threshold,
        "severity": rounded(verdict.severity),
        "sensors": list(verdict.top_sensors),
        **({} if turn.start == verdict.sample else {"start": turn.start}),
    }
