"""From a recording to a saved student: preset, settings, teacher, training, threshold, files."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgekd.blocks.step import StepModule
from edgekd.blocks.threshold import RATES
from edgekd.checkpoint import Checkpoint, package
from edgekd.data import Recording
from edgekd.data.checks import same_period
from edgekd.data.score_file import read_scores
from edgekd.methods import DEFAULT_METHOD, method_with
from edgekd.methods import method as method_named
from edgekd.methods.interface import Scorer, Training
from edgekd.runtime.errors import UsageError


def teacher_path(student: Path) -> Path:
    """Where the teacher of a student is kept."""
    return student.with_name(f"{student.stem}-teacher.pt")


def work_path(student: Path) -> Path:
    """The folder of its unfinished trainings, removed once the student is written."""
    return student.with_name(f"{student.name}.work")


KEPT_TEACHER = "teacher.pt"  # in that folder
TAUGHT_BY_ANY = ("regression",)  # methods that take any scorer as a teacher, students and several at once too
TAUGHT_BY_STUDENTS = (*TAUGHT_BY_ANY, "anomalyllm")  # of the latter, a detector holds its teacher too
SHARED = ("lta",)  # methods of which a student can begin as that of all machines of a type
IMAGE = "image"  # the preset, and the input, of a method that takes images


def configure(
    method: str | None, preset: str | None, settings: dict[str, Any], images: bool = False
) -> tuple[str, str, Any]:
    """Method, preset and its configuration with `settings` put over it; `images` is what it must be for.

    A preset's name alone picks its method, images alone the method that takes them.
    """
    if method is None:
        method = method_with(preset or IMAGE) if preset or images else DEFAULT_METHOD
    module = method_named(method)
    if images and IMAGE not in module.PRESETS:
        raise UsageError(f"{method} takes no images; --method regression does")
    preset = preset or (IMAGE if images else module.DEFAULT_PRESET)
    if preset not in module.PRESETS:
        raise UsageError(f"{method} has no preset {preset!r}; it has {', '.join(module.PRESETS)}")
    return method, preset, module.CONFIG.from_json({**module.PRESETS[preset].to_json(), **settings})


def distill(
    recording: Recording,
    output: Path,
    *,
    method: str | None = None,
    preset: str | None = None,
    settings: dict[str, Any] | None = None,
    teacher: Path | Sequence[Path] | None = None,
    teacher_scores: Path | None = None,
    scorers: Sequence[Scorer] = (),
    outliers: Recording | None = None,
    shared: Path | None = None,
    frozen: bool = False,
    false_alarms_per_day: float = 1.0,
    seed: int = 0,
    resume: bool = False,
    device: str = "auto",
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> Checkpoint:
    """Train and save; the student goes to `output`, a teacher that was trained on the way beside it.

    `teacher`: a checkpoint to distill from instead of training one; regression takes several, of any method, or scores
    in a file, see `edgekd.data.score_file`, or `scorers` from Python (`distill_from`).
    `outliers`: what is not normal, shown to a student of regression.
    `shared`: the student of all machines of a type, which this one begins as; with `frozen` it keeps that network and
    has scaling and threshold of its own (`lta`).
    `false_alarms_per_day`: the budget that the threshold is for; images and preset paper have a rule of their own.
    Unfinished trainings are kept in `<output>.work/` until the student is written; `resume` goes on with them. `device`
    is "auto", "cpu" or "cuda".
    """
    if not RATES[-1] <= false_alarms_per_day <= RATES[0]:
        raise UsageError(f"--false-alarms-per-day {false_alarms_per_day:g}: give {RATES[-1]:g} to {RATES[0]:g}")
    method, preset, config = configure(method, preset, settings or {}, recording.frame is not None)
    paths = [teacher] if isinstance(teacher, Path) else list(teacher or ())
    if shared is not None and method not in SHARED:
        raise UsageError(f"{method} begins with no shared student; --method {' or '.join(SHARED)} does")
    _require_taken(method, paths, teacher_scores, scorers, outliers)
    given = tuple(_fitting_teacher(path, recording, method) for path in paths)
    scores = None if teacher_scores is None else read_scores(teacher_scores, recording)
    workdir = _workdir(output)

    def keep_teacher(step: StepModule) -> None:
        package(
            step, recording, method=method, role="teacher", preset=preset, seed=seed, histories={},
            false_alarms_per_day=false_alarms_per_day,
        ).save(workdir / KEPT_TEACHER)  # fmt: skip

    how = Training(
        seed=seed, workdir=workdir, resume=resume, device=training_device(device), teacher=given[0] if given else None,
        teachers=given, shared=None if shared is None else Checkpoint.load(shared).step(), frozen=frozen,
        teacher_scores=scores, scorers=tuple(scorers), outliers=outliers, keep_teacher=keep_teacher, report=report,
    )  # fmt: skip
    report({"doing": f"fitting {method}/{preset}"})
    try:
        trained = method_named(method).train(recording, config, how)
    finally:
        with contextlib.suppress(OSError):
            workdir.rmdir()  # where nothing is kept in it
    report({"doing": "setting the threshold"})
    checkpoint = package(
        trained.step, recording, method=method, role="student", preset=preset, seed=seed, histories=trained.histories,
        normal=trained.normal, false_alarms_per_day=false_alarms_per_day,
    )  # fmt: skip
    with contextlib.suppress(FileNotFoundError):  # none was trained
        (workdir / KEPT_TEACHER).replace(teacher_path(output))  # not before: an interrupted training changes neither
    checkpoint.save(output)
    shutil.rmtree(workdir, ignore_errors=True)
    return checkpoint


def distill_from(
    detector: Any, recording: Recording, output: Path, *, window: int = 1, larger_is: str = "auto", **options: Any
) -> Checkpoint:
    """A student of the user's own fitted detector, written to `output`; `ObjectScorer` says what it may be.

    detector: the object, or a list of several that teach together.
    options: those of `distill`, for example settings, outliers, seed, report.
    """
    from edgekd.methods.regression.scorers import ObjectScorer

    several = detector if isinstance(detector, (list, tuple)) else [detector]
    teachers = tuple(ObjectScorer(each, window, larger_is) for each in several)
    return distill(recording, output, method="regression", scorers=teachers, **options)


def training_device(name: str) -> str:
    """What torch calls it: "auto" is the GPU where torch has one. Raises UsageError where "cuda" is not to be had."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("this torch finds no CUDA device; train with --device cpu, or install a torch that has CUDA")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def _workdir(output: Path) -> Path:
    """The folder of unfinished trainings, made; raises UsageError where nothing can be written, before any work."""
    workdir = work_path(output)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "writable").touch()
        (workdir / "writable").unlink()
    except OSError as error:
        raise UsageError(f"{workdir}: cannot be written ({error.strerror}); choose another place with -o") from None
    return workdir


