"""What every file format's container is made of."""

from __future__ import annotations

from dataclasses import dataclass

KEY = b"edgekd"
Span = tuple[int, int]  # [start, end) in bytes


@dataclass(frozen=True)
class Entry:
    """One manifest found in a file."""

    span: Span
    """The bytes that the file's digest leaves out: in ONNX the whole entry with its tag, in TFLite the JSON alone."""
    value: bytes
    """The manifest's JSON, UTF-8; the last bytes of the span."""


def cut(data: bytes, entries: list[Entry]) -> list[memoryview]:
    """The file's bytes without those of the entries, in pieces that copy nothing: what its digest is of."""
    kept, at, view = [], 0, memoryview(data)
    for entry in entries:
        kept.append(view[at : entry.span[0]])
        at = entry.span[1]
    return [*kept, view[at:]]
