"""What is wrong with a file is told before training, and at it; the command that is offered mends it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd import cli

DAY = 1440
START = datetime(2026, 1, 5)
Cells = Sequence[object]


@pytest.fixture
def edgekd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in this process; what it wrote on stdout and stderr."""

    def run(*arguments: object) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["edgekd", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        wrote = capsys.readouterr()
        assert not ended.value.code, wrote.err
        return wrote.out, wrote.err

    return run


def plant(seed: int = 0, days: int = 2) -> dict[str, np.ndarray]:
    """Three healthy sensors of a steady plant, a minute a sample, each (days * DAY,)."""
    rng, steps = np.random.default_rng(seed), np.arange(days * DAY)
    return {
        "temp_c": (50 + 5 * np.sin(steps / 4) + rng.normal(0, 0.3, len(steps))).round(2),
        "flow_m3h": (12 + 2 * np.sin(steps / 4 + 1) + rng.normal(0, 0.2, len(steps))).round(2),
        "speed_rpm": (1480 + 10 * np.sin(steps / 4 + 2) + rng.normal(0, 1, len(steps))).round(1),
    }


def write(path: Path, columns: dict[str, Cells], rows: slice) -> Path:
    lines = [",".join(("time", *columns))]
    cells = zip(*(list(column)[rows] for column in columns.values()))
    for i, row in enumerate(cells, rows.start):
        lines.append(",".join(((START + timedelta(minutes=i)).isoformat(), *map(str, row))))
    path.write_text("\n".join(lines) + "\n")
    return path


def put(column: np.ndarray, value: object, *places: int | slice) -> Cells:
    cells = column.astype(object)
    for place in places:
        cells[place] = value
    return cells.tolist()


PLANT = plant(seed=1)
NORMAL = 0.02
"""Share of alarms on a normal day."""
FOR_EVER = ("counter", "totalizer")
"""What is an alarm ever after, without its option."""
TOTAL = (18_000 + np.cumsum(PLANT["flow_m3h"]) / 60).round(3)
SPREAD = range(30, 2 * DAY, 97)
CASES: dict[str, tuple[Cells, str, tuple[str, ...]]] = {
    "counter": (list(range(7, 2 * DAY + 7)), "x: counts samples", ("--ignore", "x")),
    "totalizer": (TOTAL.tolist(), "x: only grows", ("--difference", "x")),
    "sentinel": (put(PLANT["flow_m3h"], -9999, *SPREAD), "--missing -9999", ("--missing", "-9999")),
    "stuck": (put(PLANT["flow_m3h"], 12.5, slice(300, 700)), "x: moves, but repeats one value", ("--ignore", "x")),
    "boolean": (put(PLANT["flow_m3h"], "FALSE", *SPREAD), "missing", ()),
}  # fmt: skip


def alarm_share(edgekd: Any, folder: Path, columns: dict[str, Cells], options: Sequence[str]) -> tuple[float, str]:
    """Share of the verdicts on a normal day that are alarms, and what was said when the day before was learned."""
    day, next_day = (
        write(folder / "day.csv", columns, slice(0, DAY)),
        write(folder / "next.csv", columns, slice(DAY, 2 * DAY)),
    )
    _, said = edgekd("distill", day, "--preset", "ensemble", "-o", folder / "s.pt", *options)
    out, _ = edgekd("evaluate", folder / "s.pt", next_day, "--json")
    return float(json.loads(out)["alarm_share"]), said


def test_healthy_sensors_get_no_note_and_few_alarms(tmp_path: Path, edgekd: Any) -> None:
    share, said = alarm_share(edgekd, tmp_path, PLANT, ())
    assert share <= NORMAL and "note:" not in said


@pytest.mark.parametrize("case", CASES)
def test_a_column_that_is_no_plain_sensor_is_noted_and_its_option_ends_the_false_alarms(
    tmp_path: Path, edgekd: Any, case: str
) -> None:
    cells, note, options = CASES[case]
    share, said = alarm_share(edgekd, tmp_path, {**PLANT, "x": cells}, ())
    assert note in next(line for line in said.splitlines() if line.startswith("note:"))
    if options:
        assert share > 0.5 or case not in FOR_EVER
        share, said = alarm_share(edgekd, tmp_path, {**PLANT, "x": cells}, options)
        assert note not in said
    assert share <= NORMAL


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A day with a total, a count, a number for no value, and a sensor that is always the same."""
    columns = {
        **PLANT, "total_m3": TOTAL.tolist(), "turns": CASES["counter"][0], "level m": CASES["sentinel"][0],
        "spare": [4] * len(TOTAL),
    }  # fmt: skip
    return write(tmp_path / "wrong.csv", columns, slice(0, DAY))


def test_the_command_that_is_offered_mends_what_was_found(wrong: Path, tmp_path: Path, edgekd: Any) -> None:
    following = json.loads(edgekd("look", wrong, "--json")[0])["next"]
    command = shlex.split(following)
    assert command[:3] == ["edgekd", "distill", str(wrong)]
    for words in ("--difference total_m3", "--ignore turns", "--missing -9999"):
        assert words in following
    _, said = edgekd(*command[1:-1], tmp_path / "s.pt", "--preset", "ensemble")
    notes = [line for line in said.splitlines() if line.startswith("note:")]
    assert len(notes) == 2 and "held" in notes[0] and notes[1] == "note: 1 constant sensors: spare"
    look = json.loads(edgekd("look", *command[2:-2], "--json")[0])
    assert sorted(shlex.split(look["next"])) == sorted(command)
    assert [(s["sensor"], s["kind"]) for s in look["suspects"]] == [("spare", "constant")]


def test_people_see_each_sensor_and_programs_all_of_it(
    wrong: Path, edgekd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    table, said = edgekd("look", wrong)
    assert "1,440 samples of 7 sensors, one in 60 s (24 h), 2026-01-05 00:00:00 to 2026-01-05 23:59:00 UTC" in table
    assert "UTC; --timezone tells another zone" in table
    assert "tells another zone" not in edgekd("look", wrong, "--timezone", "Europe/Berlin")[0]
    row = next(line for line in table.splitlines() if line.startswith("total_m3"))
    assert "18,000" in row and "only grows" in row
    assert "next: edgekd distill" in table and not said
    facts = json.loads(edgekd("look", wrong, "--json")[0])
    level = next(sensor for sensor in facts["sensors"] if sensor["name"] == "level m")
    assert level["min"] == -9999 and level["missing"] == 0
    sentinel = next(s for s in facts["suspects"] if s["kind"] == "sentinel")
    assert sentinel["ranges"][0] == [30, 31] and sentinel["words"] in facts["notes"]


def test_a_healthy_file_gets_no_note(tmp_path: Path, edgekd: Any) -> None:
    facts = json.loads(edgekd("look", write(tmp_path / "day.csv", PLANT, slice(0, DAY)), "--json")[0])
    assert facts["notes"] == [] and facts["suspects"] == [] and facts["next"].endswith("day.csv -o student.pt")


def test_the_plot_is_written_and_destroys_no_recording(wrong: Path, tmp_path: Path, edgekd: Any) -> None:
    edgekd("look", wrong, "--plot", tmp_path / "wrong.png")
    assert (tmp_path / "wrong.png").read_bytes().startswith(b"\x89PNG")
    before = wrong.read_bytes()
    for option in ("--plot", "-o"):
        with pytest.raises(AssertionError, match="would write over DATA"):
            edgekd("look", wrong, option, wrong)
    assert wrong.read_bytes() == before
