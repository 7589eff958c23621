"""An export says which kind of file is the fastest on this machine, and int8 is not called fast where it is not."""

from __future__ import annotations

from pathlib import Path

from edgekd.checkpoint import Checkpoint
from edgekd.export import export
from edgekd.export.fastest import in_words, step_us


def test_a_faster_format_is_told_with_the_way_to_it() -> None:
    said = in_words({"ONNX float32": 130.0, "TFLite float32": 52.0})
    assert said.startswith("fastest on this machine: TFLite float32, 0.40 of ONNX float32; export with --format tflite")


def test_int8_that_is_slower_than_float_is_told_to_be_left_out() -> None:
    said = in_words({"ONNX int8": 150.0, "ONNX float32": 100.0})
    assert "ONNX float32, 0.67 of ONNX int8; export without --int8" in said


def test_what_was_written_is_the_fastest_within_the_noise() -> None:
    assert "ONNX float32, which was written" in in_words({"ONNX float32": 102.0, "TFLite float32": 100.0})


def test_every_format_is_timed(tiny_student: Path, tmp_path: Path, quick_gate: None) -> None:
    checkpoint = Checkpoint.load(tiny_student)
    done = export(checkpoint, tmp_path / "student.onnx", int8="default")
    us = step_us(checkpoint, done, "onnx")
    assert list(us) == ["ONNX int8", "ONNX float32"] and min(us.values()) > 0  # with what `quick_gate` leaves in place
