"""How much memory AnomalyLLM's first tier, both networks in one file, takes to export and to run.

    python -m bench.anomalyllm.memory

Detectors of one sensor with six blocks of GPT-2 and of MiniLM. Their weights are random, which costs the same. The
export is measured step by step in one process, what a device does with each file in another.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.results import save, table
from edgekd.checkpoint import Checkpoint
from edgekd.compare.fresh import start
from edgekd.data import Recording
from edgekd.distillation import distill
from edgekd.export.candidate import Workshop
from edgekd.runtime.step_cost import peak_bytes

BACKBONES = ("gpt2", "minilm")
STEPS = 20  # of the proof: more take time and no memory
TIMES = 2.0  # the float weights, at most
PROTOCOL = (
    "peak of each step of the export beyond the imported packages, everything that the export still holds included; of "
    "the device the peak of a process that loads the file, runs its self-test and 20 steps; MB are 1,000,000 bytes"
)


def untrained(backbone: str, path: Path) -> None:
    """A detector of one sensor; one short epoch, since nothing here depends on what was learned."""
    values = np.sin(np.arange(1600) / 5)[:, None].astype(np.float32)
    recording = Recording(values, ("value",), 1.0, source="wave")
    settings = {"backbone": backbone, "teacher_init": "random-frozen", "patch_stride": 8, "windows": 32, "epochs": 1}
    distill(recording, path, method="anomalyllm", preset="quick", settings=settings)


def export_steps(student: Path, folder: Path) -> Iterator[tuple[str, int]]:
    """Peak bytes of every step of both exports, as the kernel counts them; writes the two files."""
    import onnxscript  # noqa: F401  # what the first step would import
    import scipy.stats  # noqa: F401

    from edgekd.export.onnx import int8, weights  # noqa: F401

    def peak(name: str) -> tuple[str, int]:
        found = peak_bytes()
        Path("/proc/self/clear_refs").write_text("5")  # the next peak counts from here
        return name, found

    yield peak("packages")
    workshop = Workshop(Checkpoint.load(student), steps=STEPS)
    yield peak("checkpoint and step")
    _ = workshop._float_model
    yield peak("float graph")
    _ = workshop.float_engine
    yield peak("float engine")
    (folder / "float32.onnx").write_bytes(workshop.float.content)
    yield peak("float proof")
    int8_file = workshop.int8(workshop.schemes["weights"])
    assert int8_file is not None
    (folder / "int8.onnx").write_bytes(int8_file.content)
    yield peak("int8")


def measure(backbone: str, folder: Path) -> Iterator[dict[str, Any]]:
    """A row for each step of the export and for each file on the device."""
    student = folder / "student.pt"
    untrained(backbone, student)
    weights = sum(w.numel() * w.element_size() for w in Checkpoint.load(student).weights.values())
    command = [sys.executable, "-m", "bench.anomalyllm.memory", "--steps-of", str(student)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    steps = dict(json.loads(told))
    for name, found in steps.items():
        beyond = found - steps["packages"]
        yield _row(backbone, weights, f"export: {name}", found, beyond)
    for file in ("float32", "int8"):
        _, found = start(folder / f"{file}.onnx")
        size = (folder / f"{file}.onnx").stat().st_size
        yield _row(backbone, weights, f"device: {file}, {size / 1e6:.0f} MB", found, found)


def _row(backbone: str, weights: int, what: str, peak: int, counted: int) -> dict[str, Any]:
    times = counted / weights
    return {
        "blocks of": backbone, "float weights MB": weights / 1e6, "what": what, "peak MB": peak / 1e6,
        "beyond packages MB" : counted / 1e6, "times the weights": times, "holds": times <= TIMES,
    }  # fmt: skip


@click.command()
@click.option("--steps-of", type=click.Path(path_type=Path), hidden=True)
def main(steps_of: Path | None) -> None:
    """Measure, print and save."""
    if steps_of is not None:
        print(json.dumps(list(export_steps(steps_of, steps_of.parent))))
        return
    rows: list[dict[str, Any]] = []
    for backbone in BACKBONES:
        with TemporaryDirectory() as folder:
            rows += measure(backbone, Path(folder))
    print(table(rows))
    save("anomalyllm_memory", rows, protocol=PROTOCOL, bound_times=TIMES)


if __name__ == "__main__":
    main()
