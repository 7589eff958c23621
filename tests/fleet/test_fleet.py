"""A fleet by one command: what is made, skipped, resumed, told, and made anew where normal has moved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgekd.cli import cli
from edgekd.commands.sign import _make_key
from edgekd.data import save
from edgekd.fleet import drift, work
from edgekd.fleet import run as running
from edgekd.runtime import Detector
from edgekd.runtime.guard.signature import verify
from edgekd.simulation.simulate import simulate

SAMPLES = 1500
MACHINES = ("m1", "m2", "m3")


def in_turn(do: Callable[[Any], Any], jobs: list[Any], *_: Any) -> Iterator[tuple[Any, Any]]:
    """In place of a pool, whose processes take seconds to begin."""
    return ((job, do(job)) for job in jobs)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (running, drift):
        monkeypatch.setattr(module, "run", in_turn)
    monkeypatch.setattr(work, "export", partial(work.export, steps=30))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three machines, in `records` what they did next: m2's normal moves half-way, m3 has a sensor that is missing."""
    folder = tmp_path_factory.mktemp("fleet")
    for name in ("recordings", "records"):
        (folder / name).mkdir()
    for seed, name in enumerate(MACHINES):
        recording = simulate(2 * SAMPLES, sensors=4, seed=seed, faults=()).recording
        values = recording.values.copy()
        if name == "m2":
            values[SAMPLES + SAMPLES // 2 :] += 4 * values[:SAMPLES].std(0)
        save(recording.slice(0, SAMPLES), folder / "recordings" / f"{name}.csv")
        lines = ["time," + ",".join(recording.sensors)]
        for i in range(SAMPLES, 2 * SAMPLES):
            cells = [f"{value:.6g}" for value in values[i]]
            if name == "m3" and i % 3:
                cells[1] = ""
            lines.append(f"{1.7e9 + 60 * i:.0f}," + ",".join(cells))
        (folder / "records" / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def made(fleet: Path) -> Path:
    """Its site."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "run", in_turn)
        patch.setattr(work, "export", partial(work.export, steps=30))
        assert distill(fleet / "recordings", fleet / "site").exit_code == 0
    return fleet / "site"


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Path:
    """A copy."""
    return Path(shutil.copytree(made, tmp_path / "site"))


def distill(source: Path, site: Path, *more: str) -> Result:
    return CliRunner().invoke(cli, ["fleet", "distill", str(source), "-o", str(site), "--preset", "innovations", *more])


def contents(site: Path, *names: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(site)): path.read_bytes()
        for path in sorted(site.rglob("*"))
        if path.is_file() and path.name not in ("run.json", *names)
    }


def listed(site: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((site / "site.json").read_text())["machines"]
    return found


def test_every_machine_has_a_file_that_a_device_runs(made: Path) -> None:
    assert list(listed(made)) == list(MACHINES)
    for name, entry in listed(made).items():
        model = made / "machines" / name / entry["file"]
        assert Detector.load(model).manifest.names[0] == "feed_rate_lpm"


def test_nothing_is_made_twice(fleet: Path, site: Path) -> None:
    before = contents(site)
    result = distill(fleet / "recordings", site, "--json")
    assert json.loads(result.stdout)["unchanged"] == len(MACHINES)
    assert contents(site) == before


def test_a_run_that_was_cut_short_ends_in_the_same_files(
    fleet: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(do: Callable[[Any], Any], jobs: list[Any], *_: Any) -> Iterator[tuple[Any, Any]]:
        for job in jobs:
            yield job, do(job)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "run", cut)
        distill(fleet / "recordings", tmp_path / "again")
    result = distill(fleet / "recordings", tmp_path / "again", "--json")
    assert json.loads(result.stdout)["unchanged"] == 1
    assert contents(tmp_path / "again") == contents(made)


def test_one_bad_machine_costs_that_machine(fleet: Path, site: Path, tmp_path: Path) -> None:
    shutil.copytree(fleet / "recordings", tmp_path / "recordings")
    (tmp_path / "recordings" / "bad.csv").write_text("a,b\n1,2\n")
    result = distill(tmp_path / "recordings", site)
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if line.startswith("bad: ")]
    assert str(result.exception) == "1 of 4 machines failed; mend them, then run it again"
    assert list(listed(site)) == list(MACHINES)
    assert "bad" in CliRunner().invoke(cli, ["fleet", "report", str(site)]).stdout


def test_changed_data_make_one_machine_anew(fleet: Path, site: Path, tmp_path: Path) -> None:
    before = listed(site)
    shutil.copytree(fleet / "recordings", tmp_path / "recordings")
    shutil.copy(tmp_path / "recordings" / "m1.csv", tmp_path / "recordings" / "m3.csv")
    result = distill(tmp_path / "recordings", site, "--json")
    assert json.loads(result.stdout)["made"] == {"m3": "its data have changed"}
    after = listed(site)
    assert after["m1"] == before["m1"] and after["m3"]["model"] != before["m3"]["model"]


def test_files_and_their_list_are_signed(fleet: Path, site: Path, tmp_path: Path) -> None:
    public = _make_key(tmp_path / "key.pem")
    result = distill(fleet / "recordings", site, "--sign-with", str(tmp_path / "key.pem"))
    assert result.exit_code == 0
    for path in (site / "site.json", site / "machines" / "m1" / "student.onnx"):
        verify(path.read_bytes(), path, public)
    distill(fleet / "recordings", site)  # without a key the list would go unsigned
    assert not (site / "site.json.sig").exists()


def test_the_report_fits_a_terminal_and_a_page_stands_alone(site: Path) -> None:
    result = CliRunner().invoke(cli, ["fleet", "report", str(site)])
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1:4]] and "3 machines" in result.stdout
    page = (site / "report.html").read_text()
    assert all(name in page for name in MACHINES) and "http" not in page.partition("</style>")[2]


def test_who_moved_is_named_and_made_anew_from_records(fleet: Path, site: Path) -> None:
    records = str(fleet / "records")
    result = CliRunner().invoke(cli, ["fleet", "drift", str(site), "--from", records])
    assert [line.split(",")[0] for line in result.stdout.splitlines()] == ["m2: moved", "m3: mend"]
    found = json.loads((site / "drift.json").read_text())
    assert abs(found["moved"]["m2"]["since"] - SAMPLES // 2) < 100
    assert "is missing in 67%" in found["mend"]["m3"]["mend"][0]
    before = listed(site)
    made = json.loads(distill(fleet / "recordings", site, "--changed", "--from", records, "--json").stdout)["made"]
    assert made == {"m2": "its normal has moved"}
    assert CliRunner().invoke(cli, ["fleet", "drift", str(site), "--from", records]).stdout.startswith("m3: mend")
    again = json.loads(distill(fleet / "recordings", site, "--json").stdout)
    assert again["unchanged"] == len(MACHINES), "a later run must not go back to the old data"
    assert listed(site)["m2"]["model"] != before["m2"]["model"] and listed(site)["m1"] == before["m1"]


def test_labels_say_what_a_machine_is_worth(fleet: Path, tmp_path: Path) -> None:
    (tmp_path / "m1").mkdir()
    shutil.copy(fleet / "recordings" / "m1.csv", tmp_path / "m1")
    kinds = ("level-shift", "stuck-sensor", "spike-burst")
    save(simulate(3000, sensors=4, seed=0, faults=kinds).recording, tmp_path / "m1" / "test.csv")
    assert distill(tmp_path, tmp_path / "site").exit_code == 0
    quality = listed(tmp_path / "site")["m1"]["figures"]["quality"]
    assert not quality["trained_on"] and quality["found"] > quality["by_chance"] >= 0


def test_a_site_of_another_kind_is_left_alone(tmp_path: Path, fleet: Path) -> None:
    (tmp_path / "site.json").write_text('{"pages": 3}')
    result = distill(fleet / "recordings", tmp_path)
    assert "is no list of a fleet's machines" in str(result.exception)
    assert np.array_equal([*(path.name for path in tmp_path.iterdir())], ["site.json"])
