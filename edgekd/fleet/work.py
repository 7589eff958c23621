"""What one machine gets: a student, the exported file with its proof, and the figures that the report shows.

Runs in a process of its own, perhaps on another computer, and gives back bytes: only the process that began the run
writes the site. The same machine, settings and version give the same bytes, in whatever order and however often.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording
from edgekd.data.checks import same_period
from edgekd.data.formats import FORMATS, requested
from edgekd.data.request import join
from edgekd.data.suspects import recording_of, suspects
from edgekd.data.table_file import entity_of
from edgekd.distillation import distill, teacher_path
from edgekd.evaluation.judgement import judge
from edgekd.evaluation.score_model import reading_for, score_model
from edgekd.export import export
from edgekd.export.onnx import template
from edgekd.fleet.machines import Machine
from edgekd.fleet.pool import guarded
from edgekd.fleet.settings import WARM_EPOCHS, Settings
from edgekd.runtime.errors import EdgeKDError, RecordingError

STUDENT, TEACHER = "student.pt", "teacher.pt"
TIMED_S = 0.1  # of a step, which every other core makes slower anyway


@dataclass(frozen=True)
class Shared:
    """The student and the teacher of a type, as files."""

    student: Path
    teacher: Path


@dataclass(frozen=True)
class Job:
    """One piece of work."""

    key: str
    """Of the machine, or of the type that is shared."""
    settings: Settings
    reading: dict[str, Any]
    machines: tuple[Machine, ...]
    """The one; of a shared student those that it is trained on."""
    shared: Shared | None = None
    share: bool = False
    """Whether this makes what a type shares."""


@dataclass(frozen=True)
class Done:
    """What came of it."""

    files: dict[str, bytes]
    """Name in the machine's folder: content."""
    figures: dict[str, Any]
    """The same whenever it is made."""
    step_us: float = 0.0
    """A step in the engine, as measured here."""
    cpu_s: float = 0.0
    """What it took of one core."""


@guarded
def work(job: Job) -> Done:
    """Do it."""
    import torch

    began = time.process_time()
    torch.set_num_threads(1)  # one process a core; and sums are the same on every computer
    with TemporaryDirectory(prefix="edgekd-fleet-") as folder:
        done = (_share if job.share else _make)(job, Path(folder))
    return replace(done, cpu_s=time.process_time() - began)


@dataclass(frozen=True)
class Read:
    """A machine's recordings, one entity after the other, and how good they are."""

    recording: Recording
    missing: float
    """Share of values that were not there."""
    stuck: int
    """Sensors that repeat one value for long."""


def read(specs: Sequence[str], part: str | None, how: dict[str, Any]) -> Read:
    """All recordings of a machine; raises RecordingError where they are not of the same sensors."""
    each = [_read(spec, part, how) for spec in specs]
    first = each[0].recording
    for other in (one.recording for one in each[1:]):
        if other.sensors != first.sensors or not same_period(other.period_s, first.period_s):
            raise RecordingError(f"{other.source}: other sensors or another period than {first.source}; take it out")
    whole = first if len(each) == 1 else join([one.recording for one in each], [Path(spec).stem for spec in specs])
    sizes = [one.recording.values.size for one in each]
    missing = float(np.average([one.missing for one in each], weights=sizes))
    return Read(whole, missing, max(one.stuck for one in each))


def _read(spec: str, part: str | None, how: dict[str, Any]) -> Read:
    request, name = requested(spec, part, format=None, item=None, **how)
    look = FORMATS[name].look
    if look is None:
        return Read(FORMATS[name].load(request), 0.0, 0)
    reading = look(request)
    missing = float(np.isnan(reading.values).mean())
    stuck = len({found.sensor for found in suspects(reading) if found.kind == "stuck"})
    return Read(entity_of(request, recording_of(reading)), missing, stuck)


def _recordings(machine: Machine, reading: dict[str, Any]) -> Read:
    if machine.recording is not None and not machine.data:
        return Read(machine.recording, 0.0, 0)
    found = read(machine.data, "train", reading)
    if not machine.since:
        return found
    return replace(found, recording=found.recording.slice(machine.since, len(found.recording)))


