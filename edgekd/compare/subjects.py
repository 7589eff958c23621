"""What is timed: one model in one engine, fed hop by hop with its state handed back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgekd.data.recording import Recording
from edgekd.file_kinds import is_checkpoint
from edgekd.runtime.container import format_of
from edgekd.runtime.engines import Stream, load_engine
from edgekd.runtime.errors import GateFailed, MissingExtra, ModelRefused, UsageError
from edgekd.runtime.guard import admit
from edgekd.runtime.manifest import STATE_DTYPES
from edgekd.runtime.selftest import check_self_test, self_test_samples

if TYPE_CHECKING:
    from edgekd.checkpoint import Checkpoint
    from edgekd.export.candidate import Workshop

FORMAT_NAMES = {"onnx": "ONNX", "tflite": "TFLite"}
KINDS = ("float32", "int8")
FED_STEPS = 256  # different hops that are fed in a circle: more than any cache, few enough to prepare


class Subject(Protocol):
    """One model in one engine."""

    path: Path
    name: str
    """For people, unique in one run."""
    kind: str
    """"teacher", "student", "float32" or "int8"."""
    format: str
    """"torch", or that of an exported file: "onnx", "tflite"."""
    digest: str
    """Of the student that this is or was exported from."""
    sensors: tuple[str, ...]
    hop: int
    warmup_samples: int
    threshold: float
    made_from: Path | None
    """The checkpoint that it was exported from in this run; None for a file that was given."""
    about: dict[str, Any]
    """Facts for the result: engine, method, parameters, bytes ..."""

    def own_samples(self) -> np.ndarray:
        """Samples that it carries with it: float32 (T, n), raw units."""

    def feed(self, samples: np.ndarray, hops: int = FED_STEPS) -> None:
        """Take the first `hops` hops of samples (T, n) as what `step` goes through in a circle, from the cold state."""

    def step(self) -> float:
        """One step on the next hop; its score."""


class _Fed:
    """The circle of hops that a subject steps through."""

    hop: int

    def feed(self, samples: np.ndarray, hops: int = FED_STEPS) -> None:
        count = min(hops, len(samples) // self.hop)
        blocks = samples[: count * self.hop].reshape(count, self.hop, -1)  # (count, hop, n)
        self._hops = [self._native(np.ascontiguousarray(block)) for block in blocks]
        self._at = 0
        self._reset()

    def _next(self) -> Any:
        self._at = (self._at + 1) % len(self._hops)
        return self._hops[self._at - 1]

    def _native(self, block: np.ndarray) -> Any:
        raise NotImplementedError

    def _reset(self) -> None:
        raise NotImplementedError


class TorchSubject(_Fed):
    """The step module of a checkpoint; for a windowed teacher a step is one complete window of its network."""

    def __init__(self, path: Path, checkpoint: Checkpoint) -> None:
        import torch

        from edgekd.blocks.step import multiply_adds

        self._torch = torch
        self._checkpoint = checkpoint
        self._step = step = checkpoint.step()
        self._state = step.initial_state()
        self._valid = torch.ones(step.n_sensors)
        self.path, self.kind, self.digest = path, checkpoint.role, checkpoint.digest()
        self.format = "torch"
        self.name = f"{checkpoint.role} (torch)"
        self.made_from: Path | None = None
        self.sensors = tuple(sensor["name"] for sensor in checkpoint.sensors)
        self.hop, self.warmup_samples = step.hop, step.warmup_samples
        self.threshold = float(checkpoint.threshold["value"])
        self.about = {
            "engine": f"torch {torch.__version__}",
            "method": checkpoint.method,
            "preset": checkpoint.preset,
            "quantization": "float32",
            "parameters": step.parameters_learned,
            "multiply_adds": multiply_adds(step),
            "file_bytes": path.stat().st_size,
            "weights_bytes": sum(t.numel() * t.element_size() for t in step.state_dict().values()),
            "state_bytes": step.state_bytes,
        }

    def own_samples(self) -> np.ndarray:
        return self._checkpoint.replay().values

    def step(self) -> float:
        with self._torch.inference_mode():
            found = self._step(self._next(), self._valid, *self._state)
        self._state = found[len(self._step.outputs) :]
        return float(found[0])

    def _native(self, block: np.ndarray) -> Any:
        return self._torch.from_numpy(block)

    def _reset(self) -> None:
        self._state = self._step.initial_state()


class ExportedSubject(_Fed):
    """An exported file in its engine; its self-test is replayed first."""

    def __init__(self, path: Path, made_from: Path | None = None) -> None:
        manifest, model = admit(path, try_first=False)
        self._manifest = manifest
        self._engine = load_engine(model, manifest)
        test = check_self_test(self._engine, manifest)
        self.path, self.digest = path, manifest.digests.student
        self.made_from = made_from
        self.format, self.kind = format_of(model), manifest.quantization.scheme.split()[0]
        self.name = f"student ({FORMAT_NAMES[self.format]} {self.kind})"
        self.sensors = manifest.names
        self.hop, self.warmup_samples = manifest.hop, manifest.warmup_samples
        self.threshold = manifest.threshold.value
        self.about = {
            "engine": self._engine.name,
            "method": manifest.method,
            "preset": manifest.preset,
            "quantization": manifest.quantization.scheme,
            "parameters": manifest.cost.get("parameters"),
            "multiply_adds": manifest.cost.get("multiply_adds"),
            "file_bytes": len(model),
            "weights_bytes": None,
            "state_bytes": sum(math.prod(s.shape) * STATE_DTYPES[s.dtype] for s in manifest.state),
            "self_test": {"steps": test.steps, "worst_error": test.worst_error, "tolerance": test.tolerance},
        }

    def own_samples(self) -> np.ndarray:
        steps = FED_STEPS
        samples = self_test_samples(self._manifest.sensors, self.hop, steps, seed=0)
        return samples.reshape(steps * self.hop, -1)

    def step(self) -> float:
        self._feeds["samples"][:] = self._next()
        found = self._engine.run(self._feeds)
        self._feeds.update(zip(self._states, found[len(self._manifest.outputs) :]))
        return float(found[0])

    def _native(self, block: np.ndarray) -> Any:
        return block

    def _reset(self) -> None:
        self._states = [spec.name for spec in self._manifest.state]
        n = len(self.sensors)
        samples, valid = np.zeros((self.hop, n), np.float32), np.ones(n, np.float32)
        self._feeds = Stream(self._manifest.cold_state() | {"samples": samples, "valid": valid})


def load_subjects(files: Sequence[Path], teacher: Path | None, folder: Path) -> tuple[list[Subject], list[str]]:
    """Everything that is to be timed, teachers first, and notes about what is not.

    A student checkpoint brings its float and int8 exports in every format along, written to `folder` unless they are
    among the files. Without `teacher` the one that `edgekd distill` left beside a file is taken. Raises ModelRefused,
    UsageError.
    """
    notes: list[str] = []
    checkpoints = [path for path in files if is_checkpoint(path)]
    exported = [ExportedSubject(path) for path in files if path not in checkpoints]
    subjects = [_torch_subject(path) for path in checkpoints]
    students = [subject for subject in subjects if subject.kind == "student"]
    teachers = [path for path in checkpoints if any(s.path == path and s.kind == "teacher" for s in subjects)]
    for path in [teacher] if teacher else _teachers_beside(files):
        if path.resolve() not in {known.resolve() for known in teachers}:
            subjects.append(_torch_subject(path, must_be="teacher"))
            teachers.append(path)
    for student in students:  # the longest part, after every file has been looked at
        there = {(other.format, other.kind) for other in exported if other.digest == student.digest}
        exported += _exports(student, there, folder, notes)
    found: list[Subject] = sorted([*subjects, *exported], key=_place)
    _tell_apart(found)
    return found, notes


def _place(subject: Subject) -> tuple[int, int]:
    """Where a row stands: teacher and student in torch, then format by format, float before int8."""
    formats, kinds = ("torch", *FORMAT_NAMES), ("teacher", "student", *KINDS)
    return formats.index(subject.format), kinds.index(subject.kind) if subject.kind in kinds else len(kinds)


def _torch_subject(path: Path, must_be: str = "") -> TorchSubject:
    from edgekd.checkpoint import Checkpoint

    checkpoint = Checkpoint.load(path)
    if must_be and checkpoint.role != must_be:
        raise UsageError(
            f"{path}: a {checkpoint.role}, not a {must_be}; `edgekd distill` keeps one as STUDENT-teacher.pt"
        )
    return TorchSubject(path, checkpoint)


def _exports(
    student: TorchSubject, there: set[tuple[str, str]], folder: Path, notes: list[str]
) -> list[ExportedSubject]:
    """The float and int8 files of a student, without those (format, kind) that are `there` already."""
    from edgekd.checkpoint import Checkpoint
    from edgekd.export.candidate import Workshop

    checkpoint, reference = Checkpoint.load(student.path), None
    made: list[ExportedSubject] = []
    for format, words in FORMAT_NAMES.items():
        wanted = [kind for kind in KINDS if (format, kind) not in there]
        if not wanted:
            continue
        try:
            workshop = Workshop(checkpoint, format, reference=reference)
            for kind in wanted:
                content, reason = _made(workshop, kind)
                if content is None:
                    notes.append(f"{student.path}: no {words} {kind} file to time, {reason}")
                    continue
                path = folder / f"{len(made)}-{student.path.stem}-{kind}.{format}"
                path.write_bytes(content)
                made.append(ExportedSubject(path, student.path))
            reference = workshop.reference
        except MissingExtra as error:
            notes.append(f"{student.path}: no {words} files to time, {error}")
    return made


def _made(workshop: Workshop, kind: str) -> tuple[bytes | None, str]:
    """The float file, or the int8 one by the default scheme; None, and why, where there is none to time."""
    try:
        made = workshop.float if kind == "float32" else workshop.int8(next(iter(workshop.schemes.values())))
    except (GateFailed, ModelRefused) as error:
        return None, str(error)
    if made is None:
        return None, "nothing in it can be quantized"
    return (None, made.misses) if made.misses else (made.content, "")


def _teachers_beside(files: Sequence[Path]) -> list[Path]:
    """Where `edgekd distill` keeps the teachers of these students; none where torch is not installed."""
    try:
        from edgekd.distillation import teacher_path
    except ModuleNotFoundError as error:  # on a device, where exported files are timed alone
        if error.name != "torch":
            raise
        return []
    return [path for path in dict.fromkeys(map(teacher_path, files)) if path.is_file()]


def _tell_apart(subjects: list[Subject]) -> None:
    """Put the file's name before a name that several have."""
    names = [subject.name for subject in subjects]
    for subject in subjects:
        if names.count(subject.name) > 1:
            subject.name = f"{subject.path.stem} {subject.name}"


def teacher_of(subject: Subject, subjects: Sequence[Subject]) -> Subject | None:
    """The teacher with this subject's sensors, if one is timed."""
    fitting = (other for other in subjects if other.kind == "teacher" and other.sensors == subject.sensors)
    return next(fitting, None)


def samples_for(subject: Subject, subjects: Sequence[Subject], recording: Recording | None) -> np.ndarray:
    """What to feed it: float32 (T, n), raw units; the same for all subjects of the same sensors.

    The recording if its sensors fit, else what a checkpoint of the same sensors carries, else what it carries itself.
    """
    if recording is not None and set(recording.sensors) == set(subject.sensors):
        columns = [recording.sensors.index(name) for name in subject.sensors]
        return np.ascontiguousarray(recording.values[:, columns])
    alike = [other for other in subjects if other.sensors == subject.sensors]
    carrying = [other for other in alike if isinstance(other, TorchSubject)]
    students = [other for other in carrying if other.kind == "student"]
    return (students or carrying or alike)[0].own_samples()
