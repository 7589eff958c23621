"""A live input read in a thread of its own, so that the kernel's small buffer does not overflow while a step runs.

What waits is bounded. Where an input outruns the detector for so long that the bound is reached, all samples that wait
are dropped, and the detector begins a hop and a warm-up after the gap.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator

from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import END_S, InputEvent, Items, Row, Source, window_samples

LONGEST_LAG_S = 10.0  # of samples at the model's own rate: older ones say little about now
FEWEST_ROWS = 16384  # a burst, such as a recording that is replayed over a port, is no overload
MOST_BYTES = 32 * 2**20
ROW_BYTES = 300  # of a row in the queue, beside its values
TELL_EVERY_S = 10.0


class ReadAhead(Source):
    """A live source whose iteration may wait, read ahead."""

    def __init__(self, source: Source, manifest: Manifest, limit_rows: int | None = None) -> None:
        self.name, self.rows, self.reconnects = source.name, source.rows, source.reconnects
        self.backlog: int = 0
        self.dropped: int = 0
        wanted = max(int(LONGEST_LAG_S / manifest.period_s), FEWEST_ROWS)
        affordable = MOST_BYTES // (4 * len(manifest.sensors) + ROW_BYTES)
        self.limit_rows = limit_rows or max(min(wanted, affordable), 4 * window_samples(manifest))
        """Samples that may wait; always so many that what is dropped is longer than the detector's window."""
        self._source = source
        self.changed = threading.Condition()
        self._waiting: deque[tuple[float, Items, int]] = deque()  # when they came, and how many samples
        self._in_hand_since: float | None = None
        self._dropped_told = 0
        self._tell_due = 0.0
        self._ended = self._closing = False
        self.turned_s: float = time.monotonic()
        self._error: BaseException | None = None

    @property
    def lag_s(self) -> float:
        since = self._in_hand_since
        return 0.0 if since is None else time.monotonic() - since

    def wait(self, seconds: float) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self._waiting or self._ended, seconds)

    def __iter__(self) -> Iterator[Items]:
        reader = threading.Thread(target=self._read, name="input", daemon=True)
        reader.start()
        try:
            while (items := self._next()) is not None:
                yield items
        finally:
            self._closing = True
            reader.join(END_S)

    def _next(self) -> Items | None:
        """What came, in the order and the pieces in which it came; empty where nothing did, None at the end."""
        with self.changed:
            self._in_hand_since = self._waiting[0][0] if self._waiting else None
            if self.dropped > self._dropped_told and time.monotonic() >= self._tell_due:
                return [self._tell_dropped()]
            if self._waiting:
                _, items, samples = self._waiting.popleft()
                self.backlog -= samples
                return items
            if not self._ended:
                return ()
        if self._error is not None:
            raise self._error
        return None

    def _read(self) -> None:
        """The thread: everything from the source into the queue."""
        try:
            for items in self._source:
                if self._closing:
                    break
                self.turned_s = time.monotonic()
                self.reconnects = self._source.reconnects
                if items:
                    self._put(items)
        except BaseException as error:  # raised where the loop can handle it
            self._error = error
        with self.changed:
            self._ended = True
            self.changed.notify()

    def _put(self, items: Items) -> None:
        samples = sum(isinstance(item, Row) for item in items)
        with self.changed:
            self._waiting.append((time.monotonic(), items, samples))
            self.backlog += samples
            if self.backlog > self.limit_rows:
                self._drop()
            self.changed.notify()

    def _drop(self) -> None:
        """Leave out all samples that wait, but no event."""
        events = [item for _, items, _ in self._waiting for item in items if isinstance(item, InputEvent)]
        gap = InputEvent("samples_dropped", "", rewarm=True, told=False)
        self._waiting = deque([(time.monotonic(), [*events, gap], 0)])
        self.dropped, self.backlog = self.dropped + self.backlog, 0

    def _tell_dropped(self) -> InputEvent:
        count, self._dropped_told = self.dropped - self._dropped_told, self.dropped
        self._tell_due = time.monotonic() + TELL_EVERY_S
        words = f"{shown(self.name, 200)} outruns this machine: {count} samples dropped; it needs a smaller model"
        return InputEvent("samples_dropped", words, {"count": count, "total": self.dropped})
