"""Stuck sensors of a recording, as the device's own detector tells them: around a graph that does nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from edgekd.data.recording import Recording
from edgekd.runtime.detector import Detector, StuckChange
from edgekd.runtime.manifest import Manifest, SelfTestSpec, SensorSpec, ThresholdSpec


class _Nothing:
    """An engine whose score is always 0."""

    name = "nothing"

    def __init__(self, sensors: int) -> None:
        self._result = [np.zeros((), np.float32), np.zeros(sensors, np.float32)]

    def run(self, feeds: object) -> list[np.ndarray]:
        """See `Engine.run`."""
        return self._result


def watching(sensors: Sequence[SensorSpec], period_s: float, hop: int) -> Detector:
    """A detector that knows for how long each sensor may say the same, and watches for nothing else."""
    test = SelfTestSpec(1, 1, (0.0,), 0.0)
    manifest = Manifest("", "", tuple(sensors), period_s, hop, 0, 5 * period_s, (), ThresholdSpec(0.0), test)
    return Detector(_Nothing(len(sensors)), manifest)


def stuck_sensors(detector: Detector, recording: Recording) -> Iterator[StuckChange]:
    """What is told to be stuck, each entity from the cold state; samples are counted in the whole recording."""
    for start, end in recording.bounds:
        detector.reset()
        detector.update_block(recording.values[start:end])
        yield from told_here(detector, start)


def told_here(detector: Detector, start: int) -> Iterator[StuckChange]:
    """What a detector has found stuck in an entity that begins at `start`, counted in the whole recording."""
    for change in detector.stuck_changes():
        if change.stuck:
            yield replace(change, sample=start + change.sample, start=start + change.start)
