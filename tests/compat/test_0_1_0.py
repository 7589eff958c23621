"""EdgeKD goes on with the files that 0.1.0 left on people's disks; 0.1.0/make.sh says how each was made."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from device import PATIENCE_S, ROOT, events_of, run

from edgekd.checkpoint import Checkpoint
from edgekd.data import load
from edgekd.evaluation.score_model import score_model
from edgekd.export import export
from edgekd.runtime import Detector

OLD = Path(__file__).parent / "0.1.0"
RECORDING = OLD / "recording.csv"
BEGUN = 563  # samples that the state and the events in state.spool have seen
NUMBERS = {"score", "peak", "threshold"}
AS_THEN = ("--cooldown", "0s")  # the default of 0.1.0
WITHIN = 1e-4  # of a score, from one engine or processor to another
ENGINES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert"}

Event = dict[str, Any]


@pytest.fixture(params=ENGINES)
def kind(request: pytest.FixtureRequest) -> str:
    """onnx or tflite."""
    pytest.importorskip(ENGINES[request.param])
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of all of it, to be worked in."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def recorded(kind: str) -> list[Event]:
    """What `edgekd-run --csv recording.csv --scores` of 0.1.0 said."""
    return events_of((OLD / f"{kind}.jsonl").read_text())


def assert_same(events: list[Event], expected: list[Event]) -> None:
    """Equal but for the last digits of scores."""
    assert [_but_numbers(event) for event in events] == [_but_numbers(event) for event in expected]
    for event, other in zip(events, expected):
        for name in NUMBERS & event.keys():
            assert event[name] == pytest.approx(other[name], rel=WITHIN)


def _but_numbers(event: Event) -> Event:
    return {name: NUMBERS & {name} or value for name, value in event.items() if name != "severity"}  # 0.1.0 had none


def test_an_exported_file_says_what_it_said(kind: str) -> None:
    done = run("--model", OLD / f"student.{kind}", "--csv", RECORDING, "--scores", *AS_THEN)
    assert done.returncode == 0, done.stderr
    assert_same(events_of(done.stdout), recorded(kind))


def test_an_exported_file_gives_the_library_the_same_scores(kind: str) -> None:
    verdicts = Detector.load(OLD / f"student.{kind}").update_block(load(str(RECORDING)).values)
    scores = [{"event": "score", "sample": v.sample, "score": v.score, "anomaly": v.is_anomaly} for v in verdicts]
    assert_same(scores, [event for event in recorded(kind) if event["event"] == "score"])


def test_an_exported_file_passes_its_check(kind: str) -> None:
    done = run("--model", OLD / f"student.{kind}", "--check", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["ok"], done.stderr


@pytest.mark.parametrize("name", ["student", "student-teacher"])
def test_a_checkpoint_scores_as_it_did(name: str) -> None:
    found = score_model(OLD / f"{name}.pt", load(str(RECORDING)))
    with (OLD / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert found.samples.tolist() == [int(row["sample"]) for row in rows]
    assert found.scores == pytest.approx([float(row["score"]) for row in rows], rel=WITHIN)
    assert found.alarms.tolist() == [row["anomaly"] == "1" for row in rows]


def test_a_student_is_exported_and_a_teacher_teaches(tmp_path: Path) -> None:
    from edgekd.distillation import distill

    export(Checkpoint.load(OLD / "student.pt"), tmp_path / "student.onnx")
    done = run("--model", tmp_path / "student.onnx", "--csv", RECORDING, "--scores", *AS_THEN)
    assert_same(events_of(done.stdout), recorded("onnx"))

    settings = {"epochs": 1, "channels": 4}
    teacher = OLD / "student-teacher.pt"
    again = distill(load(str(RECORDING)), tmp_path / "student.pt", preset="quick", settings=settings, teacher=teacher)
    assert again.role == "student" and not (tmp_path / "student-teacher.pt").exists()


def test_a_run_goes_on_from_a_state(folder: Path) -> None:
    state = folder / "state"
    done = run("--model", folder / "student.onnx", "--csv", RECORDING, "--scores", *AS_THEN, "--state", state)
    assert done.returncode == 0, done.stderr
    resumed, *events = events_of(done.stdout)
    assert resumed == {"event": "resumed", "sample": BEGUN}
    assert_same(events, [event for event in recorded("onnx") if event["sample"] >= BEGUN])


def gateway(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `edgekd-gateway` to its end."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from edgekd.runtime.gateway.cli import main; main()"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S)


def test_undelivered_events_are_delivered_and_the_next_ones_go_on_from_them(folder: Path) -> None:
    (folder / "take.py").write_text("import sys; open('took.jsonl', 'a').write(sys.stdin.read().strip() + '\\n')")
    (folder / "gateway.toml").write_text(
        f'exec = "{sys.executable} take.py"\n'
        '[[stream]]\nmodel = "student.onnx"\ncsv = "recording.csv"\nstate = "state"\ncooldown = "0s"\n'
    )
    done = gateway("run", "gateway.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    took = events_of((folder / "took.jsonl").read_text())
    assert [event.pop("seq") for event in took] == list(range(1, len(took) + 1))
    assert all(event.pop("boot") for event in took)
    told = [event for event in took if event["event"].startswith("anomaly")]
    assert [event.pop("id") for event in told] == [
        f"15b8abae-{event['sample']}-{event['event']}" for event in told
    ]  # of the stream that the state began
    assert_same(told, [event for event in recorded("onnx") if event["event"].startswith("anomaly")])
    assert (folder / "state.outbox").is_dir() and not (folder / "state.spool").exists()


@pytest.mark.parametrize("command", ["check", "run"])
def test_an_old_config_is_refused_with_the_way_to_a_new_one(folder: Path, command: str) -> None:
    done = gateway(command, "edgekd.toml", cwd=folder)
    assert done.returncode == (2 if command == "run" else 1)  # what `check` finds is what it prints
    (line,) = (done.stderr or done.stdout).splitlines()
    assert "edgekd.toml" in line and "[[stream]]" in line and "edgekd-gateway init" in line
