"""One exported file on two machines: the self-test, the scores and the events of the same recording."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.promises.wheel import run
from bench.trained_students import PLANS, student
from edgekd.data import Recording, load, save

STUDENT = "smd-1-2"
PART = (15_500, 20_500)  # samples of its test part, with two alarms
FLOAT_BOUND = 1e-4


@dataclass(frozen=True)
class Replay:
    """What `edgekd-run` said on one machine."""

    check: dict[str, Any]
    """Its report of the self-test."""
    scores: dict[int, list[float]]
    """Sample -> score and, of a model that watches for slow faults, slow score."""
    events: list[dict[str, Any]]
    """Everything but scores; without the scores that alarms repeat, which are compared as scores."""


def subject(folder: Path) -> tuple[Path, Path, str]:
    """A student, a CSV recording for it with anomalies, and what they are in words."""
    data, csv = os.environ.get("EDGEKD_DATA"), folder / "recording.csv"
    folder.mkdir(parents=True, exist_ok=True)
    if data and student(STUDENT).exists():
        test = load(str(Path(data) / PLANS[STUDENT].data), "test").slice(*PART)
        _write(test, csv)
        return student(STUDENT), csv, f"SMD machine-1-2, test samples {PART[0]} to {PART[1]}"
    from edgekd.distillation import distill
    from edgekd.simulation.simulate import simulate

    path = folder / "simulated.pt"
    if not path.exists():
        distill(simulate(samples=20_000, seed=1, faults=()).recording, path, settings={"distill": False})
    _write(simulate(samples=4000, seed=2).recording, csv)
    return path, csv, "simulated plant, 4000 samples, the default without its teacher"


def _write(recording: Recording, csv: Path) -> None:
    save(replace(recording, labels=None), csv)


@cache
def export(checkpoint: Path, folder: Path, file_format: str, arch: str) -> dict[str, Path]:
    """ "float" and "int8" files of a format; for 32 bits the float one alone, which is right in tflite-runtime."""
    target = ["--target", "tflite-runtime"] if arch == "armhf" else []
    files = {}
    for kind in ("float",) if target else ("float", "int8"):
        files[kind] = folder / f"{checkpoint.stem}-{kind}{'-tflite-runtime' if target else ''}.{file_format}"
        options = [*target, *(["--int8"] if kind == "int8" else [])]
        run(command("edgekd"), "export", str(checkpoint), "-o", str(files[kind]), *options)
    return files


def command(name: str) -> str:
    """A command that was installed with this interpreter."""
    return str(Path(sys.executable).with_name(name))


def replay(edgekd_run: Callable[..., str], model: str, csv: str) -> Replay:
    """Check the model and run the recording. edgekd_run: takes the command's options, gives its standard output."""
    check = json.loads(edgekd_run("--model", model, "--check", "--json"))
    lines = [json.loads(line) for line in edgekd_run("--model", model, "--csv", csv, "--scores").splitlines()]
    scores = {
        line["sample"]: [line[key] for key in ("score", "slow") if key in line]
        for line in lines
        if line["event"] == "score"
    }
    events = [
        {key: value for key, value in line.items() if key not in ("score", "peak", "severity")}
        for line in lines
        if line["event"] != "score"
    ]
    return Replay(check, scores, events)


@cache
def replay_here(model: Path, csv: Path) -> Replay:
    """`replay` on this machine, with the commands that were installed with this interpreter."""
    return replay(lambda *options: run(command("edgekd-run"), *options), str(model), str(csv))


def compare(found: Replay, expected: Replay) -> dict[str, Any]:
    """Figures of one file on another machine, and what of the demands it misses (nothing: it holds)."""
    float32 = expected.check["quantization"] == "float32"
    tolerance = expected.check["self_test"]["tolerance"]  # the manifest's, capped by the reader
    bound = FLOAT_BOUND if float32 else tolerance
    same_samples = bool(expected.scores) and list(found.scores) == list(expected.scores)
    worst = float("inf")
    if same_samples:
        theirs, ours = (np.array(list(one.scores.values())) for one in (found, expected))
        thresholds = np.array([expected.check["threshold"], 1.0])[: ours.shape[1]]
        worst = float((np.abs(theirs - ours) / np.maximum(np.abs(ours), thresholds)).max())
    anomalies = sum(event["event"] == "anomaly" for event in expected.events)
    misses = {
        "self-test": found.check["ok"] and expected.check["ok"],
        "scores of the same samples": same_samples,
        "scores": worst <= bound,
        "events": found.events == expected.events,
        "an anomaly in the recording": anomalies > 0,
    }
    return {
        "quantization": expected.check["quantization"],
        "engine": found.check["engine"],
        "engine on x86": expected.check["engine"],
        "self-test, worst error": found.check["self_test"]["worst_error"],
        "scores": len(found.scores),
        "worst error": worst,
        "bound": bound,
        "anomalies": anomalies,
        "events equal": found.events == expected.events,
        "missed": ", ".join(name for name, holds in misses.items() if not holds),
    }
