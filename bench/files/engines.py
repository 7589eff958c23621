"""One recording through onnxruntime, LiteRT and tflite-runtime: scores against each other, and events.

    python -m bench.files.engines [--data DIR] [--python PYTHON]

tflite-runtime needs NumPy 1 and Python 3.11 at most, so it gets an environment of its own: a fresh one with the
project's wheel, `numpy<2` and `tflite-runtime==2.14.0`, and nothing of the workstation. Downloads from the package
index. Two students, of preset `edge` and published; without --data and trained students, one on a simulated plant.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.promises.arm64.compare import FLOAT_BOUND, Replay, replay, subject
from bench.promises.wheel import build_wheel, environment, run
from bench.results import save, table
from bench.trained_students import PLANS, student
from edgekd.checkpoint import Checkpoint
from edgekd.data import load
from edgekd.data import save as save_recording
from edgekd.export import export

# parts of the test recordings with alarms in them
SUBJECTS = {"smd-1-2": (15_500, 20_500), "skab-gru": (0, 5_000)}
STEPS = 200  # of the export's own proof, which is not what this is about
OLDER = ("numpy<2", "tflite-runtime==2.14.0")
PROTOCOL = (
    "edgekd-run --scores over the recording, closed loop from a cold start; error: |score - reference| /"
    " max(|reference|, threshold); bound: 1e-4 in float, the self-test's tolerance between two engines of one int8"
    " file; events: kinds, samples, times, lengths; the three sensors that an anomaly names are counted, since int8 may"
    " turn a tie"
)


def subjects(data: Path | None, folder: Path) -> list[tuple[str, Path, Path]]:
    """Name, checkpoint and CSV recording of each student."""
    found = []
    for name, part in SUBJECTS.items():
        if data is not None and student(name).exists():
            csv = folder / f"{name}.csv"
            save_recording(replace(load(str(data / PLANS[name].data), "test").slice(*part), labels=None), csv)
            found.append((name, student(name), csv))
    if not found:
        checkpoint, csv, _ = subject(folder)
        found.append((checkpoint.stem, checkpoint, csv))
    return found


def edgekd_run(python: Path, *arguments: str) -> str:
    """The command of an environment; its standard output."""
    return run(str(python.with_name("edgekd-run")), *arguments)


def difference(found: Replay, reference: Replay, bound: float) -> dict[str, Any]:
    """Figures of one run against another of the same recording, and whether they hold."""
    threshold = reference.check["threshold"]
    if list(found.scores) != list(reference.scores) or not found.scores:
        raise click.ClickException(f"{found.check['file']}: scores of other samples than the reference")
    ours, theirs = (np.array(list(one.scores.values())) for one in (found, reference))
    worst = float((np.abs(ours - theirs) / np.maximum(np.abs(theirs), threshold)).max())
    named = [[event["sensors"] for event in one.events if "sensors" in event] for one in (found, reference)]
    alike = sum(a == b for a, b in zip(*named))
    equal = _nameless(found) == _nameless(reference)
    return {
        "scores": len(ours),
        "worst error": worst,
        "bound": bound,
        "anomalies": len(named[0]),
        "events equal": equal,
        "sensors named alike": alike,
        "holds": worst <= bound and equal and found.check["ok"] and (bound > FLOAT_BOUND or alike == len(named[0])),
    }


def _nameless(one: Replay) -> list[dict[str, Any]]:
    return [{key: value for key, value in event.items() if key != "sensors"} for event in one.events]


def measure(name: str, checkpoint_path: Path, csv: Path, older: Path, folder: Path) -> list[dict[str, Any]]:
    """The rows of one student."""
    make = partial(export, steps=STEPS)
    checkpoint = Checkpoint.load(checkpoint_path)
    files = {
        "onnx": make(checkpoint, folder / f"{name}.onnx"),
        "tflite": make(checkpoint, folder / f"{name}.tflite", format="tflite", target="tflite-runtime"),
        "int8": make(
            checkpoint, folder / f"{name}-int8.tflite", format="tflite", int8="default", target="tflite-runtime"
        ),
    }
    here = Path(sys.executable)

    def runs(python: Path, kind: str) -> Replay:
        return replay(partial(edgekd_run, python), str(files[kind].path), str(csv))

    rows: list[dict[str, Any]] = []
    base = runs(here, "onnx")
    litert = runs(here, "int8")
    for python, kind, reference in ((here, "tflite", base), (older, "tflite", base), (older, "int8", litert)):
        found = runs(python, kind)
        tolerance = found.check["self_test"]["tolerance"]
        rows.append({
            "student": name, "file": files[kind].path.suffix.removeprefix("."),
            "quantization": found.check["quantization"], "engine": found.check["engine"],
            "reference": reference.check["engine"],
            **difference(found, reference, tolerance if kind == "int8" else FLOAT_BOUND),
        })  # fmt: skip
    return rows


def refused(checkpoint_path: Path, older: Path, folder: Path) -> dict[str, Any]:
    """What tflite-runtime makes of int8 that is meant for LiteRT: silently wrong scores, which the self-test stops."""
    made = export(
        Checkpoint.load(checkpoint_path), folder / "litert.tflite", format="tflite", int8="default", steps=STEPS
    )
    command = [str(older.with_name("edgekd-run")), "--model", str(made.path), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "quantization": made.manifest.quantization.scheme,
        "exit code": done.returncode,
        "words": done.stderr.strip().replace(str(folder), "").splitlines()[-1:],
    }


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", help="Data folder.")
@click.option("--python", default=None, help="Python 3.11 or older for tflite-runtime.")
def main(data: Path | None, python: str | None) -> None:
    """Measure, print and save."""
    python = python or (sys.executable if sys.version_info < (3, 12) else shutil.which("python3.11"))
    if python is None:
        raise click.ClickException("tflite-runtime needs Python 3.11 or older; name one with --python")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheel = build_wheel(folder)
        older = environment(folder / "older", [str(wheel), *OLDER], base=python)
        rows = []
        chosen = subjects(data, folder)
        for name, checkpoint, csv in chosen:
            rows += measure(name, checkpoint, csv, older, folder)
            print(table(rows[-3:]), flush=True)
        other = refused(chosen[0][1], older, folder)
        print(other)
    save("engines", rows, protocol=PROTOCOL, parts=SUBJECTS, int8_for_litert_in_tflite_runtime=other)
    missed = [row for row in rows if not row["holds"]]
    if missed:
        raise click.ClickException("; ".join(f"{row['student']}, {row['engine']}: not the same" for row in missed))


if __name__ == "__main__":
    main()
