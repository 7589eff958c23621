"""One comparison of a column, such as `pump > 0` or `state == RUN`: which rows are for the detector."""

from __future__ import annotations

import re
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from edgekd.runtime.errors import UsageError
from edgekd.runtime.layout import PLAIN
from edgekd.runtime.sources import NoSample
from edgekd.runtime.sources.cells import Cells

COMPARE = {"<=": le, ">=": ge, "==": eq, "!=": ne, "<": lt, ">": gt, "=": eq}
_FORM = re.compile(r"\s*(.+?)\s*(<=|>=|==|!=|<|>|=)\s*(.+?)\s*")
_CELLS = Cells(PLAIN)


class Condition:
    """Raises UsageError for text that is no comparison."""

    def __init__(self, text: str) -> None:
        found = _FORM.fullmatch(text)
        if found is None:
            raise UsageError(f"'{text}' is no comparison; write it as 'pump > 0' or 'state == RUN'")
        self.name, sign, word = found.groups()
        self._compare = COMPARE[sign]
        self._word = word.strip("'\"")
        self._number = _number(self._word)
        if self._number is None and sign not in ("==", "!=", "="):
            raise UsageError(f"'{text}': '{self._word}' is no number; words go with == and !=")

    def holds(self, value: Any) -> bool:
        """Whether a cell fulfills it; one that says nothing does not."""
        if self._number is None:
            return self._compare(str(value).strip().lower(), self._word.lower())
        number = _number(value)
        return number is not None and number == number and self._compare(number, self._number)


def _number(value: Any) -> float | None:
    try:
        return _CELLS.number(value, switch=True)
    except NoSample:
        return None
