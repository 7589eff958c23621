"""Bytes, in whatever pieces they arrive, to whole lines."""

from __future__ import annotations


class LineSplitter:
    """Splits at every newline or carriage return; the pieces in which bytes arrive make no difference.

    What is not ended by a newline is never a line (a torn number still looks like one), except at the end of an input
    that has ended for good. A line beyond `limit` bytes is dropped whole and counted: no newline means no memory.
    """

    def __init__(self, limit: int = 4096) -> None:
        self.limit = limit
        self.overlong = 0
        """Lines dropped because they were longer than `limit` bytes."""
        self.skipping = False
        """Inside an overlong line, of which no newline has come yet."""
        self._tail = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends; empty ones (as between CR and LF) included."""
        lines = (self._tail + data).replace(b"\r", b"\n").split(b"\n")
        self._tail = lines.pop()
        if self.skipping and lines:
            del lines[0]  # the rest of an overlong line
            self.skipping = False
        if self.skipping:
            self._tail = b""
        elif len(self._tail) > self.limit:
            self._tail = b""
            self.skipping = True
            self.overlong += 1
        if any(len(line) > self.limit for line in lines):
            kept = [line for line in lines if len(line) <= self.limit]
            self.overlong += len(lines) - len(kept)
            lines = kept
        return lines

    def end(self) -> list[bytes]:
        """The input ended for good: what is left is a line (a file need not end in a newline)."""
        tail, self._tail = self._tail, b""
        return [tail] if tail else []

    def restart(self) -> bool:
        """The input was opened again: what was left of the old one is torn. Whether anything was."""
        torn = bool(self._tail)
        self._tail = b""
        self.skipping = False
        return torn
