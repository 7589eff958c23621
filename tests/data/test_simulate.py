"""The simulated plant: repeatable, labeled, and with slow faults that only a history shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.cli import cli
from edgekd.data import Recording, constant_sensors, load
from edgekd.runtime.errors import UsageError
from edgekd.simulation.plants.line import SENSORS, SWING
from edgekd.simulation.simulate import KINDS, simulate

SLOW = ("slow-leak", "cycle-drift")
WINDOW, HISTORY = 100, 800
"""Samples: the longest short window, and a history of a few swings."""


# The slow faults. For each one the very quantity in which it shows, as someone would measure it who knows the plant;
# its mean over a short window and over a history differ in nothing but their length.


def imbalance(recording: Recording) -> np.ndarray:
    """Feed less product: what a leak takes."""
    return 0.97 * recording.values[:, 0].astype(float) - recording.values[:, 1]


def lateness(recording: Recording) -> np.ndarray:
    """How much slower than its timer the filter cycle turns, from its analytic signal around the timer's frequency."""
    clean = recording.values[:, 2].astype(float) - 70 * (recording.values[:, 0] / 900.0) ** 2 - 180
    frequency = np.fft.fftfreq(len(clean))
    band = np.where((frequency > 0.4 / SWING) & (frequency < 2.4 / SWING), 2.0, 0.0)
    phase = np.unwrap(np.angle(np.fft.ifft(np.fft.fft(clean) * band)))
    return -np.diff(phase, prepend=phase[0])


SHOWS = {"slow-leak": imbalance, "cycle-drift": lateness}


def trailing_mean(x: np.ndarray, window: int) -> np.ndarray:
    """(T - window + 1,) mean of the last `window` samples."""
    total = np.concatenate([[0.0], np.cumsum(x)])
    return (total[window:] - total[:-window]) / window


