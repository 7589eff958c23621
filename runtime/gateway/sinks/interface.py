"""What the network sinks share: they take events from the outbox, and say when they cannot get rid of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from edgekd.runtime.gateway.outbox import Tell


class Turning(Protocol):
    """What has a thread of its own that comes round."""

    name: str

    @property
    def turned_s(self) -> float:
        """When it last did, on the monotonic clock; ahead of now while it may wait."""


class Outlet(Turning, Protocol):
    """A sink that delivers from the outbox, in a thread of its own."""

    delivered: int
    """Events of this run that have arrived."""
    dropped: int
    """Events that were given up."""

    def start(self) -> None:
        """Begin to deliver."""

    def stop(self, timeout_s: float) -> None:
        """Deliver no more; what is under way may end within the time. One that has not begun never does."""

    def beat(self, counts: Mapping[str, Any]) -> None:
        """The run lives, and has done so much."""


class DeliveryProblem:
    """Tells that a sink waits, once for each reason, and that it works again."""

    def __init__(self, sink: str, to: str, tell: Tell) -> None:
        self._sink = sink
        self._to = to
        self._tell = tell
        self._since: float | None = None
        self._reason = ""

    def waiting(self, reason: str) -> None:
        """It cannot deliver."""
        if self._since is None:
            self._since = time.monotonic()
        if reason != self._reason:
            self._reason = reason
            words = f"waiting for {self._to}: {reason}; events are kept meanwhile"
            self._tell("sink_waiting", words, {"sink": self._sink, "to": self._to, "reason": reason})

    def works(self) -> None:
        """It delivers, perhaps again."""
        if self._since is None:
            return
        lost_s, self._since, self._reason = round(time.monotonic() - self._since, 3), None, ""
        words = f"{self._to} takes events again, after {lost_s:.1f} s"
        self._tell("sink_back", words, {"sink": self._sink, "to": self._to, "lost_s": lost_s})
