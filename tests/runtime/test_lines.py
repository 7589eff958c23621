"""Lines and messages as devices in the field send them, and what becomes of each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.runtime.errors import UsageError
from edgekd.runtime.layout import Layout
from edgekd.runtime.sources import InputEvent, Row
from edgekd.runtime.sources.csv_file import CsvFile
from edgekd.runtime.sources.lines import cells_of
from edgekd.runtime.sources.row_reader import RowReader
from tests.step_models import step_file, step_manifest

NAMES = {"s0": "temp_c", "s1": "pressure_bar", "s2": "speed_rpm"}
WANT = [12.5, 3.2, 1480.0]
NAN = float("nan")


def reader(columns: dict[str, str] | None = None, **layout: Any) -> RowReader:
    return RowReader(step_manifest(3, 1), NAMES if columns is None else columns, layout=Layout(**layout), live=True)


def rows_of(text: str | bytes, rows: RowReader) -> list[Row]:
    data = text.encode() if isinstance(text, str) else text
    return [item for item in rows.feed(data + b"\n") + rows.end() if isinstance(item, Row)]


@pytest.mark.parametrize(
    "line",
    [
        "12.5,3.2,1480",
        "12.5;3,2;1480",
        "12.5\t3.2\t1480",
        "  12.5   3.2  1480  ",
        "12.5|3.2|1480",
        "+12.5+3.2+1480",
        "0+12.5+3.2+1480",
        "\x1b[32m12.5,3.2,1480\x1b[0m",
        "\x0212.5,3.2,1480\x03",
        "12.5,3.2,1480*",
        "12.5,3.2,1480,",
        "temp_c:12.5,pressure_bar:3.2,speed_rpm:1480",
        "temp_c: 12.5, pressure_bar: 3.2, speed_rpm: 1480",
        "temp_c=12.5 pressure_bar=3.2 speed_rpm=1480",
        "speed_rpm=1480;temp_c=12.5;pressure_bar=3.2",
        "temp_c\t=\t12.5\tpressure_bar\t=\t3.2\tspeed_rpm\t=\t1480",
        "pump,host=gw1 temp_c=12.5,pressure_bar=3.2,speed_rpm=1480i 1740981600000000000",
        '{"temp_c":12.5,"pressure_bar":"3.2","speed_rpm":1480},',
        '{"topic":"x","payload":{"temp_c":12.5,"pressure_bar":3.2,"speed_rpm":1480}}',
        '{"ts":1740981600000,"values":{"temp_c":12.5,"pressure_bar":3.2,"speed_rpm":1480}}',
        '{"BME280":{"temp_c":12.5,"pressure_bar":3.2},"M":{"speed_rpm":1480}}',
        '[{"name":"temp_c","value":12.5},{"name":"pressure_bar","value":3.2},{"name":"speed_rpm","value":1480}]',
        '{"metrics":[{"name":"temp_c","value":12.5},{"id":"pressure_bar","value":3.2},{"tag":"speed_rpm","value":1480}]}',
    ],
)
def test_every_way_to_write_one_sample(line: str) -> None:
    rows = reader({}) if line[0] in "012 +\x1b\x02" else reader()
    found = rows_of(line, rows)
    assert [row.values.tolist() for row in found] == [pytest.approx(WANT)] and rows.bad == 0


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        ("T=12.5;P=3.2;N=1480", {"s0": "T", "s1": "P", "s2": "N"}),
        (
            '{"BME280":{"Temperature":12.5,"Pressure":3.2},"N":{"Temperature":1480}}',
            {"s0": "BME280.Temperature", "s1": "Pressure", "s2": "N.Temperature"},
        ),
    ],
)
def test_other_names_by_map(line: str, columns: dict[str, str]) -> None:
    assert [row.values.tolist() for row in rows_of(line, reader(columns))] == [pytest.approx(WANT)]


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("pump temp_c=1,pressure_bar=2,speed_rpm=3 1740981600000000000", 1740981600.0),
        ('{"ts":1740981600000,"values":{"temp_c":1,"pressure_bar":2,"speed_rpm":3}}', 1740981600.0),
        ('{"Time":"2025-03-03T06:00:00","temp_c":1,"pressure_bar":2,"speed_rpm":3}', 1740981600.0),
        ("2025-03-03 06:00:00 temp_c=1 pressure_bar=2 speed_rpm=3", 1740981600.0),
    ],
)
def test_a_message_s_own_time(line: str, seconds: float) -> None:
    assert rows_of(line, reader())[0].seconds == seconds


def test_names_take_a_line_apart_only_where_they_are_the_model_s() -> None:
    rows = reader({})
    assert rows_of("wifi: ssid=plant rssi=-60", rows) == [] and rows.bad == 1
    assert rows_of("rst:0x1 (POWERON),boot:0x13", rows) == [] and rows.bad == 2


def test_a_switch_s_word_is_no_number_but_of_a_switch() -> None:
    rows = reader()
    row = rows_of('{"temp_c":true,"pressure_bar":3.2,"speed_rpm":1480}', rows)[0]
    assert np.isnan(row.values[0]) and rows.bad == 1 and "temp_c" in rows.last_bad
    manifest = step_manifest(3, 1)
    switch = manifest.sensors[0].__class__("s0", "", 0, 1, 0)
    object.__setattr__(manifest, "sensors", (switch, *manifest.sensors[1:]))
    on = RowReader(manifest, {}, live=True)
    assert [row.values[0] for row in on.feed(b"ON,1,2\nfalse,1,2\n")] == [1, 0] and on.bad == 0


def test_local_dates_by_the_training_s_format_and_else_said_once() -> None:
    told = RowReader(step_manifest(1, 1), {}, layout=Layout(time=("at",), time_format="%d.%m.%Y %H:%M:%S"), live=True)
    assert [row.seconds for row in told.feed(b"at;s0\n03.03.2025 06:00:00;1\n")] == [1740981600.0]
    bare = RowReader(step_manifest(1, 1), {}, layout=Layout(time=("at",)), live=True)
    items = bare.feed(b"at;s0\n03.03.2025 06:00:00;1\n03.03.2025 06:00:01;2\n")
    events = [item for item in items if isinstance(item, InputEvent)]
    assert [event.event for event in events] == ["time_unreadable"] and "time_format" in events[0].words
    assert sum(isinstance(item, Row) for item in items) == 2


def run(model: Path, text: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edgekd.runtime.cli", "--model", str(model), "--stdin", "--scores", *options]
    return subprocess.run(command, input=text, capture_output=True, timeout=60)


def test_garbage_alone_ends_with_4(tmp_path: Path) -> None:
    model = step_file(tmp_path / "m.onnx", 2, 2, warmup=2)
    done = run(model, b"\xff\xfe garbage\nWARN 12 overheated\n" * 20)
    assert done.returncode == 4 and b"none of its 40 lines" in done.stderr
    assert run(model, b"1,2\n" * 4 + b"garbage\n").returncode == 0
    assert run(model, b"").returncode == 0


def test_blanks_and_quotes_of_hostile_lines_take_no_time(tmp_path: Path) -> None:
    """Each took half a minute."""
    model = step_file(tmp_path / "m.onnx", 2, 2, warmup=2)
    hostile = [b"a" * 500 + b" " * 3000 + b"b,x=", b"a=" + b" " * 3000 + b"b", b'm x="' + b'" "' * 1200]
    assert run(model, b"1,2\n" * 4 + b"\n".join(hostile * 20) + b"\n1,2\n").returncode == 0


def test_one_tag_a_message_is_merged_and_said_once(tmp_path: Path) -> None:
    model = step_file(tmp_path / "m.onnx", 3, 1, warmup=1)
    messages = "".join(f'{{"s0":{i}}}\n{{"s1":{i}}}\n{{"s2":{i}}}\n' for i in range(90))
    events = [json.loads(line) for line in run(model, messages.encode()).stdout.splitlines()]
    assert sum(event["event"] == "score" for event in events) == 90
    assert sum(event["event"] == "merging" for event in events) == 1


def test_rows_of_one_machine_by_the_layout() -> None:
    text = "m,s0,s1,s2\nA,1,2,3\nB,4,5,6\nA,7,8,9\n"
    named, first = reader({}, group="m=B"), reader({}, group="m")
    assert [row.values[0] for row in rows_of(text, named)] == [4] and named.bad == 0
    assert [row.values[0] for row in rows_of(text, first)] == [1, 7]
    assert first.bad == 1 and "group = 'm=A'" in first.last_bad
    plain = RowReader(step_manifest(3, 1), {}, layout=Layout(group="m=B"), live=True, likely=True)
    assert [row.values[0] for row in rows_of('{"s0":1,"s1":2,"s2":3}', plain)] == [1]  # it names no machine


def test_a_message_that_does_not_say_its_state_is_none() -> None:
    rows = reader({}, only=("pump > 0",))
    assert rows_of('{"s0":1,"s1":2,"s2":3}', rows) == [] and "pump" in rows.last_bad
    assert len(rows_of('{"s0":1,"s1":2,"s2":3,"pump":1}', rows)) == 1


def test_lists_of_lists_are_no_row_at_the_start_either() -> None:
    rows = reader({})
    assert rows_of("[[1],[2],[3]]", rows) == [] and rows.bad == 1


def test_a_header_without_the_tag_is_told() -> None:
    rows = reader({}, tag="sensor", value="v")
    assert rows_of("s0,s1,s2", rows) == [] and "lacks 'sensor', 'v'" in rows.last_bad


@pytest.mark.parametrize(
    ("layout", "lacks"),
    [
        ({"names": ("s0", "s1", "s2"), "time": ("at",)}, "'at'"),
        ({"names": ("s0", "s1", "s2"), "tag": "sensor", "value": "v"}, "'sensor', 'v'"),
        ({"names": ("s0", "s1")}, "'s2'"),
    ],
)
def test_names_of_the_layout_that_lack_a_column_are_refused(layout: dict[str, Any], lacks: str) -> None:
    with pytest.raises(UsageError, match=f"(lacks|there is no) {lacks}"):
        reader({}, **layout)


def test_conditions_hold_also_where_a_line_ends_in_a_separator() -> None:
    assert [row.values[0] for row in rows_of("1,2,3,\n-1,2,3,", reader({}, only=("s0 > 0",)))] == [1]


def test_a_sensor_named_like_the_clock_does_not_hide_it() -> None:
    rows = RowReader(step_manifest(1, 1), {"s0": "T"}, live=True)
    assert [row.time for row in rows_of("T,t\n1,2025-03-03", rows)] == ["2025-03-03"]


def test_a_list_of_named_values_has_no_topic() -> None:
    assert cells_of('[{"name":"s0","value":1}]', Layout(), lambda found: True) == {"s0": 1}
    assert cells_of('plant/a {"s0":1}', Layout(form="json"), lambda found: True) == {"topic": "plant/a", "s0": 1}


def test_a_file_that_names_its_columns_otherwise_than_the_training_is_mapped(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("x,s1\n1,2\n")
    source = CsvFile(tmp_path / "x.csv", step_manifest(2, 1), {"s0": "x"}, Layout(names=("s0", "s1")), likely=True)
    assert [row.values.tolist() for items in source for row in items if isinstance(row, Row)] == [[1, 2]]
