"""JSON lines to a reader that may stall: a live source goes on, and what the reader missed is counted."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from edgekd.runtime.sinks import encode

MAX_QUEUED_BYTES = 4 * 2**20  # an hour of alarms, or ten thousand scores and more


class LiveLines:
    """One JSON object a line to a file descriptor, written by a thread of its own.

    Where the reader takes nothing the oldest lines are dropped; it then finds an event `lines_dropped` in their place.
    patience_s: so long `emit` waits for a reader that has just begun to stall: for a source that waits as well.
    """

    def __init__(self, fd: int, patience_s: float = 0.0) -> None:
        self.dropped = 0  # lines that the reader did not get
        self._fd, self._patience_s = fd, patience_s
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._dropped_told = 0
        self._stalled = self._writing = False
        self._error: OSError | None = None
        threading.Thread(target=self._work, name="stdout", daemon=True).start()

    def emit(self, event: Mapping[str, Any]) -> None:
        """Queue one event; raises BrokenPipeError, or another OSError, where an earlier one could not be written."""
        line = encode(event) + b"\n"
        with self._changed:
            if self._error is not None:
                raise self._error
            if self._full and self._patience_s and not self._stalled:
                self._stalled = not self._changed.wait_for(lambda: not self._full, self._patience_s)
            while self._full:
                self._bytes -= len(self._lines.popleft())
                self.dropped += 1
            self._lines.append(line)
            self._bytes += len(line)
            self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """See `Sink.close`."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._lines or self._writing) or self._error is not None, timeout_s)

    @property
    def _full(self) -> bool:
        return self._bytes > MAX_QUEUED_BYTES

    def _work(self) -> None:
        try:
            while True:
                with self._changed:
                    self._writing = False
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._lines)
                    data, self._writing = self._take(), True
                while data:
                    data = data[os.write(self._fd, data) :]
        except OSError as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _take(self) -> memoryview:
        """All that is queued, behind the number of lines that were dropped before it."""
        if self.dropped > self._dropped_told:
            count, self._dropped_told = self.dropped - self._dropped_told, self.dropped
            self._lines.appendleft(b'{"event": "lines_dropped", "count": %d}\n' % count)
        data = memoryview(b"".join(self._lines))
        self._lines.clear()
        self._bytes, self._stalled = 0, False
        return data
