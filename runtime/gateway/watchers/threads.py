"""Every thread is watched: what ends one ends the run, with one line, and one that hangs is no idle one."""

from __future__ import annotations

import threading
import time
import traceback
from pathlib import Path

from edgekd.runtime.errors import EdgeKDError
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.sinks.fan_out import FanOut
from edgekd.runtime.gateway.watchers.systemd import HUNG_S, Turned
from edgekd.runtime.json_fields import shown


def fault(error: BaseException, where: str) -> EdgeKDError:
    """One line for what should not have happened, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    words = f"{type(error).__name__}: {shown(str(error), 200)}{place}"
    return EdgeKDError(f"{where}: {words}; a fault of this program, please report it")


class Threads:
    """Raises in the driver what has ended any thread, and tells which of those that come round no longer do."""

    def __init__(self, fan_out: FanOut, writer: DiskWriter, turning: Turned) -> None:
        """turning: the names of those that come round, and when they last did."""
        self._fan_out = fan_out
        self._turning = turning
        self._writer = writer
        self._ended: threading.ExceptHookArgs | None = None
        self._told: list[str] = []
        threading.excepthook = self._end

    def tick(self) -> None:
        """Raise, or tell."""
        if self._ended is not None and self._ended.exc_value is not None:
            name = self._ended.thread.name if self._ended.thread else "?"
            raise fault(self._ended.exc_value, f"thread {name}")
        if self._writer.error is not None:
            raise fault(self._writer.error, "thread disk-writer")
        now = time.monotonic()
        hung = [name for name, at_s in self._turning() if at_s is not None and now - at_s > HUNG_S]
        if hung and hung != self._told:
            words = f"hangs: {', '.join(hung)}; systemd's watchdog is not fed meanwhile"
            self._fan_out.tell("thread_hung", words, {"threads": hung})
        self._told = hung

    def _end(self, args: threading.ExceptHookArgs) -> None:
        self._ended = self._ended or args
