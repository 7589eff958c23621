"""No command writes over what it reads, or over a file of another kind; an interrupted one leaves what was there."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from device import ROOT, write_csv
from step_models import step_file, step_samples

from edgekd.cli import cli
from edgekd.commands.files import File, check_files
from edgekd.data import Recording
from edgekd.distillation import distill
from edgekd.evaluation import plots
from edgekd.file_kinds import RECORDING
from edgekd.runtime.errors import UsageError

OLD = ROOT / "tests" / "compat" / "0.1.0"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
PNG = b"\x89PNG\r\n\x1a\n and the rest"
THERE = (
    "plant.csv",
    "scores.csv",
    "student.pt",
    "student-teacher.pt",
    "m.onnx",
    "m.tflite",
    "a.png",
    "other.pt",
    "x.npz",
)
WRITES = {
    "distill": (["plant.csv", "-o"], ".pt", ("student.pt",)),
    "evaluate --plot": (["student.pt", "plant.csv", "--plot"], ".png", ("a.png",)),
    "evaluate --scores": (["m.onnx", "csv:plant.csv", "--scores"], ".csv", ("scores.csv",)),
    "report": (["m.onnx", "csv:plant.csv", "-o"], ".html", ()),
    "export": (["student.pt", "--data", "plant.csv", "-o"], ".onnx", ("m.onnx", "m.tflite")),
    "bench": (["student.pt", "m.onnx", "--data", "plant.csv#x", "--plot"], ".svg", ("a.png",)),
    "simulate": (["--samples", "9", "--fault-free"], ".csv", ()),
}
"""What is typed before the output, its suffix, and what may be written over."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, in which we are, with one of each kind."""
    for name in ("student.pt", "student-teacher.pt"):
        shutil.copy(OLD / name, tmp_path)
    write_csv(tmp_path / "plant.csv", step_samples(3, 600))
    (tmp_path / "scores.csv").write_text("sample,score,anomaly\n9,0.5,0\n")
    step_file(tmp_path / "m.onnx", 3, 4, warmup=8, threshold=0.15)
    shutil.copy(OLD / "student.tflite", tmp_path / "m.tflite")
    (tmp_path / "a.png").write_bytes(PNG)
    np.savez(tmp_path / "x.npz", x=np.zeros(3))  # a zip archive as a checkpoint is
    shutil.copy(tmp_path / "x.npz", tmp_path / "other.pt")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.csv").write_text("s0,s1\n1,2\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)], standalone_mode=False)


def refused(*words: object) -> str:
    """Run what must be refused with exit code 2 before any work, and change nothing; what it says."""
    before = contents(Path())
    result = run(*words)
    error = result.exception
    assert isinstance(error, (UsageError, click.UsageError)) and error.exit_code == 2, result
    assert contents(Path()) == before
    said = str(error) if isinstance(error, UsageError) else error.message
    assert said.isprintable() and not result.output
    return said


