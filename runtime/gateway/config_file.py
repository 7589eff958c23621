"""The gateway's file while it runs: it is read again when it changes, and streams come and go by it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import fields

from edgekd.runtime.errors import UsageError
from edgekd.runtime.gateway.config import read_config
from edgekd.runtime.gateway.options import GatewayOptions
from edgekd.runtime.gateway.sinks.fan_out import FanOut
from edgekd.runtime.sinks import wall_time

LOOK_S = 1.0

Take = Callable[[GatewayOptions], dict[str, list[str]]]


class ConfigFile:
    """Looks at the file; one that is bad is told, and changes nothing."""

    def __init__(
        self,
        path: str,
        options: GatewayOptions,
        fan_out: FanOut,
        take: Callable[[GatewayOptions], dict[str, list[str]]],
    ) -> None:
        """take: goes on with what the file says now; returns what that changes."""
        self._path = path
        self._options = options
        self._fan_out = fan_out
        self._take = take
        self._read = self._seen = self._mark()
        self._due = time.monotonic() + LOOK_S

    def look(self) -> None:
        """Read it now. For a signal handler."""
        self._read = self._seen = None
        self._due = 0.0

    def tick(self) -> None:
        """Read it, where it is another one and has stood still for a look: it may be just being written."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + LOOK_S
        asked, mark = self._seen is None, self._mark()
        still, self._seen = mark == self._seen, mark
        if mark is not None and (asked or (still and mark != self._read)):
            self._read = mark
            self._go_on()

    def _go_on(self) -> None:
        try:
            options = read_config(self._path)
        except UsageError as error:
            self._fan_out.emit({"event": "config_refused", "time": wall_time(), "reason": str(error)})
            self._fan_out.say(f"{error}; what ran goes on")
            return
        names = [field.name for field in fields(GatewayOptions) if field.name != "streams"]
        later = [name for name in names if getattr(options, name) != getattr(self._options, name)]
        told = self._take(options)
        if later:
            told["after_restart"] = [name.replace("_", "-") for name in later]
        if told:
            self._fan_out.emit({"event": "config_read", "time": wall_time(), **told})
            words = "; ".join(f"{what.replace('_', ' ')}: {', '.join(of)}" for what, of in told.items())
            self._fan_out.say(f"the file was read again; {words}")

    def _mark(self) -> tuple[int, ...] | None:
        """What changes with the file."""
        try:
            about = os.stat(self._path)  # noqa: PTH116 - a string
        except OSError:
            return None
        return about.st_ino, about.st_size, about.st_mtime_ns
