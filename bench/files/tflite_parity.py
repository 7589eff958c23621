"""TFLite against torch, ten thousand consecutive steps with state fed back: every cell, odd sizes, both presets.

    python -m bench.files.tflite_parity [NAME ...]

Float, `dynamic` and `static` files of each student, in LiteRT on one thread. Trained students where bench/trained holds
one; the rest is untrained, with scaling fitted to noise, which converts and runs alike. Their int8 figures are those of
random weights and say less. The recording is looped without a reset where it is shorter. A student takes from two
minutes (edge) to an hour (the published one of 55 sensors); figures of earlier runs are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import click
import numpy as np
import torch

from bench.files.speed import recording
from bench.results import kept, save, table
from bench.trained_students import student
from edgekd.checkpoint import Checkpoint, package
from edgekd.export import describe, tflite
from edgekd.export.candidate import step_times
from edgekd.export.embed import embed
from edgekd.export.parity import Reference, prove
from edgekd.methods.lta import PRESETS
from edgekd.methods.lta.distill import prepared
from edgekd.runtime.engines import Engine, load_engine

STEPS = 10_000
PUBLISHED = {"window": 100, "teacher_window": 200}

STUDENTS: dict[str, tuple[str, str, int]] = {
    **{f"edge-{cell}-{n}": ("edge", cell, n) for n in (7, 25, 38, 55) for cell in ("gru", "lstm")},
    **{f"paper-{cell}-{n}": ("paper", cell, n) for n in (7, 25) for cell in ("rnn", "gru", "lstm")},
    "paper-lstm-38": ("paper", "lstm", 38),
    "paper-lstm-55": ("paper", "lstm", 55),
}
"""Untrained students: preset, accumulator, sensors."""
TRAINED = ("skab", "smd-1-2", "skab-rnn", "skab-gru", "skab-lstm", "msl-gru")


class Listening:
    """An engine whose scores are kept."""

    def __init__(self, engine: Engine) -> None:
        self.name, self._engine = engine.name, engine
        self.scores: list[float] = []

    def run(self, feeds: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        outputs = self._engine.run(feeds)
        self.scores.append(float(outputs[0]))
        return outputs


def checkpoint_of(name: str) -> Checkpoint:
    """The trained student of that name, or an untrained one."""
    if name in TRAINED:
        return Checkpoint.load(student(name))
    preset, cell, sensors = STUDENTS[name]
    torch.manual_seed(0)
    data = recording(sensors)
    config = replace(PRESETS[preset], accumulator=cell, **(PUBLISHED if preset == "paper" else {}))
    return package(prepared(data, config), data, method="lta", role="student", preset=preset, seed=0, histories={})


def measure(name: str, steps: int) -> list[dict[str, Any]]:
    """Rows of one student: its float file and its int8 files."""
    checkpoint = checkpoint_of(name)
    step, replay = checkpoint.step(), checkpoint.replay()
    manifest = describe.described(checkpoint, step)
    reference = Reference(step, replay, manifest.threshold.value, steps)
    float_model = tflite.float_model(step)
    models = {"float": float_model} | {
        scheme.name: scheme.quantize(float_model, step, replay) for scheme in tflite.schemes().values()
    }
    rows: list[dict[str, Any]] = []
    of_float: Engine | None = None
    for kind, model in models.items():
        engine = load_engine(embed(model, manifest), manifest)
        heard = Listening(engine)
        parity = prove(reference, heard, int8=kind != "float")
        found = np.array(heard.scores[:steps])
        scale = np.maximum(np.abs(reference.scores), np.median(np.abs(reference.scores[reference.warm])))
        us, ratio = step_times(engine, of_float, manifest, replay.values)
        of_float = of_float or engine
        rows.append({
            "student": name, "preset": checkpoint.preset, "accumulator": checkpoint.config["accumulator"],
            "sensors": step.n_sensors, "trained": name in TRAINED, "file": kind, "steps": steps,
            "worst error over max(score, threshold)": parity.max_score_error,
            "worst error over max(score, median score)": float((np.abs(found - reference.scores) / scale).max()),
            "Spearman": parity.rank_correlation, "decisions changed": parity.changed_decisions,
            "bytes": len(model), "of float": len(model) / len(float_model), "step us": us, "time of float": ratio,
        })  # fmt: skip
    return rows


@click.command()
@click.option("--steps", default=STEPS, show_default=True, help="Length of the closed loop.")
@click.argument("names", nargs=-1)
def main(steps: int, names: tuple[str, ...]) -> None:
    """Measure, print and save."""
    torch.set_num_threads(1)
    for name in names or (*TRAINED, *STUDENTS):
        if name in TRAINED and not student(name).exists():
            continue
        rows = [row for row in kept("tflite_parity") or [] if row["student"] != name]
        save(
            "tflite_parity", rows + measure(name, steps), seed=0,
            protocol="closed loop from the cold state, LiteRT on one thread against torch",
        )  # fmt: skip
    print(table(kept("tflite_parity")))


if __name__ == "__main__":
    main()
