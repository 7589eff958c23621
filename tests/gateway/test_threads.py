"""No thread ends or hangs in silence: what a broker sends ends none, a fault ends the run, and a watchdog starves."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from broker import PATIENCE_S
from device import ROOT, write_csv
from gateway_device import Gateway, gateway_command
from step_models import step_file, step_samples
from test_refusals import CONNECTED, CONNECTED_5, Fake

from edgekd.runtime.gateway.watchers.systemd import HUNG_S, Service
from edgekd.runtime.gateway.watchers.threads import Threads
from edgekd.runtime.sources import Row, Source

FAULT = """
from edgekd.runtime.gateway.cli import main
{patch}
def fail(*_, **__):
    raise KeyError("what nobody thought of")
main()
"""
BREAKS = {
    "exec": "from edgekd.runtime.gateway.sinks.exec import Exec; Exec._deliver = lambda *_: fail()",
    "mqtt": "from edgekd.runtime.gateway.mqtt.publish import Publisher; Publisher.turn = lambda *_: fail()",
    "disk-writer": "from edgekd.runtime.gateway.outbox import Outbox; Outbox._write = lambda *_: fail()",
    "input": "from edgekd.runtime.gateway.sources.tcp import TcpServer; TcpServer.open = lambda *_: fail()",
    "loop": "from edgekd.runtime.detector import Detector; Detector.update = lambda *_: fail()",
}


def packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 16384
    return bytes([kind, *([len(body)] if len(body) < 128 else [len(body) & 127 | 128, len(body) >> 7])]) + body


def message(topic: bytes, payload: bytes, five: bool) -> bytes:
    return packet(0x30, len(topic).to_bytes(2) + topic + (b"\0" if five else b"") + payload)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    step_file(tmp_path / "m.onnx", 3, 4, threshold=0.15)
    write_csv(tmp_path / "x.csv", step_samples(3, 240))
    return tmp_path


@pytest.mark.parametrize("five", [True, False])
def test_nothing_that_a_broker_sends_ends_the_thread_that_reads_it(folder: Path, five: bool) -> None:
    pytest.importorskip("paho.mqtt.client")
    fate = random.Random(five)
    evil = [
        b"\x30\x05\x00\xffabc",  # a topic beyond the end
        b"\x30\x00",
        b"\x36\x07\0\1a\0\1xx",  # QoS 3
        b"\x90\x00",
        b"\x20\x00",
        b"\x30\xff\xff\xff\xff\xff",
        packet(0x90, bytes([0, 1, *([0] * five), 0x99])),
        *(packet(fate.randrange(256), fate.randbytes(fate.randrange(40))) for _ in range(9)),
    ]
    rows = "\n".join((folder / "x.csv").read_text().splitlines()[1:]).encode()

    def answer(number: int, kind: int, body: bytes) -> bytes:
        if kind == 0x10:
            return CONNECTED_5 if five else CONNECTED
        if kind != 0x82:
            return b""
        subscribed = packet(0x90, body[:2] + b"\0" * five + b"\0")
        no_text = message(b"\xff\xfe/x", b"1,2,3", five)
        return subscribed + no_text + (evil[number - 1] if number <= len(evil) else message(b"x", rows, five))

    with (
        Fake(answer) as broker,
        Gateway("--model", folder / "m.onnx", "--mqtt", f"mqtt://127.0.0.1:{broker.port}/x", "--scores") as device,
    ):
        assert "its topic is no text" in device.wait_for("bad_lines")["reason"]
        for _ in range(3):  # the waits between them grow
            device.wait_for("input_lost")
        assert device.process.poll() is None and "Traceback" not in device.words
        evil.clear()
        device.wait_for(lambda event: event["event"] == "score" and event["sample"] == 239)
        assert device.end(signal.SIGTERM) == 0 and "Traceback" not in device.words


@pytest.mark.parametrize("thread", BREAKS)
def test_a_fault_in_any_thread_ends_the_run_with_one_line(folder: Path, thread: str) -> None:
    pytest.importorskip("paho.mqtt.client")
    answers = {0x10: CONNECTED_5}
    with Fake(lambda _, kind, __: answers.get(kind, b"")) as broker:
        to = ["--publish", f"mqtt://127.0.0.1:{broker.port}/alerts"] if thread == "mqtt" else ["--exec", "/bin/true"]
        source = ["--tcp", f"127.0.0.1:{broker.port}"] if thread == "input" else ["--stdin"]
        _, _, _, *arguments = gateway_command("--model", folder / "m.onnx", "--outbox", folder / "outbox", *source, *to)
        code = FAULT.format(patch=BREAKS[thread])
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stdin and process.stderr
        process.stdin.write((folder / "x.csv").read_bytes())
        process.stdin.flush()  # and it stays open: nothing but the fault ends the run
        said = process.stderr.read().decode().splitlines()
        assert process.wait(PATIENCE_S) == 1
    faults = [line for line in said if "KeyError" in line]
    assert len(faults) == 1 and "a fault of this program" in faults[0] and "line" in faults[0]
    assert (f"thread {thread}: " in faults[0] or thread not in ("mqtt", "exec")) and not any("File" in x for x in said)


def test_a_thread_that_no_longer_comes_round_is_told_and_starves_the_watchdog() -> None:
    told: list[Any] = []
    outlet = SimpleNamespace(name="mqtt", turned_s=time.monotonic())
    source = Source()
    loop = SimpleNamespace(source=source, samples=0, anomalies=0, last=None, watchers=[])
    fan_out = SimpleNamespace(tell=lambda kind, words, fields: told.append((kind, fields)))
    turning = lambda: [(outlet.name, outlet.turned_s)]  # noqa: E731
    service = Service(SimpleNamespace(feed=lambda: told.append("fed")), turning)  # type: ignore[arg-type]
    service.watch("one", SimpleNamespace(loop=loop))  # type: ignore[arg-type]
    (progress,) = loop.watchers
    threads = Threads(fan_out, SimpleNamespace(error=None), turning)  # type: ignore[arg-type]
    row = Row(step_samples(1, 1)[0])
    for hangs in (False, True):
        outlet.turned_s = time.monotonic() - hangs * (HUNG_S + 1)
        told.clear()
        progress.arrived([])
        progress.sample(row)
        threads.tick()
        threads.tick()
        assert told == ([("thread_hung", {"threads": ["mqtt"]})] if hangs else ["fed", "fed"])
