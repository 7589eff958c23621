"""The networks of LTA have the published sizes and shapes, for every number of sensors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from edgekd.blocks.accumulator import Accumulator
from edgekd.blocks.score_terms import live_pairs
from edgekd.blocks.threshold import FIT, parts
from edgekd.blocks.training_windows import TrainingStream
from edgekd.data import Recording
from edgekd.methods.lta import PRESETS, LTAStep, Student, Teacher
from edgekd.methods.lta.distill import prepared
from edgekd.methods.lta.jobs import StudentJob
from edgekd.methods.lta.network import SignatureNetwork


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("n", [25, 30, 55])
def test_teacher_and_student_have_the_published_parameters(n: int) -> None:
    assert parameters(Teacher(n_sensors=n)) == 6_687_843
    assert parameters(Student(n_sensors=n)) == 408_611


@pytest.mark.parametrize("n", [25, 30, 55])
def test_preset_paper_builds_the_published_networks(n: int) -> None:
    paper = PRESETS["paper"]
    assert parameters(LTAStep(paper, n, n, 60.0).network) == 408_611
    assert parameters(LTAStep(paper.teacher(), n, n, 60.0).network) == 6_687_843


def test_edge_network_at_sixteen_channels() -> None:
    assert parameters(SignatureNetwork(25, 2, 16, separable=True, output="linear")) == 21_971


@pytest.mark.parametrize(
    ("n", "sides"), [(25, (25, 13, 7, 4)), (30, (30, 15, 8, 4)), (55, (55, 28, 14, 7)), (1, (1, 1, 1, 1))]
)
@pytest.mark.parametrize("network", [Teacher, Student])
@torch.inference_mode()
def test_maps_halve_and_the_reconstruction_has_the_side_of_the_input(
    network: type[SignatureNetwork], n: int, sides: tuple[int, ...]
) -> None:
    model = network(n_sensors=n)
    output, attended = model(torch.rand(1, 1, 3, n, n))
    assert output.shape == (1, 3, n, n)
    assert [tuple(m.shape[1:]) for m in attended] == [(32 * 2**i, sides[i], sides[i]) for i in range(model.levels)]
    assert [tuple(m.shape[1:]) for m in attended] == model.map_shapes


@pytest.mark.parametrize("n", range(2, 12))
@torch.inference_mode()
def test_every_side_comes_back_at_four_levels(n: int) -> None:
    output, _ = SignatureNetwork(n, 4, channels=2)(torch.rand(2, 3, 3, n, n))
    assert output.shape == (2, 3, n, n)


@torch.inference_mode()
def test_the_last_step_alone_is_reconstructed_and_earlier_steps_matter() -> None:
    torch.manual_seed(0)
    model, steps = Student(n_sensors=5), torch.rand(1, 5, 3, 5, 5)
    output, _ = model(steps)
    other = steps.clone()
    other[:, 0] += 1.0
    assert not torch.equal(model(other)[0], output)


@pytest.mark.parametrize(
    ("variant", "n", "counts"),
    [
        ("per_variable", 25, (130, 520, 390)),
        ("vector", 25, (370, 1480, 1110)),
        ("vector", 55, (670, 2680, 2010)),
        ("pseudo_window", 25, (1300, 5200, 3900)),
        ("pseudo_window", 55, (6160, 24640, 18480)),
    ],
)
def test_accumulator_parameters(variant: str, n: int, counts: tuple[int, int, int]) -> None:
    for cell, count in zip(("rnn", "lstm", "gru"), counts):
        assert parameters(Accumulator(n, cell, variant).cell) == count


@pytest.mark.parametrize("variant", ["per_variable", "vector", "pseudo_window"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@torch.inference_mode()
def test_beta_does_not_depend_on_how_samples_are_cut(cell: str, variant: str) -> None:
    torch.manual_seed(0)
    accumulator, samples = Accumulator(3, cell, variant), torch.rand(1, 60, 3)
    state = [torch.zeros(1, *shape) for shape in accumulator.state_shapes().values()]
    stepwise = []
    for part in samples.split(12, dim=1):
        state = list(accumulator(part, *state))
        stepwise.append(accumulator.beta(*state)[0])
    beta = torch.stack(stepwise)
    assert torch.allclose(accumulator.betas(samples[0], 12), beta, atol=1e-6)
    assert torch.allclose(beta, beta.transpose(1, 2), atol=1e-6)
    assert torch.linalg.eigvalsh(beta).min() > -1e-6
    if variant != "vector":
        assert beta.abs().max() <= 1.0 + 1e-6  # tanh bounds the state


@pytest.mark.parametrize("variant", ["per_variable", "vector", "pseudo_window"])
@torch.inference_mode()
def test_beta_of_a_step_is_that_of_its_own_time(variant: str) -> None:
    accumulator, samples = Accumulator(3, "gru", variant, moments=(8, 4, 0), block=2), torch.rand(40, 3)
    at_once = Accumulator(3, "gru", variant)
    at_once.load_state_dict(accumulator.state_dict())
    newest, steps = at_once.betas(samples, 4), accumulator.betas(samples, 4)
    assert torch.equal(steps[2:], torch.stack([newest[:-2], newest[1:-1], newest[2:]], 1))


@pytest.mark.parametrize("period_s", [60.0, 300.0])
def test_the_state_of_preset_edge_is_small_enough_to_save_every_minute(period_s: float) -> None:
    for n in range(1, 70):
        step = LTAStep(PRESETS["edge"], n, n, period_s)
        assert 4 * sum(state.numel() for state in step.initial_state()) <= 256 * 1024, n


def test_one_sensor_can_be_trained() -> None:
    values = np.sin(np.arange(900, dtype=np.float32) / 5)[:, None]
    recording = Recording(values=values, sensors=("one",), period_s=60.0)
    step = prepared(recording, replace(PRESETS["edge"], distill=False, channels=4, lengths=(4, 8, 16), hop=4))
    job = StudentJob(
        step, TrainingStream(step.all_shown, recording, recording.bounds, step.span, step.hop), 0, None, None
    )
    for epoch in range(3):
        stale = [torch.full((size,), float("nan")) for size in range(50, 6000, 50)]
        del stale  # what a gradient that is not computed would be made of
        for _ in job.epoch(epoch):
            pass
    assert all(parameter.isfinite().all() for parameter in job.module.parameters())


@torch.inference_mode()
def test_a_network_beside_a_bypass_begins_as_the_linear_detector() -> None:
    values = np.random.default_rng(0).normal(size=(2000, 4)).cumsum(0).astype(np.float32) % 7
    recording = Recording(values=values, sensors=tuple("abcd"), period_s=60.0)
    settings = {"distill": False, "channels": 4, "lengths": (4, 8, 16), "hop": 4, "bypass": 5}
    step = prepared(recording, replace(PRESETS["edge"], accumulator="none", **settings))
    batches = list(step.reconstructions(torch.from_numpy(values), cold=True))
    shown, output = (torch.cat(column).flatten(1).numpy() for column in list(zip(*batches))[1:3])
    fitted = shown[(np.arange(len(shown)) >= 3) & (parts(recording)[3::4] == FIT)]  # whole windows that train
    linear = PCA(5).fit(fitted)
    assert np.allclose(output, linear.inverse_transform(linear.transform(shown)), atol=1e-3)


@torch.inference_mode()
def test_what_a_missing_sensor_shows_does_not_pass_the_bypass() -> None:
    step = LTAStep(replace(PRESETS["edge"], accumulator="none", bypass=3, lengths=(4, 8, 16), hop=4), 4, 4, 60.0)
    assert step.bypass is not None
    step.bypass.axes.copy_(torch.linalg.qr(torch.randn(48, 3)).Q.T)
    state = [torch.zeros(1, *shape) for shape in step.carried_shapes().values()]
    live = torch.tensor([1.0, 1.0, 0.0, 1.0])
    shown = torch.randn(1, 3, 4, 4)
    changed = torch.where(live_pairs(live) > 0, shown, 40.0)
    (one, *_), (other, *_) = (step.advance(matrices, state, live) for matrices in (shown, changed))
    assert step.parameters_learned == parameters(step) + 3 * 48
    assert torch.equal(one, other)
    assert not torch.equal(one, step.advance(changed, state)[0])
