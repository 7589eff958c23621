"""ONNX: the manifest is a `metadata_props` entry (ModelProto field 14) whose key is "edgekd".

The file is read as protobuf wire format (protobuf.dev, "Encoding"), a few fields deep, because the device has no onnx
package.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgekd.runtime.container.entry import KEY, Entry, Span, cut
from edgekd.runtime.errors import ModelRefused


class OnnxContainer:
    """An ONNX ModelProto; see `Container` for what the methods do."""

    name = "onnx"

    def entries(self, data: bytes) -> list[Entry]:
        found = []
        for number, wire, span, (start, end) in fields(data, 0, len(data)):
            if number != 14 or wire != 2:
                continue
            pair: dict[int, list[bytes]] = {}
            for key, kind, _, (a, b) in fields(data, start, end):
                if kind == 2:
                    pair.setdefault(key, []).append(data[a:b])
            if KEY in pair.get(1, ()):
                if len(pair[1]) != 1 or len(pair.get(2, ())) != 1:
                    raise ModelRefused("the manifest's entry in the file is not one key and one value; export it again")
                found.append(Entry(span, pair[2][0]))
        return found

    def append(self, data: bytes, manifest: bytes) -> bytes:
        entry = b"\x0a" + _varint(len(KEY)) + KEY + b"\x12" + _varint(len(manifest)) + manifest
        return data + b"\x72" + _varint(len(entry)) + entry  # 0x72: field 14, length-delimited

    def bare(self, data: bytes) -> bytes:
        return cut(data, self.entries(data))

    def check_self_contained(self, data: bytes) -> None:
        _refuse_external(data, 0, len(data), "model", 0)


# Message name -> {field number: message inside it}: the ways from a ModelProto down to its tensors (onnx.proto3).
_PATHS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of TensorProto


def _refuse_external(data: bytes, start: int, end: int, message: str, depth: int) -> None:
    if depth > 64:
        raise ModelRefused("the graph is nested too deeply; export it again")
    if message == "tensor":
        for number, wire, _, (a, b) in fields(data, start, end):
            if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and wire == 0 and data[a:b].strip(b"\x80\x00")):
                raise ModelRefused(
                    "the file keeps weights in another file (external data), which no digest covers;"
                    " export it again as one file"
                )
        return
    paths = _PATHS[message]
    for number, wire, _, (a, b) in fields(data, start, end):
        if wire == 2 and number in paths:
            _refuse_external(data, a, b, paths[number], depth + 1)


def fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, Span, Span]]:
    """The protobuf fields in data[start:end]: number, wire type, span with the tag, span of the value alone.

    Raises ModelRefused at the first byte that is not wire format or runs past `end`.
    """
    at = start
    while at < end:
        tag, value = _read_varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            _, stop = _read_varint(data, value, end)
        elif wire == 1:
            stop = value + 8
        elif wire == 2:
            length, value = _read_varint(data, value, end)
            stop = value + length
        elif wire == 5:
            stop = value + 4
        else:  # groups (3, 4) are long dead and ONNX never used them
            raise ModelRefused(f"the file is damaged at byte {at}; copy or export it again")
        if number == 0 or stop > end:
            raise ModelRefused(f"the file is damaged or cut short at byte {at}; copy or export it again")
        yield number, wire, (at, stop), (value, stop)
        at = stop


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ModelRefused(f"the file is damaged or cut short at byte {at}; copy or export it again")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
