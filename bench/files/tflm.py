"""What TensorFlow Lite Micro makes of exported files: its scores beside torch's and LiteRT's, and the arena it needs.

    python -m bench.files.tflm [NAME ...]

One epoch, no teacher: errors and memory do not depend on what was learned. A file that is refused says why.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch

from bench.files.speed import recording
from bench.results import kept, rounded, save, table
from edgekd.checkpoint import Checkpoint
from edgekd.distillation import distill
from edgekd.export import export
from edgekd.runtime.errors import EdgeKDError

SENSORS, SAMPLES, STEPS = 8, 3_000, 200
QUICK = {"distill": False, "epochs": 1}
STUDENTS: dict[str, dict[str, Any]] = {
    "mahalanobis": {}, "ensemble": {}, "innovations": {}, "edge": QUICK, "joint": QUICK, "signature": {"epochs": 1},
}  # fmt: skip


def row(name: str, checkpoint: Checkpoint, int8: str | None, folder: Path) -> dict[str, Any]:
    """One file."""
    about = {"preset": name, "sensors": SENSORS, "file": "int8 static" if int8 else "float32"}
    path = folder / f"{int8}.tflite"
    try:
        done = export(checkpoint, path, format="tflite", target="tflm", int8=int8, steps=STEPS)
    except EdgeKDError as error:
        return about | {"written": str(error).partition(";")[0]}
    if int8 and done.written is done.float:
        return about | {"written": "nothing to quantize"}
    return about | {
        "written": "yes", "arena KiB": done.manifest.metrics["arena_bytes"] // 1024, "file bytes": done.file_bytes,
        "worst score error": done.parity.max_score_error, "Spearman": done.parity.rank_correlation,
    }  # fmt: skip


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(STUDENTS)))
def main(names: tuple[str, ...]) -> None:
    """Measure, print and save; rows that are not measured again stay as they were."""
    torch.set_num_threads(1)
    names = names or tuple(STUDENTS)
    rows = [old for old in kept("tflm") or [] if old["preset"] not in names]
    known = recording(SENSORS, SAMPLES)
    for name in names:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "student.pt"
            teacher = None
            if name == "signature":  # a student of regression needs one
                teacher = path.with_name("teacher.pt")
                distill(known, teacher, preset="ensemble")
            checkpoint = distill(known, path, preset=name, settings=STUDENTS[name], teacher=teacher)
            rows += [rounded(row(name, checkpoint, int8, Path(folder))) for int8 in (None, "default")]
        print(table(rows[-2:]), flush=True)
        rows.sort(key=lambda one: list(STUDENTS).index(one["preset"]))
        save("tflm", rows, protocol=f"{STEPS} closed-loop steps in Micro's interpreter on x86-64, beside torch")


if __name__ == "__main__":
    main()
