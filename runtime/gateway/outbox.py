"""Events on disk until every network sink has acknowledged them: a broker may be away for days, this machine too.

An outbox is a folder of segments, text files of one record a line, named after their first sequence number:

    CRC-32 of the rest, bytes of the event, sequence number, boot id, the event as JSON

and of one small file for each sink with the number that it has acknowledged. A torn tail is normal and cut off, a
corrupt record is left out and kept aside, both are counted. What does not fit under the limit is dropped, the oldest
segment first.

The newest events that are not acknowledged are in memory, too. A disk that takes nothing is said once: events are then
offered from there, and come to disk when it takes them again. A folder that was removed or replaced is made anew from
there, and what stands in its way is put aside. What another outbox has left in its place gets numbers behind ours, and
is delivered as well. Now and then the disk is compared with memory, and mended.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import sync
from edgekd.runtime.gateway.cursor import Cursor
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.segments import (
    MAX_EVENT_BYTES,
    Record,
    Segment,
    keep_aside,
    line_of,
    load_all_acked,
    read_file,
    read_whole,
    records_in,
    repair,
    save_acked,
    scan,
)
from edgekd.runtime.gateway.shorten import shorten
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sinks import encode
from edgekd.runtime.state import boot_id

MIN_BYTES = 2**20
SEGMENTS = 8  # what is dropped at once when it is full is one of so many
MAX_SEGMENT_BYTES = 2**24  # one is read at once
MEMORY_BYTES = 2**22  # of events in memory: a card may take a second for a write, be full, or be pulled out
LINGER_S = 1.0  # scores come to disk, and to the sinks, a second's worth at a time; all other events at once
HURRY_AT = 1000  # or so many at a time
PATIENCE_S = 5.0  # a disk that has not answered for so long is taken for one that takes nothing
RETRY_S = 1.0  # a disk that took nothing is tried again, and a folder that is gone is missed, so soon
REPAIR_S = 10.0  # what a card has forgotten is written again so soon, while this process lives
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)  # where it was is something else, or nobody gets there
FOUND = ".found"  # the end of the name of what lay in our place
TELL_EVERY_S = 60.0

Tell = Callable[[str, str, dict[str, Any]], None]
Text = bytes  # `bytes` is a property of the class below


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
        self._segment_bytes = min(self._limit // SEGMENTS, MAX_SEGMENT_BYTES)
        self._writer = writer
        self._tell = tell
        self._patient = patient
        self._boot = boot_id().replace("-", "")[:8] or "-"
        self._changed = threading.Condition()
        self._segments: list[Segment] = []
        self._memory: deque[Record] = deque()  # the newest events, but for those that all sinks have acknowledged
        self._memory_bytes = 0
        self._cursors: list[Cursor] = []
        self._newest = 0
        self._on_disk = 0  # what is in memory up to this sequence number is on disk, too
        self._scheduled = self._acks_scheduled = False
        self._waiting_since: float | None = None  # something is to be written since
        self.problem = ""
        """Why the disk takes nothing, empty where it does."""
        self._check_due = self._repair_due = 0.0
        self._drops_told = 0
        self._drops_due = 0.0
        self._fd: int | None = None  # the newest segment, where it can be appended to
        self._ready = self._closed = False
        self._had_folder = False
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
        kept = load_all_acked(self._folder)
        acked = kept.get(name, min(kept.values(), default=0))
        with self._changed:
            oldest = self._segments[0].first if self._segments else self._newest + 1
            cursor = Cursor(self, name, wake, max(acked, oldest - 1))
            self._cursors = [*self._cursors, cursor]
        return cursor

    def offer(self, after: int, limit: int) -> tuple[list[tuple[Path, int, int]], list[Record]]:
        """For a cursor, what comes after this sequence number: (file, first number, size) of segments with what is not
        in memory, and what is there. What is not on disk yet is offered where the disk takes nothing."""
        with self._changed:
            first = self._memory[0].seq if self._memory else self._newest + 1
            segments = [(s.path, s.first, s.size) for s in self._segments if s.last > after and s.first < first]
            since = self._waiting_since
            stuck = since is not None and time.monotonic() - since > PATIENCE_S
            until = self._newest if self.problem or stuck else self._on_disk
            offered = (record for record in self._memory if after < record.seq <= until)
            return segments if after + 1 < first else [], list(itertools.islice(offered, limit))

    def unreadable(self, path: Path, after: int) -> bool:
        """For a cursor: whether a segment cannot be read although it is where it was, which is told. Else it has been
        dropped, or the folder is about to be made anew."""
        with self._changed:
            lost = next((s.last - max(after, s.first - 1) for s in self._segments if s.path == path), 0)
        with contextlib.suppress(OSError):
            if lost and self._in_place():
                self.corrupt += lost
                words = f"the outbox {self._shown}: {shown(path.name)} cannot be read; {lost} events are left out"
                self._tell("outbox_damaged", words, {"count": lost})
                return True
        self._schedule()
        return False

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
        text = shorten(encode(event), MAX_EVENT_BYTES)
        with self._changed:
            while not self._fits(len(text)) and self._patient and not self.problem:
                self._schedule()
                self._changed.wait(RETRY_S)
            self._remember(self._boot, text)
            if self._waiting_since is None:
                self._waiting_since = time.monotonic()
            wait = event["event"] == "score" and self._newest - self._on_disk < HURRY_AT
        if not self.problem:
            self._schedule(LINGER_S if wait else 0.0)
        else:
            self._wake()

    def tick(self) -> None:
        """Call this now and then: a disk that took nothing is tried again, and losses are told."""
        now = time.monotonic()
        if now >= self._check_due:
            self._check_due = now + RETRY_S
            self._schedule()
        if now >= self._repair_due:
            self._repair_due = now + REPAIR_S
            self._writer.submit(self._repair)
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
        self._ready, self._closed = False, True
        self._close_files()

    def _close_files(self) -> None:
        for fd in (self._fd, self._lock):
            if fd is not None:
                os.close(fd)
        self._fd = self._lock = None

    def _fits(self, size: int) -> bool:
        """Whether so many bytes more may be in memory, once older ones that are on disk have left it."""
        while self._memory_bytes + size > MEMORY_BYTES and self._memory and self._memory[0].seq <= self._on_disk:
            self._forget_oldest()
        return self._memory_bytes + size <= MEMORY_BYTES

    def _remember(self, boot: str, text: Text) -> None:
        """An event into memory, under the next number. Call it with the lock held."""
        while not self._fits(len(text)):
            self._on_disk = self._forget_oldest()
            self.dropped += self._on_disk > self._acknowledged()
        self._newest = max([self._newest, *(cursor.acked for cursor in self._cursors)]) + 1
        self._memory.append(Record(self._newest, boot, text))
        self._memory_bytes += len(text)

    def _forget_oldest(self) -> int:
        oldest = self._memory.popleft()
        self._memory_bytes -= len(oldest.text)
        return oldest.seq

    def _forget_acknowledged(self) -> None:
        """Call it with the lock held."""
        acked = self._acknowledged()
        while self._memory and self._memory[0].seq <= acked:
            self._on_disk = max(self._on_disk, self._forget_oldest())  # sent from memory already

    def _in_place(self) -> bool:
        """Whether folder and files still are what their names say: else what is written comes nowhere.

        Raises OSError where the disk does not tell.
        """
        if not self._ready or self._lock is None:
            return False
        with self._changed:
            segments = list(self._segments)
        try:
            if not os.path.samestat(self._folder.stat(), os.fstat(self._lock)):
                return False
            found = [segment.path.stat() for segment in segments]
        except OSError as error:
            if error.errno not in GONE:
                raise
            return False
        ours = self._fd is None or os.path.samestat(found[-1], os.fstat(self._fd))
        return ours and all(about.st_size >= segment.size for about, segment in zip(found, segments))

    def _open(self) -> None:
        """Lock the folder and find out what is in it."""
        self._ready = False
        self._close_files()
        aside = self._clear_place() if self._had_folder else ""
        try:
            self._lock = self._locked()
        except UsageError:
            if not (self._had_folder and self._folder.is_symlink()):
                raise
            aside = self._put_aside(self._folder)  # a link to the outbox of another one, which keeps it
            self._lock = self._locked()
        anew = self._newest > 0
        if anew:  # others' events, which have their own numbers
            for path in self._folder.glob("*.acked"):
                path.unlink()
            for path in self._folder.glob("*.events"):
                self._put_aside(path)
        segments, damaged = scan(self._folder)
        newest = max([self._newest, *load_all_acked(self._folder).values(), *(segment.last for segment in segments)])
        if anew:
            self._make_anew(aside)
        else:
            with self._changed:
                self._segments, self._newest, self._on_disk = segments, newest, newest
                self._recall()
        self._ready = self._had_folder = True
        self._damaged(damaged)
        if segments and segments[-1].size < self._segment_bytes:
            with contextlib.suppress(OSError):  # one that cannot be opened: the next event begins a new segment
                self._continue(segments[-1], os.open(segments[-1].path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW))

    def _damaged(self, count: int) -> None:
        if count:
            self.corrupt += count
            words = f"the outbox {self._shown}: {count} damaged records were left out; they are kept in *.corrupt"
            self._tell("outbox_damaged", words, {"count": count})

    def _recall(self) -> None:
        """Bring into memory what is on disk, the newest first."""
        for segment in reversed(self._segments):
            records = [record for record, _ in records_in(read_file(segment.path, size=segment.size)) if record]
            for record in reversed(records):
                if self._memory_bytes + len(record.text) > MEMORY_BYTES:
                    return
                if not self._memory or record.seq < self._memory[0].seq:  # a failed write may have left one twice
                    self._memory.appendleft(record)
                    self._memory_bytes += len(record.text)

    def _clear_place(self) -> str:
        """Put aside what stands where the folder was: what is none, or one that takes nothing of ours any more and
        holds nothing that is not in memory. Its new name, empty where the place is free. Raises OSError."""
        for place in (*reversed(self._folder.parents), self._folder):
            if os.path.lexists(place) and not place.is_dir():
                return self._put_aside(place)
        may = os.access(self._folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True)
        if may or not self._folder.exists():
            return ""
        with self._changed:
            in_memory = (self._memory[0].seq if self._memory else self._newest + 1) <= self._acknowledged() + 1
        return self._put_aside(self._folder) if in_memory else ""

    def _make_anew(self, aside: str) -> None:
        """All that is in memory is to be written again, into a folder that holds nothing of ours."""
        with self._changed:
            self._forget_acknowledged()
            segments, self._segments = self._segments, []
            first = self._memory[0].seq if self._memory else self._newest + 1
            self._on_disk = first - 1
            lost = 0
            if segments:
                lost = max(0, min(first - 1, segments[-1].last) - max(self._acknowledged(), segments[0].first - 1))
            for cursor in self._cursors:
                cursor.acked, cursor.kept = max(cursor.acked, first - 1 if lost else 0), -1
            count = len(self._memory)
            self.dropped += lost
            self._drops_told += lost
        if segments or aside:
            words = f"the outbox {self._shown} was removed or replaced: {count} events are written anew, {lost} lost"
            words += f"; what lay there is {shown(aside, 300)} now" if aside else ""
            self._tell("outbox_made_anew", words, {"count": count, "lost": lost} | ({"aside": aside} if aside else {}))

    def _put_aside(self, path: Path) -> str:
        """What is none of ours, under a new name; segments are for `_take_in`."""
        return str(path.rename(path.with_name(f"{path.name}.{os.urandom(4).hex()}{FOUND}")))

    def _take_in(self) -> None:
        """Events that another outbox has left here become ours, unless they are: a folder may have come back."""
        for path in sorted(self._folder.glob(f"*{FOUND}")):
            try:
                good, bad = read_whole(path)
                keep_aside(path, bad)
            except OSError:  # a dead sector, or what is no file: it stays there
                continue
            self._damaged(len(bad))
            known = {record.text for record in self._memory}
            for record in (record for record, _ in good if record.text not in known):
                if not self._fits(len(record.text)):
                    self._flush()
                with self._changed:
                    self._remember(record.boot, record.text)
            self._flush()
            path.unlink()

    def _locked(self) -> int:
        """The folder, open and locked; raises UsageError where another process has it."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, "it is no folder") from None
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
        """The writer's part: all that is not on disk yet, one fsync for as much as there is."""
        with self._changed:
            self._scheduled = False
            self._forget_acknowledged()
            before = self._on_disk
        if self._closed:  # else it would be opened anew
            return
        try:
            if not self._in_place():
                self._open()
                self._write_acks()
            self._flush()
            self._take_in()
        except (UsageError, OSError) as error:
            if isinstance(error, PermissionError):
                self._ready = False  # the folder is another's now
            self._failed(error)
        else:
            with self._changed:
                self._waiting_since = time.monotonic() if self._newest > self._on_disk else None
                recovered = self.problem and self._on_disk > before
                if recovered:
                    self.problem = ""
            if recovered:
                self._tell("outbox_back", f"events come to disk again in {self._shown}", {})
        self._wake()

    def _flush(self) -> None:
        """Bring to disk what is not there yet."""
        while True:
            with self._changed:
                newer = itertools.takewhile(lambda record: record.seq > self._on_disk, reversed(self._memory))
                batch = list(newer)[::-1]
            if not batch:
                return
            self._append(batch)

    def _append(self, records: list[Record]) -> None:
        """Bring the first of the records to disk, as many as fit into one segment."""
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
            sync(fd, os.fsync)
        except OSError:
            self._continue(segment, fd)
            raise
        with self._changed:
            segment.size += size
            segment.last = records[len(lines) - 1].seq
            self._on_disk = max(self._on_disk, segment.last)
            self._changed.notify_all()

    def _repair(self) -> None:
        """The writer's part: segments that do not hold what is in memory are mended from there."""
        with contextlib.suppress(OSError):  # told where events cannot be written
            if self._closed or not self._in_place():
                return
            with self._changed:
                kept = [record for record in self._memory if record.seq <= self._on_disk]
                segments = [segment for segment in self._segments if kept and segment.last >= kept[0].seq]
            count = sum(repair(s, [record for record in kept if s.first <= record.seq <= s.last]) for s in segments)
            if count:
                words = f"the outbox {self._shown}: {count} events were damaged on the disk, and are written again"
                self._tell("outbox_repaired", words, {"count": count})

    def _begin(self, seq: int) -> None:
        """A new segment."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        path = self._folder / f"{seq:016d}.events"
        if any(segment.path == path for segment in self._segments):  # nothing good came into it
            path.unlink(missing_ok=True)
        elif os.path.lexists(path):
            self._put_aside(path)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            if self._lock is not None:
                sync(self._lock, os.fsync)  # the folder: its new name
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
                self._forget_acknowledged()

    def _failed(self, error: Exception) -> None:
        with self._changed:
            told, self.problem = self.problem, getattr(error, "strerror", None) or str(error)
            self._changed.notify_all()
        self._check_due = time.monotonic() + RETRY_S
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
            with self._changed:
                self._forget_acknowledged()
