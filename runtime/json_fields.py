"""Strict, bounded reading of JSON that came out of a file nobody vouches for.

Each `take` names the field, the bounds and what was found, so that a refusal needs no second look.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

from edgekd.runtime.errors import ModelRefused

T = TypeVar("T")
MAX_DEPTH = 6  # free sections (metrics, parity) are tables of tables, never trees
MAX_NODES = 20_000  # values in one free section: far above any table, far below what costs memory
MAX_TEXT = 2_000  # characters of one text: a paragraph


def shown(value: object, limit: int = 80) -> str:
    """`value` on one line for a message: unprintable characters escaped, cut at `limit` characters."""
    text = value if isinstance(value, str) else repr(value)[: 4 * limit]
    cut = text[:limit]
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in cut)
    return safe + ("…" if len(text) > limit else "")


def parse_object(text: str) -> dict[str, Any]:
    """One JSON object; NaN, infinities, repeated keys and absurd nesting are refused as ModelRefused."""

    def no_constant(name: str) -> float:
        raise ModelRefused(f"manifest holds {name}, which is no number")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for key in names if names.count(key) > 1)
            raise ModelRefused(f"manifest gives '{shown(twice)}' twice")
        return found

    try:
        value = json.loads(text, parse_constant=no_constant, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelRefused(f"manifest is not valid JSON ({shown(error.args[0] if error.args else error)})") from None
    if not isinstance(value, dict):
        raise ModelRefused("manifest is not a JSON object")
    return value


class Fields:
    """The fields of one JSON object, each taken once; `done` refuses what was never asked for."""

    def __init__(self, value: object, where: str = "") -> None:
        if not isinstance(value, dict):
            raise ModelRefused(f"manifest: {where or 'top level'} should be an object, got {shown(value)}")
        self._left = dict(value)
        self._where = where

    def _name(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def refuse(self, key: str, want: str, got: object) -> ModelRefused:
        """The error for field `key`: what it should be and what it is."""
        return ModelRefused(f"manifest: {self._name(key)} should be {want}, got {shown(got)}")

    def has(self, key: str) -> bool:
        """Whether an optional field is given and not null; a null is taken."""
        if self._left.get(key) is None:
            self._left.pop(key, None)
            return False
        return True

    def take(self, key: str) -> Any:
        if key not in self._left:
            raise ModelRefused(f"manifest: {self._name(key)} is missing")
        return self._left.pop(key)

    def number(self, key: str, low: float, high: float) -> float:
        """A finite number in [low, high]."""
        value = self.take(key)
        if not is_number(value) or not low <= value <= high:
            raise self.refuse(key, f"a number in [{low:g}, {high:g}]", value)
        return float(value)

    def integer(self, key: str, low: int, high: int) -> int:
        """An integer in [low, high]."""
        value = self.take(key)
        if type(value) is not int or not low <= value <= high:
            raise self.refuse(key, f"an integer in [{low}, {high}]", value)
        return value

    def text(self, key: str, limit: int = MAX_TEXT, empty: bool = True) -> str:
        """Printable text on one line of at most `limit` characters."""
        value = self.take(key)
        if not isinstance(value, str) or len(value) > limit or not value.isprintable() or not (value or empty):
            raise self.refuse(key, f"printable text of at most {limit} characters", value)
        return value

    def items(self, key: str, low: int, high: int, read: Callable[[object, str], T]) -> tuple[T, ...]:
        """A list of low to high items, each through `read(item, where)`."""
        value = self.take(key)
        if not isinstance(value, list) or not low <= len(value) <= high:
            got = f"{len(value)} items" if isinstance(value, list) else value
            raise self.refuse(key, f"a list of {low} to {high} items", got)
        return tuple(read(item, f"{self._name(key)}[{i}]") for i, item in enumerate(value))

    def child(self, key: str) -> Fields:
        return Fields(self.take(key), self._name(key))

    def free(self, key: str) -> dict[str, Any]:
        """An object of any shape, bounded in depth, count and text; missing reads as empty."""
        value = self._left.pop(key, {})
        if not isinstance(value, dict):
            raise self.refuse(key, "an object", value)
        _bound_free(value, self._name(key))
        return value

    def done(self) -> None:
        """Refuse fields that this format does not know."""
        if self._left:
            key = next(iter(self._left))
            raise ModelRefused(f"manifest: unknown field '{shown(self._name(key))}'; a newer EdgeKD may read it")


def is_number(value: object) -> bool:
    """A finite int or float that is no bool and fits a double."""
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return type(value) is float and math.isfinite(value)


def _bound_free(section: dict[str, Any], where: str) -> None:
    level: list[object] = [section]
    nodes = 0
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for value in level:
            nodes += 1
            if isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str):
                if len(value) > MAX_TEXT or not value.isprintable():
                    raise ModelRefused(f"manifest: {where} holds overlong or unprintable text: {shown(value)}")
            elif not (value is None or isinstance(value, bool) or is_number(value)):
                raise ModelRefused(f"manifest: {where} holds {shown(value)}, which is no finite number")
        if nodes + len(below) > MAX_NODES:
            raise ModelRefused(f"manifest: {where} holds more than {MAX_NODES} values")
        if not below:
            return
        level = below
    raise ModelRefused(f"manifest: {where} is nested deeper than {MAX_DEPTH} levels")
