"""SMAP and MSL spacecraft telemetry (Hundman et al. 2018, telemanom): unrelated channels, pooled with borders kept.

    DIR/train/P-1.npy  DIR/test/P-1.npy  labeled_anomalies.csv (in DIR or above)    as published
    MSL.npz, SMAP.npz                                                              all channels of one spacecraft
    T-10_unlabelled.npz                                                            one channel

An item is a spacecraft (every channel of it is an entity) or one channel. Column 0 is telemetry, already scaled by
its publishers; the others are one-hot commands.
"""

from __future__ import annotations

import ast
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekd.data import gaps, npz
from edgekd.data.recording import Recording
from edgekd.data.request import Request, join, no_item, parts, pick
from edgekd.runtime.errors import RecordingError

PERIOD_S = 60.0
"""One-minute telemetry, as published; the files carry no clock."""
LABELED_TWICE = ("P-2",)
"""Channels with two different rows in labeled_anomalies.csv. The published totals leave them out, so pooling does."""
LABEL_FILE = "labeled_anomalies.csv"
ARRAYS = ["train_tel", "train_cmd", "test_tel", "test_cmd"]


def matches(path: Path) -> bool:
    """Whether a file or a folder is in one of the three layouts."""
    if path.is_dir():
        return bool(_archives(path)) or (any(path.glob("train/*.npy")) and any(path.glob("test/*.npy")))
    return path.suffix == ".npz" and set(ARRAYS) <= set(npz.keys(path))


def load(request: Request) -> Recording:
    """One spacecraft or one channel; see the module's docstring for the layouts."""
    path = request.path
    if path.is_dir():
        archives = _archives(path)
        if not archives:
            return _from_folder(request)
        craft = {name: name for name in archives} | {
            channel: name for name, archive in archives.items() for channel in _channels(archive)
        }
        chosen = pick(request, list(craft), "spacecraft or channel")
        return _from_archive(request, archives[craft[chosen]], None if chosen in archives else chosen)
    if "channels" in npz.keys(path):
        item = request.item if request.item != path.stem else None
        return _from_archive(request, path, item)
    no_item(request)
    return _lone_channel(request)


