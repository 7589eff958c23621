"""Which machines a fleet has: by a folder, a pattern, a column of one table, or a file that says it.

A folder holds a recording or a folder of recordings for each machine; `test.csv` in a machine's folder is labeled, is
not trained on, and says what the student is worth. A pattern (`plant/*/normal.csv`) names a machine by what differs.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekd.data import Recording, load
from edgekd.data.request import Request, join, shorten
from edgekd.data.table_file import SUFFIXES as TABLES
from edgekd.fleet.settings import Settings, settings_of
from edgekd.runtime.errors import RecordingError, UsageError
from edgekd.runtime.json_fields import shown

SUFFIXES = (*TABLES, ".parquet", ".pq", ".npz")
EVENTS = (".jsonl",)
"""Beside what a device recorded: what it told."""
TEST = "test"
ALL = "all"
"""The type of a machine that no table names."""
OWN = ("data", "test", "reading", "distill", "types", "machines")


@dataclass(frozen=True)
class Machine:
    """One machine, and where its recordings are."""

    name: str
    data: tuple[str, ...] = ()
    """Recordings of normal operation, `[FORMAT:]PATH[#ITEM]`; () where `recording` is read already."""
    test: str | None = None
    """A labeled recording."""
    type: str = ALL
    recording: Recording | None = None
    """Its rows of a table that holds several machines."""
    since: int = 0
    """First sample that is trained on."""

    def digest(self) -> str:
        """SHA-256 over all that is read; raises RecordingError where it cannot be."""
        found = hashlib.sha256(f"{self.since}".encode())
        if self.recording is not None:
            found.update(self.recording.digest().encode())
        for spec in (*self.data, *filter(None, [self.test])):
            path, hash_, item = (spec, "", "") if Path(spec).exists() else spec.rpartition("#")
            found.update(f"{hash_}{item}".encode())
            for file in files_of(Path(path)):
                found.update(_digest(file))
        return found.hexdigest()


@dataclass(frozen=True)
class Fleet:
    """All machines, how they are read and what is made of them."""

    machines: tuple[Machine, ...]
    settings: dict[str, Settings]
    """Of each type."""
    reading: dict[str, Any] = field(default_factory=dict)
    """How recordings are read, arguments of `edgekd.data.load`."""


def read_fleet(source: str, options: dict[str, Any], reading: dict[str, Any]) -> Fleet:
    """The fleet that `source` names. options, reading: what the command line says, stronger than a file.

    Raises UsageError or RecordingError in one line.
    """
    path = Path(source)
    content = _toml(path) if path.suffix == ".toml" and path.is_file() else {"data": source}
    if unknown := sorted(content.keys() - {*OWN}):
        raise UsageError(f"{source}: unknown key '{shown(unknown[0])}'; there are {', '.join(OWN)}")
    known = {field for field in Request.__dataclass_fields__ if field not in ("path", "item", "part", "like")}
    how = {key.replace("-", "_"): value for key, value in _table(content, "reading", source).items()}
    if unknown := sorted(how.keys() - known):
        raise UsageError(f"{source}: [reading] has no '{shown(unknown[0])}'; it has {', '.join(sorted(known))}")
    how |= {name: value for name, value in reading.items() if value}
    here = path.parent if path.suffix == ".toml" else Path()
    machines = list(_machines(_text(content, "data", source), here, how))
    machines = _told(machines, _table(content, "machines", source), here)
    if pattern := _text(content, "test", source):
        machines = [_with_test(machine, pattern, here) for machine in machines]
    types = _table(content, "types", source)
    machines = [replace(machine, type=_type_of(machine, types)) for machine in machines]
    if not machines:
        raise UsageError(f"{source}: names no machine; give a folder with a recording for each, a pattern or a .toml")
    common = _table(content, "distill", source)
    settings = {
        name: settings_of({**common, **_without(types.get(name, {}), "machines"), **options}, f"{source}, type {name}")
        for name in sorted({machine.type for machine in machines})
    }
    how.pop("group", None)  # what it parts is parted
    return Fleet(tuple(sorted(machines, key=lambda machine: machine.name)), settings, how)


def recordings_in(folder: Path) -> list[Machine]:
    """A machine for each recording, or folder of recordings, in a folder; () of which there is none is left out."""
    found = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            tables = [file for file in sorted(entry.iterdir()) if _is_recording(file)]
            tests = [file for file in tables if _stem(file) == TEST]
            data = tuple(str(file) for file in tables if file not in tests)
            if data:
                found[entry.name] = Machine(entry.name, data, str(tests[0]) if tests else None)
        elif _is_recording(entry):
            found[_stem(entry)] = Machine(_stem(entry), (str(entry),))
    return list(found.values())


def files_of(path: Path) -> list[Path]:
    """A file, or all within a folder."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _machines(data: str, here: Path, how: dict[str, Any]) -> Iterable[Machine]:
    if not data:
        return []
    where = data if Path(data).is_absolute() or not here.parts else str(here / data)
    if how.get("group"):
        return _by_column(where, how)
    if Path(where).is_dir():
        return recordings_in(Path(where))
    if glob.has_magic(where):
        return _by_pattern(where)
    raise UsageError(f"{where}: no folder and no pattern; a table of many machines needs --group COLUMN")


