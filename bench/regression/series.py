"""Students of LTA teachers by score regression: how near they come, what they cost.

    python -m bench.regression.series --data DIR [NAME ...]

For each recording: the published LTA teacher's own detection, its regression student's (float and int8 file), and how
faithful the student is. Then step times beside the published LTA student's int8 file, untrained, in one run.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch

from bench.detection.real_recordings import reported
from bench.files.speed import PARITY_STEPS, bare, in_hops, in_turn, recording, untrained, whole
from bench.results import WORK, kept, save, table
from bench.trained_students import PLANS, student
from edgekd.checkpoint import Checkpoint, package
from edgekd.data import Recording, load
from edgekd.distillation import distill, teacher_path
from edgekd.evaluation.fidelity import fidelity
from edgekd.evaluation.score_model import ModelScores, score_model
from edgekd.export import export
from edgekd.methods.regression import PRESETS
from edgekd.methods.regression.scorers import StepScorer
from edgekd.methods.regression.series_train import prepared
from edgekd.progress import TrainingProgress
from edgekd.runtime import Detector

NAMES = ("smd-1-2", "smd-2-1", "smd-1-6", "skab", "msl-gru")
SENSORS = (8, 25, 38, 55)
ROUNDS = 200
SEEDS = (0, 1, 2)
SCORES = WORK / "teacher-scores"  # a teacher takes minutes for each recording


def trained(name: str, train: Recording, seed: int) -> Path:
    """The student of a recording's LTA teacher; what the teacher said is kept for the next seed."""
    path = WORK / f"regression-{name}-{seed}.pt"
    if not path.exists():
        SCORES.mkdir(parents=True, exist_ok=True)
        teacher = Checkpoint.load(teacher_path(student(name))).step()
        settings = {"lengths": list(teacher.geometry.lengths), "hop": teacher.hop}
        with TrainingProgress() as progress:
            distill(
                train, path, method="regression", scorers=[StepScorer(teacher, SCORES)], settings=settings, seed=seed,
                report=progress,
            )  # fmt: skip
    return path


def teacher_scores(name: str, recording: Recording) -> ModelScores:
    """What the teacher says of a recording."""
    checkpoint = Checkpoint.load(teacher_path(student(name)))
    step, threshold = checkpoint.step(), checkpoint.threshold
    scores = StepScorer(step, SCORES)(recording)
    samples = np.flatnonzero(np.isfinite(scores))
    return ModelScores(
        "lta teacher", recording, samples, scores[samples], np.zeros((len(samples), recording.n_sensors), np.float32),
        float(threshold["value"]), str(threshold["rule"]), step.hop,
    )  # fmt: skip


def row(name: str, data: Path, seed: int) -> dict[str, Any]:
    """One student beside its teacher."""
    spec = str(data / PLANS[name].data)
    train, test = load(spec, "train"), load(spec, "test")
    checkpoint = Checkpoint.load(trained(name, train, seed))
    teacher = teacher_scores(name, test)
    normal = teacher_scores(name, train).scores
    best = reported(teacher).figures["vus_pr"]
    assert best.value is not None and best.random is not None
    teacher_step = Checkpoint.load(teacher_path(student(name))).step()
    parameters = checkpoint.step().parameters_learned
    figures: dict[str, Any] = {
        "recording": name, "seed": seed, "sensors": len(checkpoint.sensors), "parameters": parameters,
        "of the teacher": parameters / teacher_step.parameters_learned, "VUS-PR teacher": best.value,
        "random": f"{best.random.mean:.3f} ± {best.random.sd:.3f}",
    }  # fmt: skip
    for kind, int8 in (("float", None), ("int8", "default")):
        done = export(checkpoint, WORK / f"regression-{name}-{seed}-{kind}.onnx", int8=int8, force=True)
        mine = score_model(done.path, test)
        common, ours, theirs = np.intersect1d(mine.samples, teacher.samples, return_indices=True)
        near = fidelity(
            teacher.scores[theirs], mine.scores[ours], None if test.labels is None else test.labels[common], normal
        )
        vus = reported(mine).figures["vus_pr"].value or 0.0
        figures |= {
            f"VUS-PR {kind}": vus, f"{kind} / teacher": vus / best.value, f"rank correlation {kind}":
            near.rank_correlation, f"EMD {kind}": near.emd_pooled, f"bytes {kind}": done.file_bytes,
        }  # fmt: skip
    return figures


