"""Reading protobuf wire format (protobuf.dev, "Encoding") against a table of all that may be there.

Protobuf libraries skip fields that they do not know, merge a message that is given twice, and take the last of two
values. Here the three are refused: what is read is what every other reader of the file will see.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from edgekd.runtime.container import Parts, Span, damaged, foreign
from edgekd.runtime.errors import ModelRefused

MAX_PARTS = 250_000  # fields of all messages and packed numbers together; the largest student has 20,000
MAX_TEXT = 2**20  # bytes of one string: the manifest is the longest

_BYTES = {0: 0, 1: 8, 5: 4}  # of a value by its wire type; groups (3, 4) are long dead and ONNX never used them
_WIRES = {"int": 0, "float": 5}  # of other kinds: 2; of repeated numbers: 2 as well, packed


class Reader:
    """The messages in one file's bytes, by a table: message name -> {field number: "name kind"}.

    Kinds: `int` (any varint), `float` and `span` (where their bytes are), `bytes`, or the name of another message; `*`
    behind it if the field may be given several times. `!` and words instead: a field that is refused, and what it is.
    """

    def __init__(self, data: bytes, table: dict[str, dict[int, str]]) -> None:
        self.data = data
        self._table = table
        self._parts = Parts(MAX_PARTS)

    def message(self, message: str, start: int, end: int) -> dict[str, Any]:
        """The message in data[start:end]: field name -> value, or the list of values of a repeated field."""
        found: dict[str, Any] = {}
        for tag, number, _, (begin, stop) in fields(self.data, start, end, self._parts):
            words, wire = self._table[message].get(tag >> 3, ""), tag & 7
            if words.startswith("!"):
                raise foreign(words[1:])
            name, _, kind = words.partition(" ")
            repeated, kind = kind.endswith("*"), kind.rstrip("*")
            if not words or (wire != _WIRES.get(kind, 2) and not (repeated and wire == 2)):
                raise foreign(f"field {tag >> 3} of its {message}")
            values: Iterable[Any] = [(begin, stop)]
            if kind == "int":
                values = self._packed(begin, stop) if wire == 2 else [_signed(number)]
            elif kind == "bytes":
                if stop - begin > MAX_TEXT:
                    raise ModelRefused(f"the file's {name} of a {message} is of {stop - begin} bytes; export it again")
                values = [self.data[begin:stop]]
            elif kind in self._table:
                values = [self.message(kind, begin, stop)]
            if repeated:
                found.setdefault(name, []).extend(values)
            elif name in found:
                raise ModelRefused(f"the file gives '{name}' of its {message} twice; export it again")
            else:
                (found[name],) = values
        return found

    def _packed(self, at: int, end: int) -> Iterator[int]:
        while at < end:
            value, at = read_varint(self.data, at, end)
            self._parts.spend(1)
            yield _signed(value)


def fields(data: bytes, start: int, end: int, parts: Parts) -> Iterator[tuple[int, int, Span, Span]]:
    """The fields in data[start:end]: tag, number of a varint, span with the tag, span of what else it holds."""
    at = start
    while at < end:
        parts.spend(1)
        began, number = at, 0
        tag, at = read_varint(data, at, end)
        wire = tag & 7
        if wire in (0, 2):
            number, at = read_varint(data, at, end)
        size = number if wire == 2 else _BYTES.get(wire)
        if size is None or tag < 8 or at + size > end:
            raise damaged(began)
        yield tag, number, (began, at + size), (at, at + size)
        at += size


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at a position, below 2^64, and where it ends."""
    if at < end and data[at] < 0x80:  # nearly all are
        return data[at], at + 1
    value = 0
    for shift, byte in enumerate(data[at : min(at + 10, end)]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80 and value < 2**64:
            return value, at + shift + 1
    raise damaged(at)


def _signed(value: int) -> int:
    return value - ((value >> 63) << 64)  # negative numbers are ten bytes long
