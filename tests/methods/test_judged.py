"""What the score of LTA is about, and for how long: sensors that are judged, and the memory of the log score."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from bench.improved_lta import entities as lta_entities
from bench.improved_lta.entities import Cell, Entity, terms, trained
from bench.improved_lta.measures import combined
from edgekd.blocks.threshold import CALIBRATE, parts
from edgekd.data import Recording
from edgekd.distillation import distill
from edgekd.evaluation.score_model import score_model
from edgekd.export import export
from edgekd.export.onnx.graph import float_graph
from edgekd.methods.interface import Training
from edgekd.methods.linear import PRESETS as LINEAR
from edgekd.methods.linear.fit import fit_linear
from edgekd.methods.lta import PRESETS, LTAStep, train
from edgekd.runtime.errors import UsageError

SETTINGS = {"distill": False, "accumulator": "none", "epochs": 1, "channels": 4, "lengths": (4, 8, 16), "hop": 4}
STUCK = 3
"""The column that does not move in training."""


def recording(moves_at: int | None = None, length: int = 700, seed: int = 0) -> Recording:
    """Two waves, a command that switches at random, and a sensor that rests until `moves_at`."""
    rng = np.random.default_rng(seed)
    time = np.arange(length)
    values = np.stack([np.sin(time / 7), np.cos(time / 11), rng.random(length) < 0.1, np.full(length, 3.0)], 1)
    values[:, :2] += rng.normal(0, 0.05, (length, 2))
    if moves_at is not None:
        values[moves_at:, STUCK] += 0.5
    return Recording(values.astype(np.float32), ("a", "b", "command", "stuck"), 60.0)


@cache
def judging_the_stuck_one() -> LTAStep:
    step = train(recording(), replace(PRESETS["edge"], **SETTINGS, judged=("stuck", "a")), Training()).step
    assert isinstance(step, LTAStep)
    return step


def test_a_judged_sensor_that_rested_in_training_is_told_when_it_moves() -> None:
    step = judging_the_stuck_one()
    quiet, moved = step.score(recording(seed=1)), step.score(recording(moves_at=500, seed=1))
    after = moved.samples >= 500
    assert moved.scores[after].min() > 100 * quiet.scores.max()
    assert moved.scores[~after] == pytest.approx(quiet.scores[~after])


@pytest.mark.parametrize("preset", ["mahalanobis", "innovations"])
def test_a_detector_of_it_alone_is_exported_and_tells_when_it_moves(tmp_path: Path, preset: str) -> None:
    """All that is normal has a score of 0 then, or one and the same."""
    checkpoint = distill(recording(), tmp_path / "s.pt", preset=preset, settings={"judged": ["stuck"]})
    file = export(checkpoint, tmp_path / "s.onnx", steps=60).path
    quiet, moved = (score_model(file, recording(at, seed=1)) for at in (None, 500))
    assert not quiet.alarms.any()
    assert moved.alarms[moved.samples >= 510].any()


def test_what_is_not_judged_has_no_part_in_the_score() -> None:
    shares = judging_the_stuck_one().score(recording(moves_at=500)).contributions
    assert not shares[:, [1, 2]].any()
    assert shares[:, [0, STUCK]].any(0).all()


def test_a_score_of_nothing_stays_a_number_in_an_exported_graph() -> None:
    step = judging_the_stuck_one()
    session = onnxruntime.InferenceSession(float_graph(step).SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"samples": recording().values[:4], "valid": np.array([0, 1, 1, 1], np.float32)}
    feeds |= {name: np.zeros(shape, np.float32) for name, shape in step.state_shapes().items()}
    with torch.inference_mode():
        score, *_ = step(torch.from_numpy(feeds["samples"]), torch.from_numpy(feeds["valid"]), *step.initial_state())
    found = session.run(None, feeds)[0]
    assert np.isfinite(found)
    assert float(found) == pytest.approx(float(score), rel=1e-4)


def test_linear_judges_named_sensors_too() -> None:
    step = fit_linear(recording(), replace(LINEAR["mahalanobis"], lengths=(4, 8, 16), judged=("stuck",)), seed=0)
    found = step.score(recording(moves_at=500))
    assert found.scores[found.samples >= 510].min() > 1e6 * found.scores[found.samples < 500].max()
    assert not found.contributions[:, :STUCK].any()


def test_a_sensor_that_there_is_not_cannot_be_judged() -> None:
    with pytest.raises(UsageError, match="no sensor 'stuk'; it has a, b, command, stuck"):
        train(recording(), replace(PRESETS["edge"], **SETTINGS, judged=("stuk",)), Training())


def test_memory_averages_the_log_score_from_the_cold_start() -> None:
    config = replace(PRESETS["edge"], **SETTINGS)
    step = train(recording(), config, Training()).step
    assert isinstance(step, LTAStep)
    state, valid, evidence = step.initial_state(), torch.ones(4), 0.0
    expected = []
    with torch.inference_mode():
        for samples in torch.from_numpy(recording(moves_at=500).values).split(4):
            score, _, *state = step(samples, valid, *state)
            evidence += (float(score.log()) - evidence) / 3
            expected.append(np.exp(evidence))
    lasting = LTAStep(replace(config, memory=3), 4, step.m, 60.0)
    lasting.load_state_dict(step.state_dict())
    found = lasting.eval().score(recording(moves_at=500))
    assert lasting.warmup_samples > step.warmup_samples
    assert found.scores == pytest.approx(np.array(expected)[(found.samples + 1) // 4 - 1], rel=1e-4)


def test_scores_of_terms_in_the_bench_are_those_of_the_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(lta_entities, "TRAINED", tmp_path)
    monkeypatch.setitem(lta_entities.PLANTS, "test", {**SETTINGS, "judged": ["a"], "memory": 3})
    cell = Cell(Entity("test", "one", recording(), recording(moves_at=500, seed=1)))
    own = trained(cell).step()
    threshold = 1.5 * max(own.score(cell.entity.train, parts(cell.entity.train) == CALIBRATE).scores)
    found = combined(cell.entity, terms(cell), ("residual", "mahalanobis"), memory=3)
    scores = own.score(cell.entity.test)
    assert found.samples.tolist() == scores.samples.tolist()
    assert found.scores == pytest.approx(scores.scores / threshold, rel=1e-3)
