"""Parameters and time a window of the published networks, ours with int8 and as a step graph beside them.

Weights are untrained, which costs the same. Everything that a ratio compares runs in turn, in one process, one thread.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from bench.files.speed import PARITY_STEPS, bare, in_hops, in_turn, untrained
from bench.paper_lta.published import MS_A_WINDOW, PARAMETERS, SENSORS, TEACHER_WINDOWS, WINDOWS
from edgekd.blocks.accumulator import CELLS as ACCUMULATORS
from edgekd.blocks.accumulator import Accumulator
from edgekd.export import export
from edgekd.methods.lta import Student, Teacher
from edgekd.runtime import Detector

ROUNDS = 30
BOUNDS = {"MSL": 0.20, "SMAP": 0.13}
"""Of the int8 step graph over the teacher's window."""


def parameters() -> list[dict[str, Any]]:
    """The published Table 5; the accumulators are not in the published count."""
    found = {"teacher": Teacher(55), "student": Student(55)}
    counts = {name: sum(p.numel() for p in network.parameters()) for name, network in found.items()}
    rows = [
        {"network": name, "published": PARAMETERS[name], "ours": count, "equal": _yes(count == PARAMETERS[name])}
        for name, count in counts.items()
    ]
    rows.append(
        {"network": "student / teacher", "published": 0.061, "ours": counts["student"] / counts["teacher"], "equal": ""}
    )
    for cell in ACCUMULATORS:
        count = sum(p.numel() for p in Accumulator(55, cell).parameters())
        rows.append({"network": f"accumulator, {cell.upper()}", "published": "not counted", "ours": count, "equal": ""})
    return rows


def times() -> list[dict[str, Any]]:
    """The published Table 4 as ratios, and the files that a device runs."""
    torch.set_num_threads(1)
    return [_time(dataset) for dataset in SENSORS]


def _time(dataset: str) -> dict[str, Any]:
    n = SENSORS[dataset]
    lengths = {"window": WINDOWS[dataset], "teacher_window": TEACHER_WINDOWS[dataset]}
    checkpoint, teacher = untrained(n, "paper", **lengths)
    student = checkpoint.step()
    shown = torch.rand(1, 5, 3, n, n)
    with TemporaryDirectory() as folder:
        files = {
            kind: export(
                checkpoint, Path(folder) / f"{kind}.onnx", int8=int8, force=True, steps=PARITY_STEPS
            ).path
            for kind, int8 in (("float step", None), ("int8 step", "default"))
        }  # fmt: skip
        detectors = {kind: Detector.load(path) for kind, path in files.items()}
    blocks = in_hops(n, teacher.hop)

    def window(step: Any) -> Any:
        @torch.inference_mode()
        def call() -> None:
            step.network(shown)

        return call

    calls = {"teacher": window(teacher), "student": window(student)}
    found = in_turn(calls | {kind: bare(detector, blocks) for kind, detector in detectors.items()}, ROUNDS)
    published = MS_A_WINDOW[dataset]
    row: dict[str, Any] = {
        "set": dataset, "n": n, "w teacher / student": f"{TEACHER_WINDOWS[dataset]} / {WINDOWS[dataset]}",
        "published teacher ms": published[0], "published ratio": published[1] / published[0],
    }  # fmt: skip
    row |= {f"{name} ms": float(np.median(seconds) * 1e3) for name, seconds in found.items()}
    row |= {
        f"{name} / teacher": float(np.median(found[name] / found["teacher"]))
        for name in ("student", "float step", "int8 step")
    }
    return row | {"bound of int8": BOUNDS[dataset], "within": _yes(row["int8 step / teacher"] <= BOUNDS[dataset])}


def _yes(holds: bool) -> str:
    return "yes" if holds else "NO"
