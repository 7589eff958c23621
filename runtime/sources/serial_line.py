"""A serial port. Its failures when it is unplugged are many; `reconnect.py` takes all of them alike."""

from __future__ import annotations

import errno
import termios
from pathlib import Path
from typing import Any

from edgekd.runtime.errors import MissingExtra
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sources import TICK_S
from edgekd.runtime.sources.reconnect import Door

BY_ID = Path("/dev/serial/by-id")


class SerialPort(Door):
    """The door to a serial port."""

    def __init__(self, device: str, baud: int) -> None:
        try:
            import serial
        except ModuleNotFoundError:
            raise MissingExtra("pyserial", "serial") from None
        self.name = device
        self.details = f" at {baud} baud"
        self.garbled = f"check the baud rate ({baud} now)"
        self._open = lambda: serial.Serial(device, baud, timeout=TICK_S, exclusive=True)
        self._port: Any = None

    def open(self) -> None:
        """Raises OSError or ValueError where it cannot be opened, as when another program has it."""
        try:
            self._port = self._open()
        except termios.error as error:  # pyserial lets it through where the port vanishes while it is opened
            raise OSError(*error.args) from None

    def read(self) -> bytes:
        """All that is there, or the first byte that comes."""
        return self._port.read(self._port.in_waiting or 1)

    def close(self) -> None:
        self._port.close()

    def absent(self) -> bool:
        try:
            return not Path(self.name).exists()
        except OSError:  # a folder that may not be looked into refuses
            return False

    def advice(self, error: Exception) -> str:
        if getattr(error, "errno", None) == errno.EACCES:
            return " (sudo usermod -aG dialout $USER, then log in again)"
        return _ports_that_exist() if self.absent() else ""


def _ports_that_exist() -> str:
    """The ports of this machine, those names first that outlive replugging."""
    from serial.tools import list_ports

    ports = [*map(str, sorted(BY_ID.glob("*"))), *sorted(port.device for port in list_ports.comports())]
    return f"; ports here: {shown(', '.join(ports), 1000)}" if ports else "; there is no serial port here"
