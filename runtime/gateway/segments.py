"""The files of an outbox: records of events, one a line, and what each sink has acknowledged."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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


def scan(folder: Path) -> tuple[list[Segment], int]:
    """The segments of a folder that hold something, in order, and how many of their records are damaged.

    Raises OSError where the folder cannot be listed; a file that cannot be read counts as damaged.
    """
    segments, damaged = [], 0
    for path in sorted(folder.glob(f"{'[0-9]' * 16}.events")):
        try:
            data = path.read_bytes()
        except OSError:
            damaged += 1
            continue
        good, size, pending = [], 0, 0
        for record, end in records_in(data):
            if record is None:
                pending += 1
                continue
            good.append(record.seq)
            size = end
            damaged, pending = damaged + pending, 0
        damaged += pending or size < len(data)
        if good:
            segments.append(Segment(path, good[0], max(good), size))
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    return sorted(segments, key=lambda segment: segment.first), damaged


def save_acked(path: Path, seq: int) -> None:
    """Keep a sequence number in one of two slots, so that a write that is cut off leaves the other. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        numbers = _slots(os.read(fd, 2 * _ACKED_BYTES))
        slot = numbers.index(min(numbers))
        os.pwrite(fd, _ACKED % (zlib.crc32(b"%d" % seq), seq), slot * _ACKED_BYTES)
    finally:
        os.close(fd)


def load_acked(path: Path) -> int:
    """The newest sequence number that was kept, 0 where there is none."""
    try:
        return max(_slots(path.read_bytes()))
    except OSError:
        return 0


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
