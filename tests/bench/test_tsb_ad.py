"""TSB-AD's files: read as it reads them, refused in words, and its printed figures beside ours."""

from pathlib import Path

import numpy as np
import pytest

from bench.detection.tsb_ad import board, our_measures, series, summary
from edgekd.runtime.errors import UsageError

NAME = "001_Some_id_1_Facility_tr_2_1st_3.csv"


def test_rows_with_an_empty_cell_are_left_out_and_the_name_says_what_trains(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("a,b,Label\n1,2,0\n,3,0\n4,5,0\n6,7,1\n")
    recording, train = series(tmp_path / NAME)
    assert recording.values.tolist() == [[1, 2], [4, 5], [6, 7]]
    assert recording.labels is not None and recording.labels.tolist() == [False, False, True]
    assert (recording.sensors, train) == (("a", "b"), 2)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [("other.csv", "a,Label\n1,0\n", "not named"), (NAME, "a,b\n1,0\n", "last column is 'b'")],
)
def test_another_file_is_refused_in_words(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=words):
        series(tmp_path / name)


def test_a_detector_without_scores_counts_as_zero_as_there() -> None:
    rows = [
        {"file": "x", "detector": "d", "VUS-PR": 0.6, "sha256": "1"},
        {"file": "y", "detector": "d", "failed": "too short", "sha256": "2"},
    ]
    assert summary(rows, {"x", "y"}) == [{"detector": "d", "files": 2, "failed": 1, "VUS-PR": 0.3}]


def test_printed_figures_are_averaged_over_the_files_at_hand(tmp_path: Path) -> None:
    (tmp_path / "printed.csv").write_text("file,PCA,CNN,ts_len\nx,.2,.4,100\ny,.4,.8,100\nz,1,1,9\n")
    rows = board([tmp_path / "printed.csv"], {"x", "y"})
    assert [(row["detector"], row["files"], round(row["VUS-PR"], 6)) for row in rows] == [
        ("CNN, as printed", 2, 0.6),
        ("PCA, as printed", 2, 0.3),
    ]


def test_measures_of_a_perfect_score_are_one() -> None:
    labels = np.zeros(400, bool)
    labels[200:240] = True
    told = our_measures(labels, labels.astype(float), 0)
    assert told["AUC-PR"] == told["AUC-ROC"] == 1.0
    assert told["VUS-PR"] == pytest.approx(1.0)
