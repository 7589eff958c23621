"""A run takes its process as it finds it: closed descriptors, signals that come early, links and devices as files."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from device import COMMAND, PATIENCE_S, ROOT, Device, events_of, eventually, run

NOISY = "import sys; sys.stdin.read(); sys.stderr.write('noise' * 100)"


def run_closed(closed: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run to the end, with a descriptor closed as a shell does it."""
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("more", [("--csv", "x.csv"), ("--serial", "/none")])
def test_without_its_descriptors_a_run_does_the_rest(
    folder: Path, tmp_path: Path, closed: str, more: tuple[str, str]
) -> None:
    source = (more[0], folder / more[1])
    state = tmp_path / "state"
    arguments = ("--model", folder / "m.onnx", *source, "--scores", "--state", state)
    if source[0] == "--csv":
        done = run_closed(closed, *arguments)
        assert done.returncode == 0 and "Traceback" not in done.stderr
        assert bool(events_of(done.stdout)) == (closed == "2>&-")
    else:  # a live one, which ends when it is told to
        process = subprocess.Popen(["sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, *map(str, arguments)], cwd=ROOT)
        eventually(state.exists, "a state")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert state.read_bytes()[:8] == b"EDGEKDST"
    assert Path(f"{state}.lock").read_text().strip().isdecimal()  # nothing else has come into it


def test_a_closed_standard_input_is_none(folder: Path, tmp_path: Path) -> None:
    done = run_closed("<&-", "--model", folder / "m.onnx", "--stdin", "--state", tmp_path / "state")
    assert done.returncode == 2 and done.stderr == "edgekd-run: --stdin: standard input is closed\n"
    assert not list(tmp_path.iterdir())


def test_a_reader_of_standard_error_that_stalls_holds_up_nothing(folder: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for size in (4096, 1):  # to the last byte
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * size)
    os.set_blocking(writing, True)
    command = [*COMMAND, "--model", str(folder / "m.onnx"), "--csv", str(folder / "x.csv"), "--scores"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=writing, text=True, timeout=PATIENCE_S)
    os.close(writing)
    os.close(reading)
    assert done.returncode == 0 and events_of(done.stdout, "score")


@pytest.fixture
def hangups() -> Iterator[None]:
    """Children take hangups as usual, also where the tests run under nohup, which ignores them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups")
def test_a_hangup_during_the_start_ends_the_run_as_one_later_does(folder: Path, tmp_path: Path) -> None:
    with Device("--model", folder / "m.onnx", "--stdin", "--state", tmp_path / "s", stdin=subprocess.PIPE) as device:
        blocked = lambda: "SigBlk:\t0000000000000001" in Path(f"/proc/{device.process.pid}/status").read_text()  # noqa: E731
        eventually(blocked, "the beginning")
        assert device.end(signal.SIGHUP) == 0
    assert "0 samples" in device.words


def test_a_link_in_place_of_a_temporary_file_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".state.partial").symlink_to(victim)
    done = run("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--state", tmp_path / "state")
    assert done.returncode == 0 and victim.read_text() == "precious"
    assert not (tmp_path / "state").is_symlink() and (tmp_path / "state").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / ".state.partial").is_symlink()


@pytest.mark.parametrize("what", ["link", "file"])
def test_a_lock_is_written_over_nothing_else(folder: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / "victim").write_text("precious")
    lock = tmp_path / "state.lock"
    if what == "link":
        lock.symlink_to("victim")
    else:
        lock.write_text("precious")
    done = run("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--state", tmp_path / "state")
    assert done.returncode == (0 if what == "link" else 2) and "state.lock" in done.stderr
    assert (tmp_path / "victim").read_text() == lock.read_text() == "precious"


def test_a_state_is_one_by_whatever_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/state")  # which is not there yet
    (tmp_path / "folder").symlink_to("there")
    arguments = ("--model", folder / "m.onnx")
    with Device(*arguments, "--stdin", "--state", tmp_path / "link", stdin=subprocess.PIPE) as device:
        eventually((tmp_path / "there" / "state").exists, "a state")
        for name in ("there/state", "folder/state", "link"):
            second = run(*arguments, "--csv", folder / "x.csv", "--state", tmp_path / name)
            assert second.returncode == 2 and f"process {device.process.pid} runs on this state" in second.stderr
        device.end(signal.SIGTERM)
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a device")
@pytest.mark.parametrize("option", ["--state", "--record", "--model"])
def test_a_device_stays_one(folder: Path, tmp_path: Path, option: str) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o20600, os.makedev(1, 3))
    except OSError:
        pytest.skip("no device can be made here")
    given = {"--model": folder / "m.onnx", "--csv": folder / "x.csv", option: device}
    done = run(*(word for pair in given.items() for word in pair))
    assert done.returncode == (3 if option == "--model" else 2) and "is no regular file" in done.stderr
    assert device.is_char_device() and list(tmp_path.iterdir()) == [device]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("option", ["--threshold", "--false-alarms-per-day", "--hysteresis", "--state-every"])
def test_a_number_that_is_none_is_refused(folder: Path, tmp_path: Path, option: str, value: str) -> None:
    done = run(
        *("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--state", tmp_path / "s", f"{option}={value}")
    )
    assert done.returncode == 2 and option in done.stderr and "Traceback" not in done.stderr
    assert not done.stdout and not list(tmp_path.iterdir())
