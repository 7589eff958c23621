"""The files of an outbox: records of events, one a line, and what each sink has acknowledged."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgekd.runtime.files import atomic, sync

MAX_EVENT_BYTES = 32 * 1024  # far above any event; whole segments of the smallest outbox hold several
_ACKED = b"%08x %020d\n"
_ACKED_BYTES = len(_ACKED % (0, 0))


@dataclass(frozen=True, slots=True)
class Record:
    """One event as it is kept."""

    seq: int
    """Counts the events of one outbox, in their order."""
    boot: str
    """Tells one boot of the machine from another: before the clock is set, times of two boots do not compare."""
    text: bytes
    """The event, a JSON object."""

    @property
    def payload(self) -> bytes:
        """What is sent: the event with its place in this outbox, where a consumer sees gaps."""
        return b'%s, "seq": %d, "boot": "%s"}' % (self.text[:-1], self.seq, self.boot.encode())


@dataclass(slots=True)
class Segment:
    """One file of records. Its first and last sequence number, and its size up to the end of the last good one."""

    path: Path
    first: int
    last: int
    size: int


def line_of(record: Record) -> bytes:
    """The line of a record."""
    rest = b"%d %d %s %s" % (len(record.text), record.seq, record.boot.encode(), record.text)
    return b"%08x %s\n" % (zlib.crc32(rest), rest)


def decode(line: bytes) -> Record | None:
    """The record in a line (without its end); None where it is damaged."""
    crc, _, rest = line.partition(b" ")
    if len(crc) != 8 or b"%08x" % zlib.crc32(rest) != crc:
        return None
    try:
        length, seq, boot, text = rest.split(b" ", 3)
        return Record(int(seq), boot.decode("ascii"), text) if int(length) == len(text) else None
    except ValueError:
        return None


def records_in(data: bytes) -> Iterator[tuple[Record | None, int]]:
    """Every line that is ended, as its record (None: damaged) and the offset of its end."""
    start = 0
    while (end := data.find(b"\n", start) + 1) > 0:
        yield decode(data[start : end - 1]), end
        start = end


def read_file(path: Path, start: int = 0, size: int = -1) -> bytes:
    """Bytes of a file. Raises OSError, also for a link or a pipe that somebody has put there: neither is ours."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        file.seek(start)
        return file.read(size)


def read_whole(path: Path) -> tuple[list[tuple[Record, int]], list[bytes]]:
    """The records of a file, each with the offset of its end, and what is none: damaged lines, a tail without its end.
    Raises OSError."""
    data = read_file(path)
    good, bad, start = [], [], 0
    for record, end in records_in(data):
        if record is None:
            bad.append(data[start:end])
        else:
            good.append((record, end))
        start = end
    return good, [*bad, data[start:]] if data[start:] else bad


def keep_aside(path: Path, lines: list[bytes]) -> None:
    """Keep what cannot be read beside its segment, behind what is kept there already. Raises OSError."""
    if not lines:
        return
    kept = path.with_name(f"{path.name.partition('.')[0]}.events.corrupt")
    known = read_file(kept) if os.path.lexists(kept) else b""
    if new := [line for line in lines if line not in known]:
        with atomic(kept, 0o600) as file:
            file.writelines([known, b"" if known[-1:] in (b"", b"\n") else b"\n", *new])


def scan(folder: Path) -> tuple[list[Segment], int]:
    """The segments of a folder that hold something, in order, and how many of their records are damaged.

    What is no record, which another version may have written, is kept in a file NAME.corrupt. Raises OSError where the
    folder cannot be listed; a file that cannot be read counts as damaged, and stays.
    """
    segments, damaged = [], 0
    for path in sorted(path for path in folder.iterdir() if path.match(f"{'[0-9]' * 16}.events")):
        try:
            good, bad = read_whole(path)
        except OSError:
            damaged += 1
            continue
        damaged += len(bad)
        if good:
            numbers = [record.seq for record, _ in good]
            segments.append(Segment(path, numbers[0], max(numbers), good[-1][1]))
        with contextlib.suppress(OSError):  # a disk that takes nothing holds up no record that is good
            keep_aside(path, bad)
            if not good:
                path.unlink()
    return sorted(segments, key=lambda segment: segment.first), damaged


def repair(segment: Segment, records: list[Record]) -> int:
    """Write again what the disk no longer holds of the last records of a segment; how many of them. Raises OSError."""
    lines = [line_of(record) for record in records]
    at = segment.size - sum(map(len, lines))
    if at < 0 or not records or records[0].seq != segment.last - len(records) + 1:  # some were damaged at the start
        return 0
    fd = os.open(segment.path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # ask the disk, not the memory of what was written
        count = 0
        for line in lines:
            if os.pread(fd, len(line), at) != line:
                os.pwrite(fd, line, at)
                count += 1
            at += len(line)
        if count:
            sync(fd, os.fsync)
        return count
    finally:
        os.close(fd)


def save_acked(path: Path, seq: int) -> None:
    """Keep a sequence number in one of two slots, so that a write that is cut off leaves the other. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        numbers = _slots(os.read(fd, 2 * _ACKED_BYTES))
        slot = numbers.index(min(numbers))
        os.pwrite(fd, _ACKED % (zlib.crc32(b"%d" % seq), seq), slot * _ACKED_BYTES)
    finally:
        os.close(fd)


def load_acked(path: Path) -> int:
    """The newest sequence number that was kept, 0 where there is none."""
    try:
        return max(_slots(read_file(path)))
    except OSError:
        return 0


def load_all_acked(folder: Path) -> dict[str, int]:
    """The same for every sink that has kept one in this folder, by its name."""
    try:
        return {path.stem: load_acked(path) for path in folder.iterdir() if path.suffix == ".acked"}
    except OSError:
        return {}


def _slots(data: bytes) -> list[int]:
    """The number in each of the two slots, 0 where it is damaged."""
    numbers = []
    for start in (0, _ACKED_BYTES):
        crc, _, number = data[start : start + _ACKED_BYTES].partition(b" ")
        try:
            seq = int(number)
        except ValueError:
            seq = 0
        numbers.append(seq if crc == b"%08x" % zlib.crc32(b"%d" % seq) else 0)
    return numbers
