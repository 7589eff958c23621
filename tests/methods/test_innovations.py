"""The committee of innovations: what it learns, what it is blind to, and the files that are made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd.blocks.innovations import AHEAD, LONG, RECENT, SHORT, SPAN, OwnAhead, shrunk_root
from edgekd.blocks.step import multiply_adds
from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording
from edgekd.distillation import distill
from edgekd.export import export
from edgekd.methods.linear.config import PRESETS, LinearConfig
from edgekd.methods.linear.innovations import InnovationsStep, fit_innovations
from edgekd.runtime.errors import RecordingError, UsageError
from edgekd.simulation.simulate import simulate

CONFIG = PRESETS["innovations"]


def walks(samples: int, n: int, seed: int, drift: float = 0.0) -> Recording:
    """Sensors that wander about a level, each by itself, and may drift off."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (samples, n))
    values = np.zeros((samples, n))
    for t in range(1, samples):
        values[t] = 0.95 * values[t - 1] + noise[t]
    values += drift * np.arange(samples)[:, None] / samples
    return Recording(values.astype(np.float32), tuple(f"s{i}" for i in range(n)), 60.0, source="walks")


@pytest.fixture(scope="module")
def step() -> InnovationsStep:
    return fit_innovations(walks(8000, 4, 0), CONFIG)[0]


@pytest.mark.parametrize("count", [1, RECENT])
def test_what_is_forecast_ahead_is_forecast_from_means(count: int) -> None:
    samples = torch.randn(2, SPAN, 3, dtype=torch.float64)
    *averages, newest = OwnAhead(torch.arange(3)).features(samples, count)
    ends = range(SPAN - AHEAD - count + 1, SPAN - AHEAD + 1)
    expected = [samples[:, end - length : end].mean(1) for length in (LONG, SHORT) for end in ends]
    assert torch.allclose(torch.cat(averages, 1), torch.stack(expected, 1))
    assert torch.equal(newest, samples[:, ends.start - 1 : ends.stop - 1])


def test_the_root_whitens() -> None:
    rows = torch.randn(5000, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64)
    rows = rows / rows.square().mean(0).sqrt()
    correlation = rows.T @ rows / len(rows)
    root = shrunk_root(correlation, 0.0)
    assert torch.allclose(root @ correlation @ root, torch.eye(3, dtype=torch.float64), atol=1e-6)


def test_each_term_is_usual_on_normal_data_and_tells_its_own_fault(step: InnovationsStep) -> None:
    """A jump is told by the forecasts, a level that nobody saw in training by the levels."""
    normal = walks(2000, 4, 1)
    usual = np.median(step.score(normal).scores)
    assert 0.8 < usual < 1.25
    spike = replace(normal, values=normal.values.copy())
    spike.values[1000, 2] += 12.0
    found = step.score(spike)
    told = found.scores[(found.samples >= 1000) & (found.samples < 1020)]
    assert told.max() > 1.5 * np.quantile(step.score(normal).scores, 0.99)
    at = found.samples.searchsorted(1000)
    assert found.contributions[at].argmax() == 2


def test_cross_fitted_scores_do_not_flatter() -> None:
    """With few samples and many sensors a detector finds its own data more usual than it will find any other."""
    train, unseen = walks(900, 12, 2), walks(4000, 12, 3)
    step, normal = fit_innovations(train, CONFIG)
    own, new = np.median(step.score(train).scores), np.median(step.score(unseen).scores)
    assert own < 0.95 * new
    assert np.median(normal.scores) > new
    assert np.allclose(normal.contributions.sum(1), normal.scores, rtol=1e-4)
    assert np.array_equal(normal.samples, step.score(train).samples)


def test_a_sensor_that_comes_back_is_no_anomaly(step: InnovationsStep) -> None:
    """While it is out its values are a constant: nothing may be told from them when it is heard again."""
    values = walks(1200, 4, 4).values.copy()
    values[400:600, 1] = step.scaler.fill[1]  # as the device fills it
    hop, state, scores = step.hop, step.initial_state(), []
    for start in range(0, 1200, hop):
        valid = torch.ones(4)
        valid[1] = 0.0 if 400 <= start < 600 else 1.0
        score, shares, *state = step(torch.from_numpy(values[start : start + hop]), valid, *state)
        scores.append(float(score))
        if 400 <= start < 600 + SPAN - hop:
            assert shares[1] == 0
    usual = step.score(walks(1200, 4, 4)).scores.max()
    assert max(scores[40:]) < 1.3 * usual


def test_what_it_costs() -> None:
    step = InnovationsStep(CONFIG, 38, 38, 60.0)
    assert multiply_adds(step) <= 120_000


def test_a_recording_that_is_too_short_says_so() -> None:
    with pytest.raises(RecordingError, match="too few for innovations; record at least 592"):
        fit_innovations(replace(walks(150, 2, 0)), replace(CONFIG, lengths=(5, 10, 20)))


@pytest.mark.parametrize("name", ["input", "recent"])
def test_a_setting_without_a_part_is_refused(name: str) -> None:
    values = {**CONFIG.to_json(), name: {"input": "innovations", "recent": 20}[name]}
    with pytest.raises(UsageError, match=f"setting {name}: has no part in innovations"):
        LinearConfig.from_json(values)


@pytest.mark.parametrize("int8", [None, "default"])
@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_the_file_is_what_was_fitted(kind: str, int8: str | None, tmp_path: Path) -> None:
    if kind == "tflite":
        pytest.importorskip("litert_torch")
    normal = simulate(6000, 7, 3, faults=()).recording
    settings = {"judged": list(normal.sensors[:5]), "slow": False}
    student = distill(normal, tmp_path / "student.pt", preset="innovations", settings=settings)
    made = export(student, tmp_path / f"student.{kind}", format=kind, int8=int8)
    assert (made.written is made.float) == (int8 is None)
    assert {state.name for state in made.manifest.state} == {"ring", "heard", "evidence"}


def test_a_sensor_that_first_moves_at_the_end_is_left_out_of_both_parts_of_a_joint_detector(tmp_path: Path) -> None:
    """What trains the network does not show it move, what the committee is fitted to does."""
    normal = walks(2000, 4, 0)
    normal.values[:1950, 2] = 5.0
    settings = {"distill": False, "epochs": 1, "channels": 4}
    checkpoint = distill(normal, tmp_path / "s.pt", preset="joint", settings=settings)
    assert checkpoint.dropped == ["s2"]
    assert len(Checkpoint.load(tmp_path / "s.pt").step().score(normal).scores)
