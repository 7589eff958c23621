"""ONNX: the manifest is a `metadata_props` entry (ModelProto field 14) whose key is "edgekd".

The device has no onnx package; `protobuf` reads what is needed.
"""

from __future__ import annotations

from edgekd.runtime.container.entry import KEY, Entry
from edgekd.runtime.container.protobuf import fields
from edgekd.runtime.errors import ModelRefused


def entries(data: bytes) -> list[Entry]:
    """See `edgekd.runtime.container.entries`."""
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
