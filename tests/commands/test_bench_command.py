"""`edgekd bench`: every figure is there and agrees with the others, and what was timed computes the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from device_only import ENGINES, python
from step_models import step_file, step_samples, with_manifest
from step_tflite import step_tflite

from edgekd.cli import cli
from edgekd.compare import fresh, parity
from edgekd.compare.run import bench, parity_holds
from edgekd.compare.timing import Timing
from edgekd.data import Recording, save
from edgekd.export.embed import embed
from edgekd.runtime.errors import GateFailed, ModelRefused, UsageError
from edgekd.runtime.guard import admit

STEPS = 120  # more than the recording has: it is looped


def run(*arguments: object) -> Result:
    """The command's result; its own errors are raised."""
    return CliRunner().invoke(cli, ["bench", *map(str, arguments)], catch_exceptions=False, standalone_mode=False)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labeled recording with the sensors of `tiny_student`."""
    from edgekd.simulation.simulate import simulate

    path = tmp_path_factory.mktemp("plant") / "plant.csv"
    save(simulate(samples=900, sensors=4, seed=2, faults=("level-shift",)).recording, path)
    return path


@pytest.fixture(scope="module")
def side_by_side(
    tiny_student: Path, tiny_exported: dict[str, Path], tiny_tflite: dict[str, Path], plant: Path
) -> tuple[dict, str, bytes]:
    """One run over the student and its files: what it printed as JSON, its tables, its plot."""
    plot = plant.with_name("cost.png")
    files = (*tiny_tflite.values(), *tiny_exported.values(), tiny_student)
    few = ("--rounds", 3, "--starts", 1, "--steps", STEPS)
    done = run(*files, "--data", plant, "--plot", plot, *few, "--json")
    result = json.loads(done.stdout, parse_constant=lambda name: 1 / 0)
    return result, tables(result), plot.read_bytes()


def tables(result: dict, width: int = 110) -> str:
    import io

    from rich.console import Console

    from edgekd.compare.table import render

    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(render(result))
    return console.export_text()


def test_a_student_stands_beside_its_teacher_and_its_exports(side_by_side: tuple[dict, str, bytes]) -> None:
    result, said, plot = side_by_side
    teacher, student, *files = rows = result["rows"]
    float32 = files[0]
    assert [row["name"] for row in rows] == [
        "teacher (torch)", "student (torch)", "student (ONNX float32)", "student (ONNX int8)",
        "student (TFLite float32)", "student (TFLite int8)",
    ]  # fmt: skip
    assert not any(row["exported_here"] for row in rows)
    assert teacher["parameters"] == 6_687_843
    assert teacher["multiply_adds"] > student["multiply_adds"]
    for key in ("parameters", "multiply_adds", "state_bytes"):
        assert {row[key] for row in files} == {student[key]} != {0}
    assert teacher["weights_bytes"] > 4 * teacher["parameters"]
    for row in rows:
        p50, p99 = row["step_us"]["p50"], row["step_us"]["p99"]
        assert 0 < p50 <= p99 and row["step_us"]["steps"] >= 3
        assert row["us_per_sample"] == pytest.approx(p50 / row["hop"])
        assert row["samples_per_s"] * row["us_per_sample"] == pytest.approx(1e6)
        assert row["cold_start_s"] > 0
        assert row["peak_rss_bytes"] > (80 if "torch" in row["engine"] else 10) * 2**20
        assert row["quality"]["events"] >= 1 and 0 <= row["quality"]["vus_pr"] <= 1
        assert row["name"] in said
    assert teacher["step_to_teacher"] is None and all(row["step_to_teacher"] > 0 for row in rows[1:])
    assert float32["peak_rss_bytes"] < student["peak_rss_bytes"]  # a process without torch, not a fork of this one
    assert result["machine"]["cpu"] and result["machine"]["versions"]["onnxruntime"]
    assert plot.startswith(b"\x89PNG")
    assert max(map(len, said.splitlines())) <= 110


def test_what_was_timed_is_proven_in_the_same_run(side_by_side: tuple[dict, str, bytes]) -> None:
    result, said, _ = side_by_side
    teacher, student, *files = result["rows"]
    assert teacher["parity"] is None and student["parity"] is None
    for row in files:
        allowed = parity.FLOAT_TOLERANCE if row["kind"] == "float32" else 0.05
        assert row["parity"]["against"] == student["name"] and row["parity"]["steps"] == STEPS
        assert row["parity"]["max_score_error"] <= allowed and row["parity"]["changed_decisions"] <= 0.01
        assert row["parity"]["rank_correlation"] > 0.99
        assert row["self_test"]["worst_error"] <= row["self_test"]["tolerance"]
    assert parity_holds(result)
    files[2]["parity"]["max_score_error"] *= 1e9
    assert not parity_holds(result)
    assert "scores against student (torch)" in said


def test_a_student_is_exported_on_the_way(tmp_path: Path, plant: Path) -> None:
    pytest.importorskip("litert_torch")
    from edgekd.data import load
    from edgekd.distillation import distill

    student = tmp_path / "energy.pt"  # which has no matrices
    distill(load(str(plant)), student, method="linear", preset="signature-energy")
    result = bench([student], rounds=1, starts=0, steps=50)
    names = [row["name"] for row in result["rows"]]
    assert names == ["student (torch)", "student (ONNX float32)", "student (TFLite float32)"]
    for exported in result["rows"][1:]:
        assert exported["exported_here"] and exported["file"] == str(student)
        assert exported["parity"]["max_score_error"] <= parity.FLOAT_TOLERANCE
        assert exported["step_to_teacher"] is None
    made, fastest = result["notes"][:2], result["notes"][2:]
    assert all("nothing in it can be quantized" in note for note in made)
    assert len(fastest) == 1 and fastest[0].startswith("fastest on this machine: student (")
    assert [path.name for path in tmp_path.iterdir()] == ["energy.pt"]


@pytest.mark.parametrize("kind", ENGINES)
def test_an_exported_file_alone_needs_no_torch(tmp_path: Path, kind: str) -> None:
    path = step_file(tmp_path / "model", n=3, hop=4)  # known by its content, not its name
    if kind == "tflite":
        path.write_bytes(with_manifest(step_tflite(3, 4), 3, 4))
    out = python(
        "sys.argv = ['edgekd', 'bench', '--json', '--rounds', '2', '--starts', '1', *sys.argv[1:]]\n"
        "from edgekd.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n",
        path,
        engine=ENGINES[kind],
    )
    (row,) = json.loads(out)["rows"]
    assert row["format"] == kind
    assert row["kind"] == "float32" and row["hop"] == 4 and row["state_bytes"] == 2 * 3 * 4
    assert row["multiply_adds"] is None and row["step_to_teacher"] is None and row["parity"] is None
    assert row["file_bytes"] == path.stat().st_size and row["exported_here"] is False
    assert "float32)" in tables({"rows": [row], "data": None, "machine": machine(), "notes": []})


def machine() -> dict:
    from edgekd.compare.machine import machine

    return machine()


def test_files_of_one_kind_are_told_apart(tmp_path: Path) -> None:
    files = [step_file(tmp_path / name, n=3, hop=4, seed=seed) for seed, name in enumerate(("a.onnx", "b.onnx"))]
    names = [row["name"] for row in bench(files, rounds=1, starts=0)["rows"]]
    assert names == ["a student (ONNX float32)", "b student (ONNX float32)"]


def test_a_recording_without_labels_gives_alarms_and_no_plot(tmp_path: Path) -> None:
    model = step_file(tmp_path / "m.onnx", n=3, hop=4, period_s=60.0)
    recording = Recording(step_samples(3, 200), ("s0", "s1", "s2"), 60.0, source="bench rig")
    (row,) = bench([model], recording=recording, rounds=1, starts=0)["rows"]
    assert row["quality"]["vus_pr"] is None and row["quality"]["events"] is None
    assert row["quality"]["false_alarms_per_day"] >= 0
    save(recording, tmp_path / "x.csv")
    with pytest.raises(UsageError, match="no labeled anomaly"):
        run(model, "--data", tmp_path / "x.csv", "--plot", tmp_path / "p.png")


def test_what_does_not_fit_is_refused_before_anything_is_timed(tmp_path: Path, tiny_student: Path) -> None:
    model = step_file(tmp_path / "m.onnx", n=3, hop=4)
    other = Recording(step_samples(3, 200), ("a", "b", "c"), 1.0, source="another plant")
    with pytest.raises(UsageError, match="lacks the sensor 's0'"):
        bench([model], recording=other)
    with pytest.raises(UsageError, match="not a teacher"):
        bench([model], teacher=tiny_student)
    with pytest.raises(UsageError, match="--plot draws quality"):
        run(model, "--plot", tmp_path / "p.png")
    with pytest.raises(ModelRefused, match="no such file"):
        run(tmp_path / "missing.onnx")
    manifest, content = admit(model, try_first=False)
    spoiled = replace(manifest.self_test, scores=tuple(score + 1 for score in manifest.self_test.scores))
    model.write_bytes(embed(content, replace(manifest, self_test=spoiled)))
    with pytest.raises(GateFailed, match="self-test"):
        bench([model])
    with pytest.raises(GateFailed, match=r"could not score it.*self-test"):
        fresh.start(model)


def test_ratios_are_taken_round_by_round() -> None:
    slow_rounds = np.array([1.0, 1.0, 10.0, 10.0, 10.0])[:, None]  # the machine was busy in three of five
    mine, teacher = Timing(slow_rounds * 0.25), Timing(slow_rounds)
    assert mine.ratio_to(teacher) == pytest.approx(0.25)
    jitter = Timing(np.array([[1.0, 1.0, 9.0], [1.0, 1.0, 1.0]]))
    assert jitter.p50_us == pytest.approx(1e6) and jitter.p99_us > 8e6


def test_multiply_adds_are_those_of_the_graph() -> None:
    """Counted by hand for the accumulator, whose cells torch counts in three different ways."""
    from edgekd.blocks.step import multiply_adds
    from edgekd.methods.lta import PRESETS, STEP

    n, hop, summary = 5, 10, 10
    counts = {
        cell: multiply_adds(STEP(replace(PRESETS["edge"], accumulator=cell, channels=4), n, n, 60.0).eval())
        for cell in ("none", "rnn", "gru", "lstm")
    }
    gates = {"rnn": 1, "gru": 3, "lstm": 4}
    beta = n * n * summary
    for cell, count in gates.items():
        assert counts[cell] - counts["none"] == n * hop * count * summary * (1 + summary) + beta, cell
