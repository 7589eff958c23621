"""A serial port that may be pulled out at any time and comes back.

Serial ports fail in many ways when they are unplugged: a read that is ready and returns nothing, EIO, ENXIO, ENODEV,
pyserial's own exceptions. All of them mean the same here: close, wait, open again, and say so. The first line after
every open is dropped, because reading begins somewhere in the middle of it.
"""

from __future__ import annotations

import contextlib
import errno
import random
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from edgekd.runtime.errors import MissingExtra
from edgekd.runtime.manifest import Manifest, shown
from edgekd.runtime.parse import Row
from edgekd.runtime.sources import TICK_S, InputEvent, RowReader

FIRST_WAIT_S = 0.2  # an adapter that is replugged is back within a second
LONGEST_WAIT_S = 10.0  # after that nobody wants a busy loop, and ten seconds are soon enough


class SerialLine:
    """Reads a serial port for ever."""

    live = True

    def __init__(self, device: str, baud: int, manifest: Manifest, columns: dict[str, str]) -> None:
        try:
            import serial
        except ModuleNotFoundError:
            raise MissingExtra("pyserial", "serial") from None
        self._serial = serial
        self.name = device
        self.rows = RowReader(manifest, columns, "anything", device)
        self._baud = baud

    def seek(self, sample: int) -> None:
        """A port cannot be sought."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Sequence[Row | InputEvent]]:
        lost_at: float | None = None
        wait_s, reason = FIRST_WAIT_S, ""
        while True:
            try:
                port = self._open()
            except (OSError, ValueError) as error:
                if _reason(error) != reason:  # say it once, not every ten seconds
                    reason = _reason(error)
                    words = f"waiting for {self._shown}: {reason}{_ports_that_exist()}"
                    yield [InputEvent("input_waiting", words, {"input": self.name, "reason": reason})]
            else:
                yield [self._opened(lost_at)]
                opened_at = time.monotonic()
                reason = yield from self._read(port)
                lost_at = time.monotonic()
                if lost_at - opened_at > LONGEST_WAIT_S:  # else it may be a loose contact: wait longer every time
                    wait_s = FIRST_WAIT_S
                words = f"lost {self._shown}: {reason}; opening it again when it is back"
                yield [InputEvent("input_lost", words, {"input": self.name, "reason": reason})]
            yield from _wait(wait_s * random.uniform(0.75, 1.25))  # jitter: many gateways lose one hub at one time
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _open(self) -> Any:
        return self._serial.Serial(self.name, self._baud, timeout=TICK_S, exclusive=True)

    def _opened(self, lost_at: float | None) -> InputEvent:
        fields: dict[str, Any] = {"input": self.name}
        if lost_at is None:
            return InputEvent("input_open", f"reading {self._shown} at {self._baud} baud", fields)
        fields["lost_s"] = round(time.monotonic() - lost_at, 3)
        return InputEvent("input_back", f"{self._shown} is back after {fields['lost_s']:.1f} s", fields)

    def _read(self, port: Any) -> Generator[Sequence[Row | InputEvent], None, str]:
        """Rows until the port fails; returns why."""
        splitter, parser = self.rows.splitter, self.rows.parser
        splitter.restart()
        first = True
        try:
            while True:
                try:
                    data = port.read(port.in_waiting or 1)
                except (OSError, TypeError) as error:  # TypeError: pyserial, when the port vanishes inside a call
                    return _reason(error)
                lines = splitter.feed(data)
                if first and lines:
                    first = False
                    parser.offer_header(lines.pop(0))  # a header is of use even where its first character is missing
                yield [row for line in lines if (row := parser.parse(line)) is not None]
        finally:
            with contextlib.suppress(OSError):
                port.close()

    @property
    def _shown(self) -> str:
        return shown(self.name, 200)


def _reason(error: Exception) -> str:
    said = shown(str(error.args[-1] if error.args else error) or type(error).__name__, 160)
    denied = getattr(error, "errno", None) == errno.EACCES
    return said + (" (sudo usermod -aG dialout $USER, then log in again)" if denied else "")


def _ports_that_exist() -> str:
    from serial.tools import list_ports

    ports = sorted(port.device for port in list_ports.comports())
    return f"; ports here: {shown(', '.join(ports), 300)}" if ports else "; there is no serial port here"


def _wait(seconds: float) -> Iterator[Sequence[Row | InputEvent]]:
    """Let the loop turn while time passes."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(TICK_S, left))
        yield ()
