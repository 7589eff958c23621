"""Which column of a table is what: time, label, entity, tag and value, group; all others may be sensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from edgekd.data.request import Request, shorten
from edgekd.data.table.times import is_label
from edgekd.runtime.errors import RecordingError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import Layout
from edgekd.runtime.sources.cells import MISSING
from edgekd.runtime.sources.condition import Condition
from edgekd.runtime.sources.difference import parse as parse_difference

TIME_NAMES = (
    *("time", "timestamp", "datetime", "date_time", "date/time", "_time", "date", "ts", "t", "zeit", "zeitstempel"),
    *(
        "datum",
        "datum_zeit",
        "datum/zeit",
        "uhrzeit",
        "time_stamp",
        "timestamp_utc",
        "time_utc",
        "utc",
        "epoch",
        "unix",
    ),
    *(
        "unix_time",
        "epoch_time",
        "unixtime",
        "tmstamp",
        "recorded_at",
        "created_at",
        "measured_at",
        "local_time",
        "localtime",
        "elapsed",
        "seconds",
        "x_value",
    ),
)
"""Names of clocks, the likelier first."""
WEAK = ("t", "ts", "utc", "epoch", "unix", "unix_time", "seconds", "elapsed", "x_value")
"""Names that may be those of other things: clocks only if they count up."""
MIDNIGHT = " 00:00:00"
"""Behind a day in a workbook."""
DATES, CLOCKS = ("date", "datum", "day"), ("time", "uhrzeit", "zeit", "clock", "hour")
LABEL_NAMES = (
    *("label", "labels", "anomaly", "is_anomaly", "anomalous"),
    *("attack", "is_attack", "normal/attack", "outlier", "fault"),
)
ELAPSED_NAME = "elapsed_s"
"""Seconds since the start: a recording without a clock keeps its period in this column (`save` writes it)."""
ENTITY_NAME = "entity"
"""Name of the unrelated series that a row belongs to; a recording with several keeps its borders in this column."""
TAG_NAMES = (
    "tag",
    "tagname",
    "tag_name",
    "_field",
    "variable",
    "sensor",
    "sensor_name",
    "channel",
    "point",
    "signal",
    "metric",
    "parameter",
    "name",
    "item",
)
TAG_WORDS = ("tag", "sensor", "channel", "variable", "parameter", "signal", "point", "metric", "quantity", "kanal")
VALUE_NAMES = ("value", "_value", "val", "wert", "reading", "numeric_value", "vvalue")
COUNTER_NAMES = (
    "recno",
    "record",
    "rec",
    "rec_no",
    "index",
    "idx",
    "id",
    "no",
    "no.",
    "nr",
    "nr.",
    "#",
    "row",
    "row_id",
    "seq",
    "sequence",
    "scan",
    "sample",
    "n",
    "counter",
    "line",
    "lfd",
    "lfd._nr.",
)
_CLOCK = re.compile(r"\d{1,2}(:|([.hH-])\d\d\2)\d\d")
_COUNTER = re.compile(r".*[_. ](id|no|nr|number|index|idx|obs|seq)\.?|sno|obs")
PARTS = (
    ("year", "yyyy", "yr", "jahr", "année", "annee", "año", "anno"),
    ("month", "mon", "mm", "monat", "mois", "mes", "mese"),
    ("day", "dd", "dom", "tag", "jour", "día", "dia", "giorno"),
    ("hour", "hh", "hr", "h", "hours", "stunde", "heure", "hora", "ora"),
    ("minute", "min", "mi", "minutes", "minuto"),
    ("second", "sec", "ss", "s", "seconds", "sekunde", "seconde", "segundo", "secondo"),
)
"""Names of columns that are one moment together."""
NONE = "none"
ANOMALOUS = ("true", "yes", "anomaly", "anomalous", "abnormal", "attack", "a ttack", "fault", "outlier")
NORMAL = ("", "nan", "false", "no", "normal")


@dataclass(frozen=True)
class Roles:
    """Columns by role, by their place."""

    sensors: tuple[int, ...]
    """All that may be some."""
    time: tuple[int, ...] = ()
    """One, two where the date stands apart from the time of day, or more: year, month, day, hour …"""
    label: int | None = None
    entity: int | None = None
    """The one that names machines, or parts of a recording."""
    picked: tuple[int, str] | None = None
    """The one of the group, and the only value that is taken."""
    tag: int | None = None
    value: int | None = None
    only: tuple[int, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    """Column: why it is no sensor."""


def plain(name: str) -> str:
    """A column's name as it is compared: `Is Anomaly ` is `is_anomaly`; a unit behind a clock's name says nothing."""
    return name.strip().lower().replace(" ", "_")


def bare(name: str) -> str:
    """`plain`, without the unit or zone behind it: `Time (s)` is `time`."""
    name = plain(name)
    if name == ELAPSED_NAME:
        return name
    name = name.split("[")[0].split("(")[0].rstrip("_")
    return next((name.removesuffix(unit) for unit in ("_s", "_ms", "_us", "_ns") if name.endswith(unit)), name)


def find_roles(
    request: Request, told: Layout, names: Sequence[str], rows: Sequence[Sequence[object]], ignore: Sequence[str] = ()
) -> Roles:
    """The role of each column, from its name, the first rows, and what was told. ignore: more that are no sensors.

    Raises RecordingError for a named column that is not there, and for a table without sensors.
    """
    at = _Places(request, names)
    labels = at.named(request.label_column, LABEL_NAMES, "--label-column", plain)
    times = _times(request, told, names, rows, at)
    tag, value = (at.of(told.tag, "tag"), at.of(told.value, "value")) if told.tag else _long(names, rows)
    group, _, machine = told.group.partition("=")
    if request.like is not None and not request.group and group not in names:
        group = ""  # the other file is of one machine only
    grouped = at.of(group, "--group") if group else None
    entity = next((i for i, name in enumerate(names) if plain(name) == ENTITY_NAME), None)
    only = tuple(at.of(Condition(text).name, "--only") for text in told.only)
    left_out = [(names[i], "it looks like another time or label") for i in (*times[1], *labels[1])]
    taken = {*times[0], *times[1], *labels[0][:1], *labels[1], tag, value, grouped, entity}
    sensors = tuple(
        i for i, name in enumerate(names) if i not in taken and plain(name) not in ignore and not at.ignored(name)
    )
    if not sensors and tag is None:
        raise RecordingError(f"{request.path}: no sensor columns, only {shorten([n.strip() for n in names])}; add some")
    return Roles(
        sensors,
        tuple(times[0]),
        labels[0][0] if labels[0] else None,
        grouped if grouped is not None and not machine else entity,
        (grouped, machine.strip()) if grouped is not None and machine else None,
        tag,
        value,
        only,
        tuple(left_out),
    )


class _Places:
    """Columns by what a user calls them."""

    def __init__(self, request: Request, names: Sequence[str]) -> None:
        self._request, self._names = request, [name.strip() for name in names]

    def of(self, name: str, option: str) -> int:
        """The place of a named column. Raises RecordingError where there is none."""
        if name.strip() not in self._names:
            listed = shorten([n for n in self._names if n])
            raise RecordingError(
                f"{self._request.path}: no column '{shown(name, 40)}' for {option}; there are {listed}"
            )
        return self._names.index(name.strip())

    def named(
        self, asked: str | None, known: Sequence[str], option: str, way: Callable[[str], str]
    ) -> tuple[list[int], list[int]]:
        """The column in a role (none or one), and others that look like it; with `none` all of them are left out."""
        found = [i for name in known for i, column in enumerate(self._names) if way(column) == name]
        if asked is None:
            return found[:1], found[1:]
        if asked.lower() == NONE:
            return [], found
        exact = self.of(asked, option)
        return [exact], [i for i in found if i != exact]

    def ignored(self, name: str) -> bool:
        return any(name == pattern or fnmatchcase(name, pattern) for pattern in self._request.ignore)


def chosen(request: Request, told: Layout, names: Iterable[str]) -> frozenset[str]:
    """Sensors that the caller named; empty where all are meant.

    Raises RecordingError for a pattern that fits none.
    """
    names = list(names)
    if not request.sensors:
        return frozenset(told.sensors) & frozenset(names)
    found = set()
    for pattern in request.sensors:
        fits = [name for name in names if name == pattern] or [name for name in names if fnmatchcase(name, pattern)]
        if not fits:
            listed = shorten(names)
            raise RecordingError(f"{request.path}: no column '{shown(pattern, 40)}' for --sensors; there are {listed}")
        found.update(fits)
    return frozenset(found)


def require_known(request: Request, told: Layout, names: Sequence[str]) -> None:
    """Raise RecordingError where a count of `difference` is no column, and was named in this call."""
    for text in request.difference:
        name, _ = parse_difference(text, names)
        if name not in names:
            listed = shorten(names)
            raise RecordingError(f"{request.path}: no sensor '{shown(name, 40)}' for --difference; there are {listed}")


def _times(
    request: Request, told: Layout, names: Sequence[str], rows: Sequence[Sequence[object]], at: _Places
) -> tuple[list[int], list[int]]:
    """The columns of time, and others that look like some."""
    if told.time and request.time_column is None:
        taken = [at.of(name, "--time-column") for name in told.time]
        return taken, []
    columns = [
        [str(cell).strip() for row in rows if i < len(row) and (cell := row[i]) is not None] for i in range(len(names))
    ]
    filled = [[cell for cell in column if cell.lower() not in MISSING] for column in columns]
    texts = [i for i, column in enumerate(filled) if column and sum(map(is_label, column)) > 0.5 * len(column)]
    known = (*TIME_NAMES, ELAPSED_NAME)
    asked = request.time_column or (told.time_format == NONE and NONE) or None
    found, others = at.named(asked, known, "--time-column", bare)
    if asked and asked.lower() == NONE:
        return [], [i for i in [*others] if i in texts or plain(names[i]) in TIME_NAMES]
    if asked is None:
        parts = _parts(filled, names)
        found, others = _clocks([*found, *others], texts, filled, names)
        if parts and not any(is_label(cell) for i in found for cell in filled[i][:1]):
            return parts, [i for i in (*found, *others) if i not in parts]
        others += [i for i in parts if i not in (*found, *others)]
        found = found or [i for i, cells in enumerate(filled) if _counts_since_1970(cells)][:1]
    if len(found) == 1:
        pair = _date_and_time(found[0], [*others, *texts], filled, names)
        if pair:
            return pair, [i for i in others if i not in pair]
    return found, others


def _clocks(
    named: list[int], texts: list[int], filled: list[list[str]], names: Sequence[str]
) -> tuple[list[int], list[int]]:
    """The clock: rather one that varies, with a name that is one, or that holds times; and others that look like it."""
    sure = [i for i in named if filled[i] and (i in texts or not (bare(names[i]) in WEAK or _is_word(filled[i])))]
    sure = list(dict.fromkeys([*sure, *texts]))
    sure.sort(key=lambda i: len(filled[i]) > 2 and len(set(filled[i])) == 1)
    sure = sure or [i for i in named if _counts_up(filled[i]) or _since_1970(filled[i])][:1]
    return sure[:1], sure[1:]


def _parts(filled: list[list[str]], names: Sequence[str]) -> list[int]:
    """Columns of year, month and day, and of the time of day as far as there is one; [] where there are none."""
    known = [plain(name) for name in names]
    found: list[int] = []
    for words, low, high in zip(PARTS, (1900, 1, 1, 0, 0, 0), (2200, 12, 31, 24, 60, 61)):
        fits = (known.index(word) for word in words if word in known)
        place = next(
            (i for i in fits if filled[i] and all(c.isdigit() and low <= int(c) <= high for c in filled[i])), None
        )
        if place is None:
            break
        found.append(place)
    return found if len(found) >= 3 else []


def _counts_up(cells: list[str]) -> bool:
    try:
        numbers = [float(cell.replace(",", ".")) for cell in cells]
    except ValueError:
        return False
    steps = sorted(b - a for a, b in pairwise(numbers))
    middle = steps[len(steps) // 2] if steps else 0.0
    return middle > 0 and sum(abs(step - middle) <= middle / 2 for step in steps) >= 0.8 * len(steps)


def _since_1970(cells: list[str]) -> bool:
    """Whether whole numbers that do not fall are seconds, or parts of one, of the years 2001 to 2039."""
    if not cells or not all(cell.isdigit() for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    rising = all(a <= b for a, b in pairwise(numbers))
    return rising and any(1e9 * scale <= numbers[0] < 2.2e9 * scale for scale in (1, 10**3, 10**6, 10**9))


def _counts_since_1970(cells: list[str]) -> bool:
    """The same in even steps."""
    if len(cells) < 3 or not _since_1970(cells):
        return False
    numbers = [int(cell) for cell in cells]
    steps = sorted(b - a for a, b in pairwise(numbers))
    middle = steps[len(steps) // 2]
    return middle > 0 and sum(step == middle for step in steps) >= 0.8 * len(steps)


def _is_word(cells: list[str]) -> bool:
    return not any(is_label(cell) or cell[:1].isdigit() or cell[:1] in "+-." for cell in cells[:50])


def _date_and_time(found: int, others: list[int], filled: list[list[str]], names: Sequence[str]) -> list[int] | None:
    """A day's column and the one of the time of day, in this order."""
    for other in dict.fromkeys(others):
        if other == found:
            continue
        for day, clock in ((found, other), (other, found)):
            days, clocks = filled[day][:50], filled[clock][:50]
            if days and clocks and _most(days, lambda cell: len(cell) >= 6 and ":" not in cell.removesuffix(MIDNIGHT)):
                if _most(clocks, lambda cell: _CLOCK.match(cell) is not None):
                    return [day, clock]
                digits = _most(clocks, lambda cell: cell.isdigit() and len(cell) in (4, 6))
                if digits and plain(names[day]) in DATES and plain(names[clock]) in CLOCKS:
                    return [day, clock]
    return None


