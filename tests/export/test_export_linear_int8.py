"""A linear detector's int8 file holds its matrices as bytes, scores as it did, and gets through the gate."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.distillation import distill
from edgekd.export import export
from edgekd.simulation.simulate import simulate


@pytest.mark.parametrize("preset", ["mahalanobis", "ensemble"])
@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_int8_matrices(preset: str, kind: str, tmp_path: Path) -> None:
    if kind == "tflite":
        pytest.importorskip("litert_torch")
    normal = simulate(8000, 13, 3, faults=()).recording  # 13: its rows do not fall apart into groups of 32
    student = distill(normal, tmp_path / "student.pt", preset=preset)
    assert student.method == "linear"
    made = export(student, tmp_path / f"student.{kind}", format=kind, int8="default")
    assert made.written is not made.float
    assert "int8 weights" in made.manifest.quantization.scheme
    if preset == "ensemble":  # whose matrices are most of the file
        assert made.file_bytes < 0.65 * len(made.float.content)
