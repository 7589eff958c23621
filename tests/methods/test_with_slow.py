"""Slow verdicts beside a detector's own: trained, exported, streamed, told, saved, and left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device import events_of, run, write_csv

from edgekd.blocks.with_slow import WithSlow
from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording
from edgekd.distillation import distill
from edgekd.evaluation.score_model import score_model
from edgekd.evaluation.slow import slow_report
from edgekd.export import export
from edgekd.export.exporter import DEFAULT
from edgekd.inspection import describe, render
from edgekd.runtime.detector import Detector
from edgekd.runtime.manifest import FAST, SLOW

LEAK_AT, LONG = 1000, 4000
NAMES = ("s0", "s1", "s2", "s3")


def plant(seed: int, samples: int, leak: float = 0.0) -> np.ndarray:
    """float32 (T, 4): a random load twice, the second with a leak from LEAK_AT on; a noisy cycle of 240 twice."""
    rng = np.random.default_rng(seed)
    load = rng.normal(size=samples)
    wave = np.sin(2 * np.pi * np.arange(samples) / 240)
    drop = np.where(np.arange(samples) >= LEAK_AT, leak, 0.0)
    return (np.stack([load, load - drop, wave, -wave], 1) + 0.3 * rng.normal(size=(samples, 4))).astype(np.float32)


def recording(values: np.ndarray, labels: np.ndarray | None = None, starts: tuple[int, ...] = (0,)) -> Recording:
    entities = tuple(f"m{i}" for i in range(len(starts)))
    return Recording(values, NAMES, 60.0, starts=starts, entities=entities, labels=labels, source="plant")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slow") / "student.pt"
    distill(recording(plant(0, 12_000)), path, preset="innovations")
    return path


@pytest.fixture(scope="module")
def onnx(student: Path) -> Path:
    return export(Checkpoint.load(student), student.with_suffix(".onnx")).path


def test_what_it_is_says_so(student: Path, onnx: Path) -> None:
    for path in (student, onnx):
        assert "slow faults watched" in " ".join(render(describe(path)).split())


def leaking() -> Recording:
    values = plant(3, LONG, leak=0.25)
    return recording(values, np.arange(LONG) >= LEAK_AT)


def test_stream_equals_batch_over_entities(student: Path) -> None:
    step = Checkpoint.load(student).step()
    assert isinstance(step, WithSlow)
    both = recording(np.concatenate([plant(4, 1500, 0.25), plant(5, 2003)]), starts=(0, 1500))
    batch, stream = step.score(both), step.replay(both)
    assert batch.slow is not None and stream.slow is not None
    np.testing.assert_array_equal(batch.samples, stream.samples)
    np.testing.assert_allclose(batch.slow.scores, stream.slow.scores, atol=1e-5)
    np.testing.assert_allclose(batch.slow.contributions, stream.slow.contributions, atol=1e-5)
    np.testing.assert_allclose(batch.scores, stream.scores, rtol=1e-4)
    wanted = np.arange(len(both)) > 2500
    some = step.score(both, wanted)
    assert some.slow is not None
    np.testing.assert_array_equal(some.slow.scores, batch.slow.scores[wanted[batch.samples]])


def test_a_leak_that_no_window_shows_is_found_with_its_sensor(student: Path) -> None:
    found = score_model(student, leaking())
    report = slow_report(found, found.threshold)
    assert report is not None
    assert (report.events, report.found, report.false_alarms) == (1, 1, 0)
    step = Checkpoint.load(student).step()
    slow = step.score(leaking()).slow
    assert slow is not None
    assert set(np.argsort(-slow.contributions[-1])[:2]) == {0, 1}
    np.testing.assert_allclose(slow.contributions.sum(1), slow.scores, atol=1e-4)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
@pytest.mark.parametrize("scheme", [None, DEFAULT], ids=["float", "int8"])
def test_the_file_says_the_same(student: Path, tmp_path: Path, suffix: str, scheme: str | None) -> None:
    if suffix == ".tflite":
        pytest.importorskip("litert_torch")
    path = export(Checkpoint.load(student), tmp_path / f"m{suffix}", format=suffix[1:], int8=scheme, steps=200).path
    meant, found = score_model(student, leaking()), score_model(path, leaking())
    assert meant.slow is not None and found.slow is not None
    assert Detector.load(path).manifest.outputs == FAST + SLOW
    np.testing.assert_allclose(found.slow, meant.slow, atol=0.05 if scheme else 1e-4)


@pytest.mark.parametrize("cut", [7, 1003, 2500])
def test_a_resume_goes_on_with_the_averages(onnx: Path, cut: int) -> None:
    values, whole = leaking().values, Detector.load(onnx)
    expected = [verdict.slow for verdict in whole.update_block(values)]
    before = whole.stream()
    got = [verdict.slow for verdict in before.update_block(values[:cut])]
    after = whole.stream()
    after.restore(before.snapshot())
    got += [verdict.slow for verdict in after.update_block(values[cut:])]
    assert [slow and slow.score for slow in got] == [slow and slow.score for slow in expected]


def test_a_sensor_that_is_missing_stops_the_averages(onnx: Path) -> None:
    values = leaking().values.copy()
    values[LEAK_AT - 500 :, 2] = np.nan
    slow = [verdict.slow for verdict in Detector.load(onnx).update_block(values)]
    assert all(one is not None and np.isfinite(one.score) for one in slow)
    assert not any(one is not None and one.is_anomaly for one in slow)


def test_the_device_tells_it_once_by_its_kind_across_a_restart(onnx: Path, tmp_path: Path) -> None:
    values = leaking().values
    write_csv(tmp_path / "all.csv", values)
    alarms = told(run("--model", onnx, "--csv", tmp_path / "all.csv"))
    assert [event["event"] for event in alarms] == ["anomaly"]
    assert {"s0", "s1"} <= set(alarms[0]["sensors"])
    assert alarms[0]["threshold"] == 1.0 < alarms[0]["score"] == pytest.approx(alarms[0]["severity"], abs=1e-3)
    cut = alarms[0]["sample"] + 200  # the episode is open then
    write_csv(tmp_path / "part.csv", values[:cut])
    state = "--state", tmp_path / "s"
    first = told(run("--model", onnx, "--csv", tmp_path / "part.csv", *state))
    (tmp_path / "part.csv").write_bytes((tmp_path / "all.csv").read_bytes())
    assert first == alarms
    assert told(run("--model", onnx, "--csv", tmp_path / "part.csv", *state)) == []


def told(done: Any) -> list[dict[str, Any]]:
    """Events of slow alarms."""
    events = [*events_of(done.stdout, "anomaly"), *events_of(done.stdout, "anomaly_end")]
    return [event for event in events if event.get("kind") == "slow"]


@pytest.mark.parametrize(("samples", "settings"), [(2000, {}), (12_000, {"slow": False})], ids=["short", "left out"])
def test_a_file_without_them(tmp_path: Path, samples: int, settings: dict[str, Any]) -> None:
    student = tmp_path / "student.pt"
    distill(recording(plant(0, samples)), student, preset="innovations", settings=settings)
    file = export(Checkpoint.load(student), tmp_path / "m.onnx").path
    assert Detector.load(file).manifest.outputs == FAST
    assert score_model(file, leaking()).slow is None
    assert slow_report(score_model(student, leaking()), 1.0) is None
