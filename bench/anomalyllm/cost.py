"""What AnomalyLLM's tiers cost on a device: bytes, parameters, step time in one run, memory.

    python -m bench.anomalyllm.cost

A both networks, with six blocks of GPT-2 and a patch every 8 samples (preset `published`), or of MiniLM and a patch
every 16 (`quick`, what the tables of accuracy are of); B a network of the student's size in the language model's place;
C a student of the score alone. One sensor; what they have learned costs the same, so they are hardly trained and
GPT-2's weights are random.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch

from bench.anomalyllm.cells import PRESET
from bench.files.speed import bare, in_hops, in_turn, recording
from bench.results import save, table
from edgekd.compare import fresh
from edgekd.distillation import distill
from edgekd.export import export
from edgekd.runtime import Detector

ROUNDS = 100
PARITY_STEPS = 20
BRIEF = {"epochs": 1, "updates": 0, "mini_epochs": 1, "windows": 64, "draws": 1}
HOP = 16  # samples between two verdicts, of all of them
GPT2, MINILM = "A, GPT-2", "A, MiniLM"
TIERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    GPT2: ("anomalyllm", "published", {**BRIEF, "hop": HOP, "teacher_init": "random-frozen"}),
    MINILM: ("anomalyllm", PRESET, BRIEF),
    "B": ("anomalyllm", PRESET, {**BRIEF, "tier": "mini"}),
    "C": ("regression", "shape", {"epochs": 1, "updates": 0, "windows": 0, "hop": HOP}),
}
SCHEMES = {GPT2: "weights", MINILM: "weights", "B": "weights", "C": "default"}
"""Of int8. Weights alone where a language model computes: the others are refused there."""


def measured(folder: Path) -> list[dict[str, Any]]:
    """A row for each tier in float and in int8."""
    rows: dict[str, dict[str, Any]] = {}
    calls = {}
    for tier, (method, preset, settings) in TIERS.items():
        path = folder / f"{tier}.pt"
        teacher = None if tier in (GPT2, MINILM) else folder / f"{MINILM}.pt"
        checkpoint = distill(
            recording(1), path, method=method, preset=preset, settings=settings, teacher=teacher, device="cpu"
        )
        step = checkpoint.step()
        for kind, int8 in (("float", None), ("int8", SCHEMES[tier])):
            done = export(checkpoint, folder / f"{tier}-{kind}.onnx", int8=int8, force=True, steps=PARITY_STEPS)
            name = f"{tier}, {kind}"
            rows[name] = {
                "tier": name, "hop": step.hop, "parameters": step.parameters_learned, "bytes": done.file_bytes,
                "MB resident": fresh.start(done.path)[1] / 1e6,
            }  # fmt: skip
            calls[name] = bare(Detector.load(done.path), in_hops(1, step.hop))
            print(table([rows[name]]), flush=True)
    # a step now and then finds the caches empty, as between two samples of a line; steps in a row, as of a file, do not
    ways = {
        "now and then": in_turn(calls, ROUNDS, time.process_time),
        "in a row": {name: in_turn({name: call}, ROUNDS, time.process_time)[name] for name, call in calls.items()},
    }
    for name, row in rows.items():
        for way, times in ways.items():
            row[f"CPU us {way}"] = float(np.median(times[name]) * 1e6)
            for full in (GPT2, MINILM):
                same = f"{full}, {name.rsplit(', ', 1)[1]}"
                row[f"{full} / it, {way}"] = float(np.median(times[same]) / np.median(times[name]))
        for full in (GPT2, MINILM):
            row[f"parameters / {full}"] = row["parameters"] / rows[f"{full}, float"]["parameters"]
    return list(rows.values())


@click.command()
def main() -> None:
    """Measure, print and save."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        rows = measured(Path(folder))
    print(table(rows))
    save("anomalyllm_cost", rows, protocol=f"CPU time, medians of {ROUNDS} steps, one thread")


if __name__ == "__main__":
    main()