def contents(folder: Path) -> dict[Path, Any]:
    """Every file with its bytes, and where it is."""
    return {path: (path.lstat().st_ino, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def link(to: str, how: str, suffix: str) -> Path:
    """Another name of a file."""
    path = Path(f"link{suffix}")
    os.link(to, path) if how == "hard link" else path.symlink_to(to)
    return path


@pytest.mark.parametrize("command", WRITES)
@pytest.mark.parametrize("how", ["hard link", "symlink"])
def test_no_output_goes_over_an_input_or_another_kind(here: Path, command: str, how: str) -> None:
    words, suffix, own = WRITES[command]
    for name in THERE:
        if name in own and name not in words:
            continue
        output = link(name, how, suffix)
        assert "over" in refused(command.split()[0], *words, output), name
        output.unlink()
        if Path(name).suffix == suffix or command not in ("export", "simulate"):
            assert "over" in refused(command.split()[0], *words, name), name
    assert "directory" in refused(command.split()[0], *words, "folder")
    for device in () if "--scores" in words else ("/dev/null", "/dev/stdin"):
        (output := Path(f"device{suffix}")).symlink_to(device)
        assert "over" in refused(command.split()[0], *words, output)
        output.unlink()


@pytest.mark.parametrize("how", ["hard link", "symlink"])
def test_no_output_goes_over_an_input_of_its_own_kind(here: Path, how: str) -> None:
    words = ["distill", "plant.csv", "--method", "regression", "--teacher", "student.pt", "-o"]
    assert "over --teacher" in refused(*words, "student.pt")
    assert "over --teacher" in refused(*words, "folder/../student.pt")
    assert "over --teacher" in refused(*words, link("student.pt", how, ".pt"))
    shutil.copy("m.onnx", "m.onnx.sig")
    assert "over m.onnx.sig" in refused("sign", "m.onnx", "m.onnx.sig", "--key", "plant.csv")
    assert "over --key" in refused("sign", "m.tflite", "--key", link("a.png", how, "").rename("m.tflite.sig"))


def test_what_a_command_writes_beside_its_output_goes_over_nothing(here: Path) -> None:
    for name, into in (("plant.csv", "b-teacher.pt"), ("student.pt", "b-teacher.pt"), ("plant.csv", "b.pt.work")):
        shutil.copy(name, into)
        assert "over" in refused("distill", "plant.csv", "-o", "b.pt")
        Path(into).unlink()
    shutil.copytree("folder", "b.pt.work")
    assert "b.pt.work" in refused("distill", "plant.csv", "-o", "b.pt")
    shutil.copy("plant.csv", "student.onnx")
    assert "student.onnx" in refused("export", "student.pt")
    shutil.copy("plant.csv", "m.onnx.sig")
    assert "is a recording" in refused("sign", "m.onnx", "--key", "student.pt")
    assert "never overwritten" in refused("sign", "--new-key", "plant.csv")


def test_two_outputs_are_two_files(here: Path) -> None:
    words = ["evaluate", "m.onnx", "plant.csv", "--plot", "new.png", "--scores"]
    assert "over --plot" in refused(*words, "new.png")
    assert "over --plot" in refused(*words, here / "new.png")
    assert "over --plot" in refused(*words, link("new.png", "symlink", ".csv"))
    shutil.copy("student-teacher.pt", "b.pt.work")
    assert "over --teacher" in refused("distill", "plant.csv", "-o", "b.pt", "--teacher", "b.pt.work")


@pytest.mark.parametrize("how", ["hard link", "symlink", "its name"])
def test_not_even_with_force_over_a_recording_that_is_read(here: Path, how: str) -> None:
    for data, name in ((here / "plant.csv", "plant.csv"), (here / "folder", "folder/a.csv")):
        output = Path(name) if how == "its name" else link(name, how, ".csv")
        with pytest.raises(UsageError, match="over DATA"):
            check_files([File("DATA", data)], [File("-o", output, (RECORDING,))], force=True)
        if how != "its name":
            output.unlink()


def test_a_recording_is_written_over_by_force_alone(here: Path) -> None:
    words = ["simulate", "plant.csv", "--samples", "9", "--fault-free"]
    assert "--force" in refused(*words)
    assert "--force" in refused(*words[:1], "plant.csv", *words[2:], "--json")
    before = Path("plant.csv").read_bytes()
    assert run(*words, "--force").exit_code == 0
    assert Path("plant.csv").read_bytes() != before
    assert "is a file of scores" in refused(*words[:1], "scores.csv", *words[2:], "--force")


def test_its_own_kind_and_an_empty_file_are_written_over(here: Path) -> None:
    Path("empty.svg").touch()
    Path("new.pt.work").mkdir()
    Path("new.pt.work", "student.training").touch()  # of a training that was killed
    for words in (
        ["distill", "plant.csv", "--method", "linear", "--period-s", "1", "-o", "student.pt"],
        ["distill", "plant.csv", "--method", "linear", "--period-s", "1", "-o", "new.pt"],
        ["evaluate", "student.pt", "plant.csv", "--plot", "a.png", "--scores", "scores.csv"],
        ["evaluate", "student.pt", "plant.csv", "--plot", "empty.svg"],
        ["evaluate", "student.pt", "plant.csv", "--plot", "empty.svg"],
    ):
        result = run(*words)
        assert result.exit_code == 0, result.exception
    assert Path("student.pt").read_bytes() != (OLD / "student.pt").read_bytes()
    assert Path("a.png").read_bytes() != PNG and Path("empty.svg").read_bytes().startswith(b"<?xml")
    assert len(Path("scores.csv").read_text().splitlines()) > 2


def test_a_full_disk_or_an_interrupt_leaves_scores_and_plots(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["evaluate", "m.onnx", "plant.csv", "--period-s", "1"]
    before = contents(here)

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def interrupted(figure: object, file: Any, **about: Any) -> None:
        file.write(PNG[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        for option, name in (("--scores", "scores.csv"), ("--plot", "a.png")):
            assert "cannot write" in str(run(*words, option, name).exception)
    monkeypatch.setattr(plots.Figure, "savefig", interrupted)
    assert isinstance(run(*words, "--plot", "a.png").exception, (KeyboardInterrupt, click.Abort))
    assert contents(here) == before


def test_scores_may_go_into_a_pipe_and_a_plot_needs_a_suffix(here: Path) -> None:
    words = ["evaluate", "m.onnx", "plant.csv", "--period-s", "1"]
    command = [sys.executable, "-m", "edgekd.cli", *words, "--scores", "/dev/stdout"]
    piped = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True).stdout
    with Path("out").open("wb") as out:
        subprocess.run(command, env=ENVIRONMENT, stdout=out, check=True)
    assert piped.startswith(b"sample,score,anomaly\n") and b"alarms" in piped  # the report follows
    assert Path("out").read_bytes() == piped
    Path("null").symlink_to("/dev/null")
    assert run(*words, "--scores", "null").exit_code == 0 and Path("null").is_symlink()
    assert ".png" in refused(*words, "--plot", "picture")


def test_an_interrupted_training_leaves_student_and_teacher(here: Path, tiny_recording: Recording) -> None:
    def interrupt(event: dict[str, Any]) -> None:
        if event.get("job") == "student":
            raise KeyboardInterrupt

    settings = {"epochs": 1, "teacher_epochs": 1, "teacher_hop": 60, "teacher_batch": 8, "channels": 4}
    with pytest.raises(KeyboardInterrupt):
        distill(tiny_recording, here / "student.pt", preset="quick", settings=settings, report=interrupt)
    for name in ("student.pt", "student-teacher.pt"):
        assert (here / name).read_bytes() == (OLD / name).read_bytes()
    assert (here / "student.pt.work").is_dir()  # for --resume, which then writes both
    distill(tiny_recording, here / "student.pt", preset="quick", settings=settings, resume=True)
    for name in ("student.pt", "student-teacher.pt"):
        assert (here / name).read_bytes() != (OLD / name).read_bytes()
    assert not (here / "student.pt.work").exists()
