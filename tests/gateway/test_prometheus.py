"""`edgekd-run --metrics`: what a scrape over HTTP says while a run goes on."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device import PATIENCE_S, eventually, write_csv
from gateway_device import Gateway, run
from step_models import step_file, step_samples

from edgekd.export.embed import embed
from edgekd.runtime.guard import admit

parser = pytest.importorskip("prometheus_client.parser")
N, COUNT = 3, 160
EVIL = 'x"} 1 evil{a="\\'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metrics")
    step_file(folder / "m.onnx", N, 4, threshold=0.15)
    samples = step_samples(N, COUNT)
    samples[8:, 1] = np.nan
    write_csv(folder / "x.csv", samples)
    return folder


def scrape(device: Gateway) -> dict[tuple[str, tuple[str, ...]], float]:
    """(name, label values) -> value."""
    patience = time.monotonic() + PATIENCE_S
    while not (url := re.search(r"metrics are at (\S+)", device.words)):
        assert device.process.poll() is None and time.monotonic() < patience, device.words
        time.sleep(0.02)
    with urllib.request.urlopen(url[1], timeout=30) as reply:
        text = reply.read().decode()
    families = list(parser.text_string_to_metric_families(text))
    return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


def test_a_thousand_clients_that_say_nothing_cost_a_few_threads(folder: Path) -> None:
    with (
        Gateway("--model", folder / "m.onnx", "--stdin", "--metrics", ":0", stdin=subprocess.PIPE) as device,
        contextlib.ExitStack() as clients,
    ):
        assert scrape(device)
        port = int(re.search(r":(\d+)/metrics", device.words)[1])  # type: ignore[index]
        process = Path(f"/proc/{device.process.pid}")
        for _ in range(1000):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
            client.send(b"GET /metrics HT")
        assert scrape(device)["edgekd_samples_total", ()] == 0
        eventually(lambda: len(list((process / "task").iterdir())) < 40, "that threads end")
        eventually(lambda: len(list((process / "fd").iterdir())) < 60, "that connections end")
    assert "Traceback" not in device.words


def test_a_scrape_tells_what_the_run_has_told(folder: Path, tmp_path: Path) -> None:
    arguments = ("--stdin", "--scores", "--metrics", ":0", "--state", tmp_path / "state")
    with Gateway("--model", folder / "m.onnx", *arguments, stdin=subprocess.PIPE) as device:
        assert device.process.stdin
        device.process.stdin.write("not a sample\n" + (folder / "x.csv").read_text())
        device.process.stdin.flush()
        last = device.wait_for(lambda event: event["event"] == "score" and event["sample"] == COUNT - 1)
        figures = scrape(device)
        anomalies = sum(event["event"] == "anomaly" for event in device.events)
        assert figures["edgekd_samples_total", ()] == COUNT
        assert figures["edgekd_verdicts_total", ()] == figures["edgekd_step_seconds_count", ()] == COUNT // 4
        assert figures["edgekd_anomalies_total", ()] == anomalies > 0
        assert figures["edgekd_bad_lines_total", ()] == 1
        assert figures["edgekd_score", ()] == pytest.approx(last["score"])
        assert figures["edgekd_threshold", ()] == 0.15
        assert figures["edgekd_step_seconds_bucket", ("+Inf",)] == COUNT // 4
        assert figures["edgekd_step_seconds_bucket", ("0.0001",)] <= figures["edgekd_step_seconds_bucket", ("1.0",)]
        assert 0 < figures["edgekd_step_seconds_sum", ()] < 60
        assert 0 <= figures["edgekd_input_age_seconds", ()] < 60
        assert 0 <= figures["edgekd_state_age_seconds", ()] < 60 and figures["edgekd_state_failures_total", ()] == 0
        assert figures["edgekd_sensor_missing", ("s1",)] == 1 and figures["edgekd_sensor_missing", ("s0",)] == 0
        assert figures["edgekd_held_values_total", ("s1",)] == COUNT - 8
        assert any(name == "edgekd_build_info" for name, _ in figures)
        device.process.stdin.close()
        assert device.end() == 0


def test_an_evil_sensor_name_stays_a_name(folder: Path, tmp_path: Path) -> None:
    manifest, model = admit(folder / "m.onnx", try_first=False)
    sensors = (replace(manifest.sensors[0], name=EVIL), *manifest.sensors[1:])
    (tmp_path / "evil.onnx").write_bytes(embed(model, replace(manifest, sensors=sensors)))
    arguments = ("--stdin", "--metrics", "127.0.0.1:0")
    with Gateway("--model", tmp_path / "evil.onnx", *arguments, stdin=subprocess.PIPE) as device:
        figures = scrape(device)
    assert figures["edgekd_sensor_missing", (EVIL,)] == 0
    assert not any(name.startswith("evil") for name, _ in figures)


@pytest.mark.parametrize(
    ("address", "says"),
    [("9108x", "write :9108"), (":99999", "write :9108"), ("192.0.2.1:9108", "give another address")],
)
def test_an_address_that_cannot_be_served_is_one_line(folder: Path, address: str, says: str) -> None:
    done = run("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--metrics", address)
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_port_in_use_is_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--metrics", f":{port}")
    assert done.returncode == 2 and "Address already in use" in done.stderr and len(done.stderr.splitlines()) == 1
