"""Bytes, in whatever pieces they arrive, to whole lines."""

from __future__ import annotations


class LineSplitter:
    """Splits at every newline or carriage return; the pieces in which bytes arrive make no difference.

    What is not ended by a newline is never a line (a torn number still looks like one), except at the end of an input
    that has ended for good. Of a line beyond `limit` bytes, more than those are given, so that its length tells it, as
    soon as they are there, and the rest is dropped: no newline means no memory.
    """

    def __init__(self, limit: int = 4096) -> None:
        self.limit = limit
        self.skipping = False
        """Inside an overlong line, of which no newline has come yet."""
        self._tail = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends; empty ones (as between CR and LF) included."""
        *lines, tail = (self._tail + data).replace(b"\r", b"\n").split(b"\n")
        if self.skipping and lines:
            del lines[0]  # the rest of an overlong line
            self.skipping = False
        if not self.skipping and len(tail) > self.limit:
            lines.append(tail)
            self.skipping = True
        self._tail = b"" if self.skipping else tail
        return lines

    def end(self) -> list[bytes]:
        """The input ended for good: what is left is a line (a file need not end in a newline)."""
        tail, self._tail = self._tail, b""
        return [tail] if tail else []

    def restart(self) -> bool:
        """The input was opened again: what was left of the old one is torn. Whether anything was."""
        self.skipping = False
        return bool(self.end())
