"""Measures of detection: hand-computed cases, properties, and the published implementation as the oracle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.evaluation import chance
from edgekd.evaluation.events import false_alarms, find_events, point_scores, runs
from edgekd.evaluation.metrics import (
    BestPointAdjusted,
    auc_pr,
    pa_k_auc,
    point_adjusted,
    pointwise,
    vus,
    vus_pr,
    vus_roc,
)
from edgekd.runtime.errors import UsageError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "vus.json").read_text())


def mask(text: str) -> np.ndarray:
    """bool (T,) from a drawing: "..##." """
    return np.array([c == "#" for c in text])


@st.composite
def labeled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both kinds, and whole-number scores with ties."""
    n = draw(st.integers(8, 90))
    labels = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    labels[draw(st.integers(0, n // 2 - 1))] = True
    labels[draw(st.integers(n // 2, n - 1))] = False
    scores = np.array(draw(st.lists(st.integers(0, 40), min_size=n, max_size=n)), float)
    return labels, scores


# --- volume under the surface


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_vus_equals_the_published_implementation(case: dict) -> None:
    scores = np.array(case["scores"])
    labels = np.zeros(len(scores), bool)
    for begin, end in case["segments"]:
        labels[begin:end] = True
    assert vus_pr(labels, scores, case["max_buffer"]) == pytest.approx(case["vus_pr"], abs=1e-12)
    assert vus_roc(labels, scores, case["max_buffer"]) == pytest.approx(case["vus_roc"], abs=1e-12)


def test_perfect_scores_give_one() -> None:
    labels = np.zeros(3000, bool)
    labels[100:140] = labels[2000:2001] = labels[2500:2800] = True
    assert vus(labels, labels) == pytest.approx((1.0, 1.0))
    assert auc_pr(labels, labels) == 1.0
    assert BestPointAdjusted(labels, labels).auc_over_k() == pytest.approx(1.0)


def test_random_scores_lie_near_the_base_rate() -> None:
    labels = np.zeros(20_000, bool)
    labels[4000:5000] = True
    found = [(auc_pr(labels, s), *vus(labels, s)) for s in (chance.random_scores(20_000, seed) for seed in range(5))]
    pr, volume_pr, volume_roc = np.mean(found, axis=0)
    assert pr == pytest.approx(0.05, abs=0.01)
    assert volume_pr == pytest.approx(0.05, abs=0.01)
    assert volume_roc == pytest.approx(0.5, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(labeled(), st.integers(0, 30))
def test_ranking_measures_see_only_the_order(case: tuple[np.ndarray, np.ndarray], max_buffer: int) -> None:
    labels, scores = case
    bent = np.expm1(scores / 7) - 3
    assert vus(labels, bent, max_buffer) == pytest.approx(vus(labels, scores, max_buffer))
    assert auc_pr(labels, bent) == pytest.approx(auc_pr(labels, scores))
    assert BestPointAdjusted(labels, bent).f1(20) == BestPointAdjusted(labels, scores).f1(20)


def test_a_late_alarm_counts_within_the_buffer_only() -> None:
    labels = mask("." * 200 + "#" * 20 + "." * 200)
    late, too_late = np.roll(labels, 20), np.roll(labels, 120)
    assert auc_pr(labels, late) == pytest.approx(auc_pr(labels, too_late))
    assert vus_pr(labels, late) > 3 * vus_pr(labels, too_late)


def test_no_buffer_and_no_segment_crosses_an_entity_boundary() -> None:
    labels = mask("." * 100 + "#" * 40 + "." * 60)
    scores = np.zeros(200)
    scores[140:190] = 1  # alarms right after the boundary, in an entity without any anomaly
    assert vus_pr(labels, scores, 100, starts=(0, 140)) < 0.9 * vus_pr(labels, scores, 100)
    split = vus(labels, scores + labels, 100, starts=(0, 120))
    assert np.isfinite(split).all()
    assert runs(labels, (0, 120)).tolist() == [[100, 120], [120, 140]]


@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        (np.zeros(9, bool), np.arange(9.0), "same label"),
        (mask("..#"), np.array([1.0, np.nan, 2.0]), "score 1 is not finite"),
        (mask("..#"), np.arange(4.0), "one score for each point"),
    ],
)
def test_what_cannot_be_ranked_is_refused(labels: np.ndarray, scores: np.ndarray, says: str) -> None:
    for measure in (vus_pr, vus_roc, auc_pr, BestPointAdjusted):
        with pytest.raises(UsageError, match=says):
            measure(labels, scores)


# --- point adjustment


def test_point_adjustment_by_hand() -> None:
    labels = mask("..####..####....")
    alarm_ = mask("...#....####.#..")
    plain = pointwise(labels, alarm_)
    assert (plain.true_positive, plain.false_positive, plain.false_negative) == (5, 1, 3)
    assert (plain.precision, plain.recall, plain.f1) == pytest.approx((5 / 6, 5 / 8, 10 / 14))
    assert point_adjusted(labels, alarm_).f1 == pytest.approx(16 / 17)  # both segments found in full
    assert point_adjusted(labels, alarm_, k_percent=24).f1 == pytest.approx(16 / 17)
    assert point_adjusted(labels, alarm_, k_percent=25).f1 == plain.f1  # more than k, not k itself
    # K = 0 ... 24 adjust, 25 ... 100 do not; trapezoids
    assert pa_k_auc(labels, alarm_) == pytest.approx(0.245 * 16 / 17 + 0.755 * 10 / 14)


def test_point_adjustment_stops_at_an_entity_boundary() -> None:
    labels, alarm_ = mask("..####.."), mask("..#.....")
    assert point_adjusted(labels, alarm_).true_positive == 4
    assert point_adjusted(labels, alarm_, starts=(0, 4)).true_positive == 2


@settings(max_examples=80, deadline=None)
@given(labeled(), st.sampled_from([0, 7, 20, 50, 99, 100]), st.integers(2, 80))
def test_the_best_threshold_is_the_best_of_all(case: tuple[np.ndarray, np.ndarray], k: int, start: int) -> None:
    labels, scores = case
    starts = (0, start) if start < len(labels) else (0,)
    each = [point_adjusted(labels, scores >= level, starts, k).f1 for level in np.unique(scores)]
    assert BestPointAdjusted(labels, scores, starts).f1(k) == pytest.approx(max(each))


def test_no_alarm_at_all() -> None:
    labels, never = mask("..##.."), np.zeros(6, bool)
    assert (pointwise(labels, never).f1, point_adjusted(labels, never).f1, pa_k_auc(labels, never)) == (0, 0, 0)


# --- verdicts, events, alarms


def test_a_verdict_speaks_for_its_newest_hop() -> None:
    # two entities of 8 and 6 samples, hop 3, the first verdict of each after two hops
    points, scored = point_scores(np.array([5, 13]), np.array([2.0, 1.0]), 3, 14, (0, 8))
    assert scored.nonzero()[0].tolist() == [3, 4, 5, 11, 12, 13]
    assert points[scored].tolist() == [2, 2, 2, 1, 1, 1]
    assert (points[~scored] < 1).all() and np.isfinite(points).all()
    # a verdict right after a boundary says nothing of the entity before; of two that overlap the later one counts
    _, scored = point_scores(np.array([8]), np.array([1.0]), 3, 14, (0, 8))
    assert scored.nonzero()[0].tolist() == [8]
    points, _ = point_scores(np.array([4, 6]), np.array([9.0, 1.0]), 4, 8)
    assert points[1:7].tolist() == [9, 9, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("samples", "scores", "says"),
    [
        ([], [], "shorter than the model's warm-up"),
        ([3, 2], [1, 1], "ascend"),
        ([3, 10], [1, 1], r"\[0, 10\)"),
        ([3], [1, 2], "one score for each"),
        ([3], [float("inf")], "sample 3 is not finite"),
    ],
)
def test_verdicts_that_do_not_fit_are_refused(samples: list, scores: list, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        point_scores(np.array(samples, int), np.array(scores, float), 2, 10)


def test_events_and_delays_by_hand() -> None:
    #             0    5    10   15   20   25
    labels = mask("....##########......##....####")
    samples = np.arange(4, 30, 5)  # verdicts at 4, 9, 14, 19, 24, 29 for hops of 5
    positive = np.array([False, True, True, True, False, False])
    events = find_events(labels, samples, positive, 5)
    assert events.segments.tolist() == [[4, 14], [20, 22], [26, 30]]
    assert events.alarms.tolist() == [9, -1, -1]
    assert events.recall == pytest.approx(1 / 3)
    assert events.delays.tolist() == [5]  # known at sample 9, begun at 4
    split = find_events(labels, samples, positive, 5, starts=(0, 10))
    assert split.alarms.tolist() == [9, 14, -1, -1]


def test_false_alarms_by_hand() -> None:
    #             0    5    10   15   20   25   30
    labels = mask("..........#####................")
    samples = np.arange(0, 31)  # hop 1
    alarm_ = mask(".##...#..########..#...........")
    alarms = false_alarms(labels, samples, alarm_, 1, 60.0, 31)
    # 1-2, 6, 9 before the event; 15-16 after it, which goes on from inside; 19
    assert (alarms.episodes, alarms.trailing) == (5, 1)
    assert alarms.normal_days == pytest.approx(26 * 60 / 86400)
    assert alarms.per_day == pytest.approx(5 / (26 * 60 / 86400))
    assert alarms.normal_share == pytest.approx(7 / 26)
    # an entity boundary ends an alarm: the second half of 1-2 is an alarm of its own
    assert false_alarms(labels, samples, alarm_, 1, 60.0, 31, (0, 2)).episodes == 6
    # without labels all time is normal
    assert false_alarms(None, samples, alarm_, 1, 60.0, 31).episodes == 4


def test_a_verdict_that_straddles_an_event_is_no_false_alarm() -> None:
    labels = mask(".......###..........")
    alarms = false_alarms(labels, np.array([4, 9, 14, 19]), np.array([False, True, True, False]), 5, 1.0, 20)
    assert (alarms.episodes, alarms.trailing) == (1, 1)
    assert alarms.normal_share == pytest.approx(5 / 15)


# --- chance


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=80), st.integers(0, 99))
def test_relaid_labels_keep_their_segments(bits: list[bool], seed: int) -> None:
    labels = np.array(bits)
    laid = chance.relaid_labels(labels, seed)
    assert laid.shape == labels.shape and laid.sum() == labels.sum()
    ring, laid_ring = (np.diff(np.append(x, x[0]).astype(int)) == 1 for x in (labels, laid))
    assert laid_ring.sum() == ring.sum()  # as many segments, seen as a ring


def test_random_alarms_are_as_many_as_the_detectors() -> None:
    scores = chance.random_scores(50, 3)
    chosen = chance.same_share(scores, 7)
    assert chosen.sum() == 7 and scores[chosen].min() > scores[~chosen].max()
    assert not chance.same_share(scores, 0).any()
