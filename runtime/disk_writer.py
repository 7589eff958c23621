"""The one thread that writes to disk, so that detection never waits for a slow card.

Jobs are done in the order in which they were asked for: an event that was handed in before a state has seen it is on
disk before that state is, so that a kill at any moment repeats events and loses none. A job that may wait is done with
whatever comes next: a hundred writes a second cost the loop's thread more than the one that they become.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

MAX_PENDING = 10_000  # jobs; a disk that hangs for longer than these take to collect costs events, not memory

Job = Callable[[], None]


class DiskWriter:
    """Does jobs one after the other.

    A job handles its own OSError; what else it raises is raised by the next `submit`.
    """

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._submitted = self._done = 0
        self._due = math.inf  # what is pending is begun then
        self._closing = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def pending(self) -> int:
        """Jobs that are not done yet."""
        return self._submitted - self._done

    def submit(self, job: Job, within_s: float = 0.0) -> bool:
        """Do it within so many seconds; False, and it is never done, where too many are pending."""
        with self._changed:
            if self._error is not None:
                raise self._error
            if self._closing or self.pending >= MAX_PENDING:
                return False
            if self._thread is None:  # most runs write nothing
                self._thread = threading.Thread(target=self._work, name="disk-writer", daemon=True)
                self._thread.start()
            self._jobs.append(job)
            self._submitted += 1
            self._hurry(within_s)
        return True

    def hurry(self) -> None:
        """What is pending waits no longer."""
        with self._changed:
            self._hurry()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was submitted so far is done; False where the time is over first."""
        with self._changed:
            self._hurry()
            wanted = self._submitted
            return self._changed.wait_for(lambda: self._done >= wanted or self._error is not None, timeout_s)

    def close(self, timeout_s: float | None = None) -> bool:
        """Do what is pending and end; False where the time is over first, and what is pending is left undone."""
        flushed = self.flush(timeout_s)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        return flushed

    def _hurry(self, within_s: float = 0.0) -> None:
        """With the lock held: begin by then."""
        due = time.monotonic() + within_s
        if due < self._due:
            self._due = due
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closing and (wait_s := self._due - time.monotonic()) > 0:
                    self._changed.wait(None if wait_s == math.inf else wait_s)
                if not self._jobs:
                    self._due = math.inf
                    if self._closing:
                        return
                    continue
                job = self._jobs.popleft()
            try:
                job()
            except BaseException as error:  # told by the next `submit`: a thread that dies in silence loses events
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._done += 1
                self._changed.notify_all()
