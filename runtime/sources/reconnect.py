"""An input that may be lost at any time and comes back: what a serial port and a TCP connection have in common.

Whatever a read raises means the same here: close, wait, open again, and say so. The first line after every open is
dropped, because reading may begin in the middle of it. It waits where it is, so it belongs into a thread (`ReadAhead`).
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Generator, Iterator
from typing import Any, Protocol

from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import TICK_S, InputEvent, Items, Source, window_samples
from edgekd.runtime.sources.row_reader import RowReader

FIRST_WAIT_S = 0.2  # an adapter that is replugged is back within a second
LONGEST_WAIT_S = 10.0  # after that nobody wants a busy loop, and ten seconds are soon enough
ABSENT_WAIT_S = 0.5  # to see that a path is there costs nothing, and scoring goes on within a second of its return


class Door(Protocol):
    """A kind of input that can be opened."""

    name: str  # as the user gave it
    details: str  # how it is read, for people; follows the name
    garbled: str  # what to check where most of its lines are no samples

    def open(self) -> None:
        """Raises OSError or ValueError where it cannot be opened now."""

    def read(self) -> bytes:
        """What has come, after at most TICK_S; empty where nothing has. Raises OSError where the input is lost."""

    def close(self) -> None:
        """May raise OSError."""

    def absent(self) -> bool:
        """Whether there is nothing to open, so that to try again costs nothing."""

    def advice(self, error: Exception) -> str:
        """What to do about an open that failed, for people; follows the reason."""


class Reconnecting(Source):
    """Reads a door for ever."""

    def __init__(self, door: Door, rows: RowReader, manifest: Manifest) -> None:
        self.name = door.name
        self.rows: RowReader = rows
        self.rows.check = door.garbled
        self.reconnects: int = 0
        self._door = door
        self._shown = shown(door.name, 200)
        self._window_s = window_samples(manifest) * manifest.period_s

    def __iter__(self) -> Iterator[Items]:
        gone_since, lost = time.monotonic(), False
        backoff, reason, parser = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S), "", self.rows.parser
        while True:
            try:
                self._door.open()
            except (OSError, ValueError) as error:
                if reason_of(error) != reason:  # say it once, not every ten seconds
                    reason = reason_of(error)
                    words = f"waiting for {self._shown}: {reason}{self._door.advice(error)}"
                    yield [self._event("input_waiting", words, reason=reason)]
            else:
                yield [self._opened(time.monotonic() - gone_since, lost)]
                readable = parser.lines - parser.unreadable
                reason = yield from self._read()
                gone_since, lost = time.monotonic(), True
                if parser.lines - parser.unreadable > readable:  # else perhaps a loose contact: wait longer every time
                    backoff.reset()
                words = f"lost {self._shown}: {reason}; opening it again when it is back"
                yield [self._event("input_lost", words, reason=reason)]
            again = time.monotonic() + backoff.wait_s(ABSENT_WAIT_S if self._door.absent() else LONGEST_WAIT_S)
            while (left_s := again - time.monotonic()) > 0:
                time.sleep(min(TICK_S, left_s))
                yield self.rows.feed(b"")

    def _event(self, event: str, words: str, rewarm: bool = False, /, **fields: Any) -> InputEvent:
        return InputEvent(event, words, {"input": self.name, **fields}, rewarm)

    def _opened(self, gone_s: float, again: bool) -> InputEvent:
        """Start afresh, and tell it; after longer than the model's window the detector does too."""
        rewarm = gone_s > self._window_s
        self.rows.restart(gap=rewarm)
        if not again:
            return self._event("input_open", f"reading {self._shown}{self._door.details}", rewarm)
        self.reconnects += 1
        warm = "; verdicts come again after the warm-up" if rewarm else ""
        words = f"{self._shown} is back after {gone_s:.1f} s{warm}"
        return self._event("input_back", words, rewarm, lost_s=round(gone_s, 3), rewarm=rewarm)

    def _read(self) -> Generator[Items, None, str]:
        """Rows until the connection fails; returns why."""
        first = True
        try:
            while True:
                try:
                    data = self._door.read()
                except (OSError, TypeError) as error:  # TypeError: pyserial, when the port vanishes inside a call
                    return reason_of(error)
                lines = self.rows.splitter.feed(data)
                if first and lines:
                    first = False
                    self.rows.parser.offer_header(lines.pop(0))  # of use even where its first character is missing
                yield self.rows.samples_of(self.rows.rows_of(lines))
        finally:
            with contextlib.suppress(OSError):
                self._door.close()


class Backoff:
    """Twice as long every time, from `first_s` to `longest_s`; jittered: many gateways lose one broker at once."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = self._next_s = first_s
        self._longest_s = longest_s

    def reset(self) -> None:
        """It worked: the next wait is short again."""
        self._next_s = self._first_s

    def wait_s(self, longest_s: float | None = None) -> float:
        """Seconds to wait now; longest_s: another bound for this once."""
        longest_s = longest_s or self._longest_s
        wait_s = min(self._next_s * random.uniform(0.75, 1.25), longest_s)
        self._next_s = min(2 * self._next_s, longest_s)
        return wait_s


def reason_of(error: Exception) -> str:
    """What an exception of an input says, fit for a terminal."""
    return shown(str(error.args[-1] if error.args else error) or type(error).__name__, 160)
