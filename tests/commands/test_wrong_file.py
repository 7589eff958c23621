"""A file in another's place: every command says what it is, by its content, and what comes next."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekd.cli import cli
from edgekd.data import Recording, save
from edgekd.file_kinds import EMPTY, RECORDING, SCORES, SIGNATURE, UNKNOWN, kind_of
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
        ("export plant.csv -o plant.csv", "plant.csv is a recording; distill it first"),
        ("export plant.parquet", "plant.parquet is a recording"),
        ("export plant.pt", "plant.pt is a recording"),
        ("export x.onnx", "x.onnx is an exported detector already; run it with edgekd-run --model x.onnx"),
        ("export student.pt --data x.onnx", "x.onnx is an exported detector, not a recording"),
        ("distill student.pt", "student.pt is a student, not a recording"),
        ("distill x.csv", "x.csv is an exported detector, not a recording"),
        ("distill plant.csv --teacher plant.csv", "plant.csv is a recording; distill it first"),
        ("evaluate plant.csv student.pt", "student.pt is a student, not a recording; the model comes first"),
        ("evaluate plant.csv x.onnx", "the model comes first: edgekd evaluate MODEL DATA"),
        ("evaluate plant.csv plant.csv", "plant.csv is a recording; distill it first"),
        ("evaluate student.pt plant.csv --teacher x.onnx", "x.onnx is an exported detector already"),
        ("inspect plant.csv", "plant.csv is a recording; distill it first"),
        ("bench plant.csv", "plant.csv is a recording; distill it first"),
        ("sign plant.csv --key key.pem", "plant.csv is a recording; distill it first"),
        ("sign student.onnx --key key.pem", "student.onnx is a student, not exported yet; export it first"),
        ("export key.pem", "key.pem is an unknown kind of file; give a file written by edgekd distill"),
    ],
)
def test_it_says_what_the_file_is_and_what_comes_next(words: str, says: str, here: None) -> None:
    with pytest.raises(EdgeKDError) as error:
        CliRunner().invoke(cli, words.split(), catch_exceptions=False, standalone_mode=False)
    assert says in str(error.value)


TABLE = "time;T1\n2024-05-01 10:00;12,5\n"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (TABLE.encode(), RECORDING),
        (b"T1\n12.5\n", RECORDING),
        (b"m,tag=a v=1.5 1700000000\n", RECORDING),
        (b'{"T1": 12.5}\n', RECORDING),
        (TABLE.encode("utf-16"), RECORDING),
        (gzip.compress(TABLE.encode(), mtime=0), RECORDING),
        (b"PK\x03\x04" + b"\0" * 26 + b"xl/workbook.xml", RECORDING),
        (b"PAR1\0\0", RECORDING),
        (b"sample,score,anomaly\n9,0.5,0\n", SCORES),
        (bytes(range(100, 164)), SIGNATURE),
        (TABLE.encode().ljust(64), RECORDING),
        (b"\x89HDF\r\n\x1a\n\0\0", UNKNOWN),
        (b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQ7\n-----END PRIVATE KEY-----\n", UNKNOWN),
        (b"", EMPTY),
    ],
)
def test_kinds_are_told_by_content(content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert kind_of(tmp_path / "file") == kind


@pytest.mark.parametrize("more", [["--check"], ["--csv", "plant.csv"]])
def test_a_device_says_that_a_student_is_to_be_exported_first(more: list[str], here: None) -> None:
    with pytest.raises(EdgeKDError, match="not exported yet; export it first: edgekd export"):
        CliRunner().invoke(run, ["--model", "student.pt", *more], catch_exceptions=False, standalone_mode=False)
