"""Fixtures that several files share: one small detector, trained once a session."""

from __future__ import annotations

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
    from edgekd.export.candidate import Workshop

    workshop = Workshop(Checkpoint.load(tiny_student))
    int8 = workshop.int8(workshop.schemes["static"])
    assert int8 is not None
    files = {}
    for kind, candidate in (("float32", workshop.float), ("int8", int8)):
        assert not candidate.misses
        files[kind] = tiny_student.with_name(f"{kind}.onnx")
        files[kind].write_bytes(candidate.content)
    return files
