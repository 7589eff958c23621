"""An input that may be lost at any time and comes back: what a serial port and a TCP connection have in common.

Whatever a read raises means the same here: close, wait, open again, and say so. The first line after every open is
dropped, because reading may begin somewhere in the middle of it. Nothing ends the run but `give_up_after_s`. It reads
and waits where it is, so it belongs into a thread (`ReadAhead`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Protocol

from edgekd.runtime.backoff import Backoff
from edgekd.runtime.errors import InputLost
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import TICK_S, InputEvent, Row, window_samples
from edgekd.runtime.sources.row_reader import RowReader

FIRST_WAIT_S = 0.2  # an adapter that is replugged is back within a second
LONGEST_WAIT_S = 10.0  # after that nobody wants a busy loop, and ten seconds are soon enough
ABSENT_WAIT_S = 0.5  # to see that a path is there costs nothing, and scoring goes on within a second of its return
GARBLED_S = 10.0  # so long mostly bad lines are no accident
GARBLED_LINES = 5  # of a slow line it takes longer to know


class Connection(Protocol):
    """An input that is open."""

    def read(self) -> bytes:
        """What has come, after at most TICK_S; empty where nothing has. Raises OSError where the input is lost."""

    def close(self) -> None:
        """May raise OSError."""


class Door(Protocol):
    """A kind of input that can be opened."""

    name: str
    """As the user gave it."""
    details: str
    """How it is read, for people; follows the name."""
    garbled: str
    """What to check where most of its lines are no samples."""

    def open(self) -> Connection:
        """Raises OSError or ValueError where it cannot be opened now."""

    def absent(self) -> bool:
        """Whether there is nothing to open, so that to try again costs nothing."""

    def advice(self, error: Exception) -> str:
        """What to do about an open that failed, for people; follows the reason."""


class Reconnecting:
    """Reads a door for ever."""

    live = True

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
        self.rows = rows
        self.reconnects = 0
        """Times that the input came back."""
        self._door = door
        self._give_up_after_s = give_up_after_s
        self._idle_timeout_s = idle_timeout_s
        self._window_s = window_samples(manifest) * manifest.period_s

    def seek(self, sample: int) -> None:
        """A live input cannot be sought."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Sequence[Row | InputEvent]]:
        gone_since, lost = time.monotonic(), False
        backoff, reason = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S), ""
        while True:
            try:
                connection = self._door.open()
            except (OSError, ValueError) as error:
                if reason_of(error) != reason:  # say it once, not every ten seconds
                    reason = reason_of(error)
                    words = f"waiting for {self._shown}: {reason}{self._door.advice(error)}"
                    yield [InputEvent("input_waiting", words, {"input": self.name, "reason": reason})]
            else:
                yield [self._opened(gone_since, lost)]
                readable = self.rows.readable
                reason = yield from self._read(connection)
                gone_since, lost = time.monotonic(), True
                if self.rows.readable > readable:  # else it may be a loose contact: wait longer every time
                    backoff.reset()
                words = f"lost {self._shown}: {reason}; opening it again when it is back"
                yield [InputEvent("input_lost", words, {"input": self.name, "reason": reason})]
            wait_s = backoff.wait_s(ABSENT_WAIT_S if self._door.absent() else LONGEST_WAIT_S)
            yield from self._wait(wait_s, gone_since, reason)

    def _opened(self, gone_since: float, again: bool) -> InputEvent:
        """Start afresh, and tell it; after longer than the model's window the detector does too."""
        gone_s = time.monotonic() - gone_since
        rewarm = gone_s > self._window_s
        self.rows.restart(gap=rewarm)
        fields: dict[str, Any] = {"input": self.name}
        if not again:
            return InputEvent("input_open", f"reading {self._shown}{self._door.details}", fields, rewarm)
        self.reconnects += 1
        fields |= {"lost_s": round(gone_s, 3), "rewarm": rewarm}
        warm = "; verdicts come again after the warm-up" if rewarm else ""
        return InputEvent("input_back", f"{self._shown} is back after {gone_s:.1f} s{warm}", fields, rewarm)

    def _read(self, connection: Connection) -> Generator[Sequence[Row | InputEvent], None, str]:
        """Rows until the connection fails; returns why."""
        splitter, offer_header = self.rows.splitter, self.rows.parser.offer_header
        garbled = _Garbled(self.rows)
        first, heard_at = True, time.monotonic()
        try:
            while True:
                try:
                    data = connection.read()
                except (OSError, TypeError) as error:  # TypeError: pyserial, when the port vanishes inside a call
                    return reason_of(error)
                now = time.monotonic()
                if data:
                    heard_at = now
                elif self._idle_timeout_s is not None and now - heard_at > self._idle_timeout_s:
                    return f"it has said nothing for {self._idle_timeout_s:g} s"
                lines = splitter.feed(data)
                if first and lines:
                    first = False
                    offer_header(lines.pop(0))  # a header is of use even where its first character is missing
                items = self.rows.rows_of(lines)
                if garbled.observe(now):
                    words = f"most of what {self._shown} says is no sample: {self._door.garbled}"
                    items.append(InputEvent("input_garbled", words, {"input": self.name, "check": self._door.garbled}))
                yield items
        finally:
            with contextlib.suppress(OSError):
                connection.close()

    def _wait(self, seconds: float, gone_since: float, reason: str) -> Iterator[Sequence[Row | InputEvent]]:
        """Let the loop turn while time passes."""
        end = time.monotonic() + seconds
        while (left := end - (now := time.monotonic())) > 0:
            if self._give_up_after_s is not None and now - gone_since > self._give_up_after_s:
                raise InputLost(f"{self._shown}: gone for {now - gone_since:.0f} s ({reason}); gave up waiting for it")
            time.sleep(min(TICK_S, left))
            yield self.rows.feed(b"")

    @property
    def _shown(self) -> str:
        return shown(self.name, 200)


class _Garbled:
    """Notices an input of which most lines are no samples for a while; says so once, until it was well again."""

    def __init__(self, rows: RowReader) -> None:
        self._rows = rows
        self._told = False
        self._begin(time.monotonic())

    def observe(self, now: float) -> bool:
        """Whether it is to be told now."""
        if now < self._due:
            return False
        good = self._rows.readable - self._readable
        bad = self._rows.unreadable - self._unreadable
        endless = self._rows.splitter.skipping  # noise without a newline is one line for ever
        if good + bad < GARBLED_LINES and not endless:
            return False
        garbled = bad > good or (endless and not good)
        tell = garbled and not self._told
        self._told = garbled
        self._begin(now)
        return tell

    def _begin(self, now: float) -> None:
        self._due = now + GARBLED_S
        self._readable, self._unreadable = self._rows.readable, self._rows.unreadable


def reason_of(error: Exception) -> str:
    """What an exception of an input says, fit for a terminal."""
    return shown(str(error.args[-1] if error.args else error) or type(error).__name__, 160)
