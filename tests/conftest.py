"""Fixtures that several files share: one small detector, trained once a session."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from edgekd.data import Recording

if TYPE_CHECKING:
    from browser import Browser

    from edgekd.export.parity import Reference

# test files run side by side, one a core: more threads, in child processes too, would only get in the way
os.environ.setdefault("OMP_NUM_THREADS", "1")
# `edgekd-run` remembers there which models it has tried
_STATE = tempfile.TemporaryDirectory(prefix="edgekd-state-")
os.environ["XDG_STATE_HOME"] = _STATE.name

# how long an example takes is no property of the code on a machine that is busy
hypothesis.settings.register_profile("edgekd", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("edgekd")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m.onnx, a detector of 3 sensors and hop 4 that finds many anomalies, and 160 samples for it, x.csv."""
    from device import write_csv
    from step_models import step_file, step_samples

    folder = tmp_path_factory.mktemp("run")
    step_file(folder / "m.onnx", 3, 4, threshold=0.15)
    write_csv(folder / "x.csv", step_samples(3, 160))
    return folder


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that moves the wall clock of a process (set_clock.c)."""
    return _compiled("set_clock.c", tmp_path_factory)


@pytest.fixture(scope="session")
def no_sync(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that takes syncing and locking from a process (no_sync.c)."""
    return _compiled("no_sync.c", tmp_path_factory)


@pytest.fixture
def clock(tmp_path: Path, preloaded: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the seconds that are added to the wall clock of every process that is started in the test."""
    offset = tmp_path / "offset"
    offset.write_text("0\n")
    monkeypatch.setenv("CLOCK_OFFSET_FILE", str(offset))
    monkeypatch.setenv("LD_PRELOAD", str(preloaded))
    return offset


@pytest.fixture(scope="session")
def tiny_recording() -> Recording:
    """What `tiny_student` was trained on."""
    from edgekd.simulation.simulate import simulate

    return simulate(samples=1200, sensors=4, seed=1, faults=()).recording


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory, tiny_recording: Recording) -> Path:
    """student.pt of a trained LTA (4 sensors, one sample a minute) with student-teacher.pt beside it; do not change.

    It has seen little and detects little, but everything about it is real: teacher, distillation, state, threshold.
    """
    from edgekd.distillation import distill

    student = tmp_path_factory.mktemp("tiny") / "student.pt"
    settings = {"epochs": 1, "teacher_epochs": 1, "teacher_hop": 60, "teacher_batch": 8, "channels": 4}
    distill(tiny_recording, student, preset="quick", settings=settings)
    return student


@pytest.fixture(scope="session")
def tiny_exported(tiny_student: Path) -> dict[str, Path]:
    """`tiny_student` exported to ONNX: "float32" and "int8"; do not change the files."""
    return _exported(tiny_student, "onnx")


@pytest.fixture(scope="session")
def tiny_tflite(tiny_student: Path) -> dict[str, Path]:
    """The same as TFLite; do not change the files."""
    pytest.importorskip("litert_torch")
    return _exported(tiny_student, "tflite")


@pytest.fixture(scope="module")
def reference(tiny_student: Path) -> Reference:
    """A short replay of `tiny_student` in torch."""
    from quick_export import short_reference

    return short_reference(tiny_student)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window, see `browser.Browser`."""
    from browser import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture
def quick_gate(tiny_exported: dict[str, Path], reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports of `tiny_student` to ONNX in a second each, with int8 schemes that are made up, see `quick_export`."""
    from quick_export import install

    install(tiny_exported["float32"], reference, monkeypatch)


def _compiled(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if not compiler or sys.platform != "linux":
        pytest.skip("there is no C compiler, or no preloading")
    library = tmp_path_factory.mktemp("preloaded") / f"{source}.so"
    path = Path(__file__).with_name(source)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", library, path], check=True)
    return library


def _exported(student: Path, format: str) -> dict[str, Path]:
    from edgekd.checkpoint import Checkpoint
    from edgekd.export.candidate import Workshop

    workshop = Workshop(Checkpoint.load(student), format)
    int8 = workshop.int8(next(iter(workshop.schemes.values())))
    assert int8 is not None
    files = {}
    for kind, candidate in (("float32", workshop.float), ("int8", int8)):
        assert not candidate.misses
        files[kind] = student.with_name(f"{kind}.{format}")
        files[kind].write_bytes(candidate.content)
    return files
