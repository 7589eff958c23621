"""A run that is killed, stopped, cut off or refused its disk goes on as if nothing had happened."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from device import COMMAND, PATIENCE_S, ROOT, Device, events_of, run, write_csv
from step_models import step_file, step_samples

from edgekd.runtime.guard import admit
from edgekd.runtime.state import SavedState, StateFile

N, COUNT = 3, 1500


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a long recording with gaps, and the events of an uninterrupted run, in one folder."""
    folder = tmp_path_factory.mktemp("state")
    step_file(folder / "m.onnx", N, 4, warmup=8, threshold=0.15)
    samples = step_samples(N, COUNT)
    samples[np.random.default_rng(0).random(samples.shape) < 0.02] = np.nan
    samples[400:500, 1] = np.nan
    write_csv(folder / "x.csv", samples)
    (folder / "whole").write_text(run(*_arguments(folder)).stdout)
    return folder


def _arguments(folder: Path, *more: object) -> list[object]:
    return ["--model", folder / "m.onnx", "--csv", folder / "x.csv", "--scores", *more]


def _whole(folder: Path) -> list[dict]:
    return events_of((folder / "whole").read_text())


@contextlib.contextmanager
def _slow(folder: Path, pipe: Path, pause_s: float = 0.001) -> Iterator[None]:
    """The recording through a pipe, row by row, and no end of it: a file is read before a state is on disk."""
    over = threading.Event()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), pipe.open("wb", buffering=0) as file:
            for line in (folder / "x.csv").read_bytes().splitlines(keepends=True):
                file.write(line)
                time.sleep(pause_s)
            over.wait()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    yield
    over.set()
    writer.join(PATIENCE_S)


def _samples_saved(file: StateFile) -> int:
    saved = file.load()
    return 0 if saved is None else int(saved.arrays["seen"])


@pytest.mark.parametrize("seed", range(2))
def test_kill_at_any_sample_and_the_rest_is_the_same(recording: Path, tmp_path: Path, seed: int) -> None:
    state, pipe = tmp_path / "state", tmp_path / "pipe.csv"
    arguments = _arguments(recording, "--state", state, "--state-every", 0.02)
    whole = _whole(recording)
    fate = random.Random(seed)
    os.mkfifo(pipe)
    file = StateFile(state, admit(recording / "m.onnx", try_first=False)[0].digests.file)
    told: list[dict] = []
    for _ in range(2):
        before = _samples_saved(file)
        with _slow(recording, pipe), Device(*arguments, "--csv", pipe) as device:
            at = max((event["sample"] for event in told), default=0) + fate.randrange(50, 600)
            device.wait_for(lambda event, at=at: event["event"] == "score" and event["sample"] >= at)
            deadline = time.monotonic() + PATIENCE_S
            while _samples_saved(file) <= before:
                assert time.monotonic() < deadline, "no state is saved"
                time.sleep(0.01)
            device.process.kill()
            device.end()
            told += device.events
    last = run(*arguments)
    assert last.returncode == 0, last.stderr
    rest = events_of(last.stdout)
    assert rest[0]["event"] == "resumed" and rest[0]["sample"] > 0
    assert rest[1:] == [event for event in whole if event["sample"] >= rest[1]["sample"]][-len(rest) + 1 :]
    # nothing is lost over the three runs, anomalies and missing sensors included
    for event in whole:
        assert event in told or event in rest


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_stopped_run_saves_the_open_hop(recording: Path, tmp_path: Path, signum: int, code: int) -> None:
    arguments = _arguments(recording, "--state", tmp_path / "state")
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    with _slow(recording, pipe, 0.01), Device(*arguments, "--csv", pipe) as device:
        device.wait_for("anomaly")
        assert device.end(signum) == code
        first = device.events
    second = events_of(run(*arguments).stdout)
    assert second[0]["event"] == "resumed"
    assert first + second[1:] == _whole(recording)  # every event once


def test_a_finished_file_has_nothing_more_to_say(recording: Path, tmp_path: Path) -> None:
    arguments = _arguments(recording, "--state", tmp_path / "state")
    assert events_of(run(*arguments).stdout) == _whole(recording)
    again = run(*arguments)
    assert again.returncode == 0 and events_of(again.stdout) == [{"event": "resumed", "sample": COUNT}]
    assert "nothing after sample 1500" in again.stderr


