"""Whether the one anomaly of a series was found, and how near predictions lie to events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.evaluation.affiliation import affiliation, zones
from edgekd.evaluation.archive import ucr_reference, ucr_strict

HOP = 4


def verdicts(highest_at: int, length: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Verdicts every HOP samples, the highest at the one that is newest at sample `highest_at`."""
    samples = np.arange(HOP - 1, length, HOP)
    return samples, (samples == highest_at).astype(float)


@pytest.mark.parametrize(
    ("highest_at", "strict", "reference"),
    [
        (2003, True, True),
        (1903, True, True),  # its points' middle lies 99.5 before the anomaly of 20 points
        (1899, False, True),  # 102.5 before
        (1803, False, True),  # the reference adds 100 points twice
        (1671, False, False),
        (2119, True, True),
        (2123, False, True),
        (2219, False, True),
        (2351, False, False),
    ],
)
def test_the_highest_score_is_near_enough_to_the_anomaly(highest_at: int, strict: bool, reference: bool) -> None:
    samples, scores = verdicts(highest_at)
    assert ucr_strict(samples, scores, HOP, 2000, 2019) is strict
    assert ucr_reference(samples, scores, HOP, 2000, 2019) is reference


def test_the_reference_points_at_nothing_where_many_windows_tie() -> None:
    samples, scores = verdicts(2003)
    tied = np.where((samples > 2000) & (samples < 2060), 1.0, 0.0)
    assert ucr_reference(samples, scores, HOP, 2000, 2019)
    assert not ucr_reference(samples, tied, HOP, 2000, 2019)


def by_counting(labels: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Affiliation by its definition, point by point."""
    precisions, recalls = [], []
    for (begin, end), (low, high) in zones(labels):
        zone, event = range(low, high), range(begin, end)
        predicted = [p for p in zone if positive[p]]
        if predicted:
            away = {x: min(abs(x - e) for e in event) for x in zone}
            precisions.append(np.mean([np.mean([away[x] >= away[p] for x in zone]) for p in predicted]))
        gained = []
        for e in event:
            nearest = min((abs(e - p) for p in predicted), default=len(labels))
            gained.append(np.mean([abs(e - x) >= nearest for x in zone]))
        recalls.append(np.mean(gained))
    return (float(np.mean(precisions)) if precisions else np.nan), float(np.mean(recalls))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=4, max_size=40))
def test_affiliation_is_what_its_definition_counts(points: list[tuple[bool, bool]]) -> None:
    labels, positive = (np.array(column) for column in zip(*points))
    precision, recall, f1 = affiliation(labels, positive)
    if not labels.any():
        assert np.isnan(recall)
        return
    expected = by_counting(labels, positive)
    assert np.allclose((precision, recall), expected, equal_nan=True)
    assert 0 <= f1 <= 1


def test_affiliation_is_one_where_all_is_right_and_keeps_entities_apart() -> None:
    labels = np.zeros(100, bool)
    labels[10:20] = labels[70:75] = True
    assert affiliation(labels, labels) == (1.0, 1.0, 1.0)
    late = labels & (np.arange(100) >= 50)
    assert affiliation(labels, late, (0, 50)) == (1.0, 0.5, pytest.approx(2 / 3))  # none in the first one's zone
    assert affiliation(labels, late)[1] == 0.5
