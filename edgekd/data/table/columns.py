"""Which column of a table is what: time, label, entity, tag and value, group; all others may be sensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from edgekd.data.request import Request, shorten
from edgekd.data.table.times import is_label, since_1970
from edgekd.runtime.errors import RecordingError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import Layout
from edgekd.runtime.sources.cells import Condition
from edgekd.runtime.sources.difference import parse as parse_difference


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TIME_NAMES = _words(
    "time timestamp datetime date_time date/time _time date ts t zeit zeitstempel datum datum_zeit datum/zeit uhrzeit"
    " time_stamp timestamp_utc time_utc utc epoch unix unix_time epoch_time unixtime tmstamp recorded_at created_at"
    " measured_at local_time localtime elapsed seconds x_value"
)
"""Names of clocks, the likelier first."""
WEAK = _words("t ts utc epoch unix unix_time seconds elapsed x_value")
"""Names that may be those of other things: clocks only if they count up."""
LABEL_NAMES = _words("label labels anomaly is_anomaly anomalous attack is_attack normal/attack outlier fault")
ELAPSED_NAME = "elapsed_s"
"""Seconds since the start: a recording without a clock keeps its period in this column (`save` writes it)."""
ENTITY_NAME = "entity"
"""Name of the unrelated series that a row belongs to; a recording with several keeps its borders in this column."""
TAG_NAMES = _words(
    "tag tagname tag_name _field variable sensor sensor_name channel point signal metric parameter name item"
)
TAG_WORDS = _words("tag sensor channel variable parameter signal point metric quantity kanal")
VALUE_NAMES = _words("value _value val wert reading numeric_value vvalue")
COUNTER_NAMES = _words(
    "recno record rec rec_no index idx id no no. nr nr. # row row_id seq sequence scan sample n counter line lfd"
    " lfd._nr."
)
_COUNTER = re.compile(r".*[_. ](id|no|nr|number|index|idx|obs|seq)\.?|sno|obs")
PARTS = [
    (_words(words), low, high)
    for words, low, high in (
        ("year yyyy yr jahr année annee año anno", 1900, 2200),
        ("month mon mm monat mois mes mese", 1, 12),
        ("day dd dom tag jour día dia giorno", 1, 31),
        ("hour hh hr h hours stunde heure hora ora", 0, 24),
        ("minute min mi minutes minuto", 0, 60),
        ("second sec ss s seconds sekunde seconde segundo secondo", 0, 61),
    )
]
"""Columns that are one moment together: their names, the lowest and the highest that each says."""
DATES, CLOCKS = _words("date datum day"), _words("time uhrzeit zeit clock hour")
MIDNIGHT = " 00:00:00"
"""Behind a day in a workbook."""
_CLOCK = re.compile(r"\d{1,2}(:|([.hH-])\d\d\2)\d\d")
NONE = "none"
ANOMALOUS = (*_words("true yes anomaly anomalous abnormal attack fault outlier"), "a ttack")
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
    request: Request, told: Layout, names: Sequence[str], said: Sequence[list[str]], ignore: Sequence[str] = ()
) -> Roles:
    """The role of each column, from its name, what it says in the first rows, and what was told.

    said: for each column its cells that say something. ignore: names of more columns that are no sensors.
    Raises RecordingError for a named column that is not there, and for a table without sensors.
    """
    at = _Places(request, names)
    labels, more_labels = at.named(request.label_column, LABEL_NAMES, "--label-column", plain)
    times, more_times = _times(request, told, names, said, at)
    tag, value = (at.of(told.tag, "tag"), at.of(told.value, "value")) if told.tag else _long(names, said)
    group, _, machine = told.group.partition("=")
    if request.like is not None and not request.group and group not in names:
        group = ""  # the other file is of one machine only
    grouped = at.of(group, "--group") if group else None
    entity = next((i for i, name in enumerate(names) if plain(name) == ENTITY_NAME), None)
    taken = {*times, *more_times, *labels, *more_labels, tag, value, grouped, entity}
    sensors = tuple(
        i for i, name in enumerate(names) if i not in taken and plain(name) not in ignore and not at.ignored(name)
    )
    if not sensors and tag is None:
        raise RecordingError(
            f"{request.path}: no sensor columns, only {shorten([n.strip() for n in names])}; a --layout can give "
            "another separator"
        )
    return Roles(
        sensors=sensors,
        time=tuple(times),
        label=labels[0] if labels else None,
        entity=grouped if grouped is not None and not machine else entity,
        picked=(grouped, machine.strip()) if grouped is not None and machine else None,
        tag=tag,
        value=value,
        only=tuple(at.of(Condition(text).name, "--only") for text in told.only),
        left_out=tuple((names[i], "it looks like another time or label") for i in (*more_times, *more_labels)),
    )


class _Places:
    """Columns by what a user calls them."""

    def __init__(self, request: Request, names: Sequence[str]) -> None:
        self._request, self._names = request, [name.strip() for name in names]

    def of(self, name: str, option: str) -> int:
        """The place of a named column. Raises RecordingError where there is none."""
        if name.strip() not in self._names:
            raise no_column(self._request, name, option, [n for n in self._names if n])
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


def no_column(request: Request, name: str, option: str, names: Sequence[str], what: str = "column") -> RecordingError:
    """The error where an option names what is not there."""
    return RecordingError(f"{request.path}: no {what} '{shown(name, 40)}' for {option}; there are {shorten(names)}")


def chosen(request: Request, told: Layout, names: Sequence[str]) -> frozenset[str]:
    """Sensors that the caller named; empty where all are meant.

    Raises RecordingError for a pattern that fits none.
    """
    if not request.sensors:
        return frozenset(told.sensors) & frozenset(names)
    found: set[str] = set()
    for pattern in request.sensors:
        fits = [name for name in names if name == pattern] or [name for name in names if fnmatchcase(name, pattern)]
        if not fits:
            raise no_column(request, pattern, "--sensors", names)
        found.update(fits)
    return frozenset(found)


def require_known(request: Request, names: Sequence[str]) -> None:
    """Raise RecordingError where a count of `difference` is no column, and was named in this call."""
    for text in request.difference:
        name, _ = parse_difference(text, names)
        if name not in names:
            raise no_column(request, name, "--difference", names, "sensor")


def _times(
    request: Request, told: Layout, names: Sequence[str], said: Sequence[list[str]], at: _Places
) -> tuple[list[int], list[int]]:
    """The columns of time, and others that look like some."""
    if told.time and request.time_column is None:
        return [at.of(name, "--time-column") for name in told.time], []
    asked = request.time_column or (NONE if told.time_format == NONE else None)
    texts = [i for i, cells in enumerate(said) if cells and sum(map(is_label, cells)) > 0.5 * len(cells)]
    found, others = at.named(asked, (*TIME_NAMES, ELAPSED_NAME), "--time-column", bare)
    if asked and asked.lower() == NONE:
        return [], [i for i in others if i in texts or plain(names[i]) in TIME_NAMES]
    if asked is None:
        parts = _parts(said, names)
        found, others = _clocks([*found, *others], texts, said, names)
        if parts and not any(is_label(cell) for i in found for cell in said[i][:1]):
            return parts, [i for i in (*found, *others) if i not in parts]
        others += [i for i in parts if i not in (*found, *others)]
        found = (
            found or [i for i, cells in enumerate(said) if len(cells) > 2 and since_1970(cells) and _even(cells)][:1]
        )
    pair = _date_and_time(found[0], [*others, *texts], said, names) if found else None
    return pair or found, [i for i in others if i not in (pair or ())]


def _clocks(
    named: list[int], texts: list[int], said: Sequence[list[str]], names: Sequence[str]
) -> tuple[list[int], list[int]]:
    """The clock: rather one that varies, with a name that is one, or that holds times; and others that look like it."""
    sure = [i for i in named if said[i] and (i in texts or not (bare(names[i]) in WEAK or _is_word(said[i])))]
    sure = list(dict.fromkeys([*sure, *texts]))
    sure.sort(key=lambda i: len(said[i]) > 2 and len(set(said[i])) == 1)
    sure = sure or [i for i in named if _even(said[i], 0.5) or since_1970(said[i])][:1]
    return sure[:1], sure[1:]


def _parts(said: Sequence[list[str]], names: Sequence[str]) -> list[int]:
    """Columns of year, month and day, and of the time of day as far as there is one; [] where there are none."""
    known = [plain(name) for name in names]
    found: list[int] = []
    for words, low, high in PARTS:
        fits = [known.index(word) for word in words if word in known]
        fits = [i for i in fits if said[i] and all(cell.isdigit() and low <= int(cell) <= high for cell in said[i])]
        if not fits:
            break
        found.append(fits[0])
    return found if len(found) >= 3 else []


def _even(cells: Sequence[str], slack: float = 0.0) -> bool:
    """Whether most numbers count up by one step. slack: share of it by which they may miss it."""
    try:
        numbers = [float(cell.replace(",", ".")) for cell in cells]
    except ValueError:
        return False
    steps = sorted(b - a for a, b in pairwise(numbers))
    middle = steps[len(steps) // 2] if steps else 0.0
    return middle > 0 and sum(abs(step - middle) <= slack * middle for step in steps) >= 0.8 * len(steps)


def _is_word(cells: Sequence[str]) -> bool:
    return not any(is_label(cell) or cell[:1].isdigit() or cell[:1] in "+-." for cell in cells[:50])


def _date_and_time(
    found: int, others: Sequence[int], said: Sequence[list[str]], names: Sequence[str]
) -> list[int] | None:
    """A day's column and the one of the time of day, in this order."""
    for other in dict.fromkeys(others):
        for day, clock in ((found, other), (other, found)) if other != found else ():
            if _most(said[day], lambda cell: len(cell) >= 6 and ":" not in cell.removesuffix(MIDNIGHT)):
                digits = plain(names[day]) in DATES and plain(names[clock]) in CLOCKS
                if _most(said[clock], lambda cell: _CLOCK.match(cell) is not None) or (
                    digits and _most(said[clock], lambda cell: cell.isdigit() and len(cell) in (4, 6))
                ):
                    return [day, clock]
    return None


def _most(cells: Sequence[str], holds: Callable[[str], bool]) -> bool:
    """Whether it holds for most of the first cells, of which there are some."""
    cells = cells[:50]
    return bool(cells) and sum(map(holds, cells)) >= 0.8 * len(cells)


def _long(names: Sequence[str], said: Sequence[list[str]]) -> tuple[int | None, int | None]:
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
    tags = said[tag]
    several = len(set(tags)) <= max(2, len(tags) / 2) and _is_word(tags)
    return (tag, value) if several else (None, None)


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
