"""SIGHUP: the threshold and the sinks of a running detector, from its settings as they are now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import click

from edgekd.runtime.errors import EdgeKDError
from edgekd.runtime.loop import Loop
from edgekd.runtime.options import RELOADED, Options
from edgekd.runtime.sinks import Sink
from edgekd.runtime.strict import shown


class Outlet:
    """A sink that can be exchanged while others hold it."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def emit(self, event: Mapping[str, Any]) -> None:
        """One event, to the sink of now."""
        self.sink.emit(event)


class Reload:
    """Called between two samples. Settings that are wrong are told, and leave everything as it was."""

    def __init__(
        self,
        loop: Loop,
        outlet: Outlet,
        options: Options,
        read: Callable[[], Options],
        build_sink: Callable[[Options], Sink],
    ) -> None:
        self._loop = loop
        self._outlet = outlet
        self._options = options
        self._read = read
        self._build_sink = build_sink

    def __call__(self) -> None:
        """Read the settings and take over what may change while running."""
        try:
            options = self._read()
            sink = self._build_sink(options)
        except (EdgeKDError, click.ClickException) as error:
            reason = shown(error.format_message() if isinstance(error, click.ClickException) else str(error), 300)
            self._loop.say(f"settings are not reloaded: {reason}; going on with the old ones")
            self._outlet.emit({"event": "reload_failed", "reason": reason})
            return
        self._outlet.sink = sink
        loop, detector = self._loop, self._loop.detector
        detector.threshold = detector.manifest.threshold.value if options.threshold is None else options.threshold
        loop.scores = options.scores
        changed = _changed(self._options, options)
        later = [name for name in changed if name not in RELOADED]
        self._options = options
        self._outlet.emit({"event": "reloaded", "threshold": detector.threshold, "needs_restart": later})
        rest = f"; {', '.join(later)} will change with the next start" if later else ""
        loop.say(f"settings are reloaded, the threshold is {detector.threshold:g}{rest}")


def _changed(old: Options, new: Options) -> list[str]:
    return [field.name for field in fields(Options) if getattr(old, field.name) != getattr(new, field.name)]
