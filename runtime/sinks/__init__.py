"""Where events go: JSON lines for machines on standard output, words for people on standard error."""

from __future__ import annotations

import contextlib
import json
import math
import select
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

import numpy as np


class Sink(Protocol):
    """Takes events, one after the other."""

    def emit(self, event: Mapping[str, Any]) -> None:
        """One event: `event` names its kind, the rest are JSON values."""

    def close(self, timeout_s: float) -> None:
        """Write what waits, as far as its reader takes it in time."""


def encode(event: Mapping[str, Any]) -> bytes:
    """An event as one line of JSON, without its end; ASCII, so that no sensor's name steers a terminal."""
    return json.dumps(event, allow_nan=False, separators=(", ", ": ")).encode()


class JsonLines:
    """One JSON object a line, each flushed: the reader at the other end of a pipe waits for it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def emit(self, event: Mapping[str, Any]) -> None:
        """Write one event; raises BrokenPipeError where nobody reads any more."""
        self._stream.write(encode(event).decode() + "\n")
        self._stream.flush()

    def close(self, timeout_s: float) -> None:
        """Nothing waits."""


class StderrLines:
    """Lines for people on standard error."""

    def __init__(self, program: str, quiet: bool = False) -> None:
        self._program, self._quiet = program, quiet

    def __call__(self, text: str) -> None:
        """Say one line, unless quiet; a stderr that is gone is nobody's loss, and one that stalls is not waited for."""
        with contextlib.suppress(OSError, ValueError):
            if not self._quiet and select.select([], [2], [], 0)[1]:
                print(f"{self._program}: {text}", file=sys.stderr, flush=True)


def json_score(score: float) -> float:
    """A float32 score as the shortest number that reads back as the same float32."""
    return float(str(np.float32(score)))


def rounded(severity: float | None) -> float | None:
    """Four digits are what people read."""
    return None if severity is None else float(f"{severity:.4g}")


def wall_time() -> str:
    """The wall clock's label for what happens now."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def json_time(time: str | float | None) -> str | float | None:
    """A time label that JSON can hold."""
    return None if isinstance(time, (int, float)) and not math.isfinite(time) else time
