"""SIGHUP: the threshold and the sinks of a running detector, from its settings as they are now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import click

from edgekd.runtime.errors import EdgeKDError
from edgekd.runtime.gateway.sinks.fan_out import Several
from edgekd.runtime.json_fields import shown
from edgekd.runtime.loop import Loop
from edgekd.runtime.options import RELOADED, Options


class Reload:
    """Called between two samples. Settings that are wrong are told, and leave everything as it was."""

    def __init__(
        self,
        loop: Loop,
        sinks: Several,
        options: Options,
        read: Callable[[], Options],
    ) -> None:
        self._loop = loop
        self._sinks = sinks
        self._options = options
        self._read = read

    def __call__(self) -> None:
        """Read the settings and take over what may change while running."""
        try:
            options = self._read()
            manifest, site = self._loop.detector.manifest, self._loop.site
            threshold = manifest.threshold.value if options.threshold is None else options.threshold
            if site:
                site.check(threshold)
            self._sinks.change(options, start=True)
        except (EdgeKDError, click.ClickException) as error:
            reason = shown(error.format_message() if isinstance(error, click.ClickException) else str(error), 300)
            self._loop.say(f"settings are not reloaded: {reason}; going on with the old ones")
            self._sinks.emit({"event": "reload_failed", "reason": reason})
            return
        loop, detector = self._loop, self._loop.detector
        loop.set_threshold(threshold)
        loop.scores = options.scores
        changed = _changed(self._options, options)
        later = [name for name in changed if name not in RELOADED]
        self._options = options
        self._sinks.emit({"event": "reloaded", "threshold": detector.threshold, "needs_restart": later})
        rest = f"; {', '.join(later)} will change with the next start" if later else ""
        loop.say(f"settings are reloaded, the threshold is {detector.threshold:g}{rest}")


def _changed(old: Options, new: Options) -> list[str]:
    return [field.name for field in fields(Options) if getattr(old, field.name) != getattr(new, field.name)]
