"""Every event to every sink that was asked for, none of which the detection waits for.

Events have an `id`. Reading a file again after a kill gives the same events the same ids, so that a consumer can drop
what it has; everything else has an id that is never used again.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgekd.runtime.disk_writer import DiskWriter
from edgekd.runtime.gateway.mute import Mute
from edgekd.runtime.gateway.outbox import Outbox
from edgekd.runtime.gateway.sinks.interface import Outlet
from edgekd.runtime.loop import Emit, Say, Watcher
from edgekd.runtime.sinks import Sink, wall_time
from edgekd.runtime.watchers.state_keeper import StateKeeper

# What follows from the samples alone, so that the same samples give it again.
OF_SAMPLES = {
    *("anomaly", "anomaly_end", "score", "sensor_missing", "sensor_back", "sensor_stuck", "sensor_stuck_end"),
    *("site_threshold", "threshold_moved"),
}
HURRY_S = 0.8  # what a service that is stopped gives its sinks, of the two seconds that it has
FAREWELL_S = 0.3  # of these: to end a command, to say offline
STALL_S = 10.0  # an input that has ended waits for sinks that take events, and so long for those that take none
LEAST_S = 0.02  # what a part of the end gets where those before it have taken all
POLL_S = 0.02


class EventIds:
    """Names events: STREAM-SAMPLE-KIND, or STREAM-RUN.COUNT-KIND where they do not follow from the samples."""

    def __init__(self) -> None:
        self._run = os.urandom(4).hex()
        self._count = 0
        self._sample: object = None
        self._given: dict[str, int] = {}  # at this sample

    def name(self, event: Mapping[str, Any], stream_id: str) -> str:
        """The id of the next event."""
        kind, sample = event["event"], event.get("sample")
        if kind not in OF_SAMPLES or sample is None:
            self._count += 1
            return f"{stream_id}-{self._run}.{self._count}-{kind}"
        if sample != self._sample:
            self._sample = sample
            self._given.clear()
        count = self._given[kind] = self._given.get(kind, 0) + 1
        return f"{stream_id}-{sample}-{kind}" + (f"-{count}" if count > 1 else "")


class FanOut(Watcher):
    """Standard output, and the outbox with the sinks that deliver from it."""

    def __init__(self, stdout: Sink, writer: DiskWriter, say: Say) -> None:
        self.outbox: Outbox | None = None
        self.outlets: Sequence[Outlet] = ()
        """What delivers from the outbox."""
        self.keeper: StateKeeper | None = None
        """What has the name of the stream of samples, where its state is kept."""
        self.mute: Mute | None = None
        """What holds alarms back."""
        self.history: Emit | None = None
        """What keeps events for the page."""
        self._stdout = stdout
        self._writer = writer
        self._say = say
        self._ids = EventIds()
        self._stream_id = os.urandom(4).hex()
        self._news: deque[tuple[str, str, dict[str, Any]]] = deque(maxlen=1000)

    def emit(self, event: Mapping[str, Any]) -> None:
        """One event to all. Raises BrokenPipeError where nobody reads standard output any more."""
        if self.mute and self.mute.takes(event):
            return
        named = self._named(event)
        if self.outbox:
            self.outbox.append(named)
        self._show(named)

    def tell(self, kind: str, words: str, fields: Mapping[str, Any]) -> None:
        """News of a sink, from any thread. Not for the outbox: a broken sink would be sent news of itself."""
        self._news.append((kind, words, dict(fields)))

    def beat(self, counts: Mapping[str, Any]) -> None:
        """The run lives, and has done so much: not for the outbox, where nothing is worth keeping that repeats."""
        self._stdout.emit(self._named({"event": "heartbeat", "time": wall_time(), **counts}))
        for outlet in self.outlets:
            outlet.beat(counts)

    def begin(self) -> None:
        """Begin to deliver."""
        for outlet in self.outlets:
            outlet.start()

    def tick(self) -> None:
        """Pass on what the sinks have told, and let them try again."""
        if self.outbox:
            self.outbox.tick()
        while self._news:
            kind, words, fields = self._news.popleft()
            self._say(words)
            self._show(self._named({"event": kind, "time": wall_time(), **fields}))

    def close(self, stopped: Callable[[], bool], over_by: Callable[[], float] = lambda: math.inf) -> None:
        """Deliver what can be delivered and end.

        stopped: whether the run was told to end. over_by: when it then has to be over, on the monotonic clock.
        """
        end = min(time.monotonic() + HURRY_S, over_by())
        if self.outbox and self.outlets:
            self._drain(self.outbox, stopped, end - FAREWELL_S)
            end = min(max(end, time.monotonic() + FAREWELL_S), over_by())
            for outlet in self.outlets:
                outlet.stop(max(LEAST_S, end - time.monotonic()))
            if left := self.outbox.depth:
                self._say(f"{left} events are not delivered yet; they are kept for the next start")
        with contextlib.suppress(BrokenPipeError):
            self.tick()
        if self.outbox:
            self.outbox.close(max(LEAST_S, end - time.monotonic()))
        self._writer.flush(max(LEAST_S, end - time.monotonic()))
        self._stdout.close(max(LEAST_S, end - time.monotonic()))

    def _show(self, named: Mapping[str, Any]) -> None:
        if self.history:
            self.history(named)
        self._stdout.emit(named)

    def _drain(self, outbox: Outbox, stopped: Callable[[], bool], end: float) -> None:
        """Wait until everything is delivered: until `end` if the run was stopped, else as long as something is."""
        self._writer.hurry()  # scores that wait for more
        depth, stalled_at = outbox.depth, time.monotonic() + STALL_S
        while left := outbox.depth:
            now = time.monotonic()
            if left < depth:
                depth, stalled_at = left, now + STALL_S
            if now >= (end if stopped() else stalled_at):
                return
            outbox.tick()
            time.sleep(POLL_S)

    def _named(self, event: Mapping[str, Any]) -> dict[str, Any]:
        stream_id = self.keeper.stream_id if self.keeper else self._stream_id
        return {**event, "id": self._ids.name(event, stream_id)}
