"""Where samples come from: what every source gives, and what the loop asks of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

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
    """float32 (n,), raw units, NaN where a value is missing."""
    time: str | float | None = None
    """The source's own time label, as it wrote it."""
    frame: str | None = None
    """Name of the image, where `values` is a whole one, float32 (hop, n)."""
    sequence: int | None = None
    """The source's own count of samples, where its layout names one."""


@dataclass(frozen=True)
class InputEvent:
    """Something that happened to the input itself, to be told in the stream of events."""

    event: str
    words: str
    fields: dict[str, Any] = field(default_factory=dict)
    rewarm: bool = False
    """Samples are missing here, more than the detector's window or nobody knows how many: it must warm up again."""
    told: bool = True
    """Whether to tell it; one that repeats is counted and told now and then."""


Items = Sequence[Row | InputEvent]


class Reader(Protocol):
    """What the loop asks of the reader behind a source."""

    @property
    def unit(self) -> str:
        """What bad ones are, for people."""

    @property
    def clocked(self) -> bool:
        """Whether its samples come at the model's period."""

    @property
    def bad(self) -> int:
        """Lines or images so far that were no sample."""

    @property
    def last_bad(self) -> str:
        """Why the newest of them was none."""


class Source(Protocol):
    """Rows of samples, with what happens to the input between them."""

    name: str
    """For people: the file or port as the user gave it."""
    live: bool
    """Whether samples come as they are measured: no seeking, and time goes on while nobody listens."""

    @property
    def rows(self) -> Reader:
        """The reader that the source's bytes go through; it counts what was no row."""

    def __iter__(self) -> Iterator[Items]:
        """What has come since the last time, at once, possibly nothing; ends when the input has ended for good."""

    def wait(self, seconds: float) -> None:
        """Return when there may be more, or after so long."""

    def seek(self, sample: int) -> None:
        """Leave out the first `sample` samples; only where not `live`, and before iterating."""


def window_samples(manifest: Manifest) -> int:
    """How far the detector looks back: gaps up to here are filled, after longer ones it warms up again."""
    return max(manifest.warmup_samples, manifest.hop)
