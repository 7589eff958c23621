"""What this process tells systemd (`Type=notify`, sd_notify(3)): ready, what it is doing, and that it is alive.

The watchdog is fed by whoever has just seen progress: a sample that went through the detector, or an input that is
known to have nothing; and only while every thread of an input and a sink comes round. No timer feeds it, so an engine,
a loop or a thread that hangs starves it, and systemd starts the run anew.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from edgekd.runtime.json_fields import shown
from edgekd.runtime.loop import Loop, Watcher
from edgekd.runtime.sources import InputEvent, Items, Row

if TYPE_CHECKING:
    from edgekd.runtime.gateway.life import Life

SEND_S = 0.1  # a service manager that does not listen must not hold up detection for longer
STATUS_EVERY_S = 10.0
TRIED_S = 10.0  # to open an input may take a name server's time; a service that is not ready by then seems broken
Turned = Callable[[], Iterable[tuple[str, float | None]]]
"""Threads by name, and when they last came round on the monotonic clock; None: it is no thread."""
HUNG_S = 60.0  # a name server may take half a minute to answer; a thread that takes longer to turn has a fault


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
        """The model is loaded and the input was tried."""
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


class Service:
    """What a service owes its manager: ready once its inputs were tried, alive as long as there is progress."""

    def __init__(self, manager: Systemd, turning: Turned, notes: Callable[[], str] = str) -> None:
        """notes: what more its status shows."""
        self.words = ""
        """The newest of any input."""
        self._manager = manager
        self._turning = turning
        self._notes = notes
        self._streams: dict[str, Progress] = {}
        self._ready = False
        self._tried_by = time.monotonic() + TRIED_S

    def watch(self, name: str, life: Life) -> None:
        """Look on in the loop of this stream."""
        self._streams[name] = Progress(life.loop, self)
        life.loop.watchers.insert(0, self._streams[name])

    def pause(self, name: str) -> None:
        """This stream does not run."""
        self._streams.pop(name, None)

    def forget(self, name: str) -> None:
        """It is gone, and was paused before."""

    def feed(self) -> None:
        """A loop goes on; so it has to be with all threads.

        A source that reads ahead in one has nothing for the loop where that hangs, and a sink just delivers nothing:
        they say when their thread last came round.
        """
        now = time.monotonic()
        if all(at_s is None or now - at_s < HUNG_S for _, at_s in self._turning()):
            self._manager.feed()

    def told(self, words: str) -> None:
        """An input has said something."""
        self.words = words
        if self._ready:
            self._manager.status(self._status())

    def tick(self) -> None:
        """Ready, and what `systemctl status` shows."""
        if not self._streams:  # all are lost, and are waited for
            self.feed()
        if not self._ready:
            tried = bool(self._streams) and all(stream.tried for stream in self._streams.values())
            self._ready = tried or time.monotonic() > self._tried_by
            if self._ready:
                self._manager.ready(self._status())
        elif self._manager.status_is_due:
            self._manager.status(self._status())

    def end(self) -> None:
        """The end has begun."""
        self._manager.stopping()

    def _status(self) -> str:
        loops = [stream.loop for stream in self._streams.values()]
        of, score, words = "", "", self.words
        if len(loops) == 1:
            last = loops[0].last
            score = f", score {last.score:.4g} of {last.threshold:.4g}" if last else ""
            words = words or f"reading {loops[0].source.name}"
        else:
            of = f"{len(loops)} streams, "
        counts = f"{sum(loop.samples for loop in loops)} samples, {sum(loop.anomalies for loop in loops)} anomalies"
        return f"{of}{counts}{score}; {self._notes()}{words}"


class Progress(Watcher):
    """Tells of one stream that it goes on."""

    def __init__(self, loop: Loop, service: Service) -> None:
        self.loop = loop
        self.tried = loop.source.turned_s is None
        """Whether its input was: else a thread is just opening it."""
        self._service = service

    def arrived(self, items: Items) -> None:
        """Where nothing has come, an input that is known to have nothing is progress, too."""
        if not items:
            self._service.feed()
        self.tried = self.tried or bool(items)
        told = [item.words for item in items if isinstance(item, InputEvent) and item.told]
        if told:
            self._service.told(told[-1])

    def sample(self, row: Row) -> None:
        """The one before has gone through the detector."""
        self._service.feed()
