"""Whose normal has moved, by what devices recorded and told since their models were made.

The newest half of a record is looked at. Normal has moved where most of its scores lie above what one in ten did on
normal data, or where there are more alarms than the model's own audit and ten budgets allow. A sensor that is missing
or stuck is to be mended, not to be learned: such a machine is named, and not among those that are made anew.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.data import Recording
from edgekd.data.formats import FORMATS, requested
from edgekd.data.gaps import MAX_SHARE
from edgekd.data.request import join
from edgekd.evaluation.alarms import alarms_told
from edgekd.evaluation.score_model import ModelScores, reading_for, score_detector
from edgekd.fleet.machines import EVENTS, SUFFIXES
from edgekd.fleet.pool import Failed, guarded, run
from edgekd.fleet.site import Site
from edgekd.report.device import BEGINS, read_events
from edgekd.runtime.detector import Detector
from edgekd.runtime.errors import RecordingError
from edgekd.runtime.json_fields import shown

MOST = 2 / 3
"""Share of the newest scores above the normal 0.9 quantile: of 20 simulated machines those that had not moved came to
0.42 at most, those that had to 0.99 and more."""
BUDGETS = 10.0
"""Alarms a day that are too many, in budgets: a model of three days has three to four of them in any case."""
SENSORS = 2  # that a reason names


@dataclass(frozen=True)
class Moved:
    """What the record of one machine shows."""

    reasons: tuple[str, ...]
    """Why its normal has moved; () where it has not."""
    mend: tuple[str, ...]
    """Sensors to be mended."""
    above: float
    """Share of the newest scores above the normal 0.9 quantile."""
    alarms_per_day: float
    since: int = 0
    """First sample of the new normal."""


@dataclass(frozen=True)
class Watch:
    """One machine to be looked at."""

    key: str
    model: Path
    records: tuple[str, ...]
    events: tuple[Path, ...]
    budget: float
    """False alarms a day that its threshold is for."""


@dataclass
class Found:
    """What the records of a fleet show."""

    moved: dict[str, Moved] = field(default_factory=dict)
    mend: dict[str, Moved] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    looked: int = 0
    without: int = 0
    """Machines of which nothing was recorded."""


def find(site: Site, folder: Path, on: str | None = None, workers: int = -1) -> Found:
    """Look at what was recorded of every machine of a site, and write it down there."""
    found, watches = Found(), []
    for name, entry in site.machines.items():
        try:
            records, events = records_of(folder, name)
        except RecordingError:
            found.without += 1
            continue
        budget = entry["figures"]["budget"]
        watches.append(Watch(name, site.folder_of(name) / entry["file"], records, events, budget))
    for watch, result in run(look, watches, on, workers):
        found.looked += 1
        if isinstance(result, Failed):
            found.failed[watch.key] = result.line
        elif result.mend:
            found.mend[watch.key] = result
        elif result.reasons:
            found.moved[watch.key] = result
    site.write_drift({"from": str(folder), **_to_json(found)})
    return found


def records_of(folder: Path, machine: str) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """What the device of a machine recorded, and what it told: files FOLDER/MACHINE.* or in FOLDER/MACHINE/.

    Raises RecordingError where it recorded nothing.
    """
    own = folder / machine
    files = sorted(own.iterdir() if own.is_dir() else folder.glob(f"{glob.escape(machine)}.*"))
    events = tuple(file for file in files if file.suffix in EVENTS)
    records = tuple(str(file) for file in files if file.suffix.lower() in SUFFIXES and file not in events)
    if not records:
        raise RecordingError(f"{folder}: holds no record of {shown(machine)}; put it at {own}.csv, or in {own}/")
    return records, events


@guarded
def look(watch: Watch) -> Moved:
    """One machine's record through its model, as on the device."""
    detector = Detector.load(watch.model)
    recording = _as_recorded(watch)
    scored = score_detector(detector, recording)
    normal, newest = detector.manifest.score.normal_p90, scored.samples >= len(recording) // 2
    if not newest.any():
        raise RecordingError(f"{recording.source}: {len(recording):,} samples are too few to tell; record longer")
    above = scored.scores > normal
    share = float(above[newest].mean())
    alarms, days = _alarms(watch, scored), len(recording) * recording.period_s / 86400
    reasons = []
    if share > MOST:
        names = _behind(scored, newest & above)
        reasons.append(f"{share:.0%} of the newest scores are above what 10% are normally, most by {names}")
    rate = detector.manifest.threshold.alarms_per_day
    most = max(BUDGETS * watch.budget, rate.upper95 if rate else 0.0)
    if _at_least(alarms, days) > most:
        reasons.append(f"{alarms / days:.1f} alarms a day, budget {watch.budget:g}")
    since = _since(scored, above) if share > MOST else 0
    return Moved(tuple(reasons), _to_mend(recording, scored), share, alarms / days, since)


