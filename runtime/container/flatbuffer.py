"""Reading flatbuffers with nothing but struct (flatbuffers.dev, "FlatBuffer Internals"); every offset is checked.

A table starts with the signed distance back to its vtable: bytes of the vtable, bytes of the table, then where in the
table each field lies, 0 for an absent one. Strings, vectors and tables are reached by unsigned distances forward.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from edgekd.runtime.container import Parts, Span, damaged

MAX_ITEMS = 100_000  # of all vectors that are looked at; no model for a device comes near this many


class Flatbuffer:
    """The bytes of one file; raises ModelRefused for whatever points out of them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.parts = Parts(MAX_ITEMS)

    def root(self) -> Table:
        """The table that the file is about."""
        return Table(self, self.follow(0))

    def number(self, kind: str, at: int) -> Any:
        """The scalar of a struct format character at a position."""
        if at < 0 or at + struct.calcsize(kind) > len(self.data):
            raise damaged(at)
        return struct.unpack_from("<" + kind, self.data, at)[0]

    def follow(self, at: int) -> int:
        """Where the forward offset at a position leads."""
        return at + self.number("I", at)


class Table:
    """One table of a flatbuffer. Fields go by their number in the schema; an absent one has its default."""

    __slots__ = ("_slots", "at", "fields", "file")

    def __init__(self, file: Flatbuffer, at: int) -> None:
        self.file = file
        self.at = at
        vtable = at - file.number("i", at)
        self.fields = (file.number("H", vtable) - 4) // 2
        self._slots = vtable + 4

    def place(self, field: int) -> int:
        """Where a field's value lies in the file, 0 if it is absent."""
        if field >= self.fields:
            return 0
        offset = self.file.number("H", self._slots + 2 * field)
        return self.at + offset if offset else 0

    def number(self, field: int, kind: str, default: int = 0) -> Any:
        """A scalar."""
        place = self.place(field)
        return self.file.number(kind, place) if place else default

    def vector(self, field: int, size: int) -> tuple[int, int]:
        """Start and number of the items, `size` bytes each, of a vector; none where there is no vector."""
        if not (place := self.place(field)):
            return 0, 0
        start = self.file.follow(place)
        count = self.file.number("I", start)
        if start + 4 + count * size > len(self.file.data):
            raise damaged(start)
        return start + 4, count

    def blob(self, field: int) -> Span:
        """Where a vector of bytes or a string lies; nowhere, of no length, if it is absent."""
        start, count = self.vector(field, 1)
        return start, start + count

    def text(self, field: int, most: int) -> bytes:
        """The first bytes of a string; many may share a long one."""
        start, end = self.blob(field)
        return self.file.data[start : min(end, start + most)]

    def integers(self, field: int) -> tuple[int, ...]:
        """A vector of int32."""
        start, count = self.vector(field, 4)
        self.file.parts.spend(count)
        return struct.unpack_from(f"<{count}i", self.file.data, start)

    def table(self, field: int) -> Table | None:
        """Another table."""
        place = self.place(field)
        return Table(self.file, self.file.follow(place)) if place else None

    def tables(self, field: int) -> Iterator[Table]:
        """A vector of tables."""
        start, count = self.vector(field, 4)
        self.file.parts.spend(count)
        for i in range(count):
            yield Table(self.file, self.file.follow(start + 4 * i))
