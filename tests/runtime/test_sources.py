"""Bytes to samples: chunks, torn lines, headers, noise."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from step_models import step_manifest

from edgekd.runtime import UsageError
from edgekd.runtime.layout import PLAIN, Layout
from edgekd.runtime.sources import Row
from edgekd.runtime.sources.csv_file import CsvFile
from edgekd.runtime.sources.open_file import chunks
from edgekd.runtime.sources.row_parser import FirstLine, RowParser
from edgekd.runtime.sources.row_reader import LineSplitter, RowReader
from edgekd.runtime.sources.time_labels import TimeLabels
from edgekd.runtime.watchers.faulty_input import RateCheck
from edgekd.runtime.watchers.record import Recorder

NAMES = ("a", "b", "c")
NAN = float("nan")


def rows_of(text: str | bytes, first_line: FirstLine = "anything", **columns: str) -> tuple[list[list[float]], int]:
    """The rows of a text, and how many of its lines were none."""
    parser = RowParser(NAMES, columns, first_line)
    data = text.encode() if isinstance(text, str) else text
    rows = [row for line in data.split(b"\n") if (row := parser.parse(line)) is not None]
    if first_line == "fits":
        parser.require_rows()
    return [row.values.tolist() for row in rows], parser.tally.bad


def same(got: list[list[float]], want: list[list[float]]) -> bool:
    return len(got) == len(want) and np.array_equal(np.array(got), np.array(want), equal_nan=True)


lines = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"1,2,3", b"a,b,c", b"x,c,b,a", b"1,2,3,4", b'{"a":1,"b":2,"c":3}', b"[1,2,3]", b"", b"7" * 5000]),
)
streams = st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=12).map(
    lambda parts: b"".join(line + end for line, end in parts)
)


@given(streams, st.binary(max_size=6), st.lists(st.integers(0, 400), max_size=10))
def test_chunks_make_no_difference(stream: bytes, tail: bytes, cuts: list[int]) -> None:
    def read(chunks: list[bytes]) -> tuple[list[tuple[bytes, object]], int, str]:
        reader = RowReader(step_manifest(3, 1), {"s0": "a", "s1": "b", "s2": "c"})
        rows: list[Row] = [row for chunk in chunks for row in reader.feed(chunk)] + reader.end()
        return [(row.values.tobytes(), row.time) for row in rows], reader.bad, reader.last_bad

    data = stream + tail
    whole = read([data])
    assert read([data[i : i + 1] for i in range(len(data))]) == whole
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert read([data[a:b] for a, b in itertools.pairwise(bounds)]) == whole


@given(st.binary(max_size=300))
def test_noise_is_counted_and_never_raises(noise: bytes) -> None:
    parser = RowParser(NAMES)
    for line in noise.split(b"\n"):
        row = parser.parse(line)
        assert row is None or (row.values.shape == (3,) and row.values.dtype == np.float32)
    assert parser.tally.last_bad.isprintable()


@given(st.text('[]{}":,0123456789.eE-+abcnull ', max_size=40))
def test_near_json_never_raises(text: str) -> None:
    for prefix in ("", "[", '{"a":', '{"a":1,"b":[', "[" * 3000):
        RowParser(NAMES).parse((prefix + text).encode())


def test_an_unterminated_line_is_a_line_only_at_the_very_end() -> None:
    splitter = LineSplitter(limit=10)
    assert splitter.feed(b"1,2\r\n3,") == [b"1,2", b""]
    assert splitter.feed(b"4") == []
    assert splitter.end() == [b"3,4"] and splitter.end() == []
    assert splitter.feed(b"12345678901234") == [b"12345678901234"]  # its length tells that it is none
    assert splitter.feed(b"567\n8,9\n") == [b"8,9"]
    splitter.feed(b"1,")
    splitter.end()
    assert splitter.feed(b"2,3\n") == [b"2,3"]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1,2,3\n4,5,6", [[1, 2, 3], [4, 5, 6]]),
        ("a,b,c\n1,2,3", [[1, 2, 3]]),
        ("time,c,label,b,a\n2026-01-01 00:00:00,3,0,2,1", [[1, 2, 3]]),
        ('\ufeff"a";"b";"c"\n1,5;2,5;-3', [[1.5, 2.5, -3]]),
        ("a,b,c\n1,,nan\nNA,-,2", [[1, NAN, NAN], [NAN, NAN, 2]]),
        ("2026-01-01T00:00:00Z,1,2,3", [[1, 2, 3]]),
        ("1,2,3,\n", [[1, 2, 3]]),
        ("a,b,c\n1,2,3\nc,b,a\n1,2,3", [[1, 2, 3], [3, 2, 1]]),  # the device restarted with other firmware
        ('{"c":3,"a":1,"extra":{},"b":null}', [[1, NAN, 3]]),
        ("[1, 2, null]", [[1, 2, NAN]]),
        ("1e300,-inf,3", [[np.inf, -np.inf, 3]]),
    ],
)
def test_what_loggers_write(text: str, want: list[list[float]]) -> None:
    rows, bad = rows_of(text, "fits")
    assert same(rows, want) and bad == 0


@pytest.mark.parametrize(
    "line",
    ["1,2", "1,2,3,4", "1,2,x", "1,2,3_0", "{}", '{"d":1}', "[1,2]", '["x",1,2]', '{"a":[1]}', "ESP boot", b"\xff,1,2"],
)
def test_what_is_no_row_is_skipped_and_counted(line: str | bytes) -> None:
    data = line.encode() if isinstance(line, str) else line
    rows, bad = rows_of(b"1,2,3\n" + data + b"\n4,5,6")
    assert rows == [[1, 2, 3], [4, 5, 6]] and bad == 1


def test_sensors_may_have_numbers_for_names() -> None:
    parser = RowParser(("0", "1"), first_line="fits")
    assert parser.parse(b"1,0") is None  # the header, in another order
    assert parser.parse(b"5,6").values.tolist() == [6, 5]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "rule", "says"),
    [
        ("a,x,y\n1,2,3", "fits", "lacks 'b', 'c'; name its column with --map 'b=COLUMN'"),
        ("x,y,z\n1,2,3", "header fits", "lacks 'a', 'b', 'c'"),
        ("1,2\n", "fits", "2 columns and no header, the model has 3 sensors"),
        ("1,\x86q,2\n", "fits", "\\x86q"),
    ],
)
def test_a_first_line_that_does_not_fit_is_said(text: str, rule: FirstLine, says: str) -> None:
    with pytest.raises(UsageError) as error:
        rows_of(text, rule)
    assert says in str(error.value) and str(error.value).isprintable()


def test_mapped_columns_need_names() -> None:
    rows, _ = rows_of("A,b,c,a\n1,2,3,4", "fits", a="A")
    assert rows == [[1, 2, 3]]
    assert rows_of("1,2,3", a="A") == ([], 1)
    assert rows_of('{"A":1,"b":2,"c":3}', a="A") == ([[1, 2, 3]], 0)


def test_a_torn_header_is_used_only_where_it_fits() -> None:
    whole, torn = RowParser(NAMES), RowParser(NAMES)
    whole.offer_header(b"me,c,b,a")
    assert whole.parse(b"5,1,2,3").values.tolist() == [3, 2, 1]  # type: ignore[union-attr]
    torn.offer_header(b"c,b,a")  # the time column was torn off: these names are one place off
    assert torn.parse(b"5,1,2,3") is None
    assert torn.parse(b"2026-01-01,1,2,3").values.tolist() == [1, 2, 3]  # type: ignore[union-attr]


def test_of_a_header_that_was_torn_after_all_nothing_is_kept() -> None:
    parser = RowParser(NAMES)
    parser.offer_header(b"a,b,c,time")
    for _ in range(2):  # the second takes the short way
        row = parser.parse(b"1,2,3")
        assert row is not None and row.values.tolist() == [1, 2, 3] and row.time is None


def test_a_file_without_a_last_newline_loses_nothing_and_seek_counts_samples(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("s0,s1\n1,2\nnoise\n3,4\n5,6")
    manifest = step_manifest(2, 1)
    rows = [row.values.tolist() for items in CsvFile(path, manifest, {}) for row in items]
    assert rows == [[1, 2], [3, 4], [5, 6]]
    sought = CsvFile(path, manifest, {})
    sought.seek(2)
    assert [row.values.tolist() for items in sought for row in items] == [[5, 6]]


@pytest.mark.parametrize(
    ("below", "bad"), [(",m,bar", 0), ('"TS","m","l/s"\n"","Avg","Smp"', 0), ("2026-03-01T00:00:00,x,", 1)]
)
def test_units_below_a_header_are_no_bad_lines(tmp_path: Path, below: str, bad: int) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"time,s0,s1\n{below}\n2026-03-01T00:00:01,1,2\nnoise\n2026-03-01T00:00:02,3,4\n")
    source = CsvFile(path, step_manifest(2, 1), {})
    assert [row.values.tolist() for items in source for row in items if isinstance(row, Row)] == [[1, 2], [3, 4]]
    assert source.rows.bad == bad + 1


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_array_is_read_piece_by_piece(tmp_path: Path, indent: int | None) -> None:
    samples = [{"a": i, "nested": {"text": "], {"}} for i in range(20_000)]
    whole = json.dumps(samples, indent=indent)
    path = tmp_path / "x.json"
    for text in (whole, f"\ufeff\n{whole}\n"):
        path.write_text(text)
        tracemalloc.start()
        found = [len(list(filter(None, piece.split(b"\n")))) for piece in chunks(path)]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sum(found) == len(samples) and peak < len(whole) / 3
    path.write_text(whole[: len(whole) // 2])  # a torn one is read up to there
    read = b"".join(chunks(path)).splitlines()
    assert [json.loads(line) for line in read[:9000]] == samples[:9000]


@pytest.mark.parametrize("text", ["[1, 2]\n[3, 4]", '[{"name": "a", "value": 1}]\n[{"name": "a", "value": 2}]', "[]"])
def test_lines_of_arrays_are_left_as_they_are(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert b"".join(chunks(tmp_path / "x.json")).decode() == text


@pytest.mark.parametrize("lines", [b"s0,s1\n1,2\n3,4\n", b'{"s0": 1, "s1": 2, "time": 5}\n' * 2, b"1,2\n3,4\n"])
def test_a_live_input_without_the_time_that_was_asked_for_is_told_once(lines: bytes) -> None:
    reader = RowReader(step_manifest(2, 1), {}, layout=Layout(time=("ts",)), live=True, likely=True)
    reader.parser.ask_time()
    items = reader.feed(lines) + reader.feed(lines)
    (told,) = [item for item in items if not isinstance(item, Row)]
    assert told.event == "time_unreadable" and "'ts', the column of --time" in told.words
    assert len(items) == 1 + 4


def test_a_header_without_the_time_that_was_asked_for_is_one_where_a_line_is_opened() -> None:
    reader = RowReader(step_manifest(2, 1), {}, layout=Layout(time=("ts",)), live=True, likely=True)
    reader.parser.ask_time()
    reader.parser.offer_header(b"s1,s0")
    (row,) = [item for item in reader.feed(b"1,2\n") if isinstance(item, Row)]
    assert row.values.tolist() == [2, 1]


def test_time_labels() -> None:
    seconds_of = TimeLabels(PLAIN).seconds
    assert seconds_of("1970-01-01T00:01:00+00:00") == 60
    assert seconds_of(1.7e9) == seconds_of("1700000000000") == seconds_of(1.7e15) == 1.7e9
    assert [seconds_of(x) for x in (None, "noon", "nan", 1e300)] == [None] * 4
    parser = RowParser(NAMES)
    row = parser.parse(json.dumps({"a": 1, "Timestamp": "2026-01-01"}).encode())
    assert row is not None and row.time == "2026-01-01"


def loop(emit: Any, source: Any = None, **manifest: Any) -> Any:
    """As much of a loop as a watcher asks for."""
    detector = SimpleNamespace(manifest=SimpleNamespace(**manifest))
    known = {"emit": emit, "say": lambda words: None, "time_of": lambda row: row.time}
    return SimpleNamespace(source=source, detector=detector, **known)


def test_rate_is_judged_by_the_median() -> None:
    source = SimpleNamespace(live=False)
    told: dict[float, list[Any]] = {10.0: [], 60.0: []}
    checks = [RateCheck(loop(events.append, source, period_s=period_s)) for period_s, events in told.items()]
    clock, values = 0.0, np.zeros(1, np.float32)
    for i in range(80):
        clock += 500 if i == 5 else 10 if i < 40 else 60  # one stall, and later another rate: it is judged once
        for check in checks:
            check.arrived([Row(values, clock, seconds=clock)])
    assert told == {10.0: [], 60.0: [{"event": "rate_mismatch", "observed_s": 10.0, "period_s": 60.0}]}


def test_a_record_is_appended_to_and_torn_rows_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"

    def recorder(*names: str) -> Recorder:
        return Recorder(loop(lambda event: None, names=names), path)

    for time in ("t,0", None):
        recording = recorder("s0", "s 1")
        recording.sample(Row(np.array([0.1, np.nan], np.float32), time))
        recording.end()
        with path.open("a") as file:
            file.write("t2,0.5")  # a power cut in the middle of a row
    recorder("s0", "s 1").end()
    assert path.read_text() == 'time,s0,s 1\n"t,0",0.1,\n,0.1,\n'
    with pytest.raises(UsageError, match="other columns"):
        recorder("s0", "s2")
