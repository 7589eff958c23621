"""The recording: what every reader returns and every method takes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from edgekd.runtime.errors import RecordingError
from edgekd.runtime.layout import Layout


@dataclass(frozen=True)
class Recording:
    """A multivariate recording in the sensors' own units, possibly of several unrelated entities."""

    values: np.ndarray
    """float32 (T, n), C-contiguous, finite."""
    sensors: tuple[str, ...]
    """n unique names."""
    period_s: float
    """Time between two samples, in seconds."""
    labels: np.ndarray | None = None
    """bool (T,), True where a sample is anomalous; None where nothing is known."""
    starts: tuple[int, ...] = (0,)
    """First sample of each entity, ascending, the first is 0. No window crosses one; all state resets there."""
    entities: tuple[str, ...] = ("",)
    """One name for each entity."""
    times_s: np.ndarray | None = None
    """float64 (T,), seconds since the epoch, where the source has a clock."""
    source: str = ""
    """Where it came from, for messages and manifests: a file or item name, never an absolute path."""
    frame: int | None = None
    """Rows of one image, where this is a recording of images: image after image, columns of pixels as sensors, and a
    window is exactly one image. None for a series."""
    units: tuple[str, ...] = ()
    """n units, "" where one is not known; () where none is."""
    layout: Layout | None = None
    """How its file was read, for a device to read the same; None where it was no table."""
    held_samples: int = 0
    """Samples over which a sensor that speaks more rarely than the others was held."""
    notes: tuple[str, ...] = field(default=())
    """What the reader had to mend (values held over gaps and the like), one line each, for the user."""

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[0] == 0:
            raise RecordingError(f"{self.source or 'recording'}: no rows; a recording needs at least one sample")
        if self.values.shape[1] != len(self.sensors):
            raise RecordingError(f"{self.source}: {self.values.shape[1]} columns but {len(self.sensors)} sensor names")

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def n_sensors(self) -> int:
        return self.values.shape[1]

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """[start, end) of each entity, in samples."""
        return list(zip(self.starts, (*self.starts[1:], len(self))))

    def split(self) -> Iterator[Recording]:
        """Each entity as a recording of its own."""
        for name, (start, end) in zip(self.entities, self.bounds):
            yield replace(
                self.slice(start, end), entities=(name,), source=f"{self.source}#{name}" if name else self.source
            )

    def slice(self, start: int, end: int) -> Recording:
        """Samples [start, end), with the entity boundaries that fall inside."""
        inside = [i for i, (a, b) in enumerate(self.bounds) if a < end and b > start]
        return replace(
            self,
            values=self.values[start:end],
            labels=None if self.labels is None else self.labels[start:end],
            times_s=None if self.times_s is None else self.times_s[start:end],
            starts=tuple(max(self.starts[i], start) - start for i in inside),
            entities=tuple(self.entities[i] for i in inside),
        )

    def digest(self) -> str:
        """SHA-256 over names, period, boundaries and values."""
        h = hashlib.sha256()
        h.update(repr((self.sensors, float(self.period_s), self.starts, self.values.shape)).encode())
        h.update(np.ascontiguousarray(self.values, dtype="<f4").tobytes())
        return h.hexdigest()
