"""Server Machine Dataset (Su et al. 2019, OmniAnomaly), Application Server Dataset (Li et al. 2021, InterFusion).

Three layouts, one machine each time:

    DIR/train/machine-1-1.txt  DIR/test/…  DIR/test_label/…    rows of numbers, no header, as published
    DIR/machine-1-2.npz, DIR/omi-2.npz                          a folder of archives
    machine-1-2.npz, omi-2.npz                                  arrays `train`, `test`, `test_label`
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekd.data import gaps, npz
from edgekd.data.recording import Recording
from edgekd.data.request import Request, no_item, parts, pick
from edgekd.runtime.errors import RecordingError

PERIOD_S = {"machine": 60.0, "omi": 300.0}
"""Sampling of the two data sets as published; their files carry no clock."""


def matches(path: Path) -> bool:
    """Whether a file or a folder is in one of the three layouts."""
    if path.is_dir():
        return bool(_archives(path)) or bool(_text_machines(path))
    return path.suffix == ".npz" and {"train", "test", "test_label"} <= set(npz.keys(path))


def load(request: Request) -> Recording:
    """One machine; see the module's docstring for the layouts."""
    path = request.path
    if not path.is_dir():
        no_item(request)
        return _from_archive(request, path)
    archives = _archives(path)
    if archives:
        return _from_archive(request, archives[pick(request, sorted(archives), "machine")])
    return _from_text(request, pick(request, _text_machines(path), "machine"))


def _archives(folder: Path) -> dict[str, Path]:
    return {p.stem: p for kind in PERIOD_S for p in folder.glob(f"{kind}-*.npz")}


def _text_machines(folder: Path) -> list[str]:
    if not (folder / "test_label").is_dir():
        return []
    return sorted(p.stem for p in (folder / "train").glob("*.txt"))


def _from_archive(request: Request, path: Path) -> Recording:
    arrays = npz.read(path, ["train", "test", "test_label"])
    return parts(
        request,
        lambda: _recording(request, path.stem, path.name, arrays["train"], None),
        lambda: _recording(request, path.stem, path.name, arrays["test"], arrays["test_label"]),
    )


def _from_text(request: Request, machine: str) -> Recording:
    def read(part: str, with_labels: bool) -> Recording:
        values = _numbers(request.path / part / f"{machine}.txt")
        labels = _numbers(request.path / "test_label" / f"{machine}.txt")[:, 0] if with_labels else None
        return _recording(request, machine, f"{machine}.txt", values, labels)

    return parts(request, lambda: read("train", False), lambda: read("test", True))


def _numbers(path: Path) -> np.ndarray:
    """(T, n) comma-separated numbers without a header."""
    try:
        return np.loadtxt(path, delimiter=",", dtype=np.float32, ndmin=2)
    except OSError as error:
        raise RecordingError(
            f"{path}: missing; the layout is train/, test/ and test_label/ of the same names"
        ) from error
    except ValueError as error:
        raise RecordingError(f"{path}: {error}; get the file again") from error


def _recording(request: Request, machine: str, source: str, values: np.ndarray, labels: np.ndarray | None) -> Recording:
    if labels is not None and len(labels) != len(values):
        raise RecordingError(f"{source}: {len(values)} rows but {len(labels)} labels; get the files again")
    sensors = tuple(f"metric_{i + 1:02}" for i in range(values.shape[1]))
    values, notes = gaps.to_float32(values, sensors, f"{source} {'train' if labels is None else 'test'}")
    return Recording(
        values=values,
        sensors=sensors,
        period_s=request.period_s or PERIOD_S.get(machine.split("-")[0], 60.0),
        labels=None if labels is None else labels.astype(bool),
        entities=(machine,),
        source=source,
        notes=tuple(notes),
    )
