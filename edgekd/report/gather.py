"""All that a report is made of: the recording as it was read, scores, judgement, what a device told, settings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.data import load
from edgekd.data.formats import FORMATS, requested
from edgekd.data.marks import Mark, labeled
from edgekd.data.reading import TimeGap
from edgekd.data.recording import Recording
from edgekd.data.suspects import recording_of
from edgekd.evaluation.alarms import SLOW, STUCK, first_told
from edgekd.evaluation.events import runs
from edgekd.evaluation.judgement import Judgement, judge
from edgekd.evaluation.score_model import ModelScores, Progress, reading_for, score_model
from edgekd.evaluation.settings import Setting, Verdicts, best
from edgekd.evaluation.words import judged_in_words
from edgekd.inspection import describe
from edgekd.report.device import Event, Told, alarms_of, threshold_of
from edgekd.runtime.errors import UsageError


@dataclass(frozen=True)
class Read:
    """A recording, and what was missing before values were held."""

    recording: Recording
    missing: np.ndarray | None = None
    """bool (T, n); None of a collection, of which nothing is missing."""
    gaps: tuple[TimeGap, ...] = ()


@dataclass(frozen=True)
class Judged:
    """One model on the recording."""

    path: Path
    about: dict[str, Any]
    """What the file says of itself (`edgekd.inspection`)."""
    found: ModelScores
    setting: Setting
    """At which it is judged: the device's own threshold, or the model's."""
    judgement: Judgement
    words: list[str]

    @property
    def file_on_device(self) -> str:
        """Its name, quoted for a shell; a student is exported first."""
        exported = self.path.with_suffix(".onnx") if self.about["container"] == "torch" else self.path
        return shlex.quote(exported.name)


@dataclass(frozen=True)
class Report:
    """What a page shows."""

    read: Read
    model: Judged
    against: Judged | None
    verdicts: Verdicts
    advice: Setting | None
    """A better setting, see `edgekd.evaluation.settings.best`."""
    told: list[Told] | None
    """The device's alarms; None where none were given."""
    marks: Sequence[Mark] = field(default=())


def options_of(report: Report, setting: Setting) -> dict[str, str]:
    """What sets it, by the names that `edgekd-run` and `edgekd-gateway` have for it; not what is so already."""
    found = report.model.found
    options = setting.options(found.hop * found.recording.period_s)
    return {
        name: value for name, value in options.items() if name != "threshold" or setting.threshold != found.threshold
    }


def read(model: Path, data: str, part: str | None, told: dict[str, Any]) -> Read:
    """DATA as the model's training was read; raises UsageError for images, which have no time."""
    how = reading_for(model, told)
    request, name = requested(data, part, format=how.pop("format", None), item=None, **how)
    look = FORMATS[name].look
    if look is None or request.item is not None:
        found = Read(load(data, part, format=name, **how))
    else:
        reading = look(request)
        missing = ~np.isfinite(reading.values)  # before they are filled in place
        found = Read(recording_of(reading), missing, reading.gaps)
    if found.recording.frame is not None:
        raise UsageError(f"{found.recording.source}: holds images, which have no time; edgekd evaluate measures them")
    return found


def gather(
    model: Path,
    read: Read,
    against: Path | None = None,
    events: Sequence[Event] = (),
    marks: Sequence[Mark] = (),
    progress: Progress | None = None,
) -> Report:
    """Score and judge."""
    recording = labeled(read.recording, marks) if marks else read.recording
    first = _judged(model, recording, threshold_of(events), progress, marks)
    other = None if against is None else _judged(against, recording, None, progress, marks)
    found = first.found
    labels = np.zeros(len(recording), bool) if recording.labels is None else recording.labels
    segments = runs(labels, recording.starts)
    verdicts = Verdicts(found.samples, found.scores, found.hop, segments, recording.starts)
    told = alarms_of(events, found.recording) if events else None
    anyway = told_anyway(found, segments)
    return Report(read, first, other, verdicts, best(verdicts, first.setting, anyway), told, marks)


def told_anyway(found: ModelScores, segments: np.ndarray) -> np.ndarray:
    """bool (m,): which faults, [begin, end), a slow alarm or a stuck sensor tells."""
    by = first_told(found, np.inf)
    told = np.minimum(by[SLOW], by[STUCK]) < len(found.recording)
    return np.array([told[begin:end].any() for begin, end in segments], bool)


def _judged(
    path: Path, recording: Recording, threshold: float | None, progress: Progress | None, marks: Sequence[Mark]
) -> Judged:
    found = score_model(path, recording, progress)
    setting = Setting(found.threshold if threshold is None else threshold)
    judgement = judge(found, setting.threshold)
    return Judged(path, describe(path), found, setting, judgement, judged_in_words(judgement, found.recording, marks))
