"""Sensors that count up (energy, volume, pieces): the step since the sample before, in their place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekd.runtime.errors import UsageError
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Row
from edgekd.runtime.sources.cells import as_float


class Difference:
    """Steps of some of n sensors, taken in float64: a large count has none left in float32.

    of: NAME or NAME:MODULUS, where the count begins again at 0; without one a step back is a missing value. Names of no
    sensor are left out. The first step, and the first after a gap, is the sensor's fill.
    """

    def __init__(self, manifest: Manifest, of: Sequence[str]) -> None:
        names = manifest.names
        moduli = {names.index(name): modulus for name, modulus in (parse(text, names) for text in of) if name in names}
        self._places, self._modulus = list(moduli), np.array([*moduli.values()])
        self._fill = np.array([manifest.sensors[i].fill for i in moduli])
        self._last: np.ndarray | None = None

    def take(self, items: list[Row | InputEvent]) -> list[Row | InputEvent]:
        """The rows with float32 values."""
        for item in items:
            if isinstance(item, Row):
                values = item.values.astype(np.float64)
                counts = values[self._places]
                values[self._places] = self._fill if self._last is None else steps(self._last, counts, self._modulus)
                self._last = counts
                with np.errstate(over="ignore"):
                    item.values = values.astype(np.float32)
            elif item.rewarm:
                self._last = None
        return items


def steps(before: np.ndarray, counts: np.ndarray, modulus: np.ndarray) -> np.ndarray:
    """From one count to the next; over the modulus, or NaN where there is none (0), where it went back."""
    found = counts - before
    return np.where(found < 0, np.where(modulus > 0, found + modulus, np.nan), found)


def parse(text: str, names: Sequence[str]) -> tuple[str, float]:
    """NAME and MODULUS, 0 where there is none; a name may itself hold a colon."""
    name, colon, modulus = text.rpartition(":")
    number = as_float(modulus) if colon and text not in names else None
    if number is None:
        return text, 0.0
    if not 0 < number < float("inf"):
        raise UsageError(f"difference '{text}': a count that begins again at {modulus} counts nothing")
    return name, number
