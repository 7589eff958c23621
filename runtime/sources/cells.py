"""One cell, or one value of a message: its number, and whether a condition of the layout holds for it."""

from __future__ import annotations

import re
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import PLAIN, Layout
from edgekd.runtime.sources import NoSample

NAN = float("nan")
_NONE = (
    "nan -nan na n/a n.a. #n/a null none nil undef - -- --- ? * missing bad nodata error err fault invalid unknown"
    " offline unavailable overload ovld overflow ol #value! #ref! #div/0! #num! #name? #null!"
    " 1.#qnan -1.#qnan 1.#ind -1.#ind 1.#inf -1.#inf"
)
MISSING = frozenset(
    ("", "bad input", "bad data", "no data", "not available", "comm fail", "i/o timeout", *_NONE.split())
)
"""How loggers write "no value", in lower case."""
_ON = "true on open yes high running active enabled ein auf ja"
_OFF = "false off closed close no low stopped inactive disabled aus zu nein"
SWITCH = dict.fromkeys(_ON.split(), 1.0) | dict.fromkeys(_OFF.split(), 0.0)
"""The two sides of a switch, in lower case."""
MARKS = str.maketrans({"\u2212": "-", "\u2013": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " "})
COMPARE = {"<=": le, ">=": ge, "==": eq, "!=": ne, "<": lt, ">": gt, "=": eq}
_COMPARISON = re.compile(r"\s*(.+?)\s*(<=|>=|==|!=|<|>|=)\s*(.+?)\s*")


class Boolean(NoSample):
    """A switch's word where a sensor is a number."""


class Cells:
    """The numbers in the cells of one layout."""

    def __init__(self, layout: Layout) -> None:
        self._missing = MISSING | {word.lower() for word in layout.missing}
        self.none = {number for word in layout.missing if (number := as_float(word)) is not None}
        self._suffixes = sorted(layout.suffixes, key=len, reverse=True)
        mark = re.escape(layout.thousands)
        self._thousands = re.compile(rf"(?<=\d){mark}(?=\d{{3}}(?!\d))") if mark else None
        self.plain = not (self.none or layout.thousands)
        """Whether what `float` reads is the number: no other spelling is a number of another value."""
        self._comma = layout.decimal != "." and layout.thousands != ","

    def number(self, value: Any, switch: bool = False) -> float:
        """The value, NaN where the cell says that there is none. switch: its words are 1 and 0.

        Raises NoSample where it is no number, Boolean where it is a word of a switch and the sensor none.
        """
        if isinstance(value, str):
            found = self._text(value.strip())
        elif value is None:
            return NAN
        elif type(value) in (int, float):
            try:
                found = float(value)
            except OverflowError:
                found = NAN
        else:
            found = None
        if found is None:
            side = SWITCH.get(str(value).strip().lower())
            if side is None:
                raise NoSample(f"'{shown(value, 40)}' is no number")
            if not switch:
                raise Boolean(f"'{shown(value, 40)}' where the sensor is a number")
            return side
        return NAN if found in self.none else found

    def _text(self, text: str) -> float | None:
        if text.lower() in self._missing:
            return NAN
        if (found := self._plain(text)) is not None:
            return found
        text = text.translate(MARKS).strip()
        suffix = next((suffix for suffix in self._suffixes if text.endswith(suffix)), "")
        text = text.removesuffix(suffix).rstrip()
        return NAN if text.lower() in self._missing else self._plain(text)

    def _plain(self, text: str) -> float | None:
        if self._thousands:
            text = self._thousands.sub("", text)
        return as_float(text.replace(",", ".") if self._comma else text)


class Condition:
    """One comparison of a column, such as `pump > 0` or `state == RUN`: which rows are for the detector."""

    _cells = Cells(PLAIN)

    def __init__(self, text: str) -> None:
        found = _COMPARISON.fullmatch(text)
        if found is None:
            raise UsageError(f"'{text}' is no comparison; write it as 'pump > 0' or 'state == RUN'")
        self.name, sign, word = found.groups()
        self._compare = COMPARE[sign]
        self._word = word.strip("'\"")
        self._number = self._read(self._word)
        if self._number is None and sign not in ("==", "!=", "="):
            raise UsageError(f"'{text}': '{self._word}' is no number; words go with == and !=")

    def holds(self, value: Any) -> bool:
        """Whether a cell fulfills it; one that says nothing does not."""
        if self._number is None:
            return self._compare(str(value).strip().lower(), self._word.lower())
        number = self._read(value)
        return number is not None and number == number and self._compare(number, self._number)

    def _read(self, value: Any) -> float | None:
        try:
            return self._cells.number(value, switch=True)
        except NoSample:
            return None


def as_float(text: str) -> float | None:
    """A number without any marks; None where it is none."""
    if "_" in text:  # Python's own spelling of numbers, nobody else's
        return None
    try:
        return float(text)
    except ValueError:
        return None