def untrained_student(n: int) -> Checkpoint:
    """A regression student with fitted scaling and random weights, which costs the same."""
    torch.manual_seed(0)
    data = recording(n)
    step = prepared(data, PRESETS["signature"])
    step.scale.fit(torch.rand(64))  # at zero and one its nodes would be folded away
    return package(step, data, method="regression", role="student", preset="signature", seed=0, histories={})


def timed(n: int, folder: Path) -> dict[str, Any]:
    """Step times of the regression student and of the published LTA student, in turn."""
    lta = Detector.load(
        export(untrained(n, "paper")[0], folder / "lta.onnx", int8="default", force=True, steps=PARITY_STEPS).path
    )
    ours = untrained_student(n)
    done = {
        kind: export(ours, folder / f"{kind}.onnx", int8=int8, force=True, steps=PARITY_STEPS)
        for kind, int8 in (("float", None), ("int8", "default"))
    }
    files = {kind: Detector.load(exported.path) for kind, exported in done.items()}
    blocks = in_hops(n, files["int8"].manifest.hop)
    times = in_turn(
        {
            "lta": bare(lta, in_hops(n, lta.manifest.hop)),
            **{kind: bare(detector, blocks) for kind, detector in files.items()},
            "by_sample": whole(files["int8"], blocks, by_block=False),
            "by_block": whole(files["int8"], blocks, by_block=True),
        },
        ROUNDS,
    )

    def ratio(one: str, other: str) -> float:
        return float(np.median(times[one] / times[other]))

    return {
        "n": n, "parameters": ours.step().parameters_learned,
        **{f"{name} us": float(np.median(times[name]) * 1e6) for name in ("lta", "float", "int8")},
        "lta int8 / int8": ratio("lta", "int8"), "lta int8 / float": ratio("lta", "float"),
        "update by sample / run": ratio("by_sample", "int8"), "update by block / run": ratio("by_block", "int8"),
        "own us a hop, by sample": float(np.median(times["by_sample"] - times["int8"]) * 1e6),
        "own us a hop, by block": float(np.median(times["by_block"] - times["int8"]) * 1e6),
        "float error": done["float"].parity.max_score_error, "int8 Spearman": done["int8"].parity.rank_correlation,
    }  # fmt: skip


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--seed", "seeds", type=int, multiple=True, default=SEEDS)
@click.option("--only", type=click.Choice(["fidelity", "speed"]), help="One of the two tables.")
@click.argument("names", nargs=-1)
def main(data: Path, seeds: tuple[int, ...], only: str | None, names: tuple[str, ...]) -> None:
    """Measure, print and save; rows that are not measured again stay as they were."""
    torch.set_num_threads(1)
    before = kept("regression_series")
    rows = {(row["recording"], row["seed"]): row for row in before.get("fidelity", [])}
    speed = {row["n"]: row for row in before.get("speed", [])}
    for name in () if only == "speed" else names or NAMES:
        for seed in seeds:
            rows[name, seed] = row(name, data, seed)
            print(table([rows[name, seed]]), flush=True)
    for n in () if only == "fidelity" else SENSORS:
        with TemporaryDirectory() as folder:
            speed[n] = timed(n, Path(folder))
        print(table([speed[n]]), flush=True)
    ordered = sorted(rows, key=lambda key: (NAMES.index(key[0]), key[1]))
    figures = {"fidelity": [rows[key] for key in ordered], "speed": [speed[n] for n in sorted(speed)]}
    save(
        "regression_series", figures,
        protocol=f"thresholds and students from normal training data alone; speed: medians of {ROUNDS} rounds in turn",
    )  # fmt: skip


if __name__ == "__main__":
    main()
