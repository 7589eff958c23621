"""Tables in whatever layout a logger writes: what is found is read, and what cannot be known is asked for or said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.promises.layouts import AXES, TIMES, case_of, label_of, verdict
from edgekd.data import load, look
from edgekd.data.reading import Reading
from edgekd.data.save import toml_of
from edgekd.data.table.clock import Clock
from edgekd.data.table.times import formats_of
from edgekd.runtime.errors import RecordingError, UsageError
from edgekd.runtime.layout import PLAIN, Layout
from edgekd.runtime.sources.open_file import chunks
from edgekd.runtime.sources.time_labels import TimeLabels

RNG = np.random.default_rng(0)
VALUES = RNG.normal(50, 5, (1200, 2)).round(2)


def clock(i: int) -> str:
    return f"2025-03-03 {i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}"


def table(path: Path, rows: list[list[Any]], header: str = "time,a,b") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def plain(count: int = 1200) -> list[list[Any]]:
    return [[clock(i), *VALUES[i]] for i in range(count)]


def read(path: Path, **how: Any) -> Reading:
    return look(path, **how)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(
    axes=st.fixed_dictionaries({name: st.sampled_from(choices) for name, choices in AXES.items()}),
    seed=st.integers(0, 2**32),
)
def test_a_random_table_in_a_random_layout_is_never_wrong_in_silence(
    tmp_path_factory: pytest.TempPathFactory, axes: dict[str, Any], seed: int
) -> None:
    case = case_of({**axes, "rows": min(axes["rows"], 40)}, seed)
    if case is not None:
        how, why = verdict(case, tmp_path_factory.mktemp("case"))
        assert how != "wrong", why


@pytest.mark.parametrize("way", [way for way in TIMES if way != "none"])
def test_labels_read_at_once_are_those_read_one_by_one(way: str) -> None:
    import datetime as dt

    begin = dt.datetime(2024, 2, 28, 23, 59, 57)
    labels = [label_of(way, begin + dt.timedelta(seconds=i), begin) for i in range(40)]
    form = formats_of(labels)[0]
    slow = TimeLabels(Layout(time_format=form))
    one_by_one = [slow.seconds(label) for label in labels]
    np.testing.assert_allclose(Clock(PLAIN, form, True).seconds(labels), one_by_one, atol=1e-6)
    assert np.isnan(Clock(PLAIN, form, True).seconds([*labels, "Total"])[-1])


def test_a_workbook_reads_as_its_sheet_saved_as_csv(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.create_sheet()  # the first is empty
    for row in (["time", "a", "b"], *([clock(i), *map(float, VALUES[i])] for i in range(300))):
        sheet.append(row)
    book.save(tmp_path / "x.xlsx")
    found, plainly = read(tmp_path / "x.xlsx"), read(table(tmp_path / "x.csv", plain(300)))
    np.testing.assert_array_equal(found.values, plainly.values)
    assert found.layout == plainly.layout
    with pytest.raises(UsageError, match="is a workbook; save its sheet as CSV"):
        list(chunks(tmp_path / "x.xlsx"))


def test_the_whole_file_overrules_its_beginning(tmp_path: Path) -> None:
    months_first = [[f"0{1 + i // 480}/{1 + i // 24 % 20:02}/2025 {i % 24:02}:00", *VALUES[i]] for i in range(900)]
    found = read(table(tmp_path / "months.csv", months_first))
    assert found.layout.time_format == "%m/%d/%Y %H:%M" and found.period_s == 3600

    late = plain()
    late[1000][1] = '"1,480.25"'
    found = read(table(tmp_path / "thousands.csv", late))
    assert found.values[1000, 0] == np.float32(1480.25) and found.layout.thousands == ","

    words = [[clock(i), i / 10, "0" if i < 1000 else "ON"] for i in range(1200)]
    found = read(table(tmp_path / "switch.csv", words))
    assert found.values[:, 1].sum() == 200 and not found.notes

    states = [[clock(i), i / 10, "" if i < 500 else "IDLE"] for i in range(1200)]
    assert "words" in read(table(tmp_path / "states.csv", states)).left_out["b"]

    raw = table(tmp_path / "cp1252.csv", plain()).read_bytes()
    (tmp_path / "cp1252.csv").write_bytes(raw.replace(clock(1100).encode() + b",", clock(1100).encode() + b"\xb0,"))
    found = read(tmp_path / "cp1252.csv")
    assert found.layout.encoding == "cp1252" and "line 1102" in " ".join(found.notes)


def test_a_boolean_in_a_number_column_is_no_value(tmp_path: Path) -> None:
    rows = plain(600)
    rows[300][1] = "true"
    found = read(table(tmp_path / "p.csv", rows))
    assert np.isnan(found.values[300, 0]) and "'true'" in found.notes[0]


def test_machines_that_share_a_file_are_told_apart_or_refused(tmp_path: Path) -> None:
    rows = [[clock(i), machine, *VALUES[i] + machine] for i in range(300) for machine in (1, 2)]
    path = table(tmp_path / "p.csv", rows, "time,unit,a,b")
    with pytest.raises(RecordingError, match="--group unit=1 for one, or --group unit for all"):
        load(path)
    one, both = load(path, group="unit=2"), load(path, group="unit")
    np.testing.assert_array_equal(one.values, (VALUES[:300] + 2).astype(np.float32))
    assert both.entities == ("1", "2") and both.starts == (0, 300)
    blocks = sorted(rows, key=lambda row: row[1])
    with pytest.raises(RecordingError, match="--group unit"):
        load(table(tmp_path / "blocks.csv", [[row[0], f"P-{row[1]}", *row[2:]] for row in blocks], "time,unit,a,b"))


def test_time_that_is_missing_is_filled_or_begins_an_entity(tmp_path: Path) -> None:
    rows = plain()
    found = read(table(tmp_path / "p.csv", [*rows[:100], *rows[104:600], *rows[700:]]))
    assert found.starts == (0, 600) and len(found.values) == 1100
    assert np.isnan(found.values[100:104]).all() and found.times_s is not None
    assert [(gap.sample, gap.seconds) for gap in found.gaps] == [(600, 101)]
    assert np.isfinite(found.recording().values).all()


def test_a_clock_that_is_set_years_on_begins_an_entity(tmp_path: Path) -> None:
    path = tmp_path / "plant.csv"
    seconds = [k / 10 + (800_000_000 if k >= 20 else 0) for k in range(60)]  # 8e9 periods: more than 32 bits count
    path.write_text("elapsed,a\n" + "".join(f"{at:.1f},{at % 7:.2f}\n" for at in seconds))
    found = look(path)
    assert found.starts == (0, 20) and [gap.sample for gap in found.gaps] == [20]


def test_counts_become_steps_before_they_are_float32(tmp_path: Path) -> None:
    total = (10**9 - 1000 + np.arange(1200) * 3) % 10**9
    rows = [[clock(i + 100 * (i >= 600)), VALUES[i, 0], total[i]] for i in range(1200)]
    found = read(table(tmp_path / "p.csv", rows), difference=("b:1000000000",))
    steps = found.values[:, 1]
    assert np.flatnonzero(np.isnan(steps)).tolist() == [0, 600]
    assert (np.delete(steps, [0, 600]) == 3).all()


def test_states_that_are_not_meant_are_left_out(tmp_path: Path) -> None:
    on = [not (200 <= i < 400 or 700 <= i < 703) for i in range(1200)]
    rows = [[clock(i), VALUES[i, 0], "ON" if on[i] else "OFF"] for i in range(1200)]
    found = read(table(tmp_path / "p.csv", rows, "time,a,pump"), only=("pump > 0",))
    assert found.starts == (0, 200) and len(found.values) == 1000
    assert np.flatnonzero(np.isnan(found.values[:, 0])).tolist() == [500, 501, 502]


def test_rows_are_made_samples_of_a_period(tmp_path: Path) -> None:
    path = table(tmp_path / "p.csv", plain(600))
    found = load(path, resample="mean:60s")
    np.testing.assert_allclose(found.values, VALUES[:600].reshape(10, 60, 2).mean(1), rtol=1e-6)
    np.testing.assert_array_equal(load(path, resample="last", period_s=60).values, VALUES[59:600:60].astype(np.float32))
    with pytest.raises(RecordingError, match=r"rows come each 1 s, not 60 s.*--resample"):
        load(path, period_s=60)


def test_what_was_said_of_one_file_holds_for_the_next(tmp_path: Path) -> None:
    rows = [[clock(i), VALUES[i, 0], -9999 if i % 40 == 0 else 100 + 2 * i, "x"] for i in range(600)]
    first = load(
        table(tmp_path / "p.csv", rows, "time,a,total,c"), missing=("-9999",), difference=("total",), ignore=("a",)
    )
    german = [f"{row[0][8:10]}.03.2025 {row[0][11:]};{str(row[1]).replace('.', ',')};{row[2]}" for row in rows]
    (tmp_path / "next.csv").write_text("Zeit;a;total\n" + "\n".join(german))
    again = load(tmp_path / "next.csv", like=first.layout)
    assert again.sensors == ("total",)
    np.testing.assert_array_equal(again.values, first.values)


def test_the_layout_that_was_found_reads_the_file_again(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("AI1;AI2\n;°C\n" + "".join(f"{clock(i)};{i % 7},5 °C\n" for i in range(60)), "cp1252")
    found = read(path)
    found_again = look(path, layout=Layout.from_toml(_written(tmp_path, found.layout)))
    np.testing.assert_array_equal(found_again.values, found.values)
    assert found_again.layout == found.layout


def _written(folder: Path, layout: Layout) -> Path:
    (folder / "layout.toml").write_text(toml_of(layout), "utf-8")
    return folder / "layout.toml"


def test_a_day_that_settles_the_order_of_a_date_settles_it_for_one_value_a_row(tmp_path: Path) -> None:
    days = [f"{day:02}.02.25 00:00:00;a;{day},5" for day in range(9, 29)]
    found = read(table(tmp_path / "long.csv", [[day] for day in days], "time;tag;value"))
    assert found.layout.time_format == "%d.%m.%y %H:%M:%S" and found.values[:, 0].tolist() == [
        d + 0.5 for d in range(9, 29)
    ]
