"""Standard input: whatever another program pipes in."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import CHUNK_BYTES, Items
from edgekd.runtime.sources.row_parser import PLAIN, Layout
from edgekd.runtime.sources.row_reader import RowReader


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

    def wait(self, seconds: float) -> None:
        """See `Source.wait`."""
        wait_for(self._fd, seconds)

    def __iter__(self) -> Iterator[Items]:
        for data in pieces(self._fd):
            yield self.rows.feed(data)
        yield self.rows.end()


def wait_for(fd: int, seconds: float) -> bool:
    """Whether a file descriptor has something to read, or its end, within so long."""
    return bool(select.select([fd], [], [], seconds)[0])


def pieces(fd: int) -> Iterator[bytes]:
    """What has come on a file descriptor, until its end; empty where nothing has."""
    while True:
        if not wait_for(fd, 0):
            yield b""
            continue
        try:
            data = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:  # the other end may have made the pipe non-blocking
            continue
        if not data:
            return
        yield data
