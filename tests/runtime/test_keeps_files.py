"""A run writes over nothing that it reads, and a state over nothing that never was one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from device import COMMAND, PATIENCE_S, ROOT, events_of, run

from edgekd.runtime.errors import UsageError
from edgekd.runtime.state import require_state


@pytest.fixture
def here(folder: Path, tmp_path: Path) -> Path:
    """m.onnx, x.csv that has the columns of a record, and other names for them."""
    (tmp_path / "m.onnx").write_bytes((folder / "m.onnx").read_bytes())
    header, *rows = (folder / "x.csv").read_text().splitlines()
    (tmp_path / "x.csv").write_text("\n".join([f"time,{header}", *(f"{i},{row}" for i, row in enumerate(rows))]) + "\n")
    for name in ("m.onnx", "x.csv"):
        (tmp_path / f"symlink-{name}").symlink_to(name)
        os.link(tmp_path / name, tmp_path / f"hard-link-{name}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.lock").write_text("s0,s1,s2\n1,2,3\n")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        *((f"--csv x.csv --record {name}", "over the file of --csv") for name in ("x.csv", "symlink-x.csv", "./x.csv")),
        ("--csv hard-link-x.csv --record x.csv", "over the file of --csv"),
        ("--stdin --record x.csv", "over the file of --stdin"),
        ("--serial tty --record tty", "over the file of --serial"),
        *((f"--csv x.csv --record {way}m.onnx", "over the file of --model") for way in ("", "symlink-", "hard-link-")),
        *((f"--csv x.csv --state {way}m.onnx", "over the file of --model") for way in ("", "symlink-", "hard-link-")),
        *((f"--csv x.csv --state {way}x.csv", "over the file of --csv") for way in ("", "symlink-", "hard-link-")),
        ("--stdin --state hard-link-x.csv", "over the file of --stdin"),
        ("--csv x.lock --state x", "the lock of --state would write over the file of --csv"),
        ("--csv x.csv --state new --record ./new", "over the file of --state"),
        ("--csv x.csv --state x.lock", "x.lock: is no state file"),
        ("--csv x.csv --state pipe", "pipe: is no regular file"),
        ("--csv x.csv --state /dev/null", "/dev/null: is no regular file"),
        ("--csv x.csv --layout pipe", "pipe: is no regular file"),
        ("--csv x.csv --layout /dev/zero", "/dev/zero: is no regular file"),
        ("--csv x.csv --require-signed pipe", "pipe: is no regular file"),
        ("--csv x.csv --state folder", "is a directory"),
        ("--csv x.csv --record folder", "is a directory"),
    ],
)
def test_a_run_keeps_what_is_there(here: Path, arguments: str, says: str) -> None:
    before = contents(here)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (here / "x.csv").open() as stdin:
        done = subprocess.run(
            [*COMMAND, "--model", "m.onnx", *arguments.split()],
            cwd=here, env=environment, stdin=stdin, capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
    *_, last = done.stderr.splitlines()
    assert done.returncode == 2 and says in last and done.stdout == ""
    assert contents(here) == before  # no lock either


def test_a_record_is_gone_on_with(here: Path) -> None:
    for copies in (1, 2):
        done = run("--model", here / "m.onnx", "--csv", here / "x.csv", "--record", here / "r.csv")
        assert done.returncode == 0 and events_of(done.stdout)
        assert len((here / "r.csv").read_text().splitlines()) == 1 + 160 * copies


def test_what_a_power_cut_leaves_of_a_state_is_one(tmp_path: Path) -> None:
    path = tmp_path / "state"
    slot = b"EDGEKDST".ljust(8192, b"\1")
    noise = b"\x17" * 512 + slot[512:]
    for left in (b"", b"E", slot, noise + slot, slot + noise, bytes(8192) + slot, bytes(16384)):
        path.write_bytes(left)
        require_state(str(path))
    require_state(str(tmp_path / "none" / "state"))
    for other in (b"s0,s1\n1,2\n", b"\x08\x07\x12", noise + noise):
        path.write_bytes(other)
        with pytest.raises(UsageError, match="no state file"):
            require_state(str(path))
