"""The wall clock jumps by a day while `edgekd-run` runs, and the machine boots anew in between.

A preloaded function (set_clock.c) moves the real process's wall clock and leaves the monotonic ones alone; another boot
is another boot id, mounted over the kernel's in a mount namespace of the process's own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from device import COMMAND, PATIENCE_S, ROOT, Device, events_of, eventually, run, set_clock, write_csv
from step_models import step_file, step_samples

N, HOP, WARMUP, COUNT = 3, 4, 8, 480
DEBOUNCED = ("--min-duration", "4s", "--cooldown", "30s", "--hysteresis", "0.8")
BOOT_ID = "/proc/sys/kernel/random/boot_id"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clock")
    step_file(folder / "m.onnx", N, HOP, warmup=WARMUP, threshold=0.15)
    write_csv(folder / "x.csv", step_samples(N, COUNT))
    return folder


def without_clock(events: list[dict]) -> list[dict]:
    """What may not depend on the wall clock."""
    kept = [event for event in events if event["event"] not in ("resumed", "rate_mismatch")]
    return [{key: value for key, value in event.items() if key != "time"} for event in kept]


@pytest.mark.parametrize("jumps", [(1, 0), (-1, 1)])
def test_clock_jumps_by_a_day(folder: Path, tmp_path: Path, clock: Path, jumps: tuple[int, int]) -> None:
    lines = (folder / "x.csv").read_bytes().splitlines(keepends=True)
    arguments = ("--model", folder / "m.onnx", "--scores", *DEBOUNCED)
    whole = without_clock(events_of(run(*arguments, "--csv", folder / "x.csv").stdout))
    assert {"anomaly", "anomaly_end", "score"} <= {event["event"] for event in whole}
    state = tmp_path / "state"
    parts = [lines[:161], lines[161:321], lines[321:]]
    with Device(*arguments, "--stdin", "--state", state, "--state-every", 0.1, stdin=subprocess.PIPE) as device:
        assert device.process.stdin
        stdin = device.process.stdin.fileno()
        for part, days, last in zip(parts, (0, *jumps), (160, 320, 480)):
            set_clock(clock, days)
            before = state.read_bytes() if state.exists() else b""
            os.write(stdin, b"".join(part))
            device.wait_for(lambda event, last=last: event["event"] == "score" and event["sample"] == last - 1)
            if last < 480:  # the state goes on being saved, within what only a hang takes
                eventually(lambda before=before: state.read_bytes() != before, "that the state is saved anew")
        assert device.end(signal.SIGTERM) == 0
    assert without_clock(device.events) == whole


def test_a_clock_that_was_set_between_two_runs_is_no_gap(folder: Path, tmp_path: Path, clock: Path) -> None:
    lines = (folder / "x.csv").read_text().splitlines(keepends=True)
    arguments = ["--model", folder / "m.onnx", "--stdin", "--scores", "--state", tmp_path / "state"]
    first = run(*arguments, input="".join(lines[:202]))
    set_clock(clock, 1)
    second = run(*arguments, input="".join([lines[0], *lines[202:302]]))
    set_clock(clock, -1)
    third = run(*arguments, input="".join([lines[0], *lines[302:]]))
    for done in (second, third):
        (resumed,) = events_of(done.stdout, "resumed")
        assert resumed["rewarm"] is False and 0 <= resumed["gap_s"] < PATIENCE_S
    whole = events_of(run(*arguments[:2], "--csv", folder / "x.csv", "--scores").stdout, "score")
    assert [event for done in (first, second, third) for event in events_of(done.stdout, "score")] == whole


def test_after_a_boot_the_accumulator_is_kept_and_the_ring_warms_up(folder: Path, tmp_path: Path) -> None:
    if not shutil.which("unshare") or not Path(BOOT_ID).exists():
        pytest.skip("there is no unshare, or no boot id")
    (tmp_path / "boot").write_text("11111111-2222-3333-4444-555555555555\n")
    mount = f"mount --bind {tmp_path / 'boot'} {BOOT_ID}"
    if subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    lines = (folder / "x.csv").read_text().splitlines(keepends=True)
    arguments = ["--model", folder / "m.onnx", "--stdin", "--scores", "--state", tmp_path / "state"]
    run(*arguments, input="".join(lines[:204]))  # 203 samples: 3 of an open hop
    command = " ".join([*COMMAND, *map(str, arguments)])
    rest = "".join([lines[0], *lines[204:]])
    rebooted = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{mount} && exec {command}"],
        cwd=ROOT, input=rest, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert rebooted.returncode == 0, rebooted.stderr
    (resumed,) = events_of(rebooted.stdout, "resumed")
    assert resumed == {"event": "resumed", "sample": 200, "gap_s": None, "rewarm": True}
    assert "the machine was rebooted in between" in rebooted.stderr
    scores = events_of(rebooted.stdout, "score")
    assert scores[0]["sample"] == 200 + WARMUP - 1
    # what the graph remembers is from before: the same samples without a cold start
    samples = np.delete(step_samples(N, COUNT), slice(200, 203), axis=0)
    write_csv(tmp_path / "y.csv", samples)
    kept = events_of(run(*arguments[:2], "--csv", tmp_path / "y.csv", "--scores").stdout, "score")
    assert scores == [event for event in kept if event["sample"] >= scores[0]["sample"]]
    cold = events_of(run(*arguments[:2], "--stdin", "--scores", input=rest).stdout, "score")
    assert [event["score"] for event in cold[1:]] != [event["score"] for event in scores]
