"""Maintenance: alarms are held back for a span, and scoring goes on.

The file STATE.mute says how long: `2h`, counted from when it was written, or a time such as 2026-03-01T16:00+01:00. It
is only read, again and again, so that a restart goes on with it and its removal ends it. By itself it ends after
`LONGEST_S` at the latest. Of the alarms that it has held back, those that still last at its end are told then.
"""

from __future__ import annotations

import stat
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgekd.runtime.duration import duration, seconds_in
from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import atomic
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.json_fields import shown
from edgekd.runtime.loop import Emit, Say, Watcher
from edgekd.runtime.sinks import wall_time
from edgekd.runtime.sources import Items

LONGEST_S = 86_400.0  # whoever forgets it is told of what lasts within a day
LOOK_S = 1.0
MAX_BYTES = 100  # of a span
NO_SPAN = "write a span such as 2h, or its end, such as 2026-03-01T16:00+01:00"


class Mute(Watcher):
    """Holds alarms back while the file says so; part of the saved state."""

    def __init__(self, path: Path | None, writer: DiskWriter, emit: Emit, say: Say) -> None:
        """path: the file; None: alarms are never held back."""
        self.total = 0
        """Alarms held back in this run."""
        self._path = path
        self._writer = writer
        self._emit = emit
        self._say = say
        self._due = 0.0
        self._looking = False
        self._mark: object = ()  # of the file that was looked at; None where there is none
        self._found: deque[tuple[float, str]] = deque()  # the writer's answers: end by the wall clock, why it is none
        self._deadline: float | None = None  # on the monotonic clock, while alarms are held back
        self._held = 0
        self._open: dict[str, dict[str, Any]] = {}  # kind of an alarm that is held back and lasts -> its event

    @property
    def left_s(self) -> float:
        """How long alarms are still held back."""
        return 0.0 if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    @property
    def words(self) -> str:
        """For a status line; empty where nothing is held back."""
        return f"muted for {duration(self.left_s)}" if self._deadline is not None else ""

    def takes(self, event: Mapping[str, Any]) -> bool:
        """Whether this event is an alarm that is held back, or the end of one that was."""
        kind = str(event.get("kind", ""))
        if event["event"] == "anomaly_end":
            return self._open.pop(kind, None) is not None
        if event["event"] != "anomaly" or self._deadline is None:
            return False
        self._held += 1
        self.total += 1
        if "frame" not in event:  # images are judged one by one, and none lasts
            self._open[kind] = dict(event)
        return True

    def ask(self, text: str) -> None:
        """A span that came from elsewhere, into the file. From any thread."""
        self._writer.submit(lambda: self._write(text))

    def begin(self) -> None:
        """The first alarm may be one that is held back."""
        self._look()

    def arrived(self, items: Items) -> None:
        """Begin or end it, if the file or the clock says so."""
        if self._path is None:
            return
        now = time.monotonic()
        while self._found:
            end, problem = self._found.popleft()
            if problem:
                self._emit({"event": "mute_refused", "time": wall_time(), "reason": problem})
                self._say(f"{shown(str(self._path), 300)} mutes nothing: {problem}")
            self._set(now + end - time.time())
        if self._deadline is not None and now >= self._deadline:
            self._end()
        if now >= self._due and not self._looking:
            self._due, self._looking = now + LOOK_S, True
            if not self._writer.submit(self._look):
                self._looking = False

    def snapshot(self) -> dict[str, Any]:
        """What is held back, JSON-able."""
        return {"held": self._held, "open": list(self._open.values()), "on": self._deadline is not None}

    def restore(self, snapshot: dict[str, Any] | None) -> None:
        """Go on from a snapshot; raises KeyError, TypeError or ValueError, and changes nothing, where it is none."""
        if snapshot is None:  # of an earlier version
            return
        found = {str(event.get("kind", "")): dict(event) for event in snapshot["open"]}
        self._held, self._open = int(snapshot["held"]), found
        if snapshot["on"]:  # it may be over meanwhile, which is to be told
            self._deadline = time.monotonic()

    def _set(self, deadline: float) -> None:
        """From now on until then, or the end where that is past."""
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            self._deadline = None if self._deadline is None else deadline
            return
        self._deadline = deadline
        until = datetime.fromtimestamp(time.time() + left_s, UTC).isoformat(timespec="seconds")
        self._emit({"event": "mute_begin", "time": wall_time(), "until": until, "duration_s": round(left_s, 1)})
        self._say(f"alarms are held back for {duration(left_s)}, as {shown(str(self._path), 300)} says")

    def _end(self) -> None:
        """Tell how many were held back, and those that last."""
        self._deadline = None
        held, self._held = self._held, 0
        open_, self._open = self._open, {}
        self._emit({"event": "mute_end", "time": wall_time(), "held": held, "open": len(open_)})
        self._say(f"alarms are told again; {held} were held back, of which {len(open_)} last")
        for event in open_.values():
            self._emit(event)

    def _look(self) -> None:
        """The writer's part: the file, where it has changed."""
        mark: object = None
        found = 0.0, ""
        try:
            if self._path:
                about = self._path.stat()
                mark = about.st_ino, about.st_size, about.st_mtime_ns
                if mark != self._mark:
                    short = stat.S_ISREG(about.st_mode) and about.st_size <= MAX_BYTES
                    found = end_of(self._path.read_bytes() if short else b"?", about.st_mtime, time.time())
        except FileNotFoundError:
            pass
        except OSError as error:
            mark, found = error.errno, (0.0, f"it cannot be read: {error.strerror}")
        if mark != self._mark:
            self._found.append(found)
        self._mark, self._looking = mark, False

    def _write(self, text: str) -> None:
        assert self._path
        try:
            with atomic(self._path) as file:
                file.write(text.encode())
        except OSError as error:
            self._found.append((0.0, f"it cannot be written: {error.strerror}"))


def end_of(text: bytes, written: float, now: float) -> tuple[float, str]:
    """When a mute that was written then is over, by the wall clock, and why it is none, where it is none."""
    try:
        span = text.decode("ascii").strip()
        if not span:  # it is just being written
            return 0.0, ""
        try:
            end = min(written, now) + seconds_in(span)  # written later than now: before a clock was set
        except UsageError:
            end = datetime.fromisoformat(span).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0, f"'{shown(text.decode(errors='replace').strip(), 60)}' is no time; {NO_SPAN}"
    return min(end, written + LONGEST_S, now + LONGEST_S), ""
