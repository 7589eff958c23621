"""The manifest written into a model file; the device only reads it (`edgekd.runtime.guard`).

ONNX gets one more entry at its end. TFLite gets a new root table in front of the file, which points back into it: the
graph's own bytes stay as they are, constants keep the alignment that kernels on ARM want (flatbuffers' Python writer
loses it), and no package is needed. Field numbers are those of the schema (tensorflow/lite/schema.fbs).
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, replace

from edgekd.data.save import layout_fields
from edgekd.runtime.container import BUFFER, BUFFERS, DATA, KEY, METADATA, NAME, cut, entries, format_of
from edgekd.runtime.container.flatbuffer import Flatbuffer
from edgekd.runtime.errors import ModelRefused
from edgekd.runtime.files import sha256
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest

ALIGNMENT = 16  # of every constant: `force_align` in the schema
_MODEL_FIELDS = 10
_VERSION = 0  # of Model
_OFFSET, _SIZE = 1, 2  # of Buffer


def embed(model: bytes, manifest: Manifest) -> bytes:
    """The model file with this manifest inside, `digests.file` filled in; one that was there before is replaced.

    The file is laid out with a manifest of the final length first, since all but the manifest itself counts for the
    digest. Raises ModelRefused for a manifest or a file that the reader would refuse.
    """
    alone = bare(model)

    def with_digest(digest: str) -> bytes:
        text = to_json(replace(manifest, digests=replace(manifest.digests, file=digest)))
        return append(alone, text.encode())

    return with_digest(file_digest(with_digest("0" * 64)))


def to_json(manifest: Manifest) -> str:
    """The manifest as compact JSON; raises ModelRefused where the reader would."""
    try:
        layout = None if manifest.layout is None else layout_fields(manifest.layout)
        text = json.dumps(
            asdict(manifest) | {"layout": layout}, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
    except (TypeError, ValueError) as error:
        raise ModelRefused(f"manifest cannot be written as JSON: {shown(error)}") from None
    Manifest.from_json(text)
    return text


def file_digest(model: bytes) -> str:
    """SHA-256 of a model file's bytes without the manifest: of what `container.Entry.span` leaves of it."""
    return sha256(*cut(model, entries(model)))


def append(data: bytes, manifest: bytes) -> bytes:
    """The file with one more manifest. Another one of the same length would change no byte outside itself."""
    if format_of(data) == "tflite":
        return _reroot(data, {}, manifest)
    entry = b"\x0a" + varint(len(KEY)) + KEY + b"\x12" + varint(len(manifest)) + manifest
    return data + b"\x72" + varint(len(entry)) + entry  # 0x72: field 14, length-delimited


def bare(data: bytes) -> bytes:
    """The file without a manifest, complete in itself: what `append` adds one to."""
    if format_of(data) == "onnx":
        found = entries(data)
        return b"".join(cut(data, found)) if found else data
    while found := entries(data):
        _, end = found[-1].span
        data = data[end + -end % ALIGNMENT :]
        if data[4:8] != b"TFL3":
            raise ModelRefused("another program has written the file anew with its manifest; export it again")
    return _inlined(data)


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _inlined(data: bytes) -> bytes:
    """The file with buffers that lie behind the flatbuffer, as ai-edge-quantizer leaves them, moved into it."""
    behind: dict[int, tuple[int, int]] = {}
    for index, buffer in enumerate(Flatbuffer(data).root().tables(BUFFERS)):
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
    old = [buffer.at for buffer in model.tables(BUFFERS)]
    metadata = [entry.at for entry in model.tables(METADATA)]
    head = _Head()
    table = head.table(_MODEL_FIELDS)
    head.point(0, table)
    for field in range(_MODEL_FIELDS):
        place = model.place(field)
        if field == _VERSION:
            head.set(table, field, model.number(_VERSION, "I"))
        elif place and field != BUFFERS and not (field == METADATA and manifest is not None):
            head.link(head.slot(table, field), model.file.follow(place))
    added = {**contents, len(old): manifest} if manifest is not None else contents  # the manifest comes last
    items = head.vector(table, BUFFERS, len(old) + (manifest is not None))
    for index, target in enumerate(old):
        if index not in added:
            head.link(items + 4 * index, target)
    if manifest is not None:
        entries = head.vector(table, METADATA, len(metadata) + 1)
        for index, target in enumerate(metadata):
            head.link(entries + 4 * index, target)
        entry = head.table(2)
        head.point(entries + 4 * len(metadata), entry)
        head.set(entry, BUFFER, len(old))
        head.text(entry, NAME, KEY)
    for index, content in added.items():
        buffer = head.table(1)
        head.point(items + 4 * index, buffer)
        head.blob(buffer, DATA, content, ALIGNMENT)
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
