"""A CSV or JSON-lines file that grows (`--csv FILE --follow`), as `tail -F` reads it.

It goes on at the end; through rotation, whether the file is renamed and created anew or copied and truncated; and over
a restart, where a saved state says which file was read up to where. The file itself is the buffer: what the detector
cannot take yet waits in it. From one file it goes on in the one that has its name then: of two rotations within one
absence, what stands between them is not read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgekd.runtime.errors import InputLost, UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import PLAIN, Layout
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import CHUNK_BYTES, TICK_S, InputEvent, Items, Row, Source
from edgekd.runtime.sources.row_parser import LINES_BEFORE
from edgekd.runtime.sources.row_reader import RowReader

HEAD_BYTES = TAIL_BYTES = 65536  # the header stands in the one, a line ends in the other
MARK_BYTES = 64  # what stands before a place: tells a file that was truncated and has grown again, and its copy
MOVED_S = 1.0  # between a rotation's renaming and its creating nobody need be told


class GrowingFile(Source):
    """Reads what is appended to a file, for ever; live, but what is appended while nobody listens is not lost."""

    def __init__(
        self,
        path: str | Path,
        manifest: Manifest,
        columns: dict[str, str],
        layout: Layout = PLAIN,
        give_up_after_s: float | None = None,
        likely: bool = False,
    ) -> None:
        """give_up_after_s: raise InputLost where the file has been gone for so long."""
        self.name = str(path)
        self._shown = shown(self.name, 200)
        self.rows: RowReader = RowReader(manifest, columns, "anything", self._shown, layout, True, likely)
        self.reconnects: int = 0  # times that the file was rotated
        self._encoding = layout.encoding
        if self._encoding.startswith("utf-16"):  # a newline is two bytes there
            raise UsageError(
                f"{self._shown}: is in {self._encoding}, which cannot be followed; have it written as UTF-8"
            )
        self._path = Path(path)
        self._give_up_after_s = give_up_after_s
        self._fd = -1
        self._file = ""  # identity of the newest that was opened: the last state is saved when it is closed already
        self._offset = 0  # behind the newest byte that was read
        self._mark = b""  # up to MARK_BYTES before it
        self._place = (0, "")  # behind the newest line that was given out, with what stands before it in hexadecimal
        self._from_start = False
        self._go_on_at: dict[str, Any] | None = None  # where a disk failed
        self._caught_up_s = self._there_s = time.monotonic()  # when the end was reached, when the file was there
        self._told = ""  # what it is waited for
        with contextlib.suppress(PermissionError):  # that may change: it is waited for
            if self._path.is_dir():
                raise UsageError(f"{self._shown}: is a directory; give a file that grows")

    @property
    def lag_s(self) -> float:
        """How long ago the end of the file was last reached, 0 where that is now."""
        behind_s = time.monotonic() - self._caught_up_s
        return behind_s if behind_s > 2 * TICK_S else 0.0

    def position(self) -> dict[str, Any] | None:
        """Which file has been read up to where, JSON-able; None where none has been opened yet."""
        if not self._file:
            return None
        offset, before = self._place
        return {"file": self._file, "offset": offset, "before": before}

    def seek_position(self, position: object) -> bool:
        """Go on from what `position` gave, before iterating; whether that file is still there, rotated or not.

        Where it is not, the file is read from its start: all of it was written since.
        """
        if not isinstance(position, dict):
            return False
        self._from_start = True
        offset, before, identity = (position.get(key) for key in ("offset", "before", "file"))
        if type(offset) is not int or offset < 0:
            return False
        return self._go_on_in(offset, lambda fd: _identity(fd) == identity and _before(fd, offset).hex() == before)

    def wait(self, seconds: float) -> None:
        """A file does not say when it has grown: it is asked again after so long."""
        time.sleep(seconds)

    def __iter__(self) -> Iterator[Items]:
        first = True
        try:
            while True:
                if self._fd < 0 and (reason := self._open()):
                    yield self._waiting(reason)
                    continue
                if first:
                    first = False
                    yield [InputEvent("input_open", f"reading {self._shown} as it grows", {"input": self.name})]
                try:
                    yield from self._appended()
                    yield from self._rotation()
                except OSError as error:
                    self._go_on_at = self.position()
                    self._close()
                    yield self._waiting(error.strerror or str(error))
        finally:
            self._close()

    def _open(self) -> str:
        """Open the file, at its end where it was there at the start; why it cannot be, or nothing."""
        try:
            if self._go_on_at is None or not self.seek_position(self._go_on_at):
                fd = _opened(self._path)
                self._begin(fd, 0 if self._from_start else _behind_last_line(fd))
        except OSError as error:
            self._from_start = True  # what appears later was written since
            return error.strerror or str(error)
        self._go_on_at = None
        return ""

    def _appended(self) -> Iterator[Items]:
        """What has been appended, line by line: a state that is saved in between says which of them it has seen."""
        while not self._truncated() and (data := os.pread(self._fd, CHUNK_BYTES, self._offset)):
            self.idle = False
            for piece in data.splitlines(keepends=True):
                self._offset += len(piece)
                self._mark = (self._mark + piece)[-MARK_BYTES:]
                items = self.rows.feed(self._utf8(piece))
                if piece[-1:] in b"\r\n" and not (self.rows.gaps and self.rows.gaps.waiting):
                    self._place = (self._offset, self._mark.hex())
                yield items
        self.idle = True
        self._caught_up_s = time.monotonic()

    def _rotation(self) -> Iterator[Items]:
        """At the end of the file: see whether it goes on in another one, or wait a little."""
        if self._truncated():
            copied = self._go_on_in(self._offset, lambda fd: _before(fd, self._offset) == self._mark, torn=False)
            if not copied:  # else what was appended before the truncation is read in the copy first
                yield self._rotated("truncated", _opened(self._path))
            return
        try:
            fd = _opened(self._path)
        except OSError as error:
            yield self._waiting(error.strerror or str(error))
            return
        if _identity(fd) != _identity(self._fd) and os.fstat(fd).st_size > 0:
            yield from self._appended()  # what was appended after the end was reached and before the file was renamed
            yield self._rotated("renamed", fd)
            return
        os.close(fd)
        self._there_s, self._told = time.monotonic(), ""
        yield self.rows.feed(b"")

    def _rotated(self, how: str, fd: int) -> list[Row | InputEvent]:
        self._begin(fd, 0)
        self.reconnects += 1
        words = f"{self._shown} was {how}; reading the new one from its start"
        return [InputEvent("input_rotated", words, {"input": self.name, "reason": how})]

    def _truncated(self) -> bool:
        """Whether this is no longer the file that was read up to here."""
        return self._offset > os.fstat(self._fd).st_size or _before(self._fd, self._offset) != self._mark

    def _waiting(self, reason: str) -> list[Row | InputEvent]:
        """The file cannot be opened: tell it once it has lasted; raises InputLost where it is to be given up."""
        self.idle = True
        gone_s = time.monotonic() - self._there_s
        if self._give_up_after_s is not None and gone_s > self._give_up_after_s:
            raise InputLost(f"{self._shown}: gone for {gone_s:.0f} s ({reason}); gave up waiting for it")
        if gone_s < MOVED_S or reason == self._told:
            return []
        self._told = reason
        return [
            InputEvent("input_waiting", f"waiting for {self._shown}: {reason}", {"input": self.name, "reason": reason})
        ]

    def _begin(self, fd: int, offset: int, torn: bool = True) -> None:
        """Go on in another file. torn: what is left of a line of the old one does not go on there."""
        self._close()
        self._fd, self._file, self._offset, self._mark = fd, _identity(fd), offset, _before(fd, offset)
        if torn:
            self.rows.restart()
            self._place = (offset, self._mark.hex())
            if offset:  # lines of a logger may stand above the header
                head = os.pread(fd, HEAD_BYTES, 0)[:offset].replace(b"\r", b"\n")
                for line in head[: head.rfind(b"\n") + 1].split(b"\n")[:LINES_BEFORE]:
                    self.rows.parser.offer_header(self._utf8(line))

    def _utf8(self, text: bytes) -> bytes:
        """The same text, whole lines or a piece of one, as rows are read: every other encoding has a byte a letter."""
        return text.decode(self._encoding, "replace").encode() if self._encoding not in ("", "utf-8") else text

    def _go_on_in(self, offset: int, fits: Callable[[int], bool], torn: bool = True) -> bool:
        """Go on at `offset` of this file, or of one beside it to which it was renamed or copied; whether one fits.

        A copy (not `torn`) has its name and more: any other file may hold the same lines, too.
        """
        for path in [self._path, *_beside(self._path, "" if torn else self._path.name)]:
            try:
                fd = _opened(path)
            except OSError:
                continue
            if os.fstat(fd).st_size >= offset and fits(fd):
                self._begin(fd, offset, torn)
                return True
            os.close(fd)
        return False

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _identity(fd: int) -> str:
    found = os.fstat(fd)
    return f"{found.st_dev}:{found.st_ino}"


def _opened(path: Path) -> int:
    """A descriptor of a regular file; raises OSError for any other: a pipe would be waited for."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is no regular file")
    return fd


def _before(fd: int, offset: int) -> bytes:
    """Up to MARK_BYTES before this place."""
    start = max(0, offset - MARK_BYTES)
    return os.pread(fd, offset - start, start)


def _behind_last_line(fd: int) -> int:
    """Where the last whole line ends; the end itself where no line ends near it."""
    size = os.fstat(fd).st_size
    start = max(0, size - TAIL_BYTES)
    newline = os.pread(fd, size - start, start).rfind(b"\n")
    return start + newline + 1 if newline >= 0 else size if start else 0


def _beside(path: Path, begins: str) -> list[Path]:
    """The files of the same folder whose names begin so, the newest first."""
    try:
        found = [file for file in path.parent.iterdir() if file.name.startswith(begins) and file.is_file()]
        files = [(file.stat().st_mtime, file) for file in found if file != path]
    except OSError:
        return []
    return [file for _, file in sorted(files, reverse=True)]
