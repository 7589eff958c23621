"""What the presets that one would choose from cost on a device, at 12, 38 and 100 sensors.

    python -m bench.files.default_cost [--preset NAME] [--sensors N]

One epoch, no teacher: what a step costs does not depend on what was learned. Steps are timed in turn, one thread.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch

from bench.files.speed import bare, in_turn
from bench.results import rounded, save, table
from edgekd.blocks.step import multiply_adds
from edgekd.distillation import configure, distill
from edgekd.export import export
from edgekd.runtime.detector import Detector
from edgekd.simulation.simulate import simulate

PRESETS, SENSORS = ("innovations", "joint", "edge"), (12, 38, 100)
SAMPLES, ROUNDS, STEPS = 6_000, 300, 50


def measured(preset: str, n: int) -> dict[str, Any]:
    """One row."""
    recording = simulate(SAMPLES, n, seed=1, faults=()).recording
    method, _, config = configure(None, preset, {})
    settings = {"distill": False, "epochs": 1} if hasattr(config, "distill") else {}
    with TemporaryDirectory() as folder:
        checkpoint = distill(recording, Path(folder) / "m.pt", method=method, preset=preset, settings=settings)
        files = {
            f"{format} {'int8' if int8 else 'float'}": export(
                checkpoint, Path(folder) / f"m{int8}.{format}", format=format, int8=int8, steps=STEPS, force=True
            ).path
            for format in ("onnx", "tflite")
            for int8 in (None, "default")
        }
        sizes = {name: path.stat().st_size for name, path in files.items()}
        detectors = {name: Detector.load(path, check=False, probe=False) for name, path in files.items()}
        step = checkpoint.step()
        hop = recording.values[: step.hop * 16].reshape(16, step.hop, n)
        times = in_turn({name: bare(detector, hop) for name, detector in detectors.items()}, ROUNDS)
    state = sum(4 * int(np.prod(shape)) for shape in step.state_shapes().values())
    return {
        "preset": preset, "n": n, "multiply-adds a hop": multiply_adds(step), "state, bytes": state,
        **{f"{name}, µs a hop": float(np.median(times[name]) * 1e6) for name in files},
        **{f"{name}, bytes": size for name, size in sizes.items()},
    }  # fmt: skip


@click.command()
@click.option("--preset", "presets", multiple=True, default=PRESETS)
@click.option("--sensors", multiple=True, type=int, default=SENSORS)
def main(presets: tuple[str, ...], sensors: tuple[int, ...]) -> None:
    """Measure, print and save."""
    torch.set_num_threads(1)
    rows = []
    for preset in presets:
        for n in sensors:
            rows.append(measured(preset, n))
            print(table(rows[-1:]), flush=True)
    save("default_cost", rounded(rows), protocol=f"medians of {ROUNDS} rounds in turn, one thread")


if __name__ == "__main__":
    main()
