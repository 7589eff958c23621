"""The one loop: source -> detector -> episodes -> sink, and the state that survives a restart.

Events are written before the state that has seen them is saved, so after a kill the last few may be told again, never
lost.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgekd.runtime.detector import Detector, SensorChange, Verdict
from edgekd.runtime.duration import duration
from edgekd.runtime.episodes import End, Episodes, Onset
from edgekd.runtime.errors import InputLost, UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sinks import Sink, json_score, json_time, wall_time
from edgekd.runtime.sources import InputEvent, Source
from edgekd.runtime.sources.row_parser import Row, seconds_of
from edgekd.runtime.watchers.clock import WallClock
from edgekd.runtime.watchers.rate import RateCheck

if TYPE_CHECKING:  # with what they stand on, a megabyte that most runs do not need
    from edgekd.runtime.gateway.watchers.site_threshold import SiteThreshold
    from edgekd.runtime.gateway.watchers.systemd import Systemd
    from edgekd.runtime.resume import StateKeeper
    from edgekd.runtime.watchers.record import Recorder

BAD_LINES_EVERY_S = 10.0  # a line that is all noise must not fill the log
RECORD_FLUSH_S = 1.0


@dataclass
class Loop:
    """One run. Call `run`; `stop` may be called from a signal handler."""

    source: Source
    detector: Detector
    episodes: Episodes
    sink: Sink
    say: Callable[[str], None]
    """Words for people."""
    keeper: StateKeeper | None = None
    recorder: Recorder | None = None
    scores: bool = False
    """Also tell every verdict, not only the anomalies."""
    service: Systemd | None = None
    site: SiteThreshold | None = None
    """What this site's scores do to the threshold."""
    reload: Callable[[], None] | None = None
    """What `reload_soon` asks for."""
    samples: int = 0
    """Samples of this run."""
    verdicts: int = 0
    anomalies: int = 0
    """Episodes that began in this run."""
    last: Verdict | None = None
    """The newest verdict."""
    arrived_at: float | None = None
    """When the input last brought something, on the monotonic clock."""
    broken_pipe: bool = False
    """The reader of the events has gone."""
    over_by: float = math.inf
    """When a run that was told to stop has to be over, on the monotonic clock."""
    _stopped_by: int = 0
    _reload_asked: bool = False
    _ready: bool = False
    _input_words: str = ""
    _bad_told: int = 0
    _bad_due: float = 0.0
    _flush_due: float = 0.0
    _wall: WallClock = field(default_factory=WallClock)
    _rate: RateCheck = field(init=False)
    _by_label: bool = False

    def __post_init__(self) -> None:
        self._rate = RateCheck(self.detector.manifest.period_s)
        self._rate.done = not self.source.rows.clocked

    def run(self) -> int:
        """Until the input ends, or `stop`; the exit code. Raises InputLost where the input fails for good."""
        try:
            self._run()
        except BrokenPipeError:  # nobody reads the events any more: what they did not get is told after the next start
            self.broken_pipe = True
            return 0
        finally:
            if self.recorder:
                self.recorder.close()
        self._say_goodbye()
        return 130 if self._stopped_by == signal.SIGINT else 0

    def stop(self, signum: int) -> None:
        """End after the sample in hand. The second Ctrl-C does not wait."""
        if self._stopped_by == signal.SIGINT == signum:
            raise KeyboardInterrupt
        self._stopped_by = signum

    def reload_soon(self) -> None:
        """Call `reload` after the samples in hand; for a signal handler."""
        self._reload_asked = True

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return bool(self._stopped_by)

    def set_threshold(self, trained: float) -> None:
        """Another trained threshold; what the site has learned about the one before is forgotten."""
        self.detector.threshold = trained if self.site is None else self.site.retrain(trained)

    def _run(self) -> None:
        resumed = self.keeper is not None and self.keeper.resume(self.source)
        try:
            for items in self.source:
                self._observe_arrival(items)
                for item in items:
                    if isinstance(item, InputEvent):
                        self._tell_input(item)
                    else:
                        self._sample(item)
                    if self._stopped_by:
                        break
                self._housekeeping()
                self._serve(items)
                if self._stopped_by:
                    break
        except InputLost:
            self._save()
            raise
        finally:
            if self.service:
                self.service.stopping()
        self._tell_bad_lines()
        if not (self.samples or resumed or self.source.live):
            raise UsageError(f"{shown(self.source.name, 300)}: holds no samples")
        self._save()

    def _sample(self, row: Row) -> None:
        """One sample through the detector, and what it says to the sink."""
        self.samples += 1
        if self.recorder:
            self._record(row)
        if not self._rate.done:
            self._observe_label(row)
        verdict = self.detector.update(row.values)
        if self.service:
            self.service.feed()
        for change in self.detector.sensor_changes():
            self._tell_sensor(change, row)
        if verdict is None:
            return
        self.verdicts += 1
        self.last = verdict
        if self.scores:
            score = json_score(verdict.score)
            told = {"event": "score", "sample": verdict.sample, "score": score, "anomaly": verdict.is_anomaly}
            self.sink.emit(told | _frame(row))
        if row.frame is not None:  # images have nothing to do with one another: each is told
            self.anomalies += verdict.is_anomaly
            if verdict.is_anomaly:
                self._tell_anomaly(verdict, row)
            return
        turn = self.episodes.update(verdict)
        if isinstance(turn, Onset):
            self.anomalies += 1
            self._tell_anomaly(verdict, row, turn.start)
        elif isinstance(turn, End):
            self._tell_end(turn, row)
        if self.site:
            self._learn(self.site, verdict, row)
        if self.keeper:
            self.keeper.tick()

    def _learn(self, site: SiteThreshold, verdict: Verdict, row: Row) -> None:
        """Let the threshold see the score, and tell where that moves it."""
        moved = site.update(verdict.sample, verdict.score, alarm=not self.episodes.quiet)
        if moved is None:
            return
        self.detector.threshold = moved.threshold
        told = {"threshold": moved.threshold, "trained": moved.trained, "verdicts": moved.verdicts}
        self.sink.emit({"event": moved.event, "sample": verdict.sample, "time": self._time(row)} | told)
        self.say(
            f"the threshold is {moved.threshold:.6g} from now on, {moved.threshold / moved.trained:.3g} times the"
            f" trained one, by {moved.verdicts} scores of this site"
        )

    def _tell_anomaly(self, verdict: Verdict, row: Row, start: int | None = None) -> None:
        self.sink.emit(
            {
                "event": "anomaly",
                "sample": verdict.sample,
                "time": self._time(row),
                "score": json_score(verdict.score),
                "threshold": verdict.threshold,
                "sensors": list(verdict.top_sensors),
            }
            | ({} if start in (None, verdict.sample) else {"start": start})
            | _frame(row)
        )

    def _tell_end(self, end: End, row: Row) -> None:
        self.sink.emit(
            {
                "event": "anomaly_end",
                "sample": end.verdict.sample,
                "time": self._time(row),
                "start": end.start,
                "peak": json_score(end.peak),
                "duration_s": end.samples * self.detector.manifest.period_s,
            }
        )

    def _tell_sensor(self, change: SensorChange, row: Row) -> None:
        event = "sensor_missing" if change.missing else "sensor_back"
        self.sink.emit({"event": event, "sample": change.sample, "time": self._time(row), "sensor": change.sensor})
        self.say(f"sensor '{change.sensor}' {'is missing and left out of the score' if change.missing else 'is back'}")

    def _tell_input(self, event: InputEvent) -> None:
        self._rate.gap()
        if event.rewarm:
            self.detector.rewarm()
        if not event.told:
            return
        self.sink.emit({"event": event.event, "time": wall_time(), **event.fields})
        self.say(event.words)
        self._input_words = event.words
        if self.service and self._ready:
            self.service.status(self._status())

    def _time(self, row: Row) -> str | float | None:
        """The source's own label; a live source that gives none gets the wall clock's."""
        if row.time is None and self.source.live:
            return wall_time()
        return json_time(row.time)

    def _observe_arrival(self, items: Sequence[Row | InputEvent]) -> None:
        """When the input spoke, and the rate of one without time labels: by the monotonic clock, as samples come."""
        if items:
            self.arrived_at = time.monotonic()
        if self._rate.done or self._by_label or not self.source.live:
            return
        rows = [item for item in items if isinstance(item, Row)]
        if rows and seconds_of(rows[0].time) is None:
            self._judge_rate(self._rate.observe(time.monotonic(), len(rows)))

    def _observe_label(self, row: Row) -> None:
        seconds = seconds_of(row.time)
        if seconds is not None:
            if not self._by_label:
                self._by_label = True
                self._rate.gap()
            self._judge_rate(self._rate.observe(seconds))

    def _judge_rate(self, observed_s: float | None) -> None:
        if observed_s is None:
            return
        period_s = self.detector.manifest.period_s
        observed_s = float(f"{observed_s:.4g}")
        self.sink.emit({"event": "rate_mismatch", "observed_s": observed_s, "period_s": period_s})
        self.say(
            f"samples come every {observed_s:g} s, but the model was made for one every {period_s:g} s: its scores mean"
            " little at this rate; feed it at its own, --resample mean if it comes faster, or distill one for this"
        )

    def _record(self, row: Row) -> None:
        assert self.recorder is not None
        try:
            self.recorder.write(row.values, self._time(row))
            if time.monotonic() >= self._flush_due:
                self._flush_due = time.monotonic() + RECORD_FLUSH_S
                self.recorder.flush()
        except OSError as error:
            self.say(f"cannot record any further: {error.strerror}; detection goes on")
            self.sink.emit({"event": "record_stopped", "reason": error.strerror})
            self.recorder.close()
            self.recorder = None

    def _housekeeping(self) -> None:
        if time.monotonic() >= self._bad_due:
            self._tell_bad_lines()
        self.sink.tick()
        if self.source.live and (by_s := self._wall.jump_s()):
            self.sink.emit({"event": "clock_jumped", "time": wall_time(), "by_s": round(by_s, 3)})
            way = "forward" if by_s > 0 else "back"
            self.say(f"the clock was set {way} by {duration(abs(by_s))}; detection does not go by it, times told do")
        if self.keeper:
            self.keeper.tick()

    def _serve(self, items: Sequence[Row | InputEvent]) -> None:
        """What a service owes its manager each time the input was asked: ready, alive, and its settings."""
        if self._reload_asked and self.reload:
            self._reload_asked = False
            if self.service:
                self.service.reloading()
            self.reload()
            self._ready = False
        if self.service is None:
            return
        # A source that reads ahead in a thread has nothing for the loop where that thread hangs, too: it says by `idle`
        # whether the thread has looked just now. All others have looked when they yield nothing.
        if not items and getattr(self.source, "idle", True):
            self.service.feed()
        if not (self._ready or getattr(self.source, "tried", True)):
            return  # a thread is just opening it
        if not self._ready:
            self._ready = True
            self.service.ready(self._status())
        elif self.service.status_is_due:
            self.service.status(self._status())

    def _status(self) -> str:
        score = f", score {self.last.score:.4g} of {self.last.threshold:.4g}" if self.last else ""
        words = self._input_words or f"reading {self.source.name}"
        return f"{self.samples} samples, {self.anomalies} anomalies{score}; {words}"

    def _tell_bad_lines(self) -> None:
        total = self.source.rows.bad
        if total == self._bad_told:
            return
        reason = self.source.rows.last_bad
        self.sink.emit({"event": "bad_lines", "count": total - self._bad_told, "total": total, "reason": reason})
        self.say(f"skipped {total - self._bad_told} {self.source.rows.unit} that are no samples ({reason})")
        self._bad_told = total
        self._bad_due = time.monotonic() + BAD_LINES_EVERY_S

    def _save(self) -> None:
        if self.keeper:
            self.keeper.finish()

    def _say_goodbye(self) -> None:
        name = shown(self.source.name, 300)
        if not self.samples and not self.source.live:
            self.say(f"{name} has nothing after sample {self.detector.samples_seen}, where the saved state is")
            return
        held = sum(self.detector.held_values.values())
        self.say(
            f"{self.samples} samples, {self.verdicts} verdicts, {self.anomalies} anomalies"
            + (f", {held} missing values held" if held else "")
        )


def _frame(row: Row) -> dict[str, object]:
    """Which image it was, for an event."""
    return {} if row.frame is None else {"frame": row.frame}