def test_a_pipe_goes_on_counting_and_keeps_what_it_knows(recording: Path, tmp_path: Path) -> None:
    lines = (recording / "x.csv").read_text().splitlines(keepends=True)
    arguments = ["--model", recording / "m.onnx", "--stdin", "--scores", "--state", tmp_path / "state"]
    parts = [run(*arguments, input="".join(part)).stdout for part in (lines[:702], [lines[0], *lines[702:]])]
    scores = [event for part in parts for event in events_of(part, "score")]
    assert scores == [event for event in _whole(recording) if event["event"] == "score"]
    (resumed,) = events_of(parts[1], "resumed")
    assert resumed["sample"] == 701 and resumed["rewarm"] is False and 0 <= resumed["gap_s"] < PATIENCE_S


def test_after_a_reboot_the_memory_is_kept_and_verdicts_wait(recording: Path, tmp_path: Path) -> None:
    lines = (recording / "x.csv").read_text().splitlines(keepends=True)
    state = tmp_path / "state"
    arguments = ["--model", recording / "m.onnx", "--stdin", "--scores", "--state", state]
    run(*arguments, input="".join(lines[:103]))
    file = StateFile(state, admit(recording / "m.onnx", try_first=False)[0].digests.file)
    saved = file.load()
    assert saved is not None
    file.save(SavedState(saved.arrays, {**saved.meta, "boot_id": "another"}))
    done = run(*arguments, input="".join([lines[0], *lines[103:120]]))
    (resumed,) = events_of(done.stdout, "resumed")
    assert resumed == {"event": "resumed", "sample": 100, "gap_s": None, "rewarm": True}
    assert [event["sample"] for event in events_of(done.stdout, "score")] == [107, 111, 115]
    assert "rebooted" in done.stderr


def test_a_damaged_state_is_kept_aside_and_detection_starts_cold(recording: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    arguments = _arguments(recording, "--state", state)
    run(*arguments)
    data = state.read_bytes()
    half = len(data) // 2
    both = b"".join(slot[:200] + b"\0\0\0" + slot[203:] for slot in (data[:half], data[half:]))
    for damaged in (data[:500], b"", both, b"EDGEKDST" + b"\xaa" * 500):
        state.write_bytes(damaged)
        done = run(*arguments)
        assert done.returncode == 0 and events_of(done.stdout) == _whole(recording)
        assert "is not used" in done.stderr and "starting cold" in done.stderr
        assert (tmp_path / "state.corrupt").read_bytes() == damaged


def test_another_model_s_state_is_kept(recording: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    run(*_arguments(recording, "--state", state))
    data = state.read_bytes()
    other = step_file(tmp_path / "other.onnx", N, 4, seed=5)
    done = run("--model", other, "--csv", recording / "x.csv", "--state", state)
    assert done.returncode == 0 and "another model's" in done.stderr
    (kept,) = [path for path in tmp_path.glob("state.*") if path.read_bytes() == data]
    kept.replace(state)  # back to the first model
    assert "resumed" in run(*_arguments(recording, "--state", state)).stderr


def test_disk_full_keeps_detecting(recording: Path, tmp_path: Path) -> None:
    """A file-size limit stands in for the full disk; standard output is a pipe and has none."""

    def no_space() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    state, record = tmp_path / "state", tmp_path / "r.csv"
    arguments = _arguments(recording, "--state", state, "--state-every", 0, "--record", record)
    done = run(*arguments, preexec_fn=no_space)
    assert done.returncode == 0, done.stderr
    events = events_of(done.stdout)
    kinds = [event["event"] for event in events]
    assert kinds.count("state_not_saved") == 1 and kinds.count("record_stopped") == 1
    assert [e for e in events if e["event"] not in ("state_not_saved", "record_stopped")] == _whole(recording)
    assert [path.name for path in tmp_path.glob("*state*")] == ["state.lock"]  # no half of a state


def test_a_folder_that_is_not_there_keeps_detecting(recording: Path, tmp_path: Path) -> None:
    done = run(*_arguments(recording, "--state", tmp_path / "none" / "state"))
    assert done.returncode == 0 and "cannot save the state" in done.stderr
    assert events_of(done.stdout, "score") == [e for e in _whole(recording) if e["event"] == "score"]


def test_a_reader_that_leaves_ends_the_run_quietly(recording: Path) -> None:
    command = [*COMMAND, *map(str, _arguments(recording))]
    end, fd = os.pipe()
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 4096)  # what the run has to say is more, so that it meets the end of the reader
    process = subprocess.Popen(command, cwd=ROOT, stdout=fd, stderr=subprocess.PIPE)
    os.close(fd)
    assert process.stderr and os.read(end, 1)
    os.close(end)
    assert process.wait(PATIENCE_S) == 0
    assert process.stderr.read() == b""
    process.stderr.close()
