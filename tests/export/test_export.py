"""An exported file computes what was trained, and tells nothing of the workstation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from device import ROOT

from edgekd.blocks.step import StepModule
from edgekd.checkpoint import Checkpoint, package
from edgekd.data import Recording
from edgekd.export import export
from edgekd.methods.lta import PRESETS
from edgekd.methods.lta.distill import prepared
from edgekd.methods.regression.config import PRESETS as REGRESSION
from edgekd.methods.regression.series_train import prepared as prepared_series
from edgekd.runtime import Detector
from edgekd.runtime.engines import load_engine
from edgekd.runtime.guard import admit
from edgekd.simulation.simulate import simulate


def plant(seed: int, samples: int = 900) -> Recording:
    """Two entities, the second one shorter, of the four sensors of `tiny_student`."""
    recording = simulate(samples=samples, sensors=4, seed=seed, faults=()).recording
    return replace(recording, starts=(0, samples * 3 // 5 + 3), entities=("a", "b"))


def untrained(method: str = "lta", **settings: Any) -> Checkpoint:
    """A student that has not learned, which export cannot know, of two sensors."""
    torch.manual_seed(0)
    whole = plant(1)
    recording = replace(whole, values=np.ascontiguousarray(whole.values[:, :2]), sensors=whole.sensors[:2])
    step: StepModule
    if method == "lta":
        step = prepared(recording, replace(PRESETS["edge"], lengths=(4, 8, 16), channels=2, **settings))
    else:
        step = prepared_series(recording, replace(REGRESSION["signature"], lengths=(4, 8, 16), **settings))
    return package(step, recording, method=method, role="student", preset="edge", seed=0, histories={})


def assert_the_file_scores_as_torch(file: Path, checkpoint: Checkpoint, recording: Recording) -> None:
    expected, detector, scores, samples = checkpoint.step().score(recording), Detector.load(file), [], []
    for start, end in recording.bounds:
        detector.reset()
        for verdict in detector.update_block(recording.values[start:end]):
            scores.append(verdict.score)
            samples.append(start + verdict.sample)
            assert verdict.contributions.sum() == pytest.approx(verdict.score, rel=1e-4)
    assert np.array_equal(samples, expected.samples)
    scale = np.maximum(np.abs(expected.scores), checkpoint.threshold["value"])
    assert (np.abs(np.array(scores) - expected.scores) / scale).max() <= 1e-4


def test_gru_student_in_the_engine(tiny_student: Path, tiny_exported: dict[str, Path]) -> None:
    assert_the_file_scores_as_torch(tiny_exported["float32"], Checkpoint.load(tiny_student), plant(7))
    assert Detector.load(tiny_exported["float32"]).manifest.parity["steps"] == 1000


@pytest.mark.parametrize(
    "settings",
    [
        {"accumulator": "rnn", "recurrence": "windowed", "score": "top", "mahalanobis": False, "separable": False},
        {"accumulator": "lstm", "target": "next"},
        {"method": "regression", "accumulator": "gru"},
        {"method": "regression", "input": "window", "student": "our-S2"},
    ],
    ids=["rnn", "lstm", "energies", "convolutions"],
)
def test_other_students_in_the_engine(tmp_path: Path, settings: dict[str, Any]) -> None:
    checkpoint = untrained(**settings)
    done = export(checkpoint, tmp_path / "student.onnx", steps=60)
    recording = plant(7, 400)
    two = replace(recording, values=np.ascontiguousarray(recording.values[:, :2]), sensors=recording.sensors[:2])
    assert_the_file_scores_as_torch(done.path, checkpoint, two)
    assert_every_state_matters(done.path)


def test_shares_add_up_to_the_score_where_nothing_moves(tmp_path: Path) -> None:
    """Of no energy at all there is nothing to share by; the file must not lose what keeps the division whole."""
    checkpoint = untrained("regression", input="window")
    checkpoint.weights["window_mean"].zero_()
    file = export(checkpoint, tmp_path / "student.onnx", steps=60).path
    manifest, model = admit(file, try_first=False)
    resting = checkpoint.weights["scaler.offset"].numpy()  # a sample that is scaled to zero
    feeds = {spec.name: np.zeros(spec.shape, np.float32) for spec in manifest.state}
    feeds |= {"samples": np.tile(resting, (manifest.hop, 1)), "valid": np.ones(len(resting), np.float32)}
    score, shares, *_ = load_engine(model, manifest).run(feeds)
    assert score > 0 and shares.sum() == pytest.approx(float(score), rel=1e-4)


def assert_every_state_matters(file: Path) -> None:
    """The score, or a later one, depends on each state input."""
    manifest, model = admit(file, try_first=False)
    engine = load_engine(model, manifest)
    rng = np.random.default_rng(0)
    feeds = {spec.name: rng.random(spec.shape, np.float32) - 0.5 for spec in manifest.state}
    feeds["valid"] = np.ones(len(manifest.sensors), np.float32)
    middle = np.array([(sensor.low + sensor.high) / 2 for sensor in manifest.sensors], np.float32)
    feeds["samples"] = np.tile(middle, (manifest.hop, 1))

    def scores(start: dict[str, np.ndarray]) -> list[float]:
        now, found = dict(start), []
        for _ in range(3):
            score, _, *state = engine.run(now)
            now.update((spec.name, value) for spec, value in zip(manifest.state, state))
            found.append(float(score))
        return found

    before = scores(feeds)
    for spec in manifest.state:
        assert scores({**feeds, spec.name: feeds[spec.name] + 0.5}) != before, spec.name


def test_every_state_matters(tiny_exported: dict[str, Path]) -> None:
    for file in tiny_exported.values():
        assert_every_state_matters(file)


def test_nothing_of_the_workstation_is_in_the_file(tiny_exported: dict[str, Path]) -> None:
    secrets = [str(ROOT), f"{Path.home()}/", "site-packages", "stack_trace", "nn_module", "Traceback", "self.", ".py:"]
    for file in tiny_exported.values():
        content, model = file.read_bytes(), onnx.load(file)
        assert not [secret for secret in secrets if secret.encode() in content]
        assert [prop.key for prop in model.metadata_props] == ["edgekd"]
        graph = model.graph
        for item in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
            assert not item.doc_string
            assert item is model or not item.metadata_props


def test_int8_loads_and_passes_its_self_test(tiny_student: Path, tiny_exported: dict[str, Path]) -> None:
    detector = Detector.load(tiny_exported["int8"])  # replays the self-test
    assert detector.manifest.quantization.scheme.startswith("int8")
    recording, checkpoint = plant(7), Checkpoint.load(tiny_student)
    expected = checkpoint.step().score(recording.slice(0, recording.starts[1]))
    found = [verdict.score for verdict in detector.update_block(recording.values[: recording.starts[1]])]
    assert np.corrcoef(found, expected.scores)[0, 1] > 0.99


def test_int8_spares_the_residual_and_what_remembers(tiny_exported: dict[str, Path]) -> None:
    graph = onnx.load(tiny_exported["int8"]).graph
    made_by = {output: node for node in graph.node for output in node.output}
    weights = {
        name: onnx.numpy_helper.to_array(tensor).dtype
        for tensor in graph.initializer
        for name in [tensor.name]
        if name.startswith("network.") and "weight" in name and "scale" not in name and "zero_point" not in name
    }
    floats = {name for name, dtype in weights.items() if dtype == np.float32}
    assert floats == {"network.decoder.0.conv.weight"}
    assert len(weights) > 4
    for node in graph.node:
        if node.op_type in ("GRU", "MatMul", "Sub"):
            assert not any(name in made_by and made_by[name].op_type == "QuantizeLinear" for name in node.input)
