"""Labels of a column to seconds: as `TimeLabels` reads them, thousands at once where they are as regular as usual."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgekd.runtime.layout import Layout
from edgekd.runtime.sources.time_labels import DAY_S, EXCEL_EPOCH, MATLAB_EPOCH, UNITS, TimeLabels

_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(?:([.,])\d{1,9})?(Z|[+]00:00|)")
_WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}


class Clock:
    """Labels of one format, in the order in which they come. ordered: they are not of several machines in turn."""

    def __init__(self, layout: Layout, time_format: str, ordered: bool) -> None:
        self._labels = TimeLabels(replace(layout, time_format=time_format, sort=layout.sort or not ordered))
        self._format = time_format
        self._naive = not layout.timezone
        self._last = -np.inf

    @property
    def set_back(self) -> int:
        """Times that the clock was set back by an hour."""
        return self._labels.set_back

    def seconds(self, labels: Sequence[Any]) -> np.ndarray:
        """float64 (T,), NaN where a label is no time of this format."""
        found = self._at_once(labels) if self._naive and not self.set_back else None
        if found is None:
            read = self._labels.seconds
            found = np.array([_seconds(read, label) for label in labels], np.float64)
        if len(found) and np.isfinite(found[-1]):
            self._last = float(found[-1])
        return found

    def _at_once(self, labels: Sequence[Any]) -> np.ndarray | None:
        """The same for labels that are all alike and run forward; None for others."""
        if len(labels) < 8 or not isinstance(labels[0], str):
            return None
        try:
            digits = "%" in self._format or self._format == "iso"
            found = (_digits if digits else _numbers)(labels, self._format)
        except (ValueError, TypeError):
            return None
        if found is None or not found[0] >= self._last or not (np.diff(found) >= 0).all():
            return None
        checked = [self._labels.seconds(label) for label in (labels[0], *labels[-2:])]
        same = [one is not None and abs(one - two) < 1e-5 for one, two in zip(checked, (found[0], *found[-2:]))]
        return found if all(same) else None


def _seconds(read: Any, label: Any) -> float:
    if not isinstance(label, (str, int, float)) or isinstance(label, bool):
        return np.nan
    at = read(label)
    return np.nan if at is None or not abs(at) < 1e12 else at


def _numbers(labels: Sequence[str], time_format: str) -> np.ndarray | None:
    if any("_" in label for label in labels):
        return None
    numbers = np.array(list(map(float, labels)))
    if time_format in ("excel", "matlab"):
        return np.round((numbers - (EXCEL_EPOCH if time_format == "excel" else MATLAB_EPOCH)) * DAY_S, 3)
    return numbers * UNITS.get(time_format, 1.0)


def _digits(labels: Sequence[str], time_format: str) -> np.ndarray | None:
    """Labels of digits at the same places."""
    first = labels[0]
    if time_format == "iso":
        found = _ISO.fullmatch(first)
        if found is None:
            return None
        time_format = f"%Y-%m-%d{found[1]}%H:%M:%S" + (f"{found[2]}%f" if found[2] else "") + found[3]
    if set(map(len, labels)) != {len(first)}:
        return None
    codes = np.array(labels).view(np.uint32).reshape(len(labels), len(first))
    parts: dict[str, np.ndarray] = {}
    at = places = 0
    for word, mark in re.findall(r"%(.)|([^%])", time_format):
        if mark:
            if at >= len(first) or not (codes[:, at] == ord(mark)).all():
                return None
            at += 1
            continue
        width = _WIDTHS.get(word, 0)
        if word == "f":
            width = places = len(re.match(r"\d*", first[at:])[0])  # type: ignore[index]
        digits = codes[:, at : at + width] - np.uint32(48)
        if not width or digits.shape[1] != width or (digits > 9).any():
            return None
        parts[word] = digits @ 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
        at += width
    if at != len(first) or not {"Y", "m", "d"} <= set(parts):
        return None
    month = (parts["Y"] - 1970) * 12 + parts["m"] - 1
    days = month.astype("datetime64[M]").astype("datetime64[D]") + (parts["d"] - 1)
    good = (parts["m"] >= 1) & (parts["m"] <= 12) & (days.astype("datetime64[M]").astype(np.int64) == month)
    clock = [parts.get(word, np.int64(0)) for word in "HMS"]
    for part, limit in zip(clock, (24, 60, 60)):
        good &= part < limit
    if not good.all():
        return None
    seconds = days.astype(np.int64) * 86400.0 + clock[0] * 3600 + clock[1] * 60 + clock[2]
    return np.asarray(seconds + parts["f"] / 10**places if "f" in parts else seconds, np.float64)
