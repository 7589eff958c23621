"""Every format gives the recording that its files hold: values, names, period, labels, borders."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgekd.data import Recording, constant_sensors, load, require_length, require_same_sensors, save
from edgekd.runtime.errors import RecordingError, UsageError

DATA = Path(os.environ.get("EDGEKD_DATA", ""))
needs_data = pytest.mark.skipif("EDGEKD_DATA" not in os.environ, reason="EDGEKD_DATA names no folder of data sets")
rng = np.random.default_rng(0)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# CSV and Parquet


def test_csv_finds_clock_label_and_sensors_by_name(tmp_path: Path) -> None:
    path = write(
        tmp_path / "plant.csv",
        "Timestamp,flow,temp,Attack\n"
        "2026-01-05T00:00:00Z,1.5,20,Normal\n2026-01-05T00:00:30Z,2.5,21,Attack\n2026-01-05T00:01:00Z,3.5,22,Normal\n",
    )
    recording = load(path)
    assert recording.sensors == ("flow", "temp")
    assert recording.values.dtype == np.float32 and recording.values.flags.c_contiguous
    assert recording.values.tolist() == [[1.5, 20], [2.5, 21], [3.5, 22]]
    assert recording.labels is not None and recording.labels.tolist() == [False, True, False]
    assert recording.period_s == 30
    assert recording.times_s is not None and recording.times_s[0] == 1767571200
    assert recording.notes == () and recording.source == "plant.csv"
    assert load(path, "train").digest() == load(path, "test").digest()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2026-01-05 00:00:00", "2026-01-05 00:05:00"),
        ("2026-01-05T01:00:00+01:00", "2026-01-05T01:05:00+01:00"),
        ("1767571200", "1767571500"),
        ("1767571200000", "1767571500000"),
        ("1767571200000000000", "1767571500000000000"),
    ],
)
def test_clock_in_words_or_epoch_units(tmp_path: Path, first: str, second: str) -> None:
    recording = load(write(tmp_path / "p.csv", f"time,a\n{first},1\n{second},2\n"))
    assert recording.period_s == 300
    assert recording.times_s is not None and recording.times_s[0] == 1767571200


def test_date_and_time_in_two_columns(tmp_path: Path) -> None:
    recording = load(write(tmp_path / "p.csv", "Date;Time;a\n2026-01-05;00:00:00;1,5\n2026-01-05;00:00:10;2,5\n"))
    assert recording.period_s == 10 and recording.values.tolist() == [[1.5], [2.5]]


def test_columns_named_by_the_caller(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "when,a,time,broken\n0,1,7,0\n60,2,8,1\n")
    recording = load(path, time_column="when", label_column="broken")
    assert (recording.sensors, recording.period_s) == (("a",), 60)
    assert "column 'time' left out" in recording.notes[0]
    assert recording.labels is not None and recording.labels.tolist() == [False, True]
    bare = load(path, time_column="none", label_column="none", period_s=5)
    assert (bare.sensors, bare.period_s, bare.labels, bare.times_s) == (("when", "a", "broken"), 5, None, None)


def test_pandas_index_blank_lines_and_windows_text(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(",a °C,b\r\n0,1,2\r\n\r\n1,3,4\r\n".encode("cp1252"))
    recording = load(path)
    assert recording.sensors == ("a °C", "b")
    assert recording.values.tolist() == [[1, 2], [3, 4]]
    assert recording.period_s == 1
    assert {note.split(":")[0] for note in recording.notes} == {
        *("column 1 left out", "not UTF-8", "no timestamps"),
    }


@settings(max_examples=40, deadline=None)
@given(
    table=st.integers(1, 4).flatmap(
        lambda n: st.lists(
            st.lists(
                st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=n, max_size=n
            ),  # NaN has tests of its own
            min_size=1,
            max_size=8,
        )
    ),
    style=st.sampled_from([(",", "."), (";", "."), (";", ","), ("\t", ".")]),
    newline=st.sampled_from(["\n", "\r\n"]),
    quoted=st.booleans(),
)
def test_csv_in_any_style_reads_back(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[list[float]],
    style: tuple[str, str],
    newline: str,
    quoted: bool,
) -> None:
    delimiter, point = style
    assume(point == "." or len(table[0]) > 1)  # a header of one name says nothing about the delimiter
    quote = '"' if quoted else ""
    rows = [[f"{quote}{repr(x).replace('.', point)}{quote}" for x in row] for row in table]
    header = [f"{quote}s{i}{quote}" for i in range(len(table[0]))]
    text = newline.join(delimiter.join(row) for row in [header, *rows])
    path = write(tmp_path_factory.mktemp("csv") / "p.csv", text)
    np.testing.assert_array_equal(load(path).values, np.array(table, dtype=np.float32))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("clock", [True, False])
@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("starts", [(0,), (0, 3, 7)])
def test_save_and_load_give_the_same_recording(
    tmp_path: Path, suffix: str, clock: bool, labeled: bool, starts: tuple[int, ...]
) -> None:
    recording = Recording(
        values=rng.normal(size=(10, 2)).astype(np.float32) * np.float32(1e5),
        sensors=("flow_lpm", "temp, °C"),
        period_s=0.25,
        labels=np.arange(10) % 3 == 0 if labeled else None,
        starts=starts,
        entities=("",) if len(starts) == 1 else ("north", "south", "2"),
        times_s=1767571200.125 + 0.25 * np.arange(10) if clock else None,
    )
    path = tmp_path / f"r.{suffix}"
    save(recording, path)
    again = load(path)
    assert again.digest() == recording.digest()
    assert again.entities == recording.entities
    for name in ("labels", "times_s"):
        np.testing.assert_array_equal(getattr(again, name), getattr(recording, name))
    assert again.notes == ()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if len(starts) == 3:
        assert load(f"{path}#south").values.tolist() == recording.values[3:7].tolist()


def test_parquet_with_a_typed_clock_of_any_name(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    clock = pa.array([0, 60_000], pa.timestamp("ms"))
    columns = {"when": clock, "valve_open": pa.array([True, False]), "count": pa.array([3, None], pa.int64())}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    recording = load(tmp_path / "p.parquet")
    assert recording.sensors == ("valve_open", "count") and recording.period_s == 60
    assert recording.values.tolist() == [[1, 3], [0, 3]]
    assert "'count': 1 missing value held" in recording.notes[0]


# Gaps


def test_short_gaps_are_held_and_said(tmp_path: Path) -> None:
    rows = [f"{i},{'' if i in (4, 5, 6) else i},{'NaN' if i == 0 else 5}" for i in range(40)]
    recording = load(write(tmp_path / "p.csv", "a,b,c\n" + "\n".join(rows)))
    assert recording.values[3:8, 1].tolist() == [3, 3, 3, 3, 7]
    assert recording.values[0, 2] == 5  # before the first good value there is only the next one
    assert "sensor 'b': 3 missing values held from the last good one (longest run 3, at line 6)" in recording.notes


def test_nothing_is_held_across_a_border(tmp_path: Path) -> None:
    rows = [f"{'north' if i < 20 else 'south'},{'' if i == 20 else i}" for i in range(40)]
    recording = load(write(tmp_path / "p.csv", "entity,a\n" + "\n".join(rows)))
    assert recording.starts == (0, 20)
    assert recording.values[20, 0] == 21


# Collections, as published


def make_telemanom(folder: Path) -> None:
    for part, lengths in {
        "train": {"A-1": 30, "A-2": 20, "P-2": 9, "C-1": 12},
        "test": {"A-1": 25, "A-2": 15, "P-2": 9, "C-1": 10},
    }.items():
        (folder / part).mkdir(parents=True)
        for channel, length in lengths.items():
            np.save(folder / part / f"{channel}.npy", rng.random((length, 5 if channel == "C-1" else 3)))
    write(
        folder / "labeled_anomalies.csv",
        "chan_id,spacecraft,anomaly_sequences,class,num_values\n"
        'P-2,SMAP,"[[1, 2]]",[point],9\nA-1,SMAP,"[[5, 9], [20, 24]]","[point, contextual]",25\n'
        'P-2,SMAP,"[[2, 6]]",[point],9\nA-2,SMAP,"[[0, 0]]",[point],15\nC-1,MSL,"[[3, 4]]",[point],10\n',
    )


def test_telemanom_pools_a_spacecraft_and_keeps_its_borders(tmp_path: Path) -> None:
    make_telemanom(tmp_path)
    train, test = load(f"{tmp_path}#SMAP", "train"), load(f"telemanom:{tmp_path}#SMAP", "test")
    assert train.entities == test.entities == ("A-1", "A-2")
    assert (train.starts, test.starts) == ((0, 30), (0, 25))
    assert train.labels is None
    assert test.labels is not None and np.flatnonzero(test.labels).tolist() == [*range(5, 10), *range(20, 25), 25]
    assert any("P-2 left out" in note for note in test.notes)
    assert test.sensors == ("telemetry", "command_01", "command_02") and test.period_s == 60
    alone = load(f"{tmp_path}#P-2", "test")
    assert alone.labels is not None and np.flatnonzero(alone.labels).tolist() == [1, 2, 3, 4, 5, 6]
    both = load(f"{tmp_path}#A-2")
    assert both.starts == (0, 20) and both.entities == ("A-2/train", "A-2/test")
    assert both.labels is not None and np.flatnonzero(both.labels).tolist() == [20]
    np.testing.assert_array_equal(both.values[:20], load(f"{tmp_path}#A-2", "train").values)


def test_smd_folder(tmp_path: Path) -> None:
    values = rng.random((12, 4)).round(6)
    for part in ("train", "test"):
        write(tmp_path / part / "machine-1-1.txt", "\n".join(",".join(f"{x:.6f}" for x in row) for row in values))
    write(tmp_path / "test_label" / "machine-1-1.txt", "\n".join("1" if i == 7 else "0" for i in range(12)))
    test = load(tmp_path, "test")  # a single machine needs no picking
    np.testing.assert_array_equal(test.values, values.astype(np.float32))
    assert test.labels is not None and np.flatnonzero(test.labels).tolist() == [7]
    assert test.period_s == 60 and test.entities == ("machine-1-1",)
    assert load(f"smd:{tmp_path}#machine-1-1", "train", period_s=30).period_s == 30


@pytest.mark.parametrize("separator", ["\n", "  "])
def test_ucr_file_name_carries_the_positions(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "025_UCR_Anomaly_Italian_power_50_70_74.txt"
    write(path, separator.join(f"{i / 2:e}" for i in range(100)))
    train, test, whole = load(path, "train"), load(f"ucr:{tmp_path}#025", "test"), load(path)
    assert (len(train), len(test), len(whole)) == (50, 50, 100)
    assert test.labels is not None and np.flatnonzero(test.labels).tolist() == [20, 21, 22, 23, 24]
    assert train.labels is not None and not train.labels.any()
    assert test.values[0, 0] == 25


def test_skab_folder(tmp_path: Path) -> None:
    def run(rows: int, start: int) -> str:
        return "\n".join(f"2020-03-09 10:00:{start + i:02};{i}.5;{2 * i}.0" for i in range(rows))

    write(tmp_path / "data/anomaly-free/anomaly-free.csv", "datetime;Current;Pressure\n" + run(30, 0))
    labels = [f"{line};{int(i > 9)}.0;{int(i == 10)}.0" for i, line in enumerate(run(20, 5).splitlines())]
    write(tmp_path / "data/valve1/0.csv", "datetime;Current;Pressure;anomaly;changepoint\n" + "\n".join(labels))
    train, test = load(f"{tmp_path}#valve1/0", "train"), load(f"{tmp_path}#valve1/0", "test")
    assert train.sensors == test.sensors == ("Current", "Pressure")
    assert (len(train), len(test)) == (30, 20)
    assert test.labels is not None and test.labels.sum() == 10
    head, whole = load(f"skab:{tmp_path}#valve1/0@8", "train"), load(f"skab:{tmp_path}#valve1/0@8", "test")
    np.testing.assert_array_equal(head.values, test.values[:8])
    assert whole.digest() == test.digest()
    assert load(tmp_path / "data/valve1/0.csv").digest() == test.digest()


# Collections, as archived


@needs_data
@pytest.mark.parametrize(
    ("spec", "entities", "train", "test", "anomalous"),
    [
        ("smap_msl/MSL.npz", 27, 58_317, 73_729, 7_766),
        ("smap_msl/SMAP.npz", 53, 135_183, 427_617, 54_696),  # the published totals leave P-2 out
        ("smap_msl#SMAP", 53, 135_183, 427_617, 54_696),
        ("smap_msl/SMAP.npz#P-2", 1, 2_821, 8_209, 1_276),
        ("smd/machine-1-2.npz", 1, 23_694, 23_694, 542),
        ("asd#omi-4", 1, 8_640, 4_320, 151),
        ("skab/SKAB.npz#valve1/4", 1, 9_405, 1_095, 349),
        ("skab#valve1_4@400", 1, 400, 1_095, 349),
        ("ucr/UCR.npz#001", 1, 35_000, 44_795, 621),
        ("nab#realKnownCause/machine_temperature_system_failure", 1, 750, 21_945, 2_268),
    ],
)
def test_archives_give_the_published_totals(spec: str, entities: int, train: int, test: int, anomalous: int) -> None:
    trained, tested = load(DATA / spec, "train"), load(DATA / spec, "test")
    assert len(trained) == train and len(tested) == test
    assert tested.labels is not None and int(tested.labels.sum()) == anomalous
    assert len(tested.starts) == len(set(tested.entities)) == entities
    assert trained.sensors == tested.sensors
    for recording in (trained, tested):
        assert recording.values.dtype == np.float32 and recording.values.flags.c_contiguous
        assert np.isfinite(recording.values).all()
        assert str(DATA) not in recording.source


@needs_data
def test_pooled_channel_equals_the_channel_alone() -> None:
    pooled = {r.entities[0]: r for r in load(DATA / "smap_msl/MSL.npz", "test").split()}
    for channel in ("C-1", "M-6", "T-9"):
        alone = load(DATA / f"smap_msl/MSL.npz#{channel}", "test")
        np.testing.assert_array_equal(pooled[channel].values, alone.values)
        np.testing.assert_array_equal(pooled[channel].labels, alone.labels)


# Spec and checks


def test_a_path_may_contain_the_marks_of_a_spec(tmp_path: Path) -> None:
    path = write(tmp_path / "smd:line#3.csv", "a\n1\n2\n")
    assert len(load(path)) == 2
    assert load(f"csv:{path}").sensors == ("a",)
    assert load(write(tmp_path / "plant.dat", "a\n1\n"), format="csv").sensors == ("a",)


def test_checks(tmp_path: Path) -> None:
    recording = Recording(
        values=np.array([[1, 2, 5], [1, 3, 6], [1, 4, 7]], np.float32),
        sensors=("a", "b", "c"),
        period_s=1,
        starts=(0, 1),
        entities=("x", "y"),
    )
    assert constant_sensors(recording) == ["a"]
    require_length(recording, 2)
    with pytest.raises(
        RecordingError, match="shorter than one window of 3 samples; the longest of its 2 entities has 2"
    ):
        require_length(recording, 3)
    assert require_same_sensors(("a", "b", "c"), recording) is recording
    turned = require_same_sensors(("c", "a", "b"), recording)
    assert turned.values.tolist() == [[5, 1, 2], [6, 1, 3], [7, 1, 4]] and turned.values.flags.c_contiguous
    with pytest.raises(RecordingError, match="lacks d and has c besides"):
        require_same_sensors(("a", "b", "d"), recording)
    with pytest.raises(UsageError, match="a sensor is named 'Is Anomaly'"):
        save(replace(recording, sensors=("a", "b", "Is Anomaly")), tmp_path / "recording.csv")
    with pytest.raises(UsageError, match=r"\.csv or \.parquet"):
        save(recording, tmp_path / "recording.xlsx")
