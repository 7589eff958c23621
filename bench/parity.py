"""Batch scores against the step module and against the ONNX float file, closed loop over a real recording.

    python -m bench.parity --data DIR

Trained published students with RNN, LSTM and GRU on SKAB, its anomaly-free run and another as two entities, and the
students of preset `edge`; at least 5,000 samples each.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np

from bench.results import save, table
from bench.students import PLANS, student
from edgekd.checkpoint import Checkpoint
from edgekd.data import load
from edgekd.data.request import PARTS, join
from edgekd.export import export
from edgekd.runtime import Detector
from edgekd.step import Scores

SAMPLES = 5000


def difference(found: np.ndarray, scores: Scores, threshold: float) -> tuple[float, int]:
    """Largest error over max(|score|, threshold), and decisions that differ away from the threshold."""
    error = np.abs(found - scores.scores) / np.maximum(np.abs(scores.scores), threshold)
    away = np.abs(scores.scores - threshold) > 1e-5 * threshold
    return float(error.max()), int((((found > threshold) != (scores.scores > threshold)) & away).sum())


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
def main(data: Path) -> None:
    """Measure, print and save."""
    rows = []
    for name in ("skab-rnn", "skab-lstm", "skab-gru", "skab", "smd-1-2", "msl-gru"):
        if not student(name).exists():
            continue
        checkpoint = Checkpoint.load(student(name))
        step, threshold = checkpoint.step(), checkpoint.threshold["value"]
        spec = str(data / PLANS[name].data)
        train, test = load(spec, "train"), load(spec, "test")
        recording = join([train.slice(max(0, len(train) - SAMPLES), len(train)), test.slice(0, SAMPLES)], PARTS)
        batch = step.score(recording)
        replayed = step.replay(recording)
        with tempfile.TemporaryDirectory() as folder:
            export(checkpoint, Path(folder) / "student.onnx")
            detector = Detector.load(Path(folder) / "student.onnx")
        device = []
        for start, end in recording.bounds:
            detector.reset()
            device += [verdict.score for verdict in detector.update_block(recording.values[start:end])]
        torch_error, torch_changed = difference(replayed.scores, batch, threshold)
        onnx_error, onnx_changed = difference(np.array(device), batch, threshold)
        rows.append({
            "student": name, "preset": checkpoint.preset, "accumulator": checkpoint.config["accumulator"],
            "samples": len(recording), "entities": len(recording.starts), "verdicts": len(batch.scores),
            "step module, worst error": torch_error, "onnxruntime, worst error": onnx_error,
            "decisions changed": torch_changed + onnx_changed,
        })  # fmt: skip
    print(table(rows))
    save("parity", rows, protocol="worst |error| / max(|score|, threshold) against batch scores, closed loop")


if __name__ == "__main__":
    main()
