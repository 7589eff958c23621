"""What a device computes sample by sample is what training and evaluation compute window by window.

The networks here are untrained: equality does not depend on what they have learned.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.blocks.step import Scores, StepModule
from edgekd.data import Recording
from edgekd.methods.anomalyllm import PRESETS as ANOMALYLLM
from edgekd.methods.anomalyllm import AnomalyLLMStep
from edgekd.methods.anomalyllm.distill import prepared as prepared_anomalyllm
from edgekd.methods.linear.config import PRESETS as LINEAR
from edgekd.methods.linear.fit import fit_linear
from edgekd.methods.linear.innovations import fit_innovations
from edgekd.methods.lta import PRESETS, LTAStep
from edgekd.methods.lta.distill import prepared
from edgekd.methods.lta.joint import joined
from edgekd.methods.regression.config import PRESETS as REGRESSION
from edgekd.methods.regression.image import ImageStep
from edgekd.methods.regression.series_train import prepared as prepared_series

TOLERANCE = 1e-5
LENGTHS = (280, 3, 50, 131)  # one entity shorter than a hop, one shorter than the warm-up, one with a rest
SERIES: dict[str, dict[str, Any]] = {
    "energies": {},
    "energies of windows": {"input": "window"},
    "convolutions": {"student": "our-S3"},
}
LANGUAGE: dict[str, dict[str, Any]] = {"two networks": {}, "mini-teacher": {"tier": "mini"}}
DETECTORS = ("carried", "windowed", *LINEAR, *SERIES, *LANGUAGE, "image")


@cache
def recording() -> Recording:
    """Five sensors, the last one constant, of unrelated entities."""
    rng = np.random.default_rng(0)
    walks = [np.cumsum(rng.normal(0, 0.3, (length, 5)), axis=0) + rng.normal(0, 2, 5) for length in LENGTHS]
    values = np.concatenate([np.sin(walk) * [1, 2, 3, 4, 0] + [0, 5, -5, 100, 7] for walk in walks])
    starts = tuple(int(start) for start in np.cumsum([0, *LENGTHS[:-1]]))
    return Recording(
        values=np.ascontiguousarray(values, np.float32),
        sensors=tuple("abcde"),
        period_s=60.0,
        starts=starts,
        entities=tuple(f"e{i}" for i in range(len(LENGTHS))),
    )


@cache
def lta(**settings: Any) -> LTAStep:
    torch.manual_seed(1)
    config = replace(PRESETS["edge"], **{"lengths": (4, 8, 16), "hop": 4, "channels": 4, **settings})
    return prepared(recording(), config).eval()


@cache
def linear(detector: str, **settings: Any) -> StepModule:
    config = replace(LINEAR[detector], lengths=(4, 8, 16), recent=6, **settings)
    return committee() if detector == "innovations" else fit_linear(recording(), config, seed=0)


@cache
def image(student: str = "our-S3") -> StepModule:
    """Images of 6 rows; the last one of an entity may be cut short."""
    torch.manual_seed(1)
    step = ImageStep(replace(REGRESSION["image"], rows=6, student=student), 5)
    step.fit_scaler(recording().values)
    return step.eval()


@cache
def series(**settings: Any) -> StepModule:
    torch.manual_seed(1)
    config = replace(REGRESSION["signature"], **{"lengths": (4, 8, 16), "hop": 4, **settings})
    return prepared_series(recording(), config).eval()


@cache
def anomalyllm(**settings: Any) -> StepModule:
    torch.manual_seed(1)
    small = {
        "window": 16, "hop": 4, "patch": 8, "patch_stride": 4, "student_patch": 4, "student_width": 16, "pool": 4,
        "teacher_init": "small-from-scratch",
    }  # fmt: skip
    config = ANOMALYLLM["published"].from_json({**small, **settings})
    step = prepared_anomalyllm(recording(), replace(config, tier="full"))
    if config.tier == "mini":
        mini = AnomalyLLMStep(config, 5, step.m, 60.0)
        mini.scaler = step.scaler
        step = mini
    return step.eval()


def detector(name: str) -> StepModule:
    """One of DETECTORS."""
    if name in LANGUAGE:
        return anomalyllm(**LANGUAGE[name])
    if name == "image":
        return image()
    if name in SERIES:
        return series(**SERIES[name])
    if name in LINEAR:
        return linear(name)
    return lta() if name == "carried" else lta(recurrence="windowed", score="top", mahalanobis=False)


def assert_same(found: Scores, expected: Scores) -> None:
    assert np.array_equal(found.samples, expected.samples)
    scale = np.maximum(np.abs(expected.scores), expected.scores.max())  # the threshold is above the largest score
    assert (np.abs(found.scores - expected.scores) <= TOLERANCE * scale).all()
    assert np.allclose(found.contributions, expected.contributions, atol=TOLERANCE * scale.max())
    assert np.allclose(found.contributions.sum(1), found.scores, rtol=1e-5)


@pytest.mark.parametrize("target", ["newest", "next"])
@pytest.mark.parametrize("recurrence", ["windowed", "carried"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_lta(cell: str, recurrence: str, target: str) -> None:
    step = lta(accumulator=cell, recurrence=recurrence, target=target)
    batch = step.score(recording())
    assert len(batch.scores) == sum(max(0, n - step.warmup_samples + step.hop) // step.hop for n in LENGTHS)
    assert_same(step.replay(recording()), batch)


@pytest.mark.parametrize(
    "settings",
    [
        {"input": "innovations"},
        {"input": "innovations", "recurrence": "windowed", "hop": 1, "lengths": (4, 8, 12)},
        {"attention_steps": 2},
        {"attention_steps": 4},
        {"lts": "vector"},
        {"lts": "pseudo_window"},
        {"accumulator": "none"},
        {"score": "top", "mahalanobis": False},
        {"standardize": "global", "scaling": "zscore"},
        {"drop_constant": False, "separable": False},
        {"entity_resets": False},
        {"recurrence": "windowed", "beta": "per_step", "gap": 6, "training_hop": 0},
        {"recurrence": "windowed", "beta": "per_step", "lts": "pseudo_window", "accumulator": "lstm"},
        {"recurrence": "windowed", "beta": "per_step", "feed": "window", "target": "next"},
        {"feed": "window", "lts": "vector"},
        {"memory": 3},
        {"memory": 3, "recurrence": "windowed", "mahalanobis": False},
        {"judged": ("e", "b")},  # the one is constant
        {"bypass": 4},
        {"bypass": 4, "recurrence": "windowed", "target": "next"},
    ],
    ids=str,
)
def test_lta_in_other_settings(settings: dict[str, object]) -> None:
    step = lta(**settings)
    assert_same(step.replay(recording()), step.score(recording()))


@pytest.mark.parametrize("detector", [name for name in LINEAR if name != "innovations"])
def test_linear(detector: str) -> None:
    step = linear(detector)
    assert_same(step.replay(recording()), step.score(recording()))


@cache
def committee(**settings: Any) -> StepModule:
    return fit_innovations(recording(), replace(LINEAR["innovations"], lengths=(4, 8, 16), **settings))[0]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hop": 7},
        {"hop": 86},  # longer than the window
        {"judged": ("b", "d")},  # the others are context
        {"judged": ("c",)},  # alone, so without the term of all lags
        {"judged": ("a", "e")},  # constant in training
        {"scaling": "zscore", "drop_constant": False, "entity_resets": False},
    ],
)
def test_committee_of_innovations(settings: dict[str, object]) -> None:
    step = committee(**settings)
    batch = step.score(recording())
    assert len(batch.scores)
    assert_same(step.replay(recording()), batch)


def test_signature_matrices_of_innovations() -> None:
    step = linear("ensemble", input="innovations")
    assert_same(step.replay(recording()), step.score(recording()))


@pytest.mark.parametrize("student", ["our-S1", "our-S5"])
def test_image(student: str) -> None:
    assert_same(image(student).replay(recording()), image(student).score(recording()))


@pytest.mark.parametrize(
    "settings",
    [
        *SERIES.values(),
        {"input": "window", "student": "our-S5", "scaling": "zscore"},
        {"student": "our-S2", "standardize": "global", "drop_constant": False},
        {"accumulator": "gru", "entity_resets": False},
        {"input": "innovations", "accumulator": "gru"},
        {"accumulator": "lstm", "lts": "pseudo_window", "student": "our-S1"},
        {"lengths": (2, 3, 4), "hop": 9},
    ],
    ids=str,
)
def test_regression_of_a_series(settings: dict[str, object]) -> None:
    step = series(**settings)
    assert_same(step.replay(recording()), step.score(recording()))


@pytest.mark.parametrize(
    "settings",
    [
        *LANGUAGE.values(),
        {"backbone": "minilm", "head": "published"},
        {"proto_mode": "reference", "pool_init": "random"},
        {"prototypes": False, "scaling": "minmax", "drop_constant": False},
        {"head": "published", "head_norm": "layer", "features": 8},
        {"window": 8, "hop": 9, "entity_resets": False},
    ],
    ids=str,
)
def test_anomalyllm(settings: dict[str, object]) -> None:
    step = anomalyllm(**settings)
    assert_same(step.replay(recording()), step.score(recording()))


def test_hop_longer_than_the_window() -> None:
    step = fit_linear(recording(), replace(LINEAR["mahalanobis"], lengths=(2, 3, 4), hop=9, recent=3), seed=0)
    assert not step.state_shapes()
    assert_same(step.replay(recording()), step.score(recording()))


@pytest.mark.parametrize("recurrence", ["windowed", "carried"])
def test_wanted_windows_score_as_in_a_full_pass(recurrence: str) -> None:
    step = lta(recurrence=recurrence)
    full = step.score(recording())
    wanted = np.zeros(len(recording()), bool)
    wanted[110:150] = wanted[340:] = True
    chosen = wanted[full.samples]
    part = step.score(recording(), wanted)
    assert_same(part, Scores(full.samples[chosen], full.scores[chosen], full.contributions[chosen]))


@pytest.mark.parametrize("name", ["carried", "windowed", "ensemble", "innovations", "image", *LANGUAGE])
def test_an_entity_scores_as_if_it_were_alone(name: str) -> None:
    step = detector(name)
    whole = step.score(recording())
    for part, (start, end) in zip(recording().split(), recording().bounds):
        inside = (whole.samples >= start) & (whole.samples < end)
        alone = step.score(part)
        assert np.array_equal(alone.samples + start, whole.samples[inside])
        assert np.allclose(alone.scores, whole.scores[inside], rtol=TOLERANCE)


def test_state_runs_on_where_entities_are_one_stream() -> None:
    step = lta(entity_resets=False)
    assert_same(step.score(recording()), step.score(replace(recording(), starts=(0,), entities=("",))))


def steps_of(step: StepModule, values: np.ndarray, valid: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """Outputs of every hop, the state fed back."""
    state, outputs = step.initial_state(), []
    with torch.inference_mode():
        for hop in torch.from_numpy(values).split(step.hop):
            outputs.append(step(hop, valid, *state))
            state = list(outputs[-1][2:])
    return outputs


@pytest.mark.parametrize("name", DETECTORS)
def test_an_invalid_sensor_has_no_part_in_the_score(name: str) -> None:
    step, values = detector(name), recording().values[:120].copy()
    valid = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0])
    values[::3, 1], values[1::3, 1], values[2::3, 1] = np.nan, np.inf, 1e30
    outputs = steps_of(step, values, valid)
    values[:, 1] = 0.0  # what the dead sensor says is not heard
    for (score, shares, *state), (same, *_) in zip(outputs, steps_of(step, values, valid)):
        assert all(torch.isfinite(tensor).all() for tensor in (score, shares, *state))
        assert shares[1] == 0
        assert torch.allclose(shares.sum(), score, rtol=1e-5)
        assert torch.equal(score, same)


@pytest.mark.parametrize("name", DETECTORS)
def test_no_sensor_valid(name: str) -> None:
    for score, shares, *state in steps_of(detector(name), recording().values[:120], torch.zeros(5)):
        assert all(torch.isfinite(tensor).all() for tensor in (score, shares, *state))
        assert (shares == 0).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_what_is_no_number_counts_as_the_training_median(name: str) -> None:
    step, values = detector(name), recording().values[:120].copy()
    median = values.copy()
    rng = np.random.default_rng(3)
    holes = rng.random(values.shape) < 0.1
    values[holes] = rng.choice([np.nan, np.inf, -np.inf], int(holes.sum()))
    median[holes] = np.broadcast_to(step.scaler.fill.numpy(), values.shape)[holes]
    for found, expected in zip(steps_of(step, values, torch.ones(5)), steps_of(step, median, torch.ones(5))):
        assert all(torch.equal(a, b) for a, b in zip(found, expected))


@pytest.mark.parametrize("name", DETECTORS)
def test_wild_values_stay_finite(name: str) -> None:
    values = recording().values[:120].copy()
    values[50:60] = 3e38
    values[60:70] = -3e38
    for outputs in steps_of(detector(name), values, torch.ones(5)):
        assert all(torch.isfinite(tensor).all() for tensor in outputs)


def test_a_student_and_the_committee_as_one() -> None:
    step, normal = joined(recording(), lta(input="innovations", committee=True))
    batch = step.score(recording())
    assert len(batch.scores) and set(normal.samples) <= set(batch.samples)
    assert_same(step.replay(recording()), batch)
