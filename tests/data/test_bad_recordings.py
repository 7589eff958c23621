"""A file that cannot be used is refused in one line: what is wrong, where, and what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.data import load
from edgekd.runtime.errors import EdgeKDError, RecordingError, UsageError

LONG = "a,b\n" + "1,2\n" * 100
ROWS = [f"{i},{'' if 150 <= i < 251 else i}" for i in range(2000)]


def refusal(*args: object, **kwargs: object) -> str:
    with pytest.raises(UsageError) as caught:
        load(*args, **kwargs)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


BAD_CSV = {
    "empty file": ("", ["empty"]),
    "header only": ("a,b\n", ["no rows"]),
    "dead in one entity": (
        "entity,a\n" + "x,1\n" * 40 + "y,\ny,\n",
        ["a (no value at all from line 42 to line 43)", "--sensors"],
    ),
    "no sensors": ("time,label\n0,1\n", ["no sensor columns"]),
    "unreadable time": ("time,a\n0,1\nyesterday,2\n", ["'yesterday'", "line 3", "--time-column none"]),
    "clock without a value": ("time,a\n0,1\nnan,2\n", ["line 3: 'nan,2' is no row", "--time-format"]),
    "many lines that are no rows": (LONG + "1,2,3\n" * 4, ["line 102: '1,2,3' is no row, as are 4 of 104", "--layout"]),
    "clock that stands still": ("time,a\n5,1\n5,1\n5,2\n", ["repeat", "--period-s"]),
    "unknown label word": ("a,label\n1,0\n1,maybe\n", ["label 'maybe'", "line 3", "--label-column none"]),
    "negative label": ("a,label\n1,1\n1,-1\n", ["label '-1'", "line 3"]),
    "only words": ("a,b\nx,y\nz,w\n", ["no rows of numbers"]),
}
MENDED = {
    "no header": ("1,2\n3,4\n", "no header: columns are named s1, s2"),
    "ragged row": (LONG + "1,2,3\n1,2\n", "line 102: no row, left out: '1,2,3'"),
    "cut-off last row": (LONG + "1", "line 102: the last line is torn"),
    "text in a number": (
        LONG + "1,oops\n",
        "sensor 'b': 1 missing value held from the last good one (longest run 1, at line 102); words for it: 'oops'",
    ),
    "duplicate name": ("flow,temp,flow\n1,2,3\n", "named flow: from the second on they are flow_2"),
    "nameless sensor": ("a,,b\n1,2,3\n", "column 2 left out: it has no name"),
    "long gap": (
        "a,b\n" + "\n".join(ROWS),
        "column 'b' left out: no value in 101 of 2000 samples, the longest run from line 152 to line 252",
    ),
    "many gaps": ("a,b\n" + "1,2\n1,\n1,\n2,4\n" * 20, "column 'b' left out"),
    "dead sensor": ("a,b\n" + "1,nan\n" * 20, "column 'b' left out: it is empty"),
    "too large for float32": ("a,b\n1,1e39\n", "column 'b' left out"),
    "time runs backward": ("time,a\n0,1\n2,1\n1,1\n", "sorted by time"),
}


@pytest.mark.parametrize("fault", BAD_CSV)
def test_bad_csv(tmp_path: Path, fault: str) -> None:
    text, said = BAD_CSV[fault]
    path = tmp_path / "bad.csv"
    path.write_text(text)
    message = refusal(path)
    assert "bad.csv" in message
    for part in said:
        assert part in message


@pytest.mark.parametrize("fault", MENDED)
def test_what_is_mended_is_said(tmp_path: Path, fault: str) -> None:
    text, said = MENDED[fault]
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert said in " ".join(load(path).notes)


def test_a_sensor_that_was_asked_for_is_not_left_out_in_silence(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n" + "\n".join(ROWS))
    assert "sensor 'b' has no value in 101 of 2000" in refusal(tmp_path / "bad.csv", sensors=("a", "b"))


@pytest.mark.parametrize(
    ("raw", "said"),
    [(b"\x00\x01\x02", "not a text file"), (b"PAR1\x00\x00", "not a text file"), (b"PK\x03\x04\x00", "damaged")],
)
def test_binary_file_called_csv(tmp_path: Path, raw: bytes, said: str) -> None:
    (tmp_path / "bad.csv").write_bytes(raw)
    assert said in refusal(tmp_path / "bad.csv")


@settings(max_examples=150, deadline=None)
@given(raw=st.one_of(st.binary(max_size=200), st.text("ab,;\t\n\r\"'0123.-e\x00nan°", max_size=60).map(str.encode)))
def test_no_bytes_at_all_end_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.csv"
    path.write_bytes(raw)
    for spec in (path, f"parquet:{path}"):
        try:
            recording = load(spec)
        except EdgeKDError as error:
            assert "\n" not in str(error)
        else:
            assert np.isfinite(recording.values).all() and len(set(recording.sensors)) == recording.n_sensors


def test_missing_file_and_unknown_words(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "plant.csv")
    assert "'sdm' is no format; there are telemanom, smd" in refusal(f"sdm:{tmp_path}")
    assert "no format 'xlsx'" in refusal(tmp_path, format="xlsx")
    assert "no part 'valid'" in refusal(tmp_path, "valid")
    (tmp_path / "a.csv").write_text("a\n1\n")
    assert "period of 0" in refusal(tmp_path / "a.csv", period_s=0)
    assert "no column 'when'; there are a" in refusal(tmp_path / "a.csv", time_column="when").replace(
        " for --time-column", ""
    )
    assert "no entity 'x'" in refusal(f"{tmp_path}/a.csv#x")


def test_folder_with_nothing_known_says_what_was_looked_for(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    for part in ("train/*.npy", "test_label", "changepoint", "UCR_Anomaly", "NAB.npz"):
        assert part in message
    (tmp_path / "plant.csv").write_text("a\n1\n")
    assert "name one of its files, plant.csv" in refusal(tmp_path)
    assert "not of format smd, which looks for train" in refusal(f"smd:{tmp_path}")
    assert "is a folder" in refusal(f"csv:{tmp_path}")
    (tmp_path / "plant.xlsx").write_text("")
    assert "empty" in refusal(tmp_path / "plant.xlsx")


def test_wrong_or_missing_item_lists_what_there_is(tmp_path: Path) -> None:
    for machine in range(1, 31):
        arrays = {"train": np.zeros((5, 2)), "test": np.zeros((5, 2)), "test_label": np.zeros(5)}
        np.savez(tmp_path / f"machine-1-{machine}.npz", **arrays)
    message = refusal(tmp_path, "train")
    assert f"pick one, as in {tmp_path}#machine-1-1;" in message and "(30 in all)" in message and len(message) < 600
    assert "no machine 'machine1-7'; did you mean machine-1-7" in refusal(f"{tmp_path}#machine1-7", "train")
    assert "leave out #machine-1-1" in refusal(f"{tmp_path}/machine-1-2.npz#machine-1-1")


def test_damaged_archive(tmp_path: Path) -> None:
    path = tmp_path / "machine-1-1.npz"
    np.savez(path, train=np.ones((50, 2)), test=np.ones((50, 2)), test_label=np.ones(40))
    assert "50 rows but 40 labels" in refusal(path, "test")
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xff" * 20 + whole[120:])
    assert "machine-1-1.npz: not a readable NumPy archive" in refusal(path, "train")
    path.write_bytes(whole[: len(whole) // 2])
    assert "machine-1-1.npz" in refusal(path, "train")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    assert "no known layout, it holds x" in refusal(tmp_path / "other.npz")


def test_objects_in_an_archive_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "machine-1-1.npz", train=np.array([print]), test=np.ones((5, 2)), test_label=np.ones(5))
    assert "not a readable NumPy archive" in refusal(tmp_path / "machine-1-1.npz", "train")


def test_telemanom_without_labels_or_with_broken_ones(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / "data" / part).mkdir(parents=True)
        np.save(tmp_path / "data" / part / "A-1.npy", np.ones((9, 2)))
    assert "labeled_anomalies.csv is neither there nor one folder above" in refusal(tmp_path / "data", "test")
    labels = tmp_path / "labeled_anomalies.csv"
    labels.write_text('chan_id,spacecraft,anomaly_sequences\nA-1,SMAP,"[[1, 2"\n')
    assert "line 2 is not" in refusal(tmp_path / "data", "test")
    labels.write_text('chan_id,spacecraft,anomaly_sequences\nA-1,SMAP,"[[1, 2]]"\n')
    recording = load(tmp_path / "data", "test")
    assert recording.labels is not None and recording.labels.sum() == 2
    (tmp_path / "data/test/A-1.npy").unlink()
    np.save(tmp_path / "data/test/A-2.npy", np.ones((9, 2)))
    with pytest.raises(RecordingError, match=r"A-1\.npy: missing"):
        load(tmp_path / "data", "test")


def test_ucr_positions_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "001_UCR_Anomaly_x_50_70_74.txt"
    path.write_text("1\n" * 60)
    assert "do not fit 60 samples" in refusal(path)
    path.write_text("1\nx\n")
    assert "not a list of numbers" in refusal(path)


def test_what_is_quoted_of_a_file_stays_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(b"time,a\n1,1\n\x1b]0;x\x07\xc2\x85y,2\n")
    message = refusal(tmp_path / "bad.csv")
    assert message.isprintable() and r"]0;x\x85y" in message


def test_a_label_that_is_none_is_refused_with_the_name_of_its_parquet_file(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "plant.parquet"
    pq.write_table(pa.table({"a": [1.0, 2.5, 1.5], "label": ["0", "perhaps", "1"]}), path)
    with pytest.raises(RecordingError, match=r"plant\.parquet: label 'perhaps' at line 2 is neither"):
        load(path)
