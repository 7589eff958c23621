"""Standard input: whatever another program pipes in."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator, Sequence

from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import CHUNK_BYTES, TICK_S, InputEvent, RowReader
from edgekd.runtime.sources.row_parser import PLAIN, Layout, Row


class Stdin:
    """Reads a file descriptor to its end, line by line as the lines come."""

    live = True
    name = "standard input"

    def __init__(self, manifest: Manifest, columns: dict[str, str], layout: Layout = PLAIN, fd: int = 0) -> None:
        self.rows = RowReader(manifest, columns, "header fits", self.name, layout, live=True)
        self._fd = fd

    def seek(self, sample: int) -> None:
        """A pipe cannot be sought."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Sequence[Row | InputEvent]]:
        for data in pieces(self._fd):
            yield self.rows.feed(data)
        yield self.rows.end()


def pieces(fd: int) -> Iterator[bytes]:
    """What comes on a file descriptor until its end; empty where nothing has come for TICK_S."""
    while True:
        if not select.select([fd], [], [], TICK_S)[0]:
            yield b""
            continue
        try:
            data = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:  # the other end may have made the pipe non-blocking
            continue
        if not data:
            return
        yield data
