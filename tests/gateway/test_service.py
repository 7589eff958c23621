"""A gateway as a service: what it tells its manager, how it stops, and what it reloads.

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
from device import PATIENCE_S, Device, Port, hanging

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


def pipe(folder: Path, *arguments: object) -> Device:
    return Device("--model", folder / "m.onnx", "--stdin", "--scores", *arguments, stdin=subprocess.PIPE)


def feed(device: Device, rows: int) -> None:
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
    with Device("--model", folder / "m.onnx", "--serial", tmp_path / "tty") as device:
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
    with hanging(tmp_path / "hangs", "--model", folder / "m.onnx", "--stdin") as process:
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
    assert PLANNED_S + 5 * LEAST_S < signals.STOP_S < STOP_S  # two outlets, the spool, the disk, standard output


def test_a_manager_that_does_not_listen_is_not_waited_for_at_every_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []
    service = Systemd("@nobody", watchdog_s=60.0)
    monkeypatch.setattr(service, "_send", lambda *words: tries.extend(words))
    for _ in range(100):
        service.feed()
    assert tries == ["WATCHDOG=1"]


def test_sighup_takes_over_the_threshold_and_says_what_has_to_wait(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "edgekd.toml"
    file.write_text("threshold = 0.2\n")
    with pipe(folder, "--config", file) as device:
        feed(device, 4)
        device.wait_for("score")
        file.write_text("threshold = 1e-9\nstate-every = 5\n")
        device.process.send_signal(signal.SIGHUP)
        reloaded = device.wait_for("reloaded")
        assert reloaded["threshold"] == 1e-9 and reloaded["needs_restart"] == ["state_every"]
        feed(device, 4)
        assert device.wait_for("anomaly")["threshold"] == 1e-9
        file.write_text("")
        device.process.send_signal(signal.SIGHUP)
        assert device.wait_for("reloaded")["threshold"] == 0.15  # the model's own
        assert device.end(signal.SIGTERM) == 0


def test_settings_that_are_wrong_at_reload_leave_the_old_ones(folder: Path, tmp_path: Path, manager: Manager) -> None:
    file = tmp_path / "edgekd.toml"
    file.write_text("threshold = 0.2\n")
    with pipe(folder, "--config", file) as device:
        manager.wait_for("READY=1")
        for wrong, says in (("thresold = 1", "did you mean threshold"), ("threshold = nan", "finite"), ("=", "TOML")):
            file.write_text(wrong)
            device.process.send_signal(signal.SIGHUP)
            assert says in device.wait_for("reload_failed")["reason"]
            told = manager.wait_for("RELOADING=1")
            assert int(told.split("MONOTONIC_USEC=")[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            manager.wait_for("READY=1")
        file.unlink()
        device.process.send_signal(signal.SIGHUP)
        assert "No such file" in device.wait_for("reload_failed")["reason"]
        feed(device, 4)
        device.wait_for("score")
        assert device.end(signal.SIGTERM) == 0
