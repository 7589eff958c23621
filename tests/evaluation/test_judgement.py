"""What `edgekd evaluate` says to a plant: faults found by any alarm, when, how many false ones, and its judgement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgekd.data.marks import Mark, labeled
from edgekd.data.recording import Recording
from edgekd.evaluation.judgement import CHANCE, FEW, GOOD, UNCOMPARED, YARDSTICK, Judgement, judge, sign_test
from edgekd.evaluation.score_model import ModelScores
from edgekd.evaluation.words import judged_in_words
from edgekd.runtime.detector import StuckChange

HOP, LENGTH = 10, 14_400  # ten days, a sample a minute
FAULTS = tuple((2000 + 1200 * k, 2100 + 1200 * k) for k in range(10))


def plant(faults: tuple[tuple[int, int], ...] = FAULTS, shift: float = 0.0) -> Recording:
    """Noise, and faults that no Mahalanobis distance sees, unless they shift the sensors."""
    values, labels = np.random.default_rng(0).normal(size=(LENGTH, 3)), np.zeros(LENGTH, bool)
    for begin, end in faults:
        labels[begin:end] = True
        values[begin:end] += shift
    return Recording(
        values.astype(np.float32), ("flow", "load", "heat"), 60.0, labels, times_s=1.7e9 + 60.0 * np.arange(LENGTH)
    )


def scores(of: Recording, alarms: dict[int, int], **more: object) -> ModelScores:
    """A model whose score alarms from each sample for so many verdicts."""
    samples = np.arange(HOP - 1, len(of), HOP)
    found = np.full(len(samples), 0.5)
    for at, count in alarms.items():
        found[(samples >= at) & (samples < at + count * HOP)] = 2.0
    shares = np.outer(found, [0.2, 0.5, 0.3]).astype(np.float32)
    return ModelScores("a model", of, samples, found, shares, 1.0, "a rule", HOP, **more)  # type: ignore[arg-type]


def outcome(of: Recording, alarms: dict[int, int]) -> tuple[str | None, Judgement]:
    """Judged beside a Mahalanobis distance of the recording's beginning, as an exported file is."""
    judged = judge(scores(of, alarms), 1.0)
    return judged.outcome, judged


def test_alarms_that_nobody_marked_are_told() -> None:
    def mark(first: int, last: int, true: bool) -> Mark:
        return Mark(1.7e9 + 60 * first, 1.7e9 + 60 * last, true)

    def words(*marks: Mark) -> str:
        of = labeled(replace(plant(()), labels=None), marks)
        return " ".join(judged_in_words(judge(scores(of, {300: 2, 600: 2, 900: 2}), 1.0), of, marks))

    true, false = mark(300, 320, True), mark(600, 620, False)
    assert "2 in 10 days of normal operation). Nobody marked 1 of these 2; they count as false" in words(true, false)
    assert "Nobody marked 2 of these 3; they count as false until they are marked true." in words(false)
    assert "Nobody" not in words(true, false, mark(900, 920, False)) and "Nobody" not in words()


def test_every_kind_of_alarm_counts() -> None:
    of = plant()
    slow = np.full(LENGTH // HOP, 0.5)
    slow[(FAULTS[0][1] + 100) // HOP : (FAULTS[1][0] + 50) // HOP] = 1.5  # a trail of the first, open when one begins
    slow[(FAULTS[3][0] + 40) // HOP : (FAULTS[3][1]) // HOP] = 1.5
    stuck = StuckChange(FAULTS[4][0] + 60, "heat", True, 1.0, FAULTS[4][0] + 20)
    judged = judge(scores(of, {FAULTS[2][0] + 20: 3, 300: 1}, slow=slow, stuck=(stuck,)), 1.0)
    assert judged.found_by == {"score": 1, "stuck": 1, "slow": 1}
    assert [begin for begin, _ in judged.missed] == [begin for i, (begin, _) in enumerate(FAULTS) if i not in (2, 3, 4)]
    assert judged.false_alarms == 1  # what trails after a fault is none
    assert judged.delay_median_s == pytest.approx(60 * 49) and judged.delay_max_s == pytest.approx(60 * 60)
    first, second, third, _ = judged_in_words(judged, of)
    assert first.startswith("3 of 10 faults found (1 only as a stuck sensor, 1 only by slow alarms); by chance ")
    assert second.startswith("Typical delay 49 minutes, longest 60 minutes; missed: 2023-11-16 07:33, ")
    assert second.endswith(" and 2 more.")
    assert third == "0.11 false alarms a day (1 in 9.3 days of normal operation)."


def test_alarms_where_faults_are_beat_chance_and_others_do_not() -> None:
    at_faults = {begin + 20: 2 for begin, _ in FAULTS}
    assert outcome(plant(), at_faults)[0] == GOOD
    everywhere = dict.fromkeys(range(15, LENGTH, 60), 2)
    found, judged = outcome(plant(), everywhere)
    assert found == CHANCE and judged.found == 10 and judged.by_chance > 9.5


def test_a_fault_that_every_sensor_shows_needs_no_network() -> None:
    of = plant(shift=30.0)
    found, judged = outcome(of, {begin + 20: 2 for begin, _ in FAULTS})
    assert found == YARDSTICK and judged.yardstick is not None and judged.yardstick.found == 10
    words = judged_in_words(judged, of)[-1]
    assert words.startswith("Judgement: no better than a Mahalanobis distance of this recording's first 2,000 samples")


def test_a_recording_that_begins_with_a_fault_has_nothing_to_compare_with() -> None:
    of = plant(((0, 60), *FAULTS))
    found, judged = outcome(of, {begin + 20: 2 for begin, _ in FAULTS})
    assert found == UNCOMPARED
    assert "no normal samples" in judged_in_words(judged, of)[-1]


def test_two_faults_decide_nothing() -> None:
    of = plant(FAULTS[:2])
    found, judged = outcome(of, {begin + 20: 2 for begin, _ in FAULTS[:2]})
    assert found == FEW
    assert judged_in_words(judged, of)[-1] == "Judgement: 2 faults decide nothing; judge it by 5 or more."


def test_nobody_looks_into_twenty_alarms_a_day() -> None:
    of = plant()
    found, judged = outcome(of, {300: 1} | {begin + 20: 2 for begin, _ in FAULTS})
    assert found == GOOD and judged.false_alarms == 1
    in_an_hour = replace(judged, normal_days=1 / 20)
    assert "good, but nobody looks into so many false alarms" in judged_in_words(in_an_hour, of)[-1]


def test_without_labels_the_alarms_are_told() -> None:
    of = replace(plant(), labels=None)
    judged = judge(scores(of, {2020: 2, 5000: 1}), 1.0)
    words = judged_in_words(judged, of)
    assert words[0] == "2 alarms in 10 days, 0.2 a day."
    assert words[1] == "They come at 2023-11-16 08:02 (load) and 2023-11-18 09:42 (load)."
    assert "no labels" in words[2] and judged.outcome is None
    unclocked = replace(of, times_s=None)
    assert judged_in_words(judged, unclocked)[1] == "They come at samples 2,029 (load) and 5,009 (load)."
    assert judged_in_words(judge(scores(of, {}), 1.0), of)[0] == "No alarm in 10 days."


def test_the_sign_test() -> None:
    assert sign_test(4, 0) == 1 / 16 and sign_test(5, 0) == 1 / 32 and sign_test(0, 0) == 1
