"""An input that is opened again where it says nothing (`idle-timeout`)."""

from __future__ import annotations

import time

from edgekd.runtime.sources.reconnect import Door


class IdleTimeout:
    """The door to an input that is taken as lost where it has said nothing for so long."""

    def __init__(self, door: Door, after_s: float) -> None:
        self.name, self.details, self.garbled = door.name, door.details, door.garbled
        self.close, self.absent, self.advice = door.close, door.absent, door.advice
        self._door = door
        self._after_s = after_s
        self._heard_at = 0.0

    def open(self) -> None:
        """See `Door.open`."""
        self._door.open()
        self._heard_at = time.monotonic()

    def read(self) -> bytes:
        """See `Door.read`."""
        data = self._door.read()
        now = time.monotonic()
        if data:
            self._heard_at = now
        elif now - self._heard_at > self._after_s:
            raise TimeoutError(f"it has said nothing for {self._after_s:g} s")
        return data
