"""Every event to every sink that was asked for, none of which the detection waits for."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.outbox import Outbox
from edgekd.runtime.gateway.sinks.interface import Outlet
from edgekd.runtime.gateway.sinks.voice import Voice
from edgekd.runtime.loop import Say, Watcher
from edgekd.runtime.sinks import Sink, wall_time

HURRY_S = 0.8  # what a service that is stopped gives its sinks, of the two seconds that it has
FAREWELL_S = 0.3  # of these: to end a command, to say offline
STALL_S = 10.0  # an input that has ended waits for sinks that take events, and so long for those that take none
LEAST_S = 0.02  # what a part of the end gets where those before it have taken all
POLL_S = 0.02


class FanOut(Watcher):
    """Standard output, and the outbox with the sinks that deliver from it."""

    def __init__(self, stdout: Sink, writer: DiskWriter, say: Say) -> None:
        self.outbox: Outbox | None = None
        self.outlets: Sequence[Outlet] = ()
        """What delivers from the outbox."""
        self.several = False
        """Whether events say which stream they are of."""
        self.voice = Voice(self)
        """Of what the process itself tells."""
        self.stdout = stdout
        self.say = say
        """Words for people."""
        self._writer = writer
        self._news: deque[tuple[str, str, dict[str, Any]]] = deque(maxlen=1000)

    def emit(self, event: Mapping[str, Any]) -> None:
        """One event of the process itself to all. Raises BrokenPipeError as `Voice.emit` does."""
        self.voice.emit(event)

    def tell(self, kind: str, words: str, fields: Mapping[str, Any]) -> None:
        """News of a sink, from any thread. Not for the outbox: a broken sink would be sent news of itself."""
        self._news.append((kind, words, dict(fields)))

    def beat(self, counts: Mapping[str, Any]) -> None:
        """The run lives, and has done so much: not for the outbox, where nothing is worth keeping that repeats."""
        self.stdout.emit(self.voice.named({"event": "heartbeat", "time": wall_time(), **counts}))
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
            self.say(words)
            self.voice.show(self.voice.named({"event": kind, "time": wall_time(), **fields}))

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
                self.say(f"{left} events are not delivered yet; they are kept for the next start")
        with contextlib.suppress(BrokenPipeError):
            self.tick()
        if self.outbox:
            self.outbox.close(max(LEAST_S, end - time.monotonic()))
        self._writer.flush(max(LEAST_S, end - time.monotonic()))
        self.stdout.close(max(LEAST_S, end - time.monotonic()))

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
