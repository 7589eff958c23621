"""Events on disk until every network sink has acknowledged them: a broker may be away for days, this machine too.

An outbox is a folder of segments, text files of one record a line, named after their first sequence number:

    CRC-32 of the rest, bytes of the event, sequence number, boot id, the event as JSON

and of one small file for each sink with the number that it has acknowledged. A torn tail is normal and cut off, a
corrupt record is left out, both are counted. What does not fit under the limit is dropped, the oldest segment first.
A disk that takes nothing is said once: events are then offered from a small queue in memory, and come to disk when it
takes them again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.runtime.disk_writer import DiskWriter
from edgekd.runtime.errors import UsageError
from edgekd.runtime.gateway.segments import (
    MAX_EVENT_BYTES,
    Record,
    Segment,
    line_of,
    load_acked,
    records_in,
    save_acked,
    scan,
)
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sinks import encode
from edgekd.runtime.watchers.clock import boot_id

MIN_BYTES = 2**20
READ_BYTES = 2 * MAX_EVENT_BYTES
SEGMENTS = 8  # what is dropped at once when it is full is one of so many
MAX_PENDING = 4000  # events in memory, about a megabyte: a card may take a second for a write, or be full
LINGER_S = 1.0  # scores come to disk, and to the sinks, a second's worth at a time; all other events at once
HURRY_AT = MAX_PENDING // 4  # or so many at a time
PATIENCE_S = 5.0  # a disk that has not answered for so long is taken for one that takes nothing
RETRY_S = 1.0
TELL_EVERY_S = 60.0

Tell = Callable[[str, str, dict[str, Any]], None]


class Outbox:
    """A bounded queue of events on disk. Every method may be called from any thread.

    writer: does all writing. tell: told event, words and fields of what befalls it. patient: `append` waits for
    the disk rather than drop events, for a source that waits as well.
    """

    def __init__(
        self, folder: str | Path, limit_bytes: int, writer: DiskWriter, tell: Tell, patient: bool = False
    ) -> None:
        self.dropped = 0
        """Events that were dropped before every sink had acknowledged them."""
        self.corrupt = 0
        """Records that were damaged, torn ones included."""
        self._folder = Path(folder)
        self._shown = shown(str(folder), 300)
        self._limit = max(limit_bytes, MIN_BYTES)
        self._segment_bytes = self._limit // SEGMENTS
        self._writer = writer
        self._tell = tell
        self._patient = patient
        self._boot = boot_id().replace("-", "")[:8] or "-"
        self._changed = threading.Condition()
        self._segments: list[Segment] = []
        self._pending: deque[Record] = deque()
        self._cursors: list[Cursor] = []
        self._newest = 0
        self._scheduled = self._acks_scheduled = False
        self._waiting_since: float | None = None  # something is to be written since
        self.problem = ""
        """Why the disk takes nothing, empty where it does."""
        self._retry_due = 0.0
        self._drops_told = 0
        self._drops_due = 0.0
        self._fd: int | None = None  # the newest segment, where it can be appended to
        self._ready = False
        self._lock: int | None = None
        try:
            self._open()
        except OSError as error:
            self._failed(error)

    @property
    def depth(self) -> int:
        """Events that some sink has not acknowledged yet."""
        with self._changed:
            return self._newest - self._acknowledged() if self._cursors else 0

    @property
    def bytes(self) -> int:
        """What the events take on disk."""
        with self._changed:
            return sum(segment.size for segment in self._segments)

    def cursor(self, name: str, wake: Callable[[], None]) -> Cursor:
        """A sink's place in the queue, kept under its name; `wake` is called, soon after, when there is more.

        A name that is new here begins with the first event that some other sink has not acknowledged.
        """
        path = self._folder / f"{name}.acked"
        others = [load_acked(other) for other in self._folder.glob("*.acked")]
        acked = load_acked(path) if path.exists() else min(others, default=0)
        with self._changed:
            oldest = self._segments[0].first if self._segments else self._newest + 1
            cursor = Cursor(self, name, wake, max(acked, oldest - 1))
            self._cursors = [*self._cursors, cursor]
        return cursor

    def offer(self, after: int) -> tuple[list[tuple[Path, int, int]], list[Record]]:
        """For a cursor, what comes after this sequence number: (file, first number, size) of segments, and events in
        memory where the disk takes nothing."""
        with self._changed:  # both at one moment, between which nothing moves from memory to disk
            segments = [(s.path, s.first, s.size) for s in self._segments if s.last > after]
            since = self._waiting_since
            stuck = since is not None and time.monotonic() - since > PATIENCE_S
            return segments, list(self._pending) if self.problem or stuck else []

    def acknowledge(self, cursor: Cursor, seq: int) -> None:
        """Of a cursor: everything up to this sequence number has arrived; soon the disk knows it."""
        with self._changed:  # the writer moves a cursor too, over what it had to drop
            if seq <= cursor.acked:
                return
            cursor.acked = seq
        if not self._acks_scheduled:
            self._acks_scheduled = True  # before: the writer may be done when `submit` returns
            if not self._writer.submit(self._write_acks, LINGER_S):
                self._acks_scheduled = False

    def append(self, event: Mapping[str, Any]) -> None:
        """Keep an event. It is offered to the sinks when it is on disk, or when the disk takes nothing.

        A score may wait for others: it is not urgent, and there may be a hundred a second.
        """
        text = encode(event)
        with self._changed:
            if len(text) > MAX_EVENT_BYTES:
                self.dropped += 1
                return
            while self._patient and len(self._pending) >= MAX_PENDING and not self.problem:
                self._schedule()
                self._changed.wait(RETRY_S)
            if len(self._pending) >= MAX_PENDING:
                oldest = self._pending.popleft().seq
                self.dropped += oldest > self._acknowledged()
            self._newest += 1
            self._pending.append(Record(self._newest, self._boot, text))
            if self._waiting_since is None:
                self._waiting_since = time.monotonic()
            wait = event["event"] == "score" and len(self._pending) < HURRY_AT
        if not self.problem:
            self._schedule(LINGER_S if wait else 0.0)
        else:
            self._wake()

    def tick(self) -> None:
        """Call this now and then: a disk that took nothing is tried again, and losses are told."""
        now = time.monotonic()
        if self._pending and now >= self._retry_due:
            self._retry_due = now + RETRY_S
            self._schedule()
        if self.dropped > self._drops_told and now >= self._drops_due:
            count, self._drops_told = self.dropped - self._drops_told, self.dropped
            self._drops_due = now + TELL_EVERY_S
            words = f"the outbox {self._shown} is full: {count} events were dropped, the oldest first"
            self._tell("outbox_dropped", words, {"count": count, "total": self.dropped})

    def close(self, timeout_s: float | None = None) -> None:
        """Let go of the folder; nothing is appended or acknowledged any more. Waits for the writer as long as given."""
        self._writer.submit(self._let_go)
        self._writer.flush(timeout_s)

    def _let_go(self) -> None:
        self._write_acks()
        self._ready = False
        for fd in (self._fd, self._lock):
            if fd is not None:
                os.close(fd)
        self._fd = self._lock = None

    def _open(self) -> None:
        """Lock the folder and find out what is in it."""
        if self._lock is None:
            self._lock = self._locked()
        segments, damaged = scan(self._folder)
        acked = max((load_acked(path) for path in self._folder.glob("*.acked")), default=0)
        newest = max([acked, *(segment.last for segment in segments)])
        with self._changed:
            if self._newest and newest:  # it could not be read at the start; what is in it has its own numbers
                raise OSError(0, "it holds older events, which are sent after the next start")
            self._segments, self._newest = segments, max(newest, self._newest)
        self._ready = True
        if damaged:
            self.corrupt += damaged
            words = f"the outbox {self._shown}: {damaged} damaged records were left out"
            self._tell("outbox_damaged", words, {"count": damaged})
        if segments and segments[-1].size < self._segment_bytes:
            with contextlib.suppress(OSError):  # one that cannot be opened: the next event begins a new segment
                self._continue(segments[-1], os.open(segments[-1].path, os.O_WRONLY | os.O_APPEND))

    def _locked(self) -> int:
        """The folder, open and locked; raises UsageError where another process has it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise UsageError(
                f"the outbox {self._shown} is in use by another edgekd-gateway; give this one an outbox of its own"
            ) from None
        except OSError:  # a file system without locks is no reason to lose events
            pass
        return fd

    def _continue(self, segment: Segment, fd: int) -> None:
        """Append to a segment, from the end of its last good record: half a write must not stand before the next one.

        Where what is behind it cannot be cut off, the next event begins a new segment.
        """
        try:
            os.ftruncate(fd, segment.size)
            self._fd = fd
        except OSError:
            os.close(fd)
            self._fd = None

    def _schedule(self, within_s: float = 0.0) -> None:
        with self._changed:
            scheduled, self._scheduled = self._scheduled, True
        if scheduled:
            self._writer.hurry(within_s)
        elif not self._writer.submit(self._write, within_s):
            self._scheduled = False

    def _write(self) -> None:
        """The writer's part: all pending events to disk, one fsync for as many as there are."""
        with self._changed:
            self._scheduled = False
            acked = self._acknowledged()
            while self._pending and self._pending[0].seq <= acked:  # sent from memory already
                self._pending.popleft()
            batch = list(self._pending)
        worked = bool(batch)
        try:
            if not self._ready:
                self._open()
            while batch:
                batch = self._append(batch)
        except (UsageError, OSError) as error:
            self._failed(error)
        else:
            with self._changed:
                self._waiting_since = time.monotonic() if self._pending else None
                recovered = worked and self.problem
                if worked:
                    self.problem = ""
            if recovered:
                self._tell("outbox_back", f"events come to disk again in {self._shown}", {})
        self._wake()

    def _append(self, records: list[Record]) -> list[Record]:
        """Bring the first of the records to disk, as many as fit into one segment; what is left."""
        if self._fd is None or self._segments[-1].size >= self._segment_bytes:
            self._begin(records[0].seq)
        segment, fd = self._segments[-1], self._fd
        assert fd is not None
        lines, size = [], 0
        for record in records:
            lines.append(line_of(record))
            size += len(lines[-1])
            if segment.size + size >= self._segment_bytes:
                break
        self._make_room(size)
        try:
            data = b"".join(lines)
            while data:
                data = data[os.write(fd, data) :]
            os.fsync(fd)
        except OSError:
            self._continue(segment, fd)
            raise
        with self._changed:
            segment.size += size
            segment.last = records[len(lines) - 1].seq
            while self._pending and self._pending[0].seq <= segment.last:
                self._pending.popleft()
            self._changed.notify_all()
        return records[len(lines) :]

    def _begin(self, seq: int) -> None:
        """A new segment."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        path = self._folder / f"{seq:016d}.events"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            if self._lock is not None:
                os.fsync(self._lock)  # the folder: its new name
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        with self._changed:
            self._segments = [s for s in self._segments if s.path != path] + [Segment(path, seq, seq - 1, 0)]

    def _make_room(self, size: int) -> None:
        """Drop the oldest segments until `size` bytes more keep the limit, and those that nobody needs any more."""
        while True:
            with self._changed:
                if len(self._segments) < 2:  # the newest is being written
                    return
                oldest = self._segments[0]
                needed = not self._cursors or oldest.last > self._acknowledged()
                if needed and self.bytes + size <= self._limit:
                    return
            oldest.path.unlink(missing_ok=True)
            with self._changed:
                self._segments.pop(0)
                self.dropped += max(0, oldest.last - max(self._acknowledged(), oldest.first - 1))
                for cursor in self._cursors:
                    cursor.acked = max(cursor.acked, oldest.last)

    def _failed(self, error: Exception) -> None:
        with self._changed:
            told, self.problem = self.problem, getattr(error, "strerror", None) or str(error)
            self._changed.notify_all()
        self._retry_due = time.monotonic() + RETRY_S
        if not told:
            words = f"events cannot be kept in {self._shown}: {self.problem}; they are sent from memory meanwhile"
            self._tell("outbox_failed", words, {"reason": self.problem})

    def _wake(self) -> None:
        for cursor in self._cursors:
            cursor.wake()

    def _acknowledged(self) -> int:
        """What every sink has acknowledged; call it with the lock held."""
        return min((cursor.acked for cursor in self._cursors), default=0)

    def _write_acks(self) -> None:
        """The writer's part: what the sinks have acknowledged. Not synced: a power cut repeats, it loses nothing."""
        self._acks_scheduled = False
        with contextlib.suppress(OSError):  # the same: told where events cannot be written
            for cursor in self._cursors if self._ready else ():
                if cursor.kept != (acked := cursor.acked):
                    save_acked(self._folder / f"{cursor.name}.acked", acked)
                    cursor.kept = acked
            self._make_room(0)


