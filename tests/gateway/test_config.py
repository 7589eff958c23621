"""`edgekd-run --config`: flags over variables over files; the example and the unit that it prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from device import events_of, run

from edgekd.runtime.cli import cli
from edgekd.runtime.gateway.config import read_config, settings

N = 3


def config(folder: Path, **more: Any) -> Path:
    """A config that runs, with more keys."""
    lines = [f'model = "{folder / "m.onnx"}"', f'csv = "{folder / "x.csv"}"']
    lines += [f"{key.replace('_', '-')} = {value}" for key, value in more.items()]
    path = folder / "edgekd.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def thresholds(*arguments: object, **environment: str) -> set[float]:
    done = run(*arguments, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return {event["threshold"] for event in events_of(done.stdout, "anomaly")}


def test_flags_are_stronger_than_variables_and_those_than_the_file(folder: Path) -> None:
    file = config(folder, threshold=0.2, scores="true")
    assert len(events_of(run("--config", file).stdout, "score")) == 40
    assert thresholds("--config", file) == {0.2}
    assert thresholds("--config", file, EDGEKD_THRESHOLD="0.21") == {0.21}
    assert thresholds("--config", file, "--threshold", 0.22, EDGEKD_THRESHOLD="0.21") == {0.22}
    assert thresholds(EDGEKD_CONFIG=str(file)) == {0.2}


def test_an_input_on_the_command_line_takes_the_place_of_the_file_s(folder: Path, tmp_path: Path) -> None:
    file = config(folder)
    absent = file.read_text().replace("m.onnx", "gone.onnx").replace("csv", "serial", 1)
    file.write_text(absent)  # what a flag replaces need not be there
    done = run("--config", file, "--model", folder / "m.onnx", "--csv", folder / "x.csv", "--scores")
    assert done.returncode == 0 and len(events_of(done.stdout, "score")) == 40
    file = config(folder, stdin="true")
    assert "got --csv and --stdin" in run("--config", file).stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("threshhold = 1", "there is no option 'threshhold'; did you mean threshold?"),
        ("state_every = 1", "there is no option 'state_every'; did you mean state-every?"),
        ("[input]\nserial = 'x'", "there is no option 'input'; write 'option = value' without tables"),
        ("config = 'x'", "config is given on the command line, not in a config file"),
        ("threshold = '1'", "threshold must be a number, got '1'"),
        ("baud = 9600.5", "baud must be a whole number, got 9600.5"),
        ("baud = true", "baud must be a whole number, got true"),
        ("baud = 1", "baud: 1 is not in the range 50<=x<=20000000"),
        ("scores = 1", "scores must be true or false, got 1"),
        ("csv = 3", "csv must be a string"),
        ("map = 's0=a'", "map must be a list of strings"),
        ("map = [1]", "map must be a list of strings"),
        ("model = 'gone.onnx'", "model: File 'gone.onnx' does not exist"),
        ("threshold = nan", "--threshold must be a finite number"),
        ("= 3", "not TOML"),
        ("a = 1\na = 2", "not TOML"),
        ("\x1b]0;x\x07 = 1", "not TOML"),
        ('"\\u001b[2J" = 1', "there is no option '"),
    ],
)
def test_a_wrong_file_is_one_line_with_file_and_key(folder: Path, tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "wrong.toml"
    given = "" if text.startswith("model") else f"model = '{folder / 'm.onnx'}'\n"
    inputs = "" if text.startswith(("csv", "[")) else f"csv = '{folder / 'x.csv'}'\n"
    file.write_text(given + inputs + text)
    done = run("--config", file)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and says in line and line.isprintable() and not done.stdout
    assert "wrong.toml" in line or "finite" in says


def test_a_file_that_cannot_be_read_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "big.toml").write_bytes(b"#" * 2**21)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name, says in (("none.toml", "No such file"), (".", "Is a directory"), ("big.toml", "larger than 1 MiB")):
        done = run("--config", tmp_path / name)
        assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1
    assert "not TOML" in run("--config", tmp_path / "binary.toml").stderr


def test_the_example_names_every_option_and_works(folder: Path, tmp_path: Path) -> None:
    printed = run("--print-config")
    assert printed.returncode == 0 and not printed.stderr
    found = tomllib.loads(printed.stdout)
    whole = re.sub(r"^# (?=[a-z0-9-]+ = )", "", printed.stdout, flags=re.M)  # every setting that is commented out, too
    everything = tomllib.loads(whole)
    assert set(found) < set(everything) == set(settings(cli))
    path = tmp_path / "edgekd.toml"
    path.write_text(whole)
    values = read_config(str(path), click.Context(cli))
    for name, value in values.items():
        if name not in ("model", "config"):  # this one is not here
            value()
    path.write_text(printed.stdout)
    here = ("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--state", tmp_path / "state", "--scores")
    done = run("--config", path, *here)
    assert done.returncode == 0 and len(events_of(done.stdout, "score")) == 40, done.stderr


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    printed = run("--print-unit")
    assert printed.returncode == 0 and not printed.stderr
    for line in ("Type=notify", "WatchdogSec=30", "DynamicUser=yes", "StateDirectory=edgekd", "NoNewPrivileges=yes"):
        assert line in printed.stdout.splitlines()
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    unit = tmp_path / "edgekd.service"
    unit.write_text(printed.stdout.replace("/usr/local/bin/edgekd-run", "/bin/true"))  # it must be there
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
