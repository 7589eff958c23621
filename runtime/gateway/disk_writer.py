"""The one thread that writes to disk, so that detection never waits for a slow card.

Jobs are done in the order in which they were asked for: an event that was handed in before a state has seen it is on
disk before that state is, so that a kill repeats events and loses none. A job that may wait is done with the next.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from edgekd.runtime.watchers.state_keeper import Writer

MAX_PENDING = 10_000  # jobs; a disk that hangs for longer than these take to collect costs events, not memory

Job = Callable[[], None]


class DiskWriter(Writer):
    """A job handles its own OSError; what else it raises is raised by the next `submit`, and ends the thread."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()  # the first is in hand
        self._done = 0
        self._due = math.inf  # what is pending is begun then
        self._changed = threading.Condition()
        self.error: BaseException | None = None
        self._thread: threading.Thread = threading.Thread(target=self._work, name="disk-writer", daemon=True)

    def submit(self, job: Job, within_s: float = 0.0) -> bool:
        """Do it within so many seconds; False, and it is never done, where too many are pending."""
        with self._changed:
            if self.error is not None:
                raise self.error
            if len(self._jobs) >= MAX_PENDING:
                return False
            if self._thread.ident is None:  # most runs write nothing
                self._thread.start()
            self._jobs.append(job)
            self.hurry(within_s)
        return True

    def hurry(self, within_s: float = 0.0) -> None:
        """What is pending is begun within so many seconds."""
        with self._changed:
            if self._jobs and (due := time.monotonic() + within_s) < self._due:
                self._due = due
                self._changed.notify_all()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was submitted so far is done; False where the time is over first."""
        with self._changed:
            self.hurry()
            wanted = self._done + len(self._jobs)
            return self._changed.wait_for(lambda: self._done >= wanted or self.error is not None, timeout_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                while (wait_s := self._due - time.monotonic()) > 0:
                    self._changed.wait(None if wait_s == math.inf else wait_s)
            try:
                self._jobs[0]()
            except BaseException as error:  # told by the next `submit`: a thread that dies in silence loses events
                self.error = error
                return
            finally:
                with self._changed:
                    self._jobs.popleft()
                    self._done += 1
                    self._due = self._due if self._jobs else math.inf
                    self._changed.notify_all()
