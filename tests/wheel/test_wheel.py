"""What a device installs: the wheel holds the whole tree, and runs what this checkout exports, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from device import PATIENCE_S, ROOT, events_of
from device import run as run_here

from bench.promises.pretend_port import watch
from bench.promises.wheel import RunFailed, environment, run
from edgekd.data import save
from edgekd.simulation.simulate import simulate

FOLDERS = {"edgekd": "edgekd", "export": "edgekd/export", "runtime": "edgekd/runtime"}  # and where the wheel has them
LINKS = (("edgekd", "export"), ("edgekd", "runtime"))
DATA = (".toml", ".service", ".typed", ".html", ".css", ".js")

Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From `make wheel`."""
    folder = tmp_path_factory.mktemp("dist")
    try:
        run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(folder / "probe"), "click")
    except RunFailed as error:
        pytest.skip(f"needs pip and a package index: {error}")
    run("make", "--silent", "wheel", f"PYTHON={sys.executable}", f"DIST={folder}")
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, as a gateway installs it."""
    install = ["-c", str(ROOT / "constraints.txt"), f"{wheel}[onnx,serial,mqtt]"]
    return environment(tmp_path_factory.mktemp("device") / "env", install).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_exported: dict[str, Path]) -> Path:
    """m.onnx, exported here, and x.csv with some anomalies."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "m.onnx").write_bytes(tiny_exported["float32"].read_bytes())
    faulty = simulate(samples=2400, sensors=4, seed=2).recording
    save(replace(faulty, labels=None).slice(0, 600), folder / "x.csv")
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> Events:
    """What this checkout's `edgekd-run` says."""
    done = run_here("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--scores")
    assert {event["event"] for event in events_of(done.stdout)} >= {"score", "anomaly"}, done.stderr
    return events_of(done.stdout)


def run_there(program: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S)


def scores(events: Events) -> Events:
    return [event for event in events if event["event"] == "score"]


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tree = {
        f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, inside in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if (path.suffix in (".py", *DATA) or path.name == "LICENSE") and path.relative_to(ROOT).parts[:2] not in LINKS
    }
    assert held == tree


def test_it_runs_without_torch(device: Path, folder: Path, expected: Events) -> None:
    code = "import importlib.util as u; print([n for n in ('torch', 'onnx', 'scipy', 'sklearn') if u.find_spec(n)])"
    assert run(str(device / "python"), "-I", "-c", code).strip() == "[]"
    program, files = device / "edgekd-run", ("--model", "m.onnx", "--csv", "x.csv")

    done = run_there(program, *files[:2], "--check", "--json", cwd=folder)
    assert done.returncode == 0 and json.loads(done.stdout)["ok"], done.stderr
    done = run_there(program, *files, "--scores", cwd=folder)
    assert done.returncode == 0 and events_of(done.stdout) == expected, done.stderr


def test_a_serial_line_gives_the_scores_of_the_file(device: Path, folder: Path, expected: Events) -> None:
    program, port, log = str(device / "edgekd-run"), folder / "tty", folder / "log"
    events = watch(program, folder / "m.onnx", folder / "x.csv", port, log, lambda event: None)
    assert scores(events) == scores(expected)


def test_the_gateway_gives_them_too(device: Path, folder: Path, expected: Events) -> None:
    (folder / "gateway.toml").write_text('[[stream]]\nmodel = "m.onnx"\ncsv = "x.csv"\nscores = true\n')
    for command in ("check", "run"):
        done = run_there(device / "edgekd-gateway", command, "gateway.toml", cwd=folder)
        assert done.returncode == 0, done.stderr
    events = [{name: value for name, value in event.items() if name != "id"} for event in events_of(done.stdout)]
    assert events == expected
