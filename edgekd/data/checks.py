"""Does a recording fit what is to be done with it? Asked by the commands before any long work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgekd.data.recording import Recording
from edgekd.data.request import shorten
from edgekd.runtime.errors import RecordingError

SAME_PERIOD = 0.05  # a clock that is off by less is the same clock


def constant_sensors(recording: Recording) -> list[str]:
    """Names of the sensors that never change. They carry nothing, but stay in the recording."""
    flat = np.ptp(recording.values, axis=0) == 0
    return [name for name, constant in zip(recording.sensors, flat) if constant]


def same_period(one_s: float, other_s: float) -> bool:
    """Whether two sampling periods are those of one clock; windows of another clock mean another time."""
    return abs(one_s / other_s - 1) <= SAME_PERIOD


def require_length(recording: Recording, n: int) -> None:
    """Raise RecordingError unless at least one entity has `n` samples (one window)."""
    longest = max(end - start for start, end in recording.bounds)
    if longest < n:
        stretch = "it has" if len(recording.starts) == 1 else f"the longest of its {len(recording.starts)} entities has"
        raise RecordingError(
            f"{recording.source or 'recording'}: shorter than one window of {n} samples; {stretch} {longest}; "
            "record longer, or distill with shorter windows: --set 'lengths=[3,6,12]' (anomalyllm: --set window=32)"
        )


def require_same_sensors(sensors: Sequence[str], recording: Recording) -> Recording:
    """The recording with its columns in the order of `sensors`.

    Raises RecordingError naming the difference unless both have the same set of names.
    """
    if tuple(sensors) == recording.sensors:
        return recording
    lacking = [name for name in sensors if name not in recording.sensors]
    extra = [name for name in recording.sensors if name not in sensors]
    if lacking or extra:
        said = [f"lacks {shorten(lacking)}"] if lacking else []
        said += [f"has {shorten(extra)} besides"] if extra else []
        raise RecordingError(
            f"{recording.source or 'recording'}: other sensors than in training: it {' and '.join(said)}; "
            f"give the {len(sensors)} sensors that the detector was trained on"
        )
    order = [recording.sensors.index(name) for name in sensors]
    note = "columns reordered by name to those of the training"
    return replace(
        recording,
        values=np.ascontiguousarray(recording.values[:, order]),
        sensors=tuple(sensors),
        notes=(*recording.notes, note),
    )
