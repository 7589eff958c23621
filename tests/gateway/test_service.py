"""`edgekd-gateway` as a service: what it tells its manager, and that a second one is refused.

The manager is a datagram socket of ours, of the kind that systemd gives; the faults are real ones.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from device import PATIENCE_S, Port, hanging
from gateway_device import Gateway, gateway_command, run

from edgekd.runtime import signals
from edgekd.runtime.gateway.sinks.fan_out import LEAST_S
from edgekd.runtime.gateway.watchers.systemd import Systemd
from edgekd.runtime.signals import PLANNED_S
from edgekd.runtime.sources import END_S, TICK_S
from edgekd.runtime.watchers.state_keeper import END_WAIT_S

WATCHDOG_S = 0.8
STOP_S = 2.0  # promised
ROW = b"0.5,1.5,2.5\n"


class Manager:
    """What systemd is to a service of Type=notify."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
        self.told: list[str] = []

    def close(self) -> None:
        self._socket.close()

    def next(self, timeout_s: float = PATIENCE_S) -> str:
        """The next datagram, empty where none comes in time."""
        self._socket.settimeout(timeout_s)
        try:
            self.told.append(self._socket.recv(4096).decode())
        except TimeoutError:
            return ""
        return self.told[-1]

    def wait_for(self, start: str) -> str:
        while told := self.next():
            if told.startswith(start):
                return told
        raise AssertionError(f"{start} was not told; only {self.told}")


@pytest.fixture
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    abstract = getattr(request, "param", "path") == "abstract"
    manager = Manager(f"@edgekd-{os.getpid()}-{time.monotonic_ns()}" if abstract else str(tmp_path / "notify"))
    for variable, value in manager.environment.items():
        monkeypatch.setenv(variable, value)
    yield manager
    manager.close()


def pipe(folder: Path, *arguments: object) -> Gateway:
    return Gateway("--model", folder / "m.onnx", "--stdin", "--scores", *arguments, stdin=subprocess.PIPE)


def feed(device: Gateway, rows: int) -> None:
    assert device.process.stdin
    os.write(device.process.stdin.fileno(), ROW * rows)


@pytest.mark.parametrize("manager", ["path", "abstract"], indirect=True)
def test_the_manager_is_told_what_a_service_owes_it(folder: Path, manager: Manager) -> None:
    with pipe(folder) as device:
        ready = manager.wait_for("READY=1")
        assert "\nSTATUS=" in ready and "standard input" in ready
        for _ in range(3):  # the pipe is open and silent: idle, and known to be
            manager.wait_for("WATCHDOG=1")
        feed(device, 40)
        manager.wait_for("WATCHDOG=1")
        assert device.end(signal.SIGTERM) == 0
        manager.wait_for("STOPPING=1")


def test_the_input_that_is_gone_is_in_the_status(folder: Path, manager: Manager, tmp_path: Path) -> None:
    pytest.importorskip("serial")
    with Gateway("--model", folder / "m.onnx", "--serial", tmp_path / "tty") as device:
        assert "waiting for" in manager.wait_for("READY=1")  # tried, and the port may come later
        port = Port(tmp_path / "tty")
        assert "reading" in manager.wait_for("STATUS=")
        port.unplug()
        assert "lost" in manager.wait_for("STATUS=")
        for _ in range(3):
            manager.wait_for("WATCHDOG=1")
        assert device.end(signal.SIGTERM) == 0


def test_a_hung_step_starves_the_watchdog_though_samples_keep_coming(
    folder: Path, tmp_path: Path, manager: Manager
) -> None:
    file = gateway_command("--model", folder / "m.onnx", "--stdin")[-1]
    with hanging(tmp_path / "hangs", "run", file, module="edgekd.runtime.gateway.cli") as process:
        assert process.stdin
        manager.wait_for("READY=1")
        manager.wait_for("WATCHDOG=1")
        os.write(process.stdin.fileno(), ROW * 4 * 6)
        silent_since = time.monotonic()
        while time.monotonic() < silent_since + 2 * WATCHDOG_S:
            os.write(process.stdin.fileno(), ROW)
            if "WATCHDOG=1" in manager.next(0.05):
                silent_since = time.monotonic()
                assert manager.told.count("WATCHDOG=1") < 40
        process.send_signal(signal.SIGTERM)  # its own steering hangs too: this is what the manager's SIGKILL is for


def test_the_parts_of_an_end_that_hang_together_leave_time_for_it() -> None:
    """A source, then a disk: what the sinks then have is what is left until `PLANNED_S`."""
    assert TICK_S + END_S + END_WAIT_S <= PLANNED_S
    assert PLANNED_S + 5 * LEAST_S < signals.STOP_S < STOP_S  # two outlets, the outbox, the disk, standard output


def test_a_manager_that_does_not_listen_is_not_waited_for_at_every_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []
    service = Systemd("@nobody", watchdog_s=60.0)
    monkeypatch.setattr(service, "_send", lambda *words: tries.extend(words))
    for _ in range(100):
        service.feed()
    assert tries == ["WATCHDOG=1"]


def test_a_second_gateway_on_one_state_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    arguments = ("--model", folder / "m.onnx", "--stdin", "--scores", "--state", tmp_path / "state")
    with Gateway(*arguments, stdin=subprocess.PIPE) as device:
        feed(device, 4)
        device.wait_for("score")
        second = run(*arguments, input="")
        assert second.returncode == 2 and f"process {device.process.pid} runs on this state" in second.stderr
        assert device.end(signal.SIGTERM) == 0
