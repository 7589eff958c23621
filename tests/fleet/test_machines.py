"""Which machines a fleet has, however it is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from device import write_csv
from step_models import step_samples

from edgekd.data import Recording, save
from edgekd.fleet.machines import ALL, read_fleet
from edgekd.runtime.errors import UsageError


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """a.csv, b.csv, and a folder c with two recordings and a test."""
    folder = tmp_path / "recordings"
    (folder / "c").mkdir(parents=True)
    for name in ("a.csv", "b.csv", "c/monday.csv", "c/tuesday.csv", "c/test.csv"):
        write_csv(folder / name, step_samples(3, 40))
    return folder


def named(source: str | Path, **how: object) -> dict[str, tuple[str, ...]]:
    fleet = read_fleet(str(source), {}, how)
    return {machine.name: tuple(Path(path).name for path in machine.data) for machine in fleet.machines}


def test_a_folder_holds_a_recording_or_a_folder_for_each(recordings: Path) -> None:
    assert named(recordings) == {"a": ("a.csv",), "b": ("b.csv",), "c": ("monday.csv", "tuesday.csv")}
    tests = [machine.test for machine in read_fleet(str(recordings), {}, {}).machines]
    assert tests == [None, None, str(recordings / "c" / "test.csv")]


def test_a_pattern_names_machines_by_what_differs(recordings: Path, tmp_path: Path) -> None:
    assert named(f"{recordings}/?.csv") == {"a": ("a.csv",), "b": ("b.csv",)}
    for machine in ("press-1", "press-2"):
        (tmp_path / machine).mkdir()
        write_csv(tmp_path / machine / "normal.csv", step_samples(3, 40))
    assert list(named(f"{tmp_path}/press-*/normal.csv")) == ["press-1", "press-2"]


def test_a_column_parts_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(90, 2)).astype(np.float32)
    save(Recording(values, ("x", "y"), 60.0, starts=(0, 40), entities=("p", "q")), tmp_path / "all.csv")
    found = read_fleet(str(tmp_path / "all.csv"), {}, {"group": "entity", "period_s": 60.0}).machines
    assert {machine.name: len(machine.recording or ()) for machine in found} == {"p": 40, "q": 50}
    assert len({machine.digest() for machine in found}) == 2


def test_a_file_says_types_and_single_machines(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(
        """
        data = "recordings/?.csv"
        test = "recordings/c/test.csv"
        [distill]
        preset = "innovations"
        [types.presses]
        machines = ["b*"]
        preset = "mahalanobis"
        false-alarms-per-day = 0.5
        [machines.d]
        data = ["recordings/c/monday.csv", "recordings/c/tuesday.csv"]
        """
    )
    fleet = read_fleet(str(tmp_path / "fleet.toml"), {"seed": 3}, {})
    assert {machine.name: machine.type for machine in fleet.machines} == {"a": ALL, "b": "presses", "d": ALL}
    assert fleet.settings["presses"].preset == "mahalanobis" and fleet.settings[ALL].preset == "innovations"
    assert fleet.settings["presses"].false_alarms_per_day == 0.5 and fleet.settings[ALL].seed == 3
    assert all(machine.test for machine in fleet.machines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('data = "recordings/?.csv"\nfolder = 3', "unknown key 'folder'"),
        ('data = "recordings/?.csv"\n[distill]\nspeed = 3', "unknown field 'speed'"),
        ('data = "recordings/?.csv"\n[distill]\none = "both"', "machine or type"),
        ('data = "recordings/?.csv"\n[distill]\npreset = "innovations"\none = "type"', "one student for a type"),
        ('data = "recordings/?.csv"\n[reading]\nperiod = 3', "[reading] has no 'period'"),
        ("data = 3", "must be a text"),
        ('data = "nowhere/*.csv"', "matches no file"),
        ("[machines.a]", "has no data"),
        ("data = ", "not TOML"),
    ],
)
def test_what_a_file_gets_wrong_is_said_in_one_line(recordings: Path, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "fleet.toml").write_text(text)
    with pytest.raises(UsageError) as told:
        read_fleet(str(tmp_path / "fleet.toml"), {}, {})
    assert says in str(told.value) and "\n" not in str(told.value)


def test_data_that_change_change_the_digest(recordings: Path) -> None:
    def digests() -> list[str]:
        return [machine.digest() for machine in read_fleet(str(recordings), {}, {}).machines]

    before = digests()
    assert digests() == before
    (recordings / "c" / "test.csv").write_text("x\n1\n")
    assert [one == other for one, other in zip(digests(), before)] == [True, True, False]
