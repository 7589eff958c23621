"""`edgekd inspect`: what a file says of itself, read from its content, on a device too."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from device_only import python
from step_models import step_file, with_manifest
from step_tflite import step_tflite

from edgekd.cli import cli
from edgekd.export.embed import embed
from edgekd.runtime.errors import ModelRefused
from edgekd.runtime.guard import admit
from edgekd.runtime.manifest import AlarmRate, SensorSpec, ThresholdSpec


def inspect(*arguments: str | Path) -> str:
    """What the command prints; its own errors are raised."""
    done = CliRunner().invoke(
        cli, ["inspect", *map(str, arguments)], catch_exceptions=False, standalone_mode=False
    )  # fmt: skip
    return done.stdout


def inspected(path: Path) -> dict:
    return json.loads(inspect(path, "--json"), parse_constant=lambda name: 1 / 0)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A linear student, one of whose sensors never moved in training, and the file exported from it."""
    from edgekd.checkpoint import Checkpoint
    from edgekd.distillation import distill
    from edgekd.export import export
    from edgekd.simulation.simulate import simulate

    recording = simulate(samples=1500, sensors=4, seed=1, faults=()).recording
    values = recording.values.copy()
    values[:, 2] = 7.0
    folder = tmp_path_factory.mktemp("linear")
    student, exported = folder / "student.pt", folder / "student.onnx"
    distill(replace(recording, values=values), student, method="linear")
    export(Checkpoint.load(student), exported)
    return student, exported


def test_a_student_and_its_exported_file_agree(linear: tuple[Path, Path]) -> None:
    student, exported = map(inspected, linear)
    assert (student["kind"], exported["kind"]) == ("student", "exported")
    same = ("method", "preset", "system", "sensors", "dropped", "period_s", "hop", "warmup_samples", "threshold",
            "state", "state_bytes", "parameters", "multiply_adds")  # fmt: skip
    for key in same:
        assert student[key] == exported[key], key
    assert student.keys() == exported.keys()
    assert len(student["dropped"]) == 1 and student["sensors"][2]["low"] == student["sensors"][2]["high"]
    assert [sensor["longest_still_s"] for sensor in student["sensors"]] == [1200.0, 1200.0, 0.0, 1200.0]
    assert exported["state_bytes"] == sum(4 * math.prod(spec["shape"]) for spec in exported["state"]) > 0
    assert student["digests"]["student"] == exported["digests"]["student"]
    assert student["digests"]["data"] == exported["digests"]["data"]
    assert exported["digests"]["file_matches"] is True
    assert exported["parity"]["max_score_error"] <= exported["parity"]["tolerance"]
    assert exported["file_bytes"] == linear[1].stat().st_size
    assert "1 of them constant in training and left out" in inspect(linear[1])


def test_a_student_says_what_it_learned_from(tiny_student: Path) -> None:
    about = inspected(tiny_student)
    teacher = inspected(tiny_student.with_name("student-teacher.pt"))
    assert (about["method"], about["preset"], about["kind"], teacher["kind"]) == ("lta", "quick", "student", "teacher")
    assert teacher["parameters"] == 6_687_843 > about["parameters"] > 0
    assert teacher["multiply_adds"] > about["multiply_adds"] > 0
    assert about["training"]["data"]["samples"] == 1200
    assert {"teacher", "student"} <= about["training"]["histories"].keys()
    said = inspect(tiny_student)
    assert "1,200 samples, seed 0" in said and "teacher: 1 epoch" in said


def test_tables_fit_their_width_whatever_the_file_says(tmp_path: Path) -> None:
    path = step_file(tmp_path / "m.onnx", n=3)
    manifest, model = admit(path, try_first=False)
    sensors = tuple(SensorSpec(f"{'pressure ' * 20}{i}", "kg/m²" * 6, -1e30, 1e30, 0.1) for i in range(40))
    longest = replace(
        manifest,
        sensors=sensors,
        system="a published system " * 20,
        threshold=ThresholdSpec(-1e-30, "a rule " * 60, "data/" * 90, AlarmRate(0.25, 1e9, 400.0)),
        metrics={"vus_pr": {"score": 0.5, "random": 0.1}},
    )
    path.write_bytes(embed(model, longest))
    said = inspect(path)
    assert max(map(len, said.splitlines()[1:])) <= 100  # the first line is the path
    assert "0.25 alarms a day on 400 d" in said and "24 more" in said and "vus_pr" in said
    assert len(inspected(path)["sensors"]) == 40


def test_content_decides_not_the_name(tmp_path: Path, tiny_student: Path) -> None:
    misnamed = tmp_path / "student.onnx"
    misnamed.write_bytes(tiny_student.read_bytes())
    assert inspected(misnamed)["kind"] == "student"
    assert inspected(step_file(tmp_path / "student.pt"))["kind"] == "exported"


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    changed = step_file(tmp_path / "changed.onnx")
    changed.write_bytes(changed.read_bytes().replace(b"next_ema", b"next_emb", 1))
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    for name, says in (
        ("changed.onnx", "changed after export"),
        ("table.csv", "is a recording; distill it first"),
        ("arrays.npz", "is a recording; distill it first"),
        ("missing.onnx", "no such file"),
    ):
        with pytest.raises(ModelRefused, match=says):
            inspect(tmp_path / name)


@pytest.mark.parametrize("kind", ["ONNX", "TFLite"])
def test_a_device_can_look_into_an_exported_file(tmp_path: Path, kind: str) -> None:
    path = step_file(tmp_path / "model", n=3, hop=4)  # known by its content, not its name
    if kind == "TFLite":
        path.write_bytes(with_manifest(step_tflite(3, 4), 3, 4))
    out = python(
        "sys.argv = ['edgekd', 'inspect', *sys.argv[1:]]\n"
        "from edgekd.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'onnx', 'onnxruntime', 'ai_edge_litert', 'rich', 'scipy'} & set(sys.modules)\n",
        path,
    )
    assert f"exported detector, {kind}" in out and "a score every 4 samples" in out and "s2" in out
