"""The streaming detector: the same samples, the same verdicts, however they come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from step_models import step_file, step_graph, step_manifest, step_samples

from edgekd.export.embed import embed
from edgekd.runtime import Detector, GateFailed, UsageError, Verdict
from edgekd.runtime.guard import admit
from edgekd.runtime.manifest import SelfTestSpec
from edgekd.runtime.selftest import self_test_samples, splitmix64

N, HOP, WARMUP = 3, 4, 8


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    path = step_file(tmp_path_factory.mktemp("model") / "m.onnx", N, HOP, warmup=WARMUP)
    return Detector.load(path)


def gappy(count: int = 203, seed: int = 3) -> np.ndarray:
    """Samples with single missing values, long gaps, infinities, and one sensor that appears late."""
    x = step_samples(N, count, seed)
    x[np.random.default_rng(seed).random(x.shape) < 0.05] = np.nan
    x[:9, 2] = np.nan
    x[40:60, 0] = np.inf
    x[100:103] = np.nan
    return x


def facts(verdicts: list[Verdict]) -> list[tuple]:
    return [(v.sample, v.score, v.is_anomaly, v.contributions.tobytes(), v.top_sensors) for v in verdicts]


def one_by_one(detector: Detector, samples: np.ndarray) -> list[Verdict]:
    return [verdict for sample in samples if (verdict := detector.update(sample)) is not None]


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(0, 203), max_size=12))
def test_chunks_make_no_difference(loaded: Detector, cuts: list[int]) -> None:
    x = gappy()
    whole = facts(loaded.stream().update_block(x))
    assert len(whole) == 203 // HOP - (WARMUP // HOP - 1)
    assert facts(one_by_one(loaded.stream(), x)) == whole
    cut = loaded.stream()
    pieces = [v for block in np.split(x.astype(np.float64), sorted(cuts)) for v in cut.update_block(block)]
    assert facts(pieces) == whole


def test_first_verdict_comes_at_the_first_hop_end_after_warm_up(loaded: Detector) -> None:
    verdicts = loaded.stream().update_block(step_samples(N, 24))
    assert [v.sample for v in verdicts] == [7, 11, 15, 19, 23]
    for v in verdicts:
        assert v.contributions.sum() == pytest.approx(v.score, rel=1e-5)
        assert v.is_anomaly == (v.score > v.threshold)


def test_missing_values_are_held_then_the_sensor_is_left_out(loaded: Detector) -> None:
    x = step_samples(N, 60)
    held = x.copy()
    for start in (
        20,
        25,
        43,
    ):  # shorter than max_hold_s, also over the end of a hop: as if the last value were repeated
        x[start : start + 2, 1] = np.nan
        held[start : start + 2, 1] = x[start - 1, 1]
    a, b = loaded.stream(), loaded.stream()
    assert facts(a.update_block(x)) == facts(b.update_block(held))
    assert a.sensor_changes() == [] and a.held_values == {"s1": 6}

    x[30:41, 1] = np.nan  # longer: samples 34 to 40 lie beyond the hold of three
    c = loaded.stream()
    verdicts = {v.sample: v for v in c.update_block(x)}
    assert [(s.sample, s.sensor, s.missing) for s in c.sensor_changes()] == [(35, "s1", True), (47, "s1", False)]
    assert c.sensor_changes() == []
    assert [verdicts[s].contributions[1] == 0 for s in (31, 35, 39, 43, 47)] == [False, True, True, True, False]


def test_a_sensor_that_was_never_seen_stays_out(loaded: Detector) -> None:
    x = step_samples(N, 40)
    x[:, 2] = np.nan
    detector = loaded.stream()
    assert all(v.contributions[2] == 0 and np.isfinite(v.score) for v in detector.update_block(x))
    assert [(s.sensor, s.missing) for s in detector.sensor_changes()] == [("s2", True)]


def test_values_beyond_the_graph_do_not_poison_the_state(loaded: Detector) -> None:
    x = step_samples(N, 80)
    x[40:44] = 3e38
    detector = loaded.stream()
    verdicts = {v.sample: v for v in detector.update_block(x)}
    assert verdicts[43].is_anomaly and all(np.isfinite(v.score) for v in verdicts.values())
    assert detector.diverged_steps == 1
    without = loaded.stream().update_block(np.delete(x, slice(40, 44), axis=0))
    assert [v.score for v in without[-9:]] == [v.score for v in list(verdicts.values())[-9:]]


def test_streams_are_independent_and_reset_is_cold(loaded: Detector) -> None:
    x, y = gappy(seed=4), gappy(seed=5)
    alone = [facts(loaded.stream().update_block(samples)) for samples in (x, y)]
    a, b = loaded.stream(), loaded.stream()
    mixed: tuple[list[Verdict], list[Verdict]] = ([], [])
    for one, other in zip(x, y):
        mixed[0].extend(v for v in [a.update(one)] if v)
        mixed[1].extend(v for v in [b.update(other)] if v)
    assert [facts(m) for m in mixed] == alone
    a.reset()
    assert facts(a.update_block(x)) == alone[0]


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 41, 102, 202])
def test_a_snapshot_is_the_whole_state(loaded: Detector, cut: int) -> None:
    x = gappy()
    whole = loaded.stream()
    first = whole.update_block(x[:cut])
    snapshot = whole.snapshot()
    rest = whole.update_block(x[cut:])
    resumed = loaded.stream()
    resumed.restore(snapshot)
    assert resumed.samples_seen == cut
    assert facts(resumed.update_block(x[cut:])) == facts(rest)
    assert len(first) + len(rest) == 49 and resumed.held_values == whole.held_values


def test_a_foreign_snapshot_changes_nothing(loaded: Detector) -> None:
    detector = loaded.stream()
    detector.update_block(gappy()[:30])
    before = {name: value.copy() for name, value in detector.snapshot().items()}
    for name in before:
        for bad in (None, np.zeros((9, 9), np.float32), np.zeros(1, "U3")):
            broken = {k: v for k, v in before.items() if k != name} | ({name: bad} if bad is not None else {})
            with pytest.raises(UsageError, match="saved state"):
                detector.restore(broken)
    assert all(np.array_equal(value, before[name]) for name, value in detector.snapshot().items())


@pytest.mark.parametrize(
    "bad",
    [
        [1.0, 2.0],
        [1.0, 2.0, 3.0, 4.0],
        1.0,
        "abc",
        ["1", "2", "3"],
        [1, 2, {}],
        [[1, 2, 3]],
        [1j, 2, 3],
        [10**400, 1, 2],
    ],
)
def test_a_bad_sample_is_one_error_and_no_step(loaded: Detector, bad: object) -> None:
    x = gappy()
    detector, clean = loaded.stream(), loaded.stream()
    for at in (x[:9], x[9:12]):
        detector.update_block(at)
        with pytest.raises(UsageError):
            detector.update(bad)
        with pytest.raises(UsageError):
            detector.update_block([[1.0, 2.0, 3.0], bad])
    clean.update_block(x[:12])
    assert facts(detector.update_block(x[12:])) == facts(clean.update_block(x[12:]))


def test_lists_with_none_and_integers_are_samples(loaded: Detector) -> None:
    x = [[1, 2, None], [1.5, 2, 3], [True, 2, 3], (1, 2, 3)] * 5
    y = np.array(x, np.float64)
    assert facts(one_by_one(loaded.stream(), x)) == facts(loaded.stream().update_block(y))  # type: ignore[arg-type]


def test_after_a_gap_verdicts_wait_for_a_warm_up(loaded: Detector) -> None:
    detector = loaded.stream()
    detector.update_block(step_samples(N, 30))
    detector.rewarm()
    assert detector.samples_seen == 28  # the open hop is gone
    assert [v.sample for v in detector.update_block(step_samples(N, 16))] == [35, 39, 43]


def test_splitmix64_is_the_published_one() -> None:
    # first outputs of the reference implementation (Vigna, splitmix64.c) for seed 1234567
    step = 0x9E3779B97F4A7C15
    outputs = [int(splitmix64((1234567 + i * step) % 2**64, 1)[0]) for i in range(3)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    sensors = step_manifest(2, 3).sensors
    whole = self_test_samples(sensors, 3, 5, seed=2**63 - 1)
    assert whole.shape == (5, 3, 2) and whole.dtype == np.float32
    assert np.array_equal(whole[2:], self_test_samples(sensors, 3, 3, seed=2**63 - 1, first=2))


def test_an_engine_that_computes_something_else_fails_the_self_test(tmp_path: Path) -> None:
    path = step_file(tmp_path / "m.onnx", N, HOP)
    manifest, _ = admit(path, try_first=False)
    other = step_graph(N, HOP, seed=1).SerializeToString()
    with pytest.raises(GateFailed, match="self-test"):
        Detector.load(embed(other, manifest))
    # a file cannot allow itself more than the reader does
    generous = replace(manifest.self_test, tolerance=1.0)
    with pytest.raises(GateFailed):
        Detector.load(embed(other, replace(manifest, self_test=generous)))
    near = SelfTestSpec(7, 12, tuple(s * 1.001 for s in manifest.self_test.scores), 0.01)
    Detector.load(embed(step_graph(N, HOP).SerializeToString(), replace(manifest, self_test=near)))
