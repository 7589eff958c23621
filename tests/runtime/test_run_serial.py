"""`edgekd-run` on a serial line, beside a file and a pipe: the same samples, the same scores."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from device import Device, Port, events_of, run, write_csv
from step_models import step_file, step_samples

pytest.importorskip("serial")
N, COUNT = 3, 240


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a recording with gaps, in one folder."""
    folder = tmp_path_factory.mktemp("serial")
    step_file(folder / "m.onnx", N, 4, warmup=8, threshold=0.15)
    samples = step_samples(N, COUNT)
    samples[50:70, 1] = np.nan
    write_csv(folder / "x.csv", samples)
    return folder


def csv_scores(folder: Path) -> list[dict]:
    done = run("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--scores")
    assert done.returncode == 0, done.stderr
    return events_of(done.stdout, "score")


def test_file_pipe_and_port_give_identical_scores(recording: Path, tmp_path: Path) -> None:
    want = csv_scores(recording)
    data = (recording / "x.csv").read_bytes()
    assert len(want) == COUNT // 4 - 1
    assert {event["anomaly"] for event in want} == {False, True}

    with Device("--model", recording / "m.onnx", "--stdin", "--scores", stdin=subprocess.PIPE) as device:
        assert device.process.stdin
        for i in range(len(data)):
            os.write(device.process.stdin.fileno(), data[i : i + 1])
        device.process.stdin.close()
        assert device.end() == 0
        assert device.scores() == want

    port = Port(tmp_path / "tty")
    with Device("--model", recording / "m.onnx", "--serial", tmp_path / "tty", "--scores") as device:
        device.wait_for("input_open")
        cuts = np.sort(np.random.default_rng(0).integers(0, len(data), 200))
        for chunk in np.split(np.frombuffer(data, np.uint8), cuts):
            port.write(chunk.tobytes())
        device.wait_for(lambda event: event["event"] == "score" and event["sample"] == want[-1]["sample"])
        assert device.end(signal.SIGTERM) == 0
        assert device.scores() == want
    port.unplug()


def test_an_unplugged_port_is_opened_again_and_nothing_torn_comes_through(recording: Path, tmp_path: Path) -> None:
    lines = (recording / "x.csv").read_bytes().splitlines(keepends=True)
    want = csv_scores(recording)
    link = tmp_path / "tty"
    port = Port(link)
    arguments = ("--model", recording / "m.onnx", "--serial", link, "--scores", "--record", tmp_path / "r.csv")
    with Device(*arguments) as device:
        device.wait_for("input_open")
        port.write(b"".join(lines[:101]) + lines[101][:4])  # the header, 100 samples, and a torn one
        device.wait_for(lambda event: event.get("sample") == 99)
        port.unplug()
        lost = device.wait_for("input_lost")
        assert lost["input"] == str(link) and lost["reason"]
        port = Port(link)  # another adapter under the same name
        device.wait_for("input_back")
        port.write(lines[101][4:] + b"".join(lines[101:]))  # the torn line's rest goes first
        device.wait_for(lambda event: event["event"] == "score" and event["sample"] == COUNT - 1)
        assert device.end(signal.SIGINT) == 130
        assert device.scores() == want
    port.unplug()
    # what was recorded is a recording: the same scores again
    replayed = run("--model", recording / "m.onnx", "--csv", tmp_path / "r.csv", "--scores")
    assert events_of(replayed.stdout, "score") == want


def test_a_port_that_is_not_there_yet_is_waited_for(recording: Path, tmp_path: Path) -> None:
    link = tmp_path / "tty"
    with Device("--model", recording / "m.onnx", "--serial", link) as device:
        waiting = device.wait_for("input_waiting")
        assert "No such file" in waiting["reason"]
        port = Port(link)
        device.wait_for("input_open")
        assert device.end(signal.SIGTERM) == 0
        assert "port" in device.words and "Traceback" not in device.words
    port.unplug()


def test_noise_on_the_line_is_counted(recording: Path, tmp_path: Path) -> None:
    lines = (recording / "x.csv").read_bytes().splitlines(keepends=True)
    port = Port(tmp_path / "tty")
    with Device("--model", recording / "m.onnx", "--serial", tmp_path / "tty", "--scores") as device:
        device.wait_for("input_open")
        noise = [b"", b"\xff\xfe\x00\n", b"boot v2, ready\n", b"1.0,2.0\n", b"9" * 9000 + b"\n"]
        body = [line + noise[i % 5] if i else line for i, line in enumerate(lines)]
        port.write(b"".join(body))
        device.wait_for(lambda event: event["event"] == "score" and event["sample"] == COUNT - 1)
        assert device.end(signal.SIGTERM) == 0
        assert device.scores() == csv_scores(recording)
        told = [event for event in device.events if event["event"] == "bad_lines"]
        assert told[-1]["total"] == sum(event["count"] for event in told) == COUNT * 4 // 5
    port.unplug()
