"""Numenta Anomaly Benchmark (Lavin and Ahmad 2015): 58 series, archived as `NAME__t`, `__x`, `__y`.

An item is `category/file`. NAB has no train part: its protocol lets a detector watch the first 15 % of a file, at
most 750 rows, unscored. That is the train part here, and the rest is the test part.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekd.data import gaps, npz
from edgekd.data.recording import Recording
from edgekd.data.request import Request, pick

PROBATION_SHARE = 0.15
PROBATION_ROWS = 750
"""Both from NAB's scoring rules."""


def matches(path: Path) -> bool:
    """Whether a file is the archive, or a folder holds it."""
    path = path / "NAB.npz" if path.is_dir() else path
    found = npz.keys(path) if path.suffix == ".npz" and path.is_file() else []
    return "files" in found and "columns" not in found and any(k.endswith("__x") for k in found)


def load(request: Request) -> Recording:
    """One series; part None is all of it."""
    path = request.path / "NAB.npz" if request.path.is_dir() else request.path
    names = [str(name).replace("__", "/") for name in npz.read(path, ["files"])["files"]]
    item = request.item.replace("__", "/") if request.item else None
    name = pick(replace(request, item=item), names, "series")
    key = name.replace("/", "__")
    arrays = npz.read(path, [f"{key}__t", f"{key}__x", f"{key}__y"])
    source = f"{path.name}#{name}"
    values, notes = gaps.to_float32(arrays[f"{key}__x"][:, None], ("value",), source)
    times_s = arrays[f"{key}__t"].astype(np.float64)
    period_s, said = _median_step(times_s)
    whole = Recording(
        values=values,
        sensors=("value",),
        period_s=request.period_s or period_s,
        labels=arrays[f"{key}__y"].astype(bool),
        entities=(name,),
        times_s=times_s,
        source=source,
        notes=(*notes, *said),
    )
    if request.part is None:
        return whole
    probation = max(1, min(int(PROBATION_SHARE * len(whole)), PROBATION_ROWS))
    return whole.slice(0, probation) if request.part == "train" else whole.slice(probation, len(whole))


def _median_step(times_s: np.ndarray) -> tuple[float, list[str]]:
    """The period, and a note where the steps in time are uneven."""
    steps = np.diff(times_s)
    period_s = round(float(np.median(steps)), 6)
    uneven = int((np.abs(steps - period_s) > period_s / 2).sum())
    if not uneven:
        return period_s, []
    return period_s, [
        f"{uneven} of {len(steps)} steps in time differ from the period of {period_s:g} s (longest "
        f"{steps.max():g} s); samples are taken as evenly spaced"
    ]