def _by_column(where: str, how: dict[str, Any]) -> Iterator[Machine]:
    """A machine for each value of a column, its entities together."""
    recording = load(where, **how)
    pieces: dict[str, list[Recording]] = {}
    for piece in recording.split():
        pieces.setdefault(piece.entities[0], []).append(piece)
    for name, of_machine in pieces.items():
        whole = join(of_machine, [""] * len(of_machine))
        yield Machine(name, recording=replace(whole, source=f"{recording.source}#{name}", layout=recording.layout))


def _by_pattern(where: str) -> Iterator[Machine]:
    """A machine for each path that matches, named by the part of it that differs from the pattern's fixed ends."""
    paths = sorted(glob.glob(where))  # noqa: PTH207 - `Path.glob` takes no absolute pattern
    if not paths:
        raise UsageError(f"{where}: matches no file; put the pattern in quotes and check the folder")
    parts = [Path(path).parts for path in paths]
    at = next((i for i, part in enumerate(Path(where).parts) if glob.has_magic(part)), 0)
    several = [i for i in range(at, len(parts[0])) if len({part[i] for part in parts if len(part) > i}) > 1] or [at]
    for path, part in zip(paths, parts):
        words = [part[i] for i in several if i < len(part)]
        name = "-".join([*words[:-1], _stem(Path(words[-1]))])
        yield Machine(name, (path,))


def _told(machines: list[Machine], told: dict[str, Any], here: Path) -> list[Machine]:
    """With what the file says of single machines."""
    found = {machine.name: machine for machine in machines}
    if len(found) < len(machines):
        twice = next(m.name for i, m in enumerate(machines) if m.name in [other.name for other in machines[:i]])
        raise UsageError(f"two machines are called {shown(twice)}; name them in a .toml, [machines.NAME] data = ...")
    for name, table in told.items():
        if not isinstance(table, dict) or table.keys() - {"data", "test"}:
            raise UsageError(f"[machines.{shown(name)}]: has data and test, and nothing else")
        data = table.get("data", [])
        data = tuple(str(here / one) for one in ([data] if isinstance(data, str) else data))
        was = found.get(name, Machine(name))
        test = str(here / table["test"]) if "test" in table else was.test
        found[name] = replace(was, data=data or was.data, test=test)
        if not found[name].data and found[name].recording is None:
            raise UsageError(f"[machines.{shown(name)}]: has no data")
    for name in found:
        if name in ("", ".", "..") or "\0" in name:
            raise UsageError(f"a machine is called {name!r}, which no folder can be; name it otherwise")
    return list(found.values())


def _with_test(machine: Machine, pattern: str, here: Path) -> Machine:
    path = here / pattern.replace("{machine}", machine.name)
    return replace(machine, test=str(path)) if machine.test is None and path.exists() else machine


def _type_of(machine: Machine, types: dict[str, Any]) -> str:
    for name, table in types.items():
        patterns = table.get("machines", []) if isinstance(table, dict) else []
        if any(fnmatch.fnmatchcase(machine.name, p) for p in ([patterns] if isinstance(patterns, str) else patterns)):
            return name
    return ALL


def _is_recording(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES and path.suffix.lower() not in EVENTS


def _stem(path: Path) -> str:
    name = path.name
    while Path(name).suffix.lower() in SUFFIXES:
        name = Path(name).stem
    return name


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"{path}: not TOML: {shown(str(error), 200)}") from None


def _table(content: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise UsageError(f"{source}: '{name}' must be a table, [{name}]")
    return table


def _text(content: dict[str, Any], name: str, source: str) -> str:
    text = content.get(name, "")
    if not isinstance(text, str):
        raise UsageError(f"{source}: '{name}' must be a text, in quotes; got {shown(shorten([str(text)]))}")
    return text


def _without(table: Any, key: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != key} if isinstance(table, dict) else {}