@dataclass(eq=False)
class Cursor:
    """One sink's place in the outbox; made by `Outbox.cursor`. `read` and `rewind` belong to the sink's own thread."""

    outbox: Outbox
    name: str
    wake: Callable[[], None]
    acked: int
    """Sequence number up to which this sink has acknowledged everything."""
    kept: int = -1
    """What the disk knows of `acked`."""

    def __post_init__(self) -> None:
        self.rewind()

    def rewind(self) -> None:
        """Read again from the first event that is not acknowledged."""
        self._at = self.acked
        self._segment, self._offset = -1, 0

    def ack(self, seq: int) -> None:
        """Everything up to this sequence number has arrived."""
        self.outbox.acknowledge(self, seq)

    def read(self, limit: int) -> list[Record]:
        """Up to `limit` further events that may be sent, in order; empty where there are none yet."""
        found: list[Record] = []
        segments, in_memory = self.outbox.offer(self._at)
        for path, first, size in segments:
            if first != self._segment:
                self._segment, self._offset = first, 0
            while self._offset < size and len(found) < limit:
                found += self._read_some(path, size, limit - len(found))
            if len(found) == limit:
                return found
        more = [record for record in in_memory if record.seq > self._at][: limit - len(found)]
        self._at = more[-1].seq if more else self._at
        return found + more

    def _read_some(self, path: Path, size: int, limit: int) -> list[Record]:
        try:
            with path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(min(size - self._offset, READ_BYTES))
        except OSError:  # dropped meanwhile, or a dead sector: the next segment
            data = b""
        if not data:
            self._offset = size
            return []
        found: list[Record] = []
        done = 0
        for record, end in records_in(data):
            done = end
            if record is not None and record.seq > self._at:
                found.append(record)
                self._at = record.seq
            if len(found) == limit:
                break
        self._offset += done or len(data)
        return found
