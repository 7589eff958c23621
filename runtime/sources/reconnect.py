"""An input that may be lost at any time and comes back: what a serial port and a TCP connection have in common.

Whatever a read raises means the same here: close, wait, open again, and say so. The first line after every open is
dropped, because reading may begin somewhere in the middle of it. Nothing ends the run but `give_up_after_s`. It reads
and waits where it is, so it belongs into a thread (`ReadAhead`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator
from typing import Any, Protocol

from edgekd.runtime.backoff import Backoff
from edgekd.runtime.errors import InputLost
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import TICK_S, InputEvent, Items, Source, window_samples
from edgekd.runtime.sources.row_reader import RowReader

FIRST_WAIT_S = 0.2  # an adapter that is replugged is back within a second
LONGEST_WAIT_S = 10.0  # after that nobody wants a busy loop, and ten seconds are soon enough
ABSENT_WAIT_S = 0.5  # to see that a path is there costs nothing, and scoring goes on within a second of its return
GARBLED_S = 10.0  # so long mostly bad lines are no accident
GARBLED_LINES = 5  # of a slow line it takes longer to know


class Door(Protocol):
    """A kind of input that can be opened."""

    name: str
    """As the user gave it."""
    details: str
    """How it is read, for people; follows the name."""
    garbled: str
    """What to check where most of its lines are no samples."""

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

    def __init__(
        self,
        door: Door,
        rows: RowReader,
        manifest: Manifest,
        give_up_after_s: float | None = None,
        idle_timeout_s: float | None = None,
    ) -> None:
        """give_up_after_s: raise InputLost where the input has been gone for so long.
        idle_timeout_s: open the input again where it has said nothing for so long.
        """
        self.name = door.name
        self.rows: RowReader = rows
        self.reconnects: int = 0
        self._door = door
        self._shown = shown(door.name, 200)
        self._give_up_after_s = give_up_after_s
        self._idle_timeout_s = idle_timeout_s
        self._window_s = window_samples(manifest) * manifest.period_s

    def __iter__(self) -> Iterator[Items]:
        gone_since, lost = time.monotonic(), False
        backoff, reason = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S), ""
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
                readable = self.rows.parser.readable
                reason = yield from self._read()
                gone_since, lost = time.monotonic(), True
                if self.rows.parser.readable > readable:  # else it may be a loose contact: wait longer every time
                    backoff.reset()
                words = f"lost {self._shown}: {reason}; opening it again when it is back"
                yield [self._event("input_lost", words, reason=reason)]
            again = time.monotonic() + backoff.wait_s(ABSENT_WAIT_S if self._door.absent() else LONGEST_WAIT_S)
            while (left_s := again - (now := time.monotonic())) > 0:
                gone_s = now - gone_since
                if self._give_up_after_s is not None and gone_s > self._give_up_after_s:
                    raise InputLost(f"{self._shown}: gone for {gone_s:.0f} s ({reason}); gave up waiting for it")
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
        first, heard_at, garbled = True, time.monotonic(), _Garbled(self.rows)
        try:
            while True:
                try:
                    data = self._door.read()
                except (OSError, TypeError) as error:  # TypeError: pyserial, when the port vanishes inside a call
                    return reason_of(error)
                now = time.monotonic()
                if data:
                    heard_at = now
                elif self._idle_timeout_s is not None and now - heard_at > self._idle_timeout_s:
                    return f"it has said nothing for {self._idle_timeout_s:g} s"
                lines = self.rows.splitter.feed(data)
                if first and lines:
                    first = False
                    self.rows.parser.offer_header(lines.pop(0))  # of use even where its first character is missing
                items = self.rows.rows_of(lines)
                if garbled.observe(now):
                    words = f"most of what {self._shown} says is no sample: {self._door.garbled}"
                    items.append(self._event("input_garbled", words, check=self._door.garbled))
                yield items
        finally:
            with contextlib.suppress(OSError):
                self._door.close()


class _Garbled:
    """Notices an input of which most lines are no samples for a while; says so once, until it was well again."""

    def __init__(self, rows: RowReader) -> None:
        self._rows = rows
        self._told = False
        self._begin(time.monotonic())

    def observe(self, now: float) -> bool:
        """Whether it is to be told now."""
        good = self._rows.parser.readable - self._readable
        bad = self._rows.parser.unreadable - self._unreadable
        endless = self._rows.splitter.skipping  # noise without a newline is one line for ever
        if now < self._due or (good + bad < GARBLED_LINES and not endless):
            return False
        told, self._told = self._told, bad > good or (endless and not good)
        self._begin(now)
        return self._told and not told

    def _begin(self, now: float) -> None:
        self._due = now + GARBLED_S
        self._readable, self._unreadable = self._rows.parser.readable, self._rows.parser.unreadable


def reason_of(error: Exception) -> str:
    """What an exception of an input says, fit for a terminal."""
    return shown(str(error.args[-1] if error.args else error) or type(error).__name__, 160)
