"""Standard input: whatever another program pipes in."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekd.runtime.errors import InputLost
from edgekd.runtime.sources import CHUNK_BYTES, Items, Source

if TYPE_CHECKING:  # one of them is there already
    from edgekd.runtime.sources.images import FrameReader
    from edgekd.runtime.sources.row_reader import RowReader


class Stdin(Source):
    """Reads a file descriptor to its end, as its bytes come."""

    name = "standard input"

    def __init__(self, rows: RowReader | FrameReader, fd: int = 0) -> None:
        self.rows: RowReader | FrameReader = rows
        self.fd = fd

    def wait(self, seconds: float) -> None:
        """Until there is something to read, or the end."""
        select.select([self.fd], [], [], seconds)

    def __iter__(self) -> Iterator[Items]:
        while True:
            data = b""
            if select.select([self.fd], [], [], 0)[0]:
                try:
                    if not (data := os.read(self.fd, CHUNK_BYTES)):
                        break
                except OSError as error:
                    if not isinstance(error, BlockingIOError):  # the other end may have made the pipe so
                        raise InputLost(f"{self.name}: cannot be read ({error.strerror})") from None
            yield self.rows.feed(data)
        yield self.rows.end()
