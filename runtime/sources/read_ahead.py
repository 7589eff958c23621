"""A live input read in a thread of its own, so that the kernel's small buffer does not overflow while a step runs.

What waits is bounded. An input that outruns the detector for so long that the bound is reached loses whole hops, the
oldest first, and the detector is told of the gap: half a hop would shift every window after it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import END_S, InputEvent, Items, Row, Source, window_samples

LONGEST_LAG_S = 10.0  # of samples at the model's own rate: older ones say little about now
FEWEST_ROWS = 16384  # a burst, such as a recording that is replayed over a port, is no overload
MOST_BYTES = 32 * 2**20
ROW_BYTES = 300  # of a row in the queue, beside its values
TELL_EVERY_S = 10.0


class ReadAhead(Source):
    """A live source whose iteration may wait, read ahead.

    samples_seen: how many samples the detector has seen, which says where its hop stands.
    """

    def __init__(
        self, source: Source, manifest: Manifest, samples_seen: Callable[[], int], limit_rows: int | None = None
    ) -> None:
        self.name, self.rows, self.reconnects = source.name, source.rows, source.reconnects
        self.backlog: int = 0
        self.dropped: int = 0
        wanted = max(int(LONGEST_LAG_S / manifest.period_s), FEWEST_ROWS)
        affordable = MOST_BYTES // (4 * len(manifest.sensors) + ROW_BYTES)
        self.limit_rows = limit_rows or max(min(wanted, affordable), 4 * window_samples(manifest))
        """Samples that may wait; always so many that what is dropped is longer than the detector's window."""
        self._source = source
        self._hop = manifest.hop
        self._samples_seen = samples_seen
        self._changed = threading.Condition()
        self._waiting: deque[tuple[float, Items]] = deque()  # when they came
        self._in_hand_since: float | None = None
        self._phase = 0  # samples in the open hop when the first that waits comes to the detector
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
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, seconds)

    def __iter__(self) -> Iterator[Items]:
        self._phase = self._samples_seen() % self._hop
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
        with self._changed:
            self._in_hand_since = self._waiting[0][0] if self._waiting else None
            if self.dropped > self._dropped_told and time.monotonic() >= self._tell_due:
                return [self._tell_dropped()]
            if self._waiting:
                _, items = self._waiting.popleft()
                self.backlog -= _samples(items)
                self._phase = self._phase_after(self._samples_seen() % self._hop, items)
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
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _put(self, items: Items) -> None:
        with self._changed:
            self._waiting.append((time.monotonic(), items))
            self.backlog += _samples(items)
            if self.backlog > self.limit_rows:
                self._drop()
            self._changed.notify()

    def _drop(self) -> None:
        """Leave out all whole hops that wait, but no event; the hop that is open in the detector is completed first."""
        kept: list[Row | InputEvent] = []
        waiting = deque(item for _, items in self._waiting for item in items)
        phase = self._phase
        while waiting and (phase or not isinstance(waiting[0], Row)):
            kept.append(waiting.popleft())
            phase = self._phase_after(phase, kept[-1:])
        drop = _samples(waiting) // self._hop * self._hop
        self.dropped += drop
        for item in waiting:
            if drop and isinstance(item, Row):
                drop -= 1
                if drop:
                    continue
                item = InputEvent("samples_dropped", "", rewarm=True, told=False)
            kept.append(item)
        self._waiting = deque([(time.monotonic(), kept)])
        self.backlog = _samples(kept)

    def _phase_after(self, phase: int, items: Items) -> int:
        """Samples in the detector's open hop after these."""
        for item in items:
            phase = phase + 1 if isinstance(item, Row) else 0 if item.rewarm else phase
        return phase % self._hop

    def _tell_dropped(self) -> InputEvent:
        count, self._dropped_told = self.dropped - self._dropped_told, self.dropped
        self._tell_due = time.monotonic() + TELL_EVERY_S
        words = f"{shown(self.name, 200)} outruns this machine: {count} samples dropped; it needs a smaller model"
        return InputEvent("samples_dropped", words, {"count": count, "total": self.dropped})


def _samples(items: Iterable[Row | InputEvent]) -> int:
    return sum(isinstance(item, Row) for item in items)
