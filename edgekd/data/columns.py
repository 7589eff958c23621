"""Tables with a header: which column is the clock, which the label, which the entity; all others are sensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgekd.data import clock, gaps
from edgekd.data.recording import Recording
from edgekd.data.request import Request, pick, shorten
from edgekd.runtime.errors import RecordingError

TIME_NAMES = ("time", "timestamp", "datetime", "date_time", "date")
LABEL_NAMES = (
    *("label", "labels", "anomaly", "is_anomaly", "anomalous"),
    *("attack", "is_attack", "normal/attack", "outlier", "fault"),
)
ELAPSED_NAME = "elapsed_s"
"""Seconds since the start: a recording without a clock keeps its period in this column (`save` writes it)."""
ENTITY_NAME = "entity"
"""Name of the unrelated series that a row belongs to; a recording with several keeps its borders in this column."""
NONE = "none"
ANOMALOUS = ("true", "yes", "anomaly", "anomalous", "abnormal", "attack", "a ttack", "fault", "outlier")
NORMAL = ("", "nan", "false", "no", "normal")


@dataclass(frozen=True)
class Roles:
    """Column numbers by role."""

    sensors: tuple[int, ...]
    time: tuple[int, ...] = ()
    """One column, or two where the date stands apart from the time of day."""
    label: int | None = None
    entity: int | None = None
    elapsed: int | None = None
    notes: tuple[str, ...] = ()


def plain(name: str) -> str:
    """A column's name as it is compared: `Is Anomaly ` is `is_anomaly`."""
    return name.strip().lower().replace(" ", "_")


def find_roles(names: Sequence[str], request: Request, ignore: Sequence[str] = ()) -> Roles:
    """The role of each column, from its name and what the request says.

    Raises RecordingError for a name that is empty, unprintable or given twice, a named column that is not there, and a
    table without sensors.
    """
    known_by = [plain(name) for name in names]
    notes = []
    left_out = {i for i, name in enumerate(known_by) if name in ignore}
    for i in {0, len(names) - 1}:  # a row number as pandas writes it; a delimiter at the end of every line
        if known_by[i] in ("", "unnamed:_0", "__index_level_0__") and len(names) > 1:
            left_out.add(i)
            notes.append(f"column {i + 1} has no name: left out")
    _require_good_names(names, left_out, request)
    entity = known_by.index(ENTITY_NAME) if ENTITY_NAME in known_by else None
    elapsed = known_by.index(ELAPSED_NAME) if ELAPSED_NAME in known_by else None
    times, spare_times = _named(request, names, known_by, request.time_column, TIME_NAMES, "--time-column")
    labels, spare_labels = _named(request, names, known_by, request.label_column, LABEL_NAMES, "--label-column")
    if len(times) == 1 and {known_by[times[0]], *(known_by[i] for i in spare_times)} == {"date", "time"}:
        times, spare_times = [known_by.index("date"), known_by.index("time")], []
    notes += [
        f"column '{names[i].strip()}' left out: it looks like another time or label" for i in spare_times + spare_labels
    ]
    taken = {*left_out, *times, *spare_times, *labels, *spare_labels, entity, elapsed}
    sensors = tuple(i for i in range(len(names)) if i not in taken)
    if not sensors:
        raise RecordingError(f"{request.path}: no sensor columns, only {shorten([n.strip() for n in names])}; add some")
    return Roles(sensors, tuple(times), labels[0] if labels else None, entity, elapsed, tuple(notes))


def _require_good_names(names: Sequence[str], left_out: set[int], request: Request) -> None:
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        name = name.strip()
        if i in left_out:
            continue
        if not name or not name.isprintable():
            raise RecordingError(f"{request.path}: column {i + 1} has no printable name; name it in the header")
        if name in seen:
            raise RecordingError(
                f"{request.path}: two columns are named '{name}' ({seen[name] + 1} and {i + 1}); rename one"
            )
        seen[name] = i