def _archives(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.npz" for name in ("MSL", "SMAP") if (folder / f"{name}.npz").is_file()}


def _channels(path: Path) -> list[str]:
    return [str(name) for name in npz.read(path, ["channels"])["channels"]]


def _from_archive(request: Request, path: Path, item: str | None) -> Recording:
    arrays = npz.read(path, [*ARRAYS, "channels", "train_len", "test_len", "test_label"])
    channels = [str(name) for name in arrays["channels"]]
    chosen = channels if item is None else [pick(request, channels, "channel")]

    def part(name: str) -> Recording:
        values = _stack(arrays[f"{name}_tel"], arrays[f"{name}_cmd"])
        ends = np.cumsum(arrays[f"{name}_len"])
        if ends[-1] != len(values):
            raise RecordingError(f"{path}: lengths of the {name} channels add up to {ends[-1]}, not {len(values)}")
        labels = arrays["test_label"].astype(bool) if name == "test" else None
        by_name = {
            channel: (values[end - n : end], None if labels is None else labels[end - n : end])
            for channel, end, n in zip(channels, ends, arrays[f"{name}_len"])
        }
        return _pool(request, path.name, {channel: by_name[channel] for channel in chosen})

    return parts(request, lambda: part("train"), lambda: part("test"))


def _lone_channel(request: Request) -> Recording:
    path = request.path
    arrays = npz.read(path, ARRAYS)
    channel = path.stem.split("_")[0]

    def part(name: str) -> Recording:
        values = _stack(arrays[f"{name}_tel"], arrays[f"{name}_cmd"])
        return _pool(request, path.name, {channel: (values, None)})

    return parts(request, lambda: part("train"), lambda: part("test"))


def _from_folder(request: Request) -> Recording:
    folder = request.path
    craft, ranges = _labels(folder)
    on_disk = sorted(p.stem for p in (folder / "train").glob("*.npy"))
    craft = {channel: craft.get(channel, "unlabeled") for channel in on_disk}
    crafts = sorted(set(craft.values()) - {"unlabeled"})
    chosen = (
        pick(request, [*crafts, *on_disk], "spacecraft or channel") if request.item or len(crafts) != 1 else crafts[0]
    )
    members = [channel for channel in on_disk if craft[channel] == chosen] if chosen in crafts else [chosen]

    def part(name: str) -> Recording:
        found = {}
        for channel in members:
            values = _array(folder / name / f"{channel}.npy")
            labels = None
            if name == "test" and channel in ranges:
                labels = np.zeros(len(values), bool)
                for first, last in ranges[channel]:
                    labels[first : last + 1] = True
            found[channel] = (values, labels)
        return _pool(request, chosen, found)

    return parts(request, lambda: part("train"), lambda: part("test"))


def _labels(folder: Path) -> tuple[dict[str, str], dict[str, list[tuple[int, int]]]]:
    """Spacecraft of each channel, and its anomalous ranges with both ends included."""
    path = next((p / LABEL_FILE for p in (folder, folder.parent) if (p / LABEL_FILE).is_file()), None)
    if path is None:
        raise RecordingError(f"{folder}: {LABEL_FILE} is neither there nor one folder above; put it beside train/")
    craft: dict[str, str] = {}
    ranges: dict[str, list[tuple[int, int]]] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in (reader := csv.DictReader(file)):
            try:
                sequences = [(int(a), int(b)) for a, b in ast.literal_eval(row["anomaly_sequences"])]
                craft[row["chan_id"]] = row["spacecraft"]
            except (KeyError, ValueError, TypeError, SyntaxError) as error:
                raise RecordingError(
                    f'{path}: line {reader.line_num} is not `chan_id,spacecraft,"[[first, last], …]",…`; mend it'
                ) from error
            ranges.setdefault(row["chan_id"], []).extend(sequences)
    return craft, ranges


def _array(path: Path) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RecordingError(f"{path}: missing or not a readable NumPy array ({error}); get the file again") from error
    if values.ndim != 2:
        raise RecordingError(f"{path}: an array of shape {values.shape}; a channel is (samples, columns)")
    return values


def _stack(telemetry: np.ndarray, commands: np.ndarray) -> np.ndarray:
    return np.concatenate([telemetry[:, None].astype(np.float32), commands.astype(np.float32)], axis=1)


def _pool(request: Request, source: str, channels: dict[str, tuple[np.ndarray, np.ndarray | None]]) -> Recording:
    """Channels one after the other, each an entity; those that are labeled twice stay out unless asked for alone."""
    left_out = [name for name in channels if name in LABELED_TWICE] if len(channels) > 1 else []
    recordings: list[Recording] = []
    for name, (values, labels) in channels.items():
        if name in left_out:
            continue
        sensors = ("telemetry", *(f"command_{i:02}" for i in range(1, values.shape[1])))
        if recordings and sensors != recordings[0].sensors:
            raise RecordingError(
                f"{source}: channel {name} has {len(sensors)} columns, others {recordings[0].n_sensors}"
            )
        values, notes = gaps.to_float32(values, sensors, f"{source} {name}")
        recordings.append(
            Recording(
                values=values,
                sensors=sensors,
                period_s=request.period_s or PERIOD_S,
                labels=labels,
                entities=(name,),
                source=source if len(channels) > 1 or source == name else f"{source}#{name}",
                notes=tuple(notes),
            )
        )
    pooled = join(recordings, [""] * len(recordings))
    if left_out:
        note = f"channel {', '.join(left_out)} left out, as in the published totals: it is labeled twice, differently"
        pooled = replace(pooled, notes=(*pooled.notes, note))
    return pooled
