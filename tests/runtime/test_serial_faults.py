"""A serial line that is pulled out, moved, noisy, taken, or gone for good."""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from device import PATIENCE_S, Device, Port
from step_models import step_file, step_manifest

from bench.promises.reconnect import reopened
from edgekd.runtime.sources import InputEvent, Row, reconnect, serial_line
from edgekd.runtime.sources.reconnect import Reconnecting
from edgekd.runtime.sources.row_reader import RowReader
from edgekd.runtime.sources.serial_line import SerialPort

pytest.importorskip("serial")
Items = Sequence[Row | InputEvent]


def source(link: Path) -> Reconnecting:
    """In this process, for a model of three sensors with a period and a window of 0.2 s."""
    manifest = step_manifest(3, 1, warmup=1, period_s=0.2)
    rows = RowReader(manifest, {}, "anything", str(link), live=True)
    return Reconnecting(SerialPort(str(link), 9600), rows, manifest)


def until(items: Iterator[Items], kind: str) -> InputEvent:
    """The next event of this kind."""
    end = time.monotonic() + PATIENCE_S
    for found in items:
        for item in found:
            if isinstance(item, InputEvent) and item.event == kind:
                return item
        assert time.monotonic() < end, f"no {kind}"
    raise AssertionError(f"ended before {kind}")


@pytest.mark.parametrize("times", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_pulled_out_in_the_middle_of_a_line_again_and_again(tmp_path: Path, times: int) -> None:
    """How soon it scores again is a figure: `python -m bench.promises.reconnect`. Here only a hang fails."""
    found = reopened(step_file(tmp_path / "m.onnx", 3, 4, warmup=8), tmp_path, times)
    print(found)
    assert found["exit code"] == 0 and not found["traceback"]
    assert found["samples that are no line that was sent"] == 0 and found["samples"] > times


def test_out_for_longer_than_the_window_it_warms_up_and_for_less_it_does_not(tmp_path: Path) -> None:
    port = Port(tmp_path / "tty")
    items = iter(source(tmp_path / "tty"))
    until(items, "input_open")
    for pause_s in (0.0, 0.5):
        port.unplug()
        until(items, "input_lost")
        time.sleep(pause_s)
        port = Port(tmp_path / "tty")
        back = until(items, "input_back")
        lost_s = back.fields["lost_s"]  # told to a millisecond
        assert back.rewarm == back.fields["rewarm"]
        assert back.rewarm == (lost_s > 0.2) or abs(lost_s - 0.2) < 1e-3
    assert back.rewarm and "after the warm-up" in back.words
    port.unplug()


@pytest.mark.parametrize("noise", [b"\x80\xff\xfe\n", b"\xf8\x1e" * 2500], ids=["lines", "endless"])
def test_at_a_wrong_baud_rate_the_line_is_told_to_check_it(tmp_path: Path, noise: bytes) -> None:
    model = step_file(tmp_path / "m.onnx", 3, 1)
    port = Port(tmp_path / "tty")
    with Device("--model", model, "--serial", tmp_path / "tty", "--baud", 9600, "--scores") as device:
        device.wait_for("input_open")
        port.write(b"torn\n" + noise)
        assert device.wait_for("bad_lines")["check"] == "check the baud rate (9600 now)"
        port.write(b"\n" + b"1,2,3\n" * 5 + b"1,x,3\n")
        device.wait_for(lambda event: event["event"] == "score" and event["sample"] == 4)
        assert device.end(15) == 0
        assert "if it stays so, check the baud rate" in device.words
    damaged = [event for event in device.events if event["event"] == "bad_lines"][-1]
    assert damaged["count"] == 1 and "check" not in damaged
    port.unplug()


def test_a_port_that_another_program_has_is_waited_for(tmp_path: Path) -> None:
    port = Port(tmp_path / "tty")
    fd = os.open(tmp_path / "tty", os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    items = iter(source(tmp_path / "tty"))
    assert "exclusively lock" in until(items, "input_waiting").words
    os.close(fd)
    until(items, "input_open")
    port.unplug()


def test_the_wait_grows_while_it_refuses_but_not_while_it_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds and more would pass here: time itself is the one thing that is not real."""
    clock = itertools.count(0, 0.001)
    waits: list[float] = []

    class Refusing(SerialPort):
        def open(self) -> None:
            waits.append(0.0)
            raise PermissionError(13, "Permission denied")

    def sleep(seconds: float) -> None:
        waits[-1] += seconds
        nonlocal clock
        clock = itertools.count(next(clock) + seconds, 0.001)

    monkeypatch.setattr(reconnect, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=sleep))
    for name, longest in (("none", 0.5), ("there", 12.5)):
        waits.clear()
        refused = source(tmp_path / "none")
        refused._door = Refusing(str(tmp_path / name), 9600)
        (tmp_path / "there").touch()
        items = iter(refused)
        while len(waits) < 20:
            next(items)
        assert 0.1 < waits[0] < 0.3 and longest * 0.5 < max(waits[:-1]) <= longest


def test_a_name_that_is_not_there_is_answered_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serial.tools import list_ports
    from serial.tools.list_ports_common import ListPortInfo

    found = [ListPortInfo(str(tmp_path / name)) for name in ("ttyUSB1", "ttyS0")]
    (tmp_path / "by-id").mkdir()
    (tmp_path / "by-id" / "usb-FTDI-0").symlink_to("../ttyUSB1")
    monkeypatch.setattr(serial_line, "BY_ID", tmp_path / "by-id")
    monkeypatch.setattr(list_ports, "comports", lambda: found)
    words = until(iter(source(tmp_path / "ttyUSB0")), "input_waiting").words
    assert "No such file" in words
    assert words.endswith(f"ports here: {tmp_path}/by-id/usb-FTDI-0, {tmp_path}/ttyS0, {tmp_path}/ttyUSB1")


def test_a_sequence_over_a_real_port(tmp_path: Path) -> None:
    """Duplicates, a short gap and a restarted sender, with checksums, through the command."""
    model = step_file(tmp_path / "m.onnx", 2, 2, warmup=4)
    port = Port(tmp_path / "tty")

    def line(count: int, damage: bytes = b"") -> bytes:
        text = b"%d,%d,%d" % (count, count, -count)
        return b"$" + text + damage + b"*%02X\n" % np.bitwise_xor.reduce(np.frombuffer(text, np.uint8))

    arguments = ["--sequence", "n", "--checksum", "nmea", "--record", tmp_path / "r.csv", "--scores"]
    with Device("--model", model, "--serial", tmp_path / "tty", *arguments) as device:
        device.wait_for("input_open")
        counts = [0, 1, 2, 2, 3, 6, 7, 5, 500, 501, 502, 503, 504, 505]
        port.write(b"torn\n" + b"".join(map(line, counts[:8])) + line(8, b"7") + b"".join(map(line, counts[8:])))
        gap = device.wait_for("input_gap")
        assert gap["samples"] == 492 and gap["reason"] == "sequence 500 after 7"
        device.wait_for(lambda event: event["event"] == "score" and event["sample"] == 13)
        assert device.end(15) == 0
    recorded = [row.split(",")[1] for row in (tmp_path / "r.csv").read_text().splitlines()[1:]]
    want = ["0", "1", "2", "3", "", "", "6", "7", *map(str, range(500, 506))]
    assert recorded == [f"{value}.0" if value else "" for value in want]
    assert [event for event in device.events if event["event"] == "bad_lines"][-1]["total"] == 3
    port.unplug()
