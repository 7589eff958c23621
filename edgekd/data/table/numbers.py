"""How numbers are written: decimal sign, thousands, units behind them. Told from the cells of a file together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from edgekd.runtime.sources.cells import MARKS

_NUMBER = re.compile(
    r"([+-]?)(\d[\d.,' ]*\d|\d+[.,]?|[.,]\d+)((?:[eE][+-]?\d+)?)(?:\s*((?:[^\W\d_]|[°%‰])[^;,|\"\t=:]{0,14}))?"
)
_GROUPS = {mark: re.compile(rf"[1-9]\d{{0,2}}({re.escape(mark)}\d{{3}})+") for mark in ",.' "}


class Style(NamedTuple):
    """How numbers are written."""

    decimal: str
    thousands: str
    guessed: str = ""
    """A cell that could be read in two ways."""


def suffix_of(cell: str) -> str | None:
    """The unit behind a number, "" where there is none; None where the cell is no number."""
    found = _NUMBER.fullmatch(cell.translate(MARKS).strip())
    return None if found is None else found[4] or ""


def common_suffix(cells: Iterable[str]) -> str | None:
    """The unit that stands behind the numbers among these cells; "" where none does, None where several do."""
    found = {suffix for cell in cells if (suffix := suffix_of(cell))}
    return found.pop() if len(found) == 1 else None if found else ""


def style_of(cells: Iterable[str]) -> Style:
    """Decimal sign and thousands of the numbers among these cells."""
    sure: Counter[str] = Counter()
    groups: Counter[str] = Counter()  # marks of what could be thousands, or a decimal sign before three digits
    thousands: Counter[str] = Counter()
    guessed = ""
    for cell in cells:
        found = _NUMBER.fullmatch(cell.translate(MARKS).strip())
        if found is None:
            continue
        text = found[2]
        marks = [mark for mark in text if mark in ",.' "]
        if not marks:
            continue
        last = marks[-1]
        if len(set(marks)) == 1 and len(marks) == 1 and last in ",.":
            if _GROUPS[last].fullmatch(text):
                groups[last] += 1
                guessed = guessed or cell.strip()
            else:
                sure[last] += 1
        elif len(set(marks)) == 1:
            if _GROUPS[last].fullmatch(text):
                thousands[last] += 1
        elif last in ",." and marks.count(last) == 1:
            whole, _, _ = text.rpartition(last)
            if _GROUPS[marks[0]].fullmatch(whole):
                sure[last] += 1
                thousands[marks[0]] += 1
    mark = thousands.most_common(1)[0][0] if thousands else ""
    if mark in ("", " ", "'") and not sure and groups:
        decimal = "." if groups["."] or not groups[","] else ","
        return Style(decimal, mark, guessed if decimal == "," else "")
    if len(sure) == 2:  # some columns have the one, some the other
        return Style("", mark if mark in (" ", "'") else "")
    decimal = next(iter(sure), "," if mark == "." else ".")
    other = "," if decimal == "." else "."
    return Style(decimal, mark if mark and mark != decimal else other if groups[other] else "")
