"""What another setting would have told is what a device with that setting tells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgekd.blocks.threshold import told_episodes
from edgekd.evaluation.settings import Setting, Verdicts, best, written
from edgekd.runtime.detector import Verdict
from edgekd.runtime.duration import seconds_in
from edgekd.runtime.episodes import Episodes, Onset

HOP = 5
NOBODY = np.zeros(0, np.float32)


def verdicts(scores: list[float], faults: Sequence[tuple[int, int]] = (), starts: tuple[int, ...] = (0,)) -> Verdicts:
    """A verdict each hop; faults as [first, last] verdict."""
    segments = np.array([[HOP * first, HOP * (last + 1)] for first, last in faults], np.int64).reshape(-1, 2)
    return Verdicts(HOP * np.arange(1, len(scores) + 1) - 1, np.array(scores, float), HOP, segments, starts)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=120), st.integers(0, 9), st.integers(0, 4), st.integers(0, 8))
def test_alarms_are_those_of_a_device(scores: list[int], threshold: int, min_hops: int, cooldown_hops: int) -> None:
    samples = HOP * np.arange(1, len(scores) + 1) - 1
    device = Episodes(min_hops * HOP, cooldown_hops * HOP)
    turns = [
        device.update(Verdict(sample, score, threshold, score > threshold, NOBODY, ()))
        for sample, score in zip(samples.tolist(), scores)
    ]
    told = [(turn.start, turn.verdict.sample) for turn in turns if isinstance(turn, Onset)]
    positive = samples[np.array(scores) > threshold]
    episodes = told_episodes(positive, HOP, min_hops=min_hops, cooldown_hops=cooldown_hops)
    assert [(first, at) for first, at, _ in episodes] == told


def test_nothing_outlasts_an_entity() -> None:
    scores = [0.0, 9, 9, 9, 9, 0]
    assert verdicts(scores).outcome(Setting(1)).alarms == 1
    assert verdicts(scores, starts=(0, 3 * HOP)).outcome(Setting(1)).alarms == 2


def test_faults_are_found_in_time_or_late_and_the_rest_is_false() -> None:
    scores = [0.0, 5, 0, 0, 0, 0, 0, 0, 9, 9, 9, 0]
    found = verdicts(scores, [(1, 1), (7, 9)])
    at_once, patient = found.outcome(Setting(1)), found.outcome(Setting(1, min_hops=2))
    assert at_once.told_at.tolist() == [2 * HOP - 1, 9 * HOP - 1] and at_once.false_alarms == 0
    assert patient.told_at.tolist() == [-1, 11 * HOP - 1] and patient.alarms == 1 and not patient.false_alarms
    assert verdicts(scores, [(8, 9)]).outcome(Setting(1)).false_alarms == 1


def test_advice_loses_no_true_alarm() -> None:
    scores = [0.0] * 400
    scores[50:60] = [6.0] * 10
    scores[200:210] = [8.0] * 10
    for at in range(100, 400, 30):
        scores[at] = 3.0  # false ones, low
    high = verdicts(scores, [(50, 59), (200, 209)])
    chosen = best(high, Setting(1.0))
    assert chosen is not None and chosen.min_hops == 0 and 3 < chosen.threshold < 6
    for at in range(100, 400, 30):
        scores[at] = 30.0  # false ones, high and short
    chosen = best(verdicts(scores, [(50, 59), (200, 209)]), Setting(1.0))
    assert chosen is not None and chosen.min_hops == 1 and chosen.threshold < 6


def test_there_is_no_advice_where_nothing_is_gained_or_nothing_true_is_known() -> None:
    scores = [0.0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0]
    assert best(verdicts(scores, [(1, 1), (10, 10)]), Setting(1.0)) is None
    assert best(verdicts(scores), Setting(1.0)) is None


def test_settings_are_written_as_options_read_them() -> None:
    assert Setting(0.12345678, 3, 60).options(60) == {"threshold": "0.123457", "min-duration": "3min", "cooldown": "1h"}
    assert Setting(2.0).options(1) == {"threshold": "2"}
    for seconds in (0.5, 90, 86_400, 5400.5, 604_800):
        assert seconds_in(written(seconds)) == seconds
