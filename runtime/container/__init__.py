"""Where a manifest sits inside a model file, one module for each file format; chosen by content, never by name."""

from __future__ import annotations

from edgekd.runtime.container.entry import Entry
from edgekd.runtime.errors import ModelRefused


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
