"""Columns as they grow, batch by batch: numbers with what they look like as written, and words by number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgekd.runtime.layout import Layout
from edgekd.runtime.sources import NoSample
from edgekd.runtime.sources.cells import NAN, Cells

MANY = 4096
"""Words of one column that are told apart; a column with more is free text."""
Odd = list[tuple[int, str]]
"""Cells that are no numbers, by their place."""


class Growing:
    """An array that blocks are put behind. Small ones kept apart would tear holes into the heap while they live."""

    def __init__(self, kind: type[np.generic], *wide: int) -> None:
        self._room = np.empty((1 << 12, *wide), kind)
        self._used = 0

    def add(self, block: np.ndarray) -> np.ndarray:
        """Put it behind; the place where it is."""
        end = self._used + len(block)
        if end > len(self._room):
            room = np.empty((max(end, 2 * len(self._room)), *self._room.shape[1:]), self._room.dtype)
            room[: self._used] = self._room[: self._used]
            self._room = room
        self._room[self._used : end] = block
        self._used = end
        return self._room[end - len(block) : end]

    def values(self) -> np.ndarray:
        """All of them."""
        return self._room[: self._used]


class NumberColumn:
    """Numbers as they come, and what they look like as written."""

    def __init__(self, layout: Layout, switch: bool = False) -> None:
        self._cells, self._switch = Cells(layout), switch
        self._none = np.array(sorted(self._cells.none))
        self._comma = layout.decimal != "." and layout.thousands != ","
        self._thousands = layout.thousands
        self._last = np.array([])
        self.said: Counter[str] = Counter()
        """Words that mean no value, and how often they were said."""
        self.words: Counter[str] = Counter()
        """Cells that are no numbers."""
        self.count = self.ones = self.steps = 0
        self.largest, self.least_step, self.binary = 0.0, 0.0, True

    def parse(self, cells: Sequence[Any]) -> tuple[np.ndarray, Odd]:
        """float64 (T,), NaN where there is no number, and the cells that are none."""
        odd: Odd = []
        try:
            values = cells.copy() if isinstance(cells, np.ndarray) else self._quick(cells)
        except (ValueError, TypeError):
            values = np.array(list(map(self._memory(), cells)), np.float64)
            places = np.flatnonzero(np.isnan(values)).tolist()
            odd = [(i, text) for i in places if (text := str("" if cells[i] is None else cells[i]).strip())]
        if len(self._none):
            values[np.isin(values, self._none)] = NAN
        for i in np.flatnonzero(np.isinf(values)).tolist():
            odd.append((i, str(cells[i]).strip()))
            values[i] = NAN
        return values, odd

    def _memory(self) -> Callable[[Any], float]:
        """What reads one cell, NaN where it is no number; it remembers texts."""
        known: dict[str, float] = {}

        def number(cell: Any) -> float:
            if isinstance(cell, str) and cell in known:
                return known[cell]
            try:
                value = self._cells.number(cell, self._switch)
            except NoSample:
                value = NAN
            if isinstance(cell, str) and len(known) < MANY:
                known[cell] = value
            return value

        return number

    def _quick(self, cells: Sequence[str]) -> np.ndarray:
        """Raises ValueError where a cell is no plain number."""
        text = "\n".join(cells)
        if "_" in text or (self._thousands and self._thousands in text) or "n" in text or "N" in text:
            raise ValueError
        if self._comma and "," in text:
            cells = text.replace(",", ".").split("\n")
        if "" in cells:
            cells = [cell or "nan" for cell in cells]
        return np.fromiter(map(float, cells), np.float64, len(cells))

    def look_at(self, values: np.ndarray, odd: Odd) -> None:
        """See what was parsed, float64 (T,)."""
        for _, word in odd:
            self._count(word)
        finite = values[~np.isnan(values)]
        if not len(finite):
            return
        self.count += len(finite)
        self.largest = max(self.largest, float(finite.max()), -float(finite.min()))
        steps = np.diff(np.concatenate((self._last, finite)))
        self._last = finite[-1:]
        self.ones += int((steps == 1).sum())
        self.steps += len(steps)
        least = float(np.abs(steps[steps != 0]).min(initial=self.least_step or np.inf))
        self.least_step = least if least < np.inf else 0.0
        self.binary = self.binary and self.largest <= 1 and bool(((finite == 0) | (finite == 1)).all())

    def is_word(self, cell: str) -> bool:
        """Whether a cell that is no number does not even say that there is none."""
        try:
            missing = self._cells.number(cell, True)
        except NoSample:
            return True
        return missing == missing

    def _count(self, word: str) -> None:
        counter = self.words if self.is_word(word) else self.said
        if len(counter) < MANY or word in counter:
            counter[word] += 1


class WordColumn:
    """Words as they come, by number."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self._rows = Growing(np.int32)
        self.many = False

    def add(self, cells: Sequence[Any]) -> None:
        """Keep these."""
        known: dict[Any, int] = {}
        texts = [cell if isinstance(cell, str) else "" if cell is None else str(cell) for cell in cells]
        for text, count in Counter(texts).items():
            word = text.strip()
            if self.many and word not in self.codes:
                word = ""
            known[text] = self.codes.setdefault(word, len(self.codes))
            self.counts[word] += count
            self.many = len(self.codes) >= MANY
        self._rows.add(np.fromiter(map(known.__getitem__, texts), np.int32, len(texts)))

    def values(self) -> np.ndarray:
        """int32 (T,), numbers of the words."""
        return self._rows.values()

    def names(self) -> list[str]:
        """The words by their numbers."""
        return list(self.codes)
