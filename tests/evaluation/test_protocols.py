"""Published and label-free protocols against what they say, written out as loops."""

import numpy as np
import pytest

from edgekd.evaluation.events import false_alarms, runs
from edgekd.evaluation.mscred_count import best_rule, exceedances
from edgekd.evaluation.protocols import threshold_at_rate

HOP, LENGTH = 5, 400


@pytest.fixture
def labels():
    marked = np.zeros(LENGTH, bool)
    for begin, end in ((40, 63), (120, 124), (300, 352)):
        marked[begin:end] = True
    return marked


def adjusted_f1(labels, positive):
    adjusted = positive.copy()
    for begin, end in runs(labels):
        adjusted[begin:end] |= positive[begin:end].any()
    return 2 * np.sum(adjusted & labels) / (np.sum(adjusted) + np.sum(labels))


def test_counting_is_a_double_loop_over_elements_and_thetas():
    rng = np.random.default_rng(0)
    squared = rng.exponential(0.01, (4, 6, 6)).astype(np.float32)
    squared[0, 0, 0] = np.float32(0.005)  # not above itself
    thetas = np.array([np.float32(0.005), 0.02, 1.0])
    naive = [[sum(element > theta for element in window.ravel()) for theta in thetas] for window in squared]
    assert exceedances(squared, thetas).tolist() == naive


def test_best_rule_is_the_best_of_all_pairs_of_thresholds(labels):
    rng = np.random.default_rng(1)
    samples = np.arange(29, LENGTH, HOP)  # the first 25 points have no window
    touching = np.array([labels[sample - HOP + 1 : sample + 1].any() for sample in samples])
    counts = rng.integers(0, 30, (len(samples), 3)) + 8 * touching[:, None] * np.array([0, 1, 2])
    f1 = {}
    for column in range(3):
        for k in np.unique(counts[:, column]):
            positive = np.zeros(LENGTH, bool)
            for sample, count in zip(samples, counts[:, column]):
                positive[sample - HOP + 1 : sample + 1] = count > k
            f1[float(column), float(k)] = adjusted_f1(labels, positive)
    found = best_rule(labels, samples, counts, np.arange(3.0), HOP)
    assert found.f1 == pytest.approx(max(f1.values()))
    assert f1[found.theta, found.k] == pytest.approx(found.f1)


@pytest.mark.parametrize("starts", [(0,), (0, 113, 250)])
def test_threshold_at_a_rate_is_where_a_falling_threshold_first_alarms_too_often(labels, starts):
    rng = np.random.default_rng(2)
    samples = np.arange(29, LENGTH, HOP)
    scores = np.round(rng.random(len(samples)), 2)  # with ties
    period_s = 86_400.0 / 40  # ten days
    naive = -np.inf
    for level in np.unique(scores)[::-1]:
        if false_alarms(labels, samples, scores >= level, HOP, period_s, LENGTH, starts).per_day > 1.0:
            naive = level
            break
    assert threshold_at_rate(labels, samples, scores, HOP, period_s, starts) == naive
    assert np.isfinite(naive)
