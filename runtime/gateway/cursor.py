"""A sink's place in a spool: what it is offered next, and what it has acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.runtime.gateway.segments import MAX_EVENT_BYTES, Record, records_in

if TYPE_CHECKING:
    from edgekd.runtime.gateway.outbox import Spool

READ_BYTES = 2 * MAX_EVENT_BYTES


@dataclass(eq=False)
class Cursor:
    """One sink's place in a spool; made by `Spool.cursor`. `read` and `rewind` belong to the sink's own thread."""

    spool: Spool
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
        self.spool.acknowledge(self, seq)

    def read(self, limit: int) -> list[Record]:
        """Up to `limit` further events that may be sent, in order; empty where there are none yet."""
        found: list[Record] = []
        segments, in_memory = self.spool.offer(self._at)
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
