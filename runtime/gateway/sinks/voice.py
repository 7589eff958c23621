"""What one stream tells, under names of its own.

Events have an `id`. Reading a file again after a kill gives the same events the same ids, so that a consumer can drop
what it has; everything else has an id that is never used again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekd.runtime.gateway.mute import Mute
from edgekd.runtime.loop import Emit
from edgekd.runtime.watchers.state_keeper import StateKeeper

if TYPE_CHECKING:
    from edgekd.runtime.gateway.sinks.fan_out import FanOut

# What follows from the samples alone, so that the same samples give it again.
OF_SAMPLES = {
    *("anomaly", "anomaly_end", "score", "sensor_missing", "sensor_back", "sensor_stuck", "sensor_stuck_end"),
    *("site_threshold", "threshold_moved"),
}


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


class Voice:
    """One stream's way to the sinks."""

    def __init__(self, fan_out: FanOut, stream: str | None = None) -> None:
        """stream: what events call it; None: they are of the process itself."""
        self.fan_out = fan_out
        self.keeper: StateKeeper | None = None
        """What has the name of the stream of samples, where its state is kept."""
        self.mute: Mute | None = None
        """What holds alarms back."""
        self.history: Emit | None = None
        """What keeps events for the page."""
        self._held: list[Mapping[str, Any]] | None = None
        self._stream = stream
        self._ids = EventIds()
        self._stream_id = os.urandom(4).hex()

    def emit(self, event: Mapping[str, Any]) -> None:
        """One event to all. Raises BrokenPipeError where nobody reads standard output any more."""
        if self._held is not None:
            self._held.append(event)
            return
        if self.mute and self.mute.takes(event):
            return
        named = self.named(event)
        if self.fan_out.outbox:
            self.fan_out.outbox.append(named)
        self.show(named)

    def hold(self) -> None:
        """Keep events until `release`: they come from another thread than the driver's."""
        self._held = []

    def release(self) -> None:
        """Tell what was held."""
        held, self._held = self._held, None
        for event in held or ():
            self.emit(event)

    def show(self, named: Mapping[str, Any]) -> None:
        """One event, but not to what delivers."""
        if self.history:
            self.history(named)
        self.fan_out.stdout.emit(named)

    def say(self, words: str) -> None:
        """Words for people."""
        self.fan_out.say(f"{self._stream}: {words}" if self._stream and self.fan_out.several else words)

    def named(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """With its id, and the stream that it is of where there are several."""
        stream_id = self.keeper.stream_id if self.keeper else self._stream_id
        stream = {"stream": self._stream} if self._stream and self.fan_out.several else {}
        return {**event, **stream, "id": self._ids.name(event, stream_id)}
