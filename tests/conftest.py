"""Fixtures that several files share: one small detector, trained once a session."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from edgekd.data import Recording


@pytest.fixture(scope="session")
def tiny_recording() -> Recording:
    """What `tiny_student` was trained on."""
    from edgekd.simulate import simulate

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
    """`tiny_student` exported: "float32" and "int8"; do not change the files."""
    from edgekd.checkpoint import Checkpoint
    from edgekd.export import exporter

    files = {kind: tiny_student.with_name(f"{kind}.onnx") for kind in ("float32", "int8")}
    checkpoint = Checkpoint.load(tiny_student)
    graph = exporter.float_graph(checkpoint.step())  # once for both files: it takes seconds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "float_graph", lambda step: copy.deepcopy(graph))
        for kind, path in files.items():
            exporter.export(checkpoint, path, int8=kind == "int8")
    return files