def _most(cells: list[str], holds: Callable[[str], bool]) -> bool:
    return sum(map(holds, cells)) >= 0.8 * len(cells)


def _long(names: Sequence[str], rows: Sequence[Sequence[object]]) -> tuple[int | None, int | None]:
    """Columns of tag and value, where each row says one value of one sensor."""
    known = [plain(name) for name in names]
    tag = next((known.index(name) for name in TAG_NAMES if name in known), None)
    value = next((known.index(name) for name in VALUE_NAMES if name in known), None)
    if "entity_id" in known and "state" in known:  # Home Assistant
        tag, value = known.index("entity_id"), known.index("state")
    elif value is None or tag is None:
        value = next((i for i, name in enumerate(known) if "value" in name or "wert" in name), value)
        tag = next((i for i, name in enumerate(known) if i != value and any(word in name for word in TAG_WORDS)), tag)
    if tag is None or value is None:
        return None, None
    tags = [str(row[tag]) for row in rows if tag < len(row)]
    if len(set(tags)) > max(2, len(tags) / 2) or not _is_word(tags):
        return None, None
    return tag, value


def label_of(word: str) -> bool | None:
    """0/1, true/false, normal/attack and the like; a number above 1 is a kind of fault. None for another word."""
    word = word.strip().lower()
    if word in NORMAL or word in ANOMALOUS:
        return word in ANOMALOUS
    try:
        number = float(word)
    except ValueError:
        return None
    return None if number < 0 else number > 0


def is_counter(name: str, ones: int, steps: int) -> bool:
    """Whether a column numbers the rows; "": the first column of a table without names."""
    known = plain(name) in ("", *COUNTER_NAMES) or _COUNTER.fullmatch(plain(name))
    return bool(known) and steps > 0 and ones >= 0.99 * steps
