"""Whether the one anomaly of a series was found, and how near predictions lie to events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from edgekd.data import load
from edgekd.evaluation.affiliation import affiliation, best_affiliation
from edgekd.evaluation.events import runs
from edgekd.evaluation.report import evaluate_scores
from edgekd.evaluation.table import render
from edgekd.evaluation.ucr_score import ucr_reference, ucr_strict

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


@pytest.mark.parametrize(("highest_at", "answers"), [(2003, ["yes", "yes"]), (1803, ["no", "yes"])])
def test_a_series_of_the_archive_is_answered_by_both_rules(tmp_path: Path, highest_at: int, answers: list[str]) -> None:
    path = tmp_path / "999_UCR_Anomaly_wave_1000_2000_2019.txt"
    path.write_text("\n".join(f"{value:.6f}" for value in np.sin(np.arange(4000) / 9)))
    console = Console(width=100, record=True, file=(tmp_path / "said").open("w"))
    console.print(render(evaluate_scores(load(str(path)), *verdicts(highest_at), threshold=0.5, hop=HOP)))
    said = console.export_text().splitlines()
    lines = [line for line in said if line.startswith(("points at the event", "  or less strictly"))]
    assert [next(word for word in line.split() if word in ("yes", "no")) for line in lines] == answers


def by_counting(labels: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Affiliation by its definition, point by point."""
    precisions, recalls = [], []
    events = [range(begin, end) for begin, end in runs(labels)]

    def nearest_event(point: int) -> int:  # the later one where two are as near
        return min((min(abs(point - e) for e in event), -number) for number, event in enumerate(events))[1]

    for number, event in enumerate(events):
        zone = [point for point in range(len(labels)) if nearest_event(point) == -number]
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


def test_the_best_threshold_for_affiliation_is_one_that_the_reference_searches() -> None:
    labels = np.zeros(8000, bool)
    labels[3000:3100] = labels[6000:6040] = True
    samples = np.arange(HOP - 1, 8000, HOP)
    scores = np.random.default_rng(0).random(2000)
    scores[[755, 1505]] = 3, 2  # the two highest lie in the two events
    _, recall, f1 = best_affiliation(labels, samples, scores, HOP)
    assert recall > 0.95 and f1 > 0.95
    scores[:100] = 4  # more than the .3 % of the verdicts that may alarm
    assert best_affiliation(labels, samples, scores, HOP)[2] < 0.5
