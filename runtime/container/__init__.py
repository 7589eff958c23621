"""Where a manifest sits inside a model file, one module for each file format; chosen by content, never by name."""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.runtime.errors import ModelRefused

KEY = b"edgekd"
Span = tuple[int, int]  # [start, end) in bytes


@dataclass(frozen=True)
class Entry:
    """One manifest found in a file."""

    span: Span
    """The bytes that the file's digest leaves out: in ONNX the whole entry with its tag, in TFLite the JSON alone."""
    value: bytes
    """The manifest's JSON, UTF-8; the last bytes of the span."""


def format_of(data: bytes) -> str:
    """The format of a file's bytes, "onnx" or "tflite"; raises ModelRefused for any other."""
    if data[4:8] == b"TFL3":  # the flatbuffer's file identifier
        return "tflite"
    # onnxruntime would take the second of these for its own format, whatever else it is
    if data[:1] == b"\x08" and data[4:8] != b"ORTM":  # every ONNX writer puts ir_version (field 1, varint) first
        return "onnx"
    raise ModelRefused("this is neither an ONNX nor a TFLite file; give a file written by edgekd export")


def entries(data: bytes) -> list[Entry]:
    """Every manifest in the file; raises ModelRefused where the file is not well formed."""
    if format_of(data) == "onnx":
        from edgekd.runtime.container.onnx import entries
    else:
        from edgekd.runtime.container.tflite import entries
    return entries(data)


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
