"""TFLite: the manifest is the buffer of a `Metadata` entry of the model whose name is "edgekd".

Written by putting a new root table in front of the file, which points back into it: the graph's own bytes stay as they
are, constants keep the alignment that kernels on ARM want (flatbuffers' Python writer loses it), and neither writing
nor reading needs a package. Field numbers are those of the schema (tensorflow/lite/schema.fbs).
"""

from __future__ import annotations

import struct

from edgekd.runtime.container.entry import KEY, Entry
from edgekd.runtime.container.flatbuffer import Flatbuffer
from edgekd.runtime.errors import ModelRefused
from edgekd.runtime.guard.tflite_operators import check_graph

ALIGNMENT = 16  # of every constant: `force_align` in the schema
_MODEL_FIELDS = 10
_VERSION, _BUFFERS, _METADATA = 0, 4, 6  # of Model
_DATA, _OFFSET, _SIZE = 0, 1, 2  # of Buffer
_NAME, _BUFFER = 0, 1  # of Metadata


class TfliteContainer:
    """A TFLite model; see `Container` for what the methods do."""

    name = "tflite"

    def entries(self, data: bytes) -> list[Entry]:
        model = Flatbuffer(data).root()
        named = [entry for entry in model.tables(_METADATA) if entry.text(_NAME) == KEY]
        buffers = list(model.tables(_BUFFERS)) if named else []
        found = []
        for entry in named:
            index = entry.number(_BUFFER, "I")
            span = buffers[index].blob(_DATA) if index < len(buffers) else (0, 0)
            if span[0] == span[1]:
                raise ModelRefused("the manifest's entry in the file leads nowhere; export it again")
            found.append(Entry(span, data[slice(*span)]))
        return found

    def append(self, data: bytes, manifest: bytes) -> bytes:
        return _reroot(data, {}, manifest)

    def bare(self, data: bytes) -> bytes:
        while entries := self.entries(data):
            _, end = entries[-1].span
            data = data[end + -end % ALIGNMENT :]
            if data[4:8] != b"TFL3":
                raise ModelRefused("another program has written the file anew with its manifest; export it again")
        return _inlined(data)

    def check(self, data: bytes) -> None:
        check_graph(data)


def _inlined(data: bytes) -> bytes:
    """The file with buffers that lie behind the flatbuffer, as ai-edge-quantizer leaves them, moved into it."""
    behind: dict[int, tuple[int, int]] = {}
    for index, buffer in enumerate(Flatbuffer(data).root().tables(_BUFFERS)):
        start, size = buffer.number(_OFFSET, "Q"), buffer.number(_SIZE, "Q")
        if start > 1:
            if start + size > len(data):
                raise ModelRefused(f"buffer {index} ends behind the file, which is cut short; copy or export it again")
            behind[index] = (start, start + size)
    if not behind:
        return data
    end = min(start for start, _ in behind.values())
    return _reroot(data[:end], {index: data[slice(*span)] for index, span in behind.items()}, None)


def _reroot(data: bytes, contents: dict[int, bytes], manifest: bytes | None) -> bytes:
    """The file behind a new root table: buffers with other contents, and one more for the manifest.

    contents: data of the buffers, by index, that are replaced.
    """
    model = Flatbuffer(data).root()
    if any(model.place(field) for field in range(_MODEL_FIELDS, model.fields)):
        raise ModelRefused("the file is of a newer TFLite schema than this EdgeKD knows; pip install -U edgekd")
    old = [buffer.at for buffer in model.tables(_BUFFERS)]
    metadata = [entry.at for entry in model.tables(_METADATA)]
    head = _Head()
    table = head.table(_MODEL_FIELDS)
    head.point(0, table)
    for field in range(_MODEL_FIELDS):
        place = model.place(field)
        if field == _VERSION:
            head.set(table, field, model.number(_VERSION, "I"))
        elif place and field != _BUFFERS and not (field == _METADATA and manifest is not None):
            head.link(head.slot(table, field), model.file.follow(place))
    added = {**contents, len(old): manifest} if manifest is not None else contents  # the manifest comes last
    items = head.vector(table, _BUFFERS, len(old) + (manifest is not None))
    for index, target in enumerate(old):
        if index not in added:
            head.link(items + 4 * index, target)
    if manifest is not None:
        entries = head.vector(table, _METADATA, len(metadata) + 1)
        for index, target in enumerate(metadata):
            head.link(entries + 4 * index, target)
        entry = head.table(2)
        head.point(entries + 4 * len(metadata), entry)
        head.set(entry, _BUFFER, len(old))
        head.text(entry, _NAME, KEY)
    for index, content in added.items():
        buffer = head.table(1)
        head.point(items + 4 * index, buffer)
        head.blob(buffer, _DATA, content, ALIGNMENT)
    return head.before(data)


class _Head:
    """What is put before an old file; every field of its tables takes four bytes."""

    def __init__(self) -> None:
        self._out = bytearray(b"\0\0\0\0TFL3")
        self._links: list[tuple[int, int]] = []

    def table(self, fields: int) -> int:
        """A table without fields yet, behind its own vtable."""
        vtable = 4 + 2 * fields
        self._pad(4, ahead=vtable)
        start = len(self._out)
        self._out += struct.pack("<HH", vtable, 4 + 4 * fields) + bytes(2 * fields)
        at = len(self._out)
        self._out += struct.pack("<i", at - start) + bytes(4 * fields)
        return at

    def slot(self, table: int, field: int) -> int:
        """Where a field of a table lies, from now on present."""
        vtable = table - struct.unpack_from("<i", self._out, table)[0]
        struct.pack_into("<H", self._out, vtable + 4 + 2 * field, 4 + 4 * field)
        return table + 4 + 4 * field

    def set(self, table: int, field: int, value: int) -> None:
        """A scalar field."""
        struct.pack_into("<I", self._out, self.slot(table, field), value)

    def vector(self, table: int, field: int, count: int) -> int:
        """A field that is a vector of offsets; where its items lie."""
        self._pad(4)
        self.point(self.slot(table, field), len(self._out))
        self._out += struct.pack("<I", count) + bytes(4 * count)
        return len(self._out) - 4 * count

    def blob(self, table: int, field: int, content: bytes, alignment: int) -> None:
        """A field that is a vector of bytes."""
        self._pad(alignment, ahead=4)
        self.point(self.slot(table, field), len(self._out))
        self._out += struct.pack("<I", len(content)) + content

    def text(self, table: int, field: int, content: bytes) -> None:
        """A field that is a string, which is a vector of bytes with a zero behind it."""
        self.blob(table, field, content, 4)
        self._out += b"\0"

    def point(self, place: int, target: int) -> None:
        """An offset within the head."""
        struct.pack_into("<I", self._out, place, target - place)

    def link(self, place: int, target: int) -> None:
        """An offset to a position in the old file."""
        self._links.append((place, target))

    def before(self, data: bytes) -> bytes:
        """Head and old file."""
        self._pad(ALIGNMENT)
        for place, target in self._links:
            if target >= len(data):
                raise ModelRefused(f"the file is damaged or cut short at byte {len(data)}; copy or export it again")
            self.point(place, len(self._out) + target)
        return bytes(self._out) + data

    def _pad(self, alignment: int, ahead: int = 0) -> None:
        """Zeros until what comes `ahead` bytes later is aligned."""
        self._out += bytes(-(len(self._out) + ahead) % alignment)
