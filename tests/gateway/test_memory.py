"""Floods, by MQTT, TCP and a pipe: memory stays bounded, and verdicts come again when samples do."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from broker import PATIENCE_S, Broker, eventually, needs_broker
from gateway_device import Gateway
from step_models import step_file, step_samples

N, HOP, MB = 3, 4, 1_000_000
PEAK_MB = 150
ROWS = "".join(",".join(map(str, row)) + "\n" for row in step_samples(N, 5000)).encode()


def long_as(size: int, piece: bytes) -> bytes:
    return (piece * (size // len(piece) + 1))[:size]


PAYLOADS: dict[str, Callable[[], bytes]] = {
    "rows": lambda: long_as(5 * MB, ROWS),
    "one line": lambda: long_as(5 * MB, b"1,2,3,"),
    "text": lambda: long_as(MB, b"hello\n"),  # a line takes as long as a sample
    "old line ends": lambda: long_as(5 * MB, ROWS.replace(b"\n", b"\r")),
    "digits": lambda: long_as(5 * MB, b"1"),
    "0xff": lambda: long_as(5 * MB, b"\xff"),
    "noise": lambda: random.Random(0).randbytes(5 * MB),
}


def peak_mb(device: Gateway) -> float:
    """The most memory that it had so far."""
    status = Path(f"/proc/{device.process.pid}/status").read_text()
    return round(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / MB, 1)


def figures(device: Gateway, before: int) -> dict[str, float]:
    """Peak memory; verdicts told until and since the end of the flood."""
    return {"peak_mb": peak_mb(device), "verdicts_during": before, "verdicts_after": len(device.scores()) - before}


def by_mqtt(folder: Path, payloads: Iterator[bytes], qos: int = 1, topic: str = "big") -> dict[str, float]:
    """All of them as fast as the broker takes them, then a sample at a time until there are verdicts of these."""
    import paho.mqtt.client as paho

    step_file(folder / "m.onnx", N, HOP, threshold=0.15)
    with Broker(folder, "allow_anonymous true", "message_size_limit 0") as broker:
        url = f"mqtt://127.0.0.1:{broker.port}/{topic}"
        with Gateway("--model", folder / "m.onnx", "--mqtt", url, "--scores") as device:
            device.wait_for("input_open")
            client = paho.Client(paho.CallbackAPIVersion.VERSION2)
            client.connect("127.0.0.1", broker.port)
            client.loop_start()
            for payload in payloads:
                sent = client.publish(topic, payload, qos)
                if qos:
                    sent.wait_for_publish(10 * PATIENCE_S)
            before = len(device.scores())

            def goes_on() -> bool:
                client.publish(topic, ROWS[: ROWS.index(b"\n")], 1).wait_for_publish(PATIENCE_S)
                return len(device.scores()) > before + 2

            eventually(goes_on, "verdicts", 10 * PATIENCE_S)
            client.disconnect()
            client.loop_stop()
            found = figures(device, before)
            assert device.end(signal.SIGTERM) == 0
    return found


def steady(seconds: float, a_second: int) -> Iterator[bytes]:
    """Rows at a rate, in bursts of a hundredth of a second."""
    rows = ROWS.splitlines()
    began = time.monotonic()
    for count in range(int(seconds * a_second)):
        if count % (a_second // 100) == 0:
            time.sleep(max(0.0, began + count / a_second - time.monotonic()))
        yield rows[count % len(rows)]


def by_tcp(folder: Path, pieces: Iterator[bytes]) -> dict[str, float]:
    """The same from a TCP server."""
    step_file(folder / "m.onnx", N, HOP, threshold=0.15)
    with socket.create_server(("127.0.0.1", 0)) as server:
        to = f"127.0.0.1:{server.getsockname()[1]}"
        with Gateway("--model", folder / "m.onnx", "--tcp", to, "--scores") as device:
            connection, _ = server.accept()
            with connection:
                return _after(device, pieces, connection.sendall)


def by_pipe(folder: Path, pieces: Iterator[bytes]) -> dict[str, float]:
    """The same on standard input."""
    step_file(folder / "m.onnx", N, HOP, threshold=0.15)
    with Gateway("--model", folder / "m.onnx", "--stdin", "--scores", stdin=subprocess.PIPE) as device:
        assert device.process.stdin
        fd = device.process.stdin.fileno()

        def send(data: bytes) -> None:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]

        return _after(device, pieces, send)


def _after(device: Gateway, pieces: Iterator[bytes], send: Callable[[bytes], Any]) -> dict[str, float]:
    for piece in pieces:
        send(piece)
    before = len(device.scores())

    def goes_on() -> bool:
        send(b"\n" + ROWS[: ROWS.index(b"\n") + 1])
        time.sleep(0.01)
        return len(device.scores()) > before + 2

    eventually(goes_on, "verdicts", 10 * PATIENCE_S)
    found = figures(device, before)
    assert device.end(signal.SIGTERM) == 0
    return found


@needs_broker
@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_queue_of_large_messages_is_bounded_and_scored_meanwhile(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("paho.mqtt.client")
    assert by_mqtt(tmp_path, iter([PAYLOADS[kind]()] * 12))["peak_mb"] <= PEAK_MB


@needs_broker
def test_a_message_beyond_all_bounds_is_read_past_and_counted(tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt.client")
    assert by_mqtt(tmp_path, iter([long_as(100 * MB, ROWS)] * 2))["peak_mb"] <= PEAK_MB / 2 + 20


@needs_broker
def test_large_models_by_control_are_looked_at_one_by_one(tmp_path: Path) -> None:
    paho = pytest.importorskip("paho.mqtt.client")
    step_file(tmp_path / "m.onnx", N, HOP)
    with Broker(tmp_path, "allow_anonymous true", "message_size_limit 0") as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        ways = ("--state", tmp_path / "state", "--mqtt", f"{url}/rows", "--control", f"{url}/c")
        with Gateway("--model", tmp_path / "m.onnx", *ways) as device:
            eventually(lambda: "listening to" in device.words, "that it listens")
            client = paho.Client(paho.CallbackAPIVersion.VERSION2)
            client.connect("127.0.0.1", broker.port)
            client.loop_start()
            for i in range(6):
                client.publish("c/model", random.Random(i).randbytes(8 * 2**20), 1).wait_for_publish(PATIENCE_S)
            device.wait_for("model_refused")
            client.disconnect()
            client.loop_stop()
            assert peak_mb(device) <= PEAK_MB - 10


@pytest.mark.parametrize("by", [by_tcp, by_pipe])
def test_a_line_without_end_and_zeros_take_no_memory(tmp_path: Path, by: Any) -> None:
    pieces = iter([long_as(MB, b"1,2,3,")] * 50 + [bytes(MB)] * 50 + [random.Random(0).randbytes(MB)] * 20)
    assert by(tmp_path, pieces)["peak_mb"] <= PEAK_MB
