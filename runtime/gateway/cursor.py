"""A sink's place in the outbox: what it reads next, and what it has acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekd.runtime.gateway.segments import MAX_EVENT_BYTES, Record, read_file, records_in

if TYPE_CHECKING:
    from edgekd.runtime.gateway.outbox import Outbox

READ_BYTES = 2 * MAX_EVENT_BYTES


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
        segments, in_memory = self.outbox.offer(self._at, limit)
        for path, first, size in segments:
            if first != self._segment:
                self._segment, self._offset = first, 0
            while self._offset < size and len(found) < limit:
                try:
                    data = read_file(path, self._offset, min(size - self._offset, READ_BYTES))
                except OSError:
                    data = b""
                if data:
                    found += self._records(data, limit - len(found))
                elif self.outbox.unreadable(path, self._at):  # a dead sector
                    self._offset = size
                else:
                    return found
            if len(found) == limit:
                return found
        more = [record for record in in_memory if record.seq > self._at][: limit - len(found)]
        self._at = more[-1].seq if more else self._at
        return found + more

    def _records(self, data: bytes, limit: int) -> list[Record]:
        """The first of the records in what follows in a segment."""
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
