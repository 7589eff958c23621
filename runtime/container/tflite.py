"""TFLite: the manifest is the buffer of a `Metadata` entry of the model whose name is "edgekd".

Reading it needs no package. Field numbers are those of the schema (tensorflow/lite/schema.fbs).
"""

from __future__ import annotations

from edgekd.runtime.container import KEY, Entry
from edgekd.runtime.container.flatbuffer import Flatbuffer
from edgekd.runtime.errors import ModelRefused

BUFFERS, METADATA = 4, 6  # of Model
DATA = 0  # of Buffer
NAME, BUFFER = 0, 1  # of Metadata


def entries(data: bytes) -> list[Entry]:
    """See `edgekd.runtime.container.entries`."""
    model = Flatbuffer(data).root()
    named = [entry for entry in model.tables(METADATA) if entry.text(NAME) == KEY]
    buffers = list(model.tables(BUFFERS)) if named else []
    found = []
    for entry in named:
        index = entry.number(BUFFER, "I")
        span = buffers[index].blob(DATA) if index < len(buffers) else (0, 0)
        if span[0] == span[1]:
            raise ModelRefused("the manifest's entry in the file leads nowhere; export it again")
        found.append(Entry(span, data[slice(*span)]))
    return found
