"""Where a manifest sits inside a model file, whose format is told by its content; `protobuf`, `flatbuffer` read it."""

from __future__ import annotations

from typing import NamedTuple

from edgekd.runtime.errors import ModelRefused

KEY = b"edgekd"
Span = tuple[int, int]  # [start, end) in bytes

# ONNX: tags of a Model's `metadata_props` (field 14), and of key and value in one of them
_PROPERTY, _KEY, _VALUE = 14 << 3 | 2, 1 << 3 | 2, 2 << 3 | 2
# TFLite: field numbers of the schema (tensorflow/lite/schema.fbs)
BUFFERS, METADATA = 4, 6  # of Model
DATA = 0  # of Buffer
NAME, BUFFER = 0, 1  # of Metadata


class Entry(NamedTuple):
    """One manifest found in a file: JSON, UTF-8, and the span of bytes that the file's digest leaves out.

    The span ends with the JSON; in ONNX it is the whole entry with its tag, in TFLite the JSON alone.
    """

    span: Span
    value: memoryview


def format_of(data: bytes) -> str:
    """The format of a file's bytes, "onnx" or "tflite"; raises ModelRefused for any other."""
    if data[4:8] == b"TFL3":  # the flatbuffer's file identifier
        return "tflite"
    # onnxruntime would take the second of these for its own format, whatever else it is
    if data[:1] == b"\x08" and data[4:8] != b"ORTM":  # every ONNX writer puts ir_version (field 1, varint) first
        return "onnx"
    if data[:4] == b"PK\x03\x04":  # torch's archives
        raise ModelRefused("this is a student, not exported yet; export it first: edgekd export STUDENT.pt")
    raise ModelRefused("this is neither an ONNX nor a TFLite file; give a file written by edgekd export")


def entries(data: bytes) -> list[Entry]:
    """Every manifest in the file; raises ModelRefused where the file is not well formed."""
    return _onnx_entries(data) if format_of(data) == "onnx" else _tflite_entries(data)


def _onnx_entries(data: bytes) -> list[Entry]:
    """The `metadata_props` whose key is "edgekd"."""
    from edgekd.runtime.container.protobuf import MAX_PARTS, fields

    found, view, parts = [], memoryview(data), Parts(MAX_PARTS)
    for tag, _, span, inside in fields(data, 0, len(data), parts):
        if tag != _PROPERTY:
            continue
        pairs = [(tag, view[slice(*at)]) for tag, _, _, at in fields(data, *inside, parts) if tag in (_KEY, _VALUE)]
        if (_KEY, KEY) in pairs:
            if sorted(tag for tag, _ in pairs) != [_KEY, _VALUE]:
                raise ModelRefused("the manifest's entry in the file is not one key and one value; export it again")
            found.append(Entry(span, dict(pairs)[_VALUE]))
    return found


def _tflite_entries(data: bytes) -> list[Entry]:
    """The buffers of those `Metadata` whose name is "edgekd"."""
    from edgekd.runtime.container.flatbuffer import Flatbuffer

    model = Flatbuffer(data).root()
    named = [entry.number(BUFFER, "I") for entry in model.tables(METADATA) if entry.text(NAME, len(KEY) + 1) == KEY]
    buffers = [buffer.blob(DATA) for buffer in model.tables(BUFFERS)] if named else []
    spans = [buffers[index] if index < len(buffers) else (0, 0) for index in named]
    if any(start == end for start, end in spans):
        raise ModelRefused("the manifest's entry in the file leads nowhere; export it again")
    return [Entry(span, memoryview(data)[slice(*span)]) for span in spans]


def cut(data: bytes, entries: list[Entry]) -> list[memoryview]:
    """The file's bytes without those of the entries, in pieces that copy nothing: what its digest is of."""
    kept, at, view = [], 0, memoryview(data)
    for entry in entries:
        kept.append(view[at : entry.span[0]])
        at = entry.span[1]
    return [*kept, view[at:]]


class Parts:
    """How many parts of a file may still be looked at; where they overlap, a small file holds billions."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def spend(self, parts: int) -> None:
        """Raise ModelRefused for a file in which there is more."""
        self._left -= parts
        if self._left < 0:
            raise ModelRefused(f"the file holds more than {self._most} parts, no model for a device")


def damaged(at: int) -> ModelRefused:
    """The error for a file that ends or derails at a byte."""
    return ModelRefused(f"the file is damaged or cut short at byte {at}; copy or export it again")


def foreign(what: str) -> ModelRefused:
    """The error for what a file holds and no exporter writes."""
    return ModelRefused(f"the file holds {what}, which edgekd export never writes; export it again")