def _named(
    request: Request, names: Sequence[str], known_by: list[str], asked: str | None, known: Sequence[str], option: str
) -> tuple[list[int], list[int]]:
    """The column in a role (none or one), and others that look like it; with `none` all of them are left out."""
    candidates = [i for i, name in enumerate(known_by) if name in known]
    if asked is None:
        return candidates[:1], candidates[1:]
    if asked.lower() == NONE:
        return [], candidates
    exact = [i for i, name in enumerate(names) if name.strip() == asked.strip()]
    if not exact:
        raise RecordingError(
            f"{request.path}: no column '{asked}' for {option}; there are {shorten([n.strip() for n in names])}"
        )
    return exact, [i for i in candidates if i != exact[0]]


def parse_labels(texts: Sequence[str], source: str, where: Callable[[int], str]) -> np.ndarray:
    """bool (T,) from 0/1, true/false, normal/attack and the like; a number above 1 is a kind of fault, so True.

    Raises RecordingError naming the first row with another word.
    """
    meaning: dict[str, bool] = {}
    for text in dict.fromkeys(texts):
        word = text.strip().lower()
        if word in NORMAL or word in ANOMALOUS:
            meaning[text] = word in ANOMALOUS
            continue
        try:
            number = float(word)
        except ValueError:
            number = -1.0
        if number < 0:
            raise RecordingError(
                f"{source}: label '{text}' at {where(list(texts).index(text))} is neither 0 (normal) nor 1; "
                "rewrite the column, or pass --label-column none to do without"
            )
        meaning[text] = number > 0
    return np.array([meaning[text] for text in texts], dtype=bool)


@dataclass(frozen=True)
class Table:
    """Columns as they were read, before their times, gaps and borders are looked at."""

    names: Sequence[str]
    roles: Roles
    values: np.ndarray
    """float64 (T, n), NaN where a value is missing."""
    times_s: np.ndarray | None
    labels: np.ndarray | None
    entities: Sequence[str] | None
    """T names, or None."""
    elapsed_s: np.ndarray | None
    notes: tuple[str, ...] = ()


def assemble(request: Request, table: Table, where: Callable[[int], str]) -> Recording:
    """The recording that a table holds, with its period, its borders and its gaps mended.

    Raises RecordingError where the table has no rows, time runs backward, or too much is missing.
    """
    source = request.path.name
    if len(table.values) == 0:
        raise RecordingError(f"{request.path}: a header but no rows; a recording needs at least one sample")
    starts, entities = _borders(table.entities)
    sensors = tuple(table.names[i].strip() for i in table.roles.sensors)
    notes = [*table.roles.notes, *table.notes]
    period_s = request.period_s
    for times in (table.times_s, table.elapsed_s):
        if times is not None:
            notes += clock.require_forward(times, str(request.path), starts, where)
            if period_s is None:
                period_s, said = clock.median_step(times, str(request.path), starts)
                notes += said
    if period_s is None:
        period_s = 1.0
        notes.append("no timestamps: one sample is taken as 1 s; --period-s sets it")
    values, held = gaps.to_float32(table.values, sensors, str(request.path), starts, where)
    whole = Recording(
        values=values,
        sensors=sensors,
        period_s=period_s,
        labels=table.labels,
        starts=starts,
        entities=entities,
        times_s=table.times_s,
        source=source,
        notes=(*notes, *held),
    )
    if request.item is None:
        return whole
    chosen = pick(request, entities, "entity")
    return next(entity for entity in whole.split() if entity.entities == (chosen,))


def _borders(names: Sequence[str] | None) -> tuple[tuple[int, ...], tuple[str, ...]]:
    if names is None:
        return (0,), ("",)
    starts = [0, *(i for i in range(1, len(names)) if names[i] != names[i - 1])]
    return tuple(starts), tuple(str(names[i]) for i in starts)
