"""Where samples come from: what every source gives, and what the loop asks of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekd.runtime.manifest import Manifest

CHUNK_BYTES = 16384
"""What is read at once. Of more, thousands of rows at once, uneven pieces tear holes into the heap that add up: with
64 KiB a run of two simulated hours grew by a quarter MiB."""
TICK_S = 0.25
"""How long a source that has nothing is waited for, so that the loop can save its state or stop."""
END_S = 0.4
"""A thread that hangs in a system call does not keep the process from ending for longer."""


@dataclass(slots=True)
class Row:
    """One sample."""

    values: np.ndarray
    """float32 (n,), raw units, NaN where a value is missing; float64 while steps are still to be taken."""
    time: str | float | None = None  # the source's own time label, as it wrote it
    frame: str | None = None  # name of the image, where `values` is a whole one, float32 (hop, n)
    sequence: int | None = None  # the source's own count of samples, where its layout names one
    seconds: float | None = None  # `time` in seconds since 1970, where the layout can read it
    off: bool = False  # the machine is in a state that the layout leaves out: neither normal nor an alarm
    partial: bool = False  # it came in a message that does not name all sensors


@dataclass(frozen=True)
class InputEvent:
    """Something that happened to the input itself, to be told in the stream of events."""

    event: str
    words: str
    fields: dict[str, Any] = field(default_factory=dict)
    rewarm: bool = False
    """Samples are missing here, more than the detector's window or nobody knows how many: it must warm up again."""
    told: bool = True  # whether to tell it; one that repeats is counted and told now and then


Items = Sequence[Row | InputEvent]


class NoSample(ValueError):
    """A line or an image that is none, or does not fit the model; the text says why."""


class Tally:
    """Counts what of an input was no sample."""

    unit = "lines"  # what is counted, for people
    good = 0  # how many held one so far, where `check` asks for it
    bad = 0  # how many held none
    last_bad = ""  # why the newest of them held none
    check = ""  # what to look after where most hold none

    def refuse(self, reason: str) -> None:
        """Count one."""
        self.bad += 1
        self.last_bad = reason


class Source:
    """Rows of samples, with what happens to the input between them. None: it has no such thing."""

    name: str  # for people: the file or port as the user gave it
    rows: Tally  # the reader that the source's bytes go through
    live = True  # whether samples come as they are measured: no seeking, and time goes on while nobody listens
    turned_s: float | None = None
    """When the thread that reads it last came round, on the monotonic clock. None: it has looked when it yields."""
    idle = True  # whether there was no more when it last gave nothing
    reconnects: int | None = None  # times that the input came back
    dropped: int | None = None  # samples so far that were dropped because the input outran the detector
    backlog: int | None = None  # samples that wait

    @property
    def lag_s(self) -> float | None:
        """For how long samples have been there that the detector has not seen, 0 where it has seen all."""
        return None

    def __iter__(self) -> Iterator[Items]:
        """What has come since the last time, at once, possibly nothing; ends when the input has ended for good."""
        raise NotImplementedError

    def wait(self, seconds: float) -> None:
        """Return when there may be more, or after so long."""

    def seek(self, sample: int) -> None:
        """Leave out the first `sample` samples; only where not `live`, and before iterating."""
        raise NotImplementedError

    def position(self) -> dict[str, Any] | None:
        """Up to where a live source that can be read again has been read, JSON-able."""
        return None

    def seek_position(self, position: object) -> bool:
        """Go on from what `position` gave, before iterating; whether that is still there."""
        return False


def window_samples(manifest: Manifest) -> int:
    """How far the detector looks back: gaps up to here are filled, after longer ones it warms up again."""
    return max(manifest.warmup_samples, manifest.hop)
