"""What a device told: the alarms among its event lines, at their places in a recording of the same time."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.data.recording import Recording
from edgekd.evaluation.alarms import SCORE, SLOW, STUCK
from edgekd.runtime.errors import UsageError
from edgekd.runtime.layout import PLAIN
from edgekd.runtime.sources.time_labels import TimeLabels

BEGINS = {"anomaly": SCORE, "sensor_stuck": STUCK}
ENDS = {"anomaly_end": SCORE, "sensor_stuck_end": STUCK}

Event = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """One alarm of a device, its samples those of the recording."""

    kind: str
    """SCORE, SLOW or STUCK."""
    first: int
    """Sample of its first verdict, the one in which it was told, and the last before its end."""
    at: int
    last: int
    sensors: tuple[str, ...]
    severity: float | None
    """Peak over threshold, as far as the device said it."""


def read_events(path: Path) -> list[Event]:
    """The events in a file of JSON lines, others left out; raises UsageError where there is none."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give what a device printed") from None
    found = [event for event in map(_event, lines) if event is not None]
    if not found:
        raise UsageError(f"{path}: holds no event; give the JSON lines that edgekd-run or edgekd-gateway printed")
    return found


def alarms_of(events: Sequence[Event], recording: Recording) -> list[Told]:
    """The alarms that began within the recording: by their time where it has one, else by their sample."""
    place = _Place(recording)
    found: list[Told] = []
    open_since: dict[tuple[str, str], int] = {}  # kind and stuck sensor -> item of `found`
    for event in events:
        about = str(event["event"])
        kind = BEGINS.get(about) or ENDS.get(about)
        if kind is None or (at := place.of(event)) is None:
            continue
        kind = SLOW if event.get("kind") == "slow" else kind
        key = kind, str(event.get("sensor", ""))
        if about in BEGINS:
            open_since[key] = len(found)
            found.append(_told(event, kind, at, len(recording)))
        elif (item := open_since.pop(key, None)) is not None:
            was = found[item]
            found[item] = Told(kind, was.first, was.at, max(was.at, at - 1), was.sensors, _number(event, "severity"))
    return found


def threshold_of(events: Sequence[Event]) -> float | None:
    """The threshold of the newest alarm of the score; None where there is none."""
    told = [event for event in events if event["event"] == "anomaly" and event.get("kind") != "slow"]
    return _number(told[-1], "threshold") if told else None


class _Place:
    """Samples of a recording by what an event says of itself."""

    def __init__(self, recording: Recording) -> None:
        self._length, self._times_s = len(recording), recording.times_s
        self._slack_s = recording.period_s / 2
        self._labels = TimeLabels(recording.layout or PLAIN, likely=True)

    def of(self, event: Event) -> int | None:
        """None where it lies outside."""
        if self._times_s is None:
            sample = _number(event, "sample")
            return int(sample) if sample is not None and 0 <= sample < self._length else None
        label = event.get("time")
        at_s = self._labels.seconds(label) if isinstance(label, (str, int, float)) else None
        if at_s is None or not self._times_s[0] <= at_s + self._slack_s <= self._times_s[-1] + 2 * self._slack_s:
            return None
        return int(np.abs(self._times_s - at_s).argmin())


def _told(event: Event, kind: str, at: int, length: int) -> Told:
    sample, start = _number(event, "sample"), _number(event, "start")
    lasted = 0 if sample is None or start is None else max(0, int(sample - start))
    sensors = event.get("sensors") or [event.get("sensor")]
    names = tuple(name for name in sensors if isinstance(name, str)) if isinstance(sensors, list) else ()
    return Told(kind, max(0, at - lasted), at, length - 1, names, _number(event, "severity"))


def _event(line: str) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _number(event: Event, name: str) -> float | None:
    value = event.get(name)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
