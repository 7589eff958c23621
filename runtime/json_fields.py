"""Strict, bounded reading of JSON out of a file that nobody vouches for, by the bounds beside a dataclass's fields.

`hop: Annotated[int, integer, 1, 100]` is read by `integer(value, "hop", 1, 100)`; a field that is a dataclass by
`record`. With OPTIONAL behind it, a field may be missing. A refusal names the field, its bounds and what was found.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, get_type_hints

from edgekd.runtime.errors import ModelRefused

T = TypeVar("T")
OPTIONAL = "OPTIONAL"
MAX_DEPTH = 6  # free sections (metrics, parity) are tables of tables, never trees
MAX_NODES = 20_000  # values in one free section: far above any table, far below what costs memory
MAX_TEXT = 2_000  # characters of one text: a paragraph


def shown(value: object, limit: int = 80) -> str:
    """`value` on one line for a message: unprintable characters escaped, cut at `limit` characters."""
    text = value if isinstance(value, str) else repr(value)[: 4 * limit]
    cut = text[:limit]
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in cut)
    return safe + ("…" if len(text) > limit else "")


def parse_object(text: str | bytes) -> dict[str, Any]:
    """One JSON object, UTF-8; NaN, infinities, repeated keys and absurd nesting are refused as ModelRefused."""

    def no_constant(name: str) -> float:
        raise ModelRefused(f"manifest holds {name}, which is no number")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if (twice := repeated(key for key, _ in pairs)) is not None:
            raise ModelRefused(f"manifest gives '{shown(twice)}' twice")
        return dict(pairs)

    try:
        text = text if isinstance(text, str) else text.decode()  # json itself would take UTF-16 too
        value = json.loads(text, parse_constant=no_constant, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelRefused(f"manifest is not valid JSON ({shown(str(error))})") from None
    if not isinstance(value, dict):
        raise ModelRefused("manifest is not a JSON object")
    return value


def repeated(names: Iterable[str]) -> str | None:
    """The first name that was there before, if there is one."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def record(value: Any, where: str, kind: Any) -> Any:
    """A JSON object as a dataclass, each field through its reader; a missing and an unknown one are refused."""
    if not isinstance(value, dict):
        raise refused(where or "top level", "an object", value)
    within = f"{where}." if where else ""
    left, found = dict(value), {}
    for name, (optional, reader, *bounds) in _readers(kind).items():
        if name in left:
            found[name] = reader(left.pop(name), within + name, *bounds)
        elif not optional:
            raise ModelRefused(f"manifest: {within}{name} is missing")
    for name in left:
        raise ModelRefused(f"manifest: unknown field '{shown(within + name)}'; a newer EdgeKD may read it")
    return kind(**found)


@functools.cache
def _readers(kind: Any) -> dict[str, list[Any]]:
    """Of each field of a dataclass: whether it may be missing, its reader and its bounds."""
    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        marks = getattr(hint, "__metadata__", (record, hint))
        found[name] = [marks[-1] == OPTIONAL, *(mark for mark in marks if mark != OPTIONAL)]
    return found


def refused(where: str, want: str, got: object) -> ModelRefused:
    """The error for a field: what it should be and what it is."""
    return ModelRefused(f"manifest: {where} should be {want}, got {shown(got)}")


def number(value: Any, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high]."""
    if not _is_number(value) or not low <= value <= high:
        raise refused(where, f"a number in [{low:g}, {high:g}]", value)
    return float(value)


def integer(value: Any, where: str, low: int, high: int) -> int:
    """An integer in [low, high]."""
    if type(value) is not int or not low <= value <= high:
        raise refused(where, f"an integer in [{low}, {high}]", value)
    return value


def flag(value: Any, where: str) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise refused(where, "true or false", value)
    return value


def text(value: Any, where: str, limit: int = MAX_TEXT, least: int = 0) -> str:
    """Printable text on one line, `least` to `limit` characters of it."""
    if not isinstance(value, str) or not least <= len(value) <= limit or not value.isprintable():
        raise refused(where, f"printable text of {least} to {limit} characters", value)
    return value


def matching(value: Any, where: str, pattern: re.Pattern[str], what: str) -> str:
    """Text that is `what`, all of it."""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise refused(where, what, value)
    return value


def items(value: Any, where: str, low: int, high: int, reader: Callable[..., T], *bounds: Any) -> tuple[T, ...]:
    """A list of low to high items, each through a reader."""
    if not isinstance(value, list) or not low <= len(value) <= high:
        found = f"{len(value)} items" if isinstance(value, list) else value
        raise refused(where, f"a list of {low} to {high} items", found)
    return tuple(reader(item, f"{where}[{i}]", *bounds) for i, item in enumerate(value))


def or_null(value: Any, where: str, reader: Callable[..., T], *bounds: Any) -> T | None:
    """What the reader takes, or null."""
    return None if value is None else reader(value, where, *bounds)


def free(value: Any, where: str) -> dict[str, Any]:
    """An object of any shape, bounded in depth, count and text."""
    if not isinstance(value, dict):
        raise refused(where, "an object", value)
    parts: list[tuple[Any, int]] = [(value, 1)]
    for item, depth in parts:  # which grows meanwhile by what is inside
        inside = [*item, *item.values()] if isinstance(item, dict) else item if isinstance(item, list) else ()
        parts += [(part, depth + 1) for part in inside]
        if depth > MAX_DEPTH:
            raise ModelRefused(f"manifest: {where} is nested deeper than {MAX_DEPTH} levels")
        if len(parts) > MAX_NODES:
            raise ModelRefused(f"manifest: {where} holds more than {MAX_NODES} values")
        if isinstance(item, str):
            if len(item) > MAX_TEXT or not item.isprintable():
                raise ModelRefused(f"manifest: {where} holds overlong or unprintable text: {shown(item)}")
        elif not (item is None or isinstance(item, (bool, dict, list)) or _is_number(item)):
            raise ModelRefused(f"manifest: {where} holds {shown(item)}, which is no finite number")
    return value


def _is_number(value: object) -> bool:
    """A finite int or float that is no bool and fits a double."""
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return type(value) is float and math.isfinite(value)
