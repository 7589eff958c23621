"""How a run ends: SIGTERM, SIGINT, a terminal that closes, a reader of its events that hangs; and it runs only once."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import IO

import pytest
from device import (
    COMMAND,
    PATIENCE_S,
    ROOT,
    Device,
    Port,
    catches,
    events_of,
    eventually,
    hanging,
    run,
    write_csv,
)
from step_models import step_samples

from edgekd.runtime import cli, signals
from edgekd.runtime.sources import END_S, TICK_S
from edgekd.runtime.watchers.state_keeper import END_WAIT_S

N = 3
STOP_S = 2.0  # promised
ROW = b"0.5,1.5,2.5\n"


def pipe(folder: Path, *arguments: object) -> Device:
    return Device("--model", folder / "m.onnx", "--stdin", "--scores", *arguments, stdin=subprocess.PIPE)


def feed(device: Device, rows: int) -> None:
    assert device.process.stdin
    os.write(device.process.stdin.fileno(), ROW * rows)


@pytest.mark.parametrize("input", ["silent pipe", "silent port", "absent port"])
def test_sigterm_ends_within_two_seconds_and_keeps_the_state(folder: Path, tmp_path: Path, input: str) -> None:
    port = Port(tmp_path / "tty") if input == "silent port" else None
    door = ["--stdin"] if input == "silent pipe" else ["--serial", tmp_path / "tty"]
    arguments = ["--model", folder / "m.onnx", *door, "--scores", "--state", tmp_path / "state"]
    with Device(*arguments, stdin=subprocess.PIPE) as device:
        if port or input == "silent pipe":
            if port:
                device.wait_for("input_open")
                port.write(ROW * 6)  # the first is dropped
            else:
                feed(device, 5)
            device.wait_for("score")
        else:
            device.wait_for("input_waiting")
        began = time.monotonic()
        assert device.end(signal.SIGTERM) == 0  # by itself: one that takes longer than it should ends with 1
        assert time.monotonic() - began < STOP_S + 1  # the bound is ours to keep, the machine may be busy
    if port:
        port.unplug()
    if input != "absent port":
        again = run(*arguments[:2], "--stdin", "--state", tmp_path / "state", input="")
        (resumed,) = events_of(again.stdout, "resumed")
        assert resumed["sample"] == 5 or resumed["rewarm"]


def waiting_in(pipe: IO[bytes]) -> int:
    """Bytes that nobody has read yet."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0])


def test_sigterm_ends_within_two_seconds_where_nobody_reads_the_events(folder: Path, tmp_path: Path) -> None:
    many = write_csv(tmp_path / "many.csv", step_samples(N, 8000))
    command = [*COMMAND, "--model", folder / "m.onnx", "--csv", many, "--scores"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout and process.stderr
        assert process.stdout.read(1)
        eventually(lambda: waiting_in(process.stdout) > 60_000, "an almost full pipe")
        time.sleep(0.5)  # what is left takes milliseconds
        began = time.monotonic()
        process.terminate()
        assert process.wait(PATIENCE_S) == 1
        assert time.monotonic() - began < STOP_S + 1
        assert b"standard output hangs" in process.stderr.read()
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        for stream in (process.stdout, process.stderr):
            assert stream
            stream.close()


def test_the_parts_of_an_end_that_hang_together_leave_time_for_it() -> None:
    """A source, then a disk: what standard output then has is what is left until `PLANNED_S`."""
    assert TICK_S + END_S + END_WAIT_S <= signals.PLANNED_S
    assert signals.PLANNED_S + cli.LEAST_S < signals.STOP_S < STOP_S


def test_the_second_sigterm_does_not_wait(folder: Path, tmp_path: Path) -> None:
    with hanging(tmp_path / "hangs", "--model", folder / "m.onnx", "--stdin") as process:
        assert process.stdin
        os.write(process.stdin.fileno(), ROW * 4 * 6)
        eventually((tmp_path / "hangs").exists, "its sixth step")
        process.terminate()
        eventually(lambda: not catches(process.pid, signal.SIGTERM), "that it knows")
        began = time.monotonic()
        process.terminate()
        assert process.wait(PATIENCE_S) == -signal.SIGTERM
        assert time.monotonic() - began < 1.0


def test_the_second_ctrl_c_does_not_wait(folder: Path, tmp_path: Path) -> None:
    with hanging(tmp_path / "hangs", "--model", folder / "m.onnx", "--stdin") as process:
        assert process.stdin
        os.write(process.stdin.fileno(), ROW * 4 * 6)
        eventually((tmp_path / "hangs").exists, "its sixth step")
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert process.wait(PATIENCE_S) == 130


def test_sighup_is_a_terminal_that_closes(folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the run would inherit that it is ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, before))
    with pipe(folder, "--state", tmp_path / "state") as device:
        feed(device, 4)
        device.wait_for("score")
        assert device.end(signal.SIGHUP) == 0
    assert (tmp_path / "state").exists()


def test_a_second_run_on_one_state_is_refused_by_name_and_a_killed_one_leaves_no_lock(
    folder: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    arguments = ("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--state", state)
    with pipe(folder, "--state", state) as device:
        feed(device, 4)
        device.wait_for("score")
        second = run(*arguments)
        assert second.returncode == 2 and not second.stdout
        (line,) = second.stderr.splitlines()
        assert f"process {device.process.pid} runs on this state" in line
        device.process.kill()
        device.end()
    assert run(*arguments).returncode == 0
