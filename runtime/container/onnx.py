"""ONNX: the manifest is a `metadata_props` entry (ModelProto field 14) whose key is "edgekd".

The device has no onnx package; `protobuf` reads what is needed.
"""

from __future__ import annotations

from edgekd.runtime.container.entry import KEY, Entry, cut
from edgekd.runtime.container.protobuf import fields, varint
from edgekd.runtime.errors import ModelRefused
from edgekd.runtime.guard.onnx_operators import check_graph


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
        entry = b"\x0a" + varint(len(KEY)) + KEY + b"\x12" + varint(len(manifest)) + manifest
        return data + b"\x72" + varint(len(entry)) + entry  # 0x72: field 14, length-delimited

    def bare(self, data: bytes) -> bytes:
        found = self.entries(data)
        return b"".join(cut(data, found)) if found else data

    def check(self, data: bytes) -> None:
        check_graph(data)
