"""What the driver of many streams waits for: whichever input has something first."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Iterable


class Wake:
    """Wakes the thread that waits, from any thread and from a signal handler."""

    def __init__(self) -> None:
        self._heard, self._rings = os.pipe()
        os.set_blocking(self._heard, False)
        os.set_blocking(self._rings, False)

    def ring(self) -> None:
        """What waits goes on."""
        with contextlib.suppress(BlockingIOError):  # it rings already
            os.write(self._rings, b"\0")

    def wait(self, seconds: float, inputs: Iterable[int] = ()) -> list[int]:
        """Until it rings, or one of these file descriptors can be read; those that can."""
        readable = select.select([self._heard, *inputs], [], [], max(0.0, seconds))[0]
        if self._heard in readable:
            readable.remove(self._heard)
            os.read(self._heard, 4096)
        return readable


class Bell(threading.Condition):
    """The condition by which a source's thread says that something has come, heard by the driver as well."""

    def __init__(self, wake: Wake) -> None:
        super().__init__()
        self.rung = True
        """Whether something may have come since the driver has set this to False."""
        self._wake = wake

    def notify(self, n: int = 1) -> None:
        """See `Condition.notify`."""
        super().notify(n)
        if not self.rung:
            self.rung = True
            self._wake.ring()
