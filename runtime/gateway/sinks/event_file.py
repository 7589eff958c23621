"""`--events`: every event as a line of a file that does not grow for ever."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.runtime.disk_writer import DiskWriter
from edgekd.runtime.gateway.outbox import Tell
from edgekd.runtime.json_fields import shown

MAX_PENDING = 4000  # lines, about a megabyte


class EventFile:
    """Appends JSON lines through the disk writer; FILE becomes FILE.1, that FILE.2, when it is full.

    A disk that takes nothing is told once; the lines wait in memory, the oldest are dropped and counted, and are
    written when it takes them again.
    """

    def __init__(self, path: str | Path, max_bytes: int, keep: int, writer: DiskWriter, tell: Tell) -> None:
        self.dropped = 0
        """Events that did not come to the file."""
        self._path = Path(path)
        self._shown = shown(str(path), 300)
        self._max_bytes = max_bytes
        self._keep = keep
        self._writer = writer
        self._tell = tell
        self._lines: deque[bytes] = deque(maxlen=MAX_PENDING)
        self._batch: list[bytes] = []  # the writer's: lines that it has taken and not written yet
        self._scheduled = False
        self._problem = ""
        self._fd: int | None = None

    def emit(self, event: Mapping[str, Any]) -> None:
        """Queue one event."""
        self.dropped += len(self._lines) == MAX_PENDING
        self._lines.append((json.dumps(event, allow_nan=False, separators=(", ", ": ")) + "\n").encode())
        self._schedule()

    def tick(self) -> None:
        """Try again what did not come to disk."""
        if self._lines or self._batch:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True  # before: the writer may be done when `submit` returns
            if not self._writer.submit(self._write):
                self._scheduled = False

    def _write(self) -> None:
        """The writer's part."""
        self._scheduled = False
        try:
            while self._lines or self._batch:
                self._append()
        except OSError as error:
            told, self._problem = self._problem, error.strerror or str(error)
            if not told:
                words = f"cannot write events to {self._shown}: {self._problem}; it is tried again"
                self._tell("events_not_written", words, {"reason": self._problem})
            return
        if self._problem:
            self._problem = ""
            self._tell("events_written_again", f"events are written to {self._shown} again", {"dropped": self.dropped})

    def _append(self) -> None:
        """What is queued, up to the size at which the file is full."""
        while self._lines and len(self._batch) < MAX_PENDING:
            self._batch.append(self._lines.popleft())
        fd = self._open()
        start = os.lseek(fd, 0, os.SEEK_END)
        count = size = 0
        for line in self._batch:
            if start + size + len(line) > self._max_bytes and (start or size):
                break
            count, size = count + 1, size + len(line)
        if not count:
            self._rotate()
            return
        data = b"".join(self._batch[:count])
        try:
            while data:
                data = data[os.write(fd, data) :]
        except OSError:
            os.ftruncate(fd, start)  # half a line would join the next one
            raise
        del self._batch[:count]

    def _open(self) -> int:
        """The file, without the half line that a power cut may have left; another one where it was moved away."""
        if self._fd is not None:
            try:
                if os.path.samestat(os.fstat(self._fd), self._path.stat()):
                    return self._fd
            except FileNotFoundError:
                pass
            os.close(self._fd)
            self._fd = None
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            end = os.fstat(fd).st_size
            tail = os.pread(fd, 65536, max(0, end - 65536))
            torn = tail[tail.rfind(b"\n") + 1 :]
            if torn.startswith(b"{"):
                os.ftruncate(fd, end - len(torn))
            elif torn:  # not ours
                os.write(fd, b"\n")
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        return fd

    def _rotate(self) -> None:
        """FILE.1 becomes FILE.2 and so on; the oldest goes."""
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{i + 1}") for i in range(self._keep))]
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if not self._keep:
            self._path.unlink()
        for older, newer in zip(names[:0:-1], names[-2::-1]):
            if newer.exists():
                newer.replace(older)