def seen(kind: str, seed: int, window: int) -> tuple[float, float]:
    """Of the second half of each fault: share above everything in a fault-free run, and AUC against that run."""
    normal = trailing_mean(SHOWS[kind](simulate(20_000, 3, seed + 1000, ()).recording), window)
    simulation = simulate(20_000, 3, seed, (kind,))
    score = trailing_mean(SHOWS[kind](simulation.recording), window)
    late = np.concatenate([score[(e.start + e.end) // 2 - window + 1 : e.end - window + 1] for e in simulation.events])
    auc = np.searchsorted(np.sort(normal), late).mean() / len(normal)
    return float((late > normal.max()).mean()), float(auc)


@pytest.mark.parametrize("kind", SLOW)
def test_slow_fault_shows_in_the_history_and_in_no_short_window(kind: str) -> None:
    short = np.array([seen(kind, seed, WINDOW) for seed in range(4)])
    long = np.array([seen(kind, seed, HISTORY) for seed in range(4)])
    assert short[:, 0].mean() < 0.05 and short[:, 1].max() < 0.85, "a short window shows it"
    assert long[:, 0].min() > 0.8 and long[:, 1].min() > 0.98, "the history does not show it"


@pytest.mark.parametrize("kind", SLOW)
def test_slow_fault_keeps_values_and_short_correlations_in_their_normal_range(kind: str) -> None:
    def correlations(recording: Recording, rows: np.ndarray) -> np.ndarray:
        """(k, pairs) of windows of 100 samples that end at these rows."""
        pairs = np.triu_indices(recording.n_sensors, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.array([np.corrcoef(recording.values[r - WINDOW + 1 : r + 1].T)[pairs] for r in rows])

    normal, healthy = (simulate(20_000, 12, seed, ()).recording for seed in (77, 5))
    faulty = simulate(20_000, 12, 5, (kind,)).recording
    assert faulty.labels is not None
    low, high = normal.values.min(axis=0), normal.values.max(axis=0)
    beyond, anyway = (((r.values < low) | (r.values > high))[faulty.labels].mean(axis=0) for r in (faulty, healthy))
    assert (beyond - anyway).max() < 0.01
    rows = np.flatnonzero(faulty.labels)[WINDOW::25]
    usual, now = correlations(normal, np.arange(WINDOW, 20_000, 25)), correlations(faulty, rows)
    low, high = np.quantile(usual, [0.005, 0.995], axis=0)
    assert np.mean((now < low) | (now > high)) < 0.03  # 0.01 is what a fault-free run has


# The quick faults


def test_quick_faults_change_their_sensor_and_nothing_else() -> None:
    healthy = simulate(12_000, 12, 3, ()).recording
    simulation = simulate(12_000, 12, 3, KINDS[:4])
    faulty = simulation.recording
    assert {event.kind for event in simulation.events} == set(KINDS[:4])
    expected = np.zeros(healthy.values.shape, bool)
    for event in simulation.events:
        column = faulty.sensors.index(event.sensors[0])
        expected[event.start : event.end, column] = True
        now, before = (r.values[event.start : event.end, column] for r in (faulty, healthy))
        sd = healthy.values[:, column].std()
        if event.kind == "stuck-sensor":
            assert np.ptp(now) == 0
        elif event.kind == "level-shift":
            assert abs(np.median(now - before)) > 2 * sd
        elif event.kind == "spike-burst":
            assert 0.1 < (np.abs(now - before) > 1.5 * sd).mean() < 0.7
        else:
            assert np.corrcoef(np.diff(now), np.diff(before))[0, 1] < -0.5
    changed = faulty.values != healthy.values
    assert not (changed & ~expected).any()


# The recording


def test_same_seed_same_bytes_and_more_sensors_change_nothing() -> None:
    recording = simulate(3000, 20, 7).recording
    assert recording.digest() == simulate(3000, 20, 7).recording.digest()
    assert recording.digest() != simulate(3000, 20, 8).recording.digest()
    few, many = (simulate(3000, n, 7, ()).recording for n in (5, 40))
    np.testing.assert_array_equal(few.values, many.values[:, :5])
    assert few.labels is not None and not few.labels.any()


@pytest.mark.parametrize("sensors", [3, 12, len(SENSORS), len(SENSORS) + 1, 60])
def test_every_sensor_lives_and_says_its_unit(sensors: int) -> None:
    recording = simulate(5000, sensors, 1).recording
    assert recording.n_sensors == len(set(recording.sensors)) == sensors
    assert constant_sensors(recording) == []
    units = {"lpm", "mbar", "kw", "c", "bar", "a", "s", "pct", "rpm"}
    assert all(name.rsplit("_", 1)[1] in units for name in recording.sensors)
    assert np.isfinite(recording.values).all()


def test_production_follows_the_clock_and_the_week() -> None:
    recording = simulate(4 * 10_080, 3, 2, ()).recording
    assert recording.times_s is not None
    days, hours = np.floor(recording.times_s / 86_400 + 3) % 7, recording.times_s % 86_400 / 3600
    feed = recording.values[:, 0]
    assert feed[days < 5].mean() > feed[days >= 5].mean() + 50
    assert feed[(hours > 9) & (hours < 15)].mean() > feed[(hours < 4)].mean() + 50


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 30_000),
    kinds=st.lists(st.sampled_from(KINDS), unique=True, min_size=1),
    seed=st.integers(0, 2**32),
)
def test_faults_are_apart_and_labeled_or_the_needed_length_is_said(samples: int, kinds: list[str], seed: int) -> None:
    try:
        simulation = simulate(samples, 3, seed, kinds)
    except UsageError as error:
        needed = int(str(error).split("give at least ")[1].split(",")[0])
        assert samples < needed < 3000
        simulation = simulate(samples := needed, 3, seed, kinds)
    events = simulation.events
    assert {event.kind for event in events} == set(kinds)
    edges = [0, *(edge for event in events for edge in (event.start, event.end)), samples]
    quiet = np.diff(edges)[::2]
    assert quiet[0] >= min(200, samples // 10) and (quiet[1:] >= 99).all()
    labels = np.zeros(samples, bool)
    for event in events:
        labels[event.start : event.end] = True
    assert simulation.recording.labels is not None
    np.testing.assert_array_equal(simulation.recording.labels, labels)


# The command


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_command_writes_what_load_reads(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"plant.{suffix}"
    args = ["simulate", str(out), "--samples", "3000", "--sensors", "5", "--period-s", "30", "--seed", "4", "--json"]
    result = CliRunner().invoke(cli, args, catch_exceptions=False)
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    expected = simulate(3000, 5, 4, period_s=30)
    recording = load(out)
    assert recording.digest() == expected.recording.digest()
    np.testing.assert_array_equal(recording.labels, expected.recording.labels)
    np.testing.assert_array_equal(recording.times_s, expected.recording.times_s)
    assert recording.notes == ()
    assert [(e["kind"], e["start"], e["end"]) for e in facts["events"]] == [
        (e.kind, e.start, e.end) for e in expected.events
    ]


def test_command_tells_people_on_stderr(tmp_path: Path) -> None:
    out = str(tmp_path / "plant.csv")
    result = CliRunner().invoke(cli, ["simulate", out, "--samples", "900", "--fault", "spike-burst", "--sensors", "3"])
    assert result.stdout == ""
    assert f"{out}: 900 samples of 3 sensors, 15.0 hours," in result.stderr and "spike-burst" in result.stderr
    result = CliRunner().invoke(cli, ["simulate", out, "--samples", "50", "--fault-free", "--force"])
    assert "no faults" in result.stderr
    recording = load(out)
    assert recording.labels is not None and not recording.labels.any()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--samples", "1000"], "too few for spike-burst"),
        (["--samples", "0"], "0 samples"),
        (["--sensors", "2"], "the plant has 3 to"),
        (["--period-s", "nan"], "a period of nan"),
        (["--seed", "-1"], "seed -1"),
        (["--fault", "gremlin"], "no fault 'gremlin'; there are spike-burst"),
        (["--fault", "slow-leak", "--fault-free"], "contradict"),
    ],
)
def test_command_refuses_what_makes_no_sense(tmp_path: Path, args: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        CliRunner().invoke(cli, ["simulate", str(tmp_path / "x.csv"), *args], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []
