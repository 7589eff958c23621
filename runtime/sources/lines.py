"""One line of text to its cells: a list by position, or a dict by name."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from edgekd.runtime.layout import Layout
from edgekd.runtime.sources import NoSample

Cells = list[Any] | dict[str, Any]
Knows = Callable[[dict[str, Any]], bool]
"""Whether names that were found are any that are wanted."""
MAX_DEPTH = 8
NOISE = re.compile(r"\x1b\[[0-9;?]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")  # ANSI colors, STX and ETX
_PAIR = re.compile(r"([^\s,;=:][^,;=:]*+)[=:]\s*(\"[^\"]*\"|[^\s,;=]*)(?:[\s,;]+|\Z)")
_STAMP = re.compile(r"(\d[-\d/.:T ]*\d(?:[.,]\d+)?Z?)[\s,;]+(?:\[?(?:DEBUG|INFO|WARN|ERROR)\w*\]?:?\s+)?(?=[^\W\d])")
_SDI_12 = re.compile(r"[0-9A-Za-z]?(?:[+-]\d+(?:\.\d*)?){2,}")
_SIGNED = re.compile(r"[+-]\d+(?:\.\d*)?")
_FIELD = re.compile(r"((?:\\.|[^,=\\])+)=(\"(?:\\.|[^\"\\])*\"|[^,]*)(?:,|\Z)")
_PART = re.compile(r"(?:\\.|\"(?:\\.|[^\"\\])*+\"|[^ ])++")  # between blanks that are neither escaped nor quoted
_CHECKED = re.compile(rb"(.+)\*([0-9a-fA-F]{2})", re.DOTALL)
_ESCAPE = re.compile(r"\\([,= \\])")


def without_checksum(line: bytes) -> bytes:
    """What stands between a leading $ and an NMEA checksum: * and the XOR of its bytes, two hexadecimal digits."""
    found = _CHECKED.fullmatch(line.removeprefix(b"$"))
    if found is None:
        raise NoSample("there is no checksum at its end, * and two hexadecimal digits")
    if int(found[2], 16) != np.bitwise_xor.reduce(np.frombuffer(found[1], np.uint8)):
        raise NoSample("its checksum is wrong")
    return found[1]


def cells_of(text: str, layout: Layout, knows: Knows) -> Cells:
    """The cells of a line; which form it has, the layout says or else the line itself.

    A name is taken apart from its value (`a=1 b=2`, line protocol) only where `knows` says so, or the layout does.
    """
    text = NOISE.sub("", text).strip(" \r\n" if layout.separator else None)
    form = layout.form
    if form == "json" or (not form and text[:1] in ("{", "[")):
        topic, brace, inner = text.partition("{")  # `mosquitto_sub -v` writes the topic before the message
        alone = not brace or topic[:1] in ("", "[")
        found = _json(text if alone else brace + inner)
        return found if alone or isinstance(found, list) else {"topic": topic.rstrip("= ").rpartition(" ")[2], **found}
    if form in ("", "line protocol", "pairs") and ("=" in text or ":" in text):
        for named in (line_protocol, pairs):
            told = named(text)
            if told and (form or knows(told)):
                return told
    if form in ("line protocol", "pairs"):
        raise NoSample(f"no {'NAME=VALUE' if form == 'pairs' else 'line of the line protocol'}")
    if not layout.separator and _SDI_12.fullmatch(text):
        return _SIGNED.findall(text)
    return split(text.removesuffix("*"), layout.separator)


def split(text: str, separator: str) -> list[str]:
    """Cells of a table's row, bare of blanks; without a separator the line's own, a semicolon before all others."""
    if not separator:
        separator = next((mark for mark in (";", "\t", "|", ",") if mark in text), " ")
    if separator == " ":
        if '"' not in text:
            return text.split()
        text = " ".join(text.split())
    try:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=separator, skipinitialspace=True))]
    except (csv.Error, StopIteration):
        raise NoSample("quotes do not match") from None


def pairs(text: str) -> dict[str, Any]:
    """`a=1 b=2`, `a:1,b:2`, `a = 1; b = 2`; what stands before them may be the `time`."""
    stamp = _STAMP.match(text)
    found = {"time": stamp[1]} if stamp else {}
    rest = text[stamp.end() :] if stamp else text
    return found | {name.strip(): value.strip('"') for name, value in _PAIR.findall(rest)}


def line_protocol(text: str) -> dict[str, Any] | None:
    """`measurement,tag=x a=1,b=2 1740981600000000000`: tags, fields, and `time`; None where it is no such line."""
    parts = _PART.findall(text)
    if not 2 <= len(parts) <= 3 or "=" not in parts[1] or (len(parts) == 3 and not parts[2].lstrip("-").isdigit()):
        return None
    _, _, tags = parts[0].partition(",")
    found = {}
    for name, value in (*_FIELD.findall(tags), *_FIELD.findall(parts[1])):
        if value[-1:] in ("i", "u") and value[:-1].lstrip("-").isdigit():
            value = value[:-1]
        found[_ESCAPE.sub(r"\1", name)] = {"t": "true", "f": "false"}.get(value.lower(), value.strip('"'))
    return found | ({"time": parts[2]} if len(parts) == 3 else {})


def _json(text: str) -> Cells:
    try:
        value = json.loads(text.rstrip(",") if text[:1] == "{" else text)
    except (ValueError, RecursionError):
        raise NoSample("neither JSON nor CSV") from None
    if isinstance(value, list):
        return value if (named := _named(value)) is None else flat(named)
    if not isinstance(value, dict):
        raise NoSample("neither a JSON object nor an array")
    return flat(value) if any(isinstance(part, (dict, list)) for part in value.values()) else value


def flat(value: dict[str, Any]) -> dict[str, Any]:
    """Nested objects, and lists of names and values, as one: `{"a": {"b": 1}}` has `a.b`, and `b` if none else does."""
    found: dict[str, Any] = {}
    _flatten(value, "", found, MAX_DEPTH)
    leaves = Counter(path.rpartition(".")[2] for path in found)
    return found | {leaf: item for path, item in found.items() if leaves[leaf := path.rpartition(".")[2]] == 1}


def _flatten(value: dict[str, Any], before: str, found: dict[str, Any], levels: int) -> None:
    if not levels:
        raise NoSample(f"nested deeper than {MAX_DEPTH} levels")
    for name, item in value.items():
        inner = _named(item) if isinstance(item, list) else item
        if isinstance(inner, dict):
            _flatten(inner, f"{before}{name}.", found, levels - 1)
        elif inner is not None or item is None:
            found[f"{before}{name}"] = item


def _named(items: list[Any]) -> dict[str, Any] | None:
    """`[{"name": "a", "value": 1}, …]` as `{"a": 1}`; None where it is another list."""
    if not items or not all(isinstance(item, dict) and "value" in item for item in items):
        return None
    names = [next((item[key] for key in ("name", "id", "tag", "n") if key in item), None) for item in items]
    found = {name: item["value"] for name, item in zip(names, items) if isinstance(name, str)}
    return found if len(found) == len(items) else None
