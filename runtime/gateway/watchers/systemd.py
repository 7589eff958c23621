"""What this process tells systemd (`Type=notify`, sd_notify(3)): ready, what it is doing, and that it is alive.

The watchdog is fed by whoever has just seen progress: a sample that went through the detector, or an input that is
known to have nothing. No timer feeds it, so an engine or a loop that hangs starves it, and systemd starts the run anew.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

from edgekd.runtime.json_fields import shown

SEND_S = 0.1  # a service manager that does not listen must not hold up detection for longer
STATUS_EVERY_S = 10.0


class Systemd:
    """Datagrams to the manager's socket; one that is gone is nobody's loss."""

    def __init__(self, address: str, watchdog_s: float | None = None) -> None:
        self._address = "\0" + address[1:] if address[0] == "@" else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(SEND_S)
        # a feed that comes too early is left out: at a quarter of the time, three quarters are left for the next one
        self._feed_every_s = watchdog_s / 4 if watchdog_s else float("inf")
        self._feed_due = 0.0 if watchdog_s else float("inf")
        self._status_due = 0.0

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Systemd | None:
        """The manager that has started this process, None where there is none."""
        address = environment.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@"):
            return None
        usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        ours = usec.isdecimal() and pid in ("", str(os.getpid()))
        return cls(address, int(usec) / 1e6 if ours else None)

    def ready(self, status: str) -> None:
        """The model is loaded and the input was tried; also the end of `reloading`."""
        self._status_due = time.monotonic() + STATUS_EVERY_S
        self._send("READY=1", _status(status))

    def status(self, words: str) -> None:
        """What `systemctl status` shows."""
        self._status_due = time.monotonic() + STATUS_EVERY_S
        self._send(_status(words))

    @property
    def status_is_due(self) -> bool:
        """Whether the last status is old enough for another."""
        return time.monotonic() >= self._status_due

    def reloading(self) -> None:
        """Settings are being read again."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def feed(self) -> None:
        """There was progress just now."""
        now = time.monotonic()
        if now >= self._feed_due:  # a manager that does not listen is not waited for at every sample
            self._send("WATCHDOG=1")
            self._feed_due = now + self._feed_every_s

    def _send(self, *assignments: str) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto("\n".join(assignments).encode(), self._address)


def _status(words: str) -> str:
    return f"STATUS={shown(words, 300)}"
