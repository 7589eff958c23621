"""From 1 sensor to 500: what a step of the default, and of what grows with the number of sensors alone, takes.

    python -m bench.files.sensors [--preset NAME] [--sensors N]

One epoch, no teacher: what a step costs does not depend on what was learned. Float files, timed in turn, one thread;
what is refused says so in place of figures.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch

from bench.files.speed import bare, in_turn, recording
from bench.results import kept, rounded, save, table
from edgekd.blocks.step import STATE_LIMIT_BYTES
from edgekd.distillation import configure, distill
from edgekd.export import export
from edgekd.runtime.detector import Detector
from edgekd.runtime.errors import RecordingError

PRESETS, SENSORS = ("joint", "innovations"), (1, 2, 8, 38, 100, 200, 500)
SAMPLES, ROUNDS, STEPS = 3_000, 300, 50
PROTOCOL = f"fastest of {ROUNDS} rounds in turn, one thread, on a busy machine"


def measured(preset: str, n: int) -> dict[str, Any]:
    """One row."""
    known = recording(n, SAMPLES)
    method, _, config = configure(None, preset, {})
    settings = {"distill": False, "epochs": 1} if hasattr(config, "distill") else {}
    row: dict[str, Any] = {"preset": preset, "n": n}
    with TemporaryDirectory() as folder:
        try:
            checkpoint = distill(known, Path(folder) / "m.pt", method=method, preset=preset, settings=settings)
        except RecordingError:
            return row | {"distills": "refused"}
        files = {
            format: export(checkpoint, Path(folder) / f"m.{format}", format=format, steps=STEPS)
            for format in ("onnx", "tflite")
        }
        detectors = {format: Detector.load(done.path, check=False, probe=False) for format, done in files.items()}
        step = checkpoint.step()
        hops = known.values[: step.hop * 16].reshape(16, step.hop, n)
        times = in_turn({format: bare(detector, hops) for format, detector in detectors.items()}, ROUNDS)
    over = " (over the limit)" if step.state_bytes > STATE_LIMIT_BYTES else ""
    return row | {
        "distills": "yes", "state bytes": f"{step.state_bytes}{over}",
        **{f"{format} us": float(times[format].min() * 1e6) for format in files},
        **{f"{format} bytes": done.file_bytes for format, done in files.items()},
        "worst score error": max(done.parity.max_score_error for done in files.values()),
    }  # fmt: skip


@click.command()
@click.option("--preset", "presets", multiple=True, default=PRESETS)
@click.option("--sensors", multiple=True, type=int, default=SENSORS)
def main(presets: tuple[str, ...], sensors: tuple[int, ...]) -> None:
    """Measure, print and save; rows that are not measured again stay as they were."""
    torch.set_num_threads(1)
    rows = {(row["preset"], row["n"]): row for row in kept("sensors")}
    for preset in presets:
        for n in sensors:
            rows[preset, n] = rounded(measured(preset, n))
            print(table([rows[preset, n]]), flush=True)
            ordered = sorted(rows, key=lambda key: (PRESETS.index(key[0]), key[1]))
            save(
                "sensors",
                [rows[key] for key in ordered],
                protocol=f"fastest of {ROUNDS} rounds in turn, one thread, on a busy machine",
            )


if __name__ == "__main__":
    main()
