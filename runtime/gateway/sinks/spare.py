"""Standard output beside another sink: where a reader leaves or a disk is full, that is told once and stops nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from edgekd.runtime.cli import forget_stdout
from edgekd.runtime.sinks import Sink


class SpareStdout:
    """Passes events on to standard output for as long as it takes them; `lost` is called with the reason, then."""

    def __init__(self, stdout: Sink, lost: Callable[[str], None]) -> None:
        self._stdout = stdout
        self._lost = lost
        self._gone = False

    def emit(self, event: Mapping[str, Any]) -> None:
        """See `Sink.emit`; raises nothing."""
        if self._gone:
            return
        try:
            self._stdout.emit(event)
        except OSError as error:
            self._gone = True
            forget_stdout()
            self._lost(error.strerror or str(error))

    def close(self, timeout_s: float) -> None:
        """See `Sink.close`."""
        with contextlib.suppress(OSError):
            self._stdout.close(timeout_s)
