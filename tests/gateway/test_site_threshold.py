"""The threshold of a site: what its first day sets, how it follows drift, and that neither can run away."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from device import write_csv
from gateway_device import events_of, run
from hypothesis import given
from hypothesis import strategies as st
from step_models import step_file, step_manifest, step_samples

from edgekd.runtime import UsageError
from edgekd.runtime.duration import duration, seconds_in
from edgekd.runtime.gateway.watchers.site_threshold import CALIBRATE_BAND, MIN_VERDICTS, P2Quantile, SiteThreshold

TRAINED, NORMAL = 3.0, 1.0  # threshold, and 0.9 quantile of the scores on normal training data
HOUR = step_manifest(3, 1, period_s=3600.0, threshold=TRAINED, normal_p90=NORMAL)  # a day is MIN_VERDICTS verdicts
BAND = (0.5, 2.0)


def normal_scores(count: int, seed: int = 0) -> np.ndarray:
    """Scores whose 0.9 quantile is NORMAL and that stay below TRAINED: (count,)."""
    return np.random.default_rng(seed).exponential(1 / np.log(10), count).clip(0, 2.5)


def feed(site: SiteThreshold, scores: np.ndarray, start: int = 0, alarm: bool = False) -> list[tuple[int, str]]:
    """What happened, and at which sample."""
    found = [(start + i, site.update(start + i, float(score), alarm)) for i, score in enumerate(scores)]
    return [(sample, moved.event) for sample, moved in found if moved]


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("draw", ["normal", "exponential", "lognormal", "uniform"])
def test_a_streaming_quantile_is_close_to_the_exact_one(share: float, draw: str) -> None:
    values = getattr(np.random.default_rng(1), draw)(size=5000)
    ramp = values.std() * np.linspace(0, 0.5, len(values))
    for order in (values, values[:150], values + ramp, values - ramp, np.sort(values), np.repeat(values[:50], 100)):
        quantile = P2Quantile(share)
        for value in order:
            quantile.add(float(value))
        assert (order < quantile.value).mean() - 0.05 <= share <= (order <= quantile.value).mean() + 0.05


@given(st.lists(st.floats(-1e30, 1e30), max_size=80), st.integers(0, 80))
def test_a_quantile_stays_within_what_it_has_seen_and_survives_a_restart(values: list[float], cut: int) -> None:
    whole, first, second = P2Quantile(0.9), P2Quantile(0.9), P2Quantile(0.9)
    for value in values:
        whole.add(value)
    for value in values[:cut]:
        first.add(value)
    second.restore(json.loads(json.dumps(first.snapshot())))
    for value in values[cut:]:
        second.add(value)
    assert second.snapshot() == whole.snapshot()
    assert np.isnan(whole.value) if not values else min(values) <= whole.value <= max(values)


@given(st.lists(st.floats(0, 1e30), max_size=400), st.data())
def test_whatever_comes_the_threshold_stays_within_its_band(scores: list[float], data: st.DataObject) -> None:
    site = SiteThreshold(HOUR, TRAINED, band=BAND)
    for sample, score in enumerate(scores):
        alarm = data.draw(st.booleans()) if sample % 7 == 0 else False
        before = site.snapshot()
        site.update(sample, score, alarm)
        assert BAND[0] * TRAINED <= site.value <= BAND[1] * TRAINED
        if alarm or score > before["value"]:
            assert site.snapshot() == before  # frozen: nothing is learned from an alarm


def test_slow_drift_is_followed_and_a_jump_is_an_alarm() -> None:
    days = 60
    grown = np.repeat(np.linspace(1.0, 1.8, days), MIN_VERDICTS) * normal_scores(days * MIN_VERDICTS)
    fixed = grown > TRAINED
    site = SiteThreshold(HOUR, TRAINED, band=BAND)
    alarms = []
    for sample, score in enumerate(grown):
        alarms.append(score > site.value)
        site.update(sample, float(score), bool(alarms[-1]))
    assert fixed.sum() > 3 * sum(alarms)
    assert 0.75 < site.value / (1.8 * TRAINED) < 1.25
    before = site.value
    assert feed(site, np.full(10 * MIN_VERDICTS, 5 * TRAINED)) == [] and site.value == before
    assert feed(site, np.full(10 * MIN_VERDICTS, 0.1), alarm=True) == [] and site.value == before


def test_a_first_day_sets_the_threshold_of_a_site_that_is_louder_or_quieter_within_its_band() -> None:
    low, high = CALIBRATE_BAND
    cases = [(1.0, 1.0), (0.7, 0.7), (0.01, low), (4.0, 4.0), (1e6, high)]
    for factor, want, band in [*((*case, CALIBRATE_BAND) for case in cases), (0.7, 1.0, (1.0, 10.0))]:
        site = SiteThreshold(HOUR, TRAINED, calibrate_samples=240, calibrate_band=band)
        scores = factor * normal_scores(400)
        assert feed(site, scores[:240]) == [] and site.value == TRAINED  # until then the trained one rules
        assert feed(site, scores[240:], 240) == [(240, "site_threshold")]
        assert want * 0.75 <= site.value / TRAINED <= want * 1.25
        assert band[0] <= site.value / TRAINED <= band[1]


def test_a_first_day_is_not_shorter_than_its_scores_are_many() -> None:
    site = SiteThreshold(HOUR, TRAINED, calibrate_samples=3)
    assert feed(site, normal_scores(MIN_VERDICTS)) == [(MIN_VERDICTS - 1, "site_threshold")]


def test_what_was_learned_survives_a_restart_and_ends_with_another_threshold() -> None:
    settings = {"calibrate_samples": 60, "band": BAND}
    scores = 1.5 * normal_scores(600)
    whole = SiteThreshold(HOUR, TRAINED, **settings)
    feed(whole, scores)
    for cut in (0, 3, 59, 60, 61, 70, 130, 599):
        first, second = SiteThreshold(HOUR, TRAINED, **settings), SiteThreshold(HOUR, TRAINED, **settings)
        feed(first, scores[:cut])
        second.restore(json.loads(json.dumps(first.snapshot())))
        feed(second, scores[cut:], cut)
        assert second.snapshot() == whole.snapshot()
    snapshot = whole.snapshot()
    plain = SiteThreshold(HOUR, TRAINED)  # neither option is given any more: the site's threshold still rules
    plain.restore(snapshot)
    assert plain.value == plain.base == whole.base > TRAINED
    for other in (SiteThreshold(HOUR, TRAINED + 1, **settings), SiteThreshold(HOUR, TRAINED, reset=True)):
        other.restore(snapshot)
        assert other.value == other.trained and other.site is None
    for broken in ({"value": "x"}, {"site": float("nan")}, {"recent": [1]}, {"first_day": [-1]}, {"trained": None}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            whole.restore({**snapshot, **broken})
        assert whole.snapshot() == snapshot


def test_a_model_without_a_scale_is_refused() -> None:
    for manifest, threshold in ((step_manifest(3, 1), TRAINED), (HOUR, -1.0)):
        SiteThreshold(manifest, threshold)
        with pytest.raises(UsageError, match="export it again"):
            SiteThreshold(manifest, threshold, band=BAND)


def test_a_site_threshold_is_told_kept_and_forgotten(tmp_path: Path) -> None:
    count, state = 1200, tmp_path / "state"
    write_csv(tmp_path / "x.csv", step_samples(3, count))
    model = step_file(tmp_path / "m.onnx", 3, 4, period_s=600.0, threshold=0.15, normal_p90=0.15)
    arguments = ["--model", model, "--csv", tmp_path / "x.csv", "--scores"]
    plain = events_of(run(*arguments).stdout)
    scores = np.array([e["score"] for e in plain if e["event"] == "score"])
    first = run(*arguments, "--state", state, "--calibrate-for", "2d")
    assert first.returncode == 0, first.stderr
    (told,) = events_of(first.stdout, "site_threshold")
    days = int(2 * 86_400 / 600)
    assert told["sample"] == days + 3 and told["trained"] == 0.15 and "from now on" in first.stderr
    want = 0.15 * np.quantile(scores[: told["verdicts"]], 0.9) / 0.15
    assert abs(told["threshold"] / want - 1) < 0.2 and told["threshold"] > 0.15
    for event in events_of(first.stdout, "score"):
        assert event["anomaly"] == (event["score"] > (0.15 if event["sample"] <= told["sample"] else told["threshold"]))
    # the next run goes on with it, whether calibration is asked for or not, until it is told to forget it
    (tmp_path / "y.csv").write_text((tmp_path / "x.csv").read_text() * 2)
    more = [*arguments[:3], tmp_path / "y.csv", "--scores", "--state", state]
    second = run(*more)
    resumed = events_of(second.stdout, "score")
    assert resumed[0]["sample"] > count and resumed
    assert all(event["anomaly"] == (event["score"] > told["threshold"]) for event in resumed)
    (tmp_path / "y.csv").write_text((tmp_path / "x.csv").read_text() * 3)
    third = events_of(run(*more, "--reset-threshold").stdout)
    assert third[1] == {"event": "threshold_reset", "threshold": 0.15}
    assert all(event["anomaly"] == (event["score"] > 0.15) for event in third if event["event"] == "score")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--calibrate-for 24h", "calibrate-for needs state"),
        ("--reset-threshold", "no state"),
        ("--calibrate-for soon --state STATE", "'soon' is no length of time; write 90s, 10min, 24h or 7d"),
        ("--calibrate-for 1h --threshold 2 --state STATE", "leave out one"),
        ("--adapt", "export it again"),
        ("--adapt --adapt-band 2 3", "adapt-band: give a factor up to 1 and one from 1 on"),
        ("--calibrate-for 1h --calibrate-band 0.1 0.5 --state STATE", "calibrate-band: give a factor up to 1"),
        ("--hysteresis 0.5 --threshold -1", "not above 0"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, options: str, says: str) -> None:
    model = step_file(tmp_path / "m.onnx")
    write_csv(tmp_path / "x.csv", step_samples(3, 8))
    done = run("--model", model, "--csv", tmp_path / "x.csv", *options.replace("STATE", str(tmp_path / "s")).split())
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("seconds", [0.5, 45.0, 720.0, 12_600.0, 181_440.0])
def test_lengths_of_time_read_back(seconds: float) -> None:
    assert seconds_in(duration(seconds)) == pytest.approx(seconds)
    assert seconds_in("90") == seconds_in("1.5min") == seconds_in(" 90 s") == 90
    for text in ("", "s", "-1s", "1 week", "1e3s", "nan", "10m", "९s"):
        with pytest.raises(UsageError, match="no length of time"):
            seconds_in(text)