def _as_recorded(watch: Watch) -> Recording:
    """All that was recorded, missing values as such."""
    how, pieces = reading_for(watch.model, {}), []
    for spec in watch.records:
        request, name = requested(spec, None, format=None, item=None, **how)
        reader = FORMATS[name].look
        pieces.append(FORMATS[name].load(request) if reader is None else reader(request).as_read())
    return pieces[0] if len(pieces) == 1 else join(pieces, [Path(spec).stem for spec in watch.records])


def _behind(scored: ModelScores, chosen: np.ndarray) -> str:
    """The sensors that contribute most."""
    shares = scored.contributions[chosen].mean(0)
    return " and ".join(shown(scored.recording.sensors[i], 40) for i in np.argsort(-shares)[:SENSORS])


def _since(scored: ModelScores, above: np.ndarray) -> int:
    """The sample from which on most scores are above: where their sum, less a half for each, is lowest."""
    sums = np.concatenate([[0.0], np.cumsum(above - 0.5)])
    verdict = int(np.argmin(sums))
    return max(0, int(scored.samples[min(verdict, len(above) - 1)]) + 1 - scored.hop)


def _alarms(watch: Watch, scored: ModelScores) -> int:
    """What the device told, where that is there; else what it would have told."""
    if watch.events:
        return sum(event["event"] in BEGINS for path in watch.events for event in read_events(path))
    return len(alarms_told(scored, scored.threshold))


def _at_least(alarms: int, days: float) -> float:
    """Lower 95 % bound of a rate a day (Garwood 1936)."""
    from scipy.stats import chi2

    return float(chi2.ppf(0.05, 2 * alarms) / 2 / days) if alarms else 0.0


def _to_mend(recording: Recording, scored: ModelScores) -> tuple[str, ...]:
    """Sensors that are missing or stuck in the newest half."""
    half = len(recording) // 2
    missing = np.isnan(recording.values[half:]).mean(0)
    lines = [
        f"{shown(recording.sensors[i], 40)} is missing in {missing[i]:.0%} of the newest samples"
        for i in np.flatnonzero(missing > MAX_SHARE)
    ]
    stuck = dict.fromkeys(change.sensor for change in scored.stuck if change.stuck and change.sample >= half)
    return (*lines, *(f"{shown(name, 40)} is stuck" for name in stuck))


def _to_json(found: Found) -> dict[str, Any]:
    def each(machines: dict[str, Moved]) -> dict[str, Any]:
        return {name: vars(moved) for name, moved in machines.items()}

    return {
        "moved": each(found.moved), "mend": each(found.mend), "failed": found.failed, "looked": found.looked,
        "without": found.without,
    }  # fmt: skip


def in_words(found: Found) -> Sequence[str]:
    """A line for each machine that has something to tell."""
    lines = [f"{name}: moved, {'; '.join(moved.reasons)}" for name, moved in sorted(found.moved.items())]
    return [*lines, *(f"{name}: mend, {'; '.join(each.mend)}" for name, each in sorted(found.mend.items()))]
