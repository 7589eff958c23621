"""Lines with a count, a time or a checksum: what is damaged, doubled, late or missing between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from device import events_of, run
from hypothesis import given
from hypothesis import strategies as st
from step_models import step_file, step_manifest, step_samples

from edgekd.runtime.layout import Layout
from edgekd.runtime.sources import InputEvent, Row
from edgekd.runtime.sources.csv_file import CsvFile
from edgekd.runtime.sources.gaps import SET_BACK, STEADY
from edgekd.runtime.sources.row_parser import RowParser
from edgekd.runtime.sources.row_reader import RowReader

WINDOW = 8


def reader(live: bool = True, period_s: float = 1.0, **layout: object) -> RowReader:
    """Of a model with one sensor that looks WINDOW samples back."""
    manifest = step_manifest(1, 4, warmup=WINDOW, period_s=period_s)
    return RowReader(manifest, {}, "anything", "input", Layout(**layout), live)  # type: ignore[arg-type]


def told(items: list[Row | InputEvent]) -> list[object]:
    """A row as its value, None where it is missing; an event as its fields."""
    return [
        item.fields if isinstance(item, InputEvent) else None if np.isnan(item.values[0]) else item.values[0]
        for item in items
    ]


def counted(counts: list[int], **layout: object) -> tuple[list[object], RowReader]:
    """What becomes of rows with these counts, whose value is the place in the list."""
    rows = reader(sequence="n", **layout)
    return told(rows.feed("".join(f"{n},{i}\n" for i, n in enumerate(counts)).encode()) + rows.end()), rows


def test_duplicates_and_stragglers_are_dropped_and_short_gaps_filled() -> None:
    got, rows = counted([7, 8, 8, 9, 8, 12, 13, 11, 14])
    assert got == [0, 1, 3, None, None, 5, 6, 8]
    assert rows.bad == 3 and rows.parser.unreadable == 0
    assert rows.last_bad == "it has been before, or jumps alone: sequence 11 after 13"


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_a_count_that_wraps_goes_on(bits: int) -> None:
    size = 2**bits
    got, rows = counted([size - 3, size - 2, size - 1, 0, 2, 3, 1, 2, 4, size - 1, 8])
    assert got == [0, 1, 2, 3, None, 4, 5, 8, None, None, None, 10] and rows.bad == 3


def test_a_count_to_a_hundred_wraps_where_it_is_told_to() -> None:
    got, rows = counted([97, 98, 99, 0, 2, 3, 1], sequence_wraps_at=100)
    assert got == [0, 1, 2, 3, None, 4, 5] and rows.bad == 1


def test_a_long_gap_and_a_sender_that_began_again_let_the_detector_warm_up() -> None:
    got, _ = counted([5, 6, 7 + WINDOW, 9 + 2 * WINDOW])
    assert got[:-2] == [0, 1, *[None] * WINDOW, 2]
    assert got[-2:] == [{"samples": WINDOW + 1, "reason": "sequence 25 after 15"}, 3]
    got, rows = counted([900, 901, 0, 1])
    assert got == [0, 1, {"samples": None, "reason": "sequence 0 after 901"}, 2, 3] and rows.bad == 0
    near = [*range(WINDOW), *[2] * (SET_BACK + 1), 3]  # so near that it could be stragglers
    got, rows = counted(near)
    assert got[WINDOW:] == [{"samples": None, "reason": "sequence 2 after 7"}, WINDOW, len(near) - 1]
    assert rows.bad == SET_BACK


@given(st.lists(st.integers(0, 40), max_size=60), st.sampled_from([None, 10, 256]))
def test_whatever_the_counts_every_row_comes_once_in_order_or_is_counted(
    counts: list[int], wraps_at: int | None
) -> None:
    got, rows = counted(counts, sequence_wraps_at=wraps_at)
    values = [value for value in got if isinstance(value, np.floating)]
    assert values == sorted(set(values)) and len(values) + rows.bad >= len(counts)


def test_time_labels_tell_gaps_once_they_have_come_steadily() -> None:
    steady = [100.0 + i + 0.1 * (i % 3) for i in range(STEADY + 1)]
    last = steady[-1]
    more = [last + 3, last + 4, last + 4, last + 1, last + 5, last + 100, last + 101, last + 3, last + 4]
    rows = reader()
    lines = ["time,s0", *(f"{at},{i}" for i, at in enumerate([*steady, *more]))]
    got = told(rows.feed("\n".join([*lines, ""]).encode()))
    n = len(steady)
    assert got[:n] == [*range(n)] and got[n : n + 5] == [None, None, n, n + 1, n + 4]
    gap, *rest = got[n + 5 :]
    assert isinstance(gap, dict) and gap["samples"] == 94 and rest[:2] == [n + 5, n + 6]
    assert isinstance(rest[2], dict) and rest[3:] == [n + 7, n + 8] and rows.bad == 2


@pytest.mark.parametrize("live", [True, False])
def test_labels_of_whole_seconds_are_no_duplicates_for_a_fast_model(live: bool) -> None:
    rows = reader(live, period_s=0.1)
    got = rows.feed(b"time,s0\n" + b"".join(b"2026-01-01T00:00:%02d,%d\n" % (i // 10, i) for i in range(300)))
    assert len(got) == 300 and rows.bad == 0


def test_a_checksum_refuses_what_was_damaged() -> None:
    def line(text: bytes, dollar: bytes = b"$") -> bytes:
        checksum = 0
        for byte in text:
            checksum ^= byte
        return dollar + text + b"*%02X\r\n" % checksum

    parser = RowParser(("a", "b"), layout=Layout(checksum=True))
    good = [b"1,2", b'{"a":1,"b":2}', b"[1,2]"]
    assert [parser.parse(line(text, dollar)).values.tolist() for text in good for dollar in (b"$", b"")] == [[1, 2]] * 6  # type: ignore[union-attr]
    bad = [
        b"1,2",
        b"$1,2*",
        b"$1,2*0",
        b"$1,2*00",
        b"*00",
        b"$*00",
        line(b"1,2").replace(b"1", b"7"),
        b"1,2*zz",
        b"1,2*+2",
    ]
    assert [parser.parse(text) for text in bad] == [None] * len(bad) and parser.tally.bad == len(bad)
    assert parser.parse(line(b"b,a")) is None and parser.parse(line(b"1,2")).values.tolist() == [2, 1]  # type: ignore[union-attr]
    assert parser.tally.bad == len(bad)


def test_the_named_columns_are_found_wherever_they_stand() -> None:
    layout = Layout(sequence="n", time=("when",))
    parser = RowParser(("a", "b"), layout=layout)
    assert parser.parse(b"b,when,n,a,time") is None
    for text in (b"2,noon,7,1,x", b'2,"noon",7,1,x', b'{"n":"7","a":1,"when":"noon","b":2,"ts":1}'):
        row = parser.parse(text)
        assert row is not None and (row.values.tolist(), row.time, row.sequence) == ([1, 2], "noon", 7)
    for text in (b"2,noon,-7,1,x", b"2,noon,7.5,1,x", b"2,noon,%d,1,x" % 2**64):
        assert parser.parse(text) is None and "is no count" in parser.tally.last_bad
    assert parser.parse(b'{"a":1,"b":2}') is None and "no 'n', the column of --sequence" in parser.tally.last_bad
    row = RowParser(("a",), layout=Layout(sequence="n")).parse(b"[7, 1]")
    assert row is not None and (row.values.tolist(), row.sequence) == ([1], 7)


def test_rows_of_another_rate_are_resampled_and_a_restart_goes_on_in_between(tmp_path: Path) -> None:
    """Five rows a period, a gap in them that is longer than the window, and a stop anywhere."""
    model = step_file(tmp_path / "m.onnx", 2, 4, warmup=WINDOW, threshold=9.0)
    want = step_samples(2, 60)
    labels = [i + (200 if i >= 30 else 0) for i in range(60)]
    rows = [f"{at + j / 5:.1f},{a + j - 2},{b}" for at, (a, b) in zip(labels, want) for j in range(5)]
    (tmp_path / "x.csv").write_text("\n".join(["time,s0,s1", *rows]) + "\n")
    source = CsvFile(tmp_path / "x.csv", step_manifest(2, 4, warmup=WINDOW), {}, Layout(resample="mean"))
    got = np.array([row.values for items in source for row in items if isinstance(row, Row)])
    assert np.allclose(got[:30], want[:30], atol=1e-5) and np.allclose(got[-30:], want[30:], atol=1e-5)

    arguments = ["--model", model, "--csv", tmp_path / "x.csv", "--resample", "mean", "--scores"]
    whole = run(*arguments)
    assert whole.returncode == 0 and [event["event"] for event in events_of(whole.stdout)].count("input_gap") == 1
    assert "rate" not in whole.stderr
    scores = events_of(whole.stdout, "score")
    (tmp_path / "short.csv").write_text("\n".join(["time,s0,s1", *rows[:265]]) + "\n")
    for part in ("short.csv", "x.csv"):  # the second goes on where the first ended
        arguments[3] = tmp_path / part
        done = run(*arguments, "--state", tmp_path / "state")
        assert done.returncode == 0, done.stderr
    rest = events_of(done.stdout, "score")
    assert rest and rest == scores[-len(rest) :]
    plain = run("--model", model, "--csv", tmp_path / "none.csv", "--resample", "mean", "--sequence", "n")
    assert plain.returncode == 2 and "--time" in plain.stderr
    (tmp_path / "bare.csv").write_text("s0,s1\n1,2\n")
    bare = run("--model", model, "--csv", tmp_path / "bare.csv", "--resample", "mean")
    assert bare.returncode == 2 and "name its column with --time" in bare.stderr
