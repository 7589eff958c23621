"""A threshold for a budget of false alarms a day."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekd.blocks.step import Scores
from edgekd.blocks.threshold import RATES, calibrate, count_alarms, thresholds, unseen
from edgekd.checkpoint import Checkpoint
from edgekd.distillation import distill
from edgekd.evaluation.budget import at_budgets
from edgekd.evaluation.score_model import score_model
from edgekd.export import export
from edgekd.runtime.detector import Detector, Verdict
from edgekd.runtime.episodes import COOLDOWN_HOPS, Episodes, Onset
from edgekd.runtime.errors import UsageError
from edgekd.simulation.simulate import simulate

HOP = 10
VERDICTS_A_DAY = 144


def drawn(verdicts: int, seed: int) -> Scores:
    """Log scores with exponential tails that last a few verdicts, as overlapping windows make them."""
    noise = np.random.default_rng(seed).exponential(size=verdicts + 2)
    scores = np.exp(0.3 * np.maximum.reduce([noise[:-2], noise[1:-1], noise[2:]])).astype(np.float32)
    return Scores(np.arange(1, verdicts + 1) * HOP - 1, scores, np.zeros((verdicts, 0)))


def alarms_a_day(threshold: float, scores: Scores) -> float:
    return count_alarms(scores.samples[scores.scores > threshold], HOP) / (len(scores.scores) / VERDICTS_A_DAY)


def test_alarms_are_counted_as_the_device_tells_them() -> None:
    anomalous = np.random.default_rng(0).random(2000) < 0.2
    samples = np.arange(2000) * HOP
    episodes = Episodes(cooldown_samples=COOLDOWN_HOPS * HOP)
    turns = [
        episodes.update(Verdict(sample, float(anomaly), 0.5, anomaly, np.zeros(0), ()))
        for sample, anomaly in zip(samples.tolist(), anomalous.tolist())
    ]
    assert count_alarms(samples[anomalous], HOP) == sum(isinstance(turn, Onset) for turn in turns) > 100


def test_a_budget_holds_on_data_that_set_nothing() -> None:
    found = thresholds(drawn(40 * VERDICTS_A_DAY, 0), 40.0, HOP)
    for rate in (5, 1, 0.5, 0.1):
        measured = alarms_a_day(float(found[RATES.index(rate)]), drawn(400 * VERDICTS_A_DAY, 1))
        assert rate / 2 < measured < 2 * rate, rate


def test_rates_beyond_the_data_are_extrapolated_not_far() -> None:
    short = drawn(VERDICTS_A_DAY, 0)
    found = thresholds(short, 1.0, HOP)
    assert (np.diff(found) >= 0).all()
    assert short.scores.max() < found[-1] < short.scores.max() ** 2
    assert found[0] >= np.quantile(short.scores, 0.85)  # nor an alarm that never ends, where many are asked for


def test_cross_fitted_scores_set_the_threshold_too() -> None:
    recording = replace(simulate(samples=2000, sensors=3, seed=0, faults=()).recording, period_s=600.0)
    scores = drawn(200, 0)
    kept_aside = Scores(scores.samples[180:], scores.scores[180:], scores.contributions[180:])
    alone = calibrate(kept_aside, recording, HOP)
    normal = Scores(scores.samples[:180], 10 * scores.scores[:180], scores.contributions[:180])
    both = calibrate(unseen(kept_aside, normal), recording, HOP)
    assert both["value"] > 5 * alone["value"]
    assert "cross-fitted" in both["data"]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("budget") / "student.pt"
    distill(simulate(samples=9000, sensors=4, seed=0, faults=()).recording, path, method="linear")
    return path


def test_a_device_takes_another_budget_without_another_file(student: Path, tmp_path: Path) -> None:
    file = export(Checkpoint.load(student), tmp_path / "own.onnx").path
    asked = Checkpoint.load(student)
    asked.set_budget(0.2)
    for_rare = export(asked, tmp_path / "rare.onnx")
    own, rare = Detector.load(file), Detector.load(file, false_alarms_per_day=0.2)
    assert rare.threshold == pytest.approx(for_rare.manifest.threshold.value)
    assert rare.threshold > own.threshold == Detector.load(file, false_alarms_per_day=1.0).threshold
    for wrong in (0.0, 1e-6, 1000.0, float("nan")):
        with pytest.raises(UsageError, match=r"this model knows 0\.01 to 24"):
            Detector.load(file, false_alarms_per_day=wrong)


def test_a_file_without_points_refuses_a_budget() -> None:
    old = Path(__file__).parents[1] / "compat" / "0.1.0" / "student.onnx"
    with pytest.raises(UsageError, match="has but one threshold"):
        Detector.load(old, false_alarms_per_day=1.0)


def test_int8_moves_every_point_as_the_threshold(tmp_path: Path, tiny_student: Path) -> None:
    done = export(Checkpoint.load(tiny_student), tmp_path / "int8.onnx", int8="default", force=True)
    before, after = done.float.manifest.threshold, done.manifest.threshold
    factor = after.value / before.value
    assert [value for _, value in after.points] == pytest.approx([factor * value for _, value in before.points])
    assert len(after.points) == len(RATES)


def test_a_student_and_its_file_say_the_same_of_budgets(student: Path, tmp_path: Path) -> None:
    recording = simulate(samples=4000, sensors=4, seed=5).recording
    file = export(Checkpoint.load(student), tmp_path / "s.onnx").path
    rows, same = (at_budgets(score_model(model, recording)) for model in (student, file))
    assert [row.found for row in rows] == [row.found for row in same]
    assert [row.false_alarms for row in rows] == [row.false_alarms for row in same]
    assert [row.per_day for row in rows] == [0.1, 1.0, 10.0]
    assert rows[0].found <= rows[-1].found > 0


def test_severity_is_the_score_in_thresholds() -> None:
    def severity(score: float, threshold: float) -> float | None:
        return Verdict(0, score, threshold, score > threshold, np.zeros(0), ()).severity

    assert severity(6.0, 4.0) == 1.5
    assert severity(3e38, 1e-300) is not None and np.isfinite(severity(3e38, 1e-300) or np.nan)
    assert severity(1.0, 0.0) is severity(1.0, -2.0) is None


def test_a_network_s_threshold_rests_on_all_of_the_recording_and_says_what_trained_it(tiny_student: Path) -> None:
    """5 % of two weeks hold less than a day: too little for one alarm a day, as for one in ten."""
    checkpoint = Checkpoint.load(tiny_student)
    verdicts = checkpoint.data["samples"] * 0.95 / checkpoint.step().hop
    assert checkpoint.data["threshold_scores"] > 0.8 * verdicts
    assert checkpoint.threshold["data"].endswith("of each entity, of which the first 90% trained the detector")
    teacher = Checkpoint.load(tiny_student.with_name("student-teacher.pt"))
    assert teacher.data["threshold_scores"] < 0.2 * verdicts