def _share(job: Job, folder: Path) -> Done:
    """Teacher and student of a type, on the first of its machines that can be read."""
    found, lines = [], []
    for machine in job.machines:
        try:
            found.append(_recordings(machine, job.reading).recording)
        except EdgeKDError as error:
            lines.append(str(error))
    if not found:
        raise RecordingError(lines[0])
    found = [one for one in found if _alike(one, found[0])]
    output = folder / STUDENT
    checkpoint = distill(
        on_one_scale(found), output, method=job.settings.method, preset=job.settings.preset,
        settings=job.settings.set, seed=job.settings.seed, device="cpu",
        false_alarms_per_day=job.settings.false_alarms_per_day,
    )  # fmt: skip
    _save(checkpoint, output)
    teacher = teacher_path(output)
    files = {STUDENT: output.read_bytes(), **({TEACHER: teacher.read_bytes()} if teacher.exists() else {})}
    return Done(files, {})


def on_one_scale(recordings: Sequence[Recording]) -> Recording:
    """Recordings of one type as entities of one, each sensor with the mean and the deviation of the first's.

    Machines of a type move alike about levels of their own, and a network is to learn how they move.
    """
    first = recordings[0]
    mean, deviation = first.values.mean(0), first.values.std(0)
    moved = [first]
    for other in recordings[1:]:
        own = other.values.std(0)
        scale = np.divide(deviation, own, out=np.zeros_like(own), where=own > 0)
        values = (other.values - other.values.mean(0)) * scale + mean
        moved.append(replace(other, values=np.ascontiguousarray(values, np.float32)))
    return join(moved, [one.source for one in moved])


def _alike(one: Recording, other: Recording) -> bool:
    return one.sensors == other.sensors and same_period(one.period_s, other.period_s)


def _make(job: Job, folder: Path) -> Done:
    """One machine's student and its exported file."""
    settings, machine = job.settings, job.machines[0]
    found = _recordings(machine, job.reading)
    student, values = folder / STUDENT, settings.set
    how: dict[str, Any] = {}
    if job.shared is not None:
        _require_type(found.recording, job)
        how = {"shared": job.shared.student, "frozen": settings.one == "type"}
        if job.shared.teacher.exists():
            how["teacher"] = job.shared.teacher
        values = {"epochs": WARM_EPOCHS, **values}
    checkpoint = distill(
        found.recording, student, method=settings.method, preset=settings.preset, settings=values,
        false_alarms_per_day=settings.false_alarms_per_day, seed=settings.seed, device="cpu", **how,
    )  # fmt: skip
    _save(checkpoint, student)
    exported = folder / f"student.{settings.format}"
    convert = template.float_model if settings.format == "onnx" else None
    done = export(
        checkpoint, exported, format=settings.format, int8=settings.int8, timed_s=TIMED_S, convert=convert
    )  # fmt: skip
    figures = {
        "detector": f"{checkpoint.method}/{checkpoint.preset}",
        "samples": len(found.recording),
        "days": len(found.recording) * found.recording.period_s / 86400,
        "sensors": found.recording.n_sensors,
        "missing": found.missing,
        "stuck": found.stuck,
        "bytes": done.file_bytes,
        "threshold": done.manifest.threshold.value,
        "false_alarms": dict(checkpoint.threshold["alarms_per_day"]),
        "budget": settings.false_alarms_per_day,
        "quality": _quality(machine, exported, found.recording, job.reading),
    }
    files = {STUDENT: student.read_bytes(), exported.name: exported.read_bytes()}
    return Done(files, figures, done.written.step_us)


def _require_type(recording: Recording, job: Job) -> None:
    assert job.shared is not None
    checkpoint = Checkpoint.load(job.shared.student)
    names = tuple(sensor["name"] for sensor in checkpoint.sensors)
    if names != recording.sensors or not same_period(checkpoint.period_s, recording.period_s):
        raise RecordingError(
            f"{recording.source}: other sensors or another period than the first machines of its type; give it a type "
            "of its own in a .toml: [types.NAME] machines = [...]"
        )


def _save(checkpoint: Checkpoint, path: Path) -> None:
    """Again without how long each epoch took, so that the same training is the same file."""
    for history in checkpoint.histories.values():
        for row in history:
            row.pop("seconds", None)
    checkpoint.save(path)


def _quality(machine: Machine, model: Path, trained: Recording, reading: dict[str, Any]) -> dict[str, Any] | None:
    """What the file is worth where there are labels: on the machine's test, else on what it was trained on."""
    recording, seen = trained, True
    if machine.test is not None:
        recording, seen = read([machine.test], "test", reading_for(model, reading)).recording, False
    if recording.labels is None or not recording.labels.any():
        return None
    found = score_model(model, recording)
    judged = judge(found, found.threshold)
    return {
        "faults": judged.faults,
        "found": judged.found,
        "by_chance": judged.by_chance,
        "luck": judged.luck,
        "false_alarms_per_day": judged.false_alarms_per_day,
        "outcome": judged.outcome,
        "trained_on": seen,
    }
