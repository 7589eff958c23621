"""The wall clock jumps by a day under a gateway: the state goes on being saved, and the watchdog being fed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from device import DAY_S, PATIENCE_S, set_clock, write_csv
from gateway_device import Gateway, events_of, run
from step_models import step_file, step_samples

from edgekd.runtime.gateway.watchers.clock import WallClock

N, HOP, WARMUP, COUNT = 3, 4, 8, 480
DEBOUNCED = ("--min-duration", "4s", "--cooldown", "30s", "--hysteresis", "0.8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clock")
    step_file(folder / "m.onnx", N, HOP, warmup=WARMUP, threshold=0.15)
    write_csv(folder / "x.csv", step_samples(N, COUNT))
    return folder


@pytest.mark.parametrize("jumps", [(1, 0), (-1, 1)])
def test_the_watchdog_is_fed_whatever_the_clock_says(
    folder: Path, tmp_path: Path, clock: Path, jumps: tuple[int, int]
) -> None:
    lines = (folder / "x.csv").read_bytes().splitlines(keepends=True)
    arguments = ("--model", folder / "m.onnx", "--scores", *DEBOUNCED)
    scores = events_of(run(*arguments, "--csv", folder / "x.csv").stdout, "score")
    state = tmp_path / "state"
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    os.environ |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    try:
        device = Gateway(*arguments, "--stdin", "--state", state, "--state-every", 0.1, stdin=subprocess.PIPE)
    finally:
        del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]
    parts = [lines[:161], lines[161:321], lines[321:]]
    with device:
        assert device.process.stdin
        stdin = device.process.stdin.fileno()
        for part, was, days, last in zip(parts, (0, 0, jumps[0]), (0, *jumps), (160, 320, 480)):
            if days != was:
                set_clock(clock, days)
                told = device.wait_for("clock_jumped")
                assert abs(told["by_s"] - DAY_S * (days - was)) < 60
            before = state.read_bytes() if state.exists() else b""
            os.write(stdin, b"".join(part))
            device.wait_for(lambda event, last=last: event["event"] == "score" and event["sample"] == last - 1)
            if last < 480:  # the state goes on being saved, and the watchdog being fed
                fed_and_saved(manager, state, before)
        assert device.end(signal.SIGTERM) == 0
    manager.close()
    assert device.scores() == scores


def test_a_clock_that_is_not_set_has_not_jumped() -> None:
    told: list[object] = []
    clock = WallClock(SimpleNamespace(emit=told.append, say=told.append))  # type: ignore[arg-type]
    time.sleep(0.05)
    clock.tick()
    assert not told


def fed_and_saved(manager: socket.socket, state: Path, before: bytes) -> None:
    """Both happen anew within what only a hang takes."""
    manager.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            manager.recv(4096)
    manager.settimeout(PATIENCE_S)
    while manager.recv(4096) != b"WATCHDOG=1":
        pass
    end = time.monotonic() + PATIENCE_S
    while state.read_bytes() == before:
        assert time.monotonic() < end, "the state is not saved any more"
        time.sleep(0.02)
