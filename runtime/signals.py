"""The signals that end a run: SIGINT and SIGTERM, and SIGHUP where a terminal has closed."""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType

STOP_S = 1.8  # from SIGTERM to the end, whatever a disk or a reader of the events does meanwhile
PLANNED_S = 1.6  # what the parts of the end share; the rest is for what is slow


class Signals:
    """Takes the signals of this process; calls `stop` in the handler, to end after the sample in hand."""

    def __init__(self, program: str, stop: Callable[[], None]) -> None:
        self.over_by = math.inf  # when a run that was told to end has to be over, on the monotonic clock
        self.interrupted = False  # whether Ctrl-C ended it
        self._program, self._stop = program, stop
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._terminate)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup it is
            signal.signal(signal.SIGHUP, self._terminate)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # one may have come during the start

    def done(self) -> None:
        """Only the interpreter is left to take down, and an alarm that finds it half gone would kill it."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _interrupt(self, signum: int, _: FrameType | None) -> None:
        if self.interrupted:  # the second Ctrl-C does not wait
            raise KeyboardInterrupt
        self.interrupted = True
        self._stop()

    def _terminate(self, signum: int, _: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the next one ends the process at once, inside an engine too
        signal.signal(signal.SIGALRM, self._too_late)
        signal.setitimer(signal.ITIMER_REAL, STOP_S)
        self.over_by = time.monotonic() + PLANNED_S
        self._stop()

    def _too_late(self, signum: int, _: FrameType | None) -> None:
        words = f"stopped after {STOP_S:g} s without an end: a disk or the reader of standard output hangs\n"
        if select.select([], [2], [], 0)[1]:  # it may be what hangs
            os.write(2, f"{self._program}: {words}".encode())
        os._exit(1)
