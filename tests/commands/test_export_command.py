"""`edgekd export`: what is typed, what is told, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from edgekd.cli import cli
from edgekd.data import save
from edgekd.export import candidate, describe
from edgekd.export import onnx as room
from edgekd.export.embed import to_json
from edgekd.export.formats import ROOMS
from edgekd.export.formats import room as export_room
from edgekd.runtime import Detector
from edgekd.runtime.errors import ModelRefused, UsageError
from edgekd.runtime.guard import admit
from edgekd.runtime.manifest import Manifest
from edgekd.simulation.simulate import simulate


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["export", *map(str, words)], catch_exceptions=False, standalone_mode=False)


@pytest.fixture
def here(tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_gate: None) -> Path:
    """A folder with nothing but student.pt, and we are in it."""
    shutil.copy(tiny_student, tmp_path / "student.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("student.pt", "--int8"),
        ("--int8", "student.pt"),
        ("--int8=auto", "student.pt"),
        ("--int8", "auto", "student.pt"),
    ],
    ids=" ".join,
)
def test_int8_needs_no_argument_and_swallows_none(here: Path, words: tuple[str, ...]) -> None:
    result = run(*words)
    assert sorted(path.name for path in here.iterdir()) == ["student.onnx", "student.pt"]
    assert "80 closed-loop steps" in result.stdout
    assert ("refused" in result.stderr) == ("auto" in " ".join(words))
    assert Detector.load("student.onnx").manifest.quantization.scheme.startswith("int8")


def test_a_misspelled_scheme_is_told_from_a_student(here: Path) -> None:
    for words in (
        ("student.pt", "--int8", "statik"),
        ("--int8", "statik", "student.pt"),
        ("--int8=statik", "student.pt"),
    ):
        with pytest.raises(click.BadParameter, match="'statik' is not one of 'default', 'auto', 'static'"):
            run(*words)
    with pytest.raises(ModelRefused, match=r"missing\.pt: no such file"):
        run("--int8", "missing.pt")


def test_float_and_int8_side_by_side(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(simulate(samples=900, sensors=4, seed=2, faults=("level-shift",)).recording, tmp_path / "plant.csv")
    monkeypatch.setattr(candidate, "step_times", lambda engine, other, *given: (300.0, 1.5 if other else 1.0))
    said = run("student.pt", "--int8", "--data", "plant.csv")
    for row in ("file bytes", "step, µs", "Spearman with torch", "VUS-PR", "events found", "false alarms a day"):
        (line,) = [line for line in said.stdout.splitlines() if line.startswith(row)]
        assert len(line.removeprefix(row).split("  ")) >= 2, line
    assert "int8 buys no speed on this machine (1.50 of float's step)" in said.stderr
    assert "fastest on this machine" in said.stderr
    found = json.loads(
        run("student.pt", "--int8", "--data", "plant.csv", "--json").stdout, parse_constant=lambda n: 1 / 0
    )
    assert found["float"]["detection"]["events"] == found["detection"]["events"] == 1
    assert found["file_bytes"] == (here / "student.onnx").stat().st_size
    assert found["threshold"] != found["float"]["threshold"] and found["scheme"] == "coarse"
    with pytest.raises(UsageError, match="no labeled anomaly"):
        run("student.pt", "--data", "plant.csv", "--label-column", "none")


def test_format_and_name_follow_from_each_other(here: Path) -> None:
    before = (here / "student.pt").read_bytes()
    for words in (("-o", "student.pt"), ("--format", "tflite", "-o", "student.onnx"), ("-o", "plant")):
        with pytest.raises(UsageError, match=r"give -o \w+\.(onnx|tflite)"):
            run("student.pt", *words)
    with pytest.raises(UsageError, match="--target litert: an ONNX file has one engine"):
        run("student.pt", "--target", "litert")
    assert [path.name for path in here.iterdir()] == ["student.pt"] and (here / "student.pt").read_bytes() == before


def test_the_command_knows_every_scheme() -> None:
    """They are listed there so that `--help` need not load what makes them."""
    from edgekd.commands.export import SCHEMES, SUFFIXES
    from edgekd.export import tflite

    assert SUFFIXES == {"onnx": room.SUFFIX, "tflite": tflite.SUFFIX}
    assert {"default", "auto", *room.schemes(), *tflite.schemes(), *tflite.schemes("tflite-runtime")} == set(SCHEMES)


@pytest.mark.parametrize("format", ROOMS)
def test_every_scheme_can_be_told_in_a_manifest(tiny_exported: dict[str, Path], format: str) -> None:
    manifest, _ = admit(tiny_exported["float32"], try_first=False)
    for scheme in export_room(format).schemes().values():
        told = Manifest.from_json(to_json(describe.quantized(manifest, scheme)))
        assert told.quantization.scheme.startswith("int8")  # what the reader caps a self-test's tolerance by
