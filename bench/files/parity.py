"""Real recordings, closed loop: files against batch scores, and int8 files against float ones.

    python -m bench.files.parity --data DIR [--only float|int8] [--all-schemes] [NAME ...]

Float: trained published students with RNN, LSTM and GRU on SKAB, its anomaly-free run and another as two entities, and
the students of preset `edge`; at least 5,000 samples each, batch against the step module, ONNX and TFLite.
Int8: the default scheme of both formats (or all of them) over the whole test part, scores and detection against the
float file of the same format, each at its own threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.results import kept, save, table
from bench.trained_students import PLANS, student
from edgekd.blocks.step import Scores
from edgekd.checkpoint import Checkpoint
from edgekd.data import load
from edgekd.data.request import PARTS, join
from edgekd.evaluation.score_model import score_detector
from edgekd.export.candidate import Candidate, Workshop
from edgekd.export.parity import Reference
from edgekd.runtime import Detector
from edgekd.runtime.errors import GateFailed, ModelRefused

SAMPLES = 5000
FORMATS = {"onnx": "ONNX", "tflite": "TFLite"}
FLOAT = ("skab-rnn", "skab-lstm", "skab-gru", "skab", "smd-1-2", "msl-gru")
INT8 = ("smd-1-2", "skab", "msl-gru")


def difference(found: np.ndarray, scores: Scores, threshold: float) -> tuple[float, int]:
    """Largest error over max(|score|, threshold), and decisions that differ away from the threshold."""
    error = np.abs(found - scores.scores) / np.maximum(np.abs(scores.scores), threshold)
    away = np.abs(scores.scores - threshold) > 1e-5 * threshold
    return float(error.max()), int((((found > threshold) != (scores.scores > threshold)) & away).sum())


def float_row(name: str, data: Path) -> dict[str, Any]:
    """Batch scores against the step module and every float file."""
    checkpoint = Checkpoint.load(student(name))
    step, threshold = checkpoint.step(), checkpoint.threshold["value"]
    spec = str(data / PLANS[name].data)
    train, test = load(spec, "train"), load(spec, "test")
    recording = join([train.slice(max(0, len(train) - SAMPLES), len(train)), test.slice(0, SAMPLES)], PARTS)
    batch = step.score(recording)
    error, changed = difference(step.replay(recording).scores, batch, threshold)
    row = {
        "student": name, "preset": checkpoint.preset, "accumulator": checkpoint.config["accumulator"],
        "samples": len(recording), "entities": len(recording.starts), "verdicts": len(batch.scores),
        "step module, worst error": error,
    }  # fmt: skip
    for workshop, words in _workshops(checkpoint):
        found = score_detector(Detector.load(workshop.float.content), recording)
        error, more = difference(found.scores, batch, threshold)
        row[f"{words}, worst error"] = error
        changed += more
    return {**row, "decisions changed": changed}


def int8_rows(name: str, data: Path, all_schemes: bool) -> Iterator[dict[str, Any]]:
    """Each int8 file against the float file of its format over the whole test part."""
    checkpoint = Checkpoint.load(student(name))
    test = load(str(data / PLANS[name].data), "test")
    for workshop, words in _workshops(checkpoint, labeled=test):
        for scheme in list(workshop.schemes.values())[: None if all_schemes else 1]:
            facts = {"student": name, "preset": checkpoint.preset, "format": words, "scheme": scheme.name}
            try:
                made = workshop.int8(scheme)
            except (GateFailed, ModelRefused) as error:
                yield {**facts, "gate": str(error)}
                continue
            yield {**facts, **({"gate": "nothing to quantize"} if made is None else compared(made, workshop.float))}


def compared(int8: Candidate, float_: Candidate) -> dict[str, Any]:
    """The figures of one row."""
    found, before = int8.detection, float_.detection
    assert found is not None and before is not None
    vus_pr, vus_pr_before = found.vus_pr or 0.0, before.vus_pr or 0.0
    return {
        "Spearman": found.rank_correlation,
        "VUS-PR float": vus_pr_before,
        "VUS-PR int8": vus_pr,
        "change": vus_pr - vus_pr_before,
        "events found float": f"{before.events_found} of {before.events}",
        "events found int8": f"{found.events_found} of {found.events}",
        "false alarms a day float": before.false_alarms_per_day,
        "false alarms a day int8": found.false_alarms_per_day,
        "decisions changed": found.changed_decisions,
        "threshold ratio": int8.parity.threshold / float_.parity.threshold,
        "bytes float": len(float_.content),
        "bytes int8 / float": len(int8.content) / len(float_.content),
        "step int8 / float": int8.step_ratio,
        "gate": int8.misses or "holds",
    }


def _workshops(checkpoint: Checkpoint, **given: Any) -> Iterator[tuple[Workshop, str]]:
    reference: Reference | None = None
    for format, words in FORMATS.items():
        workshop = Workshop(checkpoint, format, reference=reference, **given)
        yield workshop, words
        reference = workshop.reference


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--only", type=click.Choice(("float", "int8")), help="One of the two tables.")
@click.option("--all-schemes", is_flag=True, help="Every int8 scheme, not only the default.")
@click.argument("names", nargs=-1)
def main(data: Path, only: str | None, all_schemes: bool, names: tuple[str, ...]) -> None:
    """Measure, print and save; rows that are not measured again stay as they were."""
    if only != "int8":
        chosen = [name for name in FLOAT if name in (names or FLOAT) and student(name).exists()]
        rows = [row for row in kept("parity") or [] if row["student"] not in chosen]
        for name in chosen:
            rows.append(float_row(name, data))
            print(table(rows[-1:]), flush=True)
        save("parity", rows, protocol="worst |error| / max(|score|, threshold) against batch scores, closed loop")
    if only != "float":
        chosen = [name for name in INT8 if name in (names or INT8) and student(name).exists()]
        measured = {_key(row): row for row in kept("int8") or []}
        for name in chosen:
            for row in int8_rows(name, data, all_schemes):
                measured[_key(row)] = row
                print(table([row]), flush=True)
                # after each row: a published student takes minutes for one
                ordered = sorted(measured.values(), key=lambda row: INT8.index(row["student"]))
                save("int8", ordered, protocol="closed loop over the whole test part, each file at its own threshold")


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["student"], row["format"], row["scheme"]


if __name__ == "__main__":
    main()
