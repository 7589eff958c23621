"""A serial port or a server that has been gone for too long ends the run (`give-up-after`)."""

from __future__ import annotations

import time

from edgekd.runtime.errors import InputLost
from edgekd.runtime.json_fields import shown
from edgekd.runtime.loop import Loop, Watcher
from edgekd.runtime.sources import InputEvent, Items


class GiveUp(Watcher):
    """Raises InputLost where the input has been gone for so long; it is gone until it was opened once."""

    def __init__(self, loop: Loop, after_s: float) -> None:
        self._loop = loop
        self._after_s = after_s
        self._gone_since = time.monotonic()
        self._reason = ""  # why it is gone; empty where it is there, or was not tried yet

    def arrived(self, items: Items) -> None:
        """See whether it went or came back."""
        for item in items:
            if not isinstance(item, InputEvent):
                continue
            if item.event in ("input_open", "input_back"):
                self._reason = ""
            elif item.event in ("input_lost", "input_waiting"):
                self._reason = item.fields["reason"]
                if item.event == "input_lost":
                    self._gone_since = time.monotonic()

    def tick(self) -> None:
        """Give it up, if it is time to."""
        gone_s = time.monotonic() - self._gone_since
        if self._reason and gone_s > self._after_s:
            name = shown(self._loop.source.name, 200)
            raise InputLost(f"{name}: gone for {gone_s:.0f} s ({self._reason}); gave up waiting for it")
