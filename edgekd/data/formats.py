"""Every format that `load` knows, in the order in which it tries them, and `load` itself."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.data import mnist as idx
from edgekd.data import nab, npz, parquet_file, skab, smd, table_file, telemanom, ucr
from edgekd.data.reading import Reading
from edgekd.data.recording import Recording
from edgekd.data.request import PARTS, Request, shorten
from edgekd.runtime.errors import RecordingError, UsageError

TABLE_ONLY = (
    "time_format",
    "timezone",
    "sensors",
    "ignore",
    "missing",
    "difference",
    "only",
    "group",
    "resample",
    "layout",
)


@dataclass(frozen=True)
class Format:
    """One family of files."""

    matches: Callable[[Path], bool]
    """Whether a path looks like it; opens as little as it can."""
    load: Callable[[Request], Recording]
    looks_for: str
    """What `matches` wants to see, for messages and help."""
    any_name: bool = False
    """Whether a file of any name may be forced to it."""
    look: Callable[[Request], Reading] | None = None
    """The same as it was read, where it is a table."""


FORMATS: dict[str, Format] = {
    "telemanom": Format(
        telemanom.matches, telemanom.load, "train/*.npy, test/*.npy and labeled_anomalies.csv; MSL.npz or SMAP.npz"
    ),
    "smd": Format(smd.matches, smd.load, "train/*.txt, test/*.txt and test_label/*.txt; machine-*.npz or omi-*.npz"),
    "skab": Format(skab.matches, skab.load, "valve1/*.csv and anomaly-free/*.csv with a changepoint column; SKAB.npz"),
    "ucr": Format(ucr.matches, ucr.load, "ID_UCR_Anomaly_NAME_TRAINEND_BEGIN_END.txt; UCR.npz beside index.csv"),
    "nab": Format(nab.matches, nab.load, "NAB.npz"),
    **{name: Format(idx.matches, idx.loader(name), "train-images-idx3-ubyte[.gz] and its like") for name in idx.NAMES},
    "parquet": Format(parquet_file.matches, parquet_file.load, "*.parquet", any_name=True, look=parquet_file.look),
    "csv": Format(
        table_file.matches,
        table_file.load,
        "a table, or lines with names, of any name",
        any_name=True,
        look=table_file.look,
    ),
}
"""`asd`, `smap`, `msl` are no formats of their own: the Application Server Dataset has the layout of smd, the
spacecraft that of telemanom."""


def load(
    spec: str | os.PathLike[str],
    part: str | None = None,
    *,
    format: str | None = None,
    item: str | None = None,
    **how: Any,
) -> Recording:
    """Read a recording.

    Args:
        spec: `[FORMAT:]PATH[#ITEM]`, e.g. `plant.csv`, `smd:DIR#machine-1-2`, `MSL.npz#C-1`, `SKAB.npz#valve1/0@400`,
            `fashion-mnist:DIR#0`.
        part: "train" or "test" of a collection that has both; None is everything that the item holds, the parts as
            two entities. A table has no parts and gives all its rows.
        format: a key of FORMATS, instead of what the file looks like; the same as `FORMAT:` in `spec`.
        item: machine, channel, series, run; the same as `#ITEM` in `spec`.
        how: how a table is to be read, the fields of `edgekd.data.request.Request`: period_s, time_column,
            label_column, time_format, timezone, sensors, ignore, missing, difference, only, group, resample, layout,
            like.

    Raises RecordingError in one line: what is wrong, where, and what to do.
    """
    request, name = requested(spec, part, format=format, item=item, **how)
    return FORMATS[name].load(request)


def look(spec: str | os.PathLike[str], *, format: str | None = None, item: str | None = None, **how: Any) -> Reading:
    """What a table holds, as it was read; the arguments are those of `load`.

    Raises RecordingError, also for a collection, of which there is nothing to find out.
    """
    request, name = requested(spec, None, format=format, item=item, **how)
    reading = FORMATS[name].look
    if reading is None:
        raise RecordingError(f"{request.path}: is of the collection {name}, of known layout; name a file with a table")
    return reading(request)


def requested(
    spec: str | os.PathLike[str], part: str | None, *, format: str | None, item: str | None, **how: Any
) -> tuple[Request, str]:
    """The request, and the name of the format that answers it.

    Raises UsageError for words that mean nothing, RecordingError for a path at which there is nothing.
    """
    prefix, path, suffix = split_spec(os.fspath(spec))
    format = format or prefix
    if part is not None and part not in PARTS:
        raise UsageError(f"no part '{part}'; there are {' and '.join(PARTS)}")
    if format is not None and format not in FORMATS:
        raise UsageError(f"no format '{format}'; there are {', '.join(FORMATS)}")
    request = Request(path, item or suffix, part, **how)
    if request.period_s is not None and not 0 < request.period_s < float("inf"):
        raise UsageError(f"a period of {request.period_s} s; give a number of seconds above 0")
    if not path.exists():
        raise RecordingError(f"{path}: no such file or folder{_hint(path)}; check the path")
    name = format or detect(path)
    if format is not None:
        _require_form(request, name)
    if FORMATS[name].look is None:
        _require_no_table(request, name)
    return request, name


def split_spec(spec: str) -> tuple[str | None, Path, str | None]:
    """`[FORMAT:]PATH[#ITEM]` in its three pieces; a `#` or `:` that belongs to an existing path stays there."""
    if Path(spec).exists():
        return None, Path(spec), None
    prefix, colon, rest = spec.partition(":")
    found = prefix if colon and prefix in FORMATS else None
    rest = rest if found else spec
    if "#" not in rest or Path(rest).exists():
        return found, Path(rest), None
    path, _, item = rest.rpartition("#")
    return found, Path(path), item or None


def detect(path: Path) -> str:
    """Name of the format that a file or folder has.

    Raises RecordingError saying what was looked for.
    """
    for name, kind in FORMATS.items():
        if not kind.matches(path):
            continue
        if name in idx.NAMES:
            raise RecordingError(f"{path}: the files of {' and '.join(idx.NAMES)} look alike; say which, {name}:{path}")
        return name
    if path.is_dir():
        looked_for = "; ".join(f"{name}: {kind.looks_for}" for name, kind in FORMATS.items() if not kind.any_name)
        tables = [
            p.name for p in sorted(path.iterdir()) if p.suffix.lower() in table_file.SUFFIXES or parquet_file.matches(p)
        ]
        advice = f"name one of its files, {shorten(tables)}" if tables else "name another folder, or a file"
        raise RecordingError(f"{path}: nothing known in this folder ({looked_for}); {advice}")
    if path.suffix == ".npz":
        raise RecordingError(f"{path}: an archive of no known layout, it holds {shorten(npz.keys(path)) or 'nothing'}")
    raise RecordingError(f"{path}: nothing known; name a file")


def _require_form(request: Request, name: str) -> None:
    """Refuse a path that is not of the format that it is said to be of."""
    kind = FORMATS[name]
    if not kind.any_name and not kind.matches(request.path):
        raise RecordingError(f"{request.path}: not of format {name}, which looks for {kind.looks_for}")
    if kind.any_name and request.path.is_dir():
        raise RecordingError(f"{request.path}: is a folder; format {name} reads one file, so name that")


def _require_no_table(request: Request, name: str) -> None:
    """Refuse what only a table can be read by."""
    given = [option for option in TABLE_ONLY if getattr(request, option)]
    if given:
        option = given[0].replace("_", "-")
        raise UsageError(f"--{option} is for tables, and {request.path} is of the collection {name}; leave it out")


def _hint(path: Path) -> str:
    """A word on a prefix that is no format."""
    found = re.match(r"([a-z_]{2,}):", str(path))
    return f" ('{found[1]}' is no format; there are {', '.join(FORMATS)})" if found else ""
