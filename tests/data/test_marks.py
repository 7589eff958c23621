"""What people said of alarms becomes labels, and is left out of training."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekd.data import Recording
from edgekd.data.marks import labeled, read_marks, without_faults
from edgekd.runtime.errors import UsageError

NOON_S = 1_767_614_400.0  # 2026-01-05 12:00 UTC
HEADER = "stream,start,end,mark,note\n"


@pytest.fixture
def recording() -> Recording:
    """Twenty minutes from noon on, in two entities."""
    values = np.arange(20, dtype=np.float32)[:, None]
    times_s = NOON_S + 60.0 * np.arange(20)
    return Recording(values, ("s",), 60.0, times_s=times_s, starts=(0, 12), entities=("a", "b"), source="x.csv")


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    path = tmp_path / "marks.csv"
    path.write_text(
        HEADER
        + 'p,2026-01-05T12:02:00Z,2026-01-05T12:05:00Z,true,"leak, at last"\n'
        + "p,2026-01-05T13:04:00+01:00,2026-01-05T12:07:00.4Z,false,\n"
        + "p,2026-01-05T12:15:00,2026-01-05T12:15:00,true,\n"
        + "p,2027-01-05T12:15:00Z,2027-01-05T12:15:00Z,true,\n"
    )
    return path


def test_true_marks_are_labels_and_later_marks_win(recording: Recording, marks: Path) -> None:
    before = replace(recording, labels=np.arange(20) == 7)
    found = labeled(before, read_marks(str(marks)))
    assert found.labels is not None and np.flatnonzero(found.labels).tolist() == [2, 3, 15]
    span = "2026-01-05 12:00 to 2026-01-05 12:19 UTC"
    assert found.notes == (f"1 of 4 marks are of another time than the recording, {span}",)
    assert before.labels is not None and before.labels.sum() == 1


def test_true_marks_are_cut_out_of_training(recording: Recording, marks: Path) -> None:
    left = without_faults(recording, read_marks(str(marks)))
    assert left.values[:, 0].tolist() == [*range(0, 2), *range(4, 15), *range(16, 20)]
    assert left.starts == (0, 2, 10, 13) and left.entities == ("a", "a", "b", "b") and left.labels is None
    assert left.notes[-1] == "3 samples are marked true and left out"


def test_only_the_marks_of_one_stream_count(marks: Path) -> None:
    assert len(read_marks(f"{marks}#p")) == 4
    with marks.open("a") as file:
        file.write("q,2026-01-05T12:15:00Z,2026-01-05T12:15:00Z,true,\n")
    with pytest.raises(UsageError, match=r"marks of p, q; say which with .*marks.csv#STREAM"):
        read_marks(str(marks))
    assert len(read_marks(f"{marks}#q")) == 1
    with pytest.raises(UsageError, match="none of r; say which"):
        read_marks(f"{marks}#r")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", "is no file of marks; its first line is stream,start"),
        ("", "is no file of marks"),
        (HEADER + "p,yesterday,2026-01-05T12:05:00Z,true,\n", "line 2: 'yesterday' is no time; write it as 2026"),
        (
            HEADER + "p,2026-01-05T12:05:00Z,2026-01-05T12:05:00Z,perhaps,\n",
            "'perhaps' is no mark; write true",
        ),
        (HEADER + "p,2026-01-05T12:05:00Z,2026-01-05T12:04:00Z,true,\n", "ends before it starts"),
        (HEADER + "p\n", "line 2: '' is no time"),
    ],
)
def test_what_is_no_mark_is_told(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "marks.csv"
    path.write_text(content)
    with pytest.raises(UsageError, match=said):
        read_marks(str(path))


def test_the_page_s_zip_file_is_to_be_unpacked(tmp_path: Path, marks: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.write(marks, "marks.csv")
    with pytest.raises(UsageError, match=r"p\.zip: is the page's ZIP file; unpack it and give the marks\.csv in it"):
        read_marks(str(tmp_path / "p.zip"))


def test_a_recording_without_dates_takes_no_marks(recording: Recording, marks: Path) -> None:
    with pytest.raises(UsageError, match=r"x.csv: has no dates"):
        labeled(replace(recording, times_s=None), read_marks(str(marks)))
