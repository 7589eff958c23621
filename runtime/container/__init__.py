"""Where a manifest sits inside a model file, one class for each file format; chosen by content, never by name."""

from __future__ import annotations

from typing import Protocol

from edgekd.runtime.container.entry import Entry
from edgekd.runtime.container.onnx import OnnxContainer
from edgekd.runtime.container.tflite import TfliteContainer
from edgekd.runtime.errors import ModelRefused

__all__ = ["Container", "Entry", "OnnxContainer", "TfliteContainer", "container_of"]


class Container(Protocol):
    """A model file format that can carry a manifest."""

    name: str

    def entries(self, data: bytes) -> list[Entry]:
        """Every manifest in the file; raises ModelRefused where the file is not well formed."""

    def append(self, data: bytes, manifest: bytes) -> bytes:
        """The file with one more manifest. Another one of the same length would change no byte outside itself."""

    def bare(self, data: bytes) -> bytes:
        """The file without a manifest, complete in itself: what an exporter may `append` one to."""

    def check(self, data: bytes) -> None:
        """Raise ModelRefused for a graph that no exporter has written: before an engine sees a byte of it."""


def container_of(data: bytes) -> Container:
    """The format of a file's bytes, by content; raises ModelRefused where there is no reader for it."""
    if data[4:8] == b"TFL3":  # the flatbuffer's file identifier
        return TfliteContainer()
    # onnxruntime would take the second of these for its own format, whatever else it is
    if data[:1] == b"\x08" and data[4:8] != b"ORTM":  # every ONNX writer puts ir_version (field 1, varint) first
        return OnnxContainer()
    raise ModelRefused("this is neither an ONNX nor a TFLite file; give a file written by edgekd export")
