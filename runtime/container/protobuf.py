"""Reading protobuf wire format (protobuf.dev, "Encoding") against a table of all that may be there.

Protobuf libraries skip fields that they do not know, merge a message that is given twice, and take the last of two
values. Here the three are refused: what is read is what every other reader of the file will see.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgekd.runtime.container.entry import Span
from edgekd.runtime.errors import ModelRefused

MAX_PARTS = 250_000  # fields of all messages and packed numbers together; the largest student has 20,000
MAX_TEXT = 2**20  # bytes of one string: the manifest is the longest

Fields = dict[int, tuple[str, str, bool]]
"""Tag -> name, kind, and whether it may be given several times."""


def schema(messages: dict[str, dict[int, str]]) -> dict[str, Fields]:
    """A table to read by. messages: message name -> {field number: "name kind"}, with * behind a repeated kind.

    Kinds: `int` (any varint), `float`, `bytes`, `span` (where its bytes are), `count` (how many packed floats), the
    name of another message, or `!` and words: a field that is refused, and what it is.
    """
    table: dict[str, Fields] = {}
    for message, fields in messages.items():
        known = table[message] = {}
        for number, words in fields.items():
            name, _, kind = words.partition(" ")
            repeated, kind = kind.endswith("*"), kind.rstrip("*")
            wires: tuple[int, ...] = {"int": (0, 2) if repeated else (0,), "float": (5,), "count": (2, 5)}.get(
                kind, (2,)
            )
            if name.startswith("!"):
                name, kind, wires = words[1:], "!", (0, 1, 2, 5)
            for wire in wires:
                known[number << 3 | wire] = (name, kind, repeated)
    return table


class Reader:
    """The messages in one file's bytes; raises ModelRefused for what its table does not know."""

    def __init__(self, data: bytes, table: dict[str, Fields]) -> None:
        self.data = data
        self._table = table
        self._left = MAX_PARTS

    def message(self, kind: str, start: int, end: int) -> dict[str, Any]:
        """The message in data[start:end]: field name -> value, or the list of values of a repeated field."""
        data, known = self.data, self._table[kind]
        found: dict[str, Any] = {}
        at = start
        while at < end:
            tag, at = read_varint(data, at, end)
            name, what, repeated = known.get(tag) or self._unknown(kind, tag, at)
            value: Any
            if what == "!":
                raise ModelRefused(f"the file holds {name}, which edgekd export never writes; export it again")
            if tag & 7 == 0:
                value, at = read_varint(data, at, end)
                value -= (value >> 63) << 64  # negative numbers are ten bytes long
            elif tag & 7 == 5:
                value, at = 1, self._within(at, at + 4, end)
            else:
                size, at = read_varint(data, at, end)
                begin, at = at, self._within(at, at + size, end)
                if what == "bytes":
                    if size > MAX_TEXT:
                        raise ModelRefused(f"the file's {name} of a {kind} is of {size} bytes; export it again")
                    value = data[begin:at]
                elif what == "span":
                    value = (begin, at)
                elif what == "count":
                    value = size // 4
                elif what == "int":
                    found.setdefault(name, []).extend(self._packed(begin, at))
                    continue
                else:
                    value = self.message(what, begin, at)
            self._spend(1)
            if what == "count":
                found[name] = found.get(name, 0) + value
            elif repeated:
                found.setdefault(name, []).append(value)
            elif name in found:
                raise ModelRefused(f"the file gives '{name}' of its {kind} twice; export it again")
            else:
                found[name] = value
        return found

    def _packed(self, at: int, end: int) -> Iterator[int]:
        while at < end:
            value, at = read_varint(self.data, at, end)
            self._spend(1)
            yield value - ((value >> 63) << 64)

    def _within(self, start: int, stop: int, end: int) -> int:
        if stop > end:
            raise damaged(start)
        return stop

    def _spend(self, parts: int) -> None:
        self._left -= parts
        if self._left < 0:
            raise ModelRefused(f"the file holds more than {MAX_PARTS} parts, no model for a device")

    def _unknown(self, kind: str, tag: int, at: int) -> Any:
        if tag >> 3 == 0 or tag & 7 in (3, 4, 6, 7):  # groups are long dead and ONNX never used them
            raise damaged(at)
        raise ModelRefused(
            f"the file holds field {tag >> 3} of its {kind}, which edgekd export never writes; export it again"
        )


def fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, Span, Span]]:
    """The protobuf fields in data[start:end]: number, wire type, span with the tag, span of the value alone.

    Raises ModelRefused at the first byte that is not wire format or runs past `end`.
    """
    at = start
    while at < end:
        tag, value = read_varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            _, stop = read_varint(data, value, end)
        elif wire == 1:
            stop = value + 8
        elif wire == 2:
            length, value = read_varint(data, value, end)
            stop = value + length
        elif wire == 5:
            stop = value + 4
        else:  # groups (3, 4) are long dead and ONNX never used them
            raise damaged(at)
        if number == 0 or stop > end:
            raise damaged(at)
        yield number, wire, (at, stop), (value, stop)
        at = stop


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at a position, below 2^64, and where it ends."""
    if at < end and data[at] < 0x80:
        return data[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
    raise damaged(at)


def damaged(at: int) -> ModelRefused:
    """The error for a file that ends or derails at a byte."""
    return ModelRefused(f"the file is damaged or cut short at byte {at}; copy or export it again")
