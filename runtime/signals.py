"""The signals of a run: SIGINT and SIGTERM end it, SIGHUP reads its settings again."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekd.runtime.loop import Loop

STOP_S = 1.8  # from SIGTERM to the end, whatever a disk or a reader of the events does meanwhile
PLANNED_S = 1.6  # what the parts of the end share; the rest is for what is slow


def handle_signals(loop: Loop) -> None:
    """Let this process's signals steer the loop."""

    def interrupt(signum: int, _: FrameType | None) -> None:
        loop.stop(signum)

    def terminate(signum: int, _: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the next one ends the process at once, inside an engine too
        signal.signal(signal.SIGALRM, _too_late)
        signal.setitimer(signal.ITIMER_REAL, STOP_S)
        loop.over_by = time.monotonic() + PLANNED_S
        loop.stop(signal.SIGTERM)

    def hang_up(signum: int, _: FrameType | None) -> None:
        loop.reload_soon()

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, terminate)
    if loop.reload is not None:
        signal.signal(signal.SIGHUP, hang_up)
    elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup; else the terminal is gone
        signal.signal(signal.SIGHUP, terminate)


def ended_in_time() -> None:
    """Only the interpreter is left to take down, and an alarm that finds it half gone would kill it."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _too_late(signum: int, _: FrameType | None) -> None:
    words = f"edgekd-run: stopped after {STOP_S:g} s without an end: a disk or the reader of standard output hangs\n"
    os.write(2, words.encode())
    os._exit(1)
