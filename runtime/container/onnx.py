"""ONNX: the manifest is a `metadata_props` entry (ModelProto field 14) whose key is "edgekd".

The device has no onnx package; `protobuf` reads what is needed.
"""

from __future__ import annotations

from edgekd.runtime.container import KEY, Entry
from edgekd.runtime.container.protobuf import fields
from edgekd.runtime.errors import ModelRefused

METADATA = 14 << 3 | 2  # tag in a Model
KEYS, VALUES = 1 << 3 | 2, 2 << 3 | 2  # in an entry


def entries(data: bytes) -> list[Entry]:
    """See `edgekd.runtime.container.entries`."""
    found = []
    for tag, _, span, (start, end) in fields(data, 0, len(data)):
        if tag != METADATA:
            continue
        pairs = [(tag, data[slice(*value)]) for tag, _, _, value in fields(data, start, end) if tag in (KEYS, VALUES)]
        if (KEYS, KEY) in pairs:
            if sorted(tag for tag, _ in pairs) != [KEYS, VALUES]:
                raise ModelRefused("the manifest's entry in the file is not one key and one value; export it again")
            found.append(Entry(span, dict(pairs)[VALUES]))
    return found
