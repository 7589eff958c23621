"""SKAB (Katser and Kozitsin 2020): runs of a water-pump testbed, and one run without anomalies.

    DIR/valve1/0.csv …  DIR/anomaly-free/anomaly-free.csv    as published (the two may lie under DIR/data)
    valve1/0.csv                                             one run: `;`, datetime, 8 sensors, anomaly, changepoint
    SKAB.npz                                                 runs as `NAME__t`, `NAME__x`, `NAME__y`

An item is a run, `valve1/0`; `anomaly-free` is one too. Its test part is the run. Its train part is the anomaly-free
run, which was recorded on another day at another operating point; `valve1/0@400` takes the run's own first 400 rows
instead, which is the usual protocol, and then tests on the whole run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekd.data import gaps, npz, table_file
from edgekd.data.recording import Recording
from edgekd.data.request import Request, no_item, pick
from edgekd.runtime.errors import RecordingError

PERIOD_S = 1.0
"""Nominal; the clock skips a second now and then, and minutes in a few places."""
NORMAL = "anomaly-free"
NORMAL_KEY = "anomaly_free"
CHANGE_POINT = "changepoint"


def matches(path: Path) -> bool:
    """Whether a file or a folder is in one of the three layouts."""
    if path.is_dir():
        return (path / "SKAB.npz").is_file() or bool(_runs(path))
    if path.suffix == ".npz":
        return {"columns", "files", f"{NORMAL_KEY}__x"} <= set(npz.keys(path))
    return path.suffix == ".csv" and CHANGE_POINT in table_file.header(path)


def load(request: Request) -> Recording:
    """One run; see the module's docstring for the layouts and the parts."""
    path = request.path
    if path.is_dir() and (path / "SKAB.npz").is_file():
        path = path / "SKAB.npz"
    if path.suffix == ".npz":
        arrays = npz.read(path, ["columns", "files"])
        sensors = tuple(str(c) for c in arrays["columns"])
        names = [str(f).replace("_", "/") for f in arrays["files"]]
        return _choose(request.at(path), [*names, NORMAL], lambda name: _from_archive(request, path, sensors, name))
    if path.is_dir():
        runs = _runs(path)
        return _choose(request, list(runs), lambda name: _from_csv(request, runs[name], name))
    no_item(request)
    return _from_csv(request, path, path.stem)


def _runs(folder: Path) -> dict[str, Path]:
    """Name of each run below a folder, `valve1/0` or `anomaly-free`, and its file."""
    found = {}
    for base in (folder, folder / "data"):
        for file in sorted(base.glob("*/*.csv")):
            if file.parent.name == NORMAL or CHANGE_POINT in table_file.header(file):
                found[NORMAL if file.parent.name == NORMAL else f"{file.parent.name}/{file.stem}"] = file
    return found


def _choose(request: Request, names: list[str], read: Callable[[str], Recording]) -> Recording:
    item, _, rows = (request.item or "").partition("@")
    item = item.replace("_", "/") if item.replace("_", "/") in names else item
    name = pick(replace(request, item=item or None), names, "run")
    if rows and (not rows.isdigit() or int(rows) == 0):
        raise RecordingError(f"{request.path}: '@{rows}' is no number of rows; write {name}@400")
    run = read(name)
    if request.part == "test":
        return run
    if rows:
        head = run.slice(0, int(rows))
        return replace(head, source=f"{run.source}@{rows}") if request.part == "train" else run
    if request.part is None or name == NORMAL:
        return run
    if NORMAL not in names:
        raise RecordingError(
            f"{request.path}: no anomaly-free run to train on; write {name}@400 for the run's own start"
        )
    return read(NORMAL)


def _from_archive(request: Request, path: Path, sensors: tuple[str, ...], name: str) -> Recording:
    key = NORMAL_KEY if name == NORMAL else name.replace("/", "_")
    wanted = [f"{key}__t", f"{key}__x"] + ([] if name == NORMAL else [f"{key}__y"])
    arrays = npz.read(path, wanted)
    source = f"{path.name}#{name}"
    values, notes = gaps.to_float32(arrays[f"{key}__x"], sensors, source)
    labels = arrays.get(f"{key}__y")
    return Recording(
        values=values,
        sensors=sensors,
        period_s=request.period_s or PERIOD_S,
        labels=np.zeros(len(values), bool) if labels is None else labels.astype(bool),
        entities=(name,),
        times_s=arrays[f"{key}__t"].astype(np.float64),
        source=source,
        notes=tuple(notes),
    )


def _from_csv(request: Request, path: Path, name: str) -> Recording:
    period_s = request.period_s or PERIOD_S
    run = table_file.load(replace(request.at(path), item=None, period_s=period_s), (CHANGE_POINT,), keep_rows=True)
    labels = np.zeros(len(run), bool) if run.labels is None else run.labels
    return replace(run, labels=labels, entities=(name,), source=f"SKAB#{name}")
