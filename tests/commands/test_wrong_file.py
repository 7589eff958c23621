"""A file in another's place: every command says what it is, by its content, and what comes next."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekd.cli import cli
from edgekd.data import Recording, save
from edgekd.runtime.cli import cli as run
from edgekd.runtime.errors import EdgeKDError


@pytest.fixture
def here(
    tiny_recording: Recording, tiny_student: Path, tiny_exported: dict[str, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A folder with a recording, a student and an exported detector, each under two names."""
    monkeypatch.chdir(tmp_path)
    save(tiny_recording, "plant.csv")
    save(tiny_recording, "plant.parquet")
    shutil.copy("plant.csv", "plant.pt")
    for file, names in (
        (tiny_student, ("student.pt", "student.onnx")),
        (tiny_exported["float32"], ("x.onnx", "x.csv")),
    ):
        for name in names:
            shutil.copy(file, name)
    CliRunner().invoke(cli, ["sign", "--new-key", "key.pem"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("export plant.csv", "plant.csv is a recording; distill it first: edgekd distill plant.csv"),
        ("export plant.parquet", "plant.parquet is a recording"),
        ("export plant.pt", "plant.pt is a recording"),
        ("export x.onnx", "x.onnx is exported already; run it with edgekd-run --model x.onnx"),
        ("export student.pt --data x.onnx", "x.onnx is an exported detector, not a recording"),
        ("distill student.pt", "student.pt is a student, not a recording"),
        ("distill x.csv", "x.csv is an exported detector, not a recording"),
        ("distill plant.csv --teacher plant.csv", "plant.csv is a recording; distill it first"),
        ("evaluate plant.csv student.pt", "student.pt is a student, not a recording; the model comes first"),
        ("evaluate plant.csv x.onnx", "the model comes first, then the recording: edgekd evaluate MODEL DATA"),
        ("evaluate plant.csv plant.csv", "plant.csv is a recording; distill it first"),
        ("inspect plant.csv", "plant.csv is a recording; distill it first"),
        ("bench plant.csv", "plant.csv is a recording; distill it first"),
        ("sign plant.csv --key key.pem", "plant.csv is a recording; distill it first"),
        ("sign student.onnx --key key.pem", "student.onnx is a student, not exported yet; export it first"),
        ("export key.pem", "key.pem is not a student checkpoint"),
    ],
)
def test_it_says_what_the_file_is_and_what_comes_next(words: str, says: str, here: None) -> None:
    with pytest.raises(EdgeKDError) as error:
        CliRunner().invoke(cli, words.split(), catch_exceptions=False, standalone_mode=False)
    assert says in str(error.value)


@pytest.mark.parametrize("more", [["--check"], ["--csv", "plant.csv"]])
def test_a_device_says_that_a_student_is_to_be_exported_first(more: list[str], here: None) -> None:
    with pytest.raises(EdgeKDError, match="not exported yet; export it first: edgekd export"):
        CliRunner().invoke(run, ["--model", "student.pt", *more], catch_exceptions=False, standalone_mode=False)
