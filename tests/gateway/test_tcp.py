"""Lines from a TCP server that goes away, refuses, falls silent or says something else."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker import eventually
from device import PATIENCE_S, catches, write_csv
from gateway_device import Gateway, run
from step_models import step_file, step_manifest, step_samples

from edgekd.runtime.errors import UsageError
from edgekd.runtime.gateway.sources.tcp import KEEPALIVE, TcpServer
from edgekd.runtime.sources import InputEvent, Row
from edgekd.runtime.sources.reconnect import Reconnecting
from edgekd.runtime.sources.row_reader import RowReader

N = 3


def listening(family: socket.AddressFamily = socket.AF_INET, port: int = 0) -> socket.socket:
    server = socket.socket(family)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
    server.listen()
    server.settimeout(PATIENCE_S)
    return server


def source(address: str, **options: float) -> Iterator:
    rows = RowReader(step_manifest(N, 1), {}, "anything", address, live=True)
    return iter(Reconnecting(TcpServer(address), rows, step_manifest(N, 1), **options))


def test_scores_are_a_file_s_and_go_on_when_the_server_is_back(tmp_path: Path) -> None:
    model = step_file(tmp_path / "m.onnx", N, 4, warmup=8)
    lines = write_csv(tmp_path / "x.csv", step_samples(N, 120)).read_bytes().splitlines(keepends=True)
    want = run("--model", model, "--csv", tmp_path / "x.csv", "--scores").stdout
    server = listening()
    port = server.getsockname()[1]
    with Gateway("--model", model, "--tcp", f"127.0.0.1:{port}", "--scores") as device:
        connection, _ = server.accept()
        connection.sendall(b"".join(lines[:61]) + lines[61][:5])
        device.wait_for(lambda event: event.get("sample") == 59)
        connection.close()
        server.close()
        assert "closed the connection" in device.wait_for("input_lost")["reason"]
        assert "refused" in device.wait_for("input_waiting")["reason"]
        server = listening(port=port)
        connection, _ = server.accept()
        connection.sendall(lines[61][5:] + b"".join(lines[61:]))
        device.wait_for(lambda event: event.get("sample") == 119)
        assert device.end(signal.SIGTERM) == 0
        scores = [event for event in device.events if event["event"] == "score"]
    connection.close()
    server.close()
    assert len(scores) == 29 and all(f'"sample": {s["sample"]}, "score": {s["score"]}' in want for s in scores)


def test_a_connection_whose_other_end_lost_its_power_is_noticed() -> None:
    """The kernel asks an end that is silent; who will not wait for that gives an idle timeout."""
    server = listening(socket.AF_INET6)
    address = f"[::1]:{server.getsockname()[1]}"
    opened = TcpServer(address)
    opened.open()
    option = opened._connection.getsockopt
    assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert {name: option(socket.IPPROTO_TCP, getattr(socket, name)) for name in KEEPALIVE} == KEEPALIVE
    opened.close()
    told: list[str] = []
    items = source(address, idle_timeout_s=0.3)
    end = time.monotonic() + PATIENCE_S
    while "input_back" not in told and time.monotonic() < end:
        told += [item.event for item in next(items) if isinstance(item, InputEvent)]
    assert told == ["input_open", "input_lost", "input_back"]
    items.close()  # type: ignore[attr-defined]
    server.close()


def test_a_server_that_speaks_something_else_is_skipped_line_by_line() -> None:
    server = listening()
    items = source(f"localhost:{server.getsockname()[1]}")
    next(items)
    connection, _ = server.accept()
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>\n1,2,3\n" + b"\0" * 70000 + b"\n4,5,6\n")
    rows: list[Row] = []
    end = time.monotonic() + PATIENCE_S
    while len(rows) < 2 and time.monotonic() < end:
        rows += [item for item in next(items) if isinstance(item, Row)]
    assert [row.values.tolist() for row in rows] == [[1, 2, 3], [4, 5, 6]]
    connection.close()
    server.close()


def test_a_stop_does_not_wait_for_a_connection_that_hangs(tmp_path: Path) -> None:
    model = step_file(tmp_path / "m.onnx", N, 4)
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    waiting = []
    for _ in range(4):  # beyond these the kernel answers nobody
        waiting.append(socket.socket())
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(full.getsockname())
    with Gateway("--model", model, "--tcp", f"127.0.0.1:{full.getsockname()[1]}") as device:
        eventually(lambda: catches(device.process.pid, signal.SIGTERM), "its start")
        time.sleep(0.5)  # it connects
        began = time.monotonic()
        assert device.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < PATIENCE_S / 2
    for connection in (*waiting, full):
        connection.close()


@pytest.mark.parametrize(
    "address", ["", "host", "host:", "host:0", "host:70000", "::1:80", "[::1]", "a b:80", "\x1b:x"]
)
def test_an_address_that_is_none_is_said(address: str) -> None:
    with pytest.raises(UsageError, match="write HOST:PORT") as error:
        TcpServer(address)
    assert str(error.value).isprintable()


def test_a_name_that_is_not_known_is_waited_for() -> None:
    items = source("no-such-host.invalid:80", give_up_after_s=0.0)
    (waiting,) = next(items)
    assert isinstance(waiting, InputEvent) and "check the name" in waiting.words
