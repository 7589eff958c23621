"""Time labels, as loggers write them, to seconds since 1970 (UTC)."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Any

from edgekd.runtime.errors import UsageError
from edgekd.runtime.layout import Layout

TIME_NAMES = ("time", "timestamp", "datetime", "date", "ts", "t")
HOUR_S, DAY_S, FARTHEST_S = 3600.0, 86400.0, 1e12  # no clock says 30,000 years, and what is reckoned stays finite
EPOCH = datetime(1970, 1, 1)
EXCEL_EPOCH, MATLAB_EPOCH = 25569, 719529  # 1970-01-01 in days of each
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": HOUR_S, "d": DAY_S}

Moment = datetime | float | None


class TimeLabels:
    """The labels of one input, in the order in which they come.

    Local time without a zone jumps back an hour when clocks are set back: what comes after counts on, as it does past
    midnight where labels have no date; unless the next goes on from before such a jump. likely: the layout may be
    another input's, so usual labels are read as well. UsageError for a zone that is not known here.
    """

    def __init__(self, layout: Layout, likely: bool = False) -> None:
        self._readers = [reader(layout.time_format)]
        self._known = False  # whether a label has been read
        if likely and layout.time_format not in ("", "none"):
            self._readers.append(usual)
        self._ordered = not (layout.sort or layout.tag)
        self._elapsed = layout.time_format == "elapsed"
        self._last = -math.inf  # the newest time that a clock without a date or a zone told, where they come in order
        self._step = self._ahead = 0.0  # between the newest two; what is added to it
        self._before = -math.inf, 0.0  # time of the one before, and what was added to that
        self._zone = _zone(layout.timezone) if layout.timezone else None
        self.set_back = 0  # times that the clock was set back by an hour

    def seconds(self, label: str | float | None) -> float | None:
        """When it was; None where the label is no time of this format."""
        for read in self._readers if label is not None else ():
            try:
                moment = read(label)
                at = self._of(moment) if isinstance(moment, datetime) else moment
            except (ValueError, OverflowError, OSError):  # `suppress` would take a third of the time
                continue
            if at is not None and -FARTHEST_S < at < FARTHEST_S:
                first = read is self._readers[0]
                if not (first or self._known):  # it is the other input, from now on
                    self._readers, self._elapsed = [read], False
                self._known = True
                return self._counted_on(at) if self._elapsed and first else at
        return None

    def _of(self, moment: datetime) -> float:
        if moment.tzinfo is not None:
            return moment.timestamp()
        if self._zone is None:
            return self._counted_on((moment - EPOCH).total_seconds())
        at = moment.replace(tzinfo=self._zone).timestamp()
        if at < self._last:
            at = max(at, moment.replace(tzinfo=self._zone, fold=1).timestamp())
        self._last = at if self._ordered else self._last
        return at

    def _counted_on(self, told: float) -> float:
        """What a clock told that may jump back, by an hour or past midnight, as a time that does not."""
        last, ahead, hop = self._last, self._ahead, DAY_S if self._elapsed else HOUR_S
        back = last - told - ahead
        if back > DAY_S / 2 if self._elapsed else back > 0 and abs(hop - back - self._step) <= self._step / 2:
            ahead += hop
        before, its_ahead = self._before
        if abs(told + its_ahead - before) < abs(told + ahead - last):  # the last label alone had jumped: it was damaged
            ahead = its_ahead
        at = told + ahead
        if self._ordered:
            self._step = at - last if at > last > -math.inf else self._step
            self.set_back += 0 if self._elapsed else round((ahead - self._ahead) / hop)
            self._before, self._last, self._ahead = (last, self._ahead), at, ahead
        return at


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UsageError(f"time zone '{name}' is not known here; write it as Europe/Berlin") from None


def reader(time_format: str) -> Callable[[Any], Moment]:
    """What reads one label of a format; it raises ValueError, or gives None, where the label is none."""
    if time_format in UNITS:
        unit = UNITS[time_format]
        return lambda label: _number(label) * unit
    readers: dict[str, Callable[[Any], Moment]] = {
        "": usual,
        "none": lambda label: None,
        "iso": _iso,
        "elapsed": elapsed,
        "excel": lambda label: round((_number(label) - EXCEL_EPOCH) * DAY_S, 3),
        "matlab": lambda label: round((_number(label) - MATLAB_EPOCH) * DAY_S, 3),
    }
    return readers.get(time_format, lambda label: datetime.strptime(str(label).strip(), time_format))


def usual(label: str | float) -> Moment:
    """ISO 8601, or a number of s, ms, us or ns since 1970 as its size tells; None where it is neither."""
    if isinstance(label, str) and label[4:5] == "-":  # the usual kind, at once
        return _iso(label)
    try:
        value = float(label)
    except ValueError:
        return _iso(label)
    # The year 5138 is 1e11 seconds away; in milliseconds that number was 1973, before anybody logged any.
    size = abs(value)
    limits = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))
    return next((value / unit for limit, unit in limits if size < limit), None)


def elapsed(label: str | float) -> float:
    """Seconds, or [d.]h:mm[:ss], since no date that anybody knows."""
    days, (first, *rest) = 0.0, str(label).strip().replace(",", ".").split(":")
    if rest and (day := first.partition("day" if "day" in first else "."))[1]:
        days, first = float(day[0]), day[2].strip("s ,.")
    return days * DAY_S + sum(float(part) * unit for part, unit in zip((first, *rest), (3600, 60, 1) if rest else (1,)))


def _iso(label: str | float) -> datetime:
    text = str(label)
    return datetime.fromisoformat(text[:-3].rstrip() + "Z" if text.endswith(("UTC", "GMT")) else text)


def _number(label: str | float) -> float:
    return float(str(label).replace(",", "."))
