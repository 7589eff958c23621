"""Formats of time labels, guessed from the whole column: all that every label has are kept, none that one lacks."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import numpy as np

from edgekd.runtime.sources.time_labels import reader

SHARE = 0.9
"""Of the labels at the beginning of a file that a format must read; others are footers or torn."""
_LABEL = re.compile(
    r"(?P<lead>DT#|D#|\[|)(?P<day>(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +)?"
    r"(?:(?P<first>\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?(?: ?[AaPp][Mm])?)(?P<gap>,? +))?"
    r"(?P<date>\d{4}(?P<a>[-/. _])\d{1,2}(?P=a)\d{1,2}\.?|\d{1,2}(?P<b>[-/. _])\d{1,2}(?P=b)(?:\d{4}|\d\d)|"
    r"\d{1,2}(?P<c>[-/. ]?)[A-Za-z]{3,9}(?P=c)(?:\d{4}|\d\d)|[A-Za-z]{3,9} \d{1,2},? \d{4}|\d{8})"
    r"(?:(?P<mid>T|,? +|[-_:]| - )(?P<time>\d{1,2}(?P<d>[:.hH-])\d\d(?:(?P=d)\d\d(?:[.,:]\d{1,6})?)?|\d{6}|\d{4}))?"
    r"(?P<half> ?[AaPp][Mm])?(?P<zone> ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?(?P<tail>\]?)"
)
_ELAPSED = re.compile(r"(?:\d+ ?days?,? |\d+\.)?\d+:\d\d(?::\d\d(?:[.,]\d+)?)?")
_CLOCK = re.compile(r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)? ?[AaPp][Mm]")
_UNIT = re.compile(
    r"(?:[_\s([.-]|^)(ms|msec|millis(?:econds)?|us|µs|ns|min|minutes?|hours?|hrs?|h|days?|d)[])]?$", re.I
)
SCALES = {"m": "ms", "u": "us", "µ": "us", "n": "ns", "h": "h", "d": "d"}
FIRST_S, LAST_S = 1e8, 4.2e9  # 1973 and 2103: numbers between them count seconds since 1970


def formats_of(labels: Sequence[str], name: str = "") -> list[str]:
    """Formats in the words of a layout that read these labels, what is likelier first; [] where none does.

    labels: some from the beginning of a column, not empty. name: of the column, which may say a unit.
    """
    labels = [text for label in labels if (text := str(label).strip())]
    if not labels:
        return []
    numbers = [number for label in labels if (number := _float(label)) is not None]
    if len(numbers) >= SHARE * len(labels):
        return _numbered(labels, np.array(numbers), name)
    proposed = ["iso"]
    for label in labels[:1] + labels[len(labels) // 2 :][:1] + labels[-1:]:
        proposed += [one for one in _proposed(label) if one not in proposed]
    return [one for one in proposed if share_read(labels, one) >= SHARE]


def share_read(labels: Sequence[str], time_format: str) -> float:
    """Share of the labels that a format reads."""
    read, count = reader(time_format), 0
    for label in labels:
        with contextlib.suppress(ValueError, OverflowError):
            count += read(label.strip()) is not None
    return count / len(labels)


def is_label(text: str) -> bool:
    """Whether a cell is a time in words or digits with marks between them, not a plain number."""
    text = text.strip()
    if not any(mark in text for mark in "-:/. T") or _float(text) is not None:
        return False
    if _LABEL.fullmatch(text) or _ELAPSED.fullmatch(text) or _CLOCK.fullmatch(text):
        return True
    try:
        if not text[:4].isdigit():
            return False
        datetime.fromisoformat(text.removesuffix("UTC").removesuffix("GMT").rstrip())
    except ValueError:
        return False
    return True


def since_1970(cells: Sequence[str]) -> bool:
    """Whether numbers that do not fall count seconds, or parts of one, since 1970: they begin in 2001 to 2039."""
    numbers = [number for cell in cells if (number := _float(cell)) is not None]
    if not numbers or len(numbers) < len(cells) or any(a > b for a, b in pairwise(numbers)):
        return False
    return any(1e9 <= numbers[0] / scale < 2.2e9 for scale in (1, 1e3, 1e6, 1e9))


def has_date(time_format: str) -> bool:
    """Whether its labels say a day."""
    return time_format != "elapsed" and ("%" not in time_format or "d" in re.findall("%([a-zA-Z])", time_format))


def _proposed(label: str) -> list[str]:
    """Formats that this label may have."""
    if _ELAPSED.fullmatch(label):
        return ["elapsed"]
    if _CLOCK.fullmatch(label):
        return [_clock_format(label.upper())]
    day, midnight, clock = label.partition(" 00:00:00 ")
    if midnight:  # a day and a time of day as a workbook has them
        return [one.replace(" %H", " 00:00:00 %H", 1) for one in _proposed(f"{day} {clock}")]
    found = _LABEL.fullmatch(label)
    if found is None:
        return []
    half = " %p" if (found["half"] or "").startswith(" ") else "%p" if found["half"] else ""
    day = (
        f"{'%A' if len(re.sub('[^A-Za-z]', '', found['day'])) > 3 else '%a'}{re.sub('[A-Za-z]', '', found['day'])}"
        if found["day"]
        else ""
    )
    first = f"{_clock_format(found['first'].upper())}{found['gap']}" if found["first"] else ""
    clock = f"{found['mid']}{_clock_format(found['time'])}" if found["time"] else ""
    if half:
        clock, first = clock.replace("%H", "%I"), first.replace("%H", "%I")
    zone = found["zone"] or ""
    if zone.strip() not in ("UTC", "GMT"):
        zone = zone and " " * zone.startswith(" ") + "%z"
    return [
        f"{found['lead']}{day}{first}{date}{clock}{half}{zone}{found['tail']}" for date in _dates(found["date"], found)
    ]


def _dates(date: str, found: re.Match[str]) -> list[str]:
    if found["a"]:
        a = found["a"]
        return [f"%Y{a}%m{a}%d" + "." * date.endswith(".")]
    if b := found["b"]:
        year = "%Y" if len(date.rpartition(b)[2]) == 4 else "%y"
        orders = [f"%d{b}%m{b}{year}", f"%m{b}%d{b}{year}"]
        return orders if year == "%Y" else [*orders, f"%y{b}%m{b}%d"]
    if date.isdigit():
        return ["%Y%m%d"]
    words = re.search("[A-Za-z]+", date)
    month = "%b" if words is None or len(words[0]) == 3 else "%B"
    months = [month] if month == "%B" else ["%b", "%B"]
    if date[0].isdigit():
        c = found["c"] or ""
        year = "%Y" if re.search(r"\d{4}$", date) else "%y"
        return [f"%d{c}{m}{c}{year}" for m in months]
    return [f"{m} %d{',' * (',' in date)} %Y" for m in months]


def _clock_format(text: str) -> str:
    """`06:00:00.5 AM` as `%I:%M:%S.%f %p`."""
    if text.isdigit():
        return "%H%M%S" if len(text) == 6 else "%H%M"
    half = re.search(r" ?[AP]M$", text)
    digits = text[: half.start()] if half else text
    marks = re.findall(r"\D", digits)
    parts = ["%I" if half else "%H", "%M", "%S", "%f"]
    said = "".join(part + mark for part, mark in zip(parts, [*marks, ""]))
    return said + ((" %p" if half[0].startswith(" ") else "%p") if half else "")


def _float(text: str) -> float | None:
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return None
    return number if np.isfinite(number) and "_" not in text else None


def _numbered(labels: Sequence[str], numbers: np.ndarray, name: str) -> list[str]:
    """What numbers may count."""
    digits = {len(label) for label in labels if label.isdigit()}
    if len(digits) == 1:
        compact = {14: "%Y%m%d%H%M%S", 12: "%Y%m%d%H%M", 8: "%Y%m%d"}.get(digits.pop())
        if compact and share_read(labels, compact) >= SHARE and 1970 <= numbers[0] / 10 ** (len(labels[0]) - 4) < 2104:
            return [compact]
    size = float(np.median(np.abs(numbers)))
    for scale, word in ((1.0, "s"), (1e3, "ms"), (1e6, "us"), (1e9, "ns")):
        if FIRST_S * scale <= size <= LAST_S * scale:
            return [word]
    steps = np.diff(np.unique(numbers)) if len(set(labels)) > 1 else np.ones(1)
    fine = float(np.median(steps)) < 0.5
    for low, high, word in ((20_000, 80_000, "excel"), (690_000, 800_000, "matlab")):
        named = word in name.lower() or "date" in name.lower()
        if low <= numbers.min() and numbers.max() <= high and (fine or (named and float(np.median(steps)) <= 1)):
            return [word]
    found = _UNIT.search(name)
    word = found[1].lower() if found else ""
    return ["min" if word.startswith("min") else SCALES.get(word[:1], "elapsed")]
