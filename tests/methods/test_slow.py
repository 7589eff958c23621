"""Slow monitors: what no short window shows, hop by hop as in one go."""

import io

import numpy as np
import pytest
import torch

from edgekd.blocks.slow import AROUND, BOX, STEP, SlowMonitors, fit_slow, sobi

HOP, CYCLE = 10, 240


def plant(seed: int, samples: int, leak: float = 0.0, cycle: float = CYCLE) -> np.ndarray:
    """float32 (T, 4): two copies of a random load, the second with a leak, and two copies of a noisy cycle."""
    rng = np.random.default_rng(seed)
    load = rng.normal(size=samples)
    wave = np.sin(2 * np.pi * np.arange(samples) / cycle)
    noise = 0.3 * rng.normal(size=(samples, 4))
    return (np.stack([load, load - leak, wave, -wave], 1) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def slow() -> SlowMonitors:
    normal = plant(0, 16_000)
    return fit_slow([(normal, calm(normal).numpy())], HOP, audited=False)


def calm(values: np.ndarray) -> torch.Tensor:
    return torch.zeros(len(values) // HOP, dtype=torch.bool)


def test_cycle_is_found(slow: SlowMonitors) -> None:
    assert slow.cycle_hops * HOP == CYCLE


def test_no_cycle_in_noise() -> None:
    noise = np.random.default_rng(1).normal(size=(16_000, 3)).astype(np.float32)
    assert fit_slow([(noise, calm(noise).numpy())], HOP).cycle_hops == 0


@pytest.mark.parametrize(
    ("fault", "sensors"), [({"leak": 0.2}, {0, 1}), ({"cycle": 1.25 * CYCLE}, {2, 3})], ids=["leak", "cycle"]
)
def test_slow_fault_alarms_with_its_sensors(slow: SlowMonitors, fault: dict[str, float], sensors: set[int]) -> None:
    faulty = plant(2, 4000, **fault)
    scores, shares = slow.batch(torch.from_numpy(faulty), calm(faulty))
    assert scores[-1] >= 1
    assert set(shares[-1].argsort()[-2:].tolist()) == sensors
    torch.testing.assert_close(shares.sum(1), scores, atol=1e-5, rtol=1e-5)


def test_normal_is_quiet(slow: SlowMonitors) -> None:
    normal = plant(3, 4000)
    assert slow.batch(torch.from_numpy(normal), calm(normal))[0].max() < 1


def test_what_a_fast_alarm_surrounds_does_not_count(slow: SlowMonitors) -> None:
    faulty = plant(4, 4000)
    faulty[2005:2015] += 40  # two hops, of which the fast score sees the second
    high = calm(faulty)
    high[201] = True
    clean = plant(4, 4000)
    gated = slow.means(*_newest(slow, faulty, high)).abs()
    assert gated.max() <= slow.means(*_newest(slow, clean, high)).abs().max() + 1e-6


def _newest(slow: SlowMonitors, values: np.ndarray, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Averages and weights of the hop that is two after the high one's surroundings."""
    rows = [torch.cat(column) for column in zip(*slow.windows(torch.from_numpy(values), high))]
    at = slice(208, 209)
    return rows[0][at], slow.counted(rows[-1][at])


def test_stream_equals_batch(slow: SlowMonitors) -> None:
    faulty = plant(5, 3000, cycle=1.25 * CYCLE)
    high = calm(faulty)
    high[[50, 120]] = True
    scores, shares = slow.batch(torch.from_numpy(faulty), high)
    state = [torch.zeros(shape) for shape in slow.state_shapes().values()]
    for i in range(len(high)):
        hop = torch.from_numpy(faulty[i * HOP : (i + 1) * HOP])
        score, share, *state = slow(hop, torch.ones(4), high[i].float(), *state)
        torch.testing.assert_close(score, scores[i], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(share, shares[i], atol=1e-5, rtol=1e-5)


def test_means_that_move_are_left_alone() -> None:
    moving = plant(7, 16_000)
    moving[11_200:, 1] += 0.2  # the last three tenths run at another mean, as machines do after a change
    assert not fit_slow([(moving, calm(moving).numpy())], HOP).mean_scale[1].any()
    assert fit_slow([(plant(7, 16_000), calm(moving).numpy())], HOP).mean_scale[1].any()


def test_a_step_alarms_while_it_is_one_and_where_the_machine_stays_is_no_alarm() -> None:
    normal = plant(0, 16_000)
    normal[11_200:, 1] += 0.2
    slow = fit_slow([(normal, calm(normal).numpy())], HOP)
    shifted = plant(2, 4000)
    shifted[:, 1] += 0.2  # since before the device began
    shifted[2000:, 0] += 1.0
    scores, shares = slow.batch(torch.from_numpy(shifted), calm(shifted))
    assert scores[:200].max() < 1
    first = int((scores >= 1).nonzero()[0])
    assert 200 < first <= 200 + STEP + AROUND
    assert set(shares[first].argsort()[-2:].tolist()) == {0, 1}
    assert scores[200 + BOX + AROUND + STEP :].max() < 1


def test_the_sensor_that_shifts_is_named_before_those_that_it_contradicts() -> None:
    def machine(seed: int, samples: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        shown = np.array([[1, 0], [1, 0.3], [0.5, 1], [0, 1], [1, -1]]).T
        noise = np.array([0.3, 0.1, 0.3, 0.1, 0.6]) * rng.normal(size=(samples, 5))
        return (rng.normal(size=(samples, 2)) @ shown + noise).astype(np.float32)

    normal = machine(0, 16_000)
    slow = fit_slow([(normal, calm(normal).numpy())], HOP)
    for sensor in range(5):
        shifted = machine(1, 4000)
        shifted[2000:, sensor] += 1
        scores, shares = slow.batch(torch.from_numpy(shifted), calm(shifted))
        first = int((scores >= 1).nonzero()[0])
        assert shares[first].argmax() == sensor


def test_what_a_fast_cycle_averages_out_may_wander_a_little() -> None:
    def machine(seed: int, offset: float) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(size=(16_000, 2))
        wave = np.sin(2 * np.pi * np.arange(16_000) / (2 * HOP)) + offset  # two hops long: its averages hardly move
        return np.column_stack([noise, wave]).astype(np.float32)

    normal, later = machine(0, 0.0), machine(1, 0.03)
    slow = fit_slow([(normal, calm(normal).numpy())], HOP)
    assert slow.mean_scale.any(0)[[2, 5]].any()
    assert slow.batch(torch.from_numpy(later), calm(later))[0].max() < 1


def test_what_is_normal_of_two_machines_is_learned_from_both(slow: SlowMonitors) -> None:
    halves = [(half, calm(half).numpy()) for half in (plant(0, 8000), plant(9, 8000))]
    both = fit_slow(halves, HOP, audited=False)
    assert both.cycle_hops == slow.cycle_hops
    faulty = plant(2, 4000, leak=0.2)
    assert both.batch(torch.from_numpy(faulty), calm(faulty))[0][-1] >= 1
    scores, _ = both.batch(torch.from_numpy(halves[1][0]), calm(halves[1][0]))
    assert scores.max() < 1


def test_a_short_recording_has_no_slow_verdict() -> None:
    short = plant(8, 1000)
    slow = fit_slow([(short, calm(short).numpy())], HOP)
    assert not slow.watches
    assert slow.batch(torch.from_numpy(3 * short), calm(short))[0].max() == 0


def test_a_missing_sensor_stands_still(slow: SlowMonitors) -> None:
    state = [torch.zeros(shape) for shape in slow.state_shapes().values()]
    for _ in range(BOX + 3 * AROUND):
        score, _, *state = slow(torch.ones(HOP, 4) * 3, torch.tensor([1.0, 0, 1, 1]), torch.tensor(0.0), *state)
        assert score == 0


def test_state_is_small_at_38_sensors() -> None:
    longest = SlowMonitors(38, HOP, cycle_hops=125)  # of 25,000 samples
    assert 4 * sum(np.prod(shape) for shape in longest.state_shapes().values()) <= 64_000


def test_sobi_separates_what_only_time_tells_apart() -> None:
    rng = np.random.default_rng(6)
    sources = np.stack([np.convolve(rng.normal(size=20_000), np.ones(k), "same") for k in (1, 10, 60)], 1)
    sources = (sources - sources.mean(0)) / sources.std(0)
    found = sources @ rng.normal(size=(3, 3))
    likeness = np.abs(np.corrcoef((found @ sobi(found)).T, sources.T)[:3, 3:])
    assert (likeness.max(1) > 0.98).all()


def test_the_graph_exports(slow: SlowMonitors) -> None:
    ort = pytest.importorskip("onnxruntime")
    state = [torch.zeros(shape) for shape in slow.state_shapes().values()]
    given = (torch.rand(HOP, 4), torch.ones(4), torch.tensor(0.0), *state)
    file = io.BytesIO()
    torch.onnx.export(slow, given, file, dynamo=False)
    session = ort.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for _ in range(3):
        expected = slow(*given)
        found = session.run(None, {i.name: x.numpy() for i, x in zip(session.get_inputs(), given)})
        for one, other in zip(found, expected):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-4)
        given = (torch.rand(HOP, 4), *given[1:3], *expected[2:])