def _require_taken(
    method: str, teachers: list[Path], scores: Path | None, scorers: Sequence[Scorer], outliers: Recording | None
) -> None:
    """Refuse what only regression learns from."""
    if method in TAUGHT_BY_ANY:
        if (teachers or scorers) and scores is not None:
            raise UsageError(f"{scores}: scores in a file are a teacher of their own; leave out --teacher")
        return
    for given, option in (
        (len(teachers) > 1, "a second --teacher"),
        (scores, "--teacher-scores"),
        (scorers, "a scorer"),
        (outliers, "--outliers"),
    ):
        if given:
            raise UsageError(f"{method} does not learn from {option}; --method {' or '.join(TAUGHT_BY_ANY)} does")


def _fitting_teacher(path: Path, recording: Recording, method: str) -> StepModule:
    checkpoint = Checkpoint.load(path)
    names = tuple(sensor["name"] for sensor in checkpoint.sensors)
    if checkpoint.role != "teacher" and method not in TAUGHT_BY_STUDENTS:
        raise UsageError(
            f"{path}: a {checkpoint.role}, not a teacher; `edgekd distill` keeps one as STUDENT-teacher.pt"
        )
    if names != recording.sensors:
        raise UsageError(
            f"{path}: the teacher was trained on other sensors ({len(names)}) than {recording.source}; "
            "leave out --teacher"
        )
    if not same_period(checkpoint.period_s, recording.period_s):
        raise UsageError(
            f"{path}: the teacher was trained on one sample each {checkpoint.period_s:g} s, {recording.source} has one "
            f"each {recording.period_s:g} s; leave out --teacher, or correct it with --period-s"
        )
    return checkpoint.step()
